//! Binary logs that are archived, and moments that are restored: what the server had then, to the transaction.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::{Store, a_server};
use crate::support::{Family, Flavour, Random, Server, check, output, program, scratch, test_on, wait_until, xb};

/// A moment, and what the server had then.
struct Moment {
    position: String,
    gtid: String,
    rows: Vec<Vec<String>>,
}

const ROWS: &str = "SELECT id, HEX(v), 0 FROM d.t UNION SELECT id, '', 1 FROM d.other ORDER BY 3, 1";

fn now(server: &Server) -> Moment {
    let mysql = server.flavour().family() == Family::Mysql;
    let status = if mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row = server.rows(status).remove(0);
    let gtid = if mysql {
        // UUID:1-17
        let set = server.value("SELECT @@gtid_executed");
        let (uuid, range) = set.split_once(':').unwrap_or_default();
        format!("{uuid}:{}", range.rsplit('-').next().unwrap())
    } else {
        server.value("SELECT @@gtid_binlog_pos")
    };
    Moment { position: format!("{}:{}", row[0], row[1]), gtid, rows: server.rows(ROWS) }
}

/// One of many things that a server does, each of which is one or more transactions; `number` is new.
fn change(server: &Server, random: &mut Random, number: u64) {
    let id = 10_000 + 10 * number;
    server.sql(&match random.below(9) {
        0 => format!("INSERT INTO d.other VALUES ({id})"),
        1 => format!("BEGIN; INSERT INTO d.t VALUES ({id}, 'a'); UPDATE d.t SET v = 'ü' WHERE id = {id}; COMMIT"),
        2 => format!("CREATE TABLE d.n{number} (i INT PRIMARY KEY); INSERT INTO d.t VALUES ({id}, NULL)"),
        3 => format!("CREATE USER u{number}@localhost; GRANT SELECT ON d.* TO u{number}@localhost"),
        4 => "FLUSH BINARY LOGS".to_owned(),
        5 => format!("SET NAMES latin1; INSERT INTO d.t VALUES ({id}, CHAR(228 USING latin1))"),
        6 => format!("BEGIN; INSERT INTO d.t VALUES ({id}, 'gone'); ROLLBACK"),
        7 => "DELETE FROM d.t WHERE id > 10000 ORDER BY id LIMIT 1".to_owned(),
        _ => format!("INSERT INTO d.t VALUES ({id}, REPEAT('secret', 20)), ({}, UUID())", id + 1),
    });
}

impl Store {
    /// What the server has that is restored up to a moment.
    #[track_caller]
    fn at(&self, server: &Server, until: &str) -> (Server, tempfile::TempDir) {
        let room = scratch();
        let to = room.path().join("to");
        self.good("restore", &["--to", to.to_str().unwrap(), "--until", until]);
        (server.twin(&to).start(), room)
    }

    fn logs(&self) -> Vec<PathBuf> {
        let mut find = program("find");
        find.arg(self.path().join("binlogs")).args(["-type", "f"]);
        let mut paths: Vec<PathBuf> = output(find).lines().map(PathBuf::from).collect();
        paths.sort();
        paths
    }
}

test_on!(a_moment_is_restored_to_the_transaction: mariadb, mariadb118, mysql97);

fn a_moment_is_restored_to_the_transaction(flavour: Flavour) {
    moments(flavour, 3, 4);
}

test_on!(any_moment_is_restored_to_the_transaction: ; long: mariadb, mysql97);

fn any_moment_is_restored_to_the_transaction(flavour: Flavour) {
    moments(flavour, 50, 25);
}

