//! Increments on MySQL: undo tablespaces that are truncated and dropped, keys, general tablespaces, redo logging that
//! is switched off for a while.

use std::fs;
use std::path::{Path, PathBuf};

use super::{
    Chain, EXCHANGES, PATIENCE, apply_to, assert_same_files, back_up, chain, chain_with, good, import,
    merged_and_copied, prove, redo, refused, since, tree, truncate_undo, truncating, twenty,
};
use crate::support::server::Builder;
use crate::support::{Flavour, Load, Server, check, keyring, scratch, wait_until};

/// MySQL, if it is here.
pub(super) fn flavour() -> Option<Flavour> {
    Flavour::Mysql97.or_skip().then_some(Flavour::Mysql97)
}

fn mysql() -> Option<Builder> {
    Some(Server::new().flavour(flavour()?))
}

#[test]
#[ignore = "a minute"]
fn a_chain_of_small_pages_with_undo_truncation() {
    let Some(builder) = mysql() else { return };
    let builder =
        builder.layout("innodb-page-size", "4k").layout("innodb-data-file-path", "ibdata1:12M;ibdata2:12M:autoextend");
    // A truncated one has a new id.
    let ids = "SELECT GROUP_CONCAT(SPACE ORDER BY SPACE) FROM information_schema.INNODB_TABLESPACES \
        WHERE SPACE_TYPE='Undo'";
    let load = |load: Load| load.bank(2).rows(2).ddl(1);
    chain_with(truncating(builder), 2, 2, load, |server| truncate_undo(server, |server| server.value(ids)));
}

#[test]
#[ignore = "a minute"]
fn a_chain_of_large_pages() {
    let Some(builder) = mysql() else { return };
    let builder = builder.layout("innodb-page-size", "64k");
    chain(builder, 3, 2, |load| load.bank(2).rows(1).formats(1));
}

#[test]
fn a_merge_is_equal_to_a_full_copy() {
    for size in ["16k", "32k"] {
        let Some(builder) = mysql() else { return };
        let (merged, full) = merged_and_copied(builder.layout("innodb-page-size", size));
        assert_same_files(&merged.base(), full.path(), |_| true);
    }
}

#[test]
fn meta_tells_the_flags_as_xtrabackup_does() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    server.sql("CREATE TABLE test.zip (id INT PRIMARY KEY) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4");
    server.stop();
    let mut chain = Chain::new();
    chain.add_offline(&server);
    chain.add_offline(&server);
    for (file, page_size, zip_size) in [("test/zip.ibd", 4096, 4096), ("mysql.ibd", 16384, 0), ("undo_001", 16384, 0)] {
        let page = fs::read(server.data().join(file)).unwrap();
        let field = |at: usize| u32::from_be_bytes(page[at..at + 4].try_into().unwrap());
        let meta = fs::read_to_string(chain.path(1).join(format!("{file}.meta"))).unwrap();
        let expect = format!(
            "page_size = {page_size}\nzip_size = {zip_size} \nspace_id = {}\nspace_flags = {}\n",
            field(34),
            field(54)
        );
        assert_eq!(meta, expect, "{file}");
    }
}

/// What xtrabackup leaves has the names and keys of ours, without begin and manifest.
#[test]
fn a_base_of_xtrabackup_is_for_xtrabackup() {
    let Some(builder) = mysql() else { return };
    let server = builder.start();
    let mut chain = Chain::new();
    chain.add(&server);
    chain.add(&server);
    let base = chain.base();
    for name in ["xb_begin", "xb_manifest"] {
        fs::remove_file(base.join(name)).unwrap();
    }
    let said = back_up(&server, &[&since(&base)], &chain.dir.path().join("late"));
    assert!(said.stderr(0).contains("xtrabackup --prepare can use the increment, xb-redo cannot"), "{}", said.story());
    refused(redo("--merge", &base, &[&chain.path(1)]), 1, "is a backup of MySQL by xtrabackup");
}

/// Deactivates an undo tablespace and waits until the server has emptied it, which creates its file anew.
fn empty_undo(server: &Server, name: &str) {
    server.sql(&format!("SET sql_log_bin=0; ALTER UNDO TABLESPACE {name} SET INACTIVE"));
    let state = format!("SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE NAME='{name}'");
    wait_until("the undo tablespace is empty", PATIENCE, || server.value(&state) == "empty");
}

