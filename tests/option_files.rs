//! xb-snap interprets option files as the server's own programs do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use xb::server::options::Sources;

use crate::support::tool::plant;
use crate::support::{Pipeline, program, scratch, xb};

/// Groups from which xb-snap takes how to connect.
const GROUPS: [&str; 8] =
    ["client", "client-server", "client-mariadb", "mysql", "xtrabackup", "mariabackup", "mariadb-backup", "xb-snap"];
const KEYS: [&str; 5] = ["user", "password", "host", "port", "socket"];

/// What `my_print_defaults` finds for an option; the last one counts.
fn stock(command: &mut Command, key: &str) -> Option<String> {
    let run = Pipeline::new().stage(command.args(GROUPS)).run();
    run.assert_ok();
    let text = String::from_utf8(run.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_prefix(&format!("--{key}="))).next_back().map(str::to_owned)
}

/// A file with groups, quotes, comments and includes.
fn files() -> (TempDir, PathBuf) {
    let dir = scratch();
    let at = dir.path().display();
    let main = format!(
        "# first\n; second\n[client]\nuser = first\npassword=a\\'b # c\nhost = \"x#y\" # z\nport=3306\n\
         [ client-server]\nport=1\n[client-server ]\nport=2 \n[mysqld]\nsocket=/server\n[clientA]\nsocket = '/a b' \n\
         !include {at}/missing.cnf\n!include {at}/one.cnf\n! includedir {at}/sub\n!includedir\t{at}/sub\n[xb-snap]\nhost='it\\'s # all' # comment\n"
    );
    plant(
        dir.path(),
        &[
            ("my.cnf", main.as_bytes()),
            ("one.cnf", b"[mysql]\nport=3\nuser=one\n[mariadb-backup]\npassword=\"back\\\\slash\\n\""),
            ("sub/b.cnf", b"[clientB]\nuser=suffixed\n[client]\nuser=b\n"),
            ("sub/a.cnf", b"[client]\nuser=a\nsocket=/from/a\n"),
            ("sub/c.txt", b"[client]\nuser=text\n"),
            ("sub/z.cnf", b"[client]\nuser=anybody\n"),
        ],
    );
    fs::set_permissions(dir.path().join("sub/z.cnf"), fs::Permissions::from_mode(0o666)).unwrap();
    let file = dir.path().join("my.cnf");
    (dir, file)
}

#[test]
fn a_file_is_read_as_the_stock_program_reads_it() {
    let (_dir, file) = files();
    for suffix in [None, Some("A"), Some("B"), Some("-server")] {
        let sources = Sources { file: Some(file.clone()), suffix: suffix.map(str::to_owned), ..Sources::default() };
        let options = sources.read(&()).unwrap();
        for key in KEYS {
            let mut print = program("my_print_defaults");
            print.arg(format!("--defaults-file={}", file.display()));
            print.args(suffix.map(|suffix| format!("--defaults-group-suffix={suffix}")));
            // What it prints of a line break cannot be told from a second option.
            let ours = options.client(key).map(|value| value.split('\n').next().unwrap().to_owned());
            assert_eq!(ours, stock(&mut print, key), "{key}, suffix {suffix:?}");
        }
    }
    let missing = file.with_file_name("more.cnf");
    fs::write(&missing, format!("!includedir {}\n", missing.with_file_name("nowhere").display())).unwrap();
    let sources = Sources { file: Some(missing.clone()), ..Sources::default() };
    assert!(sources.read(&()).unwrap_err().to_string().contains("nowhere: cannot read"));
    let mut print = program("my_print_defaults");
    print.arg(format!("--defaults-file={}", missing.display())).arg("client");
    assert_ne!(Pipeline::new().stage(print).run().codes(), [0]);
}

/// As whom xb-snap would connect.
fn user(command: &mut Command) -> String {
    let run = Pipeline::new().stage(command.arg("--socket=/nonexistent/socket")).run();
    run.assert_codes(&[1]);
    let said = run.stderr(0).split("cannot connect as ").nth(1).unwrap_or_else(|| panic!("{}", run.story()));
    said.split(':').next().unwrap().to_owned()
}

