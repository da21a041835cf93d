//! The guarantees of xb-snap's streams, with real servers. Whole restores are in `hot_backup.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mysql::prelude::Queryable;
use tempfile::TempDir;

use crate::support::pipeline::{Relay, Run};
use crate::support::{
    Family, Flavour, Load, Pipeline, Server, check, fault, program, scratch, test_on, wait_until, xb,
};

/// For a lock, or for a server to notice something; a run that needs longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn snap(server: &Server) -> Command {
    let mut command = xb("xb-snap");
    command.args(server.options());
    command
}

/// The plain files of a stream; a snapshot alone is not a backup, but contains its files.
pub fn files(stream: &[u8]) -> TempDir {
    let dir = scratch();
    let mut unpack = xb("xb-unpack");
    unpack.arg("-C").arg(dir.path());
    let run = Pipeline::new().stage(unpack).stdin_bytes(stream).run();
    if run.stderr(0).contains("was not piped through xb-redo") {
        run.assert_codes(&[3]);
        fs::rename(dir.path().join("xb_manifest.part"), dir.path().join("xb_manifest")).unwrap();
        fs::remove_file(dir.path().join("xb_incomplete")).unwrap();
    } else {
        run.assert_ok();
    }
    dir
}

/// Every page of a snapshot by itself has been looked at and is good.
#[track_caller]
pub fn assert_pages_good(stream: &[u8]) {
    let dir = files(stream);
    let mut pack = xb("xb-pack");
    pack.args(["--exclude=xb_*", "."]).arg("-C").arg(dir.path());
    let run = Pipeline::new().stage(pack).stage(xb("xb-unpack").args(["--verify", "--pages"])).run();
    run.assert_ok();
    assert!(!run.stderr(1).contains("not checked"), "{}", run.story());
}

/// Names of the files below a directory.
pub fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Lines of the manifest: entries by name, and the last one.
pub(crate) fn manifest(dir: &Path) -> (BTreeMap<String, serde_json::Value>, serde_json::Value) {
    let text = fs::read_to_string(dir.join("xb_manifest")).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap();
    (lines.into_iter().map(|line| (line["path"].as_str().unwrap().to_owned(), line)).collect(), last)
}

/// xb-snap, whose stdout the test reads: while it does not, xb-snap cannot continue.
pub struct Held {
    child: Child,
    stream: Vec<u8>,
}

impl Held {
    /// Starts it and waits until `xb_begin` is there: the listing is made, the copy begins.
    pub fn start(mut command: Command) -> Held {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 14];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        Held { child, stream: first.to_vec() }
    }

    /// Starts it on a [`filled`] server and reads until the system tablespace and the small tables are out, while
    /// sb.zbig stands still in the pipe.
    pub fn in_the_middle(command: Command, server: &Server) -> Held {
        let mut held = Held::start(command);
        held.read(fs::metadata(server.data().join("ibdata1")).unwrap().len() + (4 << 20));
        held
    }

    /// Reads so many bytes more.
    pub fn read(&mut self, bytes: u64) {
        let out = self.child.stdout.as_mut().unwrap();
        out.take(bytes).read_to_end(&mut self.stream).unwrap();
    }

    /// Reads the rest; stream, exit code and stderr.
    pub fn finish(mut self) -> (Vec<u8>, Option<i32>, String) {
        self.child.stdout.as_mut().unwrap().read_to_end(&mut self.stream).unwrap();
        let ended = self.child.wait_with_output().unwrap();
        (self.stream, ended.status.code(), String::from_utf8_lossy(&ended.stderr).into())
    }
}

/// A server with more InnoDB data than pipes hold, all of it written: a copy that is not read stands still in the middle.
pub fn filled() -> Server {
    filled_of(Flavour::Installed)
}

/// The same of any flavour.
pub fn filled_of(flavour: Flavour) -> Server {
    let mut server = Server::new().flavour(flavour).start();
    server.sql(
        "CREATE DATABASE sb; USE sb; CREATE TABLE zbig (id INT PRIMARY KEY, text VARCHAR(250)); \
         CREATE TABLE dropped (id INT PRIMARY KEY); CREATE TABLE truncated (id INT PRIMARY KEY); \
         CREATE TABLE old (id INT PRIMARY KEY); CREATE TABLE same (id INT PRIMARY KEY); \
         INSERT INTO truncated SELECT seq FROM test.seq_1_to_200",
    );
    for part in 0..8 {
        let rows = format!("SELECT {part} * 5000 + seq, REPEAT('x', 250) FROM test.seq_1_to_5000");
        server.sql(&format!("INSERT INTO sb.zbig {rows}"));
    }
    server.restart();
    server
}