/// Restores so many random moments; after half of them an increment is taken.
fn moments(flavour: Flavour, count: u64, each: u64) {
    let server = a_server(flavour);
    let keys = scratch();
    let key = keys.path().join("key");
    let mut generate = xb("xb-crypt");
    generate.arg("--generate-key").arg(&key);
    output(generate);
    let store = Store::of(&server, &format!("key_file = {key:?}"));
    store.good("full", &[]);
    let (mut random, mut moments) = (Random::new(50), Vec::new());
    for number in 0..count {
        for step in 0..random.below(each) + 1 {
            change(&server, &mut random, 100 * number + step);
        }
        moments.push(now(&server));
        if number == count / 2 {
            store.good("incr", &[]);
            store.good("binlog", &["--once"]);
        }
    }
    server.sql("INSERT INTO d.t VALUES (9000, 'after')");
    store.good("binlog", &["--once"]);
    let stored = store.logs();
    store.good("binlog", &["--once"]);
    assert_eq!(store.logs(), stored, "nothing is archived twice");
    for path in &stored {
        assert!(!bstr::ByteSlice::contains_str(fs::read(path).unwrap().as_slice(), "secret"), "it is encrypted");
    }
    store.good("status", &[]);
    for (number, moment) in moments.iter().enumerate() {
        let until = if number % 2 == 0 { &moment.position } else { &moment.gtid };
        let (restored, _room) = store.at(&server, until);
        assert_eq!(restored.rows(ROWS), moment.rows, "{until}");
    }
    let (restored, _room) = store.at(&server, "end");
    check::same(&server, &restored).assert_good();
}

#[test]
fn a_time_is_a_moment_and_what_is_not_there_is_refused() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    let clock = || server.value("SELECT DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%H:%i:%sZ')");
    let next = || {
        let before = clock();
        wait_until("the next second", Duration::from_secs(5), || clock() > before);
        clock()
    };
    let early = next();
    next();
    server.sql("INSERT INTO d.t VALUES (50, 'kept')");
    let time = next();
    server.sql("DROP TABLE d.t");
    store.good("binlog", &["--once"]);
    let (restored, _room) = store.at(&server, &time);
    assert_eq!(restored.value("SELECT v FROM d.t WHERE id = 50"), "kept");
    let (restored, _room) = store.at(&server, &early);
    assert_eq!(restored.value("SELECT COUNT(*) FROM d.t"), "2");
    let to = store.dir.path().join("to");
    let until = |until: &str, code, words: &str| {
        store.bad("restore", &["--to", to.to_str().unwrap(), "--until", until], code, words);
        assert!(!to.exists(), "it is refused before the long work");
    };
    until("2100-01-01T00:00:00Z", 1, "is not in the archive, which ends at binlog.");
    until("binlog.000099:4", 1, "is not in the archive");
    until("0-1-4711", 1, "is not in the archive");
    until("2000-01-01T00:00:00Z", 1, "no backup of the store ends before it");
    until("yesterday", 2, "want a time");
    let plan = store.good("restore", &["--to", "/nowhere", "--until", &time, "--plan"]);
    assert!(plan.contains("replays the archived binary logs from binlog."), "{plan}");
    let id = store.ids()[0].clone();
    let named = ["--to", to.to_str().unwrap(), "--until", "2000-01-01T00:00:00Z", &id];
    store.bad("restore", &named, 1, "ends after that");
}

