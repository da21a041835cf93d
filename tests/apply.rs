//! `xb-redo --apply`, `--status`, `--copy-back`: the results for an unpacked backup, and what is refused.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use xb::innodb::redo::mariadb::{HEADER, Header, START};
use xb::stream::native::{Entry, Tally};

use crate::snap::manifest;
use crate::support::backup::{apply, take};
use crate::support::fault::{SmallDisk, ordinary_user};
use crate::support::{
    Flavour, Load, Pipeline, Random, Server, accounts, check, output, program, root, scratch, test_on, wait_until, xb,
};

/// A backup of mariadb-backup, unpacked by xb-unpack.
fn foreign(server: &Server) -> TempDir {
    let dir = scratch();
    Pipeline::new()
        .stage(server.program("mariadb-backup").args(server.options()).args([
            "--backup",
            "--stream=xbstream",
            "--user=root",
        ]))
        .stage(xb("xb-unpack").arg("-C").arg(dir.path().join("backup")))
        .run()
        .assert_ok();
    dir
}

fn backup(dir: &TempDir) -> PathBuf {
    dir.path().join("backup")
}

/// A backup of ours.
fn ours(server: &Server) -> TempDir {
    let dir = scratch();
    take(server, &[], &backup(&dir));
    dir
}

/// All files, relative.
fn files(dir: &Path) -> Vec<PathBuf> {
    let text = output({
        let mut find = program("find");
        find.arg(dir).args(["-type", "f", "-printf", "%P\\n"]);
        find
    });
    let mut files: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    files.sort();
    files
}

fn copy(from: &Path) -> TempDir {
    let to = scratch();
    output({
        let mut cp = program("cp");
        cp.args(["-a", "--sparse=auto"]).arg(from).arg(to.path().join("backup"));
        cp
    });
    to
}

/// Runs to the end; returns the exit code as a shell shows it, and stderr.
fn run(command: &mut Command) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt;
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap_or_else(|| 128 + status.signal().unwrap()), String::from_utf8_lossy(&stderr).into_owned())
}

/// The server of this flavour, if it cannot be found by default.
fn apply_by(flavour: Flavour, dir: &Path) -> Command {
    let mut command = apply(dir);
    command.arg("--server").arg(flavour.path("mariadbd"));
    command
}

#[track_caller]
fn status(dir: &Path, code: i32, words: &str) {
    let said = xb("xb-redo").arg("--status").arg(dir).output().unwrap();
    let line = String::from_utf8_lossy(&said.stdout);
    assert_eq!(said.status.code(), Some(code), "{line}{}", String::from_utf8_lossy(&said.stderr));
    assert!(line.contains(words) && line.lines().count() == 1, "{words:?} is not in {line:?}");
    let object = xb("xb-redo").arg("--status").arg(dir).arg("--json").output().unwrap();
    let object: serde_json::Value = serde_json::from_slice(&object.stdout).unwrap();
    assert_eq!(object["ready"].as_bool(), Some(code == 0), "{object}");
    if code == 0 && object["origin"] == "xb-snap" {
        let facts =
            object["start_time"].is_string() && object["end_time"].is_string() && object["bytes"].as_u64() > Some(0);
        assert!(facts && object["locks_ms"].is_object(), "{object}");
    }
}

#[track_caller]
fn refused(command: &mut Command, code: i32, words: &str) {
    let (got, said) = run(command);
    assert!(got == code && said.contains(words), "exit {got}, not {code} with {words:?}:\n{said}");
}

/// A server after a load, with more load running.
fn small() -> Server {
    let server = Server::new().log_size("16M").start();
    Load::on(&server).bank(1).engines(1).prepare();
    server
}

test_on!(a_backup_of_mariadb_backup_is_applied: mariadb, mariadb118);

fn a_backup_of_mariadb_backup_is_applied(flavour: Flavour) {
    let server = Server::new().flavour(flavour).log_size("64M").start();
    let load = Load::on(&server).bank(2).engines(1).start();
    load.wait_for(200);
    let dir = foreign(&server);
    load.stop();
    status(&backup(&dir), 0, "not applied: ready for xb-redo --apply");
    let (code, said) = run(&mut apply_by(flavour, &backup(&dir)));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing proves that"), "{said}");
    status(&backup(&dir), 0, "applied: ready for xb-redo --copy-back");
    let (code, said) = run(&mut apply_by(flavour, &backup(&dir)));
    assert!(code == 0 && said.contains("applied already"), "{said}");
    let data = dir.path().join("data");
    let (code, said) = run(xb("xb-redo").arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(&data));
    assert_eq!(code, 0, "{said}");
    assert!(!files(&data).iter().any(|item| item.starts_with("xb_applied") || item.starts_with("backup-my.cnf")));
    if let Some(position) = check::position(&backup(&dir)) {
        check::restored_at(&server, &data, &position).assert_good();
    } else {
        check::sound(&server, &data).assert_good();
    }
}

