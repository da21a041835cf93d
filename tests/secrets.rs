//! What a server encrypts stays encrypted: in a backup, while it is applied, and in what the restored server writes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use xb::stream::native::{Entry, EntryKind, Tally, Trailer};

use crate::hot_backup::{apply, pipeline};
use crate::support::backup::{apply_with, take};
use crate::support::pipeline::Relay;
use crate::support::tool::{bad, feed, good, member, tree};
use crate::support::{Family, Flavour, Pipeline, Server, keyring, scratch, test_on, xb};

/// Stands in every row, and in no file of ours.
const SECRET: &str = "the quick brown secret ";

/// Files below a directory that contain the secret in clear, except those that the source has in clear, too. Files that
/// disappear meanwhile are skipped.
fn leaks(directory: &Path, clear: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.is_file() && fs::read(&path).is_ok_and(|bytes| has_secret(&bytes)) {
                found.push(path);
            }
        }
    }
    found.retain(|path| !clear.iter().any(|known| path.file_name().unwrap().to_str().unwrap().starts_with(known)));
    found.sort();
    found
}

fn has_secret(bytes: &[u8]) -> bool {
    use bstr::ByteSlice;
    bytes.contains_str(SECRET)
}

/// Rows with the secret, some of them changed by a transaction that is open: recovery has pages to write, doublewritten,
/// and a transaction to roll back, which writes undo and redo.
fn fill(server: &Server, table: &str) -> impl Sized + use<> {
    server.sql(&format!("CREATE DATABASE sb; USE sb; {table}"));
    let rows = "SELECT seq, CONCAT('the quick brown ', 'secret ', REPEAT(SHA2(seq, 256), 4)) FROM test.seq_1_to_2000";
    server.sql(&format!("INSERT INTO sb.t {rows}"));
    let mut open = server.connect();
    mysql::prelude::Queryable::query_drop(
        &mut open,
        "BEGIN; UPDATE sb.t SET text = CONCAT('the quick brown ', 'secret and old ', id) WHERE id <= 1000",
    )
    .unwrap();
    open
}

/// Backs up, applies, copies back and starts a server, and looks for the secret after each step.
#[track_caller]
fn keeps(server: Server, open: impl Sized, clear: &[&str], what: &str) {
    let scratch = scratch();
    let (backup, data, keys) =
        (scratch.path().join("backup"), scratch.path().join("data"), scratch.path().join("keyring"));
    pipeline(&server, &[], Relay::default(), &backup).run().assert_ok();
    drop(open);
    assert_eq!(leaks(&backup, clear), Vec::<PathBuf>::new(), "{what}: the backup");
    if keyring::of(&server).exists() {
        keyring::give(&server, &backup, &keys);
    }
    apply(&server, &backup).assert_ok();
    assert_eq!(leaks(&backup, clear), Vec::<PathBuf>::new(), "{what}: what --apply has left");
    let mut copy = xb("xb-redo");
    copy.arg("--copy-back").arg(&backup).arg("--datadir").arg(&data);
    Pipeline::new().stage(copy).run().assert_ok();
    assert_eq!(leaks(&data, clear), Vec::<PathBuf>::new(), "{what}: what --copy-back has left");
    let mut twin = server.twin(&data).start();
    assert_eq!(twin.value("SELECT COUNT(*) FROM sb.t"), "2000", "{what}");
    assert_eq!(twin.value("SELECT COUNT(*) FROM sb.t WHERE text LIKE '%and old%'"), "0", "{what}");
    twin.stop();
    assert_eq!(leaks(&data, clear), Vec::<PathBuf>::new(), "{what}: what the restored server has left");
}

const INNODB: &str = "CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(1000), KEY (text(100))) ENGINE=InnoDB";

test_on!(no_setting_of_mariadb_leaves_plain_text: mariadb, mariadb118);

