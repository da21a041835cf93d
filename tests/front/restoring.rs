//! What `--prepare` is told beside the directory, and how the front logs in.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{back_up, copy_back, front, good, key_file, of, option, prepare, with_servers};
use crate::support::backup::status;
use crate::support::{Family, Flavour, Pipeline, Server, root_of_package, scratch, test_on, xb};

test_on!(prepared_transactions_are_rolled_back_only_on_demand: mariadb, mariadb118, mysql97);

fn prepared_transactions_are_rolled_back_only_on_demand(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    // A name with a branch and a format, and one with bytes that are no text.
    for (id, xid) in [(2, "'left','b',7"), (3, "X'00ff27',X'',1")] {
        let statements = format!("XA START {xid}; INSERT INTO d.t VALUES ({id}); XA END {xid}; XA PREPARE {xid}");
        server.sql(&statements);
    }
    for (options, left) in [(&[][..], 2), (&["--rollback-prepared-trx"], 0)] {
        let dir = scratch();
        // A prepared transaction of MariaDB keeps the backup's lock away.
        let lock = if flavour.family() == Family::Mariadb { &["--no-lock"][..] } else { &[] };
        back_up(&server, lock, dir.path());
        let run = prepare(&server, options, dir.path());
        assert_eq!(run.stderr(0).matches(": rolled back").count(), 2 - left, "{}", run.story());
        let data = copy_back(&server, dir.path());
        let restored = server.twin(data.path()).start();
        assert_eq!(restored.rows("XA RECOVER").len(), left, "{options:?}");
        assert_eq!(restored.rows("SELECT id FROM d.t"), [["1"]]);
        // Nothing holds its row any more.
        if left == 0 {
            restored.sql("INSERT INTO d.t VALUES (2), (3)");
        }
    }
}

test_on!(force_passes_over_damage_and_says_so: mariadb, mysql97);

fn force_passes_over_damage_and_says_so(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); \
         CREATE TABLE d.bad (id INT PRIMARY KEY); INSERT INTO d.bad VALUES (1)",
    );
    let dir = scratch();
    back_up(&server, &[], dir.path());
    // A table that is so new was copied again under the lock.
    let mut files = ["d/bad.new", "d/bad.ibd"].iter().map(|name| dir.path().join(name));
    let file = files.find(|file| file.exists()).unwrap();
    let file = fs::File::options().write(true).open(file).unwrap();
    let page = if flavour.family() == Family::Mysql { 4 } else { 3 };
    file.write_all_at(&[0x55; 1000], page * 16384 + 200).unwrap();
    let target = option("target-dir", dir.path());
    let plain = Pipeline::new().stage(of(&server, &["--prepare", &target])).run();
    plain.assert_codes(&[1]);
    assert!(plain.stderr(0).contains("differs from what the manifest says"), "{}", plain.story());
    // Of the server's own group in a file that is named, as the stock program has it; the command line counts more.
    let file = dir.path().with_extension("cnf");
    fs::write(&file, "[mysqld]\ninnodb_force_recovery=2\n").unwrap();
    let named = || {
        let mut command = xb("xb-front");
        command.arg(super::program(&server)).arg(option("defaults-file", &file)).args(["--prepare", &target]);
        command
    };
    let mut unforced = named();
    unforced.arg("--innodb-force-recovery=0");
    Pipeline::new().stage(with_servers(unforced, &server)).run().assert_codes(&[1]);
    let run = good(with_servers(named(), &server));
    fs::remove_file(&file).unwrap();
    for words in ["innodb_force_recovery = 1", "its content differs", "damaged pages were passed over"] {
        assert!(run.stderr(0).contains(words), "{words}: {}", run.story());
    }
    let told = status(dir.path());
    assert!(String::from_utf8_lossy(&told.stdout).contains("recovered over damaged pages"), "{}", told.story());
    let data = scratch();
    let datadir = option("datadir", data.path());
    let run = good(of(&server, &["--copy-back", &target, &datadir]));
    assert!(run.stderr(0).contains("was recovered over damaged pages"), "{}", run.story());
    let restored = server.twin(data.path()).start();
    assert_eq!(restored.value("SELECT id FROM d.t"), "1");
}

