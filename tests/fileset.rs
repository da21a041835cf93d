//! A backup has each of the server's tablespaces once: identified by the id in the file and the server's dictionary,
//! whatever the names of files and whatever other files exist.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use xb::stream::native::{Entry, Tally, Trailer};

use crate::snap::{as_weak, files, names, password_file, snap};
use crate::support::pipeline::Run;
use crate::support::{
    Family, Flavour, Pipeline, Server, backup, program, root, scratch, skip, test_on, wait_until, xb,
};

/// A server with a table of 3000 rows, and what else is told.
fn server(flavour: Flavour, more: &str) -> Server {
    filled(Server::new().flavour(flavour).start(), more)
}

fn filled(server: Server, more: &str) -> Server {
    let digits = "(SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 \
        UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    server.sql(&format!(
        "CREATE DATABASE d; CREATE DATABASE d0; CREATE DATABASE d2; CREATE TABLE d.t (a INT PRIMARY KEY, b CHAR(100)); \
        INSERT INTO d.t SELECT 1 + w.n + 10 * x.n + 100 * y.n + 1000 * z.n, REPEAT('o', 90) FROM {digits} w, {digits} x, \
        {digits} y, {digits} z WHERE z.n < 3; {more}"
    ));
    let mut conn = server.connect();
    // On disk.
    conn.query_drop("FLUSH TABLES d.t FOR EXPORT").unwrap();
    conn.query_drop("UNLOCK TABLES").unwrap();
    server
}

fn offline(server: &Server) -> Command {
    let mut command = xb("xb-snap");
    command.args(["--no-defaults", "--offline", "--datadir"]).arg(server.data());
    command
}

fn run(command: Command) -> Run {
    Pipeline::new().stage(command).run()
}

/// A run that exits with 5, with all of `words` on its first line.
#[track_caller]
fn invalid(command: Command, words: &[&str]) {
    let run = run(command);
    run.assert_codes(&[5]);
    let line = run.stderr(0).lines().find(|line| line.starts_with("xb-snap: ")).unwrap_or_default().to_owned();
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {}", run.story());
    assert!(!bstr::ByteSlice::contains_str(run.stdout.as_slice(), "xb_manifest"));
}

fn count_and_sum(server: &Server) -> String {
    server.value("SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT(a, b)))) FROM d.t")
}

test_on!(copies_of_a_tablespace_are_left_out_and_named: mariadb, mariadb118, mysql97);

fn copies_of_a_tablespace_are_left_out_and_named(flavour: Flavour) {
    let server = server(flavour, "");
    let copies = ["d/a_copy.ibd", "d/z_copy.ibd", "d0/t.ibd", "d2/t.ibd", "d/#sql-1db_f.ibd"];
    for copy in copies {
        fs::copy(server.data().join("d/t.ibd"), server.data().join(copy)).unwrap();
    }
    fs::hard_link(server.data().join("d/t.ibd"), server.data().join("d/link.ibd")).unwrap();
    server.sql("UPDATE d.t SET b = 'before' WHERE a < 100");
    let dir = scratch();
    let (full, increment) = (dir.path().join("full"), dir.path().join("increment"));
    let take = |options: &[&str], target: &Path| {
        let run = Pipeline::new()
            .stage(xb("xb-snap").args(server.options()).args(options))
            .stage(xb("xb-redo"))
            .stage(xb("xb-unpack").arg("-C").arg(target))
            .run();
        run.assert_ok();
        for copy in copies.iter().chain(&["d/link.ibd"]) {
            let said = run.stderr(0).lines().any(|line| line.contains(&format!("{copy}: left out")));
            assert!(said, "{flavour:?} {copy}: {}", run.story());
        }
    };
    take(&[], &full);
    server.sql("UPDATE d.t SET b = 'after' WHERE a < 200; DELETE FROM d.t WHERE a > 2900");
    let base = format!("--incremental-basedir={}", full.display());
    take(&[&base], &increment);
    let wanted = count_and_sum(&server);
    let found: Vec<String> =
        names(&full).into_iter().filter(|name| name.ends_with("copy.ibd") || name.ends_with("/t.ibd")).collect();
    assert_eq!(found, ["d/t.ibd"], "{flavour:?}");
    run({
        let mut merge = xb("xb-redo");
        merge.arg("--merge").arg(&full).arg("--incremental-dir").arg(&increment);
        merge
    })
    .assert_ok();
    backup::apply_by(&server, &full).assert_ok();
    assert_eq!(count_and_sum(&server.twin(&full).start()), wanted, "{flavour:?}");
}