#[test]
fn a_gap_in_the_archive_is_shown_and_refused() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    server.sql("INSERT INTO d.t VALUES (50, 'kept')");
    let early = now(&server);
    for id in 51..54 {
        server.sql(&format!("FLUSH BINARY LOGS; INSERT INTO d.t VALUES ({id}, 'x')"));
    }
    store.good("binlog", &["--once"]);
    store.good("status", &[]);
    let logs = store.logs();
    assert_eq!(logs.len(), 4);
    let (to, aside) = (store.dir.path().join("to"), store.dir.path().join("aside"));
    for log in &logs {
        // The last one is the end: less is there, and nothing is missing.
        let last = Some(log) == logs.last();
        fs::rename(log, &aside).unwrap();
        let status = store.run("status", &[]);
        let line = String::from_utf8_lossy(&status.stdout).into_owned();
        // Without the first one the archive looks as if it had been begun later.
        let code = if last {
            0
        } else if log == &logs[0] {
            1
        } else {
            2
        };
        assert_eq!(status.codes(), [code], "{}: {line}", log.display());
        if !last {
            assert!(line.contains("binary logs: "), "{line}");
            store.bad("restore", &["--to", to.to_str().unwrap(), "--until", "end"], 3, "the archive has a gap");
        }
        if log != &logs[0] {
            let (restored, _room) = store.at(&server, &early.position);
            assert_eq!(restored.rows(ROWS), early.rows);
        }
        fs::rename(&aside, log).unwrap();
        let bytes = fs::read(log).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        fs::write(log, flipped).unwrap();
        let run = store.run("restore", &["--to", to.to_str().unwrap(), "--until", "end"]);
        assert_eq!(run.codes(), [3], "{}: {}", log.display(), run.story());
        store.bad("verify", &["--all"], 3, "binlogs/");
        fs::write(log, bytes).unwrap();
    }
    // The server purges what was not archived.
    server.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    let newest = now(&server).position;
    server.sql(&format!("PURGE BINARY LOGS TO '{}'", newest.split(':').next().unwrap()));
    store.bad("binlog", &["--once"], 5, "has purged what follows");
    store.good("binlog", &["--once", "--after-gap"]);
    assert_eq!(store.run("status", &[]).codes(), [2]);
    store.bad("restore", &["--to", to.to_str().unwrap(), "--until", "end"], 3, "the archive has a gap");
    // A new full backup needs nothing of it, and prune removes what nobody needs.
    store.good("full", &[]);
    // The newest that was verified stays.
    store.good("verify", &["latest"]);
    store.good("prune", &["--keep-last", "1"]);
    let status = store.run("status", &[]);
    assert_eq!(status.codes(), [0], "{}", String::from_utf8_lossy(&status.stdout));
    assert!(store.logs().iter().all(|log| !logs.contains(log)), "{:?}", store.logs());
    server.sql("INSERT INTO d.t VALUES (60, 'y')");
    store.good("binlog", &["--once"]);
    let (restored, _room) = store.at(&server, "end");
    check::same(&server, &restored).assert_good();
    // Binary logs that begin anew have the names of others.
    server.sql("RESET MASTER");
    for _ in 0..20 {
        server.sql("FLUSH BINARY LOGS");
    }
    store.bad("binlog", &["--once"], 5, "is not the one of the archive");
}

test_on!(an_archive_of_another_history_is_refused: mariadb, mysql97);

fn an_archive_of_another_history_is_refused(flavour: Flavour) {
    let server = a_server(flavour);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    server.sql("INSERT INTO d.t VALUES (50, 'then')");
    let then = server.rows(ROWS);
    store.good("binlog", &["--once"]);
    // The archive has whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let reset = if flavour.family() == Family::Mysql { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" };
    server.sql(&format!("DELETE FROM d.t WHERE id = 50; {reset}"));
    store.good("full", &[]);
    // The file of the archive has the name of the one in which this backup ends, and is longer.
    let list = store.list();
    let (file, position) = (&list[1]["binlog"]["file"], &list[1]["binlog"]["position"]);
    let archived = store.logs().iter().any(|log| log.parent().unwrap().ends_with(file.as_str().unwrap()));
    assert!(archived && file == &list[0]["binlog"]["file"], "{list:?}");
    assert!(position.as_u64() < list[0]["binlog"]["position"].as_u64(), "{list:?}");
    let to = store.dir.path().join("to");
    store.bad("restore", &["--to", to.to_str().unwrap(), "--until", "end"], 3, "is another file than that of");
    assert!(!to.exists(), "it is refused before the long work");
    // The backup before goes with the archive.
    store.good("restore", &[list[0]["id"].as_str().unwrap(), "--to", to.to_str().unwrap(), "--until", "end"]);
    assert_eq!(server.twin(&to).start().rows(ROWS), then);
}

test_on!(the_archive_follows_the_server_and_goes_on: mariadb, mysql97);