#[test]
fn killed_anywhere_and_run_again_it_goes_on() {
    let server = Server::new().log_size("64M").start();
    let load = Load::on(&server).bank(2).rows(1).start();
    load.wait_for(1500);
    let whole = ours(&server);
    load.stop();
    let mut random = Random::new(7);
    // The duration of an undisturbed run decides when to kill.
    let dir = copy(&backup(&whole));
    let started = std::time::Instant::now();
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    let time = u64::try_from(started.elapsed().as_micros()).unwrap();
    let dir = copy(&backup(&whole));
    for round in 0..12u64 {
        let running = Pipeline::new().stage(apply(&backup(&dir))).start();
        // The later half of the kills comes late, while the server works.
        let least = if round % 2 == 0 { 0 } else { time / 3 };
        std::thread::sleep(Duration::from_micros(least + random.below(time - least)));
        if round % 3 == 2 {
            // The server, not us.
            for child in children(running.pid(0)) {
                let _ = Command::new("kill").args(["-9", &child]).status();
            }
        } else {
            running.signal(0, Signal::KILL);
        }
        let run = running.wait();
        if run.codes() != [0] {
            let said = xb("xb-redo").arg("--status").arg(backup(&dir)).output().unwrap();
            let line = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(!line.contains(", applied: ready"), "round {round}: {line}");
        }
    }
    let (code, said) = run(&mut apply(&backup(&dir)));
    assert_eq!(code, 0, "{said}");
    status(&backup(&dir), 0, "applied: ready");
    check::restored(&server, &backup(&dir)).assert_good();
}

pub(crate) fn children(pid: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_signal_stops_the_server_and_ends_by_the_signal() {
    let server = small();
    let dir = foreign(&server);
    let log = backup(&dir).join("xb_server.log");
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        let _ = fs::remove_file(&log);
        let running = Pipeline::new().stage(apply(&backup(&dir))).start();
        wait_until("a server recovers", Duration::from_secs(30), || log.exists());
        let servers = children(running.pid(0));
        running.signal(0, signal);
        let run = running.wait();
        // It may have finished already.
        assert!([128 + signal.as_raw(), 0].contains(&run.codes()[0]), "{signal:?}: {}", run.story());
        assert!(servers.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()), "a server was left behind");
        if run.codes() == [0] {
            break;
        }
    }
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
}

#[test]
fn tables_with_data_directory_leave_their_originals_alone() {
    let mut server = small();
    let place = scratch();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let ddl = format!(
        "CREATE TABLE test.far (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB DATA DIRECTORY='{}'",
        place.path().display()
    );
    server.sql(&ddl);
    let mut writer = server.connect();
    use mysql::prelude::Queryable;
    writer.query_drop("USE test").unwrap();
    writer.query_drop("INSERT INTO far SELECT seq, REPEAT('x', 100) FROM seq_1_to_5000").unwrap();
    // Open when the backup is made, so that recovery rolls it back and writes.
    writer.query_drop("BEGIN").unwrap();
    writer.query_drop("UPDATE far SET v = 'never'").unwrap();
    server.sql("CREATE TABLE test.tick (id INT) ENGINE=InnoDB; INSERT INTO test.tick VALUES (1)");
    let dir = foreign(&server);
    writer.query_drop("ROLLBACK").unwrap();
    drop(writer);
    // As after a crash: no process uses the files, and they differ from the backup's.
    server.kill();
    let original = place.path().join("test/far.ibd");
    let before = (fs::read(&original).unwrap(), fs::metadata(&original).unwrap().modified().unwrap());
    let (code, said) = run(&mut apply(&backup(&dir)));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("test/far: was at"), "{said}");
    let copy = server.twin(&backup(&dir)).start();
    assert_eq!(copy.value("SELECT COUNT(*) FROM test.far WHERE v <> 'never'"), "5000");
    copy.sql("ALTER TABLE test.far FORCE, ALGORITHM=COPY; ALTER TABLE test.far ADD w INT; INSERT INTO test.far VALUES (0, '', 0)");
    drop(copy);
    let after = (fs::read(&original).unwrap(), fs::metadata(&original).unwrap().modified().unwrap());
    assert!(before == after, "the original was written to");
}

