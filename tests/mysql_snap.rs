//! The guarantees of xb-snap's streams of MySQL, with real servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::hot_backup::pipeline;
use crate::snap::{Held, apply, as_weak, assert_pages_good, files, manifest, names, password_file, snap};
use crate::support::backup::apply_with;
use crate::support::fault::{of_the_servers_group, ordinary_user};
use crate::support::pipeline::Relay;
use crate::support::server::Builder;
use crate::support::tool::tree;
use crate::support::{Flavour, Load, Pipeline, Server, check, keyring, root, scratch, wait_until, xb};

/// For a server to notice something; a run that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server to be, or nothing where there is none.
fn mysql() -> Option<Builder> {
    let outside = |builder: Builder| builder.layout("innodb-directories", "@HOME@/outside");
    Flavour::Mysql97.or_skip().then(|| outside(Server::new().flavour(Flavour::Mysql97)))
}

/// A stream that is complete and whose pages are good.
#[track_caller]
fn copied(command: Command) -> Vec<u8> {
    let run = Pipeline::new().stage(command).run();
    run.assert_ok();
    assert!(run.stderr(0).contains("snapshot complete"), "{}", run.story());
    assert_pages_good(&run.stdout);
    run.stdout
}

/// Tables of every kind that has its own files, with rows that are on disk.
fn tables(server: &Server) {
    let outside = server.home().join("outside");
    server.sql(&format!(
        "CREATE DATABASE sb; USE sb; CREATE TABLE plain (id INT PRIMARY KEY, text VARCHAR(200)); \
         INSERT INTO plain SELECT seq, REPEAT('x', 200) FROM test.seq_1_to_2000; \
         CREATE TABLE parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2; \
         CREATE TABLE far (id INT PRIMARY KEY) DATA DIRECTORY='{0}'; \
         CREATE TABLESPACE inside ADD DATAFILE 'inside.ibd'; CREATE TABLE general (id INT) TABLESPACE inside; \
         CREATE TABLESPACE abroad ADD DATAFILE '{0}/abroad.ibd'; CREATE TABLE general2 (id INT) TABLESPACE abroad; \
         CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu'; \
         INSERT INTO far VALUES (1); INSERT INTO general VALUES (1); INSERT INTO general2 VALUES (1); \
         INSERT INTO parts VALUES (1), (2)",
        outside.display()
    ));
    for algorithm in ["zlib", "lz4"] {
        // Holes must be smaller than pages.
        let how = if server.value("SELECT @@innodb_page_size") == "4096" { "none" } else { algorithm };
        server.sql(&format!(
            "CREATE TABLE sb.{algorithm} COMPRESSION='{how}' AS SELECT seq, REPEAT('y', 500) AS text \
             FROM test.seq_1_to_2000"
        ));
    }
}

/// A clean stop and a start: everything is in its file.
fn settle(server: &mut Server) {
    server.restart();
}

