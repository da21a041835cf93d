//! Increments on a base with another history: the server was restored from an older backup, created again, cloned, or
//! set back to an older state of its disk. Base and increment together still equal a full copy.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{
    Chain, apply_to, assert_same_files, back_up, back_up_offline, copy, good, redo, refused, since, status, tree,
};
use crate::support::fault::SmallDisk;
use crate::support::pipeline::Run;
use crate::support::{Family, Flavour, Pipeline, Server, check, output, program, scratch, test_on, xb};

/// The message for a base with another history.
const WARNING: &str = "has another history than the server";
/// The message for increments that cannot be proved.
const UNPROVED: &str = "cannot prove that pages which are not newer are unchanged";

/// Three tables: one for each of the histories to write to alone, one for both.
fn fill(server: &Server) {
    let rows = "SELECT seq, REPEAT('o', 400) FROM seq_1_to_5000";
    let mut statements = "CREATE DATABASE d; USE test;".to_owned();
    for table in ["lost", "new", "both", "again"] {
        statements +=
            &format!("CREATE TABLE d.{table} (a INT PRIMARY KEY, b VARCHAR(500)); INSERT INTO d.{table} {rows};");
    }
    server.sql(&statements);
}

/// What the base has and the server will never have had: in some pages of a table, and a table made anew.
fn lose(server: &Server) {
    server.sql(
        "UPDATE d.lost SET b=REPEAT('l', 400) WHERE a % 100 = 0; UPDATE d.both SET b=REPEAT('l', 400) WHERE a % 300 = 0; \
         DROP TABLE d.again; CREATE TABLE d.again (a INT PRIMARY KEY, b VARCHAR(500)); \
         INSERT INTO d.again SELECT a, REPEAT('l', 400) FROM d.new; CREATE TABLE d.gone AS SELECT * FROM d.lost",
    );
}

/// The same for the new history, far beyond the LSN of the base.
fn go_on(server: &Server) {
    server.sql(
        "DROP TABLE d.again; CREATE TABLE d.again (a INT PRIMARY KEY, b VARCHAR(500)); \
         INSERT INTO d.again SELECT a, REPEAT('n', 400) FROM d.new; \
         UPDATE d.both SET b=REPEAT('n', 400) WHERE a % 500 = 0; CREATE TABLE d.scratch AS SELECT * FROM d.new; \
         INSERT INTO d.scratch SELECT * FROM d.new; INSERT INTO d.scratch SELECT * FROM d.new; DROP TABLE d.scratch; \
         UPDATE d.new SET b=REPEAT('n', 400) WHERE a % 700 = 0; ",
    );
}

/// Replaces a directory by a copy of another.
fn put_back(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    let mut cp = program("cp");
    cp.args(["-a", "--sparse=auto"]).arg(from).arg(to);
    output(cp);
}

/// An increment of a stopped server; what was said.
fn increment(server: &Server, base: &Path, target: &Path) -> Run {
    let datadir = format!("--datadir={}", server.data().display());
    back_up(server, &["--offline", &datadir, &since(base)], target)
}

/// Base and increment, merged, equal a full copy page by page, and a server on it has the rows of the source.
#[track_caller]
fn prove(server: &mut Server, base: &Path, increments: &[&Path]) {
    let full = scratch();
    back_up_offline(server, &[], full.path());
    let (merged, applied) = (scratch(), scratch());
    let (merged, applied) = (merged.path().join("to"), applied.path().join("to"));
    let mut merge = redo("--merge", base, increments);
    merge.arg("--to").arg(&merged);
    good(merge);
    assert_same_files(&merged, full.path(), |_| true);
    status(&merged, 0, "not applied: ready for xb-redo --apply");
    good(apply_to(server, base, increments, &applied));
    server.start_again();
    check::sound(server, &applied).assert_good();
    let copy = server.twin(&applied).start();
    check::same(server, &copy).assert_good();
    server.stop();
}

#[track_caller]
fn told(run: &Run, words: &str) {
    assert!(run.stderr(0).contains(words), "{words:?} is not told: {}", run.story());
}