/// A file that mysql_config_editor has written, with `[client]`, `[backup]` and `[far]`.
fn login_file(dir: &Path, mode: u32) -> PathBuf {
    let file = dir.join("mylogin.cnf");
    fs::copy(root_of_package().join("tests/vectors/login/mylogin.cnf"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    file
}

test_on!(a_login_path_says_who_logs_in: mariadb, mysql97);

fn a_login_path_says_who_logs_in(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE USER keeper@localhost IDENTIFIED BY 'geh#im \"w\"ort'; GRANT ALL ON *.* TO keeper@localhost");
    let dir = scratch();
    let attempt = |mode: u32, path: &str| {
        let target = option("target-dir", &dir.path().join(path));
        let mut command = of(&server, &["--backup", path, &target]);
        command.env("MYSQL_TEST_LOGIN_FILE", login_file(dir.path(), mode));
        Pipeline::new().stage(command).run()
    };
    attempt(0o600, "--login-path=backup").assert_ok();
    for (mode, path, says) in [
        (0o600, "--login-path=client", "nobody"),
        (0o600, "--login-path=none", "none is not in .mylogin.cnf"),
        (0o640, "--login-path=backup", "other users may read"),
    ] {
        let run = attempt(mode, path);
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains(says), "{says}: {}", run.story());
    }
    let mut snap = xb("xb-snap");
    snap.args(["--no-defaults", "-q", "--login-path=backup"]).arg(option("socket", &server.socket()));
    snap.env("MYSQL_TEST_LOGIN_FILE", login_file(dir.path(), 0o600));
    Pipeline::new().stage(snap).stdout_to(&dir.path().join("stream")).run().assert_ok();
}

#[test]
fn a_key_is_taken_as_secrets_are_mounted() {
    let dir = scratch();
    let (key, file, out) = (key_file(dir.path()), dir.path().join("file"), dir.path().join("out"));
    fs::write(&file, "what is to be kept").unwrap();
    let mode = |mode: u32| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    let stock = || front("xbcrypt", &["-a", "AES256", &option("encrypt-key-file", &key)]);
    let run = |command: Command| Pipeline::new().stage(command).stdin_from(&file).stdout_to(&out).run();
    for readable in [0o400, 0o440, 0o644] {
        mode(readable);
        let sealed = run(stock());
        sealed.assert_ok();
        assert_eq!(sealed.stderr(0).contains("other users can read this key"), readable & 0o44 != 0, "{readable:o}");
        let back = front("xbcrypt", &["-d", &option("encrypt-key-file", &key), &option("input", &out)]);
        let back = Pipeline::new().stage(back).run();
        back.assert_ok();
        assert_eq!(back.stdout, fs::read(&file).unwrap());
    }
    mode(0o666);
    run(stock()).assert_codes(&[1]);
    // Ours asks to be told.
    mode(0o644);
    let ours = |options: &[&str]| {
        let mut command = xb("xb-crypt");
        command.args(["--raw", "-k"]).arg(&key).args(options);
        run(command)
    };
    ours(&[]).assert_codes(&[1]);
    ours(&["--allow-readable-key"]).assert_ok();
}

test_on!(a_note_in_the_server_is_a_base: mariadb, mysql97);

fn a_note_in_the_server_is_a_base(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)");
    let (base, one) = (scratch(), scratch());
    back_up(&server, &["--history=full"], base.path());
    server.sql("INSERT INTO d.t VALUES (2)");
    back_up(&server, &["--history=one", "--incremental-history-name=full"], one.path());
    let (table, tool) = match flavour.family() {
        Family::Mariadb => ("mysql.mariadb_backup_history", "mariabackup"),
        Family::Mysql => ("PERCONA_SCHEMA.xtrabackup_history", "xtrabackup"),
    };
    let notes = format!("SELECT name, tool_name, incremental, format, compressed FROM {table} ORDER BY name");
    assert_eq!(server.rows(&notes), [["full", tool, "N", "file", "N"], ["one", tool, "Y", "file", "N"]]);
    prepare(&server, &["--apply-log-only"], base.path());
    prepare(&server, &[&option("incremental-dir", one.path())], base.path());
    let data = copy_back(&server, base.path());
    let restored = server.twin(data.path()).start();
    assert_eq!(restored.value("SELECT COUNT(*) FROM d.t"), "2");
}