/// Makes an unpacked backup ready.
pub fn apply(server: &Server, dir: &Path) {
    let mut command = xb("xb-redo");
    command.arg("--apply").arg(dir).arg("--server").arg(server.flavour().server()).args(server.plugins());
    Pipeline::new().stage(command).run().assert_ok();
}

/// Through xb-redo into a directory, made ready.
fn restore(server: &Server, arguments: &[&str]) -> TempDir {
    let dir = scratch();
    let mut command = snap(server);
    command.args(arguments);
    let mut unpack = xb("xb-unpack");
    unpack.arg("-C").arg(dir.path());
    Pipeline::new().stage(command).stage(xb("xb-redo")).stage(unpack).run().assert_ok();
    apply(server, dir.path());
    dir
}

test_on!(a_busy_server_with_ddl_is_copied_right: mariadb, mariadb118);

fn a_busy_server_with_ddl_is_copied_right(flavour: Flavour) {
    let server = Server::new().flavour(flavour).log_size("32M").start();
    let load = Load::on(&server).everything().start();
    load.wait_for(300);
    let restored = restore(&server, &[]);
    load.stop();
    check::restored(&server, restored.path()).assert_good();
}

#[test]
fn every_layout_is_copied_and_verified() {
    let layouts: [(&str, crate::support::server::Builder); 4] = [
        ("4k", Server::new().layout("innodb-page-size", "4k")),
        ("64k", Server::new().layout("innodb-page-size", "64k").undo_apart()),
        ("crc32", Server::new().layout("innodb-checksum-algorithm", "crc32").encrypted()),
        ("files", Server::new().layout("innodb-data-file-path", "ibdata1:12M;ibdata2:8M:autoextend")),
    ];
    for (name, builder) in layouts {
        let server = builder.start();
        let load = Load::on(&server).bank(1).formats(1).start();
        load.wait_for(100);
        let run = Pipeline::new().stage(snap(&server)).stage(xb("xb-unpack").arg("--verify")).run();
        run.assert_codes(&[0, 3]);
        assert!(run.stderr(1).contains("not a backup: the snapshot was not piped through xb-redo"), "{}", run.story());
        let restored = restore(&server, &["--lock-ddl=early"]);
        load.stop();
        let verdict = check::restored(&server, restored.path());
        eprintln!("{name}: {verdict:?}");
        verdict.assert_good();
    }
}

test_on!(rows_of_an_open_archive_table_are_copied: mariadb, mariadb118);

/// A reader keeps it open, so that `BACKUP STAGE FLUSH` cannot close it, and a row may be in nothing but memory.
fn rows_of_an_open_archive_table_are_copied(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE TABLE test.archive (id INT NOT NULL) ENGINE=ARCHIVE; INSERT INTO test.archive SELECT seq FROM test.seq_1_to_1000");
    let mut reader = server.connect();
    let reading = std::thread::spawn(move || reader.query_drop("SELECT SLEEP(0.1) FROM test.archive"));
    let sql = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(0.1)%'";
    wait_until("the statement runs", PATIENCE, || !server.rows(sql).is_empty());
    server.sql("INSERT INTO test.archive VALUES (1001), (1002)");
    let restored = restore(&server, &[]);
    server.sql(&format!("KILL {}", server.value(sql)));
    reading.join().unwrap().unwrap_err();
    check::restored(&server, restored.path()).assert_good();
}

