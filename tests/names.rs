//! A name belongs to one file: in streams, in backups, in data directories.

use std::fs;
use std::path::Path;

use mysql::prelude::Queryable;

use crate::snap::{Held, filled, snap};
use crate::support::backup::{apply_by, take};
use crate::support::{Family, Flavour, Pipeline, Server, check, scratch, test_on, xb};

/// A full backup, rows, an increment; both applied together, and proved against the source.
#[track_caller]
fn full_and_increment(server: &Server, more: &str, copy: impl FnOnce(&Path) -> crate::support::server::Builder) {
    let dir = scratch();
    let (full, increment, to) = (dir.path().join("full"), dir.path().join("inc"), dir.path().join("to"));
    take(server, &[], &full);
    server.sql(more);
    take(server, &[&format!("--incremental-basedir={}", full.display())], &increment);
    let mut apply = xb("xb-redo");
    apply.arg("--apply").arg(&full).arg("--incremental-dir").arg(&increment).arg("--to").arg(&to);
    apply.arg("--server").arg(server.flavour().server()).args(server.plugins());
    Pipeline::new().stage(apply).run().assert_ok();
    check::same(server, &copy(&to).start()).assert_good();
    // The full backup alone, too.
    apply_by(server, &full).assert_ok();
}

const TABLE: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(200)); \
    INSERT INTO d.t SELECT seq, REPEAT('x', 200) FROM test.seq_1_to_2000";

test_on!(system_files_of_one_name_are_told_apart_and_restored: mariadb, mariadb118, mysql97);

fn system_files_of_one_name_are_told_apart_and_restored(flavour: Flavour) {
    let server = Server::new()
        .flavour(flavour)
        .layout("innodb-data-home-dir", "")
        .layout("innodb-data-file-path", "@HOME@/outside/ibdata1:12M;@HOME@/undo/ibdata1:12M:autoextend")
        .start();
    server.sql(TABLE);
    full_and_increment(&server, "UPDATE d.t SET v='y' WHERE id % 3 = 0", |to| {
        server
            .twin(to)
            .option("innodb-data-home-dir", "")
            .option("innodb-data-file-path", "ibdata1:12M;ibdata1_2:12M:autoextend")
    });
}

test_on!(general_and_undo_tablespaces_of_one_name_are_restored: mysql97);

fn general_and_undo_tablespaces_of_one_name_are_restored(flavour: Flavour) {
    let builder = Server::new().flavour(flavour);
    let server = builder.layout("innodb-directories", "@HOME@/outside;@HOME@/undo").start();
    let (outside, other) = (server.home().join("outside"), server.home().join("undo"));
    let (outside, other) = (outside.display(), other.display());
    server.sql(TABLE);
    server.sql(&format!(
        "CREATE TABLESPACE one ADD DATAFILE 'ts.ibd'; CREATE TABLE d.one (id INT PRIMARY KEY) TABLESPACE one; \
         CREATE TABLESPACE two ADD DATAFILE '{outside}/ts.ibd'; CREATE TABLE d.two (id INT PRIMARY KEY) TABLESPACE two; \
         CREATE TABLESPACE three ADD DATAFILE '{other}/ts.ibd'; CREATE TABLE d.three (id INT PRIMARY KEY) TABLESPACE three; \
         CREATE UNDO TABLESPACE u1 ADD DATAFILE '{outside}/u.ibu'; CREATE UNDO TABLESPACE u2 ADD DATAFILE '{other}/u.ibu'; \
         INSERT INTO d.one VALUES (1); INSERT INTO d.two VALUES (2), (22); INSERT INTO d.three VALUES (3), (33), (333)"
    ));
    let more = "INSERT INTO d.one VALUES (4); INSERT INTO d.two VALUES (5); INSERT INTO d.three VALUES (6)";
    full_and_increment(&server, more, |to| server.twin(to));
    // With DDL during the copy, after which names belong to other tables.
    let dir = scratch();
    take(&server, &["--lock-ddl=end"], dir.path());
    apply_by(&server, dir.path()).assert_ok();
    check::same(&server, &server.twin(dir.path()).start()).assert_good();
}

test_on!(a_database_named_like_our_files_is_refused: mariadb, mysql97);

/// A user who may create databases must not be able to make backups unreadable.
fn a_database_named_like_our_files_is_refused(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let mut known = vec!["xb_begin", "xb_manifest", "xb_incomplete", "xb_applied", "xb_merging", "xb_lock"];
    known.extend(["xtrabackup_checkpoints", "xtrabackup_info", "xtrabackup_slave_info", "xtrabackup_logfile"]);
    known.extend(["mariadb_backup_checkpoints", "mariadb_backup_info", "mariadb_backup_slave_info"]);
    for name in known {
        server.sql(&format!("CREATE DATABASE {name}"));
        let run = Pipeline::new().stage(snap(&server)).run();
        run.assert_codes(&[1]);
        assert!(run.stdout.is_empty(), "{name}: {}", run.story());
        assert!(run.stderr(0).contains(&format!("{name}: the database has the name of a file of the backup")));
        assert!(run.stderr(0).contains("--databases-exclude"), "{}", run.story());
        if name == "xb_lock" {
            let mut without = snap(&server);
            without.arg(format!("--databases-exclude={name}"));
            Pipeline::new().stage(without).run().assert_ok();
        }
        server.sql(&format!("DROP DATABASE {name}"));
    }
}

