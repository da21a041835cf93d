//! Modifies what `--merge` and `--apply` read: deltas, their `.meta`, manifests and captured logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xb::innodb::delta::{Cluster, Meta};
use xb::innodb::redo::mariadb::START;
use xb::innodb::redo::mariadb::mtr::varint;
use xb::innodb::{Lsn, PageSize, SpaceId};
use xb::stream::native::{Base, Entry, EntryKind, StreamKind, Trailer};

use super::{HANGS, Tree, assert_decent, is_as_listed, limited};
use crate::support::backup::{apply_with, take};
use crate::support::made::{C0, Log, Stream};
use crate::support::mutate::{self, change};
use crate::support::tool::{Dice, good, tree, unpack};
use crate::support::{Family, Flavour, Pipeline, Server, check, executable, scratch, xb};

const PAGE: usize = 4096;
/// Pages of an increment, in a file with this many, and a run of zero pages.
const PLACES: [u32; 4] = [1, 3, 4, 9];
const PAGES: u32 = 12;
const ZEROS: (u32, u32) = (10, 2);

/// Runs a stream through xb-redo into a directory.
fn lay(stream: Stream, dir: &Path) {
    let run = Pipeline::new().stage(xb("xb-redo")).stdin_bytes(stream.manifest().bytes()).run();
    run.assert_ok();
    good(unpack(dir, &["-q"], &run.stdout));
}

/// A base and an increment of it, as they are unpacked.
fn chain(log: &Log, dir: &Path) -> (PathBuf, PathBuf) {
    let mut dice = Dice(77);
    let (base, increment) = (dir.join("base"), dir.join("increment"));
    lay(
        Stream::of(log)
            .begin()
            .listed("db/t.ibd", EntryKind::Innodb, &dice.bytes(8 * PAGE), |line| {
                (line.space_id, line.page_size) = (Some(SpaceId::new(5)), Some(PAGE as u32));
            })
            .member("db/t.frm", b"old"),
        &base,
    );
    let mut next = Stream::of(log);
    let id = next.begin.backup_id.replace('0', "9");
    next.begin.base = Some(Base { id: Some(next.begin.backup_id.clone()), lsn: Lsn::new(C0), proved: true });
    next.begin.kind = StreamKind::Incremental;
    (next.begin.backup_id, next.trailer.backup_id) = (id.clone(), id);
    let page_size = PageSize::new(PAGE as u32).unwrap();
    let meta = Meta { page_size, zip_size: None, space_id: SpaceId::new(5), space_flags: None };
    let delta = [Cluster::head(page_size, &PLACES, true).unwrap(), dice.bytes(PLACES.len() * PAGE)].concat();
    lay(
        next.begin()
            .listed("db/t.ibd.delta", EntryKind::Delta, &delta, |line| {
                (line.space_id, line.page_size, line.pages) = (Some(SpaceId::new(5)), Some(PAGE as u32), Some(PAGES));
                line.zero_runs = vec![ZEROS];
            })
            .listed("db/t.ibd.meta", EntryKind::Meta, meta.text().as_bytes(), |_| ())
            .member("db/t.frm", b"new"),
        &increment,
    );
    (base, increment)
}

/// A delta's pages in a tablespace's file, put there by the test itself.
fn patched(base: &[u8], delta: &[u8]) -> Vec<u8> {
    let mut file = base.to_vec();
    file.resize(PAGES as usize * PAGE, 0);
    let zeros = ZEROS.0 as usize * PAGE..(ZEROS.0 + ZEROS.1) as usize * PAGE;
    file[zeros].fill(0);
    let list = delta[4..PAGE].chunks(4).map(|four| u32::from_be_bytes(four.try_into().unwrap()));
    let places = list.take_while(|place| *place != u32::MAX).take(PAGE / 4 - 1);
    for (place, page) in places.zip(delta[PAGE..].chunks(PAGE)) {
        let at = place as usize * PAGE;
        file[at..at + PAGE].copy_from_slice(page);
    }
    file
}

/// A manifest's lines and its end.
fn listed(dir: &Path) -> (Vec<Entry>, Trailer) {
    let text = fs::read_to_string(dir.join("xb_manifest")).unwrap();
    let (last, lines) =
        text.lines().collect::<Vec<_>>().split_last().map(|(last, rest)| (*last, rest.to_vec())).unwrap();
    (lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect(), serde_json::from_str(last).unwrap())
}

/// Updates the manifest for a file.
fn relist(dir: &Path, name: &str) {
    let (mut lines, trailer) = listed(dir);
    let content = fs::read(dir.join(name)).unwrap();
    for line in lines.iter_mut().filter(|line| line.path().as_deref() == Some(name.as_bytes())) {
        line.size = content.len() as u64;
        line.blake3 = blake3::hash(&content).to_hex().to_string();
    }
    fs::write(dir.join("xb_manifest"), mutate::manifest(&lines, trailer)).unwrap();
}

fn copied(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Changes some bytes of a file.
fn damage(path: &Path, dice: &mut Dice) -> &'static str {
    let mut content = fs::read(path).unwrap();
    let what = change(&mut content, dice);
    fs::write(path, content).unwrap();
    what
}

