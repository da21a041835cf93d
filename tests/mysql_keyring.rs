//! MySQL with an encrypted redo log: what is captured is right with the server's key, and unreadable without it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::hot_backup::{apply, pipeline};
use crate::mysql::wait_for_files;
use crate::support::pipeline::{Relay, Run};
use crate::support::server::Builder;
use crate::support::{Flavour, Load, Pipeline, Server, check, keyring, scratch, wait_until, xb};

/// A server to be with many small redo files, if there is one here.
fn mysql() -> Option<Builder> {
    let small = |builder: Builder| builder.log_size("8M").option("innodb-buffer-pool-size", "48M");
    Flavour::Mysql97.or_skip().then(|| small(Server::new().flavour(Flavour::Mysql97)))
}

/// Applies an unpacked backup with the keys of its server, and proves it.
#[track_caller]
fn prove(server: &Server, directory: &Path) {
    let keys = scratch();
    keyring::give(server, directory, &keys.path().join("keyring"));
    apply(server, directory).assert_ok();
    check::restored(server, directory).assert_good();
}

/// Of each block of the captured log, whether it is encrypted.
fn encrypted(directory: &Path) -> Vec<bool> {
    let log = fs::read(directory.join("xtrabackup_logfile")).unwrap();
    log[2048..].chunks(512).map(|block| block[4] & 0x80 != 0).collect()
}

/// A pipeline whose filter has these arguments.
fn backup_with(server: &Server, filter: &[&str], directory: &Path) -> Run {
    Pipeline::new()
        .stage(xb("xb-snap").args(server.options()))
        .stage(xb("xb-redo").args(filter))
        .stage(xb("xb-unpack").arg("-C").arg(directory))
        .run()
}

#[test]
fn a_busy_server_with_encrypted_log_is_restored() {
    let Some(builder) = mysql() else { return };
    let server = keyring::start_encrypting(builder);
    let load = Load::on(&server).bank(2).rows(1).formats(1).ddl(1).seed(1).start();
    load.wait_for(300);
    let directory = scratch();
    pipeline(&server, &[], Relay::rate(30 << 20), directory.path()).run().assert_ok();
    load.wait_for(50);
    load.stop();
    let blocks = encrypted(directory.path());
    assert!(blocks.len() > 1000 && blocks.iter().all(|encrypted| *encrypted), "{} blocks", blocks.len());
    prove(&server, directory.path());
}

/// Old blocks stay as they were written, and the log keeps its key.
#[test]
fn encryption_may_be_switched_off_and_on_meanwhile() {
    let Some(builder) = mysql() else { return };
    let server = keyring::start_encrypting(builder);
    let load = Load::on(&server).bank(2).rows(1).seed(2).start();
    load.wait_for(100);
    for first in ["OFF", "ON"] {
        let directory = scratch();
        let running = pipeline(&server, &[], Relay::default(), directory.path()).start();
        running.signal(2, Signal::STOP);
        for value in [first, if first == "ON" { "OFF" } else { "ON" }] {
            wait_for_files(&server, 3);
            server.sql(&format!("SET GLOBAL innodb_redo_log_encrypt={value}"));
        }
        wait_for_files(&server, 3);
        running.signal(2, Signal::CONT);
        running.wait().assert_ok();
        let blocks = encrypted(directory.path());
        let changes = blocks.windows(2).filter(|two| two[0] != two[1]).count();
        assert!(changes >= 2, "{changes} changes in {} blocks", blocks.len());
        if first == "OFF" {
            server.sql("SET GLOBAL innodb_redo_log_encrypt=OFF");
            continue;
        }
        load.stop();
        return prove(&server, directory.path());
    }
}