test_on!(databases_called_as_files_of_other_servers_are_restored: mariadb, mysql97);

/// A database of a server is one after a restore, whatever other servers have under that name.
fn databases_called_as_files_of_other_servers_are_restored(flavour: Flavour) {
    let names = match flavour.family() {
        Family::Mariadb => "undo001 undo_001 ibdata2",
        Family::Mysql => "undo001 ibdata2",
    };
    let server = Server::new().flavour(flavour).start();
    for name in names.split(' ') {
        server.sql(&format!("CREATE DATABASE {name}; CREATE TABLE {name}.t AS SELECT * FROM test.seq_1_to_20"));
    }
    let dir = scratch();
    take(&server, &[], dir.path());
    apply_by(&server, dir.path()).assert_ok();
    let data = scratch();
    let back = xb("xb-redo").arg("--copy-back").arg(dir.path()).arg("--datadir").arg(data.path()).output().unwrap();
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    check::same(&server, &server.twin(data.path()).start()).assert_good();
}

#[test]
fn such_a_database_created_meanwhile_ends_the_backup() {
    for name in ["xb_manifest", "xtrabackup_info", "ib_logfile1"] {
        let server = filled();
        let held = Held::in_the_middle(snap(&server), &server);
        server.sql(&format!("CREATE DATABASE {name}; CREATE TABLE {name}.t (id INT PRIMARY KEY)"));
        let (_, code, story) = held.finish();
        let expected = if name == "ib_logfile1" { Some(0) } else { Some(1) };
        assert_eq!(code, expected, "{story}");
        assert!(code == Some(0) || story.contains("the database has the name of a file of the backup"), "{story}");
    }
}

test_on!(the_longest_names_are_restored_or_refused_at_once: mariadb, mysql97);

/// A table of 49 such letters has a file of 249 bytes, of which an increment's is 255.
fn the_longest_names_are_restored_or_refused_at_once(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let (fits, long) = ("\u{6f22}".repeat(49), "\u{6f22}".repeat(50));
    server.sql(&format!(
        "CREATE DATABASE d; CREATE TABLE d.`{fits}` (id INT PRIMARY KEY); INSERT INTO d.`{fits}` VALUES (1)"
    ));
    full_and_increment(&server, &format!("INSERT INTO d.`{fits}` VALUES (2)"), |to| server.twin(to));
    // A full backup has room for more; compressed and encrypted, too.
    server.sql(&format!("CREATE TABLE d.`{long}` (id INT PRIMARY KEY); INSERT INTO d.`{long}` VALUES (3)"));
    let dir = scratch();
    let (key, to) = (dir.path().join("key"), dir.path().join("to"));
    assert!(xb("xb-crypt").arg("--generate-key").arg(&key).status().unwrap().success());
    Pipeline::new()
        .stage(snap(&server))
        .stage(xb("xb-redo"))
        .stage(xb("xb-zip"))
        .stage(xb("xb-crypt").arg("-k").arg(&key))
        .stage(xb("xb-crypt").arg("-d").arg("-k").arg(&key))
        .stage(xb("xb-zip").arg("-d"))
        .stage(xb("xb-unpack").arg("-C").arg(&to))
        .run()
        .assert_ok();
    apply_by(&server, &to).assert_ok();
    check::same(&server, &server.twin(&to).start()).assert_good();
    let mut increment = snap(&server);
    increment.arg("--incremental-lsn=1");
    let run = Pipeline::new().stage(increment).run();
    run.assert_codes(&[1]);
    assert!(run.stdout.is_empty() && run.stderr(0).contains("260 bytes, a file system takes 255"), "{}", run.story());
}

