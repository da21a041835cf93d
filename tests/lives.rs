//! Operations on a tablespace between the checkpoint and the end of a backup, at different moments; the copy must have
//! the right rows.

use std::fs;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::hot_backup::{apply, pipeline};
use crate::increments::history::cannot_be_merged;
use crate::mysql_ddl::empty;
use crate::snap::{as_weak, password_file};
use crate::support::pipeline::{Relay, Run};
use crate::support::server::Builder;
use crate::support::{Family, Flavour, Load, Pipeline, Server, check, import, rounds, scratch, test_on, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// When the operation happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before the backup begins, but after the checkpoint.
    Before,
    /// After the listing, and before the copy.
    Listed,
    /// After the copy.
    Copied,
    /// While the backup waits for its last lock.
    Locking,
}

/// A server whose checkpoint stays where it is, as far as possible.
fn server(flavour: Flavour) -> Server {
    server_of(Server::new().flavour(flavour))
}

fn server_of(builder: Builder) -> Server {
    let builder = builder.log_size("512M").option("innodb-max-dirty-pages-pct", "90");
    let builder = match builder.family() {
        Family::Mariadb => builder
            .layout("innodb-undo-tablespaces", "3")
            .option("innodb-max-undo-log-size", "10485760")
            .option("innodb-purge-rseg-truncate-frequency", "1"),
        Family::Mysql => builder.option("innodb-idle-flush-pct", "0"),
    };
    let server = builder.start();
    server.sql("CREATE DATABASE z; CREATE TABLE z.last (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000))");
    for _ in 0..4 {
        server.sql("USE test; INSERT INTO z.last (v) SELECT REPEAT('z', 1000) FROM seq_1_to_5000");
    }
    server
}

/// Tables in a database of their own, all of them on disk.
fn tables(server: &mut Server, db: &str) {
    server.sql(&format!(
        "CREATE DATABASE {db}; USE test; CREATE TABLE {db}.one (id INT PRIMARY KEY, k INT, v VARCHAR(300));
         INSERT INTO {db}.one SELECT seq, seq * 7919 % 10007, REPEAT(SHA2(seq, 224), 4) FROM seq_1_to_1000;
         CREATE TABLE {db}.parts (id INT PRIMARY KEY, k INT, v VARCHAR(300)) PARTITION BY RANGE (id)
            (PARTITION low VALUES LESS THAN (500), PARTITION mid VALUES LESS THAN (800), PARTITION high VALUES LESS THAN MAXVALUE);
         INSERT INTO {db}.parts SELECT * FROM {db}.one"
    ));
    for name in ["cut", "old", "left_", "right_", "single", "added", "lost", "again", "rebuilt", "imported", "source"] {
        let rows = if matches!(name, "single" | "source") { "WHERE id < 400" } else { "" };
        server.sql(&format!(
            "CREATE TABLE {db}.{name} LIKE {db}.one; INSERT INTO {db}.{name} SELECT * FROM {db}.one {rows}"
        ));
    }
    server.sql(&format!("DELETE FROM {db}.right_ WHERE id % 3 = 0"));
    server.restart();
}

/// The operation, one statement per table, and what is written to it afterwards. `@` is the database.
const DONE: &[(&str, &str)] = &[
    ("TRUNCATE TABLE @.cut", "INSERT INTO @.cut VALUES (7, 7, 'seven')"),
    ("RENAME TABLE @.old TO @.renamed", "UPDATE @.renamed SET k=k+1 WHERE id % 2 = 0"),
    (
        "RENAME TABLE @.left_ TO @.aside, @.right_ TO @.left_, @.aside TO @.right_",
        "UPDATE @.left_ SET k=k+2 WHERE id % 2 = 0; DELETE FROM @.right_ WHERE id % 5 = 0",
    ),
    (
        "ALTER TABLE @.parts EXCHANGE PARTITION low WITH TABLE @.single",
        "UPDATE @.parts SET k=k+3 WHERE id % 2 = 0; DELETE FROM @.single WHERE id % 7 = 0",
    ),
    (
        "ALTER TABLE @.added ADD COLUMN extra INT DEFAULT 7, ALGORITHM=INSTANT",
        "UPDATE @.added SET extra=k WHERE id < 300",
    ),
    ("ALTER TABLE @.lost DROP COLUMN k, ALGORITHM=INSTANT", "UPDATE @.lost SET v=REVERSE(v) WHERE id % 2 = 0"),
    (
        "DROP TABLE @.again",
        "CREATE TABLE @.again (id INT PRIMARY KEY, other INT); INSERT INTO @.again VALUES (1, 1), (2, 2)",
    ),
    ("ALTER TABLE @.rebuilt ENGINE=InnoDB", "UPDATE @.rebuilt SET k=k+4 WHERE id % 2 = 0"),
];

