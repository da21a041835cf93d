//! Faults during backup and restore: full disks, torn pages, missing keys.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::snap::{Held, files, filled, filled_of, snap};
use crate::support::backup::{apply_by, apply_with, status};
use crate::support::fault::LittleRoom;
use crate::support::tool::{Dice, bad, feed, good, pack, plant, said};
use crate::support::{Flavour, Load, Pipeline, Server, check, program, scratch, test_on, xb};

fn unpack(directory: &Path) -> Command {
    let mut command = xb("xb-unpack");
    command.arg("-C").arg(directory);
    command
}

test_on!(a_full_spool_ends_the_backup_and_frees_the_server: mariadb, mysql97);

fn a_full_spool_ends_the_backup_and_frees_the_server(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql(
        "CREATE DATABASE sb; USE sb; CREATE TABLE m (text TEXT) ENGINE=MyISAM; \
         INSERT INTO m SELECT REPEAT('m', 10000) FROM test.seq_1_to_2000",
    );
    let room = LittleRoom::new(2 << 20);
    let mut command = snap(&server);
    command.arg("--spool-dir").arg(room.path());
    let run = Pipeline::new().stage(room.of(&command)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains(&format!("spool in {}: cannot write: {}", room.path().display(), room.words())));
    assert!(run.stderr(0).contains("hint: choose a directory with more room: --spool-dir"), "{}", run.story());
    assert!(!bstr::ByteSlice::contains_str(run.stdout.as_slice(), "xb_manifest"));
    server.sql("INSERT INTO sb.m VALUES ('after'); DROP TABLE sb.m");
}

test_on!(no_room_for_log_that_waits_ends_the_backup: mariadb, mysql97);

/// Nobody reads the output of xb-redo, so the whole log has to wait.
fn no_room_for_log_that_waits_ends_the_backup(flavour: Flavour) {
    let server = filled_of(flavour);
    let load = Load::on(&server).rows(2).start();
    let room = LittleRoom::new(1 << 20);
    let target = scratch();
    let mut filter = xb("xb-redo");
    filter.args(["--spool-memory=0", "--spool-dir"]).arg(room.path());
    let running = Pipeline::new()
        .stage(snap(&server))
        .stage(room.of(&filter))
        .stage(unpack(&target.path().join("backup")))
        .start();
    running.signal(2, rustix::process::Signal::STOP);
    load.wait_for_each("rows", 300);
    running.signal(2, rustix::process::Signal::CONT);
    let run = running.wait();
    load.stop();
    assert_eq!(run.codes()[1..], [1, 3], "{}", run.story());
    assert!(run.stderr(1).contains(room.words()) && run.stderr(1).contains("--spool-dir"), "{}", run.story());
    status(&target.path().join("backup")).assert_codes(&[3]);
}

#[test]
fn no_room_in_the_target_leaves_nothing_that_looks_good() {
    let source = scratch();
    plant(source.path(), &[("db/t.ibd", &Dice(1).bytes(3 << 20)), ("db/u.ibd", &Dice(2).bytes(3 << 20))]);
    let stream = good(pack(source.path(), &[]));
    let room = LittleRoom::new(2 << 20);
    let target = room.path().join("backup");
    let run = feed(&mut room.of(&unpack(&target)), &stream);
    bad(&run, 1, &format!(".ibd: cannot write: {}", room.words()));
    assert!(target.join("xb_incomplete").exists() && !target.join("xb_manifest").exists(), "{}", said(&run));
    let left = fs::read_dir(target.join("db")).unwrap().count();
    assert_eq!(left, 0, "members that are not complete were left");
    let told = status(&target);
    told.assert_codes(&[3]);
    assert!(bstr::ByteSlice::contains_str(told.stdout.as_slice(), "incomplete"));
}

test_on!(apply_without_space_fails_and_can_continue: mariadb, mysql97);

fn apply_without_space_fails_and_can_continue(flavour: Flavour) {
    let server = Server::new().flavour(flavour).log_size("16M").start();
    let load = Load::on(&server).bank(2).rows(1).start();
    load.wait_for(300);
    let unpacked = scratch();
    let backup = unpacked.path().join("backup");
    Pipeline::new().stage(snap(&server)).stage(xb("xb-redo")).stage(unpack(&backup)).run().assert_ok();
    load.stop();
    let used = crate::support::output({
        let mut du = program("du");
        du.args(["-s", "-B1"]).arg(&backup);
        du
    });
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    // As root the disk is fuller each time; for others no file may become as long as the log.
    let room = if crate::support::root() { LittleRoom::new(used + (16 << 20)) } else { LittleRoom::new(1 << 20) };
    let within = room.path().join("backup");
    fs::create_dir(&within).unwrap();
    assert!(program("cp").arg("-aT").arg(&backup).arg(&within).status().unwrap().success());
    // None for us, some for us but not for the log, for both but not for the server, for its first files.
    for left in [0, 1 << 20, 5 << 20, 10 << 20] {
        if crate::support::root() {
            let rest = fs::File::create(room.path().join("rest")).unwrap();
            let mut at = 0;
            while rest.write_all_at(&[1; 4096], at).is_ok() {
                at += 4096;
            }
            rest.set_len(at.saturating_sub(left)).unwrap();
        }
        let run = Pipeline::new().stage(room.of(&apply_with(&server, &within))).run();
        run.assert_codes(&[1]);
        status(&within).assert_codes(&[if fs::exists(within.join("xb_applied")).unwrap() { 3 } else { 0 }]);
    }
    let _ = fs::remove_file(room.path().join("rest"));
    let more = scratch();
    assert!(program("cp").arg("-aT").arg(&within).arg(more.path()).status().unwrap().success());
    apply_by(&server, more.path()).assert_ok();
    check::restored(&server, more.path()).assert_good();
}

