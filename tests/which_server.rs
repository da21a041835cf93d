//! The copied server is the one that the family's client programs would reach, and its own data directory is read.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::fault::of_the_servers_group;
use crate::support::pipeline::{Relay, Run, Running};
use crate::support::{Family, Flavour, Pipeline, Server, program, scratch, skip, test_on, xb};

/// An account that may do nothing on the first server, and a little more on the second: what it lacks says where it is.
const FIRST: &str = "CREATE USER probe@localhost, probe@'127.0.0.1'";
const SECOND: &str =
    "CREATE USER probe@localhost, probe@'127.0.0.1'; GRANT RELOAD ON *.* TO probe@localhost, probe@'127.0.0.1'";

/// A way to say which server.
struct Way {
    arguments: &'static str,
    environment: &'static str,
    file: &'static str,
    /// Two servers are named; which one the stock client uses depends on the order, or on the family.
    refused: bool,
}

fn way(arguments: &'static str, environment: &'static str, file: &'static str) -> Way {
    Way { arguments, environment, file, refused: false }
}

fn refused(arguments: &'static str, environment: &'static str, file: &'static str) -> Way {
    Way { refused: true, ..way(arguments, environment, file) }
}

/// `@A@`, `@B@` are the servers' ports, `@a@`, `@b@` their sockets; where nothing else is named, the first one's socket is.
fn ways() -> Vec<Way> {
    vec![
        way("", "", ""),
        way("--port=@B@", "", ""),
        way("--port=@B@ --host=localhost", "", ""),
        way("--port=@B@ --host=127.0.0.1", "", ""),
        way("--socket=@b@", "", ""),
        way("--socket=@b@ --host=localhost", "", ""),
        way("--protocol=tcp --port=@B@", "", ""),
        way("--protocol=TCP --host=localhost --socket=@a@ --port=@B@", "", ""),
        way("--protocol=tcp", "MYSQL_TCP_PORT=@B@", ""),
        way("--protocol=tcp --port=0", "MYSQL_TCP_PORT=@B@", ""),
        way("--protocol=socket --socket=@b@", "", ""),
        way("", "MYSQL_TCP_PORT=@B@", ""),
        way("", "MYSQL_UNIX_PORT=@b@", ""),
        way("", "MYSQL_HOST=127.0.0.1 MYSQL_TCP_PORT=@B@", ""),
        way("--host=localhost --socket=@b@", "MYSQL_HOST=nowhere.invalid", ""),
        way("", "", "[client]\nport=@B@\n"),
        way("", "", "[client]\nport=@B@\nprotocol=tcp\n"),
        way("", "", "[client]\nhost=localhost\nport=@B@\nprotocol=TCP\n"),
        way("", "", "[client]\nhost=localhost\nport=@B@\n"),
        way("", "", "[client]\nhost=127.0.0.1\nport=@B@\nsocket=@a@\n"),
        way("", "", "[client]\nhost=\nsocket=@b@\n"),
        way("", "", "[client]\nprotocol=tcp\nport=@A@\n[client-mariadb]\nprotocol=socket\nsocket=@b@\n"),
        way("", "MYSQL_UNIX_PORT=@a@", "[client]\nsocket=@b@\n"),
        way("", "MYSQL_TCP_PORT=@A@", "[client-mariadb]\nprotocol=t\nport=@B@\n"),
        way("--port=@B@", "", "[client]\nport=@A@\nsocket=@a@\n"),
        way("--port=@B@", "", "[client]\nprotocol=socket\n"),
        way("--socket=@b@", "", "[client]\nprotocol=tcp\nport=@A@\n"),
        way("--host=localhost", "", "[client]\nhost=nowhere.invalid\nsocket=@b@\nport=@A@\n"),
        way("--protocol=tcp", "", "[client]\nsocket=@a@\nport=@B@\n"),
        way("--protocol=socket", "", "[client]\nsocket=@b@\nport=@A@\nprotocol=tcp\n"),
        refused("--socket=@a@ --port=@B@", "", ""),
        refused("--protocol=socket --port=@B@", "", ""),
        refused("--protocol=socket --host=127.0.0.1 --port=@B@", "", ""),
        refused("--socket=@b@ --host=127.0.0.1 --port=@A@", "", ""),
        refused("--socket=@b@", "", "[client]\nhost=127.0.0.1\nport=@A@\n"),
        refused("--socket=@b@", "MYSQL_HOST=nowhere.invalid", ""),
        refused("--host=127.0.0.1 --port=@B@", "", "[client]\nprotocol=socket\n").unless_given(),
        refused("", "", "[client]\nprotocol=pipe\n"),
        refused("", "", "[client]\nprotocol=memory\n"),
        refused("", "", "[client]\nprotocol=nonsense\n"),
    ]
}

