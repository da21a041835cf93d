//! Increments: each step of a chain restores like a full backup, and increments that do not fit are refused.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::mysql::prelude::Queryable;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::pipeline::{Run, Stage};
use crate::support::server::Builder;
use crate::support::{
    Family, Flavour, Load, Pipeline, Random, Server, check, keyring, output, program, rounds, scratch, skip, test_on,
    wait_until, xb,
};

pub(crate) mod history;
mod mysql;

/// For a server to purge and clean up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A backup into `target`.
#[track_caller]
fn back_up(server: &Server, options: &[&str], target: &Path) -> Run {
    let run = Pipeline::new()
        .stage(xb("xb-snap").args(server.options()).args(options))
        .stage(keyring::filter(server))
        .stage(xb("xb-unpack").arg("-C").arg(target))
        .limit(Duration::from_secs(300))
        .run();
    run.assert_ok();
    run
}

/// A full backup or an increment of a server that is stopped.
#[track_caller]
fn back_up_offline(server: &Server, options: &[&str], target: &Path) {
    let datadir = format!("--datadir={}", server.data().display());
    back_up(server, &[&["--offline", datadir.as_str()], options].concat(), target);
}

/// `--incremental-basedir` for a directory.
fn since(base: &Path) -> String {
    format!("--incremental-basedir={}", base.display())
}

fn redo(mode: &str, dir: &Path, increments: &[&Path]) -> Command {
    let mut command = xb("xb-redo");
    command.arg(mode).arg(dir);
    if !increments.is_empty() {
        command.arg("--incremental-dir").args(increments);
    }
    command
}

#[track_caller]
fn good(command: impl Into<Stage>) -> Run {
    let run = Pipeline::new().stage(command).limit(Duration::from_secs(300)).run();
    run.assert_ok();
    run
}

#[track_caller]
fn refused(command: impl Into<Stage>, code: i32, words: &str) {
    let run = Pipeline::new().stage(command).run();
    assert!(run.codes() == [code] && run.stderr(0).contains(words), "not {code} with {words:?}: {}", run.story());
}

#[track_caller]
fn status(dir: &Path, code: i32, words: &str) {
    let run = Pipeline::new().stage(xb("xb-redo").arg("--status").arg(dir)).run();
    let line = String::from_utf8_lossy(&run.stdout);
    assert!(run.codes() == [code] && line.contains(words), "{words:?} is not in {line:?}: {}", run.story());
}

/// Applies base and increments in a copy, with a server of the same flavour, and checks the copy.
#[track_caller]
fn prove(server: &Server, base: &Path, increments: &[&Path]) {
    let copy = scratch();
    let to = copy.path().join("to");
    good(apply_to(server, base, increments, &to));
    status(&to, 0, "applied: ready for xb-redo --copy-back");
    check::restored(server, &to).assert_good();
}

fn apply_to(server: &Server, base: &Path, increments: &[&Path], to: &Path) -> Command {
    let mut apply = redo("--apply", base, increments);
    apply.arg("--to").arg(to).arg("--server").arg(server.flavour().server()).args(server.plugins());
    apply
}

/// Directories `full`, `inc1`, `inc2`, `inc3` …
struct Chain {
    dir: TempDir,
    length: usize,
}

impl Chain {
    fn new() -> Self {
        Chain { dir: scratch(), length: 0 }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.dir.path().join(if number == 0 { "full".to_owned() } else { format!("inc{number}") })
    }

    /// The next backup: full at first.
    #[track_caller]
    fn add(&mut self, server: &Server) -> Run {
        self.add_with(server, server.safe_options())
    }

    /// The same with these options.
    #[track_caller]
    fn add_with(&mut self, server: &Server, options: &[&str]) -> Run {
        let since = self.length.checked_sub(1).map(|last| since(&self.path(last)));
        let options: Vec<&str> = since.iter().map(String::as_str).chain(options.iter().copied()).collect();
        let run = back_up(server, &options, &self.path(self.length));
        if self.length > 0 {
            // So an increment sends hardly more than what LSNs tell; a server changes few pages without one.
            let told = run.stderr(0).lines().find(|line| line.contains("pages are not newer than this base"));
            let count = told.and_then(|line| line.split(" of ").next()?.rsplit(' ').next()?.parse::<u64>().ok());
            assert!(count.is_some_and(|count| count <= 16), "{}", run.story());
        }
        self.length += 1;
        run
    }

    fn add_offline(&mut self, server: &Server) {
        let since = self.length.checked_sub(1).map(|last| since(&self.path(last)));
        back_up_offline(server, &since.iter().map(String::as_str).collect::<Vec<_>>(), &self.path(self.length));
        self.length += 1;
    }

    fn base(&self) -> PathBuf {
        self.path(0)
    }

    fn increments(&self) -> Vec<PathBuf> {
        (1..self.length).map(|number| self.path(number)).collect()
    }

    /// Checks each step.
    #[track_caller]
    fn prove(&self, server: &Server) {
        let increments = self.increments();
        for length in 0..self.length {
            let increments: Vec<&Path> = increments.iter().take(length).map(PathBuf::as_path).collect();
            prove(server, &self.base(), &increments);
        }
    }
}