/// A file with the password of the user `weak`.
pub fn password_file() -> (TempDir, PathBuf) {
    let dir = scratch();
    let file = dir.path().join("password");
    fs::write(&file, "secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (dir, file)
}

/// A backup by that user.
pub fn as_weak(server: &Server, file: &Path) -> Command {
    let mut command = snap(server);
    command.args(["--user=weak", "--password-file"]).arg(file);
    command
}

#[test]
fn a_missing_privilege_is_named_in_a_statement() {
    let server = Server::new().start();
    server.sql("CREATE USER weak@localhost IDENTIFIED BY 'secret'; GRANT RELOAD, PROCESS ON *.* TO weak@localhost");
    let (_secret, file) = password_file();
    let weak = || as_weak(&server, &file);
    let run = Pipeline::new().stage(weak()).run();
    run.assert_codes(&[1]);
    assert!(run.stdout.is_empty());
    assert!(run.stderr(0).contains("hint: GRANT BINLOG MONITOR ON *.* TO 'weak'@'localhost';"), "{}", run.story());
    server.sql("GRANT BINLOG MONITOR ON *.* TO weak@localhost");
    Pipeline::new().stage(weak()).run().assert_ok();

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let run = Pipeline::new().stage(weak()).run();
    run.assert_codes(&[2]);
    assert!(run.stderr(0).contains("hint: chmod 600 "), "{}", run.story());
    let run = Pipeline::new().stage(weak().env("MYSQL_PWD", "secret").arg("--password-file=/dev/null")).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("cannot connect as weak"), "{}", run.story());
}

#[test]
fn ddl_during_the_copy_is_made_good_at_its_end() {
    let server = filled();
    let held = Held::in_the_middle(snap(&server), &server);
    server.sql(
        "DROP TABLE sb.dropped; TRUNCATE sb.truncated; INSERT INTO sb.truncated VALUES (7); \
         RENAME TABLE sb.old TO sb.renamed; CREATE TABLE sb.created (id INT PRIMARY KEY); \
         INSERT INTO sb.created VALUES (8)",
    );
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    let dir = files(&stream);
    let there = names(dir.path());
    for name in ["sb/dropped.del", "sb/truncated.new", "sb/old.del", "sb/created.frm", "sb/same.ibd", "sb/zbig.ibd"] {
        assert!(there.iter().any(|one| one == name), "{name} is missing: {there:?}");
    }
    // A table that nobody had sent may come under its own name.
    for table in ["renamed", "created"] {
        assert!(there.iter().any(|one| one.starts_with(&format!("sb/{table}."))), "{table} is missing: {there:?}");
    }
    for name in ["sb/same.new", "sb/zbig.new", "sb/dropped.frm", "sb/old.frm"] {
        assert!(!there.iter().any(|one| one == name), "{name} is there");
    }
}

/// IMPORT is in no log, and writes without redo: only the files show it. ext4 gives the new file the old one's inode.
#[test]
fn an_import_during_the_copy_is_noticed() {
    let server = filled();
    server.sql(
        "CREATE TABLE sb.donor (id INT PRIMARY KEY, text CHAR(20)); INSERT INTO sb.donor VALUES (1, 'rows to import'); \
         CREATE TABLE sb.imported LIKE sb.donor; CREATE TABLE sb.placed LIKE sb.donor; \
         INSERT INTO sb.imported VALUES (2, 'rows of before'); INSERT INTO sb.placed VALUES (2, 'rows of before'); \
         FLUSH TABLES sb.imported, sb.placed FOR EXPORT; UNLOCK TABLES",
    );
    let exported = server.home().join("exported.ibd");
    let mut donor = server.connect();
    donor.query_drop("FLUSH TABLES sb.donor FOR EXPORT").unwrap();
    fs::copy(server.data().join("sb/donor.ibd"), &exported).unwrap();
    donor.query_drop("UNLOCK TABLES").unwrap();
    let file = |table: &str| server.data().join(format!("sb/{table}.ibd"));
    let inode = |table: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file(table)).unwrap());
    let place = |table: &str| {
        server.sql(&format!("ALTER TABLE sb.{table} DISCARD TABLESPACE"));
        fs::copy(&exported, file(table)).unwrap();
        fs::set_permissions(file(table), fs::Permissions::from_mode(0o666)).unwrap();
    };
    // Of one the foreign file is there before the copy and is rewritten in its place.
    place("placed");
    let held = Held::in_the_middle(snap(&server), &server);
    let before = inode("imported");
    place("imported");
    if inode("imported") != before {
        eprintln!("this file system does not give a freed inode to the next file");
    }
    server.sql("ALTER TABLE sb.imported IMPORT TABLESPACE; ALTER TABLE sb.placed IMPORT TABLESPACE");
    // Written to, but by what the log has.
    server.sql("INSERT INTO sb.same VALUES (1); FLUSH TABLES sb.same FOR EXPORT; UNLOCK TABLES");
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    let dir = files(&stream);
    for table in ["imported", "placed"] {
        let copy = fs::read(dir.path().join(format!("sb/{table}.new"))).expect(table);
        assert!(copy == fs::read(file(table)).unwrap(), "{table} differs");
        assert!(bstr::ByteSlice::contains_str(copy.as_slice(), "rows to import"));
    }
    assert!(!dir.path().join("sb/same.new").exists());
}