impl Way {
    /// A port on the command line has priority over the protocol in the file.
    fn unless_given(self) -> Way {
        Way { refused: false, ..self }
    }
}

#[test]
fn connection_data_lead_where_stock_clients_go() {
    let server = || Server::new().networked().start();
    let (first, second) = (server(), server());
    first.sql(FIRST);
    second.sql(SECOND);
    let port = |server: &Server| server.value("SELECT @@port");
    let names = [
        ("@A@", port(&first)),
        ("@B@", port(&second)),
        ("@a@", first.socket().display().to_string()),
        ("@b@", second.socket().display().to_string()),
    ];
    let placed = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let dir = scratch();
    let file = dir.path().join("my.cnf");
    for way in ways() {
        fs::write(&file, placed(way.file)).unwrap();
        let (arguments, environment) = (placed(way.arguments), placed(way.environment));
        let with = |mut command: Command| {
            for name in ["MYSQL_HOST", "MARIADB_HOST", "MYSQL_TCP_PORT", "MARIADB_UNIX_PORT"] {
                command.env_remove(name);
            }
            command.env("MYSQL_UNIX_PORT", first.socket());
            command.envs(environment.split_whitespace().filter_map(|pair| pair.split_once('=')));
            command.arg(format!("--defaults-file={}", file.display())).arg("--user=probe");
            command.args(arguments.split_whitespace());
            command
        };
        let case = format!("{arguments:?} {environment:?} {:?}", placed(way.file));
        let ours = Pipeline::new().stage(with(xb("xb-snap"))).run();
        let refused = ours.codes() == [2];
        assert_eq!(refused, way.refused, "{case}\n{}", ours.story());
        if refused {
            continue;
        }
        let lacks =
            ours.stderr(0).lines().find_map(|line| line.split_once(" lacks ")).map(|(_, names)| names.to_owned());
        let ours = match lacks.as_deref() {
            Some("PROCESS, RELOAD, BINLOG MONITOR") => port(&first),
            Some("PROCESS, BINLOG MONITOR") => port(&second),
            _ => panic!("{case}\n{}", ours.story()),
        };
        for flavour in Flavour::all() {
            let mut client = with(flavour.client());
            // The newer one would not use TCP with a server that cannot encrypt it.
            client.args(["--skip-ssl", "--batch", "--skip-column-names", "--execute=SELECT @@port"]);
            let run = Pipeline::new().stage(client).run();
            run.assert_ok();
            assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), ours, "{flavour:?} {case}");
        }
    }
}

fn snap(server: &Server) -> Command {
    let mut command = xb("xb-snap");
    command.args(server.options());
    command
}

/// The same by TCP.
fn by_tcp(server: &Server) -> Command {
    let mut command = xb("xb-snap");
    command.args(["--no-defaults", "--user=root", "--host=127.0.0.1"]);
    command.arg(format!("--port={}", server.value("SELECT @@port")));
    command
}

fn refuses(mut command: Command, datadir: &Path) -> Run {
    let run = Pipeline::new().stage(command.arg("--datadir").arg(datadir)).run();
    run.assert_codes(&[5]);
    let expected = format!("xb-snap: {}: not shown to be the data directory of the server at ", datadir.display());
    assert!(run.stderr(0).contains(&expected), "{}", run.story());
    assert!(run.stdout.is_empty(), "something was sent");
    run
}

fn clone(server: &Server, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(server.data()).arg(to).status().unwrap();
    assert!(copied.success());
}

test_on!(the_data_directory_of_a_clone_is_refused: mariadb, mariadb118, mysql97);

