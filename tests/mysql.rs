//! MySQL from the running server to the restored one: hot backups under load, each proved equal to its source at the
//! recorded position, with the recorded GTID set.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::apply::children;
use crate::hot_backup::{apply, pipeline, prove, status};
use crate::support::backup::apply_with;
use crate::support::pipeline::Relay;
use crate::support::server::Builder;
use crate::support::{Flavour, Load, Pipeline, Random, Server, check, output, program, root, scratch, wait_until, xb};

/// A MySQL server to be, if there is one here.
fn mysql() -> Option<Builder> {
    Flavour::Mysql97.or_skip().then(|| Server::new().flavour(Flavour::Mysql97))
}

/// The smallest log that a server takes: 32 files of 256 KiB.
fn small_log() -> Option<Builder> {
    Some(mysql()?.log_size("8M").option("innodb-buffer-pool-size", "48M"))
}

/// Number of the newest redo file: one more for each that was ever used.
fn newest_file(server: &Server) -> u64 {
    let names = fs::read_dir(server.data().join("#innodb_redo")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("#ib_redo")?.parse().ok()).max().unwrap()
}

/// Waits until the server has written so many more redo files.
pub(crate) fn wait_for_files(server: &Server, count: u64) {
    let goal = newest_file(server) + count;
    wait_until("the server to write its log", Duration::from_secs(120), || newest_file(server) >= goal);
}

#[test]
fn a_busy_server_is_restored_at_the_recorded_position() {
    let Some(builder) = mysql() else { return };
    let run = prove(builder, 1, Load::everything, &["-j", "3"], Relay::default());
    assert!(run.stderr(0).trim_end().ends_with("snapshot complete"), "{}", run.stderr(0));
    assert!(run.stderr(1).trim_end().ends_with("completed OK!"), "{}", run.stderr(1));
}

