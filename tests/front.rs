//! Command lines of the stock programs, carried out by xb-front: what they make is restored, and is the source.

mod callers;
mod galera;
mod recipes;
mod restoring;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::pipeline::{Relay, Run, Stage};
use crate::support::tool::plain_tree;
use crate::support::{Family, Flavour, Load, Pipeline, Server, check, scratch, test_on, wait_until, xb};

/// A stock program of this name.
fn front(name: &str, arguments: &[&str]) -> Command {
    let mut command = xb("xb-front");
    command.arg(name).args(arguments);
    command
}

/// The name under which a server's own program is known.
fn program(server: &Server) -> &'static str {
    match server.flavour().family() {
        Family::Mariadb => "mariadb-backup",
        Family::Mysql => "xtrabackup",
    }
}

/// The same for a server, which is found by its own option file; of that server, too, is the one that recovers.
fn of(server: &Server, arguments: &[&str]) -> Command {
    let mut command = xb("xb-front");
    command.arg(program(server)).args(server.options()).args(arguments);
    with_servers(command, server)
}

/// Has the program of this server recover.
fn with_servers(mut command: Command, server: &Server) -> Command {
    let first = server.flavour().server().parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [first].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(dirs).unwrap());
    command
}

#[track_caller]
fn good(command: impl Into<Stage>) -> Run {
    let run = Pipeline::new().stage(command).limit(Duration::from_secs(300)).run();
    run.assert_ok();
    run
}

fn option(name: &str, dir: &Path) -> String {
    format!("--{name}={}", dir.display())
}