/// Names and digests of the files in a directory that `keep` selects.
fn tree(dir: &Path, keep: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let names = output({
        let mut find = program("find");
        find.arg(dir).args(["-type", "f", "-printf", "%P\\n"]);
        find
    });
    let names = names.lines().filter(|name| keep(name));
    let digest = |name: &str| blake3::hash(&fs::read(dir.join(name)).unwrap()).to_hex().to_string();
    names.map(|name| (name.to_owned(), digest(name))).collect()
}

fn copy(from: &Path) -> TempDir {
    let to = scratch();
    output({
        let mut cp = program("cp");
        cp.args(["-a", "--sparse=auto"]).arg(from).arg(to.path().join("copy"));
        cp
    });
    to
}

/// A full backup and increments of a busy server, each after more work, checked at each step.
fn chain(builder: Builder, seed: u64, increments: usize, load: impl FnOnce(Load) -> Load) {
    chain_with(builder, seed, increments, load, |_| ());
}

/// The same; `before` runs before each increment.
fn chain_with(
    builder: Builder,
    seed: u64,
    increments: usize,
    load: impl FnOnce(Load) -> Load,
    happens: impl Fn(&Server),
) {
    let server = builder.start();
    let load = load(Load::on(&server).seed(seed)).start();
    let mut chain = Chain::new();
    for number in 0..=increments {
        load.wait_for(200);
        if number > 0 {
            happens(&server);
        }
        chain.add(&server);
    }
    load.wait_for(50);
    load.stop();
    chain.prove(&server);
}

/// Undo tablespaces so small that the server truncates them again and again, in a directory of their own.
fn truncating(builder: Builder) -> Builder {
    builder
        .option("innodb-undo-log-truncate", "ON")
        .option("innodb-max-undo-log-size", "10485760")
        .option("innodb-purge-rseg-truncate-frequency", "1")
        .undo_apart()
}

/// Writes more undo than [`truncating`] allows, and waits until `truncations` has changed.
fn truncate_undo(server: &Server, truncations: impl Fn(&Server) -> String) {
    let before = truncations(server);
    // The same before and after, so that it needs not be replayed.
    server.sql(
        "SET sql_log_bin=0; CREATE TABLE test.undone (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(600)); \
         INSERT INTO test.undone (v) SELECT REPEAT('u', 600) FROM test.seq_1_to_5000 JOIN \
            (SELECT * FROM test.seq_1_to_20 LIMIT 8) AS times; \
         UPDATE test.undone SET v=REPEAT('v', 600); DROP TABLE test.undone",
    );
    wait_until("an undo tablespace is truncated", PATIENCE, || truncations(server) != before);
}

test_on!(a_chain_under_every_load_is_restored_at_each_step: mariadb; long: mariadb118, mysql97);

fn a_chain_under_every_load_is_restored_at_each_step(flavour: Flavour) {
    chain(Server::new().flavour(flavour), 1, 3, Load::everything);
}

#[test]
fn a_chain_of_small_pages_with_undo_truncation() {
    let builder = Server::new()
        .layout("innodb-page-size", "4k")
        .layout("innodb-checksum-algorithm", "crc32")
        .layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend")
        .layout("innodb-undo-tablespaces", "3");
    let truncations = |server: &Server| server.status("Innodb_undo_truncations").to_string();
    let load = |load: Load| load.bank(2).rows(2).ddl(1);
    chain_with(truncating(builder), 2, 2, load, |server| truncate_undo(server, truncations));
}

#[test]
fn a_chain_of_large_pages() {
    let builder = Server::new().layout("innodb-page-size", "64k").log_size("32M");
    chain(builder, 3, 2, |load| load.bank(2).rows(1).formats(1));
}

#[test]
fn a_chain_of_encrypted_tables_and_log() {
    chain(Server::new().encrypted(), 4, 2, |load| load.bank(2).formats(1).ddl(1));
}

/// How many encrypted pages of a table use each version of their key. In full_crc32 the version is at the start of a
/// page.
fn key_versions(table: &Path) -> BTreeMap<u32, usize> {
    let bytes = fs::read(table).unwrap();
    let versions = bytes.as_chunks::<16384>().0.iter().map(|page| u32::from_be_bytes(*page.first_chunk().unwrap()));
    versions.fold(BTreeMap::new(), |mut count, version| {
        *count.entry(version).or_default() += 1;
        count
    })
}

