//! Partial backups: what goes into them, and what comes out.

use std::fs;
use std::path::Path;

use mysql::prelude::Queryable;

use crate::snap::{files, manifest, names, snap};
use crate::support::backup::{apply_by, status, take};
use crate::support::{Flavour, Pipeline, Server, keyring, scratch};

/// What servers say of a table that a backup has left out.
const NOT_THERE: [&str; 4] = ["exist", "missing", "No such file", "Unknown database"];

/// Two databases with something of everything.
fn server() -> Server {
    let server = Server::new().start();
    server.sql(
        "CREATE DATABASE a; CREATE DATABASE b; CREATE TABLE a.t (id INT) ; CREATE TABLE a.m (id INT) ENGINE=MyISAM; \
         CREATE TABLE a.p (id INT) PARTITION BY HASH (id) PARTITIONS 2; CREATE TABLE a.`na-me` (id INT); \
         CREATE TABLE b.t (id INT); CREATE TABLE b.a (id INT) ENGINE=Aria",
    );
    server
}

/// Names of the server's files, without what either program adds.
fn data(dir: &Path) -> Vec<String> {
    let mut names = names(dir);
    names.retain(|name| !name.starts_with("xb_") && name != "ib_logfile0" && !name.contains("backup_"));
    names.retain(|name| !name.starts_with("xtrabackup") && name != "ib_buffer_pool");
    names.iter().map(|name| name.replace(".new", ".ibd")).collect()
}

#[test]
fn they_have_what_mariadb_backup_has() {
    let server = server();
    let lists = scratch();
    let list = |option: &str, lines: &str| {
        let file = lists.path().join(blake3::hash(lines.as_bytes()).to_string());
        fs::write(&file, lines).unwrap();
        format!("{option}={}", file.display())
    };
    for options in [
        vec!["--databases=a".to_owned()],
        vec!["--databases=a.m b".to_owned()],
        vec!["--databases-exclude=b".to_owned()],
        vec!["--tables=^a[.]p".to_owned()],
        vec!["--tables=[.]t$,^mysql".to_owned()],
        vec!["--tables-exclude=[.]t$".to_owned()],
        vec![list("--databases-file", "a.m\nb\n")],
        // A name is that of its files.
        vec![list("--tables-file", "a.t\na.p\na.na-me\nb.nothing\n")],
        vec![list("--tables-file", "a.na@002dme\nb.a\n")],
        // A list of tables is one of their databases, too: nothing of others comes in by another option.
        vec![list("--tables-file", "a.t\n"), "--tables=[.]a$".to_owned()],
        vec![list("--tables-file", "b.t\n"), list("--databases-file", "a\n"), "--tables-exclude=^a[.]m".to_owned()],
    ] {
        let stock = scratch();
        let mut backup = server.program("mariadb-backup");
        backup.args(server.options()).arg("--backup").args(&options);
        backup.arg(format!("--target-dir={}", stock.path().join("to").display()));
        Pipeline::new().stage(backup).run().assert_ok();
        let run = Pipeline::new().stage(snap(&server).args(&options)).run();
        run.assert_ok();
        let both = options.len() == 2 && options[1].starts_with("--tables=");
        assert_eq!(run.stderr(0).contains("--tables: only adds to"), both, "{}", run.story());
        let ours = files(&run.stdout);
        let (_, last) = manifest(ours.path());
        assert_eq!(last["partial"], true);
        assert_eq!(data(ours.path()), data(&stock.path().join("to")), "{options:?}");
    }
    // Both want a database before the table.
    let half = list("--tables-file", "t\n");
    let mut backup = server.program("mariadb-backup");
    backup.args(server.options()).args(["--backup", "--target-dir=/nonexistent", &half]);
    assert_ne!(Pipeline::new().stage(backup).run().codes(), [0]);
    let run = Pipeline::new().stage(snap(&server).arg(&half)).run();
    run.assert_codes(&[2]);
    assert!(run.stderr(0).contains("\"t\" is no db.table"), "{}", run.story());
}

#[test]
fn what_was_wanted_is_served_and_the_rest_is_not_there() {
    for flavour in Flavour::all() {
        let server = Server::new().flavour(flavour).start();
        server.sql(&format!("CREATE DATABASE c; CREATE TABLE c.far (id INT) DATA DIRECTORY='{}'", outside(&server)));
        served(server, "Aria");
    }
}

#[test]
fn what_was_wanted_of_mysql_is_served_and_the_rest_is_not_there() {
    let Some(server) = mysql() else { return };
    server.sql(&format!("CREATE DATABASE c; CREATE TABLE c.far (id INT) DATA DIRECTORY='{}'", outside(&server)));
    // A server that recovers the copy would write to the file of this one.
    let run = Pipeline::new().stage(snap(&server).arg("--databases=mysql a b")).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("c/far.ibd: is outside the data directory"), "{}", run.story());
    server.sql("DROP DATABASE c");
    served(server, "MyISAM");
}