test_on!(a_tablespace_that_is_not_seen_ends_the_backup: mariadb, mariadb118, mysql97);

fn a_tablespace_that_is_not_seen_ends_the_backup(flavour: Flavour) {
    let server = server(flavour, "CREATE TABLE d.gone (a INT); CREATE TABLE d.swapped (a INT)");
    // A server that has pages to write ends if a file is missing, or writes into another one.
    let mut conn = server.connect();
    conn.query_drop("FLUSH TABLES d.gone, d.swapped FOR EXPORT").unwrap();
    conn.query_drop("UNLOCK TABLES").unwrap();
    let data = server.data();
    let modes: &[&[&str]] = match flavour.family() {
        Family::Mariadb => &[&[], &["--lock-ddl=early"], &["--no-lock"]],
        Family::Mysql => &[&[], &["--lock-ddl=end"]],
    };
    // The server has it open. It continues, and its buffer pool remains.
    fs::rename(data.join("d/gone.ibd"), server.home().join("gone.ibd")).unwrap();
    for mode in modes {
        let mut command = snap(&server);
        command.args(*mode);
        invalid(command, &["d/gone.ibd", "the server has tablespace "]);
    }
    // An unwanted tablespace need not exist.
    let mut partial = snap(&server);
    partial.arg("--tables=^d[.]t$");
    run(partial).assert_ok();
    // The file of another tablespace is in its place.
    fs::rename(server.home().join("gone.ibd"), data.join("d/gone.ibd")).unwrap();
    fs::rename(data.join("d/swapped.ibd"), server.home().join("swapped.ibd")).unwrap();
    fs::copy(data.join("d/t.ibd"), data.join("d/swapped.ibd")).unwrap();
    for mode in modes {
        let mut command = snap(&server);
        command.args(*mode);
        invalid(command, &["d/swapped.ibd", "the server has tablespace "]);
    }
}

test_on!(directories_that_the_server_ignores_are_left_out: mariadb, mariadb118);

fn directories_that_the_server_ignores_are_left_out(flavour: Flavour) {
    let server = filled(Server::new().flavour(flavour).option("ignore-db-dirs", "junk").start(), "");
    let junk = server.data().join("junk");
    fs::create_dir(&junk).unwrap();
    for file in ["t.frm", "t.MYD"] {
        fs::write(junk.join(file), "x").unwrap();
    }
    fs::copy(server.data().join("d/t.ibd"), junk.join("t.ibd")).unwrap();
    let done = run(snap(&server));
    done.assert_ok();
    assert!(done.stderr(0).contains("junk: left out: it is among the server's ignore_db_dirs"), "{}", done.story());
    assert!(names(files(&done.stdout).path()).iter().all(|name| !name.starts_with("junk/")));
}

/// The file of an open tablespace is missing, or is a link to nothing.
fn hidden(flavour: Flavour, sql: &str, query: &str, is_it: impl Fn(&str) -> bool) {
    if !flavour.or_skip() {
        return;
    }
    let mut server = server(flavour, sql);
    // A MySQL server that has pages to write ends if a file is missing; MariaDB opens files when it needs them.
    if flavour.family() == Family::Mysql {
        server.restart();
    }
    server.rows(query);
    let name = names(server.data()).into_iter().find(|name| is_it(name)).expect("the file is there");
    let modes: &[&[&str]] = match flavour.family() {
        Family::Mariadb => &[&[], &["--lock-ddl=early"], &["--no-lock"]],
        Family::Mysql => &[&[], &["--lock-ddl=end"]],
    };
    let (file, kept) = (server.data().join(&name), server.home().join("kept"));
    let refused = |words: &[&str]| {
        for mode in modes {
            let mut command = snap(&server);
            command.args(*mode);
            invalid(command, words);
        }
    };
    fs::rename(&file, &kept).unwrap();
    refused(&[&name, "the server has tablespace "]);
    symlink(server.home().join("nowhere"), &file).unwrap();
    refused(&[&name, "is a symbolic link to", "nowhere, which is not there"]);
    fs::remove_file(&file).unwrap();
    fs::rename(&kept, &file).unwrap();
    run(snap(&server)).assert_ok();
}