fn no_setting_of_mariadb_leaves_plain_text(flavour: Flavour) {
    let settings = [
        ("default", &[][..], INNODB),
        ("force", &[("innodb-encrypt-tables", "FORCE"), ("innodb-encrypt-temporary-tables", "ON")][..], INNODB),
        ("another key", &[("innodb-default-encryption-key-id", "2"), ("encrypt-tmp-files", "ON")][..], INNODB),
        (
            "Aria and the binary log",
            &[("aria-encrypt-tables", "ON"), ("encrypt-tmp-disk-tables", "ON"), ("encrypt-binlog", "ON")][..],
            "CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(1000)) ENGINE=InnoDB; \
             CREATE TABLE a ENGINE=Aria AS SELECT CONCAT('the quick brown ', 'secret ', seq) FROM test.seq_1_to_500",
        ),
    ];
    for (name, more, table) in settings {
        // No statement is to be written anywhere.
        let builder = Server::new().flavour(flavour).encrypted().flag("skip-log-bin");
        let builder = more.iter().fold(builder, |builder, (key, value)| builder.layout(key, value));
        let server = builder.start();
        let open = fill(&server, table);
        keeps(server, open, &[], &format!("{flavour:?}, {name}"));
    }
}

test_on!(no_setting_of_mysql_leaves_plain_text: mysql97);

fn no_setting_of_mysql_leaves_plain_text(flavour: Flavour) {
    let log = "SET PERSIST innodb_redo_log_encrypt=ON; SET PERSIST innodb_undo_log_encrypt=ON";
    let asked = "CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(1000), KEY (text(100))) ENCRYPTION='Y'";
    let general = "CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENCRYPTION='Y'; \
                   CREATE TABLE t (id INT PRIMARY KEY, text VARCHAR(1000)) TABLESPACE g ENCRYPTION='Y'";
    for (name, settings, table, clear) in [
        ("default", format!("{log}; SET PERSIST default_table_encryption=ON; USE test"), INNODB, &[][..]),
        ("asked for, and the dictionary", format!("{log}; ALTER TABLESPACE mysql ENCRYPTION='Y'"), asked, &[]),
        ("general tablespace", log.to_owned(), general, &[]),
        ("redo only", "SET PERSIST innodb_redo_log_encrypt=ON".to_owned(), asked, &["undo_", "#ib_16384_"]),
        ("undo only", "SET PERSIST innodb_undo_log_encrypt=ON".to_owned(), asked, &["#ib_redo", "xtrabackup_logfile"]),
    ] {
        let server = keyring::start(Server::new().flavour(flavour).flag("skip-log-bin"));
        server.sql(&settings);
        let open = fill(&server, table);
        keeps(server, open, clear, name);
    }
}

/// What the binary log gets, beside an open transaction.
const MORE: &str = "CREATE TABLE sb.more (text VARCHAR(100)) ENGINE=InnoDB; \
    INSERT INTO sb.more SELECT CONCAT('the quick brown ', 'secret once more ', seq) FROM test.seq_1_to_500";

#[test]
fn an_encrypted_binary_log_of_mariadb_leaves_no_plain_text() {
    for flavour in Flavour::all() {
        let server = Server::new().flavour(flavour).encrypted().layout("encrypt-binlog", "ON").start();
        let open = fill(&server, INNODB);
        server.sql(MORE);
        assert_eq!(server.value("SELECT @@log_bin"), "1");
        // 11.8 has open transactions in files of its own, which are encrypted with encrypt_tmp_files only. No backup has them.
        assert_eq!(leaks(server.data(), &["ML_"]), Vec::<PathBuf>::new(), "{flavour:?}: the server itself");
        keeps(server, open, &[], &format!("{flavour:?}, binary log"));
    }
}

