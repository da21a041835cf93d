//! The main function: copies a server under load, restores it, and proves it equal to the source at the recorded
//! position.

use std::path::Path;
use std::time::Duration;

pub(crate) use crate::support::backup::{apply_by as apply, status};
use crate::support::pipeline::{Relay, Run};
use crate::support::server::Builder;
use crate::support::{Flavour, Load, Pipeline, Random, Server, check, fault, keyring, rounds, scratch, test_on, xb};

/// A backup as a pipeline into `target`; `relay` is between the backup and xb-unpack.
pub(crate) fn pipeline(server: &Server, snap: &[&str], relay: Relay, target: &Path) -> Pipeline {
    Pipeline::new()
        .stage(xb("xb-snap").args(server.options()).args(snap))
        .stage(keyring::filter(server))
        .relay(relay)
        .stage(xb("xb-unpack").arg("-C").arg(target))
        .limit(Duration::from_secs(300))
}

/// Backs the server up under load, restores, and checks. Returns the run of the backup.
pub(crate) fn prove(builder: Builder, seed: u64, load: impl FnOnce(Load) -> Load, snap: &[&str], relay: Relay) -> Run {
    let server = builder.start();
    let load = load(Load::on(&server).seed(seed)).start();
    load.wait_for(300);
    let restored = scratch();
    let snap = [snap, server.safe_options()].concat();
    let run = pipeline(&server, &snap, relay, restored.path()).run();
    run.assert_ok();
    load.wait_for(50);
    load.stop();
    apply(&server, restored.path()).assert_ok();
    status(restored.path()).assert_ok();
    check::restored(&server, restored.path()).assert_good();
    run
}

fn everything(load: Load) -> Load {
    load.everything()
}

test_on!(a_busy_server_is_restored_at_the_recorded_position: mariadb, mariadb118);

fn a_busy_server_is_restored_at_the_recorded_position(flavour: Flavour) {
    let builder = Server::new().flavour(flavour);
    let run = prove(builder, 1, everything, &["-j", "3"], Relay::default());
    let said = run.stderr(0);
    assert!(said.trim_end().ends_with("snapshot complete"), "{said}");
    assert!(run.stderr(1).trim_end().ends_with("completed OK!"), "{}", run.story());
    let lines: Vec<&str> = said.trim_end().lines().collect();
    assert!(lines[lines.len() - 2].contains("binlog position"), "{said}");
}