const PARTITIONS: &str = "CREATE TABLE d.p (a INT PRIMARY KEY) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), \
    PARTITION p1 VALUES LESS THAN MAXVALUE); INSERT INTO d.p VALUES (1), (11)";
const FULL_TEXT: &str = "CREATE TABLE d.f (a INT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=InnoDB; \
    INSERT INTO d.f VALUES (1, 'hello world')";

const FOUND: &str = "SELECT a FROM d.f WHERE MATCH (t) AGAINST ('hello')";

fn is_partition(name: &str) -> bool {
    name.eq_ignore_ascii_case("d/p#p#p0.ibd")
}

fn is_full_text(name: &str) -> bool {
    name.to_lowercase().starts_with("d/fts_") && name.to_lowercase().ends_with("_index_1.ibd")
}

#[test]
fn mariadb_partition_that_is_hidden_ends_the_backup() {
    hidden(Flavour::Installed, PARTITIONS, "SELECT * FROM d.p", is_partition);
}

#[test]
fn mysql_partition_that_is_hidden_ends_the_backup() {
    hidden(Flavour::Mysql97, PARTITIONS, "SELECT * FROM d.p", is_partition);
}

#[test]
fn mariadb_full_text_index_that_is_hidden_ends_the_backup() {
    hidden(Flavour::Installed, FULL_TEXT, FOUND, is_full_text);
}

#[test]
fn mysql_full_text_index_that_is_hidden_ends_the_backup() {
    hidden(Flavour::Mysql97, FULL_TEXT, FOUND, is_full_text);
}

#[test]
fn mariadb_vector_index_that_is_hidden_ends_the_backup() {
    let sql = "CREATE TABLE d.v (id INT PRIMARY KEY, e VECTOR(2) NOT NULL, VECTOR INDEX (e)); \
        INSERT INTO d.v VALUES (1, Vec_FromText('[1,2]'))";
    let nearest = "SELECT id FROM d.v ORDER BY VEC_DISTANCE_EUCLIDEAN(e, Vec_FromText('[5,6]')) LIMIT 1";
    hidden(Flavour::Mariadb118, sql, nearest, |name| name.starts_with("d/v#i#") && name.ends_with(".ibd"));
}

#[test]
fn mysql_general_tablespace_that_is_hidden_ends_the_backup() {
    let sql = "CREATE TABLESPACE general ADD DATAFILE 'general.ibd'; \
        CREATE TABLE d.g (a INT) TABLESPACE general; INSERT INTO d.g VALUES (1)";
    hidden(Flavour::Mysql97, sql, "SELECT * FROM d.g", |name| name == "general.ibd");
}

/// A directory that servers use as a database.
fn backup_below(flavour: Flavour) {
    if !flavour.or_skip() {
        return;
    }
    let mut server = server(flavour, "CREATE TABLE d.m (a INT) ENGINE=MyISAM; INSERT INTO d.m VALUES (1)");
    backup::take(&server, &[], &server.data().join("backup"));
    server.sql("UPDATE d.t SET b = 'after' WHERE a < 200; INSERT INTO d.m VALUES (2)");
    let wanted = (count_and_sum(&server), "2".to_owned());
    let dir = scratch();
    let take = |mut command: Command, target: &Path| {
        let run =
            Pipeline::new().stage(&mut command).stage(xb("xb-redo")).stage(xb("xb-unpack").arg("-C").arg(target)).run();
        run.assert_ok();
        assert!(run.stderr(0).contains("data/backup: left out: it is a backup"), "{}", run.story());
        assert!(!names(target).iter().any(|name| name.starts_with("backup/")), "{:?}", names(target));
    };
    let proved = |backup: &Path| {
        backup::apply_by(&server, backup).assert_ok();
        let copy = server.twin(backup).start();
        assert_eq!((count_and_sum(&copy), copy.value("SELECT COUNT(*) FROM d.m")), wanted, "{flavour:?}");
    };
    take(snap(&server), &dir.path().join("hot"));
    proved(&dir.path().join("hot"));
    server.stop();
    let proved = |backup: &Path| {
        backup::apply_by(&server, backup).assert_ok();
        let copy = server.twin(backup).start();
        assert_eq!((count_and_sum(&copy), copy.value("SELECT COUNT(*) FROM d.m")), wanted, "{flavour:?}");
    };
    match flavour.family() {
        Family::Mariadb => {
            take(offline(&server), &dir.path().join("cold"));
            proved(&dir.path().join("cold"));
        }
        // It would not start: it looks for tablespaces everywhere, and finds some twice.
        Family::Mysql => {
            let done = run(offline(&server));
            done.assert_codes(&[5]);
            assert!(done.stderr(0).contains("data/backup/mysql.ibd: has tablespace "), "{}", done.story());
        }
    }
}