#[test]
fn damage_is_found_before_a_server_sees_it() {
    let server = small();
    let whole = ours(&server);
    status(&backup(&whole), 0, "xb-snap");
    let flip = |path: PathBuf, at: u64| {
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    let fault = |name: &str, words: &str, seen: bool, harm: &dyn Fn(&Path)| {
        let dir = copy(&backup(&whole));
        harm(&backup(&dir));
        let before = files(&backup(&dir));
        if seen {
            status(&backup(&dir), 3, words);
        }
        refused(&mut apply(&backup(&dir)), 3, words);
        let after: Vec<_> = files(&backup(&dir)).into_iter().filter(|item| item != Path::new("xb_lock")).collect();
        assert_eq!(before, after, "{name}: something was changed");
    };
    fault("bit in a table", "mysql/innodb_index_stats.ibd: its content differs", false, &|dir| {
        flip(dir.join("mysql/innodb_index_stats.ibd"), 50_000);
    });
    fault("bit in the manifest", "xb_manifest", true, &|dir| {
        let middle = fs::metadata(dir.join("xb_manifest")).unwrap().len() / 2;
        flip(dir.join("xb_manifest"), middle);
    });
    // The log continues in the file, from its first LSN to the end of the backup.
    let head = Header::parse(&fs::read(backup(&whole).join("ib_logfile0")).unwrap()[..HEADER]).unwrap();
    let end = START as u64 + manifest(&backup(&whole)).1["end_lsn"].as_u64().unwrap() - head.first_lsn.get();
    fault("bit in the log", "truncated: ends at lsn", true, &|dir| flip(dir.join("ib_logfile0"), end - 1000));
    fault("bit in the log's last bytes", "truncated: ends at lsn", true, &|dir| flip(dir.join("ib_logfile0"), end - 1));
    fault("bit in the log's head", "ib_logfile0: redo log header checksum", true, &|dir| {
        flip(dir.join("ib_logfile0"), 40)
    });
    fault("file missing", "aria_log_control: missing", true, &|dir| {
        fs::remove_file(dir.join("aria_log_control")).unwrap();
    });
    fault("file compressed", "aria_log_control: missing", true, &|dir| {
        fs::rename(dir.join("aria_log_control"), dir.join("aria_log_control.zst")).unwrap();
    });
    fault("log cut", "ib_logfile0", true, &|dir| {
        let log = fs::OpenOptions::new().write(true).open(dir.join("ib_logfile0")).unwrap();
        log.set_len(end - 1).unwrap();
    });
    fault("manifest missing", "truncated: it has xb_begin and no xb_manifest", true, &|dir| {
        fs::remove_file(dir.join("xb_manifest")).unwrap();
    });
    fault("manifest cut", "its last line is missing", true, &|dir| {
        let text = fs::read_to_string(dir.join("xb_manifest")).unwrap();
        let cut = text.trim_end().rfind('\n').unwrap() + 1;
        fs::write(dir.join("xb_manifest"), &text[..cut]).unwrap();
    });
    fault("unpacking did not end", "incomplete: xb-unpack has not ended well", true, &|dir| {
        fs::write(
            dir.join("xb_incomplete"),
            "xb-unpack has not ended well in this directory: do not use what is in it.\n",
        )
        .unwrap();
    });
    fault("no redo", "it was not piped through xb-redo", true, &|dir| {
        fs::remove_file(dir.join("ib_logfile0")).unwrap();
        fs::remove_file(dir.join("xb_manifest")).unwrap();
        fs::remove_file(dir.join("xb_begin")).unwrap();
        without_redo(&backup(&whole), dir);
    });
}

/// The manifest of a backup without the line of its log.
fn without_redo(whole: &Path, dir: &Path) {
    fs::copy(whole.join("xb_begin"), dir.join("xb_begin")).unwrap();
    let text = fs::read_to_string(whole.join("xb_manifest")).unwrap();
    let (mut tally, mut lines) = (Tally::default(), String::new());
    for line in text.lines().filter(|line| !line.contains("\"redo\"")) {
        if let Ok(entry) = serde_json::from_str::<Entry>(line) {
            lines += &tally.line(&entry).unwrap();
        } else {
            lines += &tally.finish(serde_json::from_str(line).unwrap()).unwrap();
        }
    }
    fs::write(dir.join("xb_manifest"), lines).unwrap();
}

#[test]
fn damage_of_a_foreign_backup_is_found() {
    let server = small();
    let whole = foreign(&server);
    for (missing, words) in [
        ("aria_log_control", "aria_log_control: missing"),
        ("ib_logfile0", "ib_logfile0: missing"),
        ("ibdata1", "ibdata1: missing"),
        ("backup-my.cnf", "backup-my.cnf is missing"),
        ("xtrabackup_checkpoints", "not a complete backup"),
    ] {
        let dir = copy(&backup(&whole));
        fs::remove_file(backup(&dir).join(missing)).unwrap();
        status(&backup(&dir), 3, words);
        refused(&mut apply(&backup(&dir)), 3, words);
    }
    let dir = copy(&backup(&whole));
    let log = fs::OpenOptions::new().write(true).open(backup(&dir).join("ib_logfile0")).unwrap();
    log.set_len(log.metadata().unwrap().len() - 5000).unwrap();
    status(&backup(&dir), 3, "truncated: ends at lsn");
    refused(&mut apply(&backup(&dir)), 3, "truncated: ends at lsn");
    // A server's own data directory is not a backup.
    let mut server = server;
    server.stop();
    status(server.data(), 3, "not a complete backup");
    refused(&mut apply(server.data()), 3, "not a complete backup");
}

#[test]
fn what_was_applied_and_then_changed_is_not_called_good() {
    let server = small();
    let whole = foreign(&server);
    assert_eq!(run(&mut apply(&backup(&whole))).0, 0);
    let dir = copy(&backup(&whole));
    fs::remove_file(backup(&dir).join("mysql/innodb_index_stats.ibd")).unwrap();
    status(&backup(&dir), 3, "changed since it was applied");
    refused(
        xb("xb-redo").arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(dir.path().join("data")),
        3,
        "changed since",
    );
    assert!(!dir.path().join("data").exists());
    let dir = copy(&backup(&whole));
    drop(server.twin(&backup(&dir)).start());
    status(&backup(&dir), 3, "changed since it was applied");
}

#[test]
fn only_a_server_that_fits_is_used() {
    let server = small();
    let dir = foreign(&server);
    let info = backup(&dir).join("xtrabackup_info");
    let text = fs::read_to_string(&info).unwrap();
    for version in ["10.11.99-MariaDB", "12.3.1-MariaDB"] {
        let other: String = text
            .lines()
            .map(|line| {
                if line.starts_with("server_version") {
                    format!("server_version = {version}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        fs::write(&info, other).unwrap();
        refused(&mut apply(&backup(&dir)), 1, "none fits: the backup was made of");
        refused(&mut apply_by(Flavour::Installed, &backup(&dir)), 1, "the backup was made of");
    }
    fs::write(&info, text).unwrap();
    refused(apply(&backup(&dir)).args(["--server", "/bin/true"]), 1, "/bin/true: is not a server that runs here");
    if Flavour::Mariadb118.or_skip() {
        refused(&mut apply_by(Flavour::Mariadb118, &backup(&dir)), 1, "is MariaDB 11.8.");
    }
    status(&backup(&dir), 0, "not applied");
}

#[test]
fn a_copy_is_applied_and_the_backup_stays() {
    let server = small();
    let dir = ours(&server);
    let sums =
        |dir: &Path| files(dir).iter().map(|item| blake3::hash(&fs::read(dir.join(item)).unwrap())).collect::<Vec<_>>();
    let before = sums(&backup(&dir));
    let to = dir.path().join("copy");
    for _ in 0..2 {
        let (code, said) = run(apply(&backup(&dir)).arg("--to").arg(&to));
        assert_eq!(code, 0, "{said}");
        status(&to, 0, "applied: ready");
        assert!(sums(&backup(&dir)) == before, "the backup was changed");
    }
    fs::create_dir(dir.path().join("full")).unwrap();
    fs::write(dir.path().join("full/x"), "").unwrap();
    refused(apply(&backup(&dir)).arg("--to").arg(dir.path().join("full")), 1, "is not empty: it has x");
    check::sound(&server, &to).assert_good();
}

#[test]
fn a_full_disk_fails_and_leaves_no_good_backup() {
    let server = small();
    let dir = ours(&server);
    let Some(disk) = SmallDisk::new(5 << 20) else { return };
    let to = disk.path().join("copy");
    refused(apply(&backup(&dir)).arg("--to").arg(&to), 1, "no space left on device");
    status(&to, 3, "incomplete: xb-redo --to has not ended well");
    // Space for the copy, but not for the server.
    let used = output({
        let mut du = program("du");
        du.args(["-s", "-B1"]).arg(backup(&dir));
        du
    });
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    let Some(disk) = SmallDisk::new(used + (3 << 20)) else { return };
    let to = disk.path().join("copy");
    let (code, said) = run(apply(&backup(&dir)).arg("--to").arg(&to));
    assert_eq!(code, 1, "{said}");
    let said = xb("xb-redo").arg("--status").arg(&to).output().unwrap();
    assert_eq!(said.status.code(), Some(3), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn copy_back_wants_an_applied_backup_and_an_empty_directory() {
    let server = small();
    let dir = foreign(&server);
    let back = |to: &Path| {
        let mut command = xb("xb-redo");
        command.arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(to);
        command
    };
    let data = dir.path().join("data");
    refused(&mut back(&data), 1, "is not applied yet");
    assert!(!data.exists());
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("ibdata1"), "precious").unwrap();
    refused(&mut back(&data), 1, "is not empty: it has ibdata1");
    assert_eq!(fs::read_to_string(data.join("ibdata1")).unwrap(), "precious");
    fs::remove_file(data.join("ibdata1")).unwrap();
    fs::create_dir(data.join("lost+found")).unwrap();
    refused(back(&data).args(["--owner", "nobody_at_all"]), 2, "no user");
    if root() {
        let (code, said) = run(back(&data).args(["--owner", "nobody"]));
        assert_eq!(code, 0, "{said}");
        let owners = output({
            let mut find = program("find");
            find.arg(&data).args(["-mindepth", "1", "-not", "-user", "nobody", "-not", "-name", "lost+found"]);
            find
        });
        assert_eq!(owners, "");
    }
    let moved = dir.path().join("moved");
    let (code, said) = run(back(&moved).args(["--move", "--log=json"]));
    assert_eq!(code, 0, "{said}");
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    // A backup of mariadb-backup has no backup_id.
    assert!(last["event"] == "summary" && last["backup_id"].is_null(), "{last}");
    assert_eq!(last["directory"], moved.display().to_string(), "{last}");
    assert!(last["files"].as_u64() > Some(50) && last["data_bytes"].as_u64() > Some(1 << 20), "{last}");
    status(&backup(&dir), 3, "were moved into a data directory");
    refused(&mut back(&dir.path().join("more")), 3, "were moved into a data directory");
    check::sound(&server, &moved).assert_good();
}

/// The usual procedure after a disaster: root, a new data directory or one that root has created, a server's account.
#[test]
fn the_data_directory_is_the_owners_and_nobody_elses() {
    if !root() {
        return;
    }
    let server = small();
    let dir = ours(&server);
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    // Accounts that are not in /etc/passwd.
    let library = accounts::resolver(dir.path());
    let back = |name: &str, owner: &str| {
        let mut back = xb("xb-redo");
        back.arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(dir.path().join(name)).arg(owner);
        run(back.env("LD_PRELOAD", &library))
    };
    for (name, owner, expected) in
        [("user", "--owner=ldap_user", (4711, 4712)), ("group", "--owner=ldap_user:ldap_group", (4711, 4713))]
    {
        let (code, said) = back(name, owner);
        assert_eq!(code, 0, "{said}");
        let facts = fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!((facts.uid(), facts.gid()), expected, "{owner}");
    }
    let (code, said) = back("none", "--owner=no_answer");
    assert!(code == 1 && said.contains("no_answer: cannot look up the account"), "exit {code}: {said}");
    for (name, mode, options, expected) in [
        ("new", None, &["--owner=nobody"][..], (65534, 0o750)),
        ("made", Some(0o755), &["--owner=nobody:nogroup"], (65534, 0o750)),
        ("tight", Some(0o700), &["--owner=nobody", "--move"], (65534, 0o700)),
    ] {
        let data = dir.path().join(name);
        if let Some(mode) = mode {
            fs::create_dir(&data).unwrap();
            fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut back = xb("xb-redo");
        back.arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(&data).args(options);
        let (code, said) = run(&mut back);
        assert!(code == 0 && !said.contains("belongs to root"), "{said}");
        let facts = fs::metadata(&data).unwrap();
        assert_eq!((facts.uid(), facts.mode() & 0o7777), expected, "{name}");
    }
    // No owner is given: the files belong to root, and servers do not run as root.
    let again = ours(&server);
    assert_eq!(run(&mut apply(&backup(&again))).0, 0);
    let data = again.path().join("data");
    let (code, said) = run(xb("xb-redo").arg("--copy-back").arg(backup(&again)).arg("--datadir").arg(&data));
    assert!(code == 0 && said.contains("belongs to root now"), "{said}");
}

test_on!(files_go_to_the_places_of_the_option_file: mariadb, mysql97);

fn files_go_to_the_places_of_the_option_file(flavour: Flavour) {
    let mysql = flavour == Flavour::Mysql97;
    let mut builder = Server::new().flavour(flavour);
    if !mysql {
        builder = builder.layout("innodb-undo-tablespaces", "3");
    }
    let server = builder.start();
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT); \
         INSERT INTO d.t SELECT seq, 'x' FROM test.seq_1_to_200",
    );
    let dir = ours(&server);
    assert_eq!(run(apply(&backup(&dir)).arg("--server").arg(flavour.server())).0, 0);
    for way in ["--copy", "--move"] {
        let home = scratch();
        let at = |name: &str| home.path().join(name).display().to_string();
        let mut places = vec![
            ("datadir", at("data")),
            ("innodb_data_home_dir", at("system")),
            ("innodb_data_file_path", "disk/data1:12M:autoextend".to_owned()),
            ("innodb_undo_directory", at("undo")),
            ("innodb_log_group_home_dir", at("redo")),
        ];
        places.push(if mysql { ("log_bin", at("log/binlog")) } else { ("aria_log_dir_path", at("aria")) });
        let lines = places.iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>();
        fs::write(home.path().join("my.cnf"), format!("[mysqld]\n{lines}")).unwrap();
        let mut back = xb("xb-redo");
        back.arg("--copy-back").arg(backup(&dir)).arg("--defaults-file").arg(home.path().join("my.cnf"));
        if way == "--move" {
            back.arg(way);
        } else {
            // An existing file is not changed.
            fs::create_dir_all(at("system/disk")).unwrap();
            fs::write(at("system/disk/data1"), "precious").unwrap();
            refused(&mut back, 1, "system/disk/data1: is there already");
            assert!(!Path::new(&at("data")).exists());
            fs::remove_file(at("system/disk/data1")).unwrap();
        }
        let (code, said) = run(&mut back);
        assert_eq!(code, 0, "{said}");
        let there = files(home.path());
        let first = if mysql { "redo/#innodb_redo" } else { "redo/ib_logfile0" };
        let undo = if mysql { "undo/undo_001" } else { "undo/undo001" };
        let mut expected = vec!["system/disk/data1", "data/d/t.ibd", undo, first];
        expected.extend((!mysql).then_some("aria/aria_log_control"));
        for name in expected {
            assert!(there.iter().any(|path| path.starts_with(name)), "{name} is missing: {there:?}");
        }
        for name in ["ibdata1", "undo001", "undo_001", "ib_logfile0", "aria_log_control", "#innodb_redo"] {
            assert!(!there.iter().any(|path| path.starts_with(Path::new("data").join(name))), "{name}");
        }
        let mut copy = server.twin(&home.path().join("data"));
        for (key, value) in &places[1..] {
            copy = copy.option(&key.replace('_', "-"), value);
        }
        check::same(&server, &copy.start()).assert_good();
    }
}

#[test]
fn an_option_file_that_does_not_fit_is_refused() {
    let server = small();
    let dir = ours(&server);
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    let file = dir.path().join("my.cnf");
    for (text, code, words) in [
        ("[mysqld]\n", 2, "has no datadir for a server"),
        (
            "[mysqld]\ndatadir=/nowhere/data\ninnodb_data_file_path=a:12M;b:12M:autoextend\n",
            1,
            "innodb_data_file_path has 2 files, the backup 1",
        ),
        (
            &format!("[mysqld]\ndatadir={}/data\ninnodb_undo_directory={0}/backup/undo\n", dir.path().display()),
            2,
            "is below the backup",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let mut back = xb("xb-redo");
        refused(back.arg("--copy-back").arg(backup(&dir)).arg("--defaults-file").arg(&file), code, words);
    }
    assert!(!dir.path().join("data").exists());
    refused(xb("xb-redo").arg("--copy-back").arg(backup(&dir)), 2, "--datadir");
}

#[test]
fn a_copy_and_its_backup_never_contain_each_other() {
    let server = small();
    let dir = ours(&server);
    let full = backup(&dir);
    for (to, words) in [(full.join("new/deep"), "is below the backup"), (full.clone(), "is the backup itself")] {
        let mut to_copy = apply(&full);
        refused(to_copy.arg("--to").arg(&to), 2, words);
    }
    assert_eq!(run(&mut apply(&full)).0, 0);
    for (to, words) in [(full.join("new"), "is below the backup"), (dir.path().to_owned(), "has the backup below it")] {
        let mut back = xb("xb-redo");
        refused(back.arg("--copy-back").arg(&full).arg("--datadir").arg(&to), 2, words);
    }
    assert!(!full.join("new").exists());
}

#[test]
fn an_ordinary_user_can_apply() {
    let server = small();
    let dir = foreign(&server);
    if !root() {
        return;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    refused(&mut ordinary_user(apply(&backup(&dir))), 1, "permission denied");
    output({
        let mut chown = program("chown");
        chown.args(["-R", "65534:65534"]).arg(dir.path());
        chown
    });
    let (code, said) = run(&mut ordinary_user(apply(&backup(&dir))));
    assert_eq!(code, 0, "{said}");
    status(&backup(&dir), 0, "applied: ready");
}

test_on!(a_partial_backup_is_applied: mariadb, mariadb118);

fn a_partial_backup_is_applied(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE TABLE test.kept (id INT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE test.left_out (id INT PRIMARY KEY) ENGINE=InnoDB");
    server.sql("INSERT INTO test.kept VALUES (1), (2); INSERT INTO test.left_out VALUES (3)");
    let dir = scratch();
    Pipeline::new()
        .stage(server.program("mariadb-backup").args(server.options()).args([
            "--backup",
            "--stream=xbstream",
            "--user=root",
            "--tables-exclude=^test[.]left_out",
        ]))
        .stage(xb("xb-unpack").arg("-C").arg(backup(&dir)))
        .run()
        .assert_ok();
    assert!(!backup(&dir).join("test/left_out.ibd").exists());
    status(&backup(&dir), 0, "partial");
    let (code, said) = run(&mut apply_by(flavour, &backup(&dir)));
    assert_eq!(code, 0, "{said}");
    let copy = server.twin(&backup(&dir)).start();
    assert_eq!(copy.value("SELECT COUNT(*) FROM test.kept"), "2");
}

test_on!(our_backup_is_accepted_by_the_stock_program: mariadb, mariadb118);

fn our_backup_is_accepted_by_the_stock_program(flavour: Flavour) {
    let server = Server::new().flavour(flavour).log_size("64M").start();
    let load = Load::on(&server).bank(2).engines(1).archive(1).formats(1).start();
    load.wait_for(200);
    let dir = ours(&server);
    load.stop();
    let stock = copy(&backup(&dir));
    let applied = run(&mut apply_by(flavour, &backup(&dir)));
    assert_eq!(applied.0, 0, "{}", applied.1);
    status(&backup(&dir), 0, "applied: ready");
    check::restored(&server, &backup(&dir)).assert_good();

    let target = format!("--target-dir={}", backup(&stock).display());
    output({
        let mut prepare = server.program("mariadb-backup");
        prepare.arg("--prepare").arg(&target);
        prepare
    });
    status(&backup(&stock), 0, "applied: ready");
    let data = stock.path().join("data");
    output({
        let mut back = server.program("mariadb-backup");
        back.args(["--no-defaults", "--copy-back"]).arg(&target).arg(format!("--datadir={}", data.display()));
        back
    });
    check::restored_at(&server, &data, &check::position(&backup(&stock)).unwrap()).assert_good();
}

#[test]
fn an_encrypted_backup_is_applied() {
    let server = Server::new().encrypted().log_size("32M").start();
    let load = Load::on(&server).bank(1).rows(1).start();
    load.wait_for(200);
    let dir = ours(&server);
    load.stop();
    let (code, said) = run(apply(&backup(&dir)).args(server.plugins()));
    assert_eq!(code, 0, "{said}");
    check::restored(&server, &backup(&dir)).assert_good();
}

#[test]
fn an_encrypted_log_cannot_change_an_external_original() {
    let mut server = Server::new().encrypted().log_size("32M").start();
    let place = scratch();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    server.sql(&format!(
        "CREATE TABLE test.far (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='{}'; INSERT INTO test.far VALUES (1)",
        place.path().display()
    ));
    let dir = ours(&server);
    refused(&mut apply(&backup(&dir)), 1, "where a server would look for it");
    status(&backup(&dir), 0, "not applied");
    // The hint says this. The keys are still there.
    server.stop();
    let stopped = fs::read(place.path().join("test/far.ibd")).unwrap();
    output({
        let mut prepare = server.program("mariadb-backup");
        prepare.arg("--prepare").arg(format!("--target-dir={}", backup(&dir).display()));
        prepare
    });
    status(&backup(&dir), 0, "applied: ready");
    assert!(fs::read(place.path().join("test/far.ibd")).unwrap() == stopped, "the original was written to");
    assert_eq!(server.twin(&backup(&dir)).start().value("SELECT COUNT(*) FROM test.far"), "1");
}

#[test]
fn what_has_no_log_or_no_end_is_not_restorable() {
    let server = small();
    let dir = scratch();
    Pipeline::new()
        .stage(xb("xb-snap").args(server.options()))
        .stage(xb("xb-unpack").arg("-C").arg(backup(&dir)))
        .run()
        .assert_codes(&[0, 3]);
    status(&backup(&dir), 3, "incomplete: xb-unpack has not ended well");
    // As an earlier version left it.
    fs::rename(backup(&dir).join("xb_manifest.part"), backup(&dir).join("xb_manifest")).unwrap();
    fs::remove_file(backup(&dir).join("xb_incomplete")).unwrap();
    status(&backup(&dir), 3, "it was not piped through xb-redo");
    refused(&mut apply(&backup(&dir)), 3, "it was not piped through xb-redo");
}

#[test]
fn databases_and_data_files_may_be_called_like_ours() {
    let server = Server::new().layout("innodb-data-file-path", "xb_ibdata1:12M:autoextend").start();
    server
        .sql("CREATE DATABASE xb_shop; CREATE TABLE xb_shop.t (id INT PRIMARY KEY); INSERT INTO xb_shop.t VALUES (1)");
    server.sql("CREATE DATABASE xb_empty");
    let dir = ours(&server);
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    for options in [&[][..], &["--move"]] {
        let data = dir.path().join(format!("data{}", options.len()));
        let back = run(xb("xb-redo").arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(&data).args(options));
        assert_eq!(back.0, 0, "{}", back.1);
        assert!(!files(&data).iter().any(|item| item.starts_with("xb_applied")));
        let copy = server.twin(&data).start();
        assert_eq!(copy.value("SELECT COUNT(*) FROM xb_shop.t"), "1");
    }
}

#[test]
fn a_missing_file_is_missed_whatever_it_is_called() {
    let server = Server::new().layout("innodb-data-file-path", "xb_ibdata1:12M:autoextend").start();
    let dir = ours(&server);
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    fs::remove_file(backup(&dir).join("xb_ibdata1")).unwrap();
    status(&backup(&dir), 3, "changed since it was applied");
}

#[test]
fn a_state_file_of_another_backup_is_refused() {
    let server = small();
    let dir = ours(&server);
    note(&backup(&dir), "laid_out", Some(&"00".repeat(16)), 1);
    status(&backup(&dir), 3, "belongs to another backup");
    refused(&mut apply(&backup(&dir)), 3, "belongs to another backup");
}

/// What an earlier `--apply` has noted.
fn note(dir: &Path, step: &str, id: Option<&str>, end: u64) {
    let state = serde_json::json!({
        "format": 1, "step": step, "backup_id": id, "start_lsn": 1, "end_lsn": end, "runs": 0, "program": "test",
    });
    fs::write(dir.join("xb_applied"), state.to_string()).unwrap();
}

#[test]
fn a_log_with_another_end_is_refused_again() {
    let server = small();
    let dir = foreign(&server);
    note(&backup(&dir), "started", None, 2);
    refused(&mut apply(&backup(&dir)), 3, "the backup ends at 2");
    status(&backup(&dir), 3, "did not end where the backup's does");
    refused(&mut apply(&backup(&dir)), 3, "unpack the backup again");
}

#[test]
fn an_interrupted_move_goes_on_only_to_where_it_began() {
    let server = small();
    let dir = ours(&server);
    assert_eq!(run(&mut apply(&backup(&dir))).0, 0);
    let Some(disk) = SmallDisk::new(5 << 20) else { return };
    let (data, other) = (disk.path().join("data"), dir.path().join("other"));
    let take = |to: &Path| {
        let mut command = xb("xb-redo");
        command.arg("--copy-back").arg(backup(&dir)).arg("--move").arg("--datadir").arg(to);
        command
    };
    refused(&mut take(&data), 1, "no space left on device");
    refused(&mut take(&other), 3, &data.display().to_string());
    assert!(!other.exists());
    // A directory below itself: a part of the files would be a data directory.
    fs::rename(&data, disk.path().join("aside")).unwrap();
    refused(&mut take(&data), 3, "were moved into a data directory");
    fs::remove_dir_all(&data).unwrap_or_default();
    fs::rename(disk.path().join("aside"), &data).unwrap();
    output({
        let mut mount = program("mount");
        mount.args(["-o", "remount,size=1g"]).arg(disk.path());
        mount
    });
    let (code, said) = run(&mut take(&data));
    assert_eq!(code, 0, "{said}");
    for to in [&data, &other] {
        refused(&mut take(to), 3, "were moved into a data directory");
    }
    check::sound(&server, &data).assert_good();
}

#[test]
fn a_directory_begun_with_another_backup_is_refused() {
    let server = small();
    let (one, other) = (ours(&server), ours(&server));
    let Some(disk) = SmallDisk::new(5 << 20) else { return };
    let to = disk.path().join("copy");
    refused(apply(&backup(&one)).arg("--to").arg(&to), 1, "no space left on device");
    refused(apply(&backup(&other)).arg("--to").arg(&to), 1, "with another backup");
    refused(apply(&backup(&one)).arg("--to").arg(&to), 1, "no space left on device");
}

#[test]
fn tables_that_the_manifest_lacks_are_refused() {
    let server = small();
    let whole = ours(&server);
    for name in ["test/other.ibd", "test/other.frm", "test/other.MYD", "xb_other.ibd", "undo009", "test/bank.del"] {
        let dir = copy(&backup(&whole));
        fs::create_dir_all(backup(&dir).join("test")).unwrap();
        fs::write(backup(&dir).join(name), "").unwrap();
        status(&backup(&dir), 3, "is not of this backup");
        refused(&mut apply(&backup(&dir)), 3, name);
    }
    for name in ["README", "mysqld.my", "component_keyring_file.cnf", "full.log", ".keys"] {
        fs::write(backup(&whole).join(name), "").unwrap();
    }
    fs::create_dir(backup(&whole).join("lost+found")).unwrap();
    status(&backup(&whole), 0, "not applied: ready");
}

#[test]
fn a_backup_of_an_unknown_server_is_refused() {
    let server = small();
    let dir = ours(&server);
    let path = backup(&dir).join("xb_begin");
    let mut begin: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    begin["flavour"] = "other".into();
    fs::write(&path, begin.to_string() + "\n").unwrap();
    status(&backup(&dir), 3, "other, which this program does not know");
    refused(&mut apply(&backup(&dir)), 3, "other, which this program does not know");
}

/// A table in a directory of its own, which the server may use.
fn far(server: &Server) -> PathBuf {
    let outside = server.home().join("outside");
    server.sql(&format!(
        "CREATE TABLE test.far (id INT PRIMARY KEY, v INT) ENGINE=InnoDB DATA DIRECTORY='{}'; INSERT INTO test.far VALUES (1, 2)",
        outside.display()
    ));
    outside.join("test/far.ibd")
}

/// Files of the table in the data directory.
fn of_far(data: &Path) -> Vec<String> {
    let names = files(data).into_iter().map(|path| path.to_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("test/far.")).collect()
}

#[test]
fn a_mariadb_table_goes_back_into_its_data_directory() {
    for flavour in Flavour::all() {
        let mut server = Server::new().flavour(flavour).start();
        let place = far(&server);
        let (dir, stock) = (ours(&server), foreign(&server));
        server.stop();
        fs::rename(&place, place.with_extension("away")).unwrap();
        assert_eq!(run(&mut apply_by(flavour, &backup(&dir))).0, 0);
        let back = |data: &Path, options: &[&str]| {
            let mut back = xb("xb-redo");
            run(back.arg("--copy-back").arg(backup(&dir)).arg("--datadir").arg(data).args(options))
        };
        let (plain, data, theirs) = (dir.path().join("plain"), dir.path().join("data"), dir.path().join("theirs"));
        // A path in the backup alone is not followed.
        let (code, said) = back(&plain, &[]);
        assert!(code == 0 && said.contains("where --innodb-directories puts it back"), "{said}");
        assert!(!place.exists() && of_far(&plain).contains(&"test/far.ibd".to_owned()));
        let below = format!("--innodb-directories=/nonexistent;{}", server.home().join("outside").display());
        let (code, said) = back(&data, &[&below]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(of_far(&data), ["test/far.frm", "test/far.isl"]);
        let (code, said) = back(&dir.path().join("again"), &[&below]);
        assert!(code == 1 && said.contains("is there already"), "{said}");
        {
            let copy = server.twin(&data).start();
            assert_eq!(copy.value("SELECT v FROM test.far"), "2");
            // A server that searches for it elsewhere would end with a signal.
            copy.sql("ALTER TABLE test.far ADD COLUMN w INT DEFAULT 3; INSERT INTO test.far VALUES (4, 5, 6)");
            assert_eq!(copy.value("SELECT SUM(w) FROM test.far"), "9");
        }
        // The stock program has put it where it was, too.
        fs::remove_file(&place).unwrap();
        let stock_tool = |mode: &str| {
            let mut tool = server.program("mariadb-backup");
            tool.arg("--no-defaults").arg(mode).arg(format!("--target-dir={}", backup(&stock).display()));
            tool.arg(format!("--datadir={}", theirs.display()));
            Pipeline::new().stage(tool).run().assert_ok();
        };
        stock_tool("--prepare");
        fs::create_dir(&theirs).unwrap();
        stock_tool("--copy-back");
        assert_eq!(of_far(&theirs), of_far(&data), "{flavour:?}");
        assert!(place.exists(), "{flavour:?}");
    }
}

#[test]
fn a_mysql_table_goes_back_into_its_data_directory() {
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let builder = Server::new().flavour(Flavour::Mysql97).layout("innodb-directories", "@HOME@/outside");
    let mut server = builder.start();
    let place = far(&server);
    let outside = server.home().join("outside");
    let dir = ours(&server);
    server.stop();
    fs::rename(&place, place.with_extension("away")).unwrap();
    assert_eq!(run(&mut crate::support::backup::apply_with(&server, &backup(&dir))).0, 0);
    let (options, data) = (dir.path().join("target.cnf"), dir.path().join("data"));
    fs::write(
        &options,
        format!("[mysqld]\ndatadir={}\ninnodb_directories=\"{};/nonexistent\"\n", data.display(), outside.display()),
    )
    .unwrap();
    let (code, said) = run(xb("xb-redo").arg("--copy-back").arg(backup(&dir)).arg("--defaults-file").arg(&options));
    assert_eq!(code, 0, "{said}");
    assert!(place.exists() && of_far(&data).is_empty(), "{:?}", of_far(&data));
    let copy = server.twin(&data).layout("innodb-directories", outside.to_str().unwrap()).start();
    assert_eq!(copy.value("SELECT v FROM test.far"), "2");
    copy.sql("ALTER TABLE test.far ADD COLUMN w INT DEFAULT 3, ALGORITHM=COPY; INSERT INTO test.far VALUES (4, 5, 6)");
    assert_eq!(copy.value("SELECT SUM(w) FROM test.far"), "9");
    assert!(place.exists() && of_far(&data).is_empty(), "the new file is elsewhere: {:?}", of_far(&data));
}

/// Whether the kernel can restrict where a server writes.
fn confines() -> bool {
    let (mut child, confined) =
        xb::io::confine::spawn(&mut Command::new("true"), &[], rustix::thread::CapabilitySet::all()).unwrap();
    child.wait().unwrap();
    confined
}

test_on!(a_server_that_the_kernel_cannot_confine_is_warned_of: mariadb, mysql97);

fn a_server_that_the_kernel_cannot_confine_is_warned_of(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let dir = ours(&server);
    let (code, said) = run(&mut crate::support::backup::apply_with(&server, &backup(&dir)));
    assert_eq!(code, 0, "{said}");
    let warned = said.lines().filter(|line| line.contains("cannot keep the server from writing outside")).count();
    assert_eq!(warned, usize::from(!confines()), "{flavour:?}: {said}");
}
