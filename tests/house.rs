//! Tests of the support library: its check accepts what is right and detects what is wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::pipeline::Relay;
use crate::support::{Flavour, Load, Pipeline, Server, check, fault, program, scratch, test_on};

/// Takes a backup by the stock programs and prepares it.
fn stock_backup(server: &Server, meanwhile: impl FnOnce()) -> TempDir {
    let restored = scratch();
    let mut backup = server.program("mariadb-backup");
    backup.args(server.options()).args(["--backup", "--stream=xbstream", "--parallel=2"]);
    let mut unpack = server.program("mbstream");
    unpack.args(["-x", "-C"]).arg(restored.path());
    Pipeline::new().stage(backup).stage(unpack).run().assert_ok();
    meanwhile();
    let mut prepare = server.program("mariadb-backup");
    prepare.arg("--no-defaults").arg("--prepare").arg(format!("--target-dir={}", restored.path().display()));
    Pipeline::new().stage(prepare).run().assert_ok();
    restored
}

/// A server with all kinds of tables, backed up under load.
fn bank_and_backup() -> (Server, TempDir) {
    let server = Server::new().start();
    let load = Load::on(&server).bank(2).rows(1).start();
    load.wait_for(200);
    let restored = stock_backup(&server, || load.wait_for(100));
    load.stop();
    (server, restored)
}

test_on!(the_check_passes_a_good_backup: mariadb, mariadb118);

fn the_check_passes_a_good_backup(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    // Without tables of other engines: what mariadb-backup copies of them under a load may be broken.
    let load = Load::on(&server).bank(2).rows(1).formats(1).start();
    load.wait_for(300);
    let restored = stock_backup(&server, || load.wait_for(100));
    assert_eq!(load.stop().len(), 3, "every kind of load has done something");
    check::restored(&server, restored.path()).assert_good();
}

#[test]
fn the_check_notices_a_lost_row() {
    let (server, restored) = bank_and_backup();
    let twin = server.twin(restored.path()).start();
    twin.sql("DELETE FROM bank.ledger WHERE amount > 0 AND source <> target ORDER BY id LIMIT 1");
    drop_cleanly(twin);
    let verdict = check::restored(&server, restored.path());
    verdict.assert_bad("balances differ from the ledger");
    verdict.assert_bad("`bank`.`ledger` differs");
}

#[test]
fn the_check_notices_a_copy_ahead_of_its_position() {
    let (server, restored) = bank_and_backup();
    let mut early = check::position(restored.path()).unwrap();
    // The position of a transaction that the copy already has.
    let events = server.rows(&format!("SHOW BINLOG EVENTS IN '{}' LIMIT 300, 1000", early.file));
    early.offset = events.iter().find(|row| row[2] == "Gtid").unwrap()[1].parse().unwrap();
    let verdict = check::restored_at(&server, restored.path(), &early);
    verdict.assert_bad("is recorded, but");
    verdict.assert_bad("cannot be replayed");
}

#[test]
fn the_check_notices_a_copy_that_is_behind_its_position() {
    let (server, restored) = bank_and_backup();
    let mut late = check::position(restored.path()).unwrap();
    let status = server.rows("SHOW MASTER STATUS");
    (late.file, late.offset) = (status[0][0].clone(), status[0][1].parse().unwrap());
    let verdict = check::restored_at(&server, restored.path(), &late);
    verdict.assert_bad("is recorded, but");
    verdict.assert_bad("`bank`.`accounts` differs");
}

#[test]
fn the_check_notices_a_damaged_page() {
    let (server, restored) = bank_and_backup();
    let path = restored.path().join("bench/narrow.ibd");
    let mut bytes = fs::read(&path).unwrap();
    // The middle of a leaf of the clustered index.
    let page = bytes.chunks_mut(16384).skip(5).find(|page| page[24..26] == [0x45, 0xbf] && page[64..66] == [0, 0]);
    page.unwrap()[8000..8100].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    assert!(!check::sound(&server, restored.path()).problems.is_empty());
}

#[test]
fn a_storm_of_ddl_is_played_and_replayed() {
    let server = Server::new().start();
    let begin = server.rows("SHOW MASTER STATUS");
    let load = Load::on(&server).bank(1).ddl(2).start();
    load.wait_for_each("ddl", 15);
    load.stop();
    // A fresh server that replays everything holds the same.
    let copy = Server::new().flag("skip-log-bin").start();
    let from = check::Position { file: begin[0][0].clone(), offset: 4, gtid: String::new() };
    check::replay(&server, &copy, &from).unwrap();
    check::same(&server, &copy).assert_good();
}