/// What there is of a merged directory beside what is true of one directory only.
fn merged(dir: &Path) -> Tree {
    let mut files = tree(dir);
    files.retain(|path, _| !matches!(path.to_str(), Some("xb_prints" | "xb_lock")));
    files
}

fn hunt_in_chains(seed: u64, count: usize) {
    let scratch = scratch();
    let log = Log::new(3000);
    let (base, increment) = chain(&log, scratch.path());
    let merge = |increment: &Path, to: &Path| {
        let mut merge = xb("xb-redo");
        merge.arg("--merge").arg(&base).arg("--incremental-dir").arg(increment).arg("--to").arg(to);
        Pipeline::new().stage(limited(&merge)).limit(HANGS).run()
    };
    let (whole, read) = (scratch.path().join("whole"), |path: &Path, name: &str| fs::read(path.join(name)).unwrap());
    merge(&increment, &whole).assert_ok();
    let truth = merged(&whole);
    let space = read(&base, "db/t.ibd");
    assert!(read(&whole, "db/t.ibd") == patched(&space, &read(&increment, "db/t.ibd.delta")));
    let mut dice = Dice(seed);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..count {
        let (mutant, to) = (scratch.path().join(format!("mutant{round}")), scratch.path().join(format!("to{round}")));
        copied(&increment, &mutant);
        let name = ["db/t.ibd.delta", "db/t.ibd.delta", "db/t.ibd.meta", "ib_logfile0", "xb_manifest", "xb_begin"]
            [dice.below(6)];
        let forged = dice.below(3) > 0;
        let change = match name {
            "xb_manifest" if forged => {
                let bytes = ["xb_begin", "xb_manifest"].map(|name| read(&mutant, name));
                let chunk =
                    |name: &str, payload| mutate::Chunk { flags: 0, kind: b'P', path: name.into(), offset: 0, payload };
                let [begin, manifest] = bytes;
                let mut chunks = vec![chunk("xb_begin", begin), chunk("xb_manifest", manifest)];
                let what = mutate::forge(&mut chunks, &mut dice);
                for chunk in chunks {
                    fs::write(mutant.join(String::from_utf8(chunk.path).unwrap()), chunk.payload).unwrap();
                }
                what
            }
            _ => damage(&mutant.join(name), &mut dice),
        };
        if forged && !name.starts_with("xb_") {
            relist(&mutant, name);
        }
        let what = format!("seed {seed}, mutant {round}: {name}, {change}, forged: {forged}");
        let run = merge(&mutant, &to);
        assert_decent(&what, &run);
        if run.codes() == [0] {
            taken += 1;
            let found = merged(&to);
            if found != truth {
                assert!(forged, "{what}: taken for good, with other content");
                is_as_listed(&found).unwrap_or_else(|wrong| panic!("{what}: taken for good: {wrong}"));
                if name == "db/t.ibd.delta" {
                    let expected = patched(&space, &read(&mutant, name));
                    assert!(found[Path::new("db/t.ibd")] == expected, "{what}: other pages than the delta's");
                }
            }
        } else {
            refused += 1;
        }
        fs::remove_dir_all(&mutant).unwrap();
        let _ = fs::remove_dir_all(&to);
    }
    eprintln!("{count} mutants of an increment, {refused} refused, {taken} taken");
    assert!(refused > count / 3, "only {refused} of {count} were refused: are they mutants?");
}

#[test]
fn a_changed_delta_is_refused_or_merged_as_it_is() {
    hunt_in_chains(19, 120);
}

#[test]
#[ignore = "minutes"]
fn thousands_of_changed_deltas_are_refused_or_merged() {
    for seed in 1..6 {
        hunt_in_chains(seed * 2003, 600);
    }
}

#[test]
fn an_increment_of_terabytes_of_zeros_is_refused_at_once() {
    let scratch = scratch();
    let log = Log::new(3000);
    let (base, increment) = chain(&log, scratch.path());
    let (mut lines, trailer) = listed(&increment);
    for line in lines.iter_mut().filter(|line| line.kind == EntryKind::Delta) {
        line.pages = Some(1 << 28);
        line.zero_runs = vec![(10, (1 << 28) - 10)];
    }
    fs::write(increment.join("xb_manifest"), mutate::manifest(&lines, trailer)).unwrap();
    let mut merge = xb("xb-redo");
    merge.arg("--merge").arg(&base).arg("--incremental-dir").arg(&increment);
    let run = Pipeline::new().stage(limited(&merge)).limit(HANGS).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("--hole-limit SIZE raises the limit"), "{}", run.story());
}

/// A program that reports the version of the server and does nothing: whatever reaches it has passed all our checks.
fn idle_server(flavour: Flavour, dir: &Path) -> PathBuf {
    let (path, real) = (dir.join("server"), flavour.server());
    let real = real.display();
    // The limits are ours, not the server's.
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' --version '*|*' --help '*) \
         prlimit --pid $$ --data=unlimited --cpu=unlimited; exec {real} \"$@\";; esac\necho REACHED >&2\nexit 1\n"
    );
    executable(&path, &script);
    path
}