fn the_archive_follows_the_server_and_goes_on(flavour: Flavour) {
    let mut server = a_server(flavour);
    let store = Store::of(&server, "compress = \"none\"");
    store.good("full", &[]);
    let start = || store.call("binlog", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let has = |words: &str| {
        let there = |path: &PathBuf| bstr::ByteSlice::contains_str(fs::read(path).unwrap().as_slice(), words);
        store.path().join("binlogs").exists() && store.logs().iter().any(there)
    };
    let archived = |words: &str| wait_until("the archive", Duration::from_secs(60), || has(words));
    for round in 0..3 {
        let mut child = start();
        for part in ["first", "second"] {
            let words = format!("{part} of {round}");
            server
                .sql(&format!("INSERT INTO d.t VALUES ({}, '{words}')", 100 + 2 * round + i32::from(part == "first")));
            archived(&words);
        }
        if round == 1 {
            // A prune does not disturb it, and a second one is refused.
            store.good("prune", &["--keep-last", "1"]);
            store.bad("binlog", &["--once"], 1, "is in use");
            server.restart();
            server.sql("INSERT INTO d.t VALUES (200, 'after the restart')");
            archived("after the restart");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        server.sql("FLUSH BINARY LOGS");
    }
    let mut child = start();
    server.sql("INSERT INTO d.t VALUES (300, 'the last one')");
    archived("the last one");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    store.good("binlog", &["--once"]);
    // Every file that the server has finished is there byte for byte.
    let mut compared = 0;
    for log in server.rows("SHOW BINARY LOGS") {
        let pieces: Vec<PathBuf> =
            store.logs().into_iter().filter(|path| path.to_str().unwrap().contains(&log[0])).collect();
        if pieces.iter().any(|path| path.to_str().unwrap().ends_with(".end")) {
            let bytes: Vec<u8> = pieces.iter().flat_map(|path| fs::read(path).unwrap()).collect();
            assert_eq!(bytes, fs::read(server.data().join(&log[0])).unwrap(), "{}", log[0]);
            compared += 1;
        }
    }
    assert!(compared >= 3, "{compared} files");
    let (restored, _room) = store.at(&server, "end");
    check::same(&server, &restored).assert_good();
}

test_on!(a_restored_server_becomes_a_replica: mariadb, mysql97);

fn a_restored_server_becomes_a_replica(flavour: Flavour) {
    let server = Server::new().flavour(flavour).networked().start();
    server.sql(super::TABLES);
    server.sql("CREATE USER repl@127.0.0.1 IDENTIFIED BY 'secret'; GRANT REPLICATION SLAVE ON *.* TO repl@127.0.0.1");
    let store = Store::of(&server, "");
    store.good("full", &[]);
    server.sql("INSERT INTO d.t VALUES (50, 'after the backup')");
    let room = scratch();
    let to = room.path().join("to");
    let to = to.to_str().unwrap();
    store.bad("restore", &["--to", to, "--replica", "source"], 1, "does not say from where its server replicated");
    let statements = store.good("restore", &["--to", to, "--replica", "server"]);
    let (word, more) = match flavour.family() {
        Family::Mariadb => ("MASTER", ""),
        Family::Mysql => ("SOURCE", ", SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1"),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let port = server.value("SELECT @@port");
    let own =
        format!("{word}_HOST='127.0.0.1', {word}_PORT={port}, {word}_USER='repl', {word}_PASSWORD='secret'{more}");
    let completed = statements.replace(&format!("{word}_HOST='{host}'"), &own);
    assert_ne!(completed, statements, "it names the host");
    let replica = Server::new().flavour(flavour).on(std::path::Path::new(to)).option("server-id", "2").start();
    // The comment ends with its line.
    let lines: Vec<&str> = completed.lines().filter(|line| !line.starts_with("--")).collect();
    replica.sql(lines.join("\n").trim_end_matches(';'));
    wait_until("the replica", Duration::from_secs(60), || {
        replica.value("SELECT COUNT(*) FROM d.t WHERE id = 50") == "1"
    });
    check::same(&server, &replica).assert_good();
}