/// `file_key_management` has one version of each key. The server's tests bring a plugin whose version is a variable;
/// pages that are more than one behind are encrypted anew in the background.
#[test]
fn a_chain_over_versions_of_a_key() {
    let plugin = Flavour::beside("key-rotation").join("debug_key_management.so");
    if !plugin.exists() {
        return skip("there is no key management with versions; run tests/setup");
    }
    // Beside those that the server has without it.
    let plugins = scratch();
    for plugin in [plugin, Flavour::Installed.plugins().join("ha_archive.so")] {
        symlink(&plugin, plugins.path().join(plugin.file_name().unwrap())).unwrap();
    }
    let builder = Server::new()
        .layout("plugin-dir", plugins.path().to_str().unwrap())
        .layout("plugin-maturity", "unknown")
        .layout("plugin-load-add", "debug_key_management")
        .layout("innodb-encrypt-tables", "ON")
        .layout("innodb-encrypt-log", "ON")
        .layout("innodb-encryption-threads", "2")
        .option("innodb-encryption-rotation-iops", "10000");
    let server = builder.start();
    server.sql("CREATE TABLE test.t (id INT PRIMARY KEY, v TEXT)");
    server.sql(
        "USE test; INSERT INTO t SELECT seq, REPEAT('t', 400) FROM seq_1_to_20000;
         FLUSH TABLES t FOR EXPORT; UNLOCK TABLES",
    );
    let load = Load::on(&server).bank(2).rows(1).seed(7).start();
    let mut chain = Chain::new();
    load.wait_for(100);
    chain.add(&server);
    let oldest = "SELECT min_key_version FROM information_schema.innodb_tablespaces_encryption WHERE name='test/t'";
    server.sql("SET GLOBAL debug_key_management_version=3");
    wait_until("the table is under the third version", PATIENCE, || server.value(oldest) == "3");
    chain.add(&server);
    // The next while pages are being encrypted anew.
    server.sql("SET GLOBAL debug_key_management_version=5");
    chain.add(&server);
    load.stop();
    chain.prove(&server);
    let merged = chain.dir.path().join("merged");
    let increments = chain.increments();
    let mut merge = redo("--merge", &chain.base(), &[&increments[0]]);
    merge.arg("--to").arg(&merged).arg("--log=json");
    let run = good(merge);
    let last: serde_json::Value = serde_json::from_str(run.stderr(0).lines().last().unwrap()).unwrap();
    assert!(last["increments"] == 1 && last["directory"] == merged.display().to_string(), "{last}");
    assert!(last["start_lsn"].as_u64() > Some(0) && last["end_lsn"].as_u64() > last["start_lsn"].as_u64(), "{last}");
    let (before, after) = (key_versions(&chain.base().join("test/t.ibd")), key_versions(&merged.join("test/t.ibd")));
    assert!(before.get(&1) > Some(&500) && !before.contains_key(&3), "{before:?}");
    assert!(after.get(&3) > Some(&500) && !after.contains_key(&1), "{after:?}");
}

/// All operations on a server between two backups.
#[test]
fn restart_import_key_rotation_and_ddl_between_the_backups() {
    let mut server = Server::new().encrypted().layout("innodb-undo-tablespaces", "3").start();
    server.sql(
        "CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE gone;
         CREATE TABLE a.one (id INT PRIMARY KEY, v TEXT); CREATE TABLE a.two (id INT PRIMARY KEY, v TEXT);
         CREATE TABLE a.again LIKE a.one; CREATE TABLE a.cut LIKE a.one; CREATE TABLE a.moves LIKE a.one;
         CREATE TABLE a.imported LIKE a.one; CREATE TABLE a.source LIKE a.one; CREATE TABLE gone.t LIKE a.one;
         CREATE TABLE a.keyed (id INT PRIMARY KEY, v TEXT) ENCRYPTED=YES ENCRYPTION_KEY_ID=1;
         CREATE TABLE a.squeezed (id INT PRIMARY KEY, v TEXT) PAGE_COMPRESSED=1;
         USE test;
         INSERT INTO a.one SELECT seq, REPEAT('1', 300) FROM seq_1_to_2000;
         INSERT INTO a.two SELECT seq, REPEAT('2', 300) FROM seq_1_to_3000;
         INSERT INTO a.again SELECT * FROM a.one; INSERT INTO a.cut SELECT * FROM a.one;
         INSERT INTO a.moves SELECT * FROM a.two; INSERT INTO a.keyed SELECT * FROM a.two;
         INSERT INTO a.imported SELECT seq, 'before the import' FROM seq_1_to_20000;
         INSERT INTO a.source SELECT seq, 'from the import' FROM seq_1_to_20000;
         CREATE TABLE a.big AS SELECT seq, REPEAT('u', 400) AS v FROM seq_1_to_40000;
         INSERT INTO a.squeezed SELECT * FROM a.two; INSERT INTO gone.t VALUES (1, 'x')",
    );
    let load = Load::on(&server).bank(1).rows(1).seed(5).start();
    let mut chain = Chain::new();
    chain.add(&server);
    load.wait_for(50);
    server.sql(EXCHANGES);
    server.sql(
        "ALTER TABLE a.keyed ENCRYPTION_KEY_ID=2; DELETE FROM a.squeezed WHERE id % 7 > 0;
         SET GLOBAL innodb_encrypt_tables=OFF",
    );
    load.wait_for(100);
    chain.add(&server);
    import(&server);
    load.stop();
    server.restart();
    let load = Load::on(&server).bank(1).rows(1).seed(6).go_on();
    server.sql(
        "SET GLOBAL innodb_encrypt_tables=ON; ALTER TABLE a.keyed ENCRYPTION_KEY_ID=1; ALTER TABLE b.moved FORCE;
         SET GLOBAL innodb_undo_log_truncate=ON, GLOBAL innodb_max_undo_log_size=10485760, GLOBAL innodb_purge_rseg_truncate_frequency=1",
    );
    server.sql("UPDATE a.big SET v=REPEAT('v', 400)");
    wait_until("undo is truncated", PATIENCE, || server.status("Innodb_undo_truncations") > 0);
    load.wait_for(150);
    chain.add(&server);
    server.sql("INSERT INTO a.imported VALUES (0, 'after'); RENAME TABLE a.one TO a.three, a.two TO a.one");
    load.wait_for(50);
    chain.add(&server);
    load.stop();
    // The binlog cannot import; of the steps before it only the last has all that the source has.
    let increments = chain.increments();
    for length in [2, 3] {
        let some: Vec<&Path> = increments.iter().take(length).map(PathBuf::as_path).collect();
        prove(&server, &chain.base(), &some);
    }
    let to = scratch();
    let mut apply = redo("--apply", &chain.base(), &[&increments[0]]);
    apply.arg("--to").arg(to.path().join("to")).args(server.plugins());
    good(apply);
    check::sound(&server, &to.path().join("to")).assert_good();
    let copy = server.twin(&to.path().join("to")).start();
    assert_eq!(copy.value("SELECT DISTINCT v FROM a.imported"), "before the import");
    assert_eq!(copy.rows("SHOW DATABASES LIKE 'gone'").len(), 0);
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.one"), "3000");
}