#[test]
fn every_layout_is_copied_and_verified() {
    let Some(builder) = mysql() else { return };
    let layouts = [
        ("16k", builder.clone()),
        ("4k", builder.clone().layout("innodb-page-size", "4k")),
        (
            "64k",
            builder
                .layout("innodb-page-size", "64k")
                .layout("innodb-data-file-path", "ibdata1:20M;ibdata2:8M:autoextend")
                .undo_apart(),
        ),
    ];
    for (name, builder) in layouts {
        let mut server = builder.start();
        tables(&server);
        if name != "64k" {
            server.sql("CREATE TABLE sb.zip ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1 AS SELECT * FROM sb.plain");
        }
        settle(&mut server);
        let dir = files(&copied(snap(&server)));
        let there = names(dir.path());
        let expect = [
            "abroad.ibd",
            "backup-my.cnf",
            "ibdata1",
            "inside.ibd",
            "more.ibu",
            "mysql.ibd",
            "sb/far.ibd",
            "sb/lz4.ibd",
            "sb/parts#p#p0.ibd",
            "sb/parts#p#p1.ibd",
            "sb/plain.ibd",
            "sb/zlib.ibd",
            "undo_001",
            "undo_002",
            "xtrabackup_binlog_info",
            "xtrabackup_checkpoints",
            "xtrabackup_info",
            "xtrabackup_tablespaces",
            "mysql/general_log.CSV",
            "xb_begin",
            "xb_manifest",
        ];
        for file in expect {
            assert!(there.iter().any(|one| one == file), "{name}: {file} is missing: {there:?}");
        }
        assert_eq!(there.iter().any(|one| one == "ibdata2"), name == "64k");
        let own = |one: &String| {
            let file = one.as_str();
            file.starts_with('#') || file.starts_with("ibtmp") || file == "auto.cnf" || file.ends_with(".pem")
        };
        assert!(!there.iter().any(own), "{name}: the server's own: {there:?}");
        let (entries, last) = manifest(dir.path());
        assert_eq!(entries["sb/far.ibd"]["location"], server.home().join("outside/sb/far.ibd").to_str().unwrap());
        assert!(entries["sb/plain.ibd"]["location"].is_null());
        assert_eq!(entries["mysql.ibd"]["space_id"], 0xffff_fffe_u32);
        assert_eq!(last["server_options"]["log_bin"], "binlog");
        // What no one writes to is the same byte for byte.
        for file in ["sb/plain.ibd", "sb/zlib.ibd", "inside.ibd"] {
            let (copy, live) = (fs::read(dir.path().join(file)).unwrap(), fs::read(server.data().join(file)).unwrap());
            assert!(copy == live, "{name}: {file} differs");
        }
    }
}

/// Flips a bit in the last page of this type; the page's number.
fn damage(path: &Path, page_size: usize, kind: u16) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let page = bytes.chunks(page_size).rposition(|page| page[24..26] == kind.to_be_bytes()).expect("no such page");
    bytes[page * page_size + 60] ^= 1;
    fs::write(path, bytes).unwrap();
    page
}

/// On the server it ends the backup; in a stream that was modified, it is detected.
#[test]
fn bad_pages_are_never_taken_for_good_ones() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    tables(&server);
    server.sql("CREATE TABLE sb.zip ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4 AS SELECT * FROM sb.plain");
    settle(&mut server);
    // A compressed page is verified in its uncompressed form.
    let kinds = [("plain", 16 << 10, 17855), ("zlib", 16 << 10, 14), ("zip", 4 << 10, 17855)];
    let damaged = kinds.map(|(table, page_size, kind)| {
        let file = format!("sb/{table}.ibd");
        let page = damage(&server.data().join(&file), page_size, kind);
        // At the same time: each reads its page again for a while.
        let running = Pipeline::new().stage(snap(&server).arg(format!("--tables=^sb[.]({table}|far)$"))).start();
        (file, page, running)
    });
    for (file, page, running) in damaged {
        let run = running.wait();
        run.assert_codes(&[3]);
        assert!(run.stderr(0).contains(&format!("{file}: page {page} ")), "{}", run.story());
        assert!(!bstr::ByteSlice::contains_str(run.stdout.as_slice(), "xb_manifest"));
        let packed = Pipeline::new().stage(xb("xb-pack").arg("-C").arg(server.data()).arg(&file)).run();
        packed.assert_ok();
        let verify = |more: &[&str]| {
            Pipeline::new().stage(xb("xb-unpack").arg("--verify").args(more)).stdin_bytes(&*packed.stdout).run()
        };
        verify(&[]).assert_ok();
        let run = verify(&["--pages"]);
        run.assert_codes(&[3]);
        assert!(run.stderr(0).contains(&format!("{file}: page {page}: ")), "{}", run.story());
    }
}

#[test]
fn tablespaces_elsewhere_are_restored_and_served() {
    let Some(builder) = mysql() else { return };
    let server = builder.layout("innodb-page-size", "8k").start();
    tables(&server);
    let load = Load::on(&server).bank(1).start();
    load.wait_for(100);
    let dir = scratch();
    let running = pipeline(&server, &[], Relay::default(), dir.path()).start();
    // Some of it comes by the log.
    server.sql("UPDATE sb.far SET id=7; INSERT INTO sb.general2 VALUES (7)");
    running.wait().assert_ok();
    load.stop();
    apply(&server, dir.path());
    check::restored(&server, dir.path()).assert_good();
}