/// Paths of members up to what a stream takes.
fn longest_paths(flavour: Flavour) {
    if !flavour.or_skip() {
        return;
    }
    let server = Server::new().flavour(flavour).start();
    let name =
        |database: usize, table: usize| format!("`{}`.`{}`", "\u{6f22}".repeat(database), "\u{6f22}".repeat(table));
    let create = |database: usize, table: usize| {
        server.sql(&format!("CREATE DATABASE `{}`", "\u{6f22}".repeat(database)));
        let table = name(database, table);
        server.sql(&format!("CREATE TABLE {table} (id INT PRIMARY KEY); INSERT INTO {table} VALUES (1)"));
    };
    let dir = scratch();
    let key = dir.path().join("key");
    assert!(xb("xb-crypt").arg("--generate-key").arg(&key).status().unwrap().success());
    let coded = |options: &[&str], raw: &[&str], target: &Path| {
        Pipeline::new()
            .stage(snap(&server).args(options))
            .stage(xb("xb-redo"))
            .stage(xb("xb-zip").args(raw))
            .stage(xb("xb-crypt").args(raw).arg("-k").arg(&key))
            .stage(xb("xb-crypt").args(raw).arg("-d").arg("-k").arg(&key))
            .stage(xb("xb-zip").args(raw).arg("-d"))
            .stage(xb("xb-unpack").arg("-C").arg(target))
            .run()
    };
    // 490 bytes: an increment's, compressed and encrypted, has 507.
    create(50, 47);
    let (full, increment) = (dir.path().join("full"), dir.path().join("increment"));
    coded(&[], &[], &full).assert_ok();
    server.sql(&format!("INSERT INTO {} VALUES (2)", name(50, 47)));
    coded(&[&format!("--incremental-basedir={}", full.display())], &[], &increment).assert_ok();
    let mut merge = xb("xb-redo");
    merge.arg("--merge").arg(&full).arg("--incremental-dir").arg(&increment);
    Pipeline::new().stage(merge).run().assert_ok();
    apply_by(&server, &full).assert_ok();
    check::same(&server, &server.twin(&full).start()).assert_good();
    // 510 bytes, of which 254 are the file's: room for no suffix, which is said before anything is sent.
    create(51, 50);
    let run = coded(&[], &[], &dir.path().join("none"));
    assert_eq!(run.codes()[2], 1, "{}", run.story());
    assert!(run.stderr(0).contains("its path is too long for a suffix of xb-zip"), "{}", run.story());
    assert!(run.stderr(2).contains("its new name would have 514 bytes; 511 is the limit"), "{}", run.story());
    let raw = dir.path().join("raw");
    coded(&[], &["--raw"], &raw).assert_ok();
    apply_by(&server, &raw).assert_ok();
    check::same(&server, &server.twin(&raw).start()).assert_good();
    let run = Pipeline::new().stage(snap(&server).arg("--incremental-lsn=1")).run();
    run.assert_codes(&[1]);
    assert!(run.stdout.is_empty() && run.stderr(0).contains("is too long: in the backup it has"), "{}", run.story());
}

#[test]
fn mariadb_longest_paths_are_restored_or_refused_at_once() {
    longest_paths(Flavour::Installed);
}

#[test]
fn mysql_longest_paths_are_restored_or_refused_at_once() {
    longest_paths(Flavour::Mysql97);
}

/// MariaDB's recovery ends at such a name; a failed statement leaves it in the log.
#[test]
fn a_log_with_too_long_a_name_fails() {
    let server = Server::new().start();
    let table = "\u{6f22}".repeat(49) + "pp";
    server.sql("CREATE DATABASE d");
    let create = format!("CREATE TABLE d.`{table}` (id INT) PARTITION BY HASH (id) (PARTITION aaa, PARTITION b)");
    server.connect().query_drop(create).expect_err("the file system takes the name");
    let to = scratch();
    let run = Pipeline::new()
        .stage(snap(&server))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(to.path().join("to")))
        .run();
    assert_eq!(run.codes()[1], 5, "{}", run.story());
    assert!(run.stderr(1).contains("a file name of more than 255 bytes, at lsn "), "{}", run.story());
}

test_on!(a_restored_directory_is_copied_offline: mariadb, mariadb118, mysql97);

/// What `--copy-back` made, before a server has run on it: its log still has our name.
fn a_restored_directory_is_copied_offline(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql(TABLE);
    let dir = scratch();
    let (full, data, again) = (dir.path().join("full"), dir.path().join("data"), dir.path().join("again"));
    take(&server, &[], &full);
    apply_by(&server, &full).assert_ok();
    let back = xb("xb-redo").arg("--copy-back").arg(&full).arg("--datadir").arg(&data).output().unwrap();
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    Pipeline::new()
        .stage(xb("xb-snap").args(["--no-defaults", "--offline"]).arg(format!("--datadir={}", data.display())))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(&again))
        .run()
        .assert_ok();
    apply_by(&server, &again).assert_ok();
    check::same(&server, &server.twin(&again).start()).assert_good();
}

/// The directory of another program's backup may contain anything; all of it goes into a data directory.
#[test]
fn xb_redo_refuses_what_cannot_be_unpacked() {
    let server = Server::new().start();
    let stream = Pipeline::new().stage(snap(&server)).run().stdout;
    let member = |name: &str| crate::support::tool::member(name, b"x");
    let end = stream.windows(25).rposition(|bytes| bytes.starts_with(b"XBSTCK01\0P\x0b\0\0\0xb_manifest")).unwrap();
    for (more, words) in [
        ([member("d/a"), member("d/a")].concat(), "d/a: comes a second time"),
        ([member("d/a"), member("d/a/b")].concat(), "d/a/b: is both a file and a directory"),
        (member("ib_logfile0/t.ibd"), "ib_logfile0/t.ibd is below a directory with the name of the log"),
    ] {
        let stream = [&stream[..end], &more, &stream[end..]].concat();
        let run = Pipeline::new().stage(xb("xb-redo")).stdin_bytes(stream).run();
        assert!(run.codes() == [3] && run.stderr(0).contains(words), "{words}: {}", run.story());
    }
    fs::metadata(server.data()).unwrap();
}