/// How many pages were sent although they are not newer.
#[track_caller]
fn different(run: &Run) -> u64 {
    let line = run.stderr(0).lines().find(|line| line.contains("pages are not newer than this base")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    words[words.iter().position(|word| *word == "of").unwrap() - 1].parse().unwrap()
}

/// A full backup whose history is lost; then `happens` on the server; then an increment on that base.
fn lost(flavour: Flavour, happens: impl Fn(&mut Server, &Path)) {
    let mut server = Server::new().flavour(flavour).start();
    fill(&server);
    server.stop();
    let before = copy(server.data());
    let old = before.path().join("copy");
    server.start_again();
    lose(&server);
    server.stop();
    let mut chain = Chain::new();
    chain.add_offline(&server);
    happens(&mut server, &old);
    if server.rows("SELECT 1 FROM information_schema.tables WHERE table_schema='d'").is_empty() {
        fill(&server);
    }
    go_on(&server);
    server.stop();
    let run = increment(&server, &chain.base(), &chain.path(1));
    told(&run, WARNING);
    assert!(different(&run) > 64, "{}", run.story());
    prove(&mut server, &chain.base(), &[&chain.path(1)]);
    if flavour.family() == Family::Mysql {
        return;
    }
    // The next is of the server's own history again.
    server.start_again();
    go_on(&server);
    server.stop();
    let run = increment(&server, &chain.path(1), &chain.path(2));
    assert!(!run.stderr(0).contains(WARNING) && different(&run) == 0, "{}", run.story());
    prove(&mut server, &chain.base(), &[&chain.path(1), &chain.path(2)]);
}

test_on!(a_server_on_an_older_state_of_its_disk: mariadb; long: mysql97);

fn a_server_on_an_older_state_of_its_disk(flavour: Flavour) {
    lost(flavour, |server, old| {
        put_back(old, server.data());
        server.start_again();
    });
}

test_on!(a_server_restored_from_an_older_backup: mariadb, mysql97);

fn a_server_restored_from_an_older_backup(flavour: Flavour) {
    lost(flavour, |server, old| {
        let (backup, unpacked) = (scratch(), scratch());
        let uuid = fs::read(server.data().join("auto.cnf")).ok();
        put_back(old, server.data());
        back_up_offline(server, &[], unpacked.path());
        let to = backup.path().join("to");
        good(apply_to(server, unpacked.path(), &[], &to));
        fs::remove_dir_all(server.data()).unwrap();
        let mut command = redo("--copy-back", &to, &[]);
        command.arg("--datadir").arg(server.data());
        good(command);
        if let Some(uuid) = uuid {
            fs::write(server.data().join("auto.cnf"), uuid).unwrap();
        }
        server.start_again();
    });
}

test_on!(a_server_made_again: mariadb; long: mysql97);

/// Its tables and files have the same names and numbers.
fn a_server_made_again(flavour: Flavour) {
    lost(flavour, |server, _| {
        let uuid = fs::read(server.data().join("auto.cnf")).ok();
        let mut fresh = Server::new().flavour(flavour).start();
        fresh.stop();
        put_back(fresh.data(), server.data());
        if let Some(uuid) = uuid {
            fs::write(server.data().join("auto.cnf"), uuid).unwrap();
        }
        server.start_again();
    });
}

test_on!(a_clone_of_the_server: mariadb; long: mysql97);

/// Both continue, and one is mistaken for the other.
fn a_clone_of_the_server(flavour: Flavour) {
    let mut server = Server::new().flavour(flavour).start();
    fill(&server);
    server.stop();
    let other = copy(server.data());
    let data = other.path().join("copy");
    let mut clone = server.twin(&data).start();
    server.start_again();
    lose(&server);
    let mut chain = Chain::new();
    // Of running servers, whose pages are on disk.
    server.restart();
    chain.add(&server);
    go_on(&clone);
    clone.restart();
    let run = back_up(&clone, &[&since(&chain.base())], &chain.path(1));
    told(&run, WARNING);
    clone.stop();
    server.stop();
    increment(&clone, &chain.path(1), &chain.path(2));
    prove(&mut clone, &chain.base(), &[&chain.path(1), &chain.path(2)]);
    // Without one in between.
    increment(&clone, &chain.base(), &chain.path(3));
    prove(&mut clone, &chain.base(), &[&chain.path(3)]);
}

/// The digests of a base are found in all places; a base without digests gives a warning, and its history is trusted.
#[test]
fn digests_are_found_in_streams_and_merged_bases() {
    let mut server = Server::new().start();
    fill(&server);
    server.stop();
    let before = copy(server.data());
    server.start_again();
    lose(&server);
    server.stop();
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let datadir = format!("--datadir={}", server.data().display());
    let snap = || {
        let mut snap = xb("xb-snap");
        snap.args(server.options()).args(["--offline", &datadir]);
        snap
    };
    let mut full = snap();
    full.arg("--extra-lsndir").arg(at("beside"));
    Pipeline::new().stage(full).stage(xb("xb-redo")).stdout_to(&at("stream")).run().assert_ok();
    let filtered = |tool: &mut std::process::Command, name: &str| {
        let mut stage = std::mem::replace(tool, xb(name));
        stage.args(["-q"]);
        Pipeline::new().stage(stage).stdin_from(&at("stream")).stdout_to(&at(name)).run().assert_ok();
    };
    filtered(&mut xb("xb-zip"), "xb-zip");
    let key = at("key");
    good({
        let mut make = xb("xb-crypt");
        make.arg("--generate-key").arg(&key);
        make
    });
    let mut sealing = xb("xb-crypt");
    sealing.arg("-k").arg(&key);
    filtered(&mut sealing, "xb-crypt");
    let mut unpack = xb("xb-unpack");
    unpack.arg("-C").arg(at("full"));
    Pipeline::new().stage(unpack).stdin_from(&at("stream")).run().assert_ok();
    put_back(&before.path().join("copy"), server.data());
    server.start_again();
    go_on(&server);
    server.stop();
    for base in ["stream", "xb-zip", "beside", "full"] {
        let target = scratch();
        let run = increment(&server, &at(base), target.path());
        told(&run, WARNING);
        prove(&mut server, &at("full"), &[target.path()]);
    }
    let target = scratch();
    let run = increment(&server, &at("xb-crypt"), target.path());
    told(&run, UNPROVED);
    told(&run, "xb_pages.xbseal");
    assert!(!target.path().join("xb_pages").exists(), "an increment that is not proved must prove nothing to the next");
    let first = scratch();
    increment(&server, &at("full"), first.path());
    good(redo("--merge", &at("full"), &[first.path()]));
    let last = scratch();
    let run = increment(&server, &at("full"), last.path());
    assert!(different(&run) == 0 && !run.stderr(0).contains(WARNING), "{}", run.story());
    prove(&mut server, &at("full"), &[last.path()]);
}

#[test]
fn digests_that_are_damaged_or_of_another_backup_are_refused() {
    let mut server = Server::new().start();
    server.stop();
    let (mut chain, other) = (Chain::new(), scratch());
    chain.add_offline(&server);
    back_up_offline(&server, &[], other.path());
    let pages = chain.base().join("xb_pages");
    let whole = fs::read(&pages).unwrap();
    let datadir = format!("--datadir={}", server.data().display());
    let attempt = |bytes: &[u8], words: &str| {
        fs::write(&pages, bytes).unwrap();
        let mut snap = xb("xb-snap");
        snap.args(server.options()).args(["--offline", &datadir, &since(&chain.base())]);
        refused(snap, 3, words);
    };
    for at in (0..whole.len()).step_by(whole.len() / 9) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        attempt(&bytes, "xb_pages: ");
        attempt(&whole[..at], "xb_pages: truncated");
    }
    attempt(&fs::read(other.path().join("xb_pages")).unwrap(), "stands beside backup");
    // Without them the increment goes by LSNs alone.
    fs::remove_file(&pages).unwrap();
    let run = increment(&server, &chain.base(), &chain.path(1));
    told(&run, UNPROVED);
}

