//! `xb-redo --apply --native`: the log is applied without a server. What `mariadb-backup --prepare` makes of a copy is
//! the measure: every page of every file must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xb::innodb::redo::mariadb::records::{Body, PageId, PageOp, Records};
use xb::innodb::redo::mariadb::{Checkpoint, FILE, Header, Mtr, Ring, mtr};
use xb::innodb::space::HEAD;
use xb::innodb::squeeze::Squeezer;
use xb::innodb::{Doublewrite, PageNo, Space, SpaceId, page};

use crate::hot_backup::pipeline;
use crate::support::backup::apply;
use crate::support::fault::SmallDisk;
use crate::support::pipeline::Relay;
use crate::support::server::Builder;
use crate::support::{
    Flavour, Load, Pipeline, Random, Server, check, output, program, rounds, scratch, test_on, wait_until, xb,
};

/// The files of InnoDB, except its log, relative to the directory.
fn tablespaces(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut places = vec![PathBuf::new()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(dir.join(&place)).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (place.join(entry.file_name()), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                places.push(path);
            } else if name.ends_with(".ibd") || name.starts_with("ibdata") || name.starts_with("undo0") {
                found.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// Pages that no one reads: of an undo tablespace that the log truncates, those that it does not mention after that, or
/// frees at last. In such a page a server leaves what it just had, which depends on its memory.
fn idle(dir: &Path) -> impl Fn(SpaceId, PageNo) -> bool {
    let log = fs::read(dir.join(FILE)).unwrap();
    let header = Header::parse(&log).unwrap();
    let ring = Ring::new(header.first_lsn, u64::MAX / 2).unwrap();
    let mut lsn = Checkpoint::newest(&log, header.first_lsn).unwrap().lsn;
    let (mut cut, mut live) = (BTreeSet::new(), BTreeSet::new());
    while let Mtr::Complete { len } = mtr(&log[usize::try_from(ring.offset(lsn)).unwrap()..], lsn, &ring, false) {
        let at = usize::try_from(ring.offset(lsn)).unwrap();
        for record in Records::of(&log[at..at + len]) {
            let Body::Page(page, op) = record.unwrap().body else { continue };
            match op {
                PageOp::Trim => {
                    cut.insert(page.space);
                    live.retain(|live: &PageId| live.space != page.space);
                }
                PageOp::Free => drop(live.remove(&page)),
                _ => drop(live.insert(page)),
            }
        }
        lsn = lsn.saturating_add(len as u64);
    }
    move |space, number| cut.contains(&space) && !live.contains(&PageId { space, number })
}

/// How many pages were compared, and what differs, except in pages that are idle.
fn differences(ours: &Path, theirs: &Path, idle: &dyn Fn(SpaceId, PageNo) -> bool) -> (usize, Vec<String>) {
    let (ours, theirs) = (tablespaces(ours), tablespaces(theirs));
    let (mut pages, mut bad) = (0, Vec::new());
    for (path, want) in &theirs {
        let name = path.display();
        let Some(have) = ours.get(path) else {
            bad.push(format!("{name} is missing"));
            continue;
        };
        if have.len() != want.len() {
            bad.push(format!("{name} has {} bytes, not {}", have.len(), want.len()));
        }
        let space = Space::parse(&want[..HEAD.min(want.len())]).ok().flatten();
        // The second file of a system tablespace.
        let (space, first) = match space {
            Some(space) => (space, 0),
            None if want.iter().all(|byte| *byte == 0) => {
                if have != want {
                    bad.push(format!("{name} is not empty"));
                }
                continue;
            }
            None => {
                let (space, number, at) = Space::of_system_page(want).expect("a file without a page");
                let index = u32::try_from(at / u64::from(space.page_size)).unwrap();
                (space, number.get() - index)
            }
        };
        let size = space.page_size.bytes();
        let skip = (space.id == SpaceId::SYSTEM).then(|| {
            let page5 = want.get(5 * size..6 * size).filter(|_| first == 0).unwrap_or_default();
            Doublewrite::parse(page5, space.page_size).unwrap_or(Doublewrite::usual(space.page_size))
        });
        for (index, (have, want)) in have.chunks(size).zip(want.chunks(size)).enumerate() {
            let number = PageNo::new(first + u32::try_from(index).unwrap());
            if skip.as_ref().is_some_and(|area| area.covers(number)) || idle(space.id, number) {
                continue;
            }
            pages += 1;
            if have == want || same_content(&space, have, want) {
                continue;
            }
            let at: Vec<usize> = (0..have.len()).filter(|at| have[*at] != want[*at]).collect();
            let lsns = (page::lsn(have), page::lsn(want));
            bad.push(format!(
                "{name} page {number} type {:?}/{:?} lsn {lsns:?}: {} bytes differ, from {} to {}",
                page::kind(have),
                page::kind(want),
                at.len(),
                at[0],
                at[at.len() - 1]
            ));
        }
    }
    // What an ALTER TABLE has begun: the stock program makes no file of which only the log knows. The server that is started
    // rolls it back, and removes it.
    let passing = |path: &Path| is_passing(path.file_name().unwrap().to_str().unwrap());
    for path in ours.keys().filter(|path| !theirs.contains_key(*path) && !passing(path)) {
        bad.push(format!("{} should not be there", path.display()));
    }
    (pages, bad)
}

/// The file of a table that is being made anew.
fn is_passing(name: &str) -> bool {
    name.starts_with("#sql")
}

/// Compressed pages are the same if their content is: there is more than one way to compress it. What a server has in
/// the trailer of a page that it compresses is not read by anyone.
fn same_content(space: &Space, have: &[u8], want: &[u8]) -> bool {
    if space.squeezer() == Squeezer::None || have[4..24] != want[4..24] {
        return false;
    }
    let plain = |page: &[u8]| space.unsqueezed(page).ok().flatten().unwrap_or_else(|| page.to_vec());
    let (have, want) = (plain(have), plain(want));
    let body = have.len() - 8;
    have[..body] == want[..body]
}

fn copy(from: &Path, to: &Path) {
    let mut cp = program("cp");
    cp.args(["-a", "--sparse=auto"]).arg(from).arg(to);
    Pipeline::new().stage(cp).run().assert_ok();
}

/// A backup under load, applied in both ways. Returns how many bytes of log it had.
fn agrees(builder: Builder, seed: u64, load: impl FnOnce(Load) -> Load, relay: Relay, native: &[&str]) {
    let take = |server: &Server, dir: &Path| pipeline(server, &[], relay, dir);
    compared(builder, seed, load, take, native);
}

fn compared(
    builder: Builder,
    seed: u64,
    load: impl FnOnce(Load) -> Load,
    take: impl FnOnce(&Server, &Path) -> Pipeline,
    native: &[&str],
) {
    let server = builder.start();
    let load = load(Load::on(&server).seed(seed)).start();
    load.wait_for(300);
    if seed % 2 == 1 {
        // More than two laps, so that there has been a checkpoint: the oldest pages are in the files, and not in the log.
        let size: u64 = server.value("SELECT @@innodb_log_file_size").parse().unwrap();
        let begin = server.status("Innodb_lsn_current");
        wait_until("two laps of the log", Duration::from_secs(200), || {
            server.status("Innodb_lsn_current") > begin + 2 * size
        });
    }
    let dir = scratch();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    take(&server, &ours).run().assert_ok();
    load.wait_for(20);
    load.stop();
    copy(&ours, &theirs);
    let idle = idle(&ours);
    if std::env::var_os("XB_KEEP").is_some() {
        copy(&ours.join(FILE), &dir.path().join("log"));
    }
    let mut prepare = server.program("mariadb-backup");
    // Page size, files and checksums are in there.
    prepare.arg(format!("--defaults-file={}", theirs.join("backup-my.cnf").display()));
    prepare.arg("--prepare").arg(format!("--target-dir={}", theirs.display()));
    Pipeline::new().stage(prepare).limit(Duration::from_secs(300)).run().assert_ok();
    let mut command = apply(&ours);
    command.args(["--native", "-v"]).args(native);
    let run = Pipeline::new().stage(command).limit(Duration::from_secs(300)).run();
    run.assert_ok();
    let (pages, mut bad) = differences(&ours, &theirs, &idle);
    let position = |dir: &Path| fs::read_to_string(dir.join("xtrabackup_binlog_pos_innodb")).ok();
    if position(&ours) != position(&theirs) {
        bad.push(format!("position {:?}, not {:?}", position(&ours), position(&theirs)));
    }
    eprintln!("seed {seed}: {pages} pages compared, {} differ; {}", bad.len(), run.stderr(0).replace('\n', " "));
    if !bad.is_empty() && std::env::var_os("XB_KEEP").is_some() {
        eprintln!("kept: {}", dir.keep().display());
    }
    assert!(bad.is_empty() && pages > 500, "{pages} pages, of which differ:\n{}", bad.join("\n"));
    let verdict = check::restored(&server, &ours);
    if !verdict.problems.is_empty() {
        let problems = |verdict: check::Verdict| verdict.problems.join("\n");
        eprintln!("of what mariadb-backup has prepared:\n{}", problems(check::restored(&server, &theirs)));
        for table in check::tables(&server) {
            eprintln!("source: {:?}", server.rows(&format!("CHECK TABLE {table} EXTENDED")));
        }
    }
    verdict.assert_good();
    let left: Vec<PathBuf> = tablespaces(&ours).into_keys().collect();
    let left = left.iter().find(|path| is_passing(path.file_name().unwrap().to_str().unwrap()));
    assert_eq!(left, None, "the server did not remove it");
}

test_on!(every_page_is_that_of_the_stock_prepare: mariadb, mariadb118);

fn every_page_is_that_of_the_stock_prepare(flavour: Flavour) {
    let builder = Server::new().flavour(flavour);
    agrees(builder, 1, |load| load.bank(2).rows(1).formats(1).odd(1).ddl(1), Relay::rate(40 << 20), &[]);
}

/// How a kill, or a power cut, leaves the directory: a page of the last round half written, if there was one.
fn tear(dir: &Path, random: &mut Random) -> bool {
    let Ok(kept) = fs::read(dir.join("xb_images")) else { return false };
    let number = |bytes: &[u8], at: usize, len: usize| {
        bytes.get(at..at + len).map(|bytes| bytes.iter().fold(0, |value, byte| value << 8 | *byte as usize))
    };
    let (mut at, mut last) = (0, None);
    while kept.get(at..at + 8) == Some(b"xbimage1") {
        let len = number(&kept, at + 8, 8).unwrap();
        let Some(body) = kept.get(at + 48..at + 48 + len) else { break };
        if blake3::hash(body).as_bytes()[..] != kept[at + 16..at + 48] {
            break;
        }
        last = Some(body);
        at += 48 + len;
    }
    let Some(body) = last else { return false };
    let (mut at, mut torn) = (0, 0);
    while at < body.len() {
        let path = at + 2..at + 2 + number(body, at, 2).unwrap();
        let (place, len, unused) = (path.end, path.end + 8, path.end + 12);
        let file = dir.join(std::str::from_utf8(&body[path]).unwrap());
        let (place, len, unused) = (number(body, place, 8).unwrap(), number(body, len, 4).unwrap(), unused + 4);
        if random.chance(40) {
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x5a; len / 2], (place + len / 4) as u64).unwrap();
            torn += 1;
        }
        at = unused + len;
    }
    torn > 0
}

/// Killed at any write, with torn pages, and run again, it ends the same.
#[test]
fn killed_anywhere_it_ends_the_same() {
    let server = Server::new().start();
    let load = Load::on(&server).bank(1).rows(1).formats(2).odd(1).start();
    load.wait_for(200);
    let dir = scratch();
    let [whole, straight, killed] = ["whole", "straight", "killed"].map(|name| dir.path().join(name));
    pipeline(&server, &[], Relay::rate(40 << 20), &whole).run().assert_ok();
    load.stop();
    let native = |dir: &Path| {
        let mut command = apply(dir);
        // So little that there are many rounds of writing.
        command.args(["--native", "--use-memory=2M", "-j2"]);
        command
    };
    copy(&whole, &straight);
    let started = std::time::Instant::now();
    Pipeline::new().stage(native(&straight)).run().assert_ok();
    let time = u64::try_from(started.elapsed().as_micros()).unwrap();
    let mut random = Random::new(11);
    let (mut kills, mut torn) = (0, 0);
    for _ in 0..6 {
        let _ = fs::remove_dir_all(&killed);
        copy(&whole, &killed);
        loop {
            let running = Pipeline::new().stage(native(&killed)).start();
            std::thread::sleep(Duration::from_micros(random.below(time)));
            running.signal(0, rustix::process::Signal::KILL);
            let run = running.wait();
            if run.codes() == [0] {
                break;
            }
            assert_eq!(run.codes(), [137], "{}", run.story());
            kills += 1;
            torn += u32::from(tear(&killed, &mut random));
        }
        let (pages, bad) = differences(&killed, &straight, &|_, _| false);
        eprintln!("{kills} kills, {torn} with torn pages, {pages} pages");
        assert!(bad.is_empty() && pages > 500, "{}", bad.join("\n"));
        assert!(fs::read_dir(&killed).unwrap().all(|entry| entry.unwrap().file_name() != "xb_images"));
    }
    assert!(kills > 2 && torn > 0, "{kills} kills, {torn} with torn pages: nothing was tried");
    check::restored(&server, &killed).assert_good();
}

test_on!(backups_of_mariadb_backup_too: mariadb, mariadb118);

fn backups_of_mariadb_backup_too(flavour: Flavour) {
    let take = |server: &Server, dir: &Path| {
        let mut backup = server.program("mariadb-backup");
        backup.args(server.options()).args(["--backup", "--stream=xbstream", "--user=root", "--parallel=2"]);
        Pipeline::new().stage(backup).relay(Relay::rate(60 << 20)).stage(xb("xb-unpack").arg("-C").arg(dir))
    };
    let builder = Server::new().flavour(flavour).log_size("256M");
    compared(builder, 20, |load| load.bank(2).rows(1).formats(1).odd(1), take, &[]);
}

/// All files, with their content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = output({
        let mut find = program("find");
        find.arg(dir).args(["-type", "f", "-printf", "%P\\n"]);
        find
    });
    let files = files.lines().filter(|name| *name != "xb_lock" && *name != "xb_applied");
    files.map(|name| (PathBuf::from(name), fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn what_only_a_server_can_do_is_left_to_it() {
    let server = Server::new().encrypted().start();
    Load::on(&server).bank(1).prepare();
    let dir = scratch();
    let backup = dir.path().join("backup");
    pipeline(&server, &[], Relay::default(), &backup).run().assert_ok();
    let native = |dir: &Path| {
        let mut command = apply(dir);
        command.arg("--native");
        Pipeline::new().stage(command).run()
    };
    let run = native(&backup);
    assert_eq!(run.codes(), [1], "{}", run.story());
    assert!(run.story().contains("its redo log is encrypted") && run.story().contains("without --native"));
    crate::hot_backup::apply(&server, &backup).assert_ok();
    check::restored(&server, &backup).assert_good();
    // Tables that are, with a log that is not.
    let server = Server::new().encrypted().option("innodb-encrypt-log", "OFF").start();
    let load = Load::on(&server).bank(1).start();
    load.wait_for(50);
    let dir = scratch();
    let backup = dir.path().join("backup");
    pipeline(&server, &["--lock-ddl=early"], Relay::default(), &backup).run().assert_ok();
    load.stop();
    let before = tablespaces(&backup);
    let run = native(&backup);
    assert_eq!(run.codes(), [1], "{}", run.story());
    assert!(run.story().contains("is encrypted") && run.story().contains("without --native"), "{}", run.story());
    assert!(tablespaces(&backup) == before, "something was changed");
    crate::hot_backup::apply(&server, &backup).assert_ok();
    check::restored(&server, &backup).assert_good();
}

/// An increment, tables in a directory of their own, and tables that were left out.
#[test]
#[ignore = "long: failed once in five runs on a loaded machine, and the cause is not known yet"]
fn what_was_merged_moved_or_left_out_is_applied() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::new().start();
    let place = scratch();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let far = place.path().display();
    server.sql(&format!(
        "CREATE TABLE test.far (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB DATA DIRECTORY='{far}'"
    ));
    let load = Load::on(&server).bank(1).rows(1).formats(1).odd(1).start();
    load.wait_for(200);
    let dir = scratch();
    let [base, increment, part] = ["base", "increment", "part"].map(|name| dir.path().join(name));
    pipeline(&server, &[], Relay::default(), &base).run().assert_ok();
    load.wait_for(100);
    server.sql("USE test; INSERT INTO test.far SELECT seq, REPEAT('x', 100) FROM seq_1_to_3000");
    let since = format!("--incremental-basedir={}", base.display());
    pipeline(&server, &[&since], Relay::rate(40 << 20), &increment).run().assert_ok();
    pipeline(&server, &["--databases=mysql sys bank test"], Relay::rate(40 << 20), &part).run().assert_ok();
    load.stop();
    // As after a crash: the original is not touched.
    let original = place.path().join("test/far.ibd");
    let before = fs::read(&original).unwrap();
    let mut command = apply(&base);
    command.arg("--native").arg("--incremental-dir").arg(&increment);
    let run = Pipeline::new().stage(command).run();
    run.assert_ok();
    assert!(run.stderr(0).contains("test/far: was at"), "{}", run.story());
    let mut command = apply(&part);
    command.arg("--native");
    let run = Pipeline::new().stage(command).run();
    run.assert_ok();
    assert!(fs::read(&original).unwrap() == before, "the original was written to");
    assert!(tablespaces(&part).into_keys().all(|path| !path.starts_with("bench") && !path.starts_with("odd")));
    let copy = server.twin(&part).start();
    assert_eq!(copy.value("SELECT COUNT(*) FROM test.far WHERE v = REPEAT('x', 100)"), "3000");
    assert_eq!(copy.value("SELECT COUNT(*) > 0 AND SUM(balance) = COUNT(*) * 1000000 FROM bank.accounts"), "1");
    for table in ["test.far", "bank.accounts", "bank.ledger"] {
        assert_eq!(copy.rows(&format!("CHECK TABLE {table} EXTENDED"))[0][3], "OK", "{table}");
    }
    drop(copy);
    check::restored(&server, &base).assert_good();
}

/// A full disk ends it, and with room it goes on.
#[test]
fn a_full_disk_is_no_end() {
    let server = Server::new().start();
    let load = Load::on(&server).bank(1).rows(1).start();
    load.wait_for(300);
    let dir = scratch();
    let [whole, straight] = ["whole", "straight"].map(|name| dir.path().join(name));
    pipeline(&server, &[], Relay::rate(40 << 20), &whole).run().assert_ok();
    load.stop();
    copy(&whole, &straight);
    let native = |dir: &Path| {
        let mut command = apply(dir);
        command.args(["--native", "--use-memory=1M"]);
        command
    };
    Pipeline::new().stage(native(&straight)).run().assert_ok();
    let size = |dir: &Path| {
        let text = output({
            let mut du = program("du");
            du.arg("-sB1").arg(dir);
            du
        });
        text.split('\t').next().unwrap().parse::<u64>().unwrap()
    };
    let Some(disk) = SmallDisk::new(size(&whole) + (5 << 20)) else { return };
    let limited = disk.path().join("backup");
    copy(&whole, &limited);
    let run = Pipeline::new().stage(native(&limited)).run();
    assert_eq!(run.codes(), [1], "{}", run.story());
    assert!(run.story().contains("no space left on device"), "{}", run.story());
    let room = dir.path().join("room");
    copy(&limited, &room);
    Pipeline::new().stage(native(&room)).run().assert_ok();
    let (pages, bad) = differences(&room, &straight, &|_, _| false);
    assert!(bad.is_empty() && pages > 500, "{}", bad.join("\n"));
    check::restored(&server, &room).assert_good();
}

/// A record that no server writes, and a page that does not fit its records: nothing is taken for good.
#[test]
fn damage_is_told_with_page_and_lsn() {
    let mut server = Server::new().start();
    let load = Load::on(&server).bank(2).rows(1);
    load.prepare();
    // So that the pages are in the files, and not in the log.
    server.restart();
    let load = load.go_on();
    load.wait_for(300);
    let dir = scratch();
    let whole = dir.path().join("whole");
    pipeline(&server, &[], Relay::rate(40 << 20), &whole).run().assert_ok();
    load.stop();
    let native = |dir: &Path| {
        let mut command = apply(dir);
        command.arg("--native");
        Pipeline::new().stage(command).run()
    };
    // Of an own backup the manifest would tell of damage; a copy without it is as one of another program.
    for name in ["xb_begin", "xb_manifest", "xb_pages", "xb_prints"] {
        let _ = fs::remove_file(whole.join(name));
    }
    let log = fs::read(whole.join(FILE)).unwrap();
    let header = Header::parse(&log).unwrap();
    let ring = Ring::new(header.first_lsn, u64::MAX / 2).unwrap();
    let mut mtrs = Vec::new();
    let mut lsn = Checkpoint::newest(&log, header.first_lsn).unwrap().lsn;
    while let Mtr::Complete { len } = mtr(&log[usize::try_from(ring.offset(lsn)).unwrap()..], lsn, &ring, false) {
        mtrs.push((lsn, usize::try_from(ring.offset(lsn)).unwrap(), len));
        lsn = lsn.saturating_add(len as u64);
    }
    // The first record of a page gets the reserved type.
    let (lsn, at, len) = *mtrs.iter().skip(mtrs.len() / 2).find(|(_, at, _)| log[*at] & 0xf0 == 0x30).unwrap();
    let mut bad = log.clone();
    bad[at] = bad[at] & 0x8f | 0x60;
    let sum = crc32c::crc32c(&bad[at..at + len - 5]).to_be_bytes();
    bad[at + len - 4..at + len].copy_from_slice(&sum);
    let copied = dir.path().join("record");
    copy(&whole, &copied);
    fs::write(copied.join(FILE), bad).unwrap();
    let before = content(&copied);
    let run = native(&copied);
    assert_eq!(run.codes(), [3], "{}", run.story());
    assert!(run.story().contains(&format!("mini-transaction at lsn {lsn}: record 0x")), "{}", run.story());
    assert!(run.story().contains("a reserved type"), "{}", run.story());
    let after = content(&copied);
    let changed: Vec<_> =
        before.iter().filter(|(name, bytes)| after.get(*name) != Some(bytes)).map(|(name, _)| name).collect();
    // The log is made longer before it is read.
    assert!(changed.iter().all(|name| *name == Path::new(FILE)), "{changed:?}");
    // A page whose checksum is wrong, and one that is of another table.
    for (harm, words) in [(0, "checksum"), (1, "page says it is number")] {
        let copied = dir.path().join(format!("page{harm}"));
        copy(&whole, &copied);
        let path = copied.join("bank/accounts.ibd");
        let mut bytes = fs::read(&path).unwrap();
        let pages = bytes.len() / 16384;
        for page in bytes.chunks_mut(16384).skip(3) {
            match harm {
                0 => page[9000] ^= 1,
                _ if page[24..26] == [0x45, 0xbf] => page[7] ^= 1,
                _ => {}
            }
        }
        assert!(pages > 4);
        fs::write(&path, bytes).unwrap();
        let run = native(&copied);
        assert_eq!(run.codes(), [3], "{}", run.story());
        let told = run.story();
        assert!(told.contains("bank/accounts.ibd: page ") && told.contains(words), "{told}");
        assert!(told.contains("log at lsn ") && told.contains("without --native"), "{told}");
    }
}

/// Rounds of random load on servers of all kinds.
#[test]
#[ignore = "long: forty backups, each applied twice"]
fn forty_in_a_row() {
    let kinds: [fn() -> Builder; 8] = [
        Server::new,
        || Server::new().log_size("16M"),
        || Server::new().layout("innodb-page-size", "4k"),
        || Server::new().layout("innodb-page-size", "64k").log_size("64M"),
        || Server::new().layout("innodb-checksum-algorithm", "crc32"),
        || Server::new().layout("innodb-page-size", "8k").layout("innodb-checksum-algorithm", "strict_crc32"),
        || {
            Server::new()
                .layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend")
                .layout("innodb-undo-tablespaces", "3")
                .option("innodb-undo-log-truncate", "ON")
                .option("innodb-max-undo-log-size", "10485760")
                .option("innodb-purge-rseg-truncate-frequency", "1")
        },
        || Server::new().layout("innodb-file-per-table", "OFF"),
    ];
    let flavours = Flavour::all();
    let mut bad = Vec::new();
    for round in rounds(40) {
        let index = usize::try_from(round).unwrap();
        let flavour = flavours[index % flavours.len()];
        let kind = index / flavours.len() % kinds.len();
        let builder = kinds[kind]().flavour(flavour);
        let mut random = Random::new(round);
        let relay = Relay::rate((30 + random.below(60)) << 20);
        let memory = ["--use-memory=1M", "--use-memory=64M", "-j1", "-j4"][index % 4];
        let load = |load: Load| match round % 4 {
            // PAGE_COMPRESSED needs a file of its own.
            _ if kind == 7 => load.bank(2).rows(1).odd(2),
            0 => load.bank(1).rows(2).odd(2),
            1 => load.formats(3).odd(1).ddl(1),
            2 => load.rows(3).formats(1).odd(1),
            _ => load.bank(2).rows(1).formats(1).odd(1).ddl(2),
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            agrees(builder, 1000 + round, load, relay, &[memory])
        }));
        eprintln!("round {round} {flavour:?} kind {kind}: {}", if outcome.is_ok() { "good" } else { "BAD" });
        if outcome.is_err() {
            bad.push(round);
        }
    }
    assert!(bad.is_empty(), "bad rounds: {bad:?}");
}