#[test]
fn mariadb_backup_below_the_data_directory_is_left_out() {
    backup_below(Flavour::Installed);
}

#[test]
fn mysql_backup_below_the_data_directory_is_left_out() {
    backup_below(Flavour::Mysql97);
}

#[test]
fn mysql_links_that_lead_nowhere_end_a_running_backup() {
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let server = server(Flavour::Mysql97, "CREATE TABLE d.m (a INT) ENGINE=MyISAM; CREATE TABLE d.i (a INT)");
    let far = server.home().join("far");
    fs::create_dir(&far).unwrap();
    let sdi = names(server.data()).into_iter().find(|name| name.starts_with("d/m_") && name.ends_with(".sdi")).unwrap();
    let undo = names(server.data()).into_iter().find(|name| name.starts_with("undo_")).unwrap();
    for place in ["d/m.MYD", "d/m.MYI", sdi.as_str(), "d/i.ibd", undo.as_str(), "mysql.ibd", "shop"] {
        for mode in ["--lock-ddl=early", "--lock-ddl=end"] {
            let (link, target) = (server.data().join(place), far.join("nowhere"));
            let there = link.exists();
            if there {
                fs::rename(&link, far.join("kept")).unwrap();
            }
            symlink(&target, &link).unwrap();
            let mut command = snap(&server);
            command.arg(mode);
            invalid(command, &[place, "is a symbolic link to", "nowhere, which is not there"]);
            fs::remove_file(&link).unwrap();
            if there {
                fs::rename(far.join("kept"), &link).unwrap();
            }
        }
    }
    run(snap(&server)).assert_ok();
}

test_on!(undo_of_mysql_is_found_where_the_server_made_it: mysql97);

/// An undo tablespace that was created without a directory is in that of undo tablespaces, which the server does not
/// report.
fn undo_of_mysql_is_found_where_the_server_made_it(flavour: Flavour) {
    let server = Server::new().flavour(flavour).undo_apart().start();
    let (data, undo) = (server.data(), server.home().join("undo"));
    server.sql(&format!(
        "CREATE UNDO TABLESPACE plain ADD DATAFILE 'plain.ibu'; CREATE UNDO TABLESPACE inside ADD DATAFILE '{}/inside.ibu'",
        data.display()
    ));
    let modes: [&[&str]; 2] = [&[], &["--lock-ddl=end"]];
    let snap = |mode: &[&str]| {
        let mut command = snap(&server);
        command.args(mode);
        command
    };
    for mode in modes {
        let run = run(snap(mode));
        run.assert_ok();
        assert!(!run.stderr(0).contains("left out"), "{}", run.story());
        let there = names(files(&run.stdout).path());
        assert!(["plain.ibu", "inside.ibu"].iter().all(|name| there.iter().any(|one| one == name)), "{there:?}");
    }
    // A truncation changes its id; at the path that the server reports is another file.
    crate::mysql_ddl::empty(&server, "plain");
    fs::copy(undo.join("plain.ibu"), data.join("plain.ibu")).unwrap();
    for mode in modes {
        let run = run(snap(mode));
        run.assert_ok();
        assert!(run.stderr(0).contains("plain.ibu: left out: tablespace "), "{}", run.story());
    }
    // A server that finds no file for what it has to write ends.
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct_lwm=0, GLOBAL innodb_max_dirty_pages_pct=0");
    wait_until("pages to be written", Duration::from_secs(60), || server.status("Innodb_buffer_pool_pages_dirty") == 0);
    fs::rename(undo.join("plain.ibu"), server.home().join("plain.ibu")).unwrap();
    for mode in modes {
        invalid(snap(mode), &["plain.ibu", "the server has tablespace ", "undo/plain.ibu"]);
    }
    fs::rename(server.home().join("plain.ibu"), undo.join("plain.ibu")).unwrap();
}