test_on!(a_base_of_other_tables_is_refused_at_once: mariadb, mysql97);

/// The merge would detect it; the backup must, too.
fn a_base_of_other_tables_is_refused_at_once(flavour: Flavour) {
    let mut server = Server::new().flavour(flavour).start();
    fill(&server);
    server.stop();
    let datadir = format!("--datadir={}", server.data().display());
    let (full, partial) = (scratch(), scratch());
    back_up_offline(&server, &[], full.path());
    back_up_offline(&server, &["--databases=d mysql sys", "--tables-exclude=d.lost,d.new"], partial.path());
    let snap = |base: &Path, options: &[&str]| {
        let mut snap = xb("xb-snap");
        snap.args(server.options()).args(["--offline", &datadir, &since(base)]).args(options);
        snap
    };
    refused(snap(full.path(), &["--databases=d"]), 5, "has all tables, and some are to be left out now");
    refused(snap(partial.path(), &[]), 5, "has only some tables, and none is to be left out now");
    refused(snap(partial.path(), &["--databases=d mysql sys"]), 5, "was made with other options");
    let next = scratch();
    let options = ["--tables-exclude=d.new,d.lost", "--databases=sys mysql d", &since(partial.path())];
    back_up_offline(&server, &options, next.path());
    good(redo("--merge", partial.path(), &[next.path()]));
}