#[test]
fn ddl_despite_lock_ddl_off_makes_the_backup_invalid() {
    let server = filled();
    for option in ["--lock-ddl=off", "--no-lock"] {
        let mut command = snap(&server);
        command.arg(option);
        let held = Held::in_the_middle(command, &server);
        server.sql("TRUNCATE sb.truncated");
        let (stream, code, story) = held.finish();
        assert_eq!(code, Some(5), "{story}");
        assert!(story.contains("sb/truncated.ibd: changed by DDL"), "{story}");
        assert!(!bstr::ByteSlice::contains_str(stream.as_slice(), "xb_manifest"));
    }
}

#[test]
fn early_blocks_ddl_for_as_long_as_it_takes() {
    let server = filled();
    let mut command = snap(&server);
    command.arg("--lock-ddl=early");
    let held = Held::start(command);
    let mut other = server.connect();
    other.query_drop("SET SESSION lock_wait_timeout=1").unwrap();
    assert!(other.query_drop("DROP TABLE sb.dropped").is_err(), "the table could be dropped");
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    assert!(names(files(&stream).path()).iter().any(|name| name == "sb/dropped.ibd"));
    server.sql("DROP TABLE sb.dropped");
}

/// Nobody reads, and still the locks are released: what was copied under them waits in the spool.
#[test]
fn locks_do_not_wait_for_the_reader() {
    let server = Server::new().start();
    server.sql(
        "CREATE DATABASE sb; USE sb; CREATE TABLE m (text TEXT) ENGINE=MyISAM; CREATE TABLE a (text TEXT) ENGINE=Aria; \
         INSERT INTO m SELECT REPEAT('m', 10000) FROM seq_1_to_5000; \
         INSERT INTO a SELECT REPEAT('a', 10000) FROM seq_1_to_5000",
    );
    let mut held = Held::start(snap(&server));
    // InnoDB's files come before the locks; with what the pipe holds, all of them are out when this much is read.
    let innodb: u64 = ["ibdata1", "undo001", "undo002", "undo003"]
        .iter()
        .filter_map(|name| Some(fs::metadata(server.data().join(name)).ok()?.len()))
        .sum();
    held.read(innodb);
    // The first four show whose data directory it is.
    wait_until("all stages are over while 100 MB wait", PATIENCE, || server.status("Com_backup") >= 9);
    server.sql("INSERT INTO sb.m VALUES ('after'); DROP TABLE sb.a");
    let (stream, code, story) = held.finish();
    assert_eq!(code, Some(0), "{story}");
    assert!(stream.len() > 100_000_000, "{} bytes", stream.len());
    let dir = files(&stream);
    let (entries, last) = manifest(dir.path());
    assert!(entries.contains_key("sb/a.MAD") && entries.contains_key("sb/m.MYD"));
    assert!(last["locks_ms"]["block_ddl"].as_u64() <= last["locks_ms"]["flush"].as_u64(), "{last}");
    assert!(!fs::read(dir.path().join("sb/m.MYD")).unwrap().ends_with(b"after"), "written after the lock");
}

