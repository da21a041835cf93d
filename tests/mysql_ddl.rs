//! `--lock-ddl=end` on MySQL: DDL runs while files are copied, and the copy is right.

use std::fs;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::hot_backup::{apply, pipeline, prove, status};
use crate::snap::{Held, assert_pages_good, files, manifest, names, snap};
use crate::support::pipeline::{Relay, Run};
use crate::support::server::Builder;
use crate::support::{Flavour, Load, Server, check, keyring, rounds, scratch, wait_until};

const END: &str = "--lock-ddl=end";

fn mysql() -> Option<Builder> {
    let outside = |builder: Builder| builder.layout("innodb-directories", "@HOME@/outside");
    Flavour::Mysql97.or_skip().then(|| outside(Server::new().flavour(Flavour::Mysql97)))
}

/// With undo tablespaces that the server itself truncates again and again.
fn truncating(builder: Builder) -> Builder {
    builder.option("innodb-max-undo-log-size", "10485760").option("innodb-purge-rseg-truncate-frequency", "1")
}

/// Every kind of tablespace, and a large one that is copied last.
fn tables(server: &Server) {
    server.sql(&format!(
        "CREATE DATABASE d; CREATE DATABASE gone; CREATE DATABASE z; USE test;
         CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd'; CREATE TABLESPACE dropped ADD DATAFILE 'dropped.ibd';
         CREATE TABLE d.one (id INT PRIMARY KEY, k INT, v VARCHAR(300));
         INSERT INTO d.one SELECT seq, seq * 7919 % 10007, REPEAT(SHA2(seq, 224), 4) FROM seq_1_to_5000;
         CREATE TABLE d.far (id INT PRIMARY KEY, k INT, v VARCHAR(300)) DATA DIRECTORY='{}';
         CREATE TABLE d.zip (id INT PRIMARY KEY, k INT, v VARCHAR(300)) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4;
         CREATE TABLE d.in_shared (id INT PRIMARY KEY, k INT, v VARCHAR(300)) TABLESPACE shared;
         CREATE TABLE d.in_system (id INT PRIMARY KEY, k INT, v VARCHAR(300)) TABLESPACE innodb_system;
         CREATE TABLE d.parts (id INT PRIMARY KEY, k INT, v VARCHAR(300)) PARTITION BY RANGE (id)
            (PARTITION low VALUES LESS THAN (2500), PARTITION high VALUES LESS THAN MAXVALUE);
         CREATE TABLE d.single (id INT PRIMARY KEY, k INT, v VARCHAR(300));
         CREATE TABLE d.left_ (id INT PRIMARY KEY, k INT, v VARCHAR(300)); CREATE TABLE d.right_ LIKE d.left_;
         CREATE TABLE gone.t LIKE d.left_; INSERT INTO d.single SELECT * FROM d.one WHERE id < 2000;
         INSERT INTO d.left_ SELECT * FROM d.one WHERE id < 100; INSERT INTO gone.t SELECT * FROM d.one",
        server.home().join("outside").display()
    ));
    for table in ["far", "zip", "in_shared", "in_system", "parts", "right_"] {
        server.sql(&format!("INSERT INTO d.{table} SELECT * FROM d.one"));
    }
    for table in ["passing", "words", "again", "cut", "rebuilt", "imported", "source", "quiet"] {
        server.sql(&format!("CREATE TABLE d.{table} LIKE d.one; INSERT INTO d.{table} SELECT * FROM d.one"));
    }
    server.sql(
        "SET sql_log_bin=0; CREATE UNDO TABLESPACE third ADD DATAFILE 'third.ibu';
         CREATE UNDO TABLESPACE fourth ADD DATAFILE 'fourth.ibu'",
    );
    server.sql("CREATE TABLE z.last (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000))");
    for _ in 0..8 {
        server.sql("USE test; INSERT INTO z.last (v) SELECT REPEAT('z', 1000) FROM seq_1_to_5000");
    }
}