/// `--extra-lsndir` exists once the next program has read the whole stream, and not if that has ended early.
#[test]
fn what_nobody_took_is_no_base() {
    let mut server = Server::new().start();
    server.stop();
    let datadir = format!("--datadir={}", server.data().display());
    let dir = scratch();
    let snap = |beside: &Path| {
        let mut snap = xb("xb-snap");
        snap.args(server.options()).args(["--offline", &datadir, "--extra-lsndir"]).arg(beside);
        snap
    };
    let files = |beside: &Path| -> Vec<String> { tree(beside, |_| true).into_keys().collect() };
    let taken = dir.path().join("taken");
    let mut unpack = xb("xb-unpack");
    unpack.arg("--list");
    Pipeline::new().stage(snap(&taken)).stage(xb("xb-redo")).stage(unpack).run().assert_ok();
    assert_eq!(files(&taken), ["xb_begin", "xb_pages", "xtrabackup_checkpoints", "xtrabackup_info"]);
    let mode =
        |path: PathBuf| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!((mode(taken.clone()), mode(taken.join("xb_pages"))), (0o700, 0o600));
    let before = tree(&taken, |_| true);
    // All but the last bytes are read, the rest waits in the pipe.
    let size = {
        let stream = dir.path().join("stream");
        Pipeline::new().stage(snap(&dir.path().join("other"))).stdout_to(&stream).run().assert_ok();
        fs::metadata(stream).unwrap().len()
    };
    let mut head = program("head");
    head.args(["-c", &(size - 5000).to_string()]);
    let run = Pipeline::new().stage(snap(&taken)).stage(head).run();
    assert_eq!(run.codes()[0], 141, "{}", run.story());
    assert_eq!(tree(&taken, |_| true), before, "an older base was touched");
    // Half of a base is not a base.
    fs::write(taken.join("xb_incomplete"), "xb-snap has not ended well\n").unwrap();
    refused(
        {
            let mut snap = xb("xb-snap");
            snap.args(server.options()).args(["--offline", &datadir, &since(&taken)]);
            snap
        },
        3,
        "incomplete",
    );
}

/// The disk has room for the new digests, and for nothing after them.
#[test]
fn a_new_base_that_fails_keeps_the_old() {
    let Some(disk) = SmallDisk::new(1 << 20) else { return };
    let mut server = Server::new().start();
    server.stop();
    let datadir = format!("--datadir={}", server.data().display());
    let beside = disk.path().join("beside");
    let snap = || {
        let mut snap = xb("xb-snap");
        snap.args(server.options()).args(["--offline", &datadir, "--extra-lsndir"]).arg(&beside);
        Pipeline::new().stage(snap).stdout_to(&server.data().join("../stream")).run()
    };
    snap().assert_ok();
    let before = tree(&beside, |_| true);
    let filler = disk.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write(&[7; 4096]).is_ok() {}
    let room = (before["xb_pages"].len() as u64).next_multiple_of(4096);
    file.set_len(file.metadata().unwrap().len() - room).unwrap();
    let run = snap();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("beside: cannot write: no space left on device"), "{}", run.story());
    assert_eq!(tree(&beside, |_| true), before);
    back_up_offline(&server, &[&since(&beside)], scratch().path());
    drop(file);
    fs::remove_file(&filler).unwrap();
    snap().assert_ok();
    let after = tree(&beside, |_| true);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after["xb_begin"] != before["xb_begin"]);
    back_up_offline(&server, &[&since(&beside)], scratch().path());
}