#[test]
fn an_encrypted_binary_log_of_mysql_leaves_no_plain_text() {
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let server = keyring::start_encrypting(Server::new().flavour(Flavour::Mysql97));
    server.sql("SET PERSIST binlog_encryption=ON");
    let open = fill(&server, INNODB);
    // Its newest binary log comes along in the backup.
    server.sql(MORE);
    assert_eq!(leaks(server.data(), &[]), Vec::<PathBuf>::new(), "the server itself");
    let backup = scratch();
    pipeline(&server, &[], Relay::default(), backup.path()).run().assert_ok();
    let index = fs::read_to_string(backup.path().join("binlog.index")).unwrap();
    let newest = backup.path().join(index.lines().last().unwrap().trim_start_matches("./"));
    // The magic of an encrypted one (binlog_ostream.cc).
    assert!(fs::read(newest).unwrap().starts_with(b"\xfdbin"));
    keeps(server, open, &[], "binary log");
}

/// Runs a command and searches its files for the secret, during the run and at the end.
#[track_caller]
fn quiet(command: Command, made: &Path, what: &str) {
    let mut running = Pipeline::new().stage(command).start();
    let mut looks = 0;
    while !running.ended(0) {
        assert_eq!(leaks(made, &[]), Vec::<PathBuf>::new(), "{what}, while it runs");
        looks += 1;
    }
    running.wait().assert_ok();
    assert!(looks > 1, "{what}: too fast to be looked at");
    assert_eq!(leaks(made, &[]), Vec::<PathBuf>::new(), "{what}");
}

/// A base and an increment of an encrypted server, merged into a copy, applied in another, and merged where the base is.
#[track_caller]
fn keeps_at_work(server: &Server, open: impl Sized, what: &str) {
    let scratch = scratch();
    let dir = |name: &str| scratch.path().join(name);
    let take = |options: &[&str], to: &Path| {
        let mut snap = xb("xb-snap");
        snap.args(server.options()).args(options);
        let stages = Pipeline::new().stage(snap).stage(keyring::filter(server));
        stages.stage(xb("xb-unpack").arg("-C").arg(to)).run().assert_ok();
    };
    take(&[], &dir("base"));
    server.sql(MORE);
    take(&["--incremental-basedir", dir("base").to_str().unwrap()], &dir("increment"));
    drop(open);
    let mut merge = xb("xb-redo");
    merge.arg("--merge").arg(dir("base")).arg("--incremental-dir").arg(dir("increment")).arg("--to").arg(dir("merged"));
    quiet(merge, &dir("merged"), &format!("{what}: --merge --to"));
    if keyring::of(server).exists() {
        keyring::give(server, &dir("merged"), &dir("keys"));
    }
    let mut apply = apply_with(server, &dir("merged"));
    apply.arg("--to").arg(dir("applied"));
    quiet(apply, &dir("applied"), &format!("{what}: --apply --to"));
    let mut merge = xb("xb-redo");
    merge.arg("--merge").arg(dir("base")).arg("--incremental-dir").arg(dir("increment"));
    quiet(merge, &dir("base"), &format!("{what}: --merge in its place"));
    let twin = server.twin(&dir("applied")).start();
    assert_eq!(twin.value("SELECT COUNT(*) FROM sb.more WHERE text LIKE '%once more%'"), "500", "{what}");
}

#[test]
fn work_files_of_encrypted_mariadb_backups_have_no_plain_text() {
    let server = Server::new().encrypted().flag("skip-log-bin").start();
    let open = fill(&server, INNODB);
    keeps_at_work(&server, open, "MariaDB");
}

#[test]
fn work_files_of_encrypted_mysql_backups_have_no_plain_text() {
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let server = keyring::start_encrypting(Server::new().flavour(Flavour::Mysql97).flag("skip-log-bin"));
    let open = fill(&server, INNODB);
    keeps_at_work(&server, open, "MySQL");
}