/// What the group `mysql` of the packages is for.
#[test]
fn a_user_of_the_servers_group_can_back_up() {
    let Some(builder) = mysql().filter(|_| root()) else { return };
    let server = builder.start();
    let load = Load::on(&server).bank(1).engines(1).start();
    load.wait_for(100);
    fs::set_permissions(server.home(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(server.data(), fs::Permissions::from_mode(0o750)).unwrap();
    let run = Pipeline::new().stage(ordinary_user(snap(&server))).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("permission denied\nhint: run xb-snap as the server's user"), "{}", run.story());
    let dir = scratch();
    std::os::unix::fs::chown(dir.path(), Some(65534), Some(65534)).unwrap();
    let mut unpack = xb("xb-unpack");
    unpack.arg("-C").arg(dir.path());
    Pipeline::new()
        .stage(of_the_servers_group(snap(&server)))
        .stage(of_the_servers_group(xb("xb-redo")))
        .stage(ordinary_user(unpack))
        .run()
        .assert_ok();
    load.stop();
    Pipeline::new().stage(ordinary_user(apply_with(&server, dir.path()))).run().assert_ok();
    check::restored(&server, dir.path()).assert_good();
}

#[test]
fn encrypted_tablespaces_are_copied_without_keys() {
    let Some(builder) = mysql() else { return };
    let mut server = keyring::start(builder);
    server.sql(
        "SET GLOBAL innodb_undo_log_encrypt=ON; CREATE DATABASE sb; USE sb; \
         CREATE TABLE secret ENCRYPTION='Y' AS SELECT seq, REPEAT('s', 300) AS text FROM test.seq_1_to_2000; \
         CREATE TABLE both_ways ENCRYPTION='Y' COMPRESSION='lz4' AS SELECT * FROM secret; \
         CREATE TABLE zip ENCRYPTION='Y' ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 AS SELECT * FROM secret; \
         CREATE TABLE places (id INT PRIMARY KEY, place GEOMETRY NOT NULL SRID 0, SPATIAL INDEX (place)) ENCRYPTION='Y'; \
         INSERT INTO places SELECT seq, POINT(seq, seq) FROM test.seq_1_to_1000; \
         CREATE TABLESPACE closed ADD DATAFILE 'closed.ibd' ENCRYPTION='Y'; \
         CREATE TABLE general TABLESPACE closed ENCRYPTION='Y' AS SELECT * FROM secret",
    );
    settle(&mut server);
    let stream = copied(snap(&server));
    let dir = files(&stream);
    for file in ["sb/secret.ibd", "sb/both_ways.ibd", "sb/zip.ibd", "sb/places.ibd", "closed.ibd"] {
        let copy = fs::read(dir.path().join(file)).unwrap();
        assert!(copy == fs::read(server.data().join(file)).unwrap(), "{file} differs");
        let size = if file == "sb/zip.ibd" { 8192 } else { 16384 };
        let encrypted = copy.chunks(size).filter(|page| page[24] == 0 && (15..=17).contains(&page[25])).count();
        assert!(encrypted > 1, "{file} has {encrypted} encrypted pages");
    }
    let keys = names(dir.path()).into_iter().find(|name| !name.contains('/') && name.contains("keyring"));
    assert_eq!(keys, None, "keys do not go with what they lock");
}

#[test]
fn files_that_are_no_tablespaces_do_not_matter() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    server.sql("CREATE DATABASE sb; CREATE DATABASE nothing");
    fs::write(server.data().join("sb/short.ibd"), [7; 100]).unwrap();
    fs::write(server.data().join("sb/empty.ibd"), []).unwrap();
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_ok();
    let there = names(files(&run.stdout).path());
    assert!(there.iter().any(|one| one == "nothing/db.opt"), "{there:?}");
    for file in ["sb/short.ibd", "sb/empty.ibd"] {
        assert!(
            !there.iter().any(|one| one == file) && run.stderr(0).contains(&format!("{file}: left out: ")),
            "{file}"
        );
    }
}

