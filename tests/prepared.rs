//! Transactions that are prepared when a backup ends: the result is that of the server itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::support::backup::{apply_by, status, take};
use crate::support::{Family, Flavour, Pipeline, Server, scratch, test_on, xb};

const CLIENTS: i64 = 8;

/// A server with a binary log, an XA transaction left prepared, and nothing else.
fn server(flavour: Flavour) -> Server {
    let server = Server::new().flavour(flavour).option("log-bin", "mb").option("sync-binlog", "1");
    let server = server.option("innodb-flush-log-at-trx-commit", "1").start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT); \
        CREATE TABLE d.u (id INT PRIMARY KEY); XA START 'left'; INSERT INTO d.u VALUES (7); XA END 'left'; XA PREPARE 'left'");
    server
}

/// Commits from many clients, until the server goes or `d.t` does.
fn storm(server: &Server) -> Vec<std::thread::JoinHandle<()>> {
    let client = |number: i64| {
        let mut conn = server.connect();
        std::thread::spawn(move || while conn.query_drop(format!("INSERT INTO d.t (v) VALUES ({number})")).is_ok() {})
    };
    (0..CLIENTS).map(client).collect()
}

fn calm(clients: Vec<std::thread::JoinHandle<()>>) {
    clients.into_iter().for_each(|client| client.join().unwrap());
}

fn content(server: &Server) -> Vec<Vec<String>> {
    let mut rows = server.rows("SELECT id, v FROM d.t ORDER BY id");
    rows.extend(server.rows("XA RECOVER"));
    rows
}

/// What xb-snap said.
fn offline(options: Option<&Path>, data: &Path, directory: &Path) -> String {
    let options = options.map_or_else(|| "--no-defaults".into(), |file| format!("--defaults-file={}", file.display()));
    let run = Pipeline::new()
        .stage(xb("xb-snap").arg(options).arg("--offline").arg("--datadir").arg(data))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(directory))
        .run();
    run.assert_ok();
    run.stderr(0).to_owned()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().unwrap().success());
}

test_on!(a_crashed_servers_copy_has_what_its_binary_log_decides: mariadb, mariadb118, mysql97);

fn a_crashed_servers_copy_has_what_its_binary_log_decides(flavour: Flavour) {
    let mut server = server(flavour);
    let clients = storm(&server);
    // The log that decides is not the newest.
    std::thread::sleep(Duration::from_millis(400));
    server.sql("FLUSH BINARY LOGS");
    std::thread::sleep(Duration::from_millis(400));
    server.kill();
    calm(clients);
    let (dir, own) = (scratch(), scratch());
    copy(server.data(), &own.path().join("data"));
    let options = scratch();
    let file = options.path().join("my.cnf");
    fs::write(&file, "[mysqld]\nlog_bin=mb\n").unwrap();
    // For MySQL's, only option files tell.
    let options = (flavour.family() == Family::Mysql).then_some(file.as_path());
    offline(options, server.data(), dir.path());
    let run = apply_by(&server, dir.path());
    run.assert_ok();
    status(dir.path()).assert_ok();
    let expect = server.twin(&own.path().join("data")).option("log-bin", "mb").start();
    let restored = server.twin(dir.path()).start();
    assert_eq!(content(&restored), content(&expect), "{flavour:?}");
    assert!(!content(&expect).is_empty());
}

test_on!(without_locks_what_was_not_acknowledged_is_rolled_back: mariadb, mariadb118);

fn without_locks_what_was_not_acknowledged_is_rolled_back(flavour: Flavour) {
    let server = server(flavour);
    let clients = storm(&server);
    for _ in 0..3 {
        let dir = scratch();
        let before: u64 = server.value("SELECT COUNT(*) FROM d.t").parse().unwrap();
        take(&server, &["--no-lock"], dir.path());
        let after: u64 = server.value("SELECT COUNT(*) FROM d.t").parse().unwrap();
        apply_by(&server, dir.path()).assert_ok();
        let restored = server.twin(dir.path()).start();
        let rows: u64 = restored.value("SELECT COUNT(*) FROM d.t").parse().unwrap();
        assert!((before..=after).contains(&rows), "{before} {rows} {after}");
        assert_eq!(restored.rows("XA RECOVER").len(), 1);
    }
    server.sql("DROP TABLE d.t");
    calm(clients);
}

/// A binary log that is elsewhere, and that no option names.
#[test]
fn what_nothing_decides_is_not_said_to_be_curable() {
    let outside = scratch();
    let base = outside.path().join("mb").display().to_string();
    let mut server = Server::new().option("log-bin", &base).option("sync-binlog", "1").start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)");
    let clients = storm(&server);
    std::thread::sleep(Duration::from_millis(500));
    server.kill();
    calm(clients);
    let (dir, named) = (scratch(), scratch());
    let said = offline(None, server.data(), dir.path());
    assert!(said.contains("no binary log of it was found"), "{said}");
    for _ in 0..2 {
        let run = apply_by(&server, dir.path());
        run.assert_codes(&[5]);
        assert!(run.stderr(0).contains("what decides about them"), "{}", run.story());
        let told = status(dir.path());
        told.assert_codes(&[5]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned() + told.stderr(0);
        assert!(told.contains("prepared transactions") && !told.contains("run xb-redo --apply on it again"), "{told}");
    }
    let file = outside.path().join("my.cnf");
    fs::write(&file, format!("[mariadbd]\nlog_bin={base}\n")).unwrap();
    offline(Some(&file), server.data(), named.path());
    apply_by(&server, named.path()).assert_ok();
}