test_on!(links_that_lead_nowhere_end_the_backup_and_are_named: mariadb, mariadb118, mysql97);

fn links_that_lead_nowhere_end_the_backup_and_are_named(flavour: Flavour) {
    let mut server = server(flavour, "CREATE TABLE d.m (a INT) ENGINE=MyISAM; CREATE TABLE d.i (a INT)");
    server.stop();
    let far = server.home().join("far");
    fs::create_dir(&far).unwrap();
    let data = server.data().to_owned();
    for (place, of) in [
        ("d/m.MYD", "d/m.MYD"),
        ("d/m.MYI", "d/m.MYI"),
        ("d/i.ibd", "d/i.ibd"),
        ("d/new.frm", ""),
        ("d/a.MAD", ""),
        ("d/a.MAI", ""),
        ("shop", ""),
    ] {
        let (link, target) = (data.join(place), far.join("nowhere"));
        if !of.is_empty() {
            fs::rename(&link, far.join("kept")).unwrap();
        }
        symlink(&target, &link).unwrap();
        invalid(offline(&server), &[place, "is a symbolic link to", "nowhere, which is not there"]);
        fs::remove_file(&link).unwrap();
        if !of.is_empty() {
            fs::rename(far.join("kept"), &link).unwrap();
        }
    }
    // What is there is followed.
    fs::rename(data.join("d"), far.join("d")).unwrap();
    symlink(far.join("d"), data.join("d")).unwrap();
    run(offline(&server)).assert_ok();
    if flavour.family() == Family::Mysql {
        return;
    }
    server.start_again();
    run(snap(&server)).assert_ok();
    fs::rename(far.join("d"), far.join("hidden")).unwrap();
    invalid(snap(&server), &["data/d: is a symbolic link to"]);
    fs::rename(far.join("hidden"), far.join("d")).unwrap();
    fs::rename(far.join("d/m.MYD"), far.join("m.MYD")).unwrap();
    symlink(far.join("nowhere"), far.join("d/m.MYD")).unwrap();
    invalid(snap(&server), &["d/m.MYD: is a symbolic link to"]);
}

test_on!(files_for_an_import_to_come_are_left_out: mariadb, mariadb118, mysql97);

fn files_for_an_import_to_come_are_left_out(flavour: Flavour) {
    let server = server(
        flavour,
        "CREATE TABLE d.disc (a INT PRIMARY KEY, b CHAR(100)); CREATE TABLE d.empty (a INT); \
        ALTER TABLE d.disc DISCARD TABLESPACE; ALTER TABLE d.empty DISCARD TABLESPACE",
    );
    fs::copy(server.data().join("d/t.ibd"), server.data().join("d/disc.ibd")).unwrap();
    let done = run(snap(&server));
    done.assert_ok();
    assert!(done.stderr(0).contains("d/disc.ibd: left out: "), "{}", done.story());
    let dir = files(&done.stdout);
    assert!(dir.path().join("d/t.ibd").exists() && !dir.path().join("d/disc.ibd").exists());
    // The server imports it all the same.
    server.sql("ALTER TABLE d.disc IMPORT TABLESPACE");
    assert_eq!(server.value("SELECT COUNT(*) FROM d.disc"), "3000");
    let done = run(snap(&server));
    done.assert_ok();
    assert!(files(&done.stdout).path().join("d/disc.ibd").exists());
}

test_on!(tablespaces_that_are_not_open_yet_are_known: mariadb, mariadb118, mysql97);