/// The first session holds the locks, if there are any yet; the second asks how far the log is durable.
#[test]
fn a_lost_session_makes_the_backup_invalid() {
    let server = filled();
    for (session, option) in [(0, "--lock-ddl=end"), (0, "--lock-ddl=early"), (1, "--lock-ddl=end")] {
        let mut command = snap(&server);
        command.args([option, "-j1"]);
        let mut held = Held::start(command);
        let own = "SELECT id FROM information_schema.processlist WHERE id<>CONNECTION_ID() AND user='root' ORDER BY id";
        let sessions = server.rows(own);
        assert_eq!(sessions.len(), 2, "{sessions:?}");
        server.sql(&format!("KILL {}", sessions[session][0]));
        // Slowly, so that there is need to ask again.
        for _ in 0..10 {
            held.read(1 << 20);
            std::thread::sleep(Duration::from_millis(50));
        }
        let (stream, code, story) = held.finish();
        assert_eq!(code, Some(5), "session {session}, {option}: {story}");
        assert!(story.contains("lost") && story.contains("hint: the session was killed"), "{story}");
        assert!(!bstr::ByteSlice::contains_str(stream.as_slice(), "xb_manifest"));
    }
}

#[test]
fn a_lock_that_is_not_granted_is_given_up() {
    let server = Server::new().start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.m (id INT) ENGINE=MyISAM");
    let mut busy = server.connect();
    busy.query_drop("LOCK TABLES sb.m WRITE").unwrap();
    let run = Pipeline::new().stage(snap(&server).args(["--lock-timeout=1"])).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("not granted within 1 s"), "{}", run.story());
    busy.query_drop("UNLOCK TABLES").unwrap();
    // A statement that writes such a table blocks the lock, and is named.
    let writer = std::thread::spawn(move || busy.query_drop("INSERT INTO sb.m SELECT SLEEP(4)"));
    let running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO sb.m%'";
    wait_until("the statement runs", PATIENCE, || server.value(running) == "1");
    let run = Pipeline::new().stage(snap(&server).args(["--lock-timeout=1"])).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("s: INSERT INTO sb.m SELECT SLEEP(4)"), "{}", run.story());
    writer.join().unwrap().unwrap();
    Pipeline::new().stage(snap(&server)).run().assert_ok();
}

#[test]
fn a_system_file_outside_the_data_directory_comes_into_it() {
    let outside = "ibdata1:12M;@HOME@/outside/ibdata2:8M:autoextend";
    let server = Server::new().layout("innodb-data-file-path", outside).start();
    let load = Load::on(&server).bank(1).formats(1).start();
    load.wait_for(100);
    load.stop();
    let restored = restore(&server, &[]);
    let inside = "ibdata1:12M;ibdata2:8M:autoextend";
    let copy = server.twin(restored.path()).option("innodb-data-file-path", inside).start();
    check::same(&server, &copy).assert_good();
}

#[test]
fn a_stopped_server_is_copied_and_a_running_one_refused() {
    // Without a binary log: it would have to decide about prepared transactions, and it is not copied.
    let mut server = Server::new().flag("skip-log-bin").start();
    let load = Load::on(&server).bank(1).engines(1).start();
    load.wait_for(100);
    load.stop();
    let offline = |data: &Path| {
        let mut command = xb("xb-snap");
        command.args(["--no-defaults", "--offline", "--datadir"]).arg(data);
        command
    };
    let run = Pipeline::new().stage(offline(server.data())).run();
    run.assert_codes(&[1]);
    assert!(run.stdout.is_empty() && run.stderr(0).contains("a server runs on it"), "{}", run.story());
    // Killed, it needs recovery: the copy's log must have everything.
    server.kill();
    let dir = scratch();
    let mut unpack = xb("xb-unpack");
    unpack.arg("-C").arg(dir.path());
    Pipeline::new().stage(offline(server.data())).stage(xb("xb-redo")).stage(unpack).run().assert_ok();
    apply(&server, dir.path());
    server.start_again();
    let copy = server.twin(dir.path()).start();
    check::same(&server, &copy).assert_good();
}

#[test]
fn a_bad_page_ends_the_backup_and_is_named() {
    let mut server = filled();
    server.stop();
    let path = server.data().join("sb/zbig.ibd");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"damage", 100 * 16384 + 5000).unwrap();
    server.start_again();
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_codes(&[3]);
    let story = run.stderr(0);
    assert!(story.contains("sb/zbig.ibd: page 100 "), "{story}");
    assert_eq!(story.matches("0x").count(), 2, "both sums: {story}");
    assert!(!bstr::ByteSlice::contains_str(run.stdout.as_slice(), "xb_manifest"));
}