/// The filter reports this before the end of the copy.
#[test]
fn without_the_right_keyring_the_backup_ends_at_once() {
    let Some(builder) = mysql() else { return };
    let server = keyring::start_encrypting(builder);
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.t AS SELECT seq, REPEAT('e', 300) AS text FROM test.seq_1_to_2000");
    let files = scratch();
    let place = |name: &str| files.path().join(name).display().to_string();
    let keys = fs::read_to_string(keyring::of(&server)).unwrap();
    let key = keys.split(r#""data":""#).nth(1).and_then(|rest| rest.get(..64)).unwrap();
    let (stranger, changed) = (keys.replace("INNODBKey-", "INNODBKey-1"), keys.replace(key, &"5A".repeat(32)));
    let half = &keys[..100];
    let cases = [
        (None, 2, "hint: xb-redo --keyring FILE"),
        (Some(stranger.as_str()), 4, "-1 is not in the keyring, under which the log is encrypted"),
        (Some(changed.as_str()), 4, "-1 in the keyring is not the key"),
        (Some(half), 4, "is not the data file of component_keyring_file"),
    ];
    for (keys, code, about) in cases {
        let option = keys.map(|keys| {
            fs::write(place("keyring"), keys).unwrap();
            format!("--keyring={}", place("keyring"))
        });
        let directory = scratch();
        let run = backup_with(&server, &option.iter().map(String::as_str).collect::<Vec<_>>(), directory.path());
        run.assert_codes(&[141, code, 3]);
        assert!(run.stderr(1).contains(about), "{}", run.story());
        assert!(!run.stderr(0).contains("snapshot complete") && !directory.path().join("xb_manifest").exists());
        assert!(!run.story().contains(key), "the key is in a message");
    }
}

#[test]
fn a_world_readable_keyring_is_used_with_a_warning() {
    let Some(builder) = mysql() else { return };
    let server = keyring::start_encrypting(builder);
    for (mode, warned) in [(0o640, false), (0o644, true)] {
        fs::set_permissions(keyring::of(&server), fs::Permissions::from_mode(mode)).unwrap();
        let directory = scratch();
        let run = pipeline(&server, &[], Relay::default(), directory.path()).run();
        run.assert_ok();
        assert_eq!(run.stderr(1).contains("its mode 0644 lets every user"), warned, "{}", run.story());
    }
}

/// Happens once in the life of a log: until then its head, which is sent first, has no key.
#[test]
fn encryption_that_begins_during_a_backup_ends_it_with_5() {
    let Some(builder) = mysql() else { return };
    let server = keyring::start(builder);
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.t (id INT) ENCRYPTION='Y'");
    let load = Load::on(&server).bank(1).rows(1).start();
    load.wait_for(50);
    let directory = scratch();
    let running = pipeline(&server, &[], Relay::rate(50 << 20), directory.path()).start();
    wait_until("the copy", Duration::from_secs(60), || running.through() > 0);
    running.signal(2, Signal::STOP);
    wait_for_files(&server, 2);
    server.sql("SET GLOBAL innodb_redo_log_encrypt=ON");
    wait_for_files(&server, 2);
    running.signal(2, Signal::CONT);
    let run = running.wait();
    assert_eq!(run.codes()[1], 5, "{}", run.story());
    assert!(run.stderr(1).contains("switched on for the first time"), "{}", run.story());
    let directory = scratch();
    pipeline(&server, &[], Relay::default(), directory.path()).run().assert_ok();
    load.stop();
    prove(&server, directory.path());
}

#[test]
fn a_bit_that_flips_in_an_encrypted_block_is_noticed() {
    let Some(builder) = mysql() else { return };
    let server = keyring::start_encrypting(builder);
    let load = Load::on(&server).bank(1).start();
    load.wait_for(100);
    let directory = scratch();
    pipeline(&server, &[], Relay::default(), directory.path()).run().assert_ok();
    load.stop();
    let path = directory.path().join("xtrabackup_logfile");
    let whole = fs::read(&path).unwrap();
    // In what is encrypted, in its sum, in its number, in its length.
    let last = whole.len() - 512;
    for (at, about) in [(100, "differs"), (508, "differs"), (3, "is damaged"), (5, "the block of lsn")] {
        let mut damaged = whole.clone();
        damaged[last + at] ^= 4;
        fs::write(&path, damaged).unwrap();
        let run = apply(&server, directory.path());
        run.assert_codes(&[3]);
        assert!(run.stderr(0).contains("xtrabackup_logfile") && run.stderr(0).contains(about), "{at}: {}", run.story());
        assert!(!directory.path().join("#innodb_redo").exists());
    }
    fs::write(&path, whole).unwrap();
    prove(&server, directory.path());
}

#[test]
fn a_server_that_was_killed_is_copied_offline() {
    let Some(builder) = mysql() else { return };
    let mut server = keyring::start_encrypting(builder);
    let load = Load::on(&server).bank(1).start();
    load.wait_for(100);
    load.stop();
    server.kill();
    let directory = scratch();
    let datadir = format!("--datadir={}", server.data().display());
    Pipeline::new()
        .stage(xb("xb-snap").args(["--no-defaults", "--offline", &datadir]))
        .stage(keyring::filter(&server))
        .stage(xb("xb-unpack").arg("-C").arg(directory.path()))
        .limit(Duration::from_secs(300))
        .run()
        .assert_ok();
    let keys = scratch();
    keyring::give(&server, directory.path(), &keys.path().join("keyring"));
    apply(&server, directory.path()).assert_ok();
    check::sound(&server, directory.path()).assert_good();
}
