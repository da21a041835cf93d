//! Partial backups: their content, and their restore.

use std::fs;
use std::path::Path;

use mysql::prelude::Queryable;

use crate::snap::{files, manifest, names, snap};
use crate::support::backup::{apply_by, status, take};
use crate::support::{Flavour, Pipeline, Server, keyring, scratch, test_on, xb};

/// The servers' messages for a table that a backup has left out.
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
    assert!(run.stderr(0).contains("\"t\" is not db.table"), "{}", run.story());
}

test_on!(only_chosen_tables_are_served: mariadb, mariadb118);

fn only_chosen_tables_are_served(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql(&format!("CREATE DATABASE c; CREATE TABLE c.far (id INT) DATA DIRECTORY='{}'", outside(&server)));
    served(server, "Aria");
}

#[test]
fn only_chosen_tables_of_mysql_are_served() {
    let Some(server) = mysql() else { return };
    server.sql(&format!("CREATE DATABASE c; CREATE TABLE c.far (id INT) DATA DIRECTORY='{}'", outside(&server)));
    // A server that recovers the copy would write to the file of this one.
    let run = Pipeline::new().stage(snap(&server).arg("--databases=")).run();
    run.assert_codes(&[2]);
    assert!(run.stdout.is_empty(), "{}", run.story());
    let run = Pipeline::new().stage(snap(&server).arg("--databases=mysql a b")).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("c/far.ibd: is outside the data directory"), "{}", run.story());
    server.sql("DROP DATABASE c");
    served(server, "MyISAM");
}

/// The log says what a server must know of left-out tables, if it can be written.
#[test]
fn with_an_encrypted_log_of_mariadb_they_are_refused() {
    let server = Server::new().encrypted().start();
    server.sql("CREATE DATABASE a; CREATE TABLE a.t (id INT)");
    let dir = scratch();
    take(&server, &["--databases=a"], dir.path());
    let run = apply_by(&server, dir.path());
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("its log is encrypted"), "{}", run.story());
}

test_on!(with_an_encrypted_log_they_are_refused: mysql97);

fn with_an_encrypted_log_they_are_refused(flavour: Flavour) {
    let server = keyring::start(Server::new().flavour(flavour));
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

/// Tables with hidden files, and others of the same kind that are not wanted.
fn parts(server: &Server, vectors: bool) {
    server.sql(
        "CREATE DATABASE d; CREATE TABLE d.other (a INT PRIMARY KEY); \
         CREATE TABLE d.`f-x` (a INT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=InnoDB; \
         INSERT INTO d.`f-x` VALUES (1, 'hello world'), (2, 'good bye world'); \
         CREATE TABLE d.left_ (a INT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=InnoDB; \
         INSERT INTO d.left_ VALUES (1, 'nobody wants this'); \
         CREATE TABLE d.child (a INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES d.other (a)) ENGINE=InnoDB; \
         CREATE TABLE d.p (a INT PRIMARY KEY) PARTITION BY RANGE (a) SUBPARTITION BY HASH (a) SUBPARTITIONS 2 \
         (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE); INSERT INTO d.p VALUES (1), (2), (11); \
         CREATE TRIGGER d.more BEFORE INSERT ON d.`f-x` FOR EACH ROW SET NEW.t = CONCAT(NEW.t, ' sport'); \
         CREATE TRIGGER d.less BEFORE INSERT ON d.other FOR EACH ROW SET NEW.a = NEW.a + 100",
    );
    if vectors {
        server.sql(
            "CREATE TABLE d.v (id INT PRIMARY KEY, e VECTOR(2) NOT NULL, VECTOR INDEX (e)); \
             INSERT INTO d.v VALUES (1, Vec_FromText('[1,2]')), (2, Vec_FromText('[3,4]'))",
        );
    }
    if server.flavour() != Flavour::Mysql97 {
        server.sql(
            "CREATE TABLE d.h (a INT) WITH SYSTEM VERSIONING; INSERT INTO d.h VALUES (1); UPDATE d.h SET a=2; \
             CREATE SEQUENCE d.s; SELECT NEXTVAL(d.s)",
        );
    }
}

const SOME: &str = r"--tables=^mysql[.],^d[.]f@002dx$,^d[.]child$,^d[.]p$,^d[.]v$,^d[.]h$,^d[.]s$";

/// What a backup of [`SOME`] has of them: everything of the wanted tables, nothing of the rest.
fn assert_parts(server: &Server, dir: &Path, vectors: bool) {
    let names = names(dir);
    assert!(!names.iter().any(|name| name.starts_with("d/left_") || name.starts_with("d/less")), "{names:?}");
    let subpartitions = names.iter().map(|name| name.to_lowercase()).filter(|name| name.starts_with("d/p#p#"));
    let files = subpartitions.filter(|name| name.ends_with(".ibd") || name.ends_with(".new"));
    assert_eq!(files.filter(|name| name.contains("#sp#")).count(), 4, "{names:?}");
    apply_by(server, dir).assert_ok();
    let copy = server.twin(dir).start();
    copy.sql("INSERT INTO d.`f-x` VALUES (3, 'world cup')");
    assert_eq!(copy.value("SELECT COUNT(*) FROM d.`f-x` WHERE MATCH (t) AGAINST ('cup')"), "1");
    assert_eq!(copy.value("SELECT a FROM d.`f-x` WHERE MATCH (t) AGAINST ('sport')"), "3");
    assert_eq!(copy.value("SELECT GROUP_CONCAT(a ORDER BY a) FROM d.p"), "1,2,11");
    if vectors {
        copy.sql("INSERT INTO d.v VALUES (3, Vec_FromText('[5,6]'))");
        let nearest = "SELECT id FROM d.v ORDER BY VEC_DISTANCE_EUCLIDEAN(e, Vec_FromText('[5,6]')) LIMIT 1";
        assert_eq!(copy.value(nearest), "3");
    }
    if server.flavour() != Flavour::Mysql97 {
        copy.sql("DROP TRIGGER d.more");
        assert_eq!(copy.value("SELECT COUNT(*) FROM d.h FOR SYSTEM_TIME ALL"), "2");
        assert_eq!(copy.value("SELECT NEXTVAL(d.s)>1"), "1");
    }
}

test_on!(hidden_parts_go_with_their_table: mariadb, mariadb118, mysql97);

fn hidden_parts_go_with_their_table(flavour: Flavour) {
    let vectors = flavour == Flavour::Mariadb118;
    let mut server = Server::new().flavour(flavour).start();
    parts(&server, vectors);
    let (whole, one, offline) = (scratch(), scratch(), scratch());
    let run = take_all(&server, &[SOME], one.path());
    assert!(run.contains("d/child: has a foreign key to d/other, which is left out"), "{run}");
    assert_eq!(run.contains("^d[.]v$: no database"), !vectors, "{run}");
    let auxiliary = |dir: &Path| names(dir).iter().filter(|name| name.to_lowercase().starts_with("d/fts_")).count();
    let left: Vec<_> = names(&server.data().join("d")).into_iter().filter(|name| name.starts_with("FTS_")).collect();
    assert_eq!(auxiliary(one.path()), 11, "{left:?}");
    take(&server, &["--databases-exclude=d.f@002dx"], whole.path());
    assert_eq!(auxiliary(whole.path()), 0);
    take(&server, &["--tables-exclude=^d[.]f@002dx$"], &whole.path().join("b"));
    assert_eq!(auxiliary(&whole.path().join("b")), 11);
    server.stop();
    // Nobody can be asked.
    let stopped = format!("--datadir={}", server.data().display());
    let run = Pipeline::new()
        .stage(xb("xb-snap").args(["--no-defaults", "--offline", &stopped, SOME]))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(offline.path()))
        .run();
    run.assert_ok();
    assert!(run.stderr(0).contains("which full-text index belongs to which table"), "{}", run.story());
    assert_parts(&server, one.path(), vectors);
    assert_parts(&server, offline.path(), vectors);
}