/// What must not be lost, and what must not come back.
const DDL: &str = "ALTER TABLE d.one ADD INDEX k (k), ADD INDEX v (v(30)); UPDATE d.one SET k=k+1;
    ALTER TABLE d.far ADD INDEX k (k); UPDATE d.far SET k=k+2; ALTER TABLE d.zip ADD INDEX k (k); UPDATE d.zip SET k=k+3;
    ALTER TABLE d.in_system ADD INDEX k (k); UPDATE d.in_system SET k=k+4;
    ALTER TABLE d.in_shared ADD INDEX k (k), ADD FULLTEXT INDEX words (v); UPDATE d.in_shared SET k=k+5;
    ALTER TABLE d.passing ADD INDEX k (k), ADD INDEX v (v); UPDATE d.passing SET k=k+6, v=REVERSE(v);
    ALTER TABLE d.passing DROP INDEX k, DROP INDEX v; ALTER TABLE d.words ADD FULLTEXT INDEX words (v);
    ALTER TABLE d.parts ADD INDEX k (k); ALTER TABLE d.single ADD INDEX k (k);
    ALTER TABLE d.parts EXCHANGE PARTITION low WITH TABLE d.single; UPDATE d.parts SET k=k+7;
    RENAME TABLE d.left_ TO d.aside, d.right_ TO d.left_, d.aside TO d.right_; UPDATE d.left_ SET k=k+8 WHERE id % 3 = 0;
    DROP TABLE d.again; CREATE TABLE d.again (id INT PRIMARY KEY, other INT); INSERT INTO d.again VALUES (1, 1);
    TRUNCATE TABLE d.cut; INSERT INTO d.cut VALUES (7, 7, 'seven'); ALTER TABLE d.rebuilt FORCE; DROP DATABASE gone;
    CREATE DATABASE fresh; CREATE TABLE fresh.t AS SELECT * FROM d.one; CREATE TABLE fresh.m (id INT) ENGINE=MyISAM;
    INSERT INTO fresh.m VALUES (1); DROP TABLESPACE dropped; ALTER TABLESPACE shared RENAME TO common;
    CREATE TABLESPACE later ADD DATAFILE 'later.ibd'; CREATE TABLE fresh.in_later TABLESPACE later AS SELECT * FROM d.one;";

/// Undo tablespaces are emptied, dropped and made.
fn undo(server: &Server) {
    empty(server, "innodb_undo_001");
    empty(server, "fourth");
    server.sql(
        "SET sql_log_bin=0; ALTER UNDO TABLESPACE innodb_undo_001 SET ACTIVE; DROP UNDO TABLESPACE fourth;
         CREATE UNDO TABLESPACE fifth ADD DATAFILE 'fifth.ibu'",
    );
}

/// An undo tablespace is truncated.
pub(crate) fn empty(server: &Server, name: &str) {
    server.sql(&format!("SET sql_log_bin=0; ALTER UNDO TABLESPACE {name} SET INACTIVE"));
    let state = format!("SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE NAME='{name}'");
    wait_until("the undo tablespace is empty", Duration::from_secs(60), || server.value(&state) == "empty");
}

/// A file of another table takes the place of this one's.
fn import(server: &Server) {
    let file = |name: &str| server.data().join("d").join(name);
    let mut conn = server.connect();
    conn.query_drop("SET sql_log_bin=0").unwrap();
    conn.query_drop("FLUSH TABLES d.source FOR EXPORT").unwrap();
    for suffix in ["ibd", "cfg"] {
        fs::copy(file(&format!("source.{suffix}")), server.home().join(suffix)).unwrap();
    }
    conn.query_drop("UNLOCK TABLES").unwrap();
    conn.query_drop("UPDATE d.imported SET k=0").unwrap();
    conn.query_drop("ALTER TABLE d.imported DISCARD TABLESPACE").unwrap();
    for suffix in ["ibd", "cfg"] {
        fs::copy(server.home().join(suffix), file(&format!("imported.{suffix}"))).unwrap();
    }
    conn.query_drop("ALTER TABLE d.imported IMPORT TABLESPACE").unwrap();
}

