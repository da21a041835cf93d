//! MariaDB without InnoDB (`skip_innodb`): its files exist unused, or there are none. Aria and MyISAM are restored.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::snap::{files, manifest, names, snap};
use crate::support::backup::{apply_by, status, take};
use crate::support::server::Builder;
use crate::support::{Flavour, Pipeline, Server, scratch, xb};

const ROWS: &str = "SELECT 'a', COUNT(*), SUM(CRC32(CONCAT(id, v))) FROM d.a UNION \
    SELECT 'm', COUNT(*), SUM(CRC32(CONCAT(id, v))) FROM d.m UNION SELECT 'c', COUNT(*), SUM(CRC32(CONCAT(id, v))) FROM d.c";

/// A server that never had InnoDB.
fn without(flavour: Flavour) -> Builder {
    Server::new().flavour(flavour).layout("innodb", "OFF").layout("default-storage-engine", "Aria")
}

/// A server that had tables of InnoDB, and is stopped.
fn stopped(flavour: Flavour) -> Server {
    let mut server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE i; CREATE TABLE i.t ENGINE=InnoDB SELECT seq FROM test.seq_1_to_3000");
    server.stop();
    server
}

/// The same one, started without InnoDB.
fn switched_off(server: &Server, data: &Path) -> Server {
    server.twin(data).flag("skip-innodb").option("default-storage-engine", "Aria").start()
}

fn fill(server: &Server) {
    server.sql("CREATE DATABASE d; CREATE TABLE d.a (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE=Aria TRANSACTIONAL=1");
    server.sql("CREATE TABLE d.m (id INT PRIMARY KEY, v VARCHAR(100)) ENGINE=MyISAM");
    server.sql("CREATE TABLE d.c (id INT NOT NULL, v VARCHAR(100) NOT NULL) ENGINE=CSV");
    for table in ["a", "m", "c"] {
        server.sql(&format!("INSERT INTO d.{table} SELECT seq, REPEAT(SHA1(seq), 2) FROM test.seq_1_to_2000"));
    }
}

/// Applies a backup, copies it back, and runs `start` on it: the rows.
fn restored(server: &Server, backup: &Path, start: impl Fn(&Path) -> Server) -> Vec<Vec<String>> {
    apply_by(server, backup).assert_ok();
    apply_by(server, backup).assert_ok();
    let data = scratch();
    let to = data.path().join("data");
    let mut back = xb("xb-redo");
    back.arg("--copy-back").arg(backup).arg("--datadir").arg(&to);
    Pipeline::new().stage(back).run().assert_ok();
    start(&to).rows(ROWS)
}

fn offline(server: &Server) -> Command {
    let mut command = xb("xb-snap");
    command.args(["--no-defaults", "--offline", "--datadir"]).arg(server.data());
    command
}

fn servers() -> Vec<Flavour> {
    [Flavour::Installed, Flavour::Mariadb118].into_iter().filter(|flavour| flavour.or_skip()).collect()
}

#[test]
fn mariadb_that_never_had_innodb_is_restored() {
    for flavour in servers() {
        let mut server = without(flavour).start();
        fill(&server);
        let rows = server.rows(ROWS);
        let dir = scratch();
        let (hot, cold) = (dir.path().join("hot"), dir.path().join("cold"));
        take(&server, &[], &hot);
        assert!(!names(&hot).iter().any(|name| name.starts_with("ib")), "{:?}", names(&hot));
        let (_, trailer) = manifest(&hot);
        assert!(trailer["end_lsn"].is_null() && trailer["server_options"]["innodb_page_size"].is_null(), "{trailer}");
        let run = status(&hot);
        run.assert_ok();
        assert!(String::from_utf8_lossy(&run.stdout).contains(", without InnoDB, "), "{}", run.story());
        server.stop();
        let run = Pipeline::new()
            .stage(offline(&server))
            .stage(xb("xb-redo"))
            .stage(xb("xb-unpack").arg("-C").arg(&cold))
            .run();
        run.assert_ok();
        assert!(!run.stderr(0).contains("xb-redo must follow"), "{}", run.story());
        for backup in [hot, cold] {
            assert_eq!(restored(&server, &backup, |data| server.twin(data).start()), rows, "{flavour:?}");
        }
    }
}