#[test]
fn unreadable_files_end_the_backup_with_a_hint() {
    let server = Server::new().start();
    if !crate::support::root() {
        return;
    }
    server.sql("CREATE USER nobody@localhost IDENTIFIED VIA unix_socket; GRANT RELOAD, PROCESS, BINLOG MONITOR ON *.* TO nobody@localhost");
    fs::set_permissions(server.home(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(server.data(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = xb("xb-snap");
    command.args(["--no-defaults", "--user=nobody", "--socket"]).arg(server.socket());
    let run = Pipeline::new().stage(fault::ordinary_user(command)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("permission denied\nhint: run xb-snap as the server's user"), "{}", run.story());
}

test_on!(a_reader_that_goes_away_frees_the_server: mariadb, mysql97);

fn a_reader_that_goes_away_frees_the_server(flavour: Flavour) {
    let server = filled_of(flavour);
    let run: Run =
        Pipeline::new().stage(snap(&server)).relay(Relay::default().cut(3_000_000)).stage(program("cat")).run();
    assert_eq!(run.codes()[0], 141, "{}", run.story());
    server.sql("DROP TABLE sb.zbig");
}

test_on!(what_scripts_read_is_there: mariadb, mariadb118);

fn what_scripts_read_is_there(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let name =
        |what: &str| format!("{}_{what}", if flavour == Flavour::Mariadb118 { "mariadb_backup" } else { "xtrabackup" });
    let [checkpoints, info, binlog_info] = ["checkpoints", "info", "binlog_info"].map(name);
    server.sql("CREATE DATABASE empty; CREATE DATABASE sb; CREATE TABLE sb.t (id INT PRIMARY KEY)");
    let beside = scratch();
    let mut command = snap(&server);
    command.args(["--replica-info", "--galera-info", "--extra-lsndir"]).arg(beside.path());
    let run = Pipeline::new().stage(command).run();
    run.assert_ok();
    let dir = files(&run.stdout);
    let (entries, last) = manifest(dir.path());
    let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let begin: serde_json::Value = serde_json::from_str(&text("xb_begin")).unwrap();
    let (c0, end) = (&begin["redo"]["checkpoint_lsn"], &last["end_lsn"]);
    assert_eq!(
        text(&checkpoints),
        format!(
            "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = {c0}\nlast_lsn = {end}\nrecover_binlog_info = 0\n"
        )
    );
    let keys: Vec<String> = text(&info).lines().map(|line| line.split(" = ").next().unwrap().to_owned()).collect();
    let expected = "uuid name tool_name tool_command tool_version ibbackup_version server_version start_time end_time \
        lock_time binlog_pos innodb_from_lsn innodb_to_lsn partial incremental format compressed";
    assert_eq!(keys.join(" "), expected);
    let status = &server.rows("SHOW MASTER STATUS")[0];
    let gtid = server.value("SELECT @@gtid_current_pos");
    assert_eq!(text(&binlog_info), format!("{}\t{}\t{gtid}\n", status[0], status[1]));
    assert!(text("backup-my.cnf").contains("innodb_page_size=16384\n"));
    assert_eq!(last["server_options"]["innodb_page_size"], "16384");
    assert!(entries.contains_key("empty/db.opt"));
    for name in [&checkpoints, &info] {
        assert_eq!(fs::read_to_string(beside.path().join(name)).unwrap(), text(name));
    }
    let lines: Vec<&str> = run.stderr(0).lines().collect();
    assert!(lines[lines.len() - 2].starts_with("xb-snap: binlog position: filename '"), "{}", run.story());
    assert!(lines[lines.len() - 1].ends_with("snapshot complete"), "{}", run.story());
}

#[test]
fn tables_elsewhere_are_stored_as_if_they_were_here() {
    let mut server = Server::new()
        .layout("innodb-data-home-dir", "")
        .layout("innodb-data-file-path", "ibdata1:12M;@HOME@/outside/ibdata2:8M:autoextend")
        .start();
    let outside = server.home().join("outside");
    fs::create_dir_all(&outside).unwrap();
    server.sql(&format!(
        "CREATE DATABASE sb; CREATE TABLE sb.away (id INT PRIMARY KEY) DATA DIRECTORY='{0}'; \
         CREATE TABLE sb.m (id INT) ENGINE=MyISAM DATA DIRECTORY='{0}'; INSERT INTO sb.m VALUES (1)",
        outside.display()
    ));
    // Written out, so that page 0 tells what it is.
    server.restart();
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_ok();
    let dir = files(&run.stdout);
    let (entries, _) = manifest(dir.path());
    let away = &entries["sb/away.ibd"];
    assert_eq!(away["location"].as_str(), Some(outside.join("sb/away.ibd").to_str().unwrap()));
    assert_eq!(entries["ibdata2"]["location"].as_str(), Some(outside.join("ibdata2").to_str().unwrap()));
    assert!(!entries.contains_key("sb/away.isl"));
    assert!(dir.path().join("sb/m.MYD").symlink_metadata().unwrap().is_file());
}

/// The server may see a file that is not visible here: in a container, or a private mount.
#[test]
fn unseen_files_of_the_server_end_the_backup() {
    let mut server = Server::new().layout("innodb-undo-tablespaces", "3").undo_apart().start();
    let outside = server.home().join("outside");
    fs::create_dir_all(&outside).unwrap();
    server.sql(&format!(
        "CREATE DATABASE sb; CREATE TABLE sb.away (id INT PRIMARY KEY) DATA DIRECTORY='{}'",
        outside.display()
    ));
    server.restart();
    let undo = PathBuf::from(server.value("SELECT @@innodb_undo_directory"));
    let refused = |code: i32, place: &Path, what: &str| {
        let run = Pipeline::new().stage(snap(&server)).run();
        run.assert_codes(&[code]);
        let said = run.stderr(0);
        assert!(said.contains(&format!("{}: {what}", place.display())) && said.contains("hint: "), "{}", run.story());
    };
    let without = |path: &Path, check: &dyn Fn()| {
        let hidden = path.with_extension("hidden");
        fs::rename(path, &hidden).unwrap();
        check();
        fs::rename(&hidden, path).unwrap();
    };
    without(&undo, &|| refused(1, &undo, "is not there"));
    let last = undo.join("undo003");
    without(&last, &|| refused(5, Path::new("undo003"), "the server has tablespace 3 in "));
    let control = server.data().join("aria_log_control");
    without(&control, &|| refused(1, &control, "is not there"));
    let away = outside.join("sb/away.ibd");
    without(&outside, &|| refused(1, &away, "its directory is not there"));
    Pipeline::new().stage(snap(&server)).run().assert_ok();
}

#[test]
fn tables_of_engines_that_are_not_copied_end_the_backup() {
    let mut server = Server::new().start();
    fs::create_dir(server.data().join("#rocksdb")).unwrap();
    Pipeline::new().stage(snap(&server)).run().assert_ok();
    fs::write(server.data().join("#rocksdb/000013.sst"), "rows").unwrap();
    let refused = |command: Command| {
        let run = Pipeline::new().stage(command).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains("#rocksdb: tables of the engine RocksDB are not copied"), "{}", run.story());
    };
    refused(snap(&server));
    server.stop();
    let mut offline = xb("xb-snap");
    offline.args(["--no-defaults", "--offline", "--datadir"]).arg(server.data());
    refused(offline);
}

#[test]
fn a_server_without_rocksdb_tables_is_copied() {
    let plugins = Flavour::beside("rocksdb");
    if !plugins.join("ha_rocksdb.so").exists() {
        return crate::support::skip("RocksDB is not here; run tests/setup");
    }
    let mut server =
        Server::new().option("plugin-dir", plugins.to_str().unwrap()).option("plugin-load-add", "ha_rocksdb").start();
    // A stop leaves files without tables.
    server.restart();
    Pipeline::new().stage(snap(&server)).run().assert_ok();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.lsm (id INT PRIMARY KEY) ENGINE=RocksDB");
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("server: tables of the engine RocksDB (lsm) are not copied"), "{}", run.story());
}

/// As servers before 10.2 and 5.7 left it.
#[test]
fn a_flush_lsn_on_an_unused_page_is_accepted() {
    let mut server = Server::new().layout("innodb-data-file-path", "ibdata1:12M;ibdata2:1M:autoextend").start();
    server.stop();
    let file = fs::OpenOptions::new().read(true).write(true).open(server.data().join("ibdata2")).unwrap();
    let mut page = [0; 16384];
    file.read_exact_at(&mut page, 0).unwrap();
    assert!(page.iter().all(|byte| *byte == 0), "the page is in use");
    file.write_all_at(&4711u64.to_be_bytes(), 26).unwrap();
    let mut offline = xb("xb-snap");
    offline.args(server.options()).arg("--offline").arg(format!("--datadir={}", server.data().display()));
    let run =
        Pipeline::new().stage(offline).stage(xb("xb-redo")).stage(xb("xb-unpack").args(["--verify", "--pages"])).run();
    run.assert_ok();
    assert!(run.stderr(0).contains("xb-redo must follow, which adds the log; snapshot complete"), "{}", run.story());
}

#[test]
fn names_that_are_not_unicode_are_no_obstacle() {
    let server = Server::new().start();
    let beside = scratch();
    let odd = beside.path().join(std::ffi::OsStr::from_bytes(b"lsn-\xff"));
    let mut command = snap(&server);
    command.arg("--extra-lsndir").arg(&odd);
    Pipeline::new().stage(command).run().assert_ok();
    let info = fs::read_to_string(odd.join("xtrabackup_info")).unwrap();
    assert!(info.contains("lsn-\u{fffd}"), "{info}");
}

#[test]
fn a_file_with_a_name_of_our_own_is_refused() {
    for name in ["xb_begin", "xb_mark.7"] {
        let path = format!("ibdata1:12M;{name}:8M:autoextend");
        let server = Server::new().layout("innodb-data-file-path", &path).start();
        let run = Pipeline::new().stage(snap(&server)).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains(&format!("{name}: a backup has its own member")), "{}", run.story());
    }
}

test_on!(a_json_log_ends_with_the_facts_of_the_backup: mariadb, mysql97);

fn a_json_log_ends_with_the_facts_of_the_backup(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.t (id INT PRIMARY KEY); INSERT INTO sb.t VALUES (1)");
    let dir = scratch();
    let json = |mut command: Command| {
        command.arg("--log=json");
        command
    };
    let mut unpack = json(xb("xb-unpack"));
    unpack.arg("-C").arg(dir.path());
    let run = Pipeline::new().stage(json(snap(&server))).stage(json(xb("xb-redo"))).stage(unpack).run();
    run.assert_ok();
    let last = |stage: usize| -> serde_json::Value {
        serde_json::from_str(run.stderr(stage).lines().last().unwrap()).unwrap()
    };
    let (snapped, followed, unpacked) = (last(0), last(1), last(2));
    for (tool, summary) in [("xb-snap", &snapped), ("xb-redo", &followed), ("xb-unpack", &unpacked)] {
        assert!(summary["event"] == "summary" && summary["tool"] == tool && summary["exit_code"] == 0, "{summary}");
    }
    assert!(snapped["end_lsn"].is_number() && snapped["end_lsn"] == followed["end_lsn"], "{snapped} {followed}");
    assert!(snapped["binlog"]["file"].is_string() && snapped["binlog"]["position"].is_number(), "{snapped}");
    let binlog = &snapped["binlog"];
    let said = |sql: &str| server.value(sql);
    let (position, gtid) = match flavour.family() {
        Family::Mariadb => (server.rows("SHOW MASTER STATUS").remove(0), said("SELECT @@gtid_binlog_pos")),
        Family::Mysql => (server.rows("SHOW BINARY LOG STATUS").remove(0), said("SELECT @@gtid_executed")),
    };
    assert!(!gtid.is_empty() && binlog["gtid"] == gtid.as_str(), "{binlog}, not {gtid}");
    assert!(
        binlog["file"] == position[0].as_str() && binlog["position"].as_u64() == position[1].parse().ok(),
        "{binlog}"
    );
    let status = xb("xb-redo").arg("--status").arg(dir.path()).arg("--json").output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["binlog"], *binlog, "{status}");
    assert!(snapped["locks_ms"].is_object() && snapped["data_bytes"].as_u64() > Some(0), "{snapped}");
    assert!(unpacked["proved"] == true && unpacked["members"].as_u64() > Some(5), "{unpacked}");
}