/// No key is needed to copy and verify, and a damaged page is detected in spite of encryption. A server without the
/// keys recovers nothing, and the backup is still usable when they are found.
#[test]
fn an_encrypted_backup_is_applied_only_with_keys() {
    let mut server = Server::new().encrypted().log_size("16M").start();
    let load = Load::on(&server).bank(1).formats(1).start();
    load.wait_for(100);
    load.stop();
    server.restart();
    let (keys, hidden) = (server.home().join("keys"), server.home().join("hidden"));
    fs::rename(&keys, &hidden).unwrap();
    let dir = scratch();
    let backup = dir.path().join("backup");
    let stream = dir.path().join("stream");
    Pipeline::new().stage(snap(&server)).stage(xb("xb-redo")).stdout_to(&stream).run().assert_ok();
    let verify = || Pipeline::new().stage(xb("xb-unpack").args(["--verify", "--pages"])).stdin_from(&stream).run();
    let seen = verify();
    seen.assert_ok();
    assert!(!seen.stderr(0).contains("not checked"), "{}", seen.story());
    Pipeline::new().stage(unpack(&backup)).stdin_from(&stream).run().assert_ok();
    let run = Pipeline::new().stage(apply_with(&server, &backup)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("the server could not recover it"), "{}", run.story());
    assert_ne!(status(&backup).codes(), [0], "looks applied: {}", run.story());
    fs::rename(&hidden, &keys).unwrap();
    Pipeline::new().stage(apply_with(&server, &backup)).run().assert_ok();
    status(&backup).assert_ok();
    check::restored(&server, &backup).assert_good();

    fs::rename(&keys, &hidden).unwrap();
    let table = fs::OpenOptions::new().write(true).open(server.data().join("formats/dynamic.ibd")).unwrap();
    table.write_all_at(b"damage", 3 * 16384 + 5000).unwrap();
    let run = Pipeline::new().stage(snap(&server)).run();
    run.assert_codes(&[3]);
    assert!(run.stderr(0).contains("formats/dynamic.ibd: page 3 "), "{}", run.story());
    fs::rename(&hidden, &keys).unwrap();
}

/// A page that is being written looks damaged for a moment.
#[test]
fn a_torn_page_is_read_again_until_it_is_whole() {
    let mut server = filled();
    server.stop();
    let path = server.data().join("sb/zbig.ibd");
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let at = 100 * 16384 + 8192;
    let mut whole = [0; 512];
    file.read_exact_at(&mut whole, at).unwrap();
    server.start_again();
    file.write_all_at(&[7; 512], at).unwrap();
    let held = Held::start(snap(&server));
    // It is waiting for that page when it has read everything before and sends nothing more.
    let mender = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        file.write_all_at(&whole, at).unwrap();
    });
    let (stream, code, story) = held.finish();
    mender.join().unwrap();
    assert_eq!(code, Some(0), "{story}");
    assert!(fs::read(files(&stream).path().join("sb/zbig.ibd")).unwrap() == fs::read(&path).unwrap());
}

/// The server's data stays in the page cache, and nothing else is added.
#[test]
fn the_page_cache_is_left_as_it_was() {
    let server = filled();
    let table = server.data().join("sb/zbig.ibd");
    let size = table.metadata().unwrap().len();
    let cached = || {
        let mut fincore = program("fincore");
        fincore.args(["--bytes", "--noheadings", "--output", "RES"]).arg(&table);
        crate::support::output(fincore).trim().parse::<u64>().unwrap()
    };
    let drop_from_cache = || {
        fs::File::open(&table).unwrap().sync_all().unwrap();
        let file = fs::File::open(&table).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    };
    drop_from_cache();
    if cached() > 0 {
        return crate::support::skip("the data directory lies in memory");
    }
    let copies: [&dyn Fn() -> Command; 2] = [&|| snap(&server), &|| {
        let mut pack = xb("xb-pack");
        pack.arg("-C").arg(server.data()).arg("sb");
        pack
    }];
    for copy in copies {
        drop_from_cache();
        Pipeline::new().stage(copy()).run().assert_ok();
        assert!(cached() < size / 10, "{:?} has filled the cache: {} of {size} bytes", copy(), cached());
        fs::read(&table).unwrap();
        assert_eq!(cached(), size);
        Pipeline::new().stage(copy()).run().assert_ok();
        // Zeros at the end, which were never written, cost nothing to be had again.
        assert!(cached() > 10 << 20, "{:?} has emptied the cache: {} of {size} bytes", copy(), cached());
    }
}