/// A file with a key for AES256, as xbcrypt takes it.
fn key_file(dir: &Path) -> PathBuf {
    let path = dir.join("key");
    fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A backup into `dir`.
#[track_caller]
fn back_up(server: &Server, arguments: &[&str], dir: &Path) -> Run {
    let target = option("target-dir", dir);
    good(of(server, &[&["--backup", &target], arguments].concat()))
}

#[track_caller]
fn prepare(server: &Server, arguments: &[&str], dir: &Path) -> Run {
    let target = option("target-dir", dir);
    good(of(server, &[&["--prepare", &target], arguments].concat()))
}

/// Copies a prepared backup into a data directory.
#[track_caller]
fn copy_back(server: &Server, dir: &Path) -> TempDir {
    let data = scratch();
    let (target, datadir) = (option("target-dir", dir), option("datadir", data.path()));
    good(of(server, &["--copy-back", &target, &datadir]));
    data
}

/// Copies it back, and holds it against the source.
#[track_caller]
fn hold(server: &Server, dir: &Path) {
    // The position is not copied back.
    let position = check::position(dir).unwrap();
    check::restored_at(server, copy_back(server, dir).path(), &position).assert_good();
}

/// The same of one that is not prepared yet.
#[track_caller]
fn prove(server: &Server, dir: &Path) {
    prepare(server, &[], dir);
    hold(server, dir);
}

fn load(server: &Server) -> Load {
    Load::on(server).bank(2).rows(1).formats(1)
}

test_on!(a_target_dir_is_restored: mariadb, mariadb118, mysql97);

fn a_target_dir_is_restored(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let load = load(&server).start();
    load.wait_for(200);
    let dir = scratch();
    let run = back_up(&server, &["--parallel=2"], dir.path());
    load.stop();
    let said = run.stderr(0).trim_end();
    assert!(said.ends_with("completed OK!"), "{said}");
    for words in ["MySQL binlog position: filename 'binlog.", "Backup created in directory '", "(for incremental): '"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    let position = check::position(dir.path()).unwrap();
    let told = format!("filename '{}', position '{}'", position.file, position.offset);
    assert!(said.contains(&told), "{told}: {said}");
    prove(&server, dir.path());
}

test_on!(a_coded_stream_goes_through_the_stock_names: mariadb, mysql97);

fn a_coded_stream_goes_through_the_stock_names(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    load(&server).prepare();
    let (work, dir) = (scratch(), scratch());
    let key = option("encrypt-key-file", &key_file(work.path()));
    let coded = ["--compress", "--encrypt=AES256", &key];
    let stream = work.path().join("stream");
    let backup = of(&server, &[&["--backup", "--stream=xbstream"], &coded[..]].concat());
    Pipeline::new().stage(backup).stdout_to(&stream).run().assert_ok();
    let directory = option("directory", dir.path());
    let unpack = front("xbstream", &["-x", &directory, "--decompress", "--decrypt=AES256", &key, "--parallel=2"]);
    Pipeline::new().stage(unpack).stdin_from(&stream).run().assert_ok();
    prove(&server, dir.path());

    // The same, decoded in the directory.
    let dir = scratch();
    back_up(&server, &coded, dir.path());
    assert!(dir.path().join("ibdata1.zst.xbcrypt").exists());
    let target = option("target-dir", dir.path());
    good(of(&server, &["--decrypt=AES256", &key, "--remove-original", &target]));
    assert!(dir.path().join("ibdata1.zst").exists() && !dir.path().join("ibdata1.zst.xbcrypt").exists());
    good(of(&server, &["--decompress", "--remove-original", &target]));
    assert!(!dir.path().join("ibdata1.zst").exists());
    prove(&server, dir.path());
}

test_on!(increments_follow_a_base_that_was_prepared: mariadb, mariadb118);

/// As MariaDB's manual has it. A server that is started on what was prepared in between finds all that was committed.
fn increments_follow_a_base_that_was_prepared(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let load = load(&server).start();
    let (base, one, two) = (scratch(), scratch(), scratch());
    load.wait_for(100);
    back_up(&server, &[], base.path());
    load.wait_for(100);
    server.sql("CREATE DATABASE late; CREATE TABLE late.t (id INT PRIMARY KEY); INSERT INTO late.t VALUES (1)");
    back_up(&server, &[&option("incremental-basedir", base.path())], one.path());
    load.wait_for(100);
    back_up(&server, &[&option("incremental-basedir", one.path())], two.path());
    load.stop();
    prepare(&server, &[], base.path());
    prepare(&server, &[&option("incremental-dir", one.path())], base.path());
    let started = scratch();
    let copy = Command::new("cp").arg("-a").arg(base.path().join(".")).arg(started.path()).status();
    assert!(copy.unwrap().success());
    check::restored(&server, started.path()).assert_good();
    // It is that server's now: nothing is undone there.
    let late = of(&server, &["--prepare", &option("target-dir", started.path())]);
    let run = Pipeline::new().stage(late).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("a server has run on it"), "{}", run.story());
    prepare(&server, &[&option("incremental-dir", two.path())], base.path());
    hold(&server, base.path());
}

/// As the manual of xtrabackup has it.
#[test]
fn increments_are_merged_before_the_log_is_applied() {
    let flavour = Flavour::Mysql97;
    if !flavour.or_skip() {
        return;
    }
    let server = Server::new().flavour(flavour).start();
    let load = load(&server).start();
    let (base, one) = (scratch(), scratch());
    load.wait_for(100);
    back_up(&server, &[], base.path());
    load.wait_for(100);
    back_up(&server, &[&option("incremental-basedir", base.path())], one.path());
    load.stop();
    prepare(&server, &["--apply-log-only"], base.path());
    prepare(&server, &["--apply-log-only", &option("incremental-dir", one.path())], base.path());
    prove(&server, base.path());
}

test_on!(the_stock_program_and_the_front_take_each_others_backups: mariadb, mariadb118);

fn the_stock_program_and_the_front_take_each_others_backups(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let load = load(&server).start();
    load.wait_for(100);
    let (ours, theirs) = (scratch(), scratch());
    back_up(&server, &[], ours.path());
    let mut stock = server.program("mariadb-backup");
    stock.args(server.options()).arg("--backup").arg(option("target-dir", theirs.path()));
    good(stock);
    load.stop();
    let mut stock = server.program("mariadb-backup");
    stock.arg("--no-defaults").arg("--prepare").arg(option("target-dir", ours.path()));
    good(stock);
    check::restored(&server, ours.path()).assert_good();
    prove(&server, theirs.path());
}

#[test]
fn only_what_is_asked_for_is_copied() {
    let server = Server::new().start();
    server.sql(
        "CREATE DATABASE one; CREATE TABLE one.t (id INT PRIMARY KEY); INSERT INTO one.t VALUES (7); \
         CREATE DATABASE two; CREATE TABLE two.t (id INT PRIMARY KEY)",
    );
    let dir = scratch();
    back_up(&server, &["--databases=mysql sys performance_schema one"], dir.path());
    prepare(&server, &[], dir.path());
    let data = copy_back(&server, dir.path());
    let restored = server.twin(data.path()).start();
    assert_eq!(restored.value("SELECT id FROM one.t"), "7");
    assert!(!data.path().join("two").exists());
}

/// What other users see of a process while it works.
#[test]
fn a_password_is_gone_from_the_command_line() {
    let server = Server::new().start();
    server.sql("CREATE USER u IDENTIFIED BY 'geheim'; GRANT ALL ON *.* TO u");
    let sink = Pipeline::new()
        .stage(of(&server, &["--backup", "--stream=xbstream", "--user=u", "--password=geheim"]))
        .relay(Relay::default().stall(1 << 20, Duration::from_secs(3)))
        .stage(front("xbstream", &["-x", &option("directory", scratch().path())]));
    let running = sink.start();
    let pid = running.pid(0);
    let line = || fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    wait_until("the password to go", Duration::from_secs(10), || text(line()).contains("--password=x\0"));
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        for what in ["cmdline", "environ"] {
            let seen = text(fs::read(format!("/proc/{child}/{what}")).unwrap_or_default());
            assert!(!seen.contains("geheim"), "{what} of {child}: {seen}");
        }
    }
    let run = running.wait();
    run.assert_codes(&[0, 0]);
    assert!(run.stderr(0).matches("--password").count() == 1 && !run.stderr(0).contains("geheim"), "{}", run.story());
}