#[test]
fn a_missing_privilege_is_named_in_a_statement() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    server.sql(
        "CREATE DATABASE my_db; CREATE TABLE my_db.m (a INT) ENGINE=MyISAM; \
         CREATE USER weak@localhost IDENTIFIED WITH caching_sha2_password BY 'secret'",
    );
    let (_secret, file) = password_file();
    let weak = || as_weak(&server, &file);
    let run = Pipeline::new().stage(weak()).run();
    run.assert_codes(&[1]);
    assert!(run.stdout.is_empty());
    let story = run.story();
    let hint = story.lines().find_map(|line| line.split_once("hint: ")).expect("no hint").1;
    let expect = "GRANT BACKUP_ADMIN, RELOAD, PROCESS ON *.* TO 'weak'@'localhost'; \
        GRANT SELECT ON `performance_schema`.`log_status` TO 'weak'@'localhost'; \
        GRANT SELECT, LOCK TABLES ON `my_db`.* TO 'weak'@'localhost';";
    assert_eq!(hint, expect);
    // They are enough, by a role as well.
    server.sql(&format!("CREATE ROLE backup; {}", hint.replace("'weak'@'localhost'", "backup")));
    server.sql("GRANT backup TO weak@localhost; SET DEFAULT ROLE backup TO weak@localhost");
    copied(weak());
}

#[test]
fn tables_without_transactions_are_locked_by_name() {
    let Some(builder) = mysql() else { return };
    let server = builder.option("general-log", "ON").option("general-log-file", "@HOME@/statements").start();
    server.sql(
        "CREATE DATABASE sb; USE sb; CREATE TABLE `m-1` (id INT, text VARCHAR(1000)) ENGINE=MyISAM; \
         CREATE TABLE c (id INT NOT NULL) ENGINE=CSV; CREATE TABLE i (id INT PRIMARY KEY); \
         CREATE TABLE mem (id INT) ENGINE=MEMORY; INSERT INTO c VALUES (1)",
    );
    // More than pipes hold.
    server.sql("INSERT INTO sb.`m-1` SELECT seq, REPEAT('z', 1000) FROM test.seq_1_to_5000");
    let said = || fs::read_to_string(server.home().join("statements")).unwrap();
    let mut held = Held::start(snap(&server));
    while !said().contains(" READ LOCK") {
        held.read(256 << 10);
        // No lock is held while InnoDB is copied.
        server.sql("INSERT INTO sb.i SELECT COUNT(*) FROM sb.i");
    }
    // From here on nobody reads the stream; the locks are still released.
    wait_until("the locks are released", PATIENCE, || said().contains("UNLOCK INSTANCE"));
    server.sql("INSERT INTO sb.`m-1` VALUES (0, 'late')");
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    let statements = said();
    assert!(statements.contains("TABLES `sb`.`c`, `sb`.`m-1` WITH READ LOCK"), "{statements}");
    assert!(!statements.contains("TABLES WITH READ LOCK"), "{statements}");
    let dir = files(&stream);
    let data = |name: &str| fs::metadata(server.data().join(name)).unwrap().len();
    let copy = fs::metadata(dir.path().join("sb/m@002d1.MYD")).unwrap().len();
    assert!(copy > 4 << 20 && copy < data("sb/m@002d1.MYD"), "{copy}");
    assert_eq!(fs::read(dir.path().join("sb/c.CSV")).unwrap(), fs::read(server.data().join("sb/c.CSV")).unwrap());
}

#[test]
fn ddl_waits_until_the_copy_ends() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    let mut held = Held::start(snap(&server));
    held.read(4 << 20);
    let mut other = server.connect();
    other.query_drop("SET SESSION lock_wait_timeout=1").unwrap();
    let refused = other.query_drop("CREATE DATABASE late").unwrap_err();
    assert!(refused.to_string().contains("1205"), "{refused}");
    let (_, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    other.query_drop("CREATE DATABASE late").unwrap();
}