/// A backup that is halted after all but the last table, until the DDL is done.
fn backup_during(server: &Server, done: impl FnOnce()) -> (Run, TempDir) {
    let restored = scratch();
    let running = pipeline(server, &[END, "-j1"], Relay::rate(100 << 20), restored.path()).start();
    // The last table is larger than all buffers on the way.
    let size = |name: &str| fs::metadata(server.data().join(name)).map_or(0, |data| data.len());
    let spaces: u64 = [
        "ibdata1",
        "mysql.ibd",
        "open.ibd",
        "anew.ibd",
        "shared.ibd",
        "undo_001",
        "undo_002",
        "third.ibu",
        "fourth.ibu",
    ]
    .map(size)
    .iter()
    .sum();
    let tables = fs::read_dir(server.data().join("d")).unwrap();
    let tables: u64 = tables.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    wait_until("the copy", Duration::from_secs(60), || running.through() > spaces + tables);
    running.signal(2, Signal::STOP);
    done();
    running.signal(2, Signal::CONT);
    (running.wait(), restored)
}

#[test]
fn ddl_while_tablespaces_are_copied_is_in_the_copy() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    tables(&server);
    server.restart();
    let (run, restored) = backup_during(&server, || {
        server.sql(DDL);
        undo(&server);
    });
    run.assert_ok();
    let (entries, _) = manifest(restored.path());
    for name in [
        "d/one.new",
        "d/far.new",
        "d/zip.new",
        "d/passing.new",
        "d/left_.new",
        "d/right_.new",
        "d/again.new",
        "d/cut.new",
        "ibdata1.new",
        "shared.ibd.new",
        "undo_001.new",
        "fifth.ibu.new",
        "later.ibd.new",
        "fresh/t.new",
        "gone/t.del",
        "dropped.ibd.del",
        "fourth.ibu.del",
    ] {
        assert!(entries.contains_key(name), "{name} is missing: {:?}", entries.keys());
    }
    for name in ["d/quiet.new", "d/source.new", "mysql.ibd.new", "undo_002.new", "z/last.new"] {
        assert!(!entries.contains_key(name), "{name} was copied again");
    }
    apply(&server, restored.path()).assert_ok();
    status(restored.path()).assert_ok();
    let left = |name: &String| name.ends_with(".new") || name.ends_with(".del") || name.contains("gone");
    let files = names(restored.path());
    assert!(!files.iter().any(left), "{files:?}");
    check::restored(&server, restored.path()).assert_good();
}

/// Recovery skips all log records of a tablespace whose file was once deleted.
#[test]
fn an_import_during_the_copy_ends_the_backup() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    tables(&server);
    server.restart();
    let (run, _) = backup_during(&server, || {
        import(&server);
        server.sql("UPDATE d.imported SET k=k+1");
    });
    run.assert_codes(&[5, 3, 3]);
    assert!(run.stderr(0).contains("d/imported: its tablespace was discarded or imported"), "{}", run.story());

    server.sql("ALTER TABLE d.imported DISCARD TABLESPACE");
    let restored = scratch();
    let run = pipeline(&server, &[END], Relay::default(), restored.path()).run();
    assert_eq!(run.codes()[0], 1, "{}", run.story());
    assert!(run.stderr(0).contains("d/imported: its tablespace is discarded"), "{}", run.story());
}

#[test]
fn tablespaces_may_be_encrypted_while_files_are_copied() {
    let Some(builder) = mysql() else { return };
    let mut server = keyring::start(builder);
    tables(&server);
    for name in ["open", "anew"] {
        server.sql(&format!(
            "CREATE TABLESPACE {name} ADD DATAFILE '{name}.ibd' ENCRYPTION='Y'; CREATE TABLE d.{name} \
             (id INT PRIMARY KEY, v TEXT) TABLESPACE {name} ENCRYPTION='Y'; \
             INSERT INTO d.{name} SELECT id, REPEAT(SHA2(id, 224), 9) FROM d.one"
        ));
    }
    server.restart();
    let (run, restored) = backup_during(&server, || {
        server.sql(
            "ALTER TABLESPACE open ENCRYPTION='N'; UPDATE d.open SET v=REVERSE(v) WHERE id % 3 = 0;
             ALTER TABLESPACE anew ENCRYPTION='N'; ALTER TABLESPACE anew ENCRYPTION='Y';
             ALTER TABLESPACE shared ENCRYPTION='Y'; UPDATE d.in_shared SET v=REVERSE(v) WHERE id % 3 = 0;
             ALTER TABLE d.one ENCRYPTION='Y'; UPDATE d.one SET v=REVERSE(v); SET GLOBAL innodb_undo_log_encrypt=ON;
             UPDATE d.quiet SET k=k+1; ALTER TABLESPACE mysql ENCRYPTION='Y'; ALTER TABLE d.quiet ADD INDEX k (k)",
        );
    });
    run.assert_ok();
    let keys = scratch();
    keyring::give(&server, restored.path(), &keys.path().join("keyring"));
    apply(&server, restored.path()).assert_ok();
    check::restored(&server, restored.path()).assert_good();
}