fn ddl(server: &Server, db: &str) {
    for (what, then) in DONE {
        server.sql(&format!("{what}; {then}").replace('@', db));
    }
    truncate_undo(server, db);
}

fn truncate_undo(server: &Server, db: &str) {
    match server.flavour().family() {
        Family::Mariadb => {
            let before = server.status("Innodb_undo_truncations");
            server.sql("SET GLOBAL innodb_undo_log_truncate=ON");
            // Each statement goes to the next tablespace, and not every one becomes large enough.
            let mut turn = 0;
            wait_until("undo is truncated", PATIENCE, || {
                turn += 1;
                server.sql(&format!("UPDATE z.last SET v=REPEAT({}, 1000)", turn % 10));
                std::thread::sleep(Duration::from_millis(500));
                server.status("Innodb_undo_truncations") > before
            });
            server.sql("SET GLOBAL innodb_undo_log_truncate=OFF");
        }
        Family::Mysql => {
            server.sql(&format!("SET sql_log_bin=0; CREATE UNDO TABLESPACE {db} ADD DATAFILE '{db}.ibu'"));
            empty(server, "innodb_undo_001");
            server.sql("SET sql_log_bin=0; ALTER UNDO TABLESPACE innodb_undo_001 SET ACTIVE");
        }
    }
}

/// Bytes of all tablespaces but the last.
fn spaces(server: &Server) -> u64 {
    let mut directories = vec![server.data().to_path_buf()];
    let mut bytes = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let (path, name) = {
                let entry = entry.unwrap();
                (entry.path(), entry.file_name().into_string().unwrap())
            };
            if path.is_dir() && !name.starts_with('#') {
                directories.push(path);
            } else if name.ends_with(".ibd") && name != "last.ibd"
                || name.starts_with("ibdata")
                || name.starts_with("undo")
            {
                bytes += fs::metadata(path).unwrap().len();
            }
        }
    }
    bytes
}

/// A backup that is halted at that moment, until the operations are done.
fn backup(server: &Server, options: &[&str], when: When, done: impl FnOnce()) -> (Run, TempDir) {
    let restored = scratch();
    if when == When::Before {
        done();
        return (pipeline(server, options, Relay::default(), restored.path()).run(), restored);
    }
    let options = [options, &["-j1"]].concat();
    let running = pipeline(server, &options, Relay::rate(100 << 20), restored.path()).start();
    let least = if when == When::Listed { 0 } else { spaces(server) };
    wait_until("the copy", PATIENCE, || running.through() > least);
    running.signal(2, Signal::STOP);
    done();
    running.signal(2, Signal::CONT);
    (running.wait(), restored)
}

/// Statements that wait for a reader, which ends when the backup waits for them.
fn waiting(server: &Server, db: &str) -> JoinHandle<()> {
    let mut reader = server.connect();
    reader.query_drop("SET autocommit=0").unwrap();
    for table in ["cut", "old", "left_", "parts", "single", "added", "lost", "again", "rebuilt"] {
        reader.query_drop(format!("SELECT COUNT(*) FROM {db}.{table}")).unwrap();
    }
    let threads: Vec<JoinHandle<()>> = DONE
        .iter()
        .map(|(what, _)| {
            let (mut conn, what) = (server.connect(), what.replace('@', db));
            std::thread::spawn(move || conn.query_drop(what).unwrap())
        })
        .collect();
    let mut watcher = server.connect();
    let mut count = move |like: &str| -> usize {
        watcher
            .query_first(format!("SELECT COUNT(*) FROM information_schema.processlist WHERE STATE LIKE '%{like}%'"))
            .unwrap()
            .unwrap()
    };
    wait_until("statements that wait", PATIENCE, || count("table metadata lock") == DONE.len());
    std::thread::spawn(move || {
        wait_until("the backup to wait", PATIENCE, || count("backup lock") > 0);
        reader.query_drop("COMMIT").unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    })
}