/// The rows of `a.source` become those of `a.imported`, unlogged and with its tablespace id.
fn import(server: &Server) {
    let mut conn = server.connect();
    // No other server could repeat it.
    conn.query_drop("SET sql_log_bin=0").unwrap();
    conn.query_drop("FLUSH TABLES a.source FOR EXPORT").unwrap();
    for suffix in ["ibd", "cfg"] {
        fs::copy(server.data().join(format!("a/source.{suffix}")), server.home().join(suffix)).unwrap();
    }
    conn.query_drop("UNLOCK TABLES").unwrap();
    conn.query_drop("ALTER TABLE a.imported DISCARD TABLESPACE").unwrap();
    for suffix in ["ibd", "cfg"] {
        fs::copy(server.home().join(suffix), server.data().join(format!("a/imported.{suffix}"))).unwrap();
    }
    conn.query_drop("ALTER TABLE a.imported IMPORT TABLESPACE").unwrap();
}

/// A merge equals a full copy byte by byte, including holes of scrubbed pages.
#[test]
fn a_merge_is_equal_to_a_full_copy() {
    for builder in [
        Server::new().option("innodb-immediate-scrub-data-uncompressed", "ON"),
        Server::new()
            .layout("innodb-page-size", "4k")
            .layout("innodb-checksum-algorithm", "crc32")
            .layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend"),
    ] {
        let (base, full) = merged_and_copied(builder);
        // Unused parts of the doublewrite area differ.
        let system = |dir: &Path| {
            let mut bytes = fs::read(dir.join("ibdata1")).unwrap();
            bytes[1 << 20..3 << 20].fill(0);
            bytes
        };
        assert!(system(&base.base()) == system(full.path()), "ibdata1 differs");
        assert_same_files(&base.base(), full.path(), |name| name != "ibdata1");
    }
}

/// Increments of a busy server and a last one of it at rest, merged; and a full backup of it at rest.
fn merged_and_copied(builder: Builder) -> (Chain, TempDir) {
    let mut server = builder.start();
    let load = Load::on(&server).everything().seed(7).start();
    let mut chain = Chain::new();
    for _ in 0..2 {
        load.wait_for(200);
        chain.add(&server);
    }
    load.wait_for(200);
    load.stop();
    server.sql("DELETE FROM formats.page_compressed; DELETE FROM formats.dynamic; DROP TABLE formats.compact");
    server.stop();
    chain.add_offline(&server);
    let full = scratch();
    back_up_offline(&server, &[], full.path());
    let increments = chain.increments();
    good(redo("--merge", &chain.base(), &increments.iter().map(PathBuf::as_path).collect::<Vec<_>>()));
    status(&chain.base(), 0, "not applied: ready for xb-redo --apply");
    (chain, full)
}

/// Both directories are equal, except for names of the backup itself.
#[track_caller]
fn assert_same_files(merged: &Path, full: &Path, keep: impl Fn(&str) -> bool) {
    let content = |name: &str| {
        !name.starts_with("xb_") && !["xtrabackup_info", "mariadb_backup_info"].contains(&name) && keep(name)
    };
    let (merged, wanted) = (tree(merged, content), tree(full, content));
    let different: Vec<&String> = wanted.keys().filter(|name| merged.get(*name) != wanted.get(*name)).collect();
    assert!(different.is_empty(), "differ: {different:?}");
    assert_eq!(merged.len(), wanted.len(), "there is more than there should be");
}

/// Increments of one server, small: base, two increments, all unpacked.
fn small(flavour: Flavour) -> (Server, Chain) {
    let server = Server::new().flavour(flavour).log_size("16M").start();
    let load = Load::on(&server).bank(1).formats(1).seed(8).start();
    let mut chain = Chain::new();
    for _ in 0..3 {
        load.wait_for(100);
        chain.add(&server);
        server.sql("DROP TABLE IF EXISTS test.b, test.a; CREATE TABLE test.a (id INT); CREATE TABLE test.b (id INT)");
        server.sql("RENAME TABLE test.a TO test.c, test.b TO test.a, test.c TO test.b");
    }
    load.stop();
    (server, chain)
}

test_on!(killed_anywhere_and_run_again_a_merge_goes_on: mariadb; long: mysql97);