#[test]
fn what_fails_ends_with_1_and_without_the_words() {
    let server = Server::new().start();
    let dir = scratch();
    let target = option("target-dir", &dir.path().join("b"));
    for arguments in [
        &["--backup", &target, "--user=nobody"][..],
        &["--prepare", &target],
        &["--backup", &target, "--export"],
        &["--backup", "--no-such-option"],
    ] {
        let run = Pipeline::new().stage(of(&server, arguments)).run();
        run.assert_codes(&[1]);
        assert!(!run.stderr(0).contains("completed OK!"), "{}", run.story());
    }
}

#[test]
fn files_of_a_stream_are_those_that_were_packed() {
    let (from, to, stream) = (scratch(), scratch(), scratch());
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d/a"), "one").unwrap();
    fs::write(from.path().join("b"), vec![7; 100_000]).unwrap();
    let file = stream.path().join("s");
    let pack = front("mbstream", &["-c", "-C", from.path().to_str().unwrap(), "d/a", "b"]);
    Pipeline::new().stage(pack).stdout_to(&file).run().assert_ok();
    let unpack = front("xbstream", &["-x", "-C", to.path().to_str().unwrap()]);
    Pipeline::new().stage(unpack).stdin_from(&file).run().assert_ok();
    assert_eq!(plain_tree(from.path()), plain_tree(to.path()));
}

#[test]
fn a_link_with_a_stock_name_is_that_program() {
    let links = scratch();
    let exe = xb("xb-front").get_program().to_owned();
    for (name, words) in [("mariadb-backup", "based on MariaDB server"), ("xtrabackup", "based on MySQL server")] {
        let link = links.path().join(name);
        std::os::unix::fs::symlink(&exe, &link).unwrap();
        let run = good(Command::new(&link).arg("--version"));
        assert!(run.stderr(0).contains(words) && run.stderr(0).contains("(xb-tools "), "{}", run.story());
        let help = good(Command::new(&link).arg("--help"));
        assert!(String::from_utf8_lossy(&help.stdout).contains("--target-dir"));
    }
}