/// The log wraps while the reader is slower than the server, and stops for a while.
#[test]
fn a_small_log_and_a_slow_reader_lose_nothing() {
    let relay = Relay::rate(8 << 20).stall(20 << 20, Duration::from_secs(4));
    let run = prove(Server::new().log_size("8M"), 2, |load| load.bank(3).rows(2), &[], relay);
    let said = run.stderr(1);
    let laps = said.split("wrapped ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(laps.is_some_and(|laps| laps > 0), "the log did not wrap: {said}");
}

#[test]
fn ddl_can_be_blocked_from_the_start() {
    prove(Server::new(), 3, everything, &["--lock-ddl=early"], Relay::default());
}

#[test]
fn small_pages_and_the_old_checksum() {
    let builder = Server::new().layout("innodb-page-size", "4k").layout("innodb-checksum-algorithm", "crc32");
    prove(builder, 4, |load| load.bank(2).rows(1).ddl(1), &[], Relay::default());
}

#[test]
fn large_pages() {
    let builder = Server::new().layout("innodb-page-size", "64k").log_size("32M");
    prove(builder, 5, |load| load.bank(2).rows(1).ddl(1), &[], Relay::default());
}

#[test]
fn encrypted_tables_and_log() {
    prove(Server::new().encrypted(), 6, |load| load.bank(2).rows(1).formats(1).ddl(1), &[], Relay::default());
}

#[test]
fn several_system_files_and_undo_apart() {
    let builder = Server::new()
        .layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend")
        .layout("innodb-undo-tablespaces", "3")
        .option("innodb-undo-log-truncate", "ON")
        .option("innodb-max-undo-log-size", "10485760")
        .undo_apart();
    prove(builder, 7, |load| load.bank(2).rows(2).ddl(1), &[], Relay::default());
}

test_on!(the_stock_prepare_takes_our_backup: mariadb, mariadb118);

/// Without DDL: after the stock prepare a server may log errors about the full-text tables of an ALTER that the backup
/// caught half-way, before it drops them. `xb-redo --apply` leaves none.
fn the_stock_prepare_takes_our_backup(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let load = Load::on(&server).bank(2).rows(1).engines(1).archive(1).formats(1).start();
    load.wait_for(200);
    let restored = scratch();
    pipeline(&server, &[], Relay::default(), restored.path()).run().assert_ok();
    load.stop();
    let mut prepare = server.program("mariadb-backup");
    prepare.arg("--no-defaults").arg("--prepare").arg(format!("--target-dir={}", restored.path().display()));
    Pipeline::new().stage(prepare).limit(Duration::from_secs(300)).run().assert_ok();
    check::restored(&server, restored.path()).assert_good();
}

/// What a failed run leaves is never accepted as a backup.
#[track_caller]
fn assert_no_backup(server: &Server, directory: &Path, story: &str) {
    let told = status(directory);
    assert_ne!(told.codes(), [0], "looks like a backup: {}\n{story}", String::from_utf8_lossy(&told.stdout));
    assert_ne!(apply(server, directory).codes(), [0], "was applied\n{story}");
}

fn busy(flavour: Flavour) -> (Server, crate::support::load::Working) {
    let server = Server::new().flavour(flavour).start();
    let load = Load::on(&server).bank(2).rows(1).start();
    load.wait_for(150);
    (server, load)
}

test_on!(a_killed_stage_never_leaves_a_backup: mariadb, mysql97);

fn a_killed_stage_never_leaves_a_backup(flavour: Flavour) {
    let (server, _load) = busy(flavour);
    let mut random = Random::new(8);
    for round in 0..9 {
        let (stage, after) = (round % 3, 4096 + random.below(30 << 20));
        let target = scratch();
        let run = pipeline(&server, &[], Relay::default().kill(stage, after), target.path()).run();
        // The stages before it lose their reader; those after it miss the end.
        run.assert_codes(&[[137, 3, 3], [141, 137, 3], [141, 141, 137]][stage]);
        assert_no_backup(&server, target.path(), &run.story());
    }
    for stage in [0, 1] {
        let relay = Relay::default().kill(stage, 4096 + random.below(30 << 20));
        let snapped = Pipeline::new().stage(xb("xb-snap").args(server.options())).stage(xb("xb-redo")).relay(relay);
        let run = snapped.stage(xb("xb-unpack").arg("--verify")).run();
        assert_eq!(run.codes()[2], 3, "{}", run.story());
    }
}

test_on!(a_server_that_is_killed_ends_the_backup: mariadb, mysql97);

fn a_server_that_is_killed_ends_the_backup(flavour: Flavour) {
    let (mut server, _load) = busy(flavour);
    let target = scratch();
    let running = pipeline(&server, &[], Relay::rate(20 << 20), target.path()).start();
    while running.through() < 8 << 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.kill();
    let run = running.wait();
    run.assert_codes(&[5, 3, 3]);
    assert_no_backup(&server, target.path(), &run.story());
}

test_on!(a_full_disk_is_a_failure_everywhere: mariadb, mysql97);

fn a_full_disk_is_a_failure_everywhere(flavour: Flavour) {
    let (server, _load) = busy(flavour);
    if let Some(disk) = fault::SmallDisk::new(4 << 20) {
        let target = disk.path().join("restore");
        let run = pipeline(&server, &[], Relay::default(), &target).run();
        assert_eq!(run.codes()[2], 1, "{}", run.story());
        assert!(run.stderr(2).contains("no space left on device"), "{}", run.story());
        assert_no_backup(&server, &target, &run.story());
    }
    let target = scratch();
    let run = Pipeline::new()
        .stage(xb("xb-snap").args(server.options()))
        .stage(xb("xb-redo").args(["--spool-memory=0", "--spool-limit=4k"]))
        .relay(Relay::rate(16 << 20))
        .stage(xb("xb-unpack").arg("-C").arg(target.path()))
        .run();
    assert_eq!(run.codes()[1..], [1, 3], "{}", run.story());
    assert_no_backup(&server, target.path(), &run.story());
}

/// Fifty in a row, each with another seed and another kind of server: `make test-long`.
#[test]
#[ignore = "long: fifty backups under every load at once"]
fn fifty_in_a_row() {
    let kinds: [fn() -> Builder; 6] = [
        || Server::new(),
        || Server::new().log_size("16M"),
        || Server::new().layout("innodb-page-size", "4k"),
        || Server::new().layout("innodb-page-size", "64k").log_size("32M"),
        || Server::new().encrypted(),
        || Server::new().option("innodb-flush-log-at-trx-commit", "2"),
    ];
    let flavours: Vec<Flavour> = Flavour::all();
    let rounds = rounds(50);
    let mut bad = Vec::new();
    for round in rounds.clone() {
        let index = usize::try_from(round).unwrap();
        let flavour = flavours[index % flavours.len()];
        let builder = kinds[index / flavours.len() % kinds.len()]().flavour(flavour);
        let relay = if round % 3 == 0 { Relay::rate(40 << 20) } else { Relay::default() };
        let outcome = std::panic::catch_unwind(|| prove(builder, 100 + round, everything, &[], relay));
        eprintln!("round {round} {flavour:?}: {}", if outcome.is_ok() { "good" } else { "BAD" });
        if outcome.is_err() {
            bad.push(round);
        }
    }
    assert!(bad.is_empty(), "{} of {rounds:?} are bad: {bad:?}", bad.len());
}