fn killed_anywhere_and_run_again_a_merge_goes_on(flavour: Flavour) {
    let (server, chain) = small(flavour);
    let increments = chain.increments();
    let increments: Vec<&Path> = increments.iter().map(PathBuf::as_path).collect();
    let before: Vec<_> = increments.iter().map(|dir| tree(dir, |_| true)).collect();
    let whole = copy(&chain.base());
    let whole = whole.path().join("copy");
    let start = std::time::Instant::now();
    good(redo("--merge", &whole, &increments));
    let time = u64::try_from(start.elapsed().as_micros()).unwrap();
    let wanted = tree(&whole, |_| true);
    let mut random = Random::new(9);
    let mut half = 0;
    for round in 0..6 {
        let dir = copy(&chain.base());
        let (mut base, to) = (dir.path().join("copy"), dir.path().join("to"));
        let merge = |base: &Path| {
            let mut merge = redo("--merge", base, &increments);
            if round % 3 == 2 {
                merge.arg("--to").arg(&to);
            }
            merge
        };
        for _ in 0..8 {
            let mut running = Pipeline::new().stage(merge(&base)).start();
            let limit = std::time::Instant::now() + Duration::from_micros(random.below(time + time / 4));
            // Half of the kills come while the work is in progress.
            let marker = if round % 3 == 2 { &to } else { &base }.join("xb_merging");
            while std::time::Instant::now() < limit && !(round % 2 == 1 && marker.exists()) && !running.ended(0) {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(random.below(time / 4)));
            running.signal(0, Signal::KILL);
            running.wait();
            if marker.exists() {
                half += 1;
                let dir = marker.parent().unwrap();
                status(dir, 3, "half merged");
                refused(redo("--apply", dir, &[]), 3, "half merged");
                let mut snap = xb("xb-snap");
                refused(snap.args(server.options()).arg(since(dir)), 3, "half merged");
                refused(redo("--merge", dir, &increments[..1]), 5, "other increments");
            }
        }
        good(merge(&base));
        if round % 3 == 2 {
            base = to.clone();
        }
        let got = tree(&base, |name| name != "xb_lock");
        let different: Vec<&String> = wanted.keys().filter(|name| got.get(*name) != wanted.get(*name)).collect();
        assert!(different.is_empty() && got.len() == wanted.len(), "round {round}: {different:?}");
        let again = good(merge(&base));
        assert!(again.stderr(0).contains("merged already"), "{}", again.story());
    }
    assert!(half > 0, "no kill came in the middle of a merge");
    let after: Vec<_> = increments.iter().map(|dir| tree(dir, |_| true)).collect();
    assert!(before == after, "an increment was changed");
    prove(&server, &whole, &[]);
}

test_on!(a_wrong_increment_is_refused_before_any_change: mariadb; long: mysql97);