/// Where the log was, by the number that the server tells.
fn lsn(server: &Server) -> u64 {
    match server.flavour().family() {
        Family::Mariadb => server.status("Innodb_lsn_current"),
        Family::Mysql => server.status("Innodb_redo_log_current_lsn"),
    }
}

fn checkpoint(restored: &Path) -> u64 {
    let begin: serde_json::Value = serde_json::from_slice(&fs::read(restored.join("xb_begin")).unwrap()).unwrap();
    begin["redo"]["checkpoint_lsn"].as_u64().unwrap()
}

/// How often a backup is repeated until it begins before the operations.
const TRIES: u32 = 5;
/// A checkpoint's own record has fewer bytes.
const CHECKPOINT: u64 = 64;

/// All that can be done, at each of these moments, on one server.
fn prove(flavour: Flavour, cases: &[(&[&str], When)]) {
    let mut server = server(flavour);
    for (number, (options, when)) in cases.iter().enumerate() {
        let early = (0..TRIES).any(|again| {
            let db = format!("d{number}_{again}");
            eprintln!("{flavour:?} {options:?} {when:?}: {db}");
            prove_one(&mut server, &db, options, *when)
        });
        assert!(early, "{flavour:?} {options:?} {when:?}: a checkpoint was made meanwhile, each time");
    }
}

/// False if the backup begins after some of the operations: an idle server writes its pages.
fn prove_one(server: &mut Server, db: &str, options: &[&str], when: When) -> bool {
    tables(server, db);
    let before = lsn(server);
    let mut late = None;
    let (run, restored) = backup(server, options, when, || match when {
        When::Locking => late = Some(waiting(server, db)),
        _ => ddl(server, db),
    });
    run.assert_ok();
    late.into_iter().for_each(|late| late.join().unwrap());
    if checkpoint(restored.path()) > before + CHECKPOINT {
        return false;
    }
    apply(server, restored.path()).assert_ok();
    check::restored(server, restored.path()).assert_good();
    true
}

test_on!(ddl_before_the_backup_is_in_the_copy: mariadb, mysql97; long: mariadb118);

fn ddl_before_the_backup_is_in_the_copy(flavour: Flavour) {
    let modes: &[&[&str]] = match flavour.family() {
        Family::Mariadb => &[&[], &["--lock-ddl=early"], &["--lock-ddl=off"]],
        Family::Mysql => &[&[], &["--lock-ddl=end"]],
    };
    let cases: Vec<_> = modes.iter().map(|options| (*options, When::Before)).collect();
    prove(flavour, &cases);
}

test_on!(ddl_while_files_are_listed_is_in_the_copy: mariadb, mariadb118, mysql97);

fn ddl_while_files_are_listed_is_in_the_copy(flavour: Flavour) {
    prove(flavour, &[(&["--lock-ddl=end"], When::Listed)]);
}

test_on!(ddl_while_files_are_copied_is_in_the_copy: mariadb, mariadb118, mysql97);

fn ddl_while_files_are_copied_is_in_the_copy(flavour: Flavour) {
    prove(flavour, &[(&["--lock-ddl=end"], When::Copied)]);
}

test_on!(ddl_before_the_last_lock_is_in_the_copy: mariadb, mariadb118, mysql97);

fn ddl_before_the_last_lock_is_in_the_copy(flavour: Flavour) {
    prove(flavour, &[(&["--lock-ddl=end"], When::Locking)]);
}

/// Other rows come into `imported`, of MySQL partitions are imported, too; and all are written to.
fn imported(server: &Server, db: &str) {
    let mut conn = server.connect();
    import::table(&mut conn, server.data(), server.home(), db, "source", "imported").unwrap();
    if server.flavour().family() == Family::Mysql {
        import::partitions(&mut conn, server.data(), server.home(), db, "parts", &["low", "mid"]).unwrap();
        server.sql(&format!("UPDATE {db}.parts SET k=k+5 WHERE id % 2 = 0"));
    }
    server.sql(&format!(
        "INSERT INTO {db}.imported SELECT * FROM {db}.one WHERE id > 600; \
         UPDATE {db}.imported SET k=k+1 WHERE id % 2 = 0"
    ));
}

test_on!(an_import_before_the_backup_is_in_the_copy: mariadb118, mysql97; long: mariadb);