#[test]
fn a_lock_that_is_not_granted_is_given_up() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.m (id INT) ENGINE=MyISAM");
    let refused = |words: [&str; 2]| {
        let run = Pipeline::new().stage(snap(&server).arg("--lock-timeout=1")).run();
        run.assert_codes(&[1]);
        assert!(words.iter().all(|words| run.stderr(0).contains(words)), "{}", run.story());
        assert!(!bstr::ByteSlice::contains_str(run.stdout.as_slice(), "xb_manifest"));
    };
    let mut busy = server.connect();
    let ddl = "CREATE TABLE sb.slow AS SELECT SLEEP(4) AS nothing";
    let working = std::thread::spawn(move || busy.query_drop(ddl).map(|()| busy));
    let running = format!("SELECT COUNT(*) FROM performance_schema.processlist WHERE info='{ddl}'");
    wait_until("the statement runs", PATIENCE, || server.value(&running) == "1");
    refused(["LOCK INSTANCE FOR BACKUP not granted within 1 s", ddl]);
    let mut busy = working.join().unwrap().unwrap();
    busy.query_drop("LOCK TABLES sb.m WRITE").unwrap();
    refused([
        "FLUSH TABLES `sb`.`m`, ... WITH READ LOCK not granted within 1 s",
        " of root holds it, and has been idle",
    ]);
    // No lock is held any more, and nothing blocks.
    busy.query_drop("UNLOCK TABLES").unwrap();
    server.sql("DROP TABLE sb.slow; INSERT INTO sb.m VALUES (1)");
    copied(snap(&server));
}

#[test]
fn a_lost_session_makes_the_backup_invalid() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    let mut held = Held::start(snap(&server));
    held.read(4 << 20);
    let holder = server.value(
        "SELECT t.PROCESSLIST_ID FROM performance_schema.metadata_locks l JOIN performance_schema.threads t \
         ON t.THREAD_ID = l.OWNER_THREAD_ID WHERE l.OBJECT_TYPE = 'BACKUP LOCK'",
    );
    server.sql(&format!("KILL {holder}"));
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(5), "{story}");
    assert!(story.contains("lock"), "{story}");
    assert!(!bstr::ByteSlice::contains_str(stream.as_slice(), "xb_manifest"));
}

#[test]
fn what_cannot_be_promised_is_refused() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    for arguments in ["--lock-ddl=off", "--no-lock"] {
        let mut command = snap(&server);
        command.arg(arguments);
        let run = Pipeline::new().stage(command).run();
        run.assert_codes(&[2]);
        assert!(run.stdout.is_empty(), "{}", run.story());
    }
    // The files of another server.
    let other = scratch();
    fs::write(other.path().join("auto.cnf"), "[auto]\nserver-uuid=00000000-0000-0000-0000-000000000001\n").unwrap();
    fs::copy(server.data().join("ibdata1"), other.path().join("ibdata1")).unwrap();
    let mut command = snap(&server);
    command.arg("--datadir").arg(other.path());
    let run = Pipeline::new().stage(command).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("belongs to the server 00000000-0000-0000-0000-000000000001"), "{}", run.story());
    // Redo logging switched off.
    server.sql("ALTER INSTANCE DISABLE INNODB REDO_LOG");
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("hint: ALTER INSTANCE ENABLE INNODB REDO_LOG"), "{}", run.story());
}

#[test]
fn the_position_comes_with_its_binary_log_and_its_gtids() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    server.sql(
        "CREATE DATABASE sb; CREATE TABLE sb.t (id INT PRIMARY KEY); SET gtid_next='AUTOMATIC:one_tag'; \
         INSERT INTO sb.t VALUES (1); INSERT INTO sb.t VALUES (2); SET gtid_next='AUTOMATIC'; INSERT INTO sb.t VALUES (3)",
    );
    let dir = files(&copied(snap(&server)));
    let (_, last) = manifest(dir.path());
    let executed = server.value("SELECT @@global.gtid_executed").replace('\n', "");
    assert!(executed.contains(":one_tag:1-2"), "{executed}");
    assert_eq!(last["binlog"]["gtid"], executed.as_str());
    let file = last["binlog"]["file"].as_str().unwrap();
    let position = last["binlog"]["position"].as_u64().unwrap();
    let info = fs::read_to_string(dir.path().join("xtrabackup_binlog_info")).unwrap();
    assert_eq!(info, format!("{file}\t{position}\t{executed}\n"));
    let tail = fs::read(dir.path().join(file)).unwrap();
    assert_eq!(tail.len() as u64, position);
    assert!(fs::read(server.data().join(file)).unwrap().starts_with(&tail));
    assert_eq!(fs::read_to_string(dir.path().join("binlog.index")).unwrap(), format!("./{file}\n"));
}