fn a_wrong_increment_is_refused_before_any_change(flavour: Flavour) {
    let (mut server, chain) = small(flavour);
    let log = match flavour.family() {
        Family::Mariadb => "ib_logfile0",
        Family::Mysql => "xtrabackup_logfile",
    };
    let (base, first, second) = (chain.base(), chain.path(1), chain.path(2));
    status(&first, 0, "incremental backup");
    status(&first, 0, "complete: ready for xb-redo --merge");
    refused(redo("--apply", &first, &[]), 3, "is an increment");
    let before = tree(&base, |_| true);
    let merge = |increments: &[&Path], code: i32, words: &str| {
        refused(redo("--merge", &base, increments), code, words);
        let mut apply = redo("--apply", &base, increments);
        apply.arg("--server").arg(flavour.server());
        refused(apply, code, words);
        assert!(tree(&base, |name| name != "xb_lock") == before, "something was changed: {words}");
    };
    merge(&[&second], 5, "the order is wrong, or one is missing");
    merge(&[&second, &first], 5, "the order is wrong, or one is missing");
    merge(&[&base], 5, "is not an increment");
    let damage = |name: &str, harm: &dyn Fn(&Path)| -> TempDir {
        let dir = copy(&second);
        harm(&dir.path().join("copy").join(name));
        dir
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let dir = damage("ibdata1.delta", &flip);
    merge(&[&first, &dir.path().join("copy")], 3, "ibdata1.delta: its content differs");
    let dir = damage("ibdata1.delta", &|path| fs::remove_file(path).unwrap());
    merge(&[&first, &dir.path().join("copy")], 3, "ibdata1.delta: missing");
    let dir = damage(log, &|path| fs::write(path, "").unwrap());
    merge(&[&first, &dir.path().join("copy")], 3, log);
    let dir = damage("xb_manifest", &|path| fs::remove_file(path).unwrap());
    merge(&[&first, &dir.path().join("copy")], 3, "truncated");
    // A damaged base is not patched: the new digests would hide the damage.
    let dir = copy(&base);
    flip(&dir.path().join("copy/ibdata1"));
    refused(redo("--merge", &dir.path().join("copy"), &[&first]), 3, "ibdata1: its content differs");
    // Another server's. Two on one host without a network call themselves the same.
    let other = if flavour.family() == Family::Mysql { "mariadb" } else { "mysql" };
    let (uuid, kind) = (("server_uuid", "another"), ("flavour", other));
    for ((key, value), words) in [(uuid, "is of server another"), (kind, "is of another kind of server")] {
        let dir = damage("xb_begin", &|path| {
            let mut begin: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            begin[key] = value.into();
            fs::write(path, begin.to_string() + "\n").unwrap();
        });
        let other = dir.path().join("copy");
        if key == "server_uuid" {
            merge(&[&first, &other], 3, "xb_begin: its content differs");
        }
        bind(&other);
        if key == "server_uuid" {
            merge(&[&first, &other], 5, words);
        }
        let mut wrong = xb("xb-snap");
        wrong.args(server.options()).arg(since(&other));
        refused(wrong, 5, words);
    }
    // An increment that begins too late, or knows only an LSN that fits. The restart makes a checkpoint.
    server.restart();
    let gap = scratch();
    back_up(&server, &[&format!("--incremental-lsn={}", checkpoints(&base, "last_lsn"))], gap.path());
    merge(&[gap.path()], 5, "changes between are missing");
    let fits = scratch();
    back_up(&server, &[&format!("--incremental-lsn={}", to_lsn(&base))], fits.path());
    prove(&server, &base, &[fits.path()]);
    // A server that has gone back.
    let mut late = xb("xb-snap");
    late.args(server.options()).arg(format!("--incremental-lsn={}", u64::MAX / 4));
    refused(late, 5, "the server is only at lsn");
    // A base that has been applied.
    good(redo("--apply", &base, &[]).arg("--server").arg(server.flavour().server()).args(server.plugins()));
    refused(redo("--merge", &base, &[&first]), 5, "is applied");
    let said = back_up(&server, &[&since(&base)], &chain.dir.path().join("late"));
    assert!(said.stderr(0).contains("is applied"), "{}", said.story());
}

/// Lets the manifest mean the `xb_begin` that is there now.
fn bind(backup: &Path) {
    let path = backup.join("xb_manifest");
    let manifest = fs::read_to_string(&path).unwrap();
    let (lines, last) = manifest.trim_end().rsplit_once('\n').unwrap();
    let mut last: serde_json::Value = serde_json::from_str(last).unwrap();
    last["begin_blake3"] = blake3::hash(&fs::read(backup.join("xb_begin")).unwrap()).to_hex().to_string().into();
    // The reader knows the last line by its first key.
    let (key, version) = ("manifest", last["manifest"].clone());
    last.as_object_mut().unwrap().remove(key);
    let last = last.to_string().replacen('{', &format!("{{\"{key}\":{version},"), 1);
    fs::write(&path, format!("{lines}\n{last}\n")).unwrap();
}

#[test]
fn a_merge_goes_on_only_with_its_own_base() {
    let (_server, chain) = small(Flavour::Installed);
    let begin: serde_json::Value = serde_json::from_slice(&fs::read(chain.path(1).join("xb_begin")).unwrap()).unwrap();
    let journal = serde_json::json!({
        "format": 1, "phase": "writing", "base": "00".repeat(16), "increments": [begin["backup_id"]],
    });
    fs::write(chain.base().join("xb_merging"), journal.to_string()).unwrap();
    let before = tree(&chain.base(), |_| true);
    refused(redo("--merge", &chain.base(), &[&chain.path(1)]), 3, "belongs to another backup");
    assert!(tree(&chain.base(), |name| name != "xb_lock") == before, "something was changed");
}

#[test]
fn an_existing_target_is_merged_only_if_a_copy() {
    let (_server, chain) = small(Flavour::Installed);
    let (base, first) = (chain.base(), chain.path(1));
    let merge = |mode: &str, to: &Path| {
        let mut merge = redo(mode, &base, &[&first]);
        merge.arg("--to").arg(to);
        merge
    };
    let applied = chain.dir.path().join("applied");
    good(redo("--apply", &base, &[]).arg("--to").arg(&applied));
    let before = tree(&applied, |_| true);
    for mode in ["--merge", "--apply"] {
        refused(merge(mode, &applied), 5, "is applied");
    }
    assert!(tree(&applied, |name| name != "xb_lock") == before, "something was changed");
    let copied = copy(&base);
    let copied = copied.path().join("copy");
    let bytes = fs::read(copied.join("ibdata1")).unwrap();
    fs::write(copied.join("ibdata1"), [&bytes[..100], b"damage", &bytes[106..]].concat()).unwrap();
    refused(merge("--merge", &copied), 3, "ibdata1: its content differs");
    fs::write(copied.join("ibdata1"), bytes).unwrap();
    good(merge("--merge", &copied));
}

#[test]
fn what_is_in_the_base_already_needs_only_the_copy() {
    let (server, chain) = small(Flavour::Installed);
    good(redo("--merge", &chain.base(), &[&chain.path(1)]));
    let to = chain.dir.path().join("to");
    for _ in 0..2 {
        let mut merge = redo("--merge", &chain.base(), &[&chain.path(1)]);
        let said = good(merge.arg("--to").arg(&to));
        assert!(said.stderr(0).contains("merged already"), "{}", said.story());
    }
    prove(&server, &to, &[&chain.path(2)]);
}

/// A number from `xtrabackup_checkpoints`, whatever that is called.
fn checkpoints(dir: &Path, key: &str) -> u64 {
    let names = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];
    let text = names.iter().find_map(|name| fs::read_to_string(dir.join(name)).ok()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
    line.unwrap().parse().unwrap()
}

/// Where the next increment begins.
fn to_lsn(dir: &Path) -> u64 {
    checkpoints(dir, "to_lsn")
}

test_on!(a_base_can_be_a_few_files_or_a_stream: mariadb, mysql97);

/// The base need not be unpacked on the host of the increment: `--extra-lsndir`, or the file with its stream, is
/// enough.
fn a_base_can_be_a_few_files_or_a_stream(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let load = Load::on(&server).bank(1).seed(10).start();
    load.wait_for(50);
    let dir = scratch();
    let (stream, beside) = (dir.path().join("full.xbs"), dir.path().join("beside"));
    Pipeline::new()
        .stage(xb("xb-snap").args(server.options()).arg("--extra-lsndir").arg(&beside))
        .stage(xb("xb-redo"))
        .stdout_to(&stream)
        .run()
        .assert_ok();
    assert_eq!(tree(&beside, |_| true).len(), 4);
    load.wait_for(50);
    back_up(&server, &[&since(&stream)], &dir.path().join("one"));
    back_up(&server, &[&since(&beside)], &dir.path().join("two"));
    load.stop();
    Pipeline::new().stage(xb("xb-unpack").arg("-C").arg(dir.path().join("full"))).stdin_from(&stream).run().assert_ok();
    for increment in ["one", "two"] {
        prove(&server, &dir.path().join("full"), &[&dir.path().join(increment)]);
    }
    // The stream of an increment is verified page by page, too.
    let increment = dir.path().join("three.xbs");
    let mut snap = xb("xb-snap");
    snap.args(server.options()).arg(since(&stream));
    Pipeline::new().stage(snap).stage(xb("xb-redo")).stdout_to(&increment).run().assert_ok();
    let said = Pipeline::new().stage(xb("xb-unpack").args(["--verify", "--pages"])).stdin_from(&increment).run();
    said.assert_ok();
    assert!(!said.stderr(0).contains("not checked"), "{}", said.story());
    // A truncated stream is not a base, whatever its start says.
    let bytes = fs::read(&stream).unwrap();
    fs::write(&stream, &bytes[..bytes.len() - 3]).unwrap();
    let snap = |base: &Path| {
        let mut snap = xb("xb-snap");
        snap.args(server.options()).arg(since(base));
        snap
    };
    refused(snap(&stream), 3, "does not end with xb_manifest");
    fs::write(&stream, "no stream").unwrap();
    refused(snap(&stream), 3, "not an xbstream");
    refused(snap(&dir.path().join("nothing")), 1, "cannot open");
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(snap(&dir.path().join("empty")), 1, "is not a backup");
}

fn stock(server: &Server, arguments: &[&str]) -> Run {
    let mut backup = server.program("mariadb-backup");
    backup.args(server.options()).args(arguments);
    good(backup)
}

fn stock_prepare(server: &Server, base: &Path, increment: Option<&Path>) {
    let mut prepare = server.program("mariadb-backup");
    prepare.arg("--no-defaults").arg("--prepare").arg(format!("--target-dir={}", base.display()));
    prepare.args(increment.map(|dir| format!("--incremental-dir={}", dir.display())));
    good(prepare);
}

/// Between two backups: tables that swap names, that are made anew, emptied, moved and dropped.
const EXCHANGES: &str = "RENAME TABLE a.one TO a.aside, a.two TO a.one, a.aside TO a.two;
         DROP TABLE a.again; CREATE TABLE a.again (id INT PRIMARY KEY, other INT); INSERT INTO a.again VALUES (1, 1);
         TRUNCATE a.cut; INSERT INTO a.cut VALUES (7, 'seven'); RENAME TABLE a.moves TO b.moved; DROP DATABASE gone;";

/// Waits until the server has made a checkpoint, so that the next backup begins at another LSN. An idle server makes
/// none, so this makes a change.
fn another_checkpoint(server: &Server) {
    let lsn = || server.status("Innodb_lsn_last_checkpoint");
    server.sql("CREATE TABLE IF NOT EXISTS test.changes (at TIMESTAMP(6))");
    let before = lsn();
    server.sql(
        "INSERT INTO test.changes VALUES (NOW(6));
         SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, GLOBAL innodb_max_dirty_pages_pct = 0",
    );
    wait_until("another checkpoint", PATIENCE, || lsn() > before);
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 90");
}

test_on!(increments_are_exchanged_with_mariadb_backup: mariadb; long: mariadb118);

/// DDL goes on between the backups, not while an increment is copied; and no new table takes the name of a renamed one:
/// `mariadb-backup --prepare` puts a table that it finds whole in an increment (`.new`, because its first page was not
/// written yet) into the place of the base's of that name, before it looks for the one that was renamed.
fn increments_are_exchanged_with_mariadb_backup(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let load = Load::on(&server).bank(1).rows(1).formats(1).engines(1).seed(11).start();
    load.wait_for(100);
    server.sql(
        "CREATE TABLE test.a (id INT PRIMARY KEY, v TEXT); INSERT INTO test.a SELECT seq, MD5(seq) FROM test.seq_1_to_3000;
         CREATE TABLE test.b LIKE test.a; INSERT INTO test.b SELECT * FROM test.a; CREATE TABLE test.c LIKE test.a;
         CREATE TABLE test.d LIKE test.a; INSERT INTO test.d SELECT * FROM test.a",
    );
    let dir = scratch();
    let [ours, theirs] = ["ours", "theirs"].map(|name| dir.path().join(name));
    back_up(&server, &[], &ours);
    another_checkpoint(&server);
    stock(&server, &["--backup", &format!("--target-dir={}", theirs.display())]);
    server.sql(
        "CREATE TABLE test.new (id INT PRIMARY KEY); INSERT INTO test.new VALUES (1);
         RENAME TABLE test.a TO test.x, test.b TO test.a, test.x TO test.b; DROP TABLE test.c;
         CREATE TABLE test.c (other INT PRIMARY KEY); TRUNCATE test.d; ALTER TABLE test.d FORCE",
    );
    load.wait_for(100);
    // Theirs on ours, ours on theirs, and ours on that.
    let [on_ours, on_theirs, third] = ["on-ours", "on-theirs", "third"].map(|name| dir.path().join(name));
    stock(&server, &["--backup", &format!("--target-dir={}", on_ours.display()), &since(&ours)]);
    let said = back_up(&server, &[&since(&theirs)], &on_theirs);
    assert!(said.stderr(0).contains("mariadb-backup --prepare can use the increment"), "{}", said.story());
    load.wait_for(100);
    back_up(&server, &[&since(&on_theirs)], &third);
    load.stop();
    refused(redo("--merge", &ours, &[&on_ours]), 5, "was made by mariadb-backup");
    refused(redo("--merge", &theirs, &[&on_theirs]), 5, "without a manifest");
    refused(redo("--merge", &ours, &[&on_theirs]), 5, "changes between are missing");
    stock_prepare(&server, &ours, None);
    stock_prepare(&server, &ours, Some(&on_ours));
    stock_prepare(&server, &theirs, None);
    stock_prepare(&server, &theirs, Some(&on_theirs));
    stock_prepare(&server, &theirs, Some(&third));
    let theirs_at = check::position(&third).unwrap();
    let ours_at = check::position(&on_ours).unwrap();
    check::restored_at(&server, &theirs, &theirs_at).assert_good();
    check::restored_at(&server, &ours, &ours_at).assert_good();
}

test_on!(a_base_is_found_in_the_history_table: mariadb, mariadb118);

fn a_base_is_found_in_the_history_table(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let dir = scratch();
    let [first, second, ours] = ["first", "second", "ours"].map(|name| dir.path().join(name));
    for target in [&first, &second] {
        another_checkpoint(&server);
        stock(&server, &["--backup", "--history=o'nightly", &format!("--target-dir={}", target.display())]);
    }
    another_checkpoint(&server);
    let said = back_up(&server, &["--incremental-history=o'nightly"], &ours);
    assert!(said.stderr(0).contains("mariadb-backup --prepare can use the increment"), "{}", said.story());
    assert_eq!(checkpoints(&ours, "from_lsn"), to_lsn(&second));
    let mut unknown = xb("xb-snap");
    unknown.args(server.options()).arg("--incremental-history-name=weekly");
    refused(unknown, 1, "have no backup of this name");
}

test_on!(an_increment_has_only_what_changed: mariadb, mysql97);

/// An increment of a quiet server is small: the first page of each tablespace, and the files that are not InnoDB's.
fn an_increment_has_only_what_changed(flavour: Flavour) {
    let mut server = Server::new().flavour(flavour).start();
    Load::on(&server).rows(1).seed(12).prepare();
    server.stop();
    let mut chain = Chain::new();
    chain.add_offline(&server);
    chain.add_offline(&server);
    let deltas = tree(&chain.path(1), |name| name.ends_with(".delta"));
    assert!(deltas.len() > 5, "{deltas:?}");
    for name in deltas.keys() {
        let size = fs::metadata(chain.path(1).join(name)).unwrap().len();
        assert_eq!(size, 2 * 16384, "{name}");
    }
}

/// Twenty chains of three increments in a row, each of another kind: `make test-long`.
#[test]
#[ignore = "long: twenty chains under every load at once"]
fn twenty_chains_in_a_row() {
    let kinds: [fn() -> Builder; 5] = [
        || Server::new(),
        || Server::new().layout("innodb-page-size", "4k").layout("innodb-undo-tablespaces", "3"),
        || Server::new().encrypted(),
        || Server::new().layout("innodb-page-size", "64k").log_size("32M"),
        || Server::new().layout("innodb-checksum-algorithm", "crc32").log_size("16M"),
    ];
    twenty(&Flavour::all(), &kinds);
}

/// Chains: each kind with each flavour in turn.
fn twenty(flavours: &[Flavour], kinds: &[fn() -> Builder]) {
    let rounds = rounds(20);
    let mut bad = Vec::new();
    for round in rounds.clone() {
        let index = usize::try_from(round).unwrap();
        let flavour = flavours[index % flavours.len()];
        let builder = kinds[index / flavours.len() % kinds.len()]().flavour(flavour);
        let outcome = std::panic::catch_unwind(|| chain(builder, 200 + round, 3, Load::everything));
        eprintln!("chain {round} {flavour:?}: {}", if outcome.is_ok() { "good" } else { "BAD" });
        if outcome.is_err() {
            bad.push(round);
        }
    }
    assert!(bad.is_empty(), "{} of {rounds:?} are bad: {bad:?}", bad.len());
}