fn an_import_before_the_backup_is_in_the_copy(flavour: Flavour) {
    let modes: &[&[&str]] = match flavour.family() {
        Family::Mariadb => &[&[], &["--lock-ddl=early"], &["--lock-ddl=off"], &["--no-lock"]],
        Family::Mysql => &[&[], &["--lock-ddl=end"]],
    };
    let mut server = server(flavour);
    for (number, options) in modes.iter().enumerate() {
        let db = format!("d{number}");
        eprintln!("{flavour:?} {options:?}: {db}");
        tables(&mut server, &db);
        let (run, restored) = backup(&server, options, When::Before, || imported(&server, &db));
        run.assert_ok();
        apply(&server, restored.path()).assert_ok();
        if *options == ["--no-lock"] {
            let copy = server.twin(restored.path()).start();
            check::same(&server, &copy).assert_good();
        } else {
            check::restored(&server, restored.path()).assert_good();
        }
    }
}

test_on!(without_a_newer_checkpoint_an_import_ends_the_backup: mariadb, mariadb118);

fn without_a_newer_checkpoint_an_import_ends_the_backup(flavour: Flavour) {
    let mut server = server(flavour);
    tables(&mut server, "d");
    imported(&server, "d");
    server.sql(
        "CREATE USER weak@localhost IDENTIFIED BY 'secret'; GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO weak@localhost",
    );
    let (_secret, file) = password_file();
    let run = Pipeline::new().stage(as_weak(&server, &file)).run();
    run.assert_codes(&[5]);
    assert!(run.stdout.is_empty());
    let said = run.stderr(0);
    assert!(
        said.contains("xb-snap: d/imported.ibd: tablespace") && said.contains("was discarded or imported"),
        "{said}"
    );
    assert!(said.contains("hint: ") && said.contains("innodb_log_checkpoint_now=ON"), "{said}");
}

test_on!(an_import_while_files_are_copied_ends_the_backup: mariadb, mariadb118);

fn an_import_while_files_are_copied_ends_the_backup(flavour: Flavour) {
    for when in [When::Listed, When::Copied] {
        let mut server = server(flavour);
        tables(&mut server, "d");
        let (run, _) = backup(&server, &[], when, || imported(&server, "d"));
        run.assert_codes(&[0, 5, 3]);
        let said = run.stderr(1);
        assert!(said.contains("d/imported.ibd: tablespace") && said.contains("was discarded or imported"), "{said}");
    }
}

test_on!(an_import_with_encrypted_log_ends_the_backup: mariadb; long: mariadb118);

/// xb-redo takes the whole stream before it fails, so `--extra-lsndir` is written.
#[test]
fn mariadb_lsndir_of_a_failed_backup_fits_no_other() {
    let mut server = server(Flavour::Installed);
    tables(&mut server, "d");
    let dir = scratch();
    let (full, beside, increment) = (dir.path().join("full"), dir.path().join("beside"), dir.path().join("increment"));
    pipeline(&server, &[], Relay::default(), &full).run().assert_ok();
    let option = format!("--extra-lsndir={}", beside.display());
    let (run, _) = backup(&server, &[&option], When::Copied, || imported(&server, "d"));
    run.assert_codes(&[0, 5, 3]);
    let run =
        pipeline(&server, &[&format!("--incremental-basedir={}", beside.display())], Relay::default(), &increment)
            .run();
    run.assert_ok();
    cannot_be_merged(&run, &beside, &full, &increment);
}

/// An encrypted log shows only the length of a deleted file's name.
fn an_import_with_encrypted_log_ends_the_backup(flavour: Flavour) {
    let mut server = server_of(Server::new().flavour(flavour).encrypted());
    tables(&mut server, "d0");
    let (run, restored) = backup(&server, &[], When::Before, || imported(&server, "d0"));
    run.assert_ok();
    apply(&server, restored.path()).assert_ok();
    check::restored(&server, restored.path()).assert_good();

    // Another file of the same table, and a table that was made for it; a longer name does not hide it.
    let afresh = |server: &Server, db: &str| {
        server.sql(&format!("CREATE TABLE {db}.afresh LIKE {db}.one"));
        import::table(&mut server.connect(), server.data(), server.home(), db, "source", "afresh").unwrap();
        server.sql(&format!("RENAME TABLE {db}.afresh TO {db}.named_otherwise"));
    };
    for (db, done) in [("d1", &imported as &dyn Fn(&Server, &str)), ("d2", &afresh)] {
        tables(&mut server, db);
        let (run, _) = backup(&server, &[], When::Copied, || done(&server, db));
        run.assert_codes(&[0, 5, 3]);
        let said = run.stderr(1);
        assert!(said.contains("may have been discarded or imported") && said.contains("is encrypted"), "{said}");
    }

    // The dropped one has a name as long as that of others.
    tables(&mut server, "d3");
    let (run, restored) = backup(&server, &[], When::Copied, || server.sql("DROP TABLE d3.old; UPDATE d3.one SET k=0"));
    run.assert_ok();
    apply(&server, restored.path()).assert_ok();
    check::restored(&server, restored.path()).assert_good();
}