/// A table that gets its full-text index, or its name, while files are copied.
#[test]
fn new_full_text_indexes_go_with_their_table() {
    let server = crate::snap::filled();
    server.sql(
        "CREATE TABLE sb.f (a INT PRIMARY KEY, t TEXT); INSERT INTO sb.f VALUES (1, 'hello'); \
        CREATE TABLE sb.g (a INT PRIMARY KEY, t TEXT, FULLTEXT (t)); INSERT INTO sb.g VALUES (1, 'hello')",
    );
    let mut command = snap(&server);
    command.arg("--tables=^mysql[.],^sb[.][tz],^sb[.]f$,^sb[.]h$");
    let held = crate::snap::Held::in_the_middle(command, &server);
    server.sql("ALTER TABLE sb.f ADD FULLTEXT (t); RENAME TABLE sb.g TO sb.h");
    let (stream, code, said) = held.finish();
    assert_eq!(code, Some(0), "{said}");
    let dir = files(&stream);
    let names = names(dir.path());
    let auxiliary = names.iter().filter(|name| name.starts_with("sb/FTS_")).count();
    assert_eq!(auxiliary, 22, "{names:?}");
}

test_on!(a_name_that_nothing_has_is_told: mariadb, mysql97);

fn a_name_that_nothing_has_is_told(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT); CREATE TABLE d.`x-y` (a INT)");
    let lists = scratch();
    let list = lists.path().join("list");
    fs::write(&list, "d.t\nd.x-y\n").unwrap();
    let list = format!("--tables-file={}", list.display());
    for (options, told) in [
        (&["--databases=d nothere"][..], "nothere: no database or table has this name"),
        (&["--tables=^d[.],^e[.]"], "^e[.]: no database or table has this name"),
        (&["--databases-exclude=nothere"], "nothere: no database or table has this name"),
        (&["--databases=d.t d.u"], "d.u: no database or table has this name"),
        (&[&list], "d.x-y: no database or table has this name (its files would be named d.x@002dy)"),
    ] {
        let run = Pipeline::new().stage(snap(&server).args(options)).run();
        run.assert_ok();
        assert!(run.stderr(0).contains(told), "{options:?}: {}", run.story());
    }
    for options in [&["--databases=nothere"][..], &["--tables=^e[.]"], &["--databases=no.t none", "--tables=^d[.]u$"]] {
        let run = Pipeline::new().stage(snap(&server).args(options)).run();
        run.assert_codes(&[2]);
        assert!(run.stdout.is_empty() && run.stderr(0).contains("nothing is left to copy"), "{}", run.story());
    }
}

/// As [`take`]; what xb-snap said.
fn take_all(server: &Server, options: &[&str], directory: &Path) -> String {
    let run = Pipeline::new()
        .stage(snap(server).args(options))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(directory))
        .run();
    run.assert_ok();
    run.stderr(0).to_owned()
}