/// The stock program's increments have no digests, and ours on its backups prove nothing.
#[test]
fn a_base_of_mariadb_backup_is_taken_with_a_warning() {
    let server = Server::new().start();
    assert_eq!(server.flavour().family(), Family::Mariadb);
    let dir = scratch();
    let mut backup = program("mariadb-backup");
    backup
        .args(server.options())
        .args(["--backup"])
        .arg(format!("--target-dir={}", dir.path().join("stock").display()));
    good(backup);
    let target = scratch();
    let run = back_up(&server, &[&since(&dir.path().join("stock"))], target.path());
    told(&run, UNPROVED);
    let run = back_up(&server, &["--incremental-lsn=1"], scratch().path());
    told(&run, UNPROVED);
}

/// Servers with another page size than the base.
fn page_size(flavour: Flavour) {
    let large = Server::new().flavour(flavour).start();
    let small = Server::new().flavour(flavour).layout("innodb-page-size", "8k").start();
    let dir = scratch();
    let (full, beside, stream) = (dir.path().join("full"), dir.path().join("beside"), dir.path().join("stream"));
    back_up(&large, &[&format!("--extra-lsndir={}", beside.display())], &full);
    Pipeline::new()
        .stage(xb("xb-snap").args(large.options()))
        .stage(xb("xb-redo"))
        .stdout_to(&stream)
        .run()
        .assert_ok();
    let mut bases = vec![full, beside, stream];
    if flavour.family() == Family::Mariadb {
        let stock = dir.path().join("stock");
        let mut backup = large.program("mariadb-backup");
        backup.args(large.options()).arg("--backup").arg(format!("--target-dir={}", stock.display()));
        output(backup);
        bases.push(stock);
    }
    for base in bases {
        let run = Pipeline::new().stage(xb("xb-snap").args(small.options()).arg(since(&base))).run();
        run.assert_codes(&[5]);
        let words = "is of another server: its pages have 16384 bytes, those of this server 8192";
        assert!(run.stderr(0).contains(words) && run.stdout.is_empty(), "{}", run.story());
    }
}

#[test]
fn mariadb_with_another_page_size_than_its_base_is_refused() {
    page_size(Flavour::Installed);
}

#[test]
fn mysql_with_another_page_size_than_its_base_is_refused() {
    if Flavour::Mysql97.or_skip() {
        page_size(Flavour::Mysql97);
    }
}

/// `--extra-lsndir` of a stream that the next program read, but did not store.
fn lost_base(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    fill(&server);
    let mut chain = Chain::new();
    chain.add(&server);
    server.sql("DELETE FROM d.lost WHERE a % 2 = 0");
    let dir = scratch();
    let (beside, increment) = (dir.path().join("beside"), dir.path().join("increment"));
    let mut snap = xb("xb-snap");
    snap.args(server.options()).arg("--extra-lsndir").arg(&beside);
    Pipeline::new().stage(snap).stage(program("cat")).stdout_to(&dir.path().join("thrown_away")).run().assert_ok();
    server.sql("DELETE FROM d.both WHERE a % 2 = 0");
    let run = back_up(&server, &[&since(&beside)], &increment);
    cannot_be_merged(&run, &beside, &chain.base(), &increment);
    // A new increment on an existing base is the only way to a correct backup.
    let mut chain = chain;
    chain.add(&server);
    chain.prove(&server);
}

/// An increment on a missing base fits no other, and says which one it needs.
pub(crate) fn cannot_be_merged(run: &Run, beside: &Path, base: &Path, increment: &Path) {
    let begin: serde_json::Value = serde_json::from_slice(&fs::read(beside.join("xb_begin")).unwrap()).unwrap();
    let id = begin["backup_id"].as_str().unwrap();
    assert!(run.stderr(0).contains(&format!("can be merged into backup {id} alone")), "{}", run.story());
    let before = tree(base, |name| name != "xb_lock");
    for mode in ["--merge", "--apply"] {
        refused(redo(mode, base, &[increment]), 5, &format!("builds on backup {id}, "));
    }
    assert!(tree(base, |name| name != "xb_lock") == before);
    status(increment, 0, &format!("of backup {id}"));
}

#[test]
fn mariadb_increment_on_a_lost_backup_cannot_be_merged() {
    lost_base(Flavour::Installed);
}

#[test]
fn mysql_increment_on_a_lost_backup_cannot_be_merged() {
    if Flavour::Mysql97.or_skip() {
        lost_base(Flavour::Mysql97);
    }
}