#[test]
fn a_server_without_binary_log_has_no_position() {
    let Some(builder) = mysql() else { return };
    let server = builder.flag("skip-log-bin").start();
    let dir = files(&copied(snap(&server)));
    let (_, last) = manifest(dir.path());
    assert!(last["binlog"].is_null() && last["end_lsn"].as_u64().unwrap() > 0);
    assert!(!dir.path().join("xtrabackup_binlog_info").exists());
}

#[test]
fn a_partial_backup_has_the_tables_that_are_wanted() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    server.sql(
        "CREATE DATABASE sb; USE sb; CREATE TABLE a (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2; \
         CREATE TABLE b (id INT); CREATE TABLE m (id INT) ENGINE=MyISAM; CREATE TABLE n (id INT) ENGINE=MyISAM",
    );
    let mut command = snap(&server);
    command.arg("--tables=^sb[.]a$,^sb[.]m$");
    let there = names(files(&copied(command)).path());
    let of_sb: Vec<&str> = there.iter().filter(|name| name.starts_with("sb/")).map(|name| &name[3..4]).collect();
    assert_eq!(of_sb, ["a", "a", "m", "m", "m"], "{there:?}");
    assert!(there.iter().any(|name| name == "mysql.ibd"));
}

/// At any moment there are transactions in the binary log that are only prepared in the redo log.
#[test]
fn a_crashed_servers_copy_recovers_the_same() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    server.sql("CREATE TABLE test.t (id BIGINT AUTO_INCREMENT PRIMARY KEY)");
    // A server drops what looks like the suffix of this name.
    let options = server.home().join("offline.cnf");
    fs::write(&options, format!("[mysqld]\ndatadir={}\nlog-bin=binlog.log\n", server.data().display())).unwrap();
    for round in 1..=3 {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let mut conn = server.connect();
                std::thread::spawn(move || while conn.query_drop("INSERT INTO test.t VALUES ()").is_ok() {})
            })
            .collect();
        let rows = |server: &Server| server.value("SELECT COUNT(*) FROM test.t").parse::<u32>().unwrap();
        wait_until("some rows", Duration::from_secs(60), || rows(&server) > 200 * round);
        server.kill();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let mut partial = xb("xb-snap");
        partial.arg(format!("--defaults-file={}", options.display())).args(["--offline", "--databases=test"]);
        let run = Pipeline::new().stage(partial).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains("a backup of some tables could not be applied"), "{}", run.story());
        let dir = scratch();
        let mut offline = xb("xb-snap");
        offline.arg(format!("--defaults-file={}", options.display())).arg("--offline");
        let mut unpack = xb("xb-unpack");
        unpack.arg("-C").arg(dir.path());
        let run = Pipeline::new().stage(offline).stage(xb("xb-redo")).stage(unpack).run();
        run.assert_ok();
        assert!(dir.path().join("binlog.index").exists());
        assert!(!run.stderr(0).contains("stay prepared"), "{}", run.story());
        apply(&server, dir.path());
        server.start_again();
        let copy = server.twin(dir.path()).start();
        assert_eq!(rows(&copy), rows(&server));
    }
}