#[test]
fn mariadb_whose_innodb_is_switched_off_is_restored_whole() {
    for flavour in servers() {
        let had = stopped(flavour);
        let mut server = switched_off(&had, had.data());
        fill(&server);
        let rows = server.rows(ROWS);
        let dir = scratch();
        for (number, mode) in [&[][..], &["--lock-ddl=early"], &["--no-lock"], &["--offline"]].into_iter().enumerate() {
            let backup = dir.path().join(number.to_string());
            if mode == ["--offline"] {
                server.stop();
                let filter = xb("xb-redo");
                let unpack = || {
                    let mut unpack = xb("xb-unpack");
                    unpack.arg("-C").arg(&backup);
                    unpack
                };
                Pipeline::new().stage(offline(&had)).stage(filter).stage(unpack()).run().assert_ok();
            } else {
                take(&server, mode, &backup);
            }
            assert_eq!(restored(&had, &backup, |data| switched_off(&had, data)), rows, "{flavour:?} {mode:?}");
            let count = |data: &Path| had.twin(data).start().value("SELECT COUNT(*) FROM i.t");
            assert_eq!(count(&backup), "3000", "{flavour:?} {mode:?}");
        }
    }
}

/// `xb_begin` says whether there must be a log, and the manifest authenticates it.
#[test]
fn mariadb_without_innodb_is_complete_only_with_its_manifest() {
    let server = without(Flavour::Installed).start();
    fill(&server);
    let stream = Pipeline::new().stage(snap(&server)).run().stdout;
    for command in ["xb-unpack", "xb-sum"] {
        let mut verify = xb(command);
        verify.args(if command == "xb-unpack" { &["--verify"][..] } else { &["--members"] });
        Pipeline::new().stage(verify).stdin_bytes(stream.clone()).run().assert_ok();
    }
    for cut in [stream.len() - 1, stream.len() / 2] {
        let run = Pipeline::new().stage(xb("xb-redo")).stdin_bytes(stream[..cut].to_vec()).run();
        run.assert_codes(&[3]);
        let run = Pipeline::new().stage(xb("xb-unpack").arg("--verify")).stdin_bytes(run.stdout).run();
        run.assert_codes(&[3]);
    }
    // A backup that needs a log cannot be made to look like one that does not.
    let had = stopped(Flavour::Installed);
    let with = Pipeline::new().stage(snap(&switched_off(&had, had.data()))).run().stdout;
    let run = Pipeline::new().stage(xb("xb-unpack").arg("--verify")).stdin_bytes(with.clone()).run();
    run.assert_codes(&[3]);
    let dir = files(&with);
    let path = dir.path().join("xb_begin");
    let begin = fs::read_to_string(&path).unwrap();
    fs::write(&path, begin.replacen('{', "{\"without_innodb\":true,", 1)).unwrap();
    status(dir.path()).assert_codes(&[3]);
}

#[test]
fn mariadb_without_innodb_passes_zip_and_crypt() {
    let server = without(Flavour::Installed).start();
    fill(&server);
    let dir = scratch();
    let (key, to) = (dir.path().join("key"), dir.path().join("to"));
    assert!(xb("xb-crypt").arg("--generate-key").arg(&key).status().unwrap().success());
    Pipeline::new()
        .stage(snap(&server))
        .stage(xb("xb-redo"))
        .stage(xb("xb-zip"))
        .stage(xb("xb-crypt").arg("-k").arg(&key))
        .stage(xb("xb-unpack").arg("-C").arg(dir.path().join("coded")))
        .run()
        .assert_ok();
    Pipeline::new()
        .stage(xb("xb-pack").arg("-C").arg(dir.path().join("coded")).arg("."))
        .stage(xb("xb-crypt").arg("-d").arg("-k").arg(&key))
        .stage(xb("xb-zip").arg("-d"))
        .stage(xb("xb-unpack").arg("-C").arg(&to))
        .run()
        .assert_ok();
    assert_eq!(restored(&server, &to, |data| server.twin(data).start()), server.rows(ROWS));
}