/// What a server must know of the tables that are left out is said in the log, if it can be written.
#[test]
fn with_an_encrypted_log_they_are_refused() {
    let server = Server::new().encrypted().start();
    server.sql("CREATE DATABASE a; CREATE TABLE a.t (id INT)");
    let dir = scratch();
    take(&server, &["--databases=a"], dir.path());
    let run = apply_by(&server, dir.path());
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("its log is encrypted"), "{}", run.story());
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let server = keyring::start(Server::new().flavour(Flavour::Mysql97));
    server.sql("SET GLOBAL innodb_redo_log_encrypt=ON");
    let run = Pipeline::new().stage(snap(&server).arg("--databases=a")).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("its redo log is encrypted"), "{}", run.story());
}

fn mysql() -> Option<Server> {
    let builder = || Server::new().flavour(Flavour::Mysql97).layout("innodb-directories", "@HOME@/outside");
    Flavour::Mysql97.or_skip().then(|| builder().start())
}

fn outside(server: &Server) -> String {
    let outside = server.home().join("outside");
    fs::create_dir_all(&outside).unwrap();
    outside.display().to_string()
}

/// The log tells of what is left out, too: of rows, of a table that was dropped, of a transaction that is rolled back.
fn served(mut server: Server, other: &str) {
    server.sql(&format!(
        "CREATE DATABASE a; CREATE DATABASE b; CREATE TABLE a.busy (id INT AUTO_INCREMENT PRIMARY KEY); \
         CREATE TABLE a.log (id INT); INSERT INTO a.log VALUES (8); RENAME TABLE a.log TO b.log; CREATE TABLE a.log (id INT); \
         INSERT INTO a.log VALUES (9); CREATE TABLE a.t (id INT); CREATE TABLE a.m (id INT) ENGINE=MyISAM; \
         CREATE TABLE a.p (id INT) PARTITION BY HASH (id) PARTITIONS 2; CREATE TABLE a.`na-me` (id INT); \
         CREATE TABLE a.far (id INT) DATA DIRECTORY='{}'; CREATE TABLE b.t (id INT); CREATE TABLE b.a (id INT) ENGINE={other}; \
         CREATE TABLE b.left_ (id INT); CREATE TABLE b.dropped (id INT); INSERT INTO b.dropped VALUES (6); DROP TABLE b.dropped; \
         INSERT INTO a.t SELECT seq FROM test.seq_1_to_1000; INSERT INTO a.m VALUES (1), (2); INSERT INTO a.far VALUES (7); \
         INSERT INTO a.p SELECT seq FROM test.seq_1_to_1000 WHERE seq <= 100; INSERT INTO a.`na-me` VALUES (4); \
         INSERT INTO b.t VALUES (3); INSERT INTO b.a VALUES (5); INSERT INTO b.left_ SELECT seq FROM test.seq_1_to_1000",
        outside(&server)
    ));
    let mut open = server.connect();
    open.query_drop("BEGIN; UPDATE b.left_ SET id=0; UPDATE a.t SET id=0").unwrap();
    let lists = scratch();
    let (databases, tables) = (lists.path().join("databases"), lists.path().join("tables"));
    fs::write(&databases, "mysql\na\nb.t\n").unwrap();
    fs::write(&tables, "a.t\na.p\na.log\na.far\nb.a\n").unwrap();
    let all = ["a.m", "a.na-me", "a.p", "a.t", "a.far", "a.log", "b.a", "b.t", "b.log", "b.left_", "c.far"];
    let quoted = |name: &str| format!("`{}`", name.replacen('.', "`.`", 1));
    // NULL for what is not there.
    let sum = |server: &Server, name: &str| server.rows(&format!("CHECKSUM TABLE {} EXTENDED", quoted(name)));
    let sums = all.map(|name| sum(&server, name));
    let backups = [
        ("--databases-file", databases, &["a.m", "a.na-me", "a.p", "a.t", "a.far", "a.log", "b.t"][..]),
        ("--tables-file", tables, &["a.p", "a.t", "a.far", "a.log", "b.a"]),
    ]
    .map(|(option, file, wanted)| {
        let dir = scratch();
        // Commits while the copy is made.
        let mut conn = server.connect();
        let writer = std::thread::spawn(move || while conn.query_drop("INSERT INTO a.busy VALUES ()").is_ok() {});
        take(&server, &[&format!("{option}={}", file.display())], dir.path());
        server.sql("RENAME TABLE a.busy TO a.idle");
        writer.join().unwrap();
        server.sql("RENAME TABLE a.idle TO a.busy");
        (option, wanted, dir)
    });
    drop(open);
    server.stop();
    for (option, wanted, dir) in backups {
        apply_by(&server, dir.path()).assert_ok();
        let told = status(dir.path());
        told.assert_ok();
        assert!(String::from_utf8_lossy(&told.stdout).contains("partial"), "{told:?}");
        // Accounts are in mysql, which the second has not.
        let copy = server.twin(dir.path()).flag("skip-grant-tables").start();
        for (name, original) in all.into_iter().zip(&sums) {
            if wanted.contains(&name) {
                assert_eq!(sum(&copy, name), *original, "{option}: {name}");
                let check = copy.rows(&format!("CHECK TABLE {} EXTENDED", quoted(name)));
                assert_eq!(check[0][3], "OK", "{option}: {name}");
            } else {
                let error =
                    copy.connect().query_drop(format!("SELECT * FROM {}", quoted(name))).unwrap_err().to_string();
                assert!(NOT_THERE.iter().any(|what| error.contains(what)), "{option}: {name}: {error}");
            }
        }
    }
}