/// A server at rest has one LSN; what is written without redo moves it little or not at all.
#[test]
fn what_is_written_without_redo_is_in_the_increment() {
    let Some(builder) = mysql() else { return };
    let mut server = builder.start();
    Load::on(&server).bank(1).rows(1).prepare();
    server.restart();
    let mut chain = Chain::new();
    chain.add(&server);
    server.sql("SET sql_log_bin=0; ALTER INSTANCE DISABLE INNODB REDO_LOG");
    server.sql("UPDATE bench.narrow SET c=REVERSE(c); DELETE FROM bench.large WHERE id % 3 = 0");
    server.sql("SET sql_log_bin=0; ALTER INSTANCE ENABLE INNODB REDO_LOG");
    chain.add(&server);
    server.restart();
    server.sql("ALTER TABLE bench.narrow ADD INDEX by_c (c), ALGORITHM=INPLACE");
    chain.add(&server);
    chain.prove(&server);
}

/// What there is before the first backup. Nothing later says where a file is, so that it can be replayed elsewhere.
fn tables(server: &Server) {
    server.sql(&format!(
        "CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE gone; USE test;
         CREATE TABLESPACE shared ADD DATAFILE 'shared.ibd'; CREATE TABLESPACE dropped ADD DATAFILE 'dropped.ibd';
         CREATE TABLE a.one (id INT PRIMARY KEY, v TEXT); CREATE TABLE a.two LIKE a.one; CREATE TABLE a.again LIKE a.one;
         CREATE TABLE a.cut LIKE a.one; CREATE TABLE a.moves LIKE a.one; CREATE TABLE a.imported LIKE a.one;
         CREATE TABLE a.source LIKE a.one; CREATE TABLE a.indexed LIKE a.one; CREATE TABLE gone.t LIKE a.one;
         CREATE TABLE a.secret (id INT PRIMARY KEY, v TEXT) ENCRYPTION='Y';
         CREATE TABLE a.opened (id INT PRIMARY KEY, v TEXT) ENCRYPTION='Y';
         CREATE TABLE a.closed (id INT PRIMARY KEY, v TEXT);
         CREATE TABLE a.squeezed (id INT PRIMARY KEY, v TEXT) COMPRESSION='zlib';
         CREATE TABLE a.zip (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4 ENCRYPTION='Y';
         CREATE TABLE a.far (id INT PRIMARY KEY, v TEXT) DATA DIRECTORY='{}';
         CREATE TABLE a.in_shared (id INT PRIMARY KEY, v TEXT) TABLESPACE shared;
         CREATE TABLE a.in_system (id INT PRIMARY KEY, v TEXT) TABLESPACE innodb_system;
         CREATE TABLE a.fields (id INT PRIMARY KEY, v TEXT) ENGINE=MyISAM;
         INSERT INTO a.one SELECT seq, REPEAT('1', 300) FROM seq_1_to_2000;
         INSERT INTO a.two SELECT seq, REPEAT('2', 300) FROM seq_1_to_2999;
         INSERT INTO a.imported SELECT seq, 'before the import' FROM seq_1_to_5000;
         INSERT INTO a.source SELECT seq, 'from the import' FROM seq_1_to_5000;
         INSERT INTO gone.t VALUES (1, 'x'); INSERT INTO a.again SELECT * FROM a.one; INSERT INTO a.cut SELECT * FROM a.one",
        server.home().join("outside").display()
    ));
    for table in
        ["moves", "indexed", "secret", "opened", "closed", "squeezed", "zip", "far", "in_shared", "in_system", "fields"]
    {
        server.sql(&format!("INSERT INTO a.{table} SELECT * FROM a.two"));
    }
    server.sql("SET sql_log_bin=0; CREATE UNDO TABLESPACE third ADD DATAFILE 'third.ibu'");
    server.sql("SET sql_log_bin=0; CREATE UNDO TABLESPACE fourth ADD DATAFILE 'fourth.ibu'");
}

/// What happens to a server between two backups, all of it.
#[test]
fn restarts_imports_rotations_and_ddl_between_the_backups() {
    let Some(builder) = mysql() else { return };
    let mut server = keyring::start(builder.layout("innodb-directories", "@HOME@/outside"));
    server.sql("SET PERSIST innodb_redo_log_encrypt=ON; SET PERSIST innodb_undo_log_encrypt=ON");
    tables(&server);
    let load = Load::on(&server).bank(1).rows(1).seed(5).start();
    let mut chain = Chain::new();
    chain.add(&server);
    load.wait_for(50);
    server.sql(EXCHANGES);
    server.sql(
        "ALTER TABLE a.opened ENCRYPTION='N'; ALTER TABLE a.closed ENCRYPTION='Y'; DELETE FROM a.squeezed WHERE id % 7 > 0;
         ALTER TABLE a.indexed ADD INDEX by_v (v(20)), ADD FULLTEXT INDEX words (v); DROP TABLESPACE dropped;
         ALTER TABLESPACE shared RENAME TO common; UPDATE a.far SET v='changed' WHERE id % 3 = 0;
         DELETE FROM a.in_shared WHERE id > 1000; UPDATE a.fields SET v=id; SET sql_log_bin=0;
         ALTER INSTANCE ROTATE INNODB MASTER KEY",
    );
    empty_undo(&server, "innodb_undo_001");
    empty_undo(&server, "third");
    server.sql("SET sql_log_bin=0; ALTER UNDO TABLESPACE innodb_undo_001 SET ACTIVE; DROP UNDO TABLESPACE third");
    load.wait_for(100);
    chain.add(&server);
    import(&server);
    load.stop();
    server.restart();
    let load = Load::on(&server).bank(1).rows(1).seed(6).go_on();
    empty_undo(&server, "innodb_undo_001");
    server.sql("SET sql_log_bin=0; ALTER UNDO TABLESPACE innodb_undo_001 SET ACTIVE");
    server.sql(
        "ALTER TABLE a.secret ENGINE=InnoDB; ALTER TABLE b.moved FORCE;
         ALTER TABLE a.squeezed COMPRESSION='lz4'; OPTIMIZE TABLE a.squeezed; UPDATE a.zip SET v=REPEAT(id, 20);
         ALTER TABLESPACE common ENCRYPTION='Y'; SET sql_log_bin=0; ALTER INSTANCE ROTATE INNODB MASTER KEY",
    );
    load.wait_for(150);
    chain.add(&server);
    server.sql("SET sql_log_bin=0; ALTER INSTANCE DISABLE INNODB REDO_LOG");
    server.sql("UPDATE a.two SET v=REPEAT('3', 400); INSERT INTO a.imported VALUES (0, 'after')");
    load.wait_for(50);
    server.sql("SET sql_log_bin=0; ALTER INSTANCE ENABLE INNODB REDO_LOG");
    server.sql("RENAME TABLE a.one TO a.three, a.two TO a.one");
    load.wait_for(50);
    chain.add(&server);
    load.stop();
    keyring::give(&server, &chain.base(), &chain.dir.path().join("keyring"));
    // The import is not in the binlog: of the steps before it only the last has all that the source has.
    let increments = chain.increments();
    for length in [2, 3] {
        let some: Vec<&Path> = increments.iter().take(length).map(PathBuf::as_path).collect();
        prove(&server, &chain.base(), &some);
    }
    let to = scratch();
    let to = to.path().join("to");
    good(apply_to(&server, &chain.base(), &[&increments[0]], &to));
    check::sound(&server, &to).assert_good();
    let copy = server.twin(&to).start();
    assert_eq!(copy.value("SELECT DISTINCT v FROM a.imported"), "before the import");
    assert_eq!(copy.rows("SHOW DATABASES LIKE 'gone'").len(), 0);
    assert_eq!(copy.value("SELECT COUNT(*) FROM a.one"), "2999");
    let undo = tree(&to, |name| name.ends_with(".ibu"));
    assert_eq!(undo.keys().collect::<Vec<_>>(), ["fourth.ibu"]);
}

#[test]
#[ignore = "a minute"]
fn a_chain_with_ddl_while_files_are_copied() {
    let Some(builder) = mysql() else { return };
    let server = truncating(builder).start();
    let load = Load::on(&server).bank(1).rows(1).ddl(1).builds(1).seed(7).start();
    let mut chain = Chain::new();
    for _ in 0..3 {
        load.wait_for_each("builds", 12);
        chain.add_with(&server, &["--lock-ddl=end"]);
    }
    load.wait_for(50);
    load.stop();
    chain.prove(&server);
}

/// As for MariaDB.
#[test]
#[ignore = "long: twenty chains under every load at once"]
fn twenty_chains_in_a_row() {
    let Some(flavour) = flavour() else { return };
    let kinds: [fn() -> Builder; 4] = [
        || Server::new().flavour(Flavour::Mysql97),
        || truncating(Server::new().flavour(Flavour::Mysql97).layout("innodb-page-size", "32k")),
        || Server::new().flavour(Flavour::Mysql97).layout("innodb-page-size", "64k"),
        || truncating(Server::new().flavour(Flavour::Mysql97).log_size("16M")),
    ];
    twenty(&[flavour], &kinds);
}