/// The log goes through all its files several times while the reader takes less than the server writes.
#[test]
fn a_small_log_and_a_slow_reader_lose_nothing() {
    let Some(builder) = small_log() else { return };
    let relay = Relay::rate(20 << 20).stall(20 << 20, Duration::from_secs(4));
    let run = prove(builder, 2, |load| load.bank(3).rows(2), &[], relay);
    let said = run.stderr(1);
    let laps = said.split("wrapped ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(laps.is_some_and(|laps| laps > 0), "the log did not wrap: {said}");
}

#[test]
fn a_log_whose_size_changes_meanwhile_is_followed() {
    let Some(builder) = small_log() else { return };
    let server = builder.start();
    let load = Load::on(&server).bank(2).rows(2).start();
    load.wait_for(100);
    let restored = scratch();
    let running = pipeline(&server, &[], Relay::default(), restored.path()).start();
    running.signal(2, Signal::STOP);
    for size in [64 << 20, 16 << 20, 256 << 20, 32 << 20] {
        server.sql(&format!("SET GLOBAL innodb_redo_log_capacity={size}"));
        wait_for_files(&server, 3);
    }
    running.signal(2, Signal::CONT);
    running.wait().assert_ok();
    load.stop();
    apply(&server, restored.path()).assert_ok();
    check::restored(&server, restored.path()).assert_good();
}

#[test]
fn log_without_checksums_is_refused() {
    let Some(builder) = mysql() else { return };
    let server = builder.option("innodb-log-checksums", "OFF").start();
    let directory = scratch();
    let run = pipeline(&server, &[], Relay::default(), directory.path()).run();
    assert_eq!(run.codes()[0], 1, "{}", run.story());
    let cure = "SET GLOBAL innodb_log_checksums=ON; SELECT innodb_redo_log_sharp_checkpoint()";
    assert!(run.stderr(0).contains(cure), "{}", run.story());
    // The blocks that were written without checksums are not needed then.
    server.sql(cure);
    let directory = scratch();
    pipeline(&server, &[], Relay::default(), directory.path()).run().assert_ok();
}

#[test]
#[ignore = "half a minute"]
fn small_pages_and_large_ones() {
    for size in ["4k", "32k", "64k"] {
        let Some(builder) = mysql() else { return };
        let builder = builder.layout("innodb-page-size", size);
        prove(builder, 4, |load| load.bank(2).rows(1), &[], Relay::default());
    }
}

#[test]
fn an_overrun_ends_with_5_and_a_size() {
    let Some(builder) = small_log() else { return };
    let server = builder.start();
    let load = Load::on(&server).rows(3).start();
    load.wait_for(100);
    let directory = scratch();
    let running = pipeline(&server, &[], Relay::rate(4 << 20), directory.path()).start();
    running.signal(1, Signal::STOP);
    // Twice through all files: none of the old ones is unchanged.
    wait_for_files(&server, 70);
    running.signal(1, Signal::CONT);
    let run = running.wait();
    load.stop();
    assert_eq!(run.codes()[1], 5, "{}", run.story());
    assert!(run.stderr(1).contains("redo overrun: lsn "), "{}", run.story());
    assert!(run.stderr(1).contains("SET GLOBAL innodb_redo_log_capacity="), "{}", run.story());
    assert!(!directory.path().join("xb_manifest").exists());
}

/// A quiet server and its unpacked backup.
fn backup(directory: &Path) -> Option<Server> {
    let server = mysql()?.start();
    let load = Load::on(&server).bank(2).start();
    load.wait_for(200);
    pipeline(&server, &[], Relay::default(), directory).run().assert_ok();
    load.stop();
    Some(server)
}

#[test]
fn an_apply_that_is_killed_goes_on() {
    let restored = scratch();
    let Some(server) = backup(restored.path()) else { return };
    let (mut random, mut died) = (Random::new(9), 0);
    let log = restored.path().join("xb_server.log");
    for round in 0..6 {
        let _ = fs::remove_file(&log);
        let mut running = Pipeline::new().stage(apply_with(&server, restored.path())).start();
        wait_until("a server recovers", Duration::from_secs(60), || running.ended(0) || log.exists());
        std::thread::sleep(Duration::from_millis(random.below(1000)));
        // Kills the server alone; then us alone, so that the next run has to wait for it; then both.
        let servers = children(running.pid(0));
        if round % 3 > 0 {
            running.signal(0, Signal::KILL);
        }
        if round % 3 != 1 {
            servers.iter().for_each(|pid| drop(program("kill").args(["-9", pid]).status()));
        }
        let run = running.wait();
        died += u32::from(run.codes() == [1]);
        let told = status(restored.path());
        let told = String::from_utf8_lossy(&told.stdout);
        assert!(run.codes() == [0] || !told.contains(", applied: ready"), "round {round}: {told}{}", run.story());
    }
    assert!(died > 0, "no server died while it was watched");
    apply(&server, restored.path()).assert_ok();
    // Once more does nothing.
    apply(&server, restored.path()).assert_ok();
    check::restored(&server, restored.path()).assert_good();
}

#[test]
fn what_a_server_would_not_miss_is_missed() {
    for (name, about) in [("undo_002", "undo_002: missing"), ("bank/ledger.ibd", "ledger.ibd: missing")] {
        let restored = scratch();
        let Some(server) = backup(restored.path()) else { return };
        fs::remove_file(restored.path().join(name)).unwrap();
        let run = apply(&server, restored.path());
        run.assert_codes(&[3]);
        assert!(run.stderr(0).contains(about), "{}", run.stderr(0));
        status(restored.path()).assert_codes(&[3]);
    }
}

#[test]
fn a_damaged_log_is_refused_before_recovery() {
    let restored = scratch();
    let Some(server) = backup(restored.path()) else { return };
    let path = restored.path().join("xtrabackup_logfile");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[2048 + 100] ^= 1;
    for (bytes, about) in [(&damaged[..], "is damaged"), (&whole[..whole.len() - 512], "bytes, the manifest says")] {
        fs::write(&path, bytes).unwrap();
        let run = apply(&server, restored.path());
        run.assert_codes(&[3]);
        assert!(run.stderr(0).contains(about), "{}", run.stderr(0));
        assert!(!restored.path().join("#innodb_redo").exists());
    }
    fs::write(&path, whole).unwrap();
    apply(&server, restored.path()).assert_ok();
}

#[test]
fn copy_back_leaves_out_the_backups_own_files() {
    let restored = scratch();
    let Some(server) = backup(restored.path()) else { return };
    apply(&server, restored.path()).assert_ok();
    // The position is read from the backup; the server runs on the copy.
    let position = check::position(restored.path()).unwrap();
    let copied: &[&str] = if root() { &["--owner", "nobody"] } else { &[] };
    for options in [copied, &["--move"]] {
        let target = scratch();
        let data = target.path().join("data");
        let mut command = xb("xb-redo");
        command.arg("--copy-back").arg(restored.path()).arg("--datadir").arg(&data).args(options);
        Pipeline::new().stage(command).run().assert_ok();
        for name in ["xb_manifest", "xtrabackup_logfile", "xtrabackup_checkpoints", "auto.cnf", "xb_init.sql"] {
            assert!(!data.join(name).exists(), "{name} was copied");
        }
        if let [owner] = options.strip_prefix(&["--owner"]).unwrap_or_default() {
            let mut others = program("find");
            others.arg(&data).args(["-mindepth", "1", "-not", "-user", owner]);
            assert_eq!(output(others), "");
        }
        check::restored_at(&server, &data, &position).assert_good();
    }
    let told = status(restored.path());
    told.assert_codes(&[3]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("were moved into a data directory"), "{}", told.story());
}

/// Repeated with other loads, sizes and readers, to find faults that occur once in ten times.
#[test]
#[ignore = "ten minutes"]
fn twenty_backups_in_a_row_are_right() {
    for seed in 0..20 {
        let Some(builder) = (if seed % 2 == 0 { small_log() } else { mysql() }) else { return };
        let relay = if seed % 3 == 0 { Relay::rate(30 << 20) } else { Relay::default() };
        prove(builder, 100 + seed, |load| load.bank(2).rows(2).formats(1).ddl(seed as usize % 2), &[], relay);
        eprintln!("backup {seed} is right");
    }
}