/// MariaDB's InnoDB opens files when they are needed.
fn tablespaces_that_are_not_open_yet_are_known(flavour: Flavour) {
    let mut server = server(
        flavour,
        "CREATE TABLE d.lost (a INT); CREATE TABLE d.disc (a INT); \
        ALTER TABLE d.disc DISCARD TABLESPACE",
    );
    server.stop();
    // With it the server opens what it had in memory.
    let _ = fs::remove_file(server.data().join("ib_buffer_pool"));
    server.start_again();
    let done = run(snap(&server));
    done.assert_ok();
    let dir = files(&done.stdout);
    assert!(names(dir.path()).contains(&"d/lost.ibd".into()) && !names(dir.path()).contains(&"d/disc.ibd".into()));
    server.stop();
    let _ = fs::remove_file(server.data().join("ib_buffer_pool"));
    server.start_again();
    // Not opened, and not visible: the server sees it by another path.
    let (file, kept) = (server.data().join("d/lost.ibd"), server.home().join("lost.ibd"));
    server.value("SELECT COUNT(*) FROM d.lost");
    fs::rename(&file, &kept).unwrap();
    invalid(snap(&server), &["d/lost.ibd", "the server has tablespace "]);
}

test_on!(the_servers_file_is_copied_instead_of_a_stale: mariadb, mariadb118);

fn the_servers_file_is_copied_instead_of_a_stale(flavour: Flavour) {
    let mut server = server(flavour, "");
    let far = server.home().join("outside");
    server.sql(&format!("CREATE TABLE d.far (a INT) DATA DIRECTORY '{}'; INSERT INTO d.far VALUES (1)", far.display()));
    server.stop();
    server.start_again();
    let stale = server.data().join("d/far.ibd");
    for made_of in [server.data().join("d/t.ibd"), far.join("d/far.ibd")] {
        fs::copy(&made_of, &stale).unwrap();
        for mode in ["--lock-ddl=end", "--lock-ddl=early"] {
            let mut command = snap(&server);
            command.arg(mode);
            let done = run(command);
            done.assert_ok();
            assert!(done.stderr(0).contains("d/far.ibd: left out: "), "{}", done.story());
            let dir = files(&done.stdout);
            let head = |path: &Path| fs::read(path).unwrap()[34..38].to_vec();
            assert_eq!(head(&dir.path().join("d/far.ibd")), head(&far.join("d/far.ibd")), "{flavour:?}");
        }
    }
    server.stop();
    invalid(offline(&server), &["d/far.ibd", "only the server knows"]);
}

test_on!(a_stopped_server_with_a_duplicate_tablespace_is_refused: mariadb, mariadb118, mysql97);

fn a_stopped_server_with_a_duplicate_tablespace_is_refused(flavour: Flavour) {
    let mut server = server(flavour, "");
    server.stop();
    run(offline(&server)).assert_ok();
    fs::copy(server.data().join("d/t.ibd"), server.data().join("d2/x.ibd")).unwrap();
    invalid(offline(&server), &["d/t.ibd", "d2/x.ibd", "has tablespace "]);
}

test_on!(pipes_sockets_and_devices_are_skipped_and_named: mariadb, mariadb118, mysql97);