/// The result of a backup under load.
enum Outcome {
    /// To be compared with the source.
    Taken(TempDir),
    /// It exited with 5, or did not begin, because of an import; or the log was overrun.
    Refused,
    /// A table waited for its file just then, so that the binary log, which has no imports, cannot be replayed.
    Discarded,
    Bad(String),
}

fn take(server: &Server, options: &[&str], relay: Relay) -> Outcome {
    let restored = scratch();
    let run = pipeline(server, options, relay, restored.path()).run();
    if run.codes() != [0, 0, 0] {
        let said = |reason: &str| run.stages.iter().any(|ended| ended.stderr.contains(reason));
        let imported =
            run.codes().contains(&5) && said("been discarded or imported") || said("was discarded or imported");
        let waiting = run.codes()[0] == 1 && said("its tablespace is discarded");
        let overrun = run.codes().contains(&5) && said("redo overrun");
        return if imported || waiting || overrun { Outcome::Refused } else { Outcome::Bad(run.story()) };
    }
    let applied = apply(server, restored.path());
    if applied.codes() != [0] {
        return Outcome::Bad(applied.story());
    }
    let is_there = |name: &str| restored.path().join("imports").join(name).exists();
    if is_there("a0.ibd") && is_there("b0.ibd") { Outcome::Taken(restored) } else { Outcome::Discarded }
}

/// Backups while tables are imported, swapped and exchanged; each is taken again until it is not refused.
fn storms(flavours: &[Flavour], modes: &[&[&str]]) {
    let (mut good, mut refused, mut discarded, mut bad) = (0, 0, 0, Vec::new());
    let rounds = rounds(50);
    for round in rounds.clone() {
        let index = usize::try_from(round).unwrap();
        let (flavour, options) = (flavours[index % flavours.len()], modes[index / flavours.len() % modes.len()]);
        let builder = Server::new().flavour(flavour).log_size(if round % 3 == 0 { "256M" } else { "48M" });
        let server = builder.start();
        let load = Load::on(&server).seed(700 + round).everything().imports(1).start();
        load.wait_for(300);
        let mut tries = 0;
        let copy = loop {
            tries += 1;
            let relay = if round % 2 == 0 { Relay::rate(40 << 20) } else { Relay::default() };
            match take(&server, options, relay) {
                Outcome::Refused => refused += 1,
                Outcome::Discarded => discarded += 1,
                Outcome::Taken(restored) => break Ok(restored),
                Outcome::Bad(story) => break Err(story),
            }
            if tries == 40 {
                break Err("refused again and again".into());
            }
        };
        load.wait_for(50);
        load.stop();
        let problems = copy.map_or_else(|story| vec![story], |copy| check::restored(&server, copy.path()).problems);
        eprintln!(
            "round {round} {flavour:?} {options:?}: {} at try {tries}",
            if problems.is_empty() { "good" } else { "BAD" }
        );
        if problems.is_empty() {
            good += 1;
        } else {
            eprintln!("{}", problems.join("\n"));
            bad.push(round);
        }
    }
    eprintln!(
        "{good} of {rounds:?} good, {} bad: {bad:?}; before that {refused} refused, {discarded} with a discarded table",
        bad.len()
    );
    assert!(bad.is_empty());
}

#[test]
#[ignore = "long: fifty backups in a storm with imports"]
fn fifty_storms_with_imports_are_right_or_refused() {
    storms(&Flavour::all(), &[&[], &["--lock-ddl=early"]]);
}

#[test]
#[ignore = "long: fifty backups in a storm with imports"]
fn fifty_storms_of_mysql_with_imports_are_right_or_refused() {
    if Flavour::Mysql97.or_skip() {
        storms(&[Flavour::Mysql97], &[&[], &["--lock-ddl=end"]]);
    }
}