fn the_data_directory_of_a_clone_is_refused(flavour: Flavour) {
    let mut server = Server::new().flavour(flavour).networked().start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.t (id INT PRIMARY KEY)");
    server.stop();
    let dir = scratch();
    clone(&server, &dir.path().join("copy"));
    clone(&server, &dir.path().join("twin"));
    server.start_again();
    let twin = server.twin(&dir.path().join("twin")).start();
    let run = refuses(snap(&server), &dir.path().join("copy"));
    assert!(run.stderr(0).contains("no server runs on it"), "{}", run.story());
    refuses(by_tcp(&server), twin.data());
    // The server's own is taken, whatever it is called and however it is reached.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(server.data(), &link).unwrap();
    Pipeline::new().stage(by_tcp(&server).arg("--datadir").arg(&link)).run().assert_ok();
    Pipeline::new().stage(snap(&twin)).run().assert_ok();
}

/// If it cannot be proved whose data directory it is, the operator may vouch for it, but not against what the server
/// shows.
#[test]
fn mariadb_trusted_data_directory_is_taken_unless_another_s() {
    let mut server = Server::new().networked().flag("skip-log-bin").start();
    server.sql("CREATE USER idle@'127.0.0.1'; GRANT PROCESS ON *.* TO idle@'127.0.0.1'");
    let idle = || {
        let mut command = xb("xb-snap");
        command.args(["--no-defaults", "--user=idle", "--host=127.0.0.1", "--no-lock"]);
        command.arg(format!("--port={}", server.value("SELECT @@port")));
        command
    };
    let run = refuses(idle(), server.data());
    assert!(run.stderr(0).contains("the account lacks RELOAD") && run.stderr(0).contains("--trust-datadir"));
    let run = Pipeline::new().stage(idle().arg("--trust-datadir")).run();
    run.assert_ok();
    assert!(run.stderr(0).contains("taken on trust (--trust-datadir)"), "{}", run.story());
    assert!(run.stderr(0).contains("not shown to be the data directory of the server at "), "{}", run.story());
    server.stop();
    let dir = scratch();
    clone(&server, &dir.path().join("copy"));
    clone(&server, &dir.path().join("twin"));
    server.start_again();
    let twin = server.twin(&dir.path().join("twin")).start();
    for other in [dir.path().join("copy").as_path(), twin.data()] {
        let mut command = by_tcp(&server);
        command.arg("--trust-datadir");
        refuses(command, other);
    }
    if sees_all_processes() {
        // The account can show nothing, and the kernel says that another server has the files open.
        server.sql("CREATE USER idle@localhost; GRANT PROCESS ON *.* TO idle@localhost");
        let mut command = snap(&server);
        command.args(["--user=idle", "--no-lock", "--trust-datadir"]);
        refuses(command, twin.data());
    }
}

#[test]
fn mysql_trusted_data_directory_is_taken_unless_another_s() {
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let start = |builder: crate::support::server::Builder| builder.flavour(Flavour::Mysql97).networked().start();
    let server = start(Server::new().option("innodb-temp-tablespaces-dir", "@HOME@/outside"));
    let run = refuses(by_tcp(&server), server.data());
    assert!(run.stderr(0).contains("temporary tables are outside the data directory"), "{}", run.story());
    assert!(run.stderr(0).contains("--trust-datadir"), "{}", run.story());
    let run = Pipeline::new().stage(by_tcp(&server).arg("--trust-datadir")).run();
    run.assert_ok();
    assert!(run.stderr(0).contains("not shown to be the data directory of the server at "), "{}", run.story());
    let mut one = start(Server::new());
    one.stop();
    let dir = scratch();
    clone(&one, &dir.path().join("copy"));
    clone(&one, &dir.path().join("twin"));
    one.start_again();
    let twin = one.twin(&dir.path().join("twin")).start();
    for other in [dir.path().join("copy").as_path(), twin.data()] {
        let mut command = by_tcp(&one);
        command.arg("--trust-datadir");
        refuses(command, other);
    }
}

/// True if no process is hidden from the tests, so that the kernel can tell who listens at a socket.
fn sees_all_processes() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