#[test]
fn mariadb_without_innodb_has_no_increments() {
    let server = without(Flavour::Installed).start();
    let dir = scratch();
    take(&server, &[], dir.path());
    for base in [format!("--incremental-basedir={}", dir.path().display()), "--incremental-lsn=1".to_owned()] {
        let run = Pipeline::new().stage(snap(&server).arg(&base)).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains("InnoDB, which increments need"), "{}", run.story());
        assert!(run.stdout.is_empty());
    }
}

#[test]
fn mariadb_with_innodb_files_out_of_sight_is_refused() {
    let had = stopped(Flavour::Installed);
    let server = switched_off(&had, had.data());
    for name in names(had.data()) {
        if ["ibdata1", "ib_logfile0"].contains(&name.as_str()) || name.starts_with("undo0") {
            fs::rename(had.data().join(&name), had.home().join(&name)).unwrap();
        }
    }
    let refused = |mut command: Command, file: &str| {
        let run = Pipeline::new().stage(&mut command).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains(file) && run.stderr(0).contains("is a table of InnoDB"), "{}", run.story());
        assert!(run.stdout.is_empty());
    };
    refused(snap(&server), "i/t.");
    drop(server);
    refused(offline(&had), "i/t.");
    // As with innodb_file_per_table=OFF.
    for name in names(had.data()).iter().filter(|name| name.ends_with(".ibd")) {
        fs::remove_file(had.data().join(name)).unwrap();
    }
    refused(offline(&had), "i/t.frm");
    // What an option file says where they are is looked for there.
    let options = had.home().join("places.cnf");
    fs::write(
        &options,
        format!("[mariadbd]\ninnodb_data_home_dir={0}\ninnodb_log_group_home_dir={0}\n", had.home().display()),
    )
    .unwrap();
    let mut command = xb("xb-snap");
    command.arg(format!("--defaults-file={}", options.display()));
    command.args(["--offline", "--datadir"]).arg(had.data());
    Pipeline::new().stage(command).run().assert_ok();
}

#[test]
fn mariadb_whose_innodb_crashed_before_is_refused() {
    let mut had = stopped(Flavour::Installed);
    had.start_again();
    had.sql("INSERT INTO i.t SELECT seq + 10000 FROM test.seq_1_to_1000");
    had.kill();
    let server = switched_off(&had, had.data());
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("was not shut down cleanly before"), "{}", run.story());
    assert!(run.stdout.is_empty());
}

/// Writes go on while the backup runs, up to the locks.
#[test]
fn mariadb_without_innodb_is_copied_consistently_under_writes() {
    let server = without(Flavour::Installed).start();
    fill(&server);
    server.sql(
        "CREATE TABLE d.one (id INT PRIMARY KEY) ENGINE=Aria; CREATE TABLE d.two (id INT PRIMARY KEY) ENGINE=Aria",
    );
    let dir = scratch();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut id = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                id += 1;
                server.sql(&format!("INSERT INTO d.one VALUES ({id}); INSERT INTO d.two VALUES ({id})"));
            }
            id
        });
        take(&server, &[], dir.path());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
    apply_by(&server, dir.path()).assert_ok();
    let copy = server.twin(dir.path()).start();
    let count = |table: &str| copy.value(&format!("SELECT COUNT(*) FROM d.{table}")).parse::<i64>().unwrap();
    assert!((0..=1).contains(&(count("one") - count("two"))), "{} {}", count("one"), count("two"));
    for table in ["one", "two", "a", "m"] {
        assert_eq!(copy.rows(&format!("CHECK TABLE d.{table} EXTENDED"))[0][3], "OK", "{table}");
    }
}
