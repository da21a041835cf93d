//! Partial backups: what goes into them, and what comes out.

use std::fs;
use std::path::Path;

use mysql::prelude::Queryable;

use crate::snap::{files, manifest, names, snap};
use crate::support::backup::{apply_by, status, take};
use crate::support::{Pipeline, Server, scratch};

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
    let server = server();
    server.sql(
        "INSERT INTO a.t SELECT seq FROM test.seq_1_to_1000; INSERT INTO a.m VALUES (1), (2); INSERT INTO b.t VALUES (3); \
         INSERT INTO a.p SELECT seq FROM test.seq_1_to_100; INSERT INTO a.`na-me` VALUES (4); INSERT INTO b.a VALUES (5)",
    );
    let lists = scratch();
    let (databases, tables) = (lists.path().join("databases"), lists.path().join("tables"));
    fs::write(&databases, "mysql\na\nb.t\n").unwrap();
    fs::write(&tables, "a.t\na.p\nb.a\n").unwrap();
    let all = ["a.m", "a.na-me", "a.p", "a.t", "b.a", "b.t"];
    for (option, file, wanted) in [
        ("--databases-file", databases, &["a.m", "a.na-me", "a.p", "a.t", "b.t"][..]),
        ("--tables-file", tables, &["a.p", "a.t", "b.a"]),
    ] {
        let dir = scratch();
        take(&server, &[&format!("{option}={}", file.display())], dir.path());
        apply_by(&server, dir.path()).assert_ok();
        let told = status(dir.path());
        told.assert_ok();
        assert!(String::from_utf8_lossy(&told.stdout).contains("partial"), "{told:?}");
        // Accounts are in mysql, which the second has not.
        let copy = server.twin(dir.path()).flag("skip-grant-tables").start();
        for name in all {
            let quoted = format!("`{}`", name.replacen('.', "`.`", 1));
            let sum = format!("CHECKSUM TABLE {quoted} EXTENDED");
            if wanted.contains(&name) {
                assert_eq!(copy.value(&sum), server.value(&sum), "{option}: {name}");
                assert_eq!(copy.rows(&format!("CHECK TABLE {quoted} EXTENDED"))[0][3], "OK", "{option}: {name}");
            } else {
                let error = copy.connect().query_drop(format!("SELECT * FROM {quoted}")).unwrap_err().to_string();
                assert!(error.contains("exist"), "{option}: {name}: {error}");
            }
        }
    }
}