#[test]
fn only_what_the_options_need_is_demanded() {
    let server = Server::new().flag("skip-log-bin").start();
    server.sql("CREATE USER idle@localhost, some@localhost; GRANT PROCESS ON *.* TO idle@localhost; GRANT RELOAD, PROCESS ON *.* TO some@localhost");
    Pipeline::new().stage(snap(&server).arg("--user=some")).run().assert_ok();
    let without_locks = || {
        let mut command = snap(&server);
        command.args(["--user=idle", "--no-lock"]);
        command
    };
    let other = Server::new().start();
    let run = refuses(without_locks(), other.data());
    assert!(run.stderr(0).contains("the account lacks RELOAD"), "{}", run.story());
    if sees_all_processes() {
        Pipeline::new().stage(without_locks()).run().assert_ok();
    } else {
        skip("in a container nothing but RELOAD shows whose the data directory is");
    }
}

#[test]
fn all_missing_privileges_are_named_at_once() {
    let server = Server::new().start();
    server.sql("CREATE USER idle@localhost");
    let run = Pipeline::new().stage(snap(&server).args(["--user=idle", "--safe-replica"])).run();
    run.assert_codes(&[1]);
    let said = run.stderr(0);
    for privilege in ["PROCESS", "RELOAD", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICATION SLAVE ADMIN"] {
        assert!(said.lines().any(|line| line.starts_with("hint: GRANT ") && line.contains(privilege)), "{said}");
    }
    assert_eq!(said.matches("GRANT ").count(), 1, "{said}");
}

/// An account that makes backups and that `init_connect` is for: it is not for those with SUPER or CONNECTION ADMIN.
fn ordinary_account(server: &Server) -> &'static str {
    let privileges = match server.flavour().family() {
        Family::Mariadb => "RELOAD, PROCESS, BINLOG MONITOR",
        Family::Mysql => "SELECT, LOCK TABLES, RELOAD, PROCESS, REPLICATION CLIENT, BACKUP_ADMIN",
    };
    server.sql(&format!("CREATE USER keeper@localhost; GRANT {privileges} ON *.* TO keeper@localhost"));
    "--user=keeper"
}

/// Global variables with which a session has too short timeouts, or incomplete answers.
fn hurt(server: &Server) {
    let own = match server.flavour().family() {
        Family::Mariadb => "SET GLOBAL max_statement_time=1",
        Family::Mysql => "SET GLOBAL max_execution_time=1",
    };
    let mut session = server.connect();
    for statement in [
        "SET GLOBAL wait_timeout=1, GLOBAL interactive_timeout=1, GLOBAL net_read_timeout=1, GLOBAL net_write_timeout=1",
        "SET GLOBAL lock_wait_timeout=1, GLOBAL autocommit=0, GLOBAL sql_mode='ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'",
        "SET GLOBAL sql_safe_updates=1, GLOBAL max_join_size=1, GLOBAL sql_quote_show_create=0, GLOBAL big_tables=1",
        "SET GLOBAL init_connect='SET SESSION sql_select_limit=1'",
        own,
        "SET GLOBAL sql_select_limit=0",
    ] {
        if let Err(error) = session.query_drop(statement) {
            // Not all are global everywhere.
            assert!(error.to_string().contains("GLOBAL"), "{statement}: {error}");
        }
    }
}

test_on!(a_server_s_defaults_do_not_hurt_our_sessions: mariadb, mysql97);

fn a_server_s_defaults_do_not_hurt_our_sessions(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.m (a INT) ENGINE=MyISAM; CREATE TABLE sb.t (a INT PRIMARY KEY)");
    let account = ordinary_account(&server);
    hurt(&server);
    // Seen by what a session of this account gets.
    let options = mysql::OptsBuilder::new().user(Some("keeper")).socket(Some(server.socket().to_string_lossy()));
    let mut session = mysql::Conn::new(options.max_allowed_packet(Some(1 << 20))).unwrap();
    let limit: Option<u64> = session.query_first("SELECT @@session.sql_select_limit").unwrap();
    assert_eq!(limit, Some(1), "init_connect is not for this account");
    // The reader stops for longer than a session may be idle.
    let run = Pipeline::new()
        .stage(snap(&server).arg(account))
        .stage(xb("xb-redo"))
        .relay(Relay::default().stall(2_000_000, Duration::from_secs(4)))
        .stage(xb("xb-unpack").arg("--verify"))
        .run();
    run.assert_ok();
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let server = Server::new().start();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let run = Pipeline::new().stage(snap(&server).arg("--connect-timeout=1")).run();
    kill_process(pid, Signal::CONT).unwrap();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("has not answered within 1 s (--connect-timeout)"), "{}", run.story());

    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = scratch();
    let options = file.path().join("my.cnf");
    let port = mute.local_addr().unwrap().port();
    fs::write(&options, format!("[client]\nhost=127.0.0.1\nport={port}\nconnect-timeout=1\n")).unwrap();
    let run = Pipeline::new().stage(xb("xb-snap").arg(format!("--defaults-file={}", options.display()))).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains("has not answered within 1 s"), "{}", run.story());
}

