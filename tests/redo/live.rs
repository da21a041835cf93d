//! The filter after xb-snap, with servers that constantly write to a small log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::Signal;
use xb::innodb::redo::mariadb::{FILE, START};

use crate::support::pipeline::{Relay, Running};
use crate::support::server::Builder;
use crate::support::{Flavour, Load, Pipeline, Server, check, scratch, test_on, wait_until, xb};

/// Bytes of log; the smallest that a server takes.
const LOG: u64 = 4 << 20;

fn small_log() -> Builder {
    Server::new().log_size("4M").option("innodb-log-buffer-size", "2M").option("innodb-buffer-pool-size", "32M")
}

fn backup(server: &Server, directory: &Path) -> Pipeline {
    Pipeline::new()
        .stage(xb("xb-snap").args(server.options()))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(directory))
}

/// The stock program prepares the directory, and a server on it is the source at the recorded position.
fn prove(server: &Server, directory: &Path) {
    prepare(server, directory);
    check::restored(server, directory).assert_good();
}

fn prepare(server: &Server, directory: &Path) {
    let mut prepare = server.program("mariadb-backup");
    prepare.arg("--no-defaults").arg("--prepare").arg(format!("--target-dir={}", directory.display()));
    Pipeline::new().stage(prepare).run().assert_ok();
}

/// Waits until the server has written so much more log.
fn wait_for_log(server: &Server, bytes: u64) {
    let lsn = || server.rows("SHOW STATUS LIKE 'Innodb_lsn_current'")[0][1].parse::<u64>().unwrap();
    let goal = lsn() + bytes;
    wait_until("the server to write its log", Duration::from_secs(120), || lsn() >= goal);
}

/// Stops a stage while `meanwhile` runs.
fn pause(running: &Running, stage: usize, meanwhile: impl FnOnce()) {
    running.signal(stage, Signal::STOP);
    meanwhile();
    running.signal(stage, Signal::CONT);
}

test_on!(a_stalled_reader_loses_nothing_while_the_log_wraps: mariadb, mariadb118);

fn a_stalled_reader_loses_nothing_while_the_log_wraps(flavour: Flavour) {
    let server = small_log().flavour(flavour).start();
    let load = Load::on(&server).bank(1).rows(2).start();
    load.wait_for(50);
    let directory = scratch();
    let running = backup(&server, directory.path()).start();
    pause(&running, 2, || wait_for_log(&server, 4 * LOG));
    running.wait().assert_ok();
    load.stop();
    let captured = directory.path().join(FILE).metadata().unwrap().len();
    assert!(captured > START as u64 + 3 * LOG, "{captured} bytes were captured: the log did not wrap");
    prove(&server, directory.path());
}

test_on!(a_server_that_writes_nothing_is_copied_at_once: mariadb, mariadb118);

/// The log ends where the checkpoint does, and no mark ever moves.
fn a_server_that_writes_nothing_is_copied_at_once(flavour: Flavour) {
    let mut server = small_log().flavour(flavour).start();
    Load::on(&server).bank(1).prepare();
    server.restart();
    let directory = scratch();
    let run = backup(&server, directory.path()).run();
    run.assert_ok();
    assert!(directory.path().join(FILE).metadata().unwrap().len() < START as u64 + (64 << 10), "{}", run.story());
    prove(&server, directory.path());
}

#[test]
fn an_overrun_ends_the_backup_with_5() {
    let server = small_log().start();
    let load = Load::on(&server).rows(2).start();
    load.wait_for(50);
    let directory = scratch();
    let running = backup(&server, directory.path()).start();
    pause(&running, 1, || wait_for_log(&server, 3 * LOG));
    let run = running.wait();
    run.assert_codes(&[141, 5, 3]);
    assert!(run.stderr(1).contains("redo overrun"), "{}", run.story());
    assert!(
        run.stderr(1).contains("hint: run the backup again with SET GLOBAL innodb_log_file_size="),
        "{}",
        run.story()
    );
    assert!(!directory.path().join("xb_manifest").exists());
}

#[test]
fn a_killed_filter_ends_xb_snap_without_a_backup() {
    let server = small_log().start();
    Load::on(&server).rows(1).prepare();
    for after in [0, 100_000, 5_000_000] {
        let directory = scratch();
        let run = Pipeline::new()
            .stage(xb("xb-snap").args(server.options()))
            .stage(xb("xb-redo"))
            .relay(Relay::default().kill(1, after))
            .stage(xb("xb-unpack").arg("-C").arg(directory.path()))
            .run();
        run.assert_codes(&[141, 137, 3]);
        assert!(!directory.path().join("xb_manifest").exists());
    }
}