#[test]
fn files_are_searched_in_the_same_order() {
    let dir = scratch();
    let group = |name: &str| format!("[client]\nuser={name}\n[client_s]\nuser={name}-suffixed\n");
    plant(
        dir.path(),
        &[
            ("home/.my.cnf", group("home").as_bytes()),
            ("mariadb/my.cnf", group("mariadb").as_bytes()),
            ("mysql/my.cnf", group("mysql").as_bytes()),
            ("extra.cnf", group("extra").as_bytes()),
            ("empty/x", b""),
        ],
    );
    let at = |name: &str| dir.path().join(name);
    let (extra, file) = (format!("--defaults-extra-file={}", at("extra.cnf").display()), at("mysql/my.cnf"));
    let file = format!("--defaults-file={}", file.display());
    let suffix = "--defaults-group-suffix=_s".to_owned();
    let (home, mariadb, mysql) = (("HOME", at("home")), ("MARIADB_HOME", at("mariadb")), ("MYSQL_HOME", at("mysql")));
    let (nowhere, by_env) = (("HOME", at("empty")), ("MYSQL_GROUP_SUFFIX", PathBuf::from("_s")));
    for (arguments, environment, expected) in [
        (vec![], vec![&home, &mysql], "home"),
        (vec![], vec![&nowhere, &mysql], "mysql"),
        (vec![], vec![&nowhere, &mysql, &mariadb], "mariadb"),
        (vec![&extra], vec![&nowhere, &mysql], "extra"),
        (vec![&extra], vec![&home, &mysql], "home"),
        (vec![&file], vec![&home], "mysql"),
        (vec![&extra, &suffix], vec![&nowhere], "extra-suffixed"),
        (vec![&extra], vec![&nowhere, &by_env], "extra-suffixed"),
    ] {
        let with = |mut command: Command| {
            command.args(&arguments);
            for name in ["HOME", "MARIADB_HOME", "MYSQL_HOME", "MARIADB_GROUP_SUFFIX", "MYSQL_GROUP_SUFFIX"] {
                command.env_remove(name);
            }
            command.envs(environment.iter().map(|(name, value): &&(&str, PathBuf)| (*name, value)));
            command
        };
        let case = format!("{arguments:?} {environment:?}");
        assert_eq!(stock(&mut with(program("my_print_defaults")), "user").as_deref(), Some(expected), "{case}");
        assert_eq!(user(&mut with(xb("xb-snap"))), expected, "{case}");
    }
    let mut none = xb("xb-snap");
    assert_eq!(user(none.args(["--no-defaults", "--user=me"]).env("HOME", at("home"))), "me");
    let mut missing = xb("xb-snap");
    missing.arg("--defaults-extra-file=/nonexistent.cnf");
    Pipeline::new().stage(missing).run().assert_codes(&[1]);
}

#[test]
fn a_world_writable_option_file_is_never_used() {
    let dir = scratch();
    let file: &Path = &dir.path().join(".my.cnf");
    fs::write(file, "[client]\nuser=anybody\n").unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
    let mut snap = xb("xb-snap");
    snap.arg("--socket=/nonexistent/socket").env("HOME", dir.path());
    let run = Pipeline::new().stage(snap).run();
    run.assert_codes(&[1]);
    let said = run.stderr(0);
    assert!(said.contains(".my.cnf: ignored: anybody can write to it") && !said.contains("as anybody"), "{said}");
    for option in ["file", "extra-file"] {
        let mut snap = xb("xb-snap");
        snap.arg(format!("--defaults-{option}={}", file.display())).arg("--socket=/nonexistent/socket");
        let run = Pipeline::new().stage(snap).run();
        run.assert_codes(&[1]);
        let said = run.stderr(0);
        assert!(said.contains(".my.cnf: not used: anybody can write to it\nhint: chmod o-w "), "{said}");
        assert!(!said.contains("cannot connect"), "{said}");
    }
}