/// Where it stalls, all connections are made and the copy is under way.
fn under_way(command: Command) -> Running {
    let running = Pipeline::new()
        .stage(command)
        .relay(Relay::default().stall(1_000_000, Duration::from_secs(600)))
        .stage(program("cat"))
        .start();
    crate::support::wait_until("the copy is under way", Duration::from_secs(60), || running.through() >= 1_000_000);
    running
}

/// Ends what stands still.
fn ended(mut running: Running) {
    assert!(!running.ended(0), "it ended before it was looked at");
    running.signal(0, Signal::KILL);
    running.signal(1, Signal::KILL);
    running.wait();
}

#[test]
fn xb_snap_leaves_no_core_file_and_cannot_be_traced() {
    // Whose files an ordinary user of its group can read.
    if !Flavour::Mysql97.or_skip() {
        return;
    }
    let server = Server::new().flavour(Flavour::Mysql97).start();
    fs::set_permissions(server.home(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(server.data(), fs::Permissions::from_mode(0o750)).unwrap();
    let running = under_way(of_the_servers_group(snap(&server)));
    let proc = |name: &str| PathBuf::from(format!("/proc/{}/{name}", running.pid(0)));
    let limits = fs::read_to_string(proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    // What belongs to a process that can be dumped belongs to its user (proc(5)).
    let (owner, user) = (fs::metadata(proc("mem")).unwrap().uid(), fs::read_to_string(proc("status")).unwrap());
    let user = user.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap();
    assert_ne!(user, "0", "root's files are root's, whatever is set");
    assert_eq!(owner, 0);
    ended(running);
}

/// Which of the words are anywhere in a process's memory. Only root may look.
fn in_memory<'a>(pid: u32, words: &[&'a str]) -> Vec<&'a str> {
    use bstr::ByteSlice;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|flags| flags.starts_with("rw")))
    {
        let range = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        let [from, to] = [range.0, range.1].map(|digits| u64::from_str_radix(digits, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        // Some mappings of the kernel's own cannot be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found.extend(words.iter().filter(|word| bytes.contains_str(word)));
        }
    }
    found
}

test_on!(no_password_is_in_memory_once_the_connections_are_made: mariadb, mysql97);

fn no_password_is_in_memory_once_the_connections_are_made(flavour: Flavour) {
    if !crate::support::root() {
        return skip("only root may read the memory of a process that cannot be dumped");
    }
    let password = "Fq7-nightingale-Zw83-bookshelf";
    let server = Server::new().flavour(flavour).start();
    // To MySQL the first connection after this sends the password itself, later ones do not.
    let account = "keeper_of_backups@localhost";
    server.sql(&format!("CREATE USER {account} IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO {account}"));
    let dir = scratch();
    let (options, file) = (dir.path().join("my.cnf"), dir.path().join("password"));
    let text = format!("[client]\nsocket={}\nuser=keeper_of_backups\n", server.socket().display());
    let with = format!("{text}password={password}\n");
    fs::write(&file, format!("{password}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for (place, text, argument) in [("option file", &with, None), ("file", &text, Some(&file))] {
        fs::write(&options, text).unwrap();
        let mut command = xb("xb-snap");
        command.arg(format!("--defaults-file={}", options.display()));
        command.args(argument.map(|file| format!("--password-file={}", file.display())));
        let running = under_way(command);
        // The user's name is kept: what is there is found.
        let found = in_memory(running.pid(0), &[password, "Zw83-bookshelf", "keeper_of_backups"]);
        assert!(found.contains(&"keeper_of_backups"), "{flavour:?}: {found:?}");
        let secret = found.iter().filter(|word| !word.starts_with("keeper")).count();
        assert_eq!(secret, 0, "{flavour:?}, from {place}");
        ended(running);
    }
}