#[test]
fn a_stopped_server_is_copied_without_a_connection() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    tables(&server);
    let offline = |server: &Server| {
        let options = format!(
            "[mysqld]\ndatadir={}\ninnodb-directories={}\n",
            server.data().display(),
            server.home().join("outside").display()
        );
        let file = server.home().join("offline.cnf");
        fs::write(&file, options).unwrap();
        let mut command = xb("xb-snap");
        command.arg(format!("--defaults-file={}", file.display())).arg("--offline");
        command
    };
    let run = Pipeline::new().stage(offline(&server)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("a server runs on it"), "{}", run.story());
    server.stop();
    let dir = files(&copied(offline(&server)));
    let there = names(dir.path());
    for file in ["ibdata1", "mysql.ibd", "abroad.ibd", "sb/far.ibd", "sb/plain.ibd", "more.ibu", "undo_001"] {
        assert!(there.iter().any(|one| one == file), "{file} is missing: {there:?}");
    }
    let same = |file: &str, live: &Path| {
        assert!(fs::read(dir.path().join(file)).unwrap() == fs::read(live).unwrap(), "{file}")
    };
    same("sb/far.ibd", &server.home().join("outside/sb/far.ibd"));
    same("ibdata1", &server.data().join("ibdata1"));
    let begin: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("xb_begin")).unwrap()).unwrap();
    let (_, last) = manifest(dir.path());
    assert_eq!((&begin["flavour"], &begin["redo"]["format"]), (&"mysql".into(), &"6".into()));
    assert_eq!(last["end_lsn"], begin["redo"]["checkpoint_lsn"], "nothing is to be recovered after a clean stop");
    // After a crash there is.
    server.start_again();
    server.sql("INSERT INTO sb.far VALUES (2)");
    server.kill();
    let dir = scratch();
    let mut unpack = xb("xb-unpack");
    unpack.arg("-C").arg(dir.path());
    Pipeline::new().stage(offline(&server)).stage(xb("xb-redo")).stage(unpack).run().assert_ok();
    let begin: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("xb_begin")).unwrap()).unwrap();
    let (_, last) = manifest(dir.path());
    assert!(last["end_lsn"].as_u64() > begin["redo"]["checkpoint_lsn"].as_u64());
    // The originals of external files are not in use; they must still not be changed.
    let outside = || tree(&server.home().join("outside"));
    let originals = outside();
    assert!(originals.len() == 2, "{:?}", originals.keys());
    apply(&server, dir.path());
    let copy = server.twin(dir.path()).option("innodb-directories", "").start();
    let rows = copy.value("SELECT COUNT(*) FROM sb.far JOIN sb.general2 USING (id)");
    assert_eq!(rows, "1");
    copy.sql("ALTER TABLE sb.far FORCE; INSERT INTO sb.far VALUES (3)");
    assert!(outside() == originals, "an original was written to");
    copy.sql("DELETE FROM sb.far WHERE id=3");
    server.start_again();
    check::same(&server, &copy).assert_good();
}

/// The server may see a file that is not visible here: in a container, or a private mount.
#[test]
fn unseen_files_of_the_server_end_the_backup() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.undo_apart().start();
    tables(&server);
    settle(&mut server);
    let outside = server.home().join("outside");
    let undo = std::path::PathBuf::from(server.value("SELECT @@innodb_undo_directory"));
    let refused = |hidden: &Path, place: &Path, what: &str| {
        let aside = hidden.with_extension("hidden");
        fs::rename(hidden, &aside).unwrap();
        let run = Pipeline::new().stage(snap(&server)).run();
        fs::rename(&aside, hidden).unwrap();
        run.assert_codes(&[1]);
        let said = run.stderr(0);
        assert!(said.contains(&format!("{}: {what}", place.display())) && said.contains("hint: "), "{}", run.story());
    };
    refused(&outside.join("sb/far.ibd"), &outside.join("sb/far.ibd"), "is not there, but the server has");
    refused(&undo, &undo, "is not there");
    // A table that was discarded has no file.
    server.sql("ALTER TABLE sb.far DISCARD TABLESPACE");
    assert!(!outside.join("sb/far.ibd").exists());
    let there = names(files(&copied(snap(&server))).path());
    assert!(!there.iter().any(|name| name == "sb/far.ibd"), "{there:?}");
}