/// Gives the manifest of a directory one more option of the server, and lists one more file.
fn forge(directory: &Path, option: Option<(&str, &str)>, file: Option<(&str, &str)>) {
    let path = directory.join("xb_manifest");
    let text = fs::read_to_string(&path).unwrap();
    let (mut tally, mut lines) = (Tally::default(), String::new());
    for line in text.lines() {
        let Ok(mut trailer) = serde_json::from_str::<Trailer>(line) else {
            lines += &tally.line(&serde_json::from_str(line).unwrap()).unwrap();
            continue;
        };
        if let Some((name, content)) = file {
            fs::write(directory.join(name), content).unwrap();
            let digest = blake3::hash(content.as_bytes());
            lines += &tally.line(&Entry::new(name.as_bytes(), EntryKind::File, content.len() as u64, &digest)).unwrap();
        }
        if let Some((name, value)) = option {
            trailer.server_options.insert(name.into(), value.into());
        }
        lines += &tally.finish(trailer).unwrap();
    }
    fs::write(path, lines).unwrap();
}

/// A copy of a backup that is forged, and that nothing has touched when it was refused.
#[track_caller]
fn refused(
    server: &Server,
    whole: &Path,
    option: Option<(&str, &str)>,
    file: Option<(&str, &str)>,
    code: i32,
    about: &str,
) {
    let scratch = scratch();
    let copy = scratch.path().join("backup");
    assert!(Command::new("cp").arg("-a").arg(whole).arg(&copy).status().unwrap().success());
    forge(&copy, option, file);
    bad(&feed(&mut apply_with(server, &copy), b""), code, about);
    for name in ["xb_applied", "xb_server.log"] {
        assert!(!copy.join(name).exists(), "{about}: {name}");
    }
}

test_on!(what_a_backup_may_not_set_is_refused_by_name: mariadb, mysql97);