fn pipes_sockets_and_devices_are_skipped_and_named(flavour: Flavour) {
    let mut server = server(flavour, "CREATE TABLE d.m (a INT) ENGINE=MyISAM");
    let special = ["d/pipe.ibd", "d/pipe.MYD", "d/pipe.frm", "d/pipe.isl", "d/pipe.sdi"];
    for name in special {
        mknodat(CWD, server.data().join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    symlink(server.data().join("d/pipe.ibd"), server.data().join("d/link.ibd")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(server.data().join("d/s.MYI")).unwrap();
    let check = |command: Command| {
        let done = run(command);
        done.assert_ok();
        for name in special.iter().chain(&["d/link.ibd", "d/s.MYI"]) {
            assert!(done.stderr(0).contains(&format!("{name}: left out: it is a pipe")), "{}", done.story());
        }
        let found = names(files(&done.stdout).path());
        assert!(found.contains(&"d/m.MYD".into()) && !found.iter().any(|name| name.contains("pipe")), "{found:?}");
    };
    check(snap(&server));
    server.stop();
    check(offline(&server));
}

#[test]
fn a_merge_refuses_a_base_with_a_duplicate_tablespace() {
    let server = server(Flavour::Installed, "");
    let dir = scratch();
    let (full, increment) = (dir.path().join("full"), dir.path().join("increment"));
    backup::take(&server, &[], &full);
    server.sql("UPDATE d.t SET b = 'after'");
    backup::take(&server, &[&format!("--incremental-basedir={}", full.display())], &increment);
    // As older releases took it from a server with a copy of the file.
    fs::copy(full.join("d/t.ibd"), full.join("d/z.ibd")).unwrap();
    let manifest = fs::read_to_string(full.join("xb_manifest")).unwrap();
    let mut lines: Vec<&str> = manifest.lines().collect();
    let trailer: Trailer = serde_json::from_str(lines.pop().unwrap()).unwrap();
    let (mut tally, mut text) = (Tally::default(), String::new());
    for line in lines {
        let entry: Entry = serde_json::from_str(line).unwrap();
        text += &tally.line(&entry).unwrap();
        if entry.path().as_deref() == Some(b"d/t.ibd") {
            text += &tally.line(&entry.renamed(b"d/z.ibd")).unwrap();
        }
    }
    fs::write(full.join("xb_manifest"), text + &tally.finish(trailer).unwrap()).unwrap();
    let before = crate::support::tool::tree(&full);
    let mut merge = xb("xb-redo");
    merge.arg("--merge").arg(&full).arg("--incremental-dir").arg(&increment);
    let done = run(merge);
    done.assert_codes(&[5]);
    assert!(done.stderr(0).contains("d/t.ibd and d/z.ibd are both tablespace "), "{}", done.story());
    assert!(crate::support::tool::tree(&full) == before);
}

#[test]
fn what_the_dictionary_needs_is_asked_for_at_the_start() {
    let server = server(Flavour::Installed, "");
    server.sql(
        "CREATE USER weak@localhost IDENTIFIED BY 'secret'; GRANT RELOAD, BINLOG MONITOR ON *.* TO weak@localhost",
    );
    let (_secret, file) = password_file();
    let done = run(as_weak(&server, &file));
    done.assert_codes(&[1]);
    assert!(done.stderr(0).contains("hint: GRANT PROCESS ON *.* TO 'weak'@'localhost';"), "{}", done.story());
    server.sql("GRANT PROCESS ON *.* TO weak@localhost");
    run(as_weak(&server, &file)).assert_ok();
}

#[test]
fn a_server_that_hides_its_tablespaces_is_refused() {
    let server = Server::new().option("innodb-sys-tablespaces", "OFF").start();
    let done = run(snap(&server));
    done.assert_codes(&[1]);
    assert!(done.stderr(0).contains("hint: start the server without --innodb-sys-tablespaces=OFF"), "{}", done.story());
}

test_on!(an_older_copy_mounted_over_ends_the_backup: mariadb, mysql97);

fn an_older_copy_mounted_over_ends_the_backup(flavour: Flavour) {
    if !root() {
        return skip("only root can mount");
    }
    let server = server(flavour, "CREATE TABLE d.m (a INT) ENGINE=MyISAM; INSERT INTO d.m VALUES (1)");
    let stale = server.home().join("stale");
    assert!(Command::new("cp").arg("-a").arg(server.data()).arg(&stale).status().unwrap().success());
    server.sql("UPDATE d.t SET b = 'after' WHERE a < 200; INSERT INTO d.m VALUES (2)");
    let script = "mount --bind \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
    for part in ["d", "d/t.ibd", "d/m.MYD", "ibdata1"] {
        let snap = snap(&server);
        let mut command = program("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(stale.join(part)).arg(server.data().join(part));
        command.arg(snap.get_program()).args(snap.get_args());
        let done = run(command);
        if done.codes() == [77] {
            return skip("nothing can be mounted here");
        }
        done.assert_codes(&[5]);
        let said = done.stderr(0);
        let named = ["is not the file that the server has", "is on another mount"];
        let named = named.iter().any(|what| said.contains(&format!("data/{part}: {what}")));
        assert!(named && !bstr::ByteSlice::contains_str(done.stdout.as_slice(), "xb_manifest"), "{}", done.story());
    }
    run(snap(&server)).assert_ok();
}