test_on!(every_load_runs_on_mysql_and_is_replayed: mysql97);

fn every_load_runs_on_mysql_and_is_replayed(flavour: Flavour) {
    let mut server = Server::new().flavour(flavour).start();
    let load = Load::on(&server).everything().start();
    load.wait_for_each("ddl", 20);
    assert_eq!(load.stop().len(), 6, "every kind of load has done something");
    server.restart();
    let first = server.value("SHOW BINARY LOGS");
    let copy = Server::new().flavour(flavour).flag("skip-log-bin").start();
    check::replay(&server, &copy, &check::Position { file: first, offset: 4, gtid: String::new() }).unwrap();
    check::same(&server, &copy).assert_good();
}

#[test]
fn servers_of_every_layout_start_and_start_again() {
    for build in [
        Server::new().layout("innodb-page-size", "4k"),
        Server::new().layout("innodb-page-size", "64k"),
        Server::new().layout("innodb-checksum-algorithm", "strict_crc32"),
        Server::new().layout("innodb-data-file-path", "ibdata1:12M;ibdata2:8M:autoextend"),
        Server::new().encrypted(),
        Server::new().undo_apart().layout("innodb-undo-tablespaces", "3"),
    ] {
        let mut server = build.start();
        Load::on(&server).formats(1).prepare();
        server.kill();
        server.start_again();
        server.restart();
        assert_eq!(server.value("SELECT COUNT(*) FROM formats.compressed"), "300");
    }
}

#[test]
fn a_server_is_gone_when_its_value_is_dropped() {
    let server = Server::new().start();
    let (pid, home) = (server.pid(), server.home().to_path_buf());
    drop(server);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!home.exists());
}

#[test]
fn a_pipeline_tells_every_exit_status_and_stderr() {
    let mut first = program("sh");
    first.args(["-c", "echo said >&2; printf abc; exit 7"]);
    let run = Pipeline::new().stage(first).stage(program("cat")).run();
    run.assert_codes(&[7, 0]);
    assert_eq!((run.stderr(0), run.stdout.as_slice()), ("said\n", b"abc".as_slice()));
}

#[test]
fn a_pipeline_that_hangs_is_killed_with_its_children() {
    let mut hang = program("sh");
    hang.args(["-c", "sleep 1000 & sleep 1000"]);
    let run = Pipeline::new().stage(hang).limit(Duration::from_millis(200)).run();
    assert!(run.late);
    assert_eq!(run.codes(), [137]);
}

#[test]
fn a_relay_cuts_flips_and_kills_at_the_very_byte() {
    let zeros = || {
        let mut head = program("head");
        head.args(["-c", "10000000", "/dev/zero"]);
        head
    };
    let run =
        Pipeline::new().stage(zeros()).relay(Relay::default().cut(70_001).flip(70_000)).stage(program("cat")).run();
    run.assert_codes(&[141, 0]);
    assert_eq!(run.stdout.len(), 70_001);
    assert_eq!(run.stdout.iter().position(|&byte| byte == 1), Some(70_000));

    let run =
        Pipeline::new().stage(program("yes")).relay(Relay::default().kill(0, 100_000)).stage(program("cat")).run();
    run.assert_codes(&[137, 0]);
}

#[test]
fn faults_are_real() {
    let scratch = scratch();
    let mut write = program("head");
    write.args(["-c", "100000", "/dev/zero"]);
    let file = scratch.path().join("file");
    let run = Pipeline::new().stage(fault::file_size_limit(&write, 5000)).stdout_to(&file).run();
    run.assert_codes(&[1]);
    assert_eq!(file.metadata().unwrap().len(), 5000);

    let run = Pipeline::new().stage(fault::closed(&write, 1)).run();
    run.assert_codes(&[1]);

    if let Some(disk) = fault::SmallDisk::new(1 << 20) {
        let mut fill = program("head");
        fill.args(["-c", "2000000", "/dev/zero"]);
        let run = Pipeline::new().stage(fill).stdout_to(&disk.path().join("file")).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains("No space left"), "{}", run.story());
    }
}

/// Stops a server before its value is dropped, so that what it wrote is in its files.
fn drop_cleanly(mut server: Server) {
    server.stop();
}