fn what_a_backup_may_not_set_is_refused_by_name(flavour: Flavour) {
    let of_all = [
        ("init_file", "/tmp/evil.sql"),
        ("innodb_page_size", "16384 --init-file=x"),
        ("innodb_page_size", "99999999"),
        ("innodb_data_file_path", "..:12M"),
        ("innodb_data_file_path", "ibdata1:12M:autoextend:max:5M:x"),
        ("lower_case_table_names", "-1"),
    ];
    let of_mariadb = [
        ("plugin_load_add", "evil.so"),
        ("plugin_load_add", "file_key_management=../../tmp/evil.so"),
        ("plugin_load", "file_key_management;server_audit"),
        ("file_key_management_filename", "/dev/zero"),
        ("file_key_management_filename", "keys"),
        ("file_key_management_filekey", "FILE:/proc/self/../../etc/x"),
        ("aws_key_management_region", "/etc/x"),
        ("innodb_encrypt_tables", "MAYBE"),
        ("general_log_file", "/etc/x"),
    ];
    let of_mysql = [
        ("log_bin", "../x"),
        ("log_bin", "-x"),
        ("early_plugin_load", "keyring_udf.so"),
        ("innodb_redo_log_encrypt", "x"),
        ("innodb_undo_directory", "/etc"),
    ];
    let server = Server::new().flavour(flavour).start();
    let backup = scratch();
    take(&server, &[], backup.path());
    let more = if flavour.family() == Family::Mariadb { &of_mariadb[..] } else { &of_mysql };
    for (name, value) in of_all.iter().chain(more) {
        refused(&server, backup.path(), Some((name, value)), None, 3, name);
    }
    match flavour.family() {
        Family::Mariadb => {
            let url = ("hashicorp_key_management_vault_url", "https://evil.example/v1");
            refused(&server, backup.path(), Some(url), None, 1, "--server-option hashicorp_key_management_vault_url");
        }
        Family::Mysql => {
            for (name, content) in [
                ("mysqld.my", r#"{"components": "file://component_keyring_file"}"#),
                ("component_keyring_file.cnf", r#"{"path": "/etc/x", "read_only": false}"#),
            ] {
                refused(&server, backup.path(), None, Some((name, content)), 3, name);
            }
        }
    }
    for (option, about) in [("init-file=x", "not an option that recovery needs"), ("innodb-page-size=x", "not a value")]
    {
        let mut apply = apply_with(&server, backup.path());
        bad(&feed(apply.arg("--server-option").arg(option), b""), 2, about);
    }
    apply(&server, backup.path()).assert_ok();
}

test_on!(an_index_that_leads_out_of_the_directory_is_refused: mysql97);

/// A server opens, and may truncate, what the index of its binary logs names.
fn an_index_that_leads_out_of_the_directory_is_refused(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let backup = scratch();
    take(&server, &[], backup.path());
    let outside = backup.path().join("outside");
    fs::write(&outside, "kept").unwrap();
    let index = format!("{}\n", outside.display());
    let text = fs::read_to_string(backup.path().join("xb_manifest")).unwrap();
    let kept: String =
        text.lines().filter(|line| !line.contains("binlog.index")).map(|line| format!("{line}\n")).collect();
    fs::write(backup.path().join("xb_manifest"), relisted(&kept)).unwrap();
    forge(backup.path(), None, Some(("binlog.index", &index)));
    bad(&feed(&mut apply_with(&server, backup.path()), b""), 3, "which is not a binary log in this directory");
    assert_eq!(fs::read(&outside).unwrap(), b"kept");
}

/// A manifest whose lines were changed, with counts and digest that are right again.
fn relisted(text: &str) -> String {
    let mut tally = Tally::default();
    let line = |line: &str| match serde_json::from_str::<Trailer>(line) {
        Ok(trailer) => tally.finish(trailer).unwrap(),
        Err(_) => tally.line(&serde_json::from_str(line).unwrap()).unwrap(),
    };
    text.lines().map(line).collect()
}

test_on!(what_tables_of_a_backup_name_is_not_loaded: mariadb, mysql97);

fn what_tables_of_a_backup_name_is_not_loaded(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let scratch = scratch();
    let (backup, wrapper) = (scratch.path().join("backup"), scratch.path().join("server"));
    let mut told = Vec::new();
    match flavour.family() {
        Family::Mariadb => {
            server.sql(
                "INSERT INTO mysql.plugin VALUES ('server_audit', 'server_audit.so'); \
                 INSERT INTO mysql.func VALUES ('x', 0, 'nowhere.so', 'function'); \
                 SET GLOBAL event_scheduler=ON; CREATE DATABASE sb; CREATE TABLE sb.t (id INT); \
                 CREATE EVENT sb.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO sb.t VALUES (1)",
            );
            told.extend(server.plugins());
            told.push(format!("--server={}", flavour.server().display()));
        }
        Family::Mysql => {
            server.sql(
                "INSTALL PLUGIN validate_password SONAME 'validate_password.so'; \
                 INSTALL COMPONENT 'file://component_query_attributes'; \
                 INSTALL PLUGIN keyring_udf SONAME 'keyring_udf.so'; \
                 CREATE FUNCTION keyring_key_generate RETURNS INTEGER SONAME 'keyring_udf.so'; \
                 CREATE DATABASE sb; CREATE TABLE sb.t (id INT); \
                 CREATE EVENT sb.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO sb.t VALUES (1)",
            );
            // Our own plugin directory comes last, as on the server's own host.
            let program = flavour.server();
            let root = program.parent().unwrap().parent().unwrap().join("root").canonicalize().unwrap();
            let root = root.display();
            let script = format!(
                "#!/bin/sh\nfirst=$1; shift\nexec {root}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path \
                 \"$(echo {root}/usr/lib/*-linux-gnu)\" {root}/usr/sbin/mysqld \"$first\" --basedir={root}/usr \
                 --lc-messages-dir={root}/usr/share/mysql --character-sets-dir={root}/usr/share/mysql/charsets \"$@\"\n"
            );
            crate::support::executable(&wrapper, &script);
            told.push(format!("--server={}", wrapper.display()));
        }
    }
    take(&server, &[], &backup);
    let mut command = xb("xb-redo");
    command.arg("--apply").arg(&backup).args(told);
    Pipeline::new().stage(command).run().assert_ok();
    let said = fs::read_to_string(backup.join("xb_server.log")).unwrap();
    for loaded in ["server_audit", "nowhere.so", "validate", "keyring_udf", "Event Scheduler"] {
        assert!(!said.contains(loaded), "{loaded}: {said}");
    }
    let missed = said.contains("Cannot load component from specified URN: 'file://component_query_attributes'");
    assert_eq!(missed, flavour.family() == Family::Mysql, "{said}");
    assert!(!backup.join("xb_server.sock").exists());
}

/// Whatever the umask, and whatever modes the copied files have.
#[test]
fn nothing_that_is_made_can_be_read_by_others() {
    let server = Server::new().start();
    let scratch = scratch();
    let shell = |script: &str| {
        let mut sh = Command::new("sh");
        let path = xb("xb-snap").get_program().to_owned();
        let path = Path::new(&path).parent().unwrap().display().to_string();
        sh.arg("-ec").arg(format!("umask 0; mkdir -p made; PATH={path}:$PATH; {script}")).current_dir(scratch.path());
        good(feed(&mut sh, b""));
    };
    let options = server.options().join(" ");
    let (program, plugins) = (server.flavour().server(), server.plugins().join(" "));
    let program = program.display();
    shell(&format!("xb-snap {options} --extra-lsndir=made/lsn | xb-redo | xb-sum -o made/sum --members > stream"));
    shell("xb-unpack -C made/full < stream; xb-crypt --generate-key made/key");
    shell(&format!("xb-snap {options} --incremental-basedir made/lsn | xb-redo | xb-unpack -C made/day"));
    shell("xb-redo --merge made/full --incremental-dir made/day --to made/merged");
    shell(&format!(
        "chmod -R a+rX made/merged; xb-redo --apply made/merged --to made/applied --server {program} {plugins}"
    ));
    shell(&format!("xb-redo --apply made/full --server {program} {plugins}; chmod -R a+rX made/full"));
    shell("xb-redo --copy-back made/full --datadir made/data; chmod -R o-rwx made/full made/merged");
    let made = scratch.path().join("made");
    let mut names: Vec<PathBuf> = tree(&made).into_keys().collect();
    let directories: Vec<PathBuf> = names
        .iter()
        .flat_map(|name| name.ancestors().skip(1))
        .filter(|name| *name != Path::new(""))
        .map(Path::to_owned)
        .collect();
    names.extend(directories);
    let open: Vec<_> =
        names.iter().filter(|name| made.join(name).metadata().unwrap().permissions().mode() & 0o007 != 0).collect();
    assert!(names.len() > 100 && open.is_empty(), "{open:?}");
}

#[test]
fn a_stream_readable_by_others_is_warned_of() {
    let server = Server::new().start();
    let scratch = scratch();
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        let path = scratch.path().join(format!("{mode:o}"));
        let file = fs::File::create(&path).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        let run = xb("xb-snap").args(server.options()).stdout(file).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{said}");
        assert_eq!(said.contains("umask 077"), warned, "{said}");
    }
}

#[test]
fn every_filter_warns_of_a_file_that_others_can_read() {
    let dir = scratch();
    let key = dir.path().join("key").display().to_string();
    good(feed(xb("xb-crypt").args(["--generate-key", &key]), b""));
    let plain = member("t", &[1; 1000]);
    let sealed = good(feed(xb("xb-crypt").args(["-k", &key]), &plain));
    for (tool, arguments, input) in [
        ("xb-crypt", &["-k", &key, "-d"][..], &sealed),
        ("xb-pack", &[&key], &plain),
        ("xb-redo", &[], &plain),
        ("xb-sum", &[], &plain),
        ("xb-throttle", &[], &plain),
        ("xb-zip", &[], &plain),
    ] {
        let stream = dir.path().join("stream");
        fs::write(&stream, input).unwrap();
        let out = fs::File::create(dir.path().join(tool)).unwrap();
        out.set_permissions(fs::Permissions::from_mode(0o644)).unwrap();
        let run = xb(tool).args(arguments).stdin(fs::File::open(&stream).unwrap()).stdout(out).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(said.contains("stdout: every user can read this file"), "{tool}: {said}");
    }
}