#[test]
fn ddl_goes_on_while_files_are_copied() {
    let Some(builder) = mysql() else { return };
    let server = builder.layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend").start();
    server.sql("CREATE TABLE test.in_system (id INT PRIMARY KEY) TABLESPACE innodb_system");
    let mut command = snap(&server);
    command.arg(END);
    let mut held = Held::start(command);
    held.read(4 << 20);
    server.sql(
        "SET SESSION lock_wait_timeout=1; CREATE TABLE test.t (id INT); ALTER TABLE test.in_system ADD INDEX (id)",
    );
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    // Both files of the system tablespace are there twice, as a whole each time.
    assert_pages_good(&stream);
    let (entries, _) = manifest(files(&stream).path());
    for name in ["ibdata1", "ibdata2", "ibdata1.new", "ibdata2.new", "test/t.new"] {
        assert!(entries.contains_key(name), "{name} is missing: {:?}", entries.keys());
    }
}

#[test]
fn disabled_redo_logging_makes_the_backup_invalid() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    let mut command = snap(&server);
    command.arg(END);
    let mut held = Held::start(command);
    held.read(4 << 20);
    server.sql("SET sql_log_bin=0; ALTER INSTANCE DISABLE INNODB REDO_LOG; ALTER INSTANCE ENABLE INNODB REDO_LOG");
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(5), "{story}");
    assert!(story.contains("redo logging may have been off"), "{story}");
    assert!(!stream.windows(11).any(|name| name == b"xb_manifest"));
}

fn storm(builder: Builder, seed: u64, relay: Relay) {
    let load = |load: Load| load.everything().builds(2);
    prove(builder, seed, load, &[END, "-j2"], relay);
}

#[test]
fn a_storm_of_ddl_while_files_are_copied() {
    let Some(builder) = mysql() else { return };
    storm(truncating(builder), 1, Relay::rate(30 << 20));
}

#[test]
#[ignore = "half a minute"]
fn a_storm_with_large_pages_and_several_system_files() {
    let Some(builder) = mysql() else { return };
    let builder = builder
        .layout("innodb-page-size", "64k")
        .layout("innodb-data-file-path", "ibdata1:20M;ibdata2:8M:autoextend")
        .undo_apart();
    storm(truncating(builder), 2, Relay::rate(60 << 20));
}

/// Finds faults that occur once in a hundred times.
#[test]
#[ignore = "long: a hundred backups under a storm of DDL"]
fn a_hundred_backups_in_a_storm_are_right() {
    let kinds: [fn(Builder) -> Builder; 4] = [
        |builder| builder,
        |builder| builder.layout("innodb-page-size", "8k"),
        |builder| builder.layout("innodb-page-size", "64k").undo_apart(),
        |builder| builder.layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend").log_size("16M"),
    ];
    let rounds = rounds(100);
    let mut bad = Vec::new();
    for round in rounds.clone() {
        let Some(builder) = mysql() else { return };
        let kind = kinds[usize::try_from(round).unwrap() % kinds.len()];
        let relay = [Relay::rate(20 << 20), Relay::rate(60 << 20), Relay::default()]
            [usize::try_from(round).unwrap() % 3]
            .clone();
        let outcome = std::panic::catch_unwind(|| storm(kind(truncating(builder)), 300 + round, relay));
        eprintln!("round {round}: {}", if outcome.is_ok() { "good" } else { "BAD" });
        if outcome.is_err() {
            bad.push(round);
        }
    }
    assert!(bad.is_empty(), "{} of {rounds:?} are bad: {bad:?}", bad.len());
}