/// The sums of a captured log made right again behind what was changed: that of each block of MySQL's, that of each
/// mini-transaction that can still be told of MariaDB's.
fn reseal(family: Family, path: &Path) {
    let mut log = fs::read(path).unwrap();
    match family {
        Family::Mysql => {
            for block in log.chunks_exact_mut(512) {
                let sum = crc32c::crc32c(&block[..508]);
                block[508..].copy_from_slice(&sum.to_be_bytes());
            }
        }
        Family::Mariadb => {
            // The header and both checkpoints.
            for (at, len) in [(0, 508), (4096, 60), (8192, 60)] {
                if let Some(block) = log.get_mut(at..at + len + 4) {
                    let sum = crc32c::crc32c(&block[..len]);
                    block[len..].copy_from_slice(&sum.to_be_bytes());
                }
            }
            let mut at = START;
            while let Some(len) = log.get(at..).and_then(records) {
                let sum = crc32c::crc32c(&log[at..at + len]);
                let Some(place) = log.get_mut(at + len + 1..at + len + 5) else { break };
                place.copy_from_slice(&sum.to_be_bytes());
                at += len + 5;
            }
        }
    }
    fs::write(path, log).unwrap();
}

/// Bytes of the records of a mini-transaction, by the lengths that they say (`facts/mariadb-hot-backup#captured-log`).
fn records(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            0 | 1 => return (at > 0).then_some(at),
            kind if kind & 15 > 0 => at += 1 + usize::from(kind & 15),
            _ => at += 16 + usize::try_from(varint(bytes.get(at + 1..)?)?.0).unwrap(),
        }
        if at > 1 << 20 {
            return None;
        }
    }
}

fn hunt_in_logs(flavour: Flavour, seed: u64, count: usize, most_real: usize) {
    let name = match flavour.family() {
        Family::Mariadb => "ib_logfile0",
        Family::Mysql => "xtrabackup_logfile",
    };
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.t (id INT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(200))");
    let scratch = scratch();
    let backup = scratch.path().join("backup");
    let rows = "INSERT INTO sb.t (text) SELECT REPEAT('x', seq % 150) FROM test.seq_1_to_2000";
    server.sql(rows);
    take(&server, &[], &backup);
    let idle = idle_server(flavour, scratch.path());
    let mut dice = Dice(seed);
    let (mut refused, mut reached, mut real) = (0, 0, 0);
    for round in 0..count {
        let mutant = scratch.path().join(format!("mutant{round}"));
        copied(&backup, &mutant);
        let path = mutant.join(name);
        let change = damage(&path, &mut dice);
        let (forged, sealed) = (dice.below(4) > 0, dice.below(2) == 0);
        if sealed {
            reseal(flavour.family(), &path);
        }
        if forged {
            relist(&mutant, name);
        }
        let same = fs::read(&path).unwrap() == fs::read(backup.join(name)).unwrap();
        let what = format!("{flavour:?}, seed {seed}, mutant {round}: {change}, forged: {forged}, sealed: {sealed}");
        let mut apply = xb("xb-redo");
        apply.arg("--apply").arg(&mutant).arg("--server").arg(&idle).args(server.plugins());
        let run = Pipeline::new().stage(limited(&apply)).limit(HANGS).run();
        assert_decent(&what, &run);
        if !mutant.join("xb_server.log").exists() {
            refused += 1;
        } else {
            reached += 1;
            assert!(forged || same, "{what}: a server was started on it");
            // Records with a new checksum are what the log says. All others must be those of the source server.
            if !sealed && real < most_real {
                real += 1;
                let run = Pipeline::new().stage(apply_with(&server, &mutant)).run();
                assert!(run.codes()[0] <= 5, "{what}: {}", run.story());
                if run.codes() == [0] {
                    check::same(&server, &server.twin(&mutant).start()).assert_good();
                }
            }
        }
        fs::remove_dir_all(&mutant).unwrap();
    }
    eprintln!(
        "{flavour:?}: {count} mutants of a log, {refused} refused, {reached} reached the server, {real} by a real one"
    );
    assert!(refused > count / 3, "only {refused} of {count} were refused: are they mutants?");
}

#[test]
fn a_changed_log_of_mariadb_is_refused_or_the_same() {
    hunt_in_logs(Flavour::Installed, 23, 60, 4);
}

#[test]
fn a_changed_log_of_mysql_is_refused_or_the_same() {
    if Flavour::Mysql97.or_skip() {
        hunt_in_logs(Flavour::Mysql97, 29, 40, 3);
    }
}

#[test]
#[ignore = "minutes"]
fn hundreds_of_changed_logs_are_refused_or_the_same() {
    for flavour in [Flavour::Installed, Flavour::Mysql97].into_iter().filter(|flavour| flavour.or_skip()) {
        for seed in 1..4 {
            hunt_in_logs(flavour, seed * 3001, 200, 10);
        }
    }
}