#[test]
fn a_log_that_is_resized_meanwhile_is_followed() {
    let server = small_log().start();
    let load = Load::on(&server).bank(1).rows(1).start();
    load.wait_for(50);
    let directory = scratch();
    let running = backup(&server, directory.path()).start();
    pause(&running, 2, || {
        for size in [16 << 20, 5 << 20] {
            server.sql(&format!("SET GLOBAL innodb_log_file_size={size}"));
            let path = server.data().join(FILE);
            wait_until("the log to be resized", Duration::from_secs(60), || path.metadata().unwrap().len() == size);
            wait_for_log(&server, LOG);
        }
    });
    let run = running.wait();
    run.assert_ok();
    load.stop();
    assert!(run.stderr(1).contains("replaced 2 times"), "{}", run.stderr(1));
    prove(&server, directory.path());
}

#[test]
fn every_way_of_writing_the_log_is_followed() {
    for setting in ["0", "1", "2"] {
        let server = small_log().option("innodb-flush-log-at-trx-commit", setting).start();
        let directory = scratch();
        backup_under_load(&server, directory.path());
        prove(&server, directory.path());
    }
}

/// The log has the original's path, which exists on this host: recovery of a copy must not change it.
#[test]
fn an_external_table_is_recovered_in_the_copy() {
    let server = small_log().start();
    let outside = server.home().join("outside");
    server.sql(&format!(
        "CREATE DATABASE far; CREATE TABLE far.t (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT) DATA DIRECTORY='{}'",
        outside.display()
    ));
    let load = Load::on(&server).bank(1).rows(1).start();
    load.wait_for(50);
    let directory = scratch();
    let running = backup(&server, directory.path()).start();
    pause(&running, 2, || {
        for _ in 0..200 {
            server.sql("INSERT INTO far.t (v) VALUES (REPEAT('x', 2000))");
        }
    });
    running.wait().assert_ok();
    load.stop();
    let path = outside.join("far/t.ibd");
    let log = std::fs::read(directory.path().join(FILE)).unwrap();
    let original = path.as_os_str().as_encoded_bytes();
    assert!(!log.windows(original.len()).any(|window| window == original), "the log names the original");
    assert!(log.windows(10).any(|window| window == b"/far/t.ibd"), "the log does not name the table at all");
    prepare(&server, directory.path());
    check::restored(&server, directory.path()).assert_good();
}

/// No key is needed until a server recovers it.
#[test]
fn an_encrypted_log_is_followed() {
    let server = small_log().encrypted().start();
    let directory = scratch();
    backup_under_load(&server, directory.path());
    check::restored(&server, directory.path()).assert_good();
}

fn backup_under_load(server: &Server, directory: &Path) {
    let load = Load::on(server).bank(2).rows(1).start();
    load.wait_for(100);
    let running = backup(server, directory).start();
    pause(&running, 2, || wait_for_log(server, 2 * LOG));
    running.wait().assert_ok();
    load.stop();
}

/// Writes as fast as possible until it is dropped; the log grows by some megabytes per second.
struct Flood(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Flood {
    fn on(server: &Server) -> Flood {
        server.sql("CREATE TABLE test.flood (id INT PRIMARY KEY AUTO_INCREMENT, wide LONGBLOB)");
        let (over, mut session) = (Arc::<AtomicBool>::default(), server.connect());
        let ended = over.clone();
        let thread = std::thread::spawn(move || {
            while !ended.load(Relaxed) {
                let row = "INSERT INTO test.flood (wide) VALUES (REPEAT(SHA2(RAND(), 512), 2000))";
                session.query_drop(row).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Flood(over, Some(thread))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

test_on!(a_slow_pipeline_gets_the_sufficient_rate_reported: mariadb; long: mysql97);

fn a_slow_pipeline_gets_the_sufficient_rate_reported(flavour: Flavour) {
    let server = Server::new().flavour(flavour).log_size("512M").start();
    let flood = Flood::on(&server);
    let run = Pipeline::new()
        .stage(xb("xb-snap").args(server.options()))
        // It need not wait for the end, which never comes.
        .stage(xb("xb-redo").arg("--spool-limit=120m"))
        .stage(xb("xb-throttle").args(["-q", "-L", "300k"]))
        .stage(xb("xb-unpack").arg("--verify"))
        .run();
    drop(flood);
    let said = run.stderr(1);
    assert!(run.codes()[1] == 1 && said.contains("limit of 125829120 bytes reached"), "{}", run.story());
    let warning =
        said.lines().find(|line| line.contains("the log does not catch up")).unwrap_or_else(|| panic!("{said}"));
    let rate = |before: &str, after: &str| -> u64 {
        let (head, _) = warning.split_once(after).unwrap();
        head.rsplit_once(before).map_or(head, |(_, number)| number).trim().parse().unwrap()
    };
    let (grows, takes) = (rate("grows by ", " KiB/s and"), rate("the stream takes ", " KiB/s, of"));
    let enough = rate("; ", " KiB/s would be enough");
    // The pipes behind it take some at once.
    assert!(takes < 1200 && grows > takes && enough >= 2 * grows, "{flavour:?}: {warning}");
}
