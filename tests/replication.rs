//! Backups of replicas and of cluster nodes: what they record of the source lets a restored server continue.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::backup::apply_by;
use crate::support::fault::LittleRoom;
use crate::support::load::Working;
use crate::support::pipeline::Relay;
use crate::support::vault::free_port;
use crate::support::{Family, Flavour, Load, Pipeline, Server, check, program, scratch, skip, test_on, wait_until, xb};

const PATIENCE: Duration = Duration::from_secs(60);
const PURGED: &str = "SET GLOBAL gtid_purged='";
const EXECUTED: &str = "SELECT REPLACE(@@gtid_executed, '\\n', '')";

/// A source and its replica.
struct Pair {
    source: Server,
    replica: Server,
}

impl Pair {
    /// The replica follows by GTID or by file and position.
    fn start(flavour: Flavour, by_gtid: bool) -> Pair {
        let server = |id: &str| Server::new().flavour(flavour).networked().option("server-id", id).start();
        let pair = Pair { source: server("1"), replica: server("2") };
        pair.source
            .sql("CREATE USER repl@127.0.0.1 IDENTIFIED BY 'secret'; GRANT REPLICATION SLAVE ON *.* TO repl@127.0.0.1");
        let start = match (flavour.family(), by_gtid) {
            (Family::Mariadb, true) => "MASTER_USE_GTID=slave_pos",
            (Family::Mariadb, false) => "MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS=4",
            (Family::Mysql, true) => "SOURCE_AUTO_POSITION=1",
            (Family::Mysql, false) => "SOURCE_LOG_FILE='binlog.000001', SOURCE_LOG_POS=4",
        };
        pair.replica.sql(&format!("{}, {start}; START REPLICA", pair.source_is()));
        pair
    }

    /// How to reach the source; what `xtrabackup_slave_info` leaves to whoever restores.
    fn source_is(&self) -> String {
        let port = self.source.value("SELECT @@port");
        // Without TLS, the password of MySQL's accounts goes by the server's key.
        let (statement, word, more) = match self.source.flavour().family() {
            Family::Mariadb => ("CHANGE MASTER TO", "MASTER", ""),
            Family::Mysql => ("CHANGE REPLICATION SOURCE TO", "SOURCE", ", SOURCE_SSL=0, GET_SOURCE_PUBLIC_KEY=1"),
        };
        format!(
            "{statement} {word}_HOST='127.0.0.1', {word}_PORT={port}, {word}_USER='repl', {word}_PASSWORD='secret'{more}"
        )
    }

    /// Waits until a replica has all that the source has done so far.
    fn catch_up(&self, replica: &Server) {
        let (end, wait) = match self.source.flavour().family() {
            Family::Mariadb => ("SELECT @@gtid_binlog_pos", "MASTER_GTID_WAIT"),
            Family::Mysql => ("SELECT @@gtid_executed", "WAIT_FOR_EXECUTED_GTID_SET"),
        };
        let end = self.source.value(end);
        let waited = replica.value(&format!("SELECT {wait}('{end}', 60)"));
        let [read, applied] = ["Last_IO_Error", "Last_SQL_Error"].map(|key| replica_status(replica, key));
        assert_eq!(waited, "0", "{read} {applied}");
    }

    /// How often the replica was stopped.
    fn stops(&self) -> u64 {
        self.replica.status(match self.replica.flavour().family() {
            Family::Mariadb => "Com_stop_slave",
            Family::Mysql => "Com_replica_stop",
        })
    }

    /// A load on the source that the replica applies.
    fn load(&self) -> Working {
        let load = Load::on(&self.source).bank(2).rows(1).start();
        load.wait_for(100);
        let applied = || !self.replica.rows("SHOW DATABASES LIKE 'bank'").is_empty();
        wait_until("the replica applies the load", PATIENCE, applied);
        load
    }

    fn snap(&self) -> Command {
        let mut command = xb("xb-snap");
        command.args(self.replica.options());
        command
    }

    fn applies_events(&self) -> bool {
        let key = match self.replica.flavour().family() {
            Family::Mariadb => "Slave_SQL_Running",
            Family::Mysql => "Replica_SQL_Running",
        };
        replica_status(&self.replica, key) == "Yes"
    }
}

fn replica_status(server: &Server, key: &str) -> String {
    let mut connection = server.connect();
    let row: Option<mysql::Row> = connection.query_first("SHOW REPLICA STATUS").unwrap();
    row.and_then(|row| row.get(key)).unwrap_or_default()
}

fn restore(server: &Server, snap: Command) -> TempDir {
    let dir = scratch();
    Pipeline::new().stage(snap).stage(xb("xb-redo")).stage(xb("xb-unpack").arg("-C").arg(dir.path())).run().assert_ok();
    apply_by(server, dir.path()).assert_ok();
    dir
}

test_on!(a_restored_replica_catches_up_by_gtid: mariadb, mariadb118, mysql97);

fn a_restored_replica_catches_up_by_gtid(flavour: Flavour) {
    catches_up(flavour, true);
}

test_on!(a_restored_replica_catches_up_by_file_and_position: mariadb, mysql97);

fn a_restored_replica_catches_up_by_file_and_position(flavour: Flavour) {
    catches_up(flavour, false);
}

/// A replica that is restored from another continues where `--replica-info` says.
fn catches_up(flavour: Flavour, by_gtid: bool) {
    let pair = Pair::start(flavour, by_gtid);
    let load = pair.load();
    let mut snap = pair.snap();
    snap.arg("--replica-info");
    if !by_gtid {
        let moving = Pipeline::new().stage(&mut snap).run();
        match flavour.family() {
            Family::Mariadb => _ = moving.assert_ok(),
            Family::Mysql => assert!(moving.stderr(0).contains("hint: add --safe-replica"), "{}", moving.story()),
        }
        snap.arg("--safe-replica");
    }
    let restored = restore(&pair.replica, snap);
    assert!(pair.applies_events(), "the replica stands still");
    load.wait_for(100);
    load.stop();
    let info = slave_info(restored.path());
    // What the server remembers of the one that was copied goes first.
    let (set, own, forget) = match (flavour.family(), by_gtid) {
        (Family::Mariadb, _) => ("SET GLOBAL gtid_slave_pos = '0-1-", "SELECT @@gtid_slave_pos", "STOP ALL SLAVES"),
        (Family::Mysql, true) => (PURGED, EXECUTED, "RESET REPLICA ALL; RESET BINARY LOGS AND GTIDS"),
        (Family::Mysql, false) => (PURGED, EXECUTED, "RESET REPLICA ALL"),
    };
    assert_eq!(info.contains(set), by_gtid, "{info}");
    // With a binary log, as it will be used.
    let copy = Server::new().flavour(flavour).on(restored.path()).option("server-id", "3").start();
    assert!(!by_gtid || info.contains(&format!("'{}'", copy.value(own))), "{info}");
    copy.sql(&format!("{forget}; {}; {info} START REPLICA", pair.source_is()));
    for replica in [&pair.replica, &copy] {
        pair.catch_up(replica);
    }
    check::same(&pair.source, &copy).assert_good();
}

/// By both names: mariadb-backup 11.1 renamed it.
fn slave_info(dir: &Path) -> String {
    let names = ["xtrabackup_slave_info", "mariadb_backup_slave_info"];
    let found = names.iter().find_map(|name| std::fs::read_to_string(dir.join(name)).ok());
    found.expect("there is no slave_info")
}

/// From an empty GTID position a replica would fetch all that its source has ever done.
#[test]
fn an_empty_gtid_position_is_told_by_file_and_position() {
    let pair = Pair::start(Flavour::Installed, true);
    pair.source.sql("CREATE DATABASE sb");
    pair.catch_up(&pair.replica);
    pair.replica.sql("STOP REPLICA; SET GLOBAL gtid_slave_pos=''");
    let place = replica_status(&pair.replica, "Exec_Master_Log_Pos");
    let restored = restore(&pair.replica, {
        let mut snap = pair.snap();
        snap.arg("--replica-info");
        snap
    });
    let info = std::fs::read_to_string(restored.path().join("xtrabackup_slave_info")).unwrap();
    assert_eq!(info, format!("CHANGE MASTER TO MASTER_LOG_FILE='binlog.000001', MASTER_LOG_POS={place};\n"));
}

test_on!(a_server_that_replicates_from_nobody_has_no_replica_info: mariadb, mysql97);

fn a_server_that_replicates_from_nobody_has_no_replica_info(flavour: Flavour) {
    let server = Server::new().flavour(flavour).start();
    let dir = scratch();
    let mut snap = xb("xb-snap");
    snap.args(server.options()).arg("--replica-info");
    let run = Pipeline::new().stage(snap).stage(xb("xb-unpack").arg("-C").arg(dir.path())).run();
    assert_eq!(run.codes()[0], 0, "{}", run.story());
    assert!(!dir.path().join("xtrabackup_slave_info").exists());
    assert!(run.stderr(0).contains("is not a replica; --replica-info adds nothing"), "{}", run.story());
}

test_on!(safe_replica_waits_for_a_moment_without_temporary_tables: mariadb, mysql97);

/// A temporary table that a later statement of the source needs must not be open when the copy is made.
fn safe_replica_waits_for_a_moment_without_temporary_tables(flavour: Flavour) {
    let pair = Pair::start(flavour, true);
    let mut session = pair.source.connect();
    session.query_drop("USE test").unwrap();
    session.query_drop("SET SESSION binlog_format=STATEMENT").unwrap();
    session.query_drop("CREATE TABLE kept (id INT)").unwrap();
    session.query_drop("CREATE TEMPORARY TABLE passing (id INT)").unwrap();
    let open = match flavour.family() {
        Family::Mariadb => "Slave_open_temp_tables",
        Family::Mysql => "Replica_open_temp_tables",
    };
    wait_until("the replica has it", PATIENCE, || pair.replica.status(open) == 1);

    // If it is stopped while it waits, it starts replication again first.
    let mut snap = pair.snap();
    snap.arg("--safe-replica").arg("-v");
    let before = pair.stops();
    let running = Pipeline::new().stage(&mut snap).start();
    wait_until("it waits", PATIENCE, || pair.stops() > before);
    running.signal(0, Signal::TERM);
    let run = running.wait();
    run.assert_codes(&[143]);
    assert!(run.stderr(0).contains("backup: stopped by a signal"), "{}", run.story());
    wait_until("replication goes on", PATIENCE, || pair.applies_events());

    let stops = pair.stops();
    let running = Pipeline::new().stage(&mut snap).start();
    wait_until("it waits", PATIENCE, || pair.stops() > stops);
    session.query_drop("INSERT INTO passing VALUES (7)").unwrap();
    session.query_drop("INSERT INTO kept SELECT id FROM passing").unwrap();
    session.query_drop("DROP TEMPORARY TABLE passing").unwrap();
    let run = running.wait();
    run.assert_ok();
    assert!(run.stderr(0).contains("waiting until replication has no temporary tables open"), "{}", run.story());
    assert!(pair.applies_events());
    wait_until("the replica goes on", PATIENCE, || pair.replica.value("SELECT COUNT(*) FROM test.kept") == "1");

    // Stopped by two signals while nobody reads; MariaDB's does not stand still so early.
    if flavour.family() == Family::Mysql {
        let stops = pair.stops();
        let mut running = Pipeline::new().stage(&mut snap).stage(program("sleep").arg("600")).start();
        wait_until("it stands still", PATIENCE, || pair.stops() > stops);
        running.signal(0, Signal::TERM);
        running.signal(0, Signal::TERM);
        wait_until("it has ended", PATIENCE, || running.ended(0));
        running.signal(1, Signal::KILL);
        let run = running.wait();
        run.assert_codes(&[143, 137]);
        assert!(run.stderr(0).contains("backup: stopped by a signal"), "{}", run.story());
        assert!(pair.applies_events(), "replication was left stopped");
    }
}

test_on!(replication_started_during_the_copy_makes_it_invalid: mysql97);

fn replication_started_during_the_copy_makes_it_invalid(flavour: Flavour) {
    let pair = Pair::start(flavour, false);
    let mut snap = pair.snap();
    snap.args(["--safe-replica", "--replica-info"]);
    let running = Pipeline::new().stage(snap).relay(Relay::rate(20 << 20)).stage(program("cat")).start();
    wait_until("it copies", PATIENCE, || running.through() > 4 << 20);
    pair.replica.sql("START REPLICA SQL_THREAD");
    let run = running.wait();
    run.assert_codes(&[5, 0]);
    assert!(run.stderr(0).contains("replication was started while it had to stand still"), "{}", run.story());
}

test_on!(replication_is_left_as_it_was: mariadb, mysql97);

fn replication_is_left_as_it_was(flavour: Flavour) {
    let pair = Pair::start(flavour, true);
    pair.source.sql(
        "CREATE TABLE test.m (text TEXT) ENGINE=MyISAM; \
         USE test; INSERT INTO m SELECT REPEAT('m', 10000) FROM seq_1_to_1000",
    );
    pair.catch_up(&pair.replica);
    let mut snap = pair.snap();
    let room = LittleRoom::new(64 << 10);
    snap.arg("--safe-replica").arg(format!("--spool-dir={}", room.path().display()));
    let run = Pipeline::new().stage(room.of(&snap)).run();
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains(&format!("cannot write: {}", room.words())), "{}", run.story());
    assert_eq!(pair.stops(), 1, "replication was never stopped");
    assert!(pair.applies_events(), "replication was left stopped");

    pair.replica.sql("STOP REPLICA SQL_THREAD");
    Pipeline::new().stage(pair.snap().arg("--safe-replica")).run().assert_ok();
    assert!(!pair.applies_events(), "replication was started that somebody had stopped");
    // A server that is not a replica has nothing to wait for; by TCP, this time.
    pair.source.sql("CREATE USER tcp@127.0.0.1 IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO tcp@127.0.0.1");
    let mut by_tcp = xb("xb-snap");
    by_tcp.env("MYSQL_PWD", "secret").args(["--no-defaults", "--host=127.0.0.1", "--user=tcp", "--safe-replica"]);
    let run = Pipeline::new().stage(by_tcp.arg(format!("--port={}", pair.source.value("SELECT @@port")))).run();
    run.assert_ok();
    assert!(run.stderr(0).contains("applies no replicated events"), "{}", run.story());
}

#[test]
fn galera_info_is_that_of_mariadb_backup() {
    let provider = Path::new("/usr/lib/galera/libgalera_smm.so");
    if !provider.exists() {
        return skip("galera-4 is not installed");
    }
    let node = Server::new()
        .option("wsrep-on", "ON")
        .option("wsrep-provider", &provider.display().to_string())
        .option("wsrep-cluster-address", "gcomm://")
        .option("wsrep-node-address", "127.0.0.1")
        .option("wsrep-provider-options", &format!("gmcast.listen_addr=tcp://127.0.0.1:{}", free_port()))
        .option("wsrep-gtid-domain-id", "7")
        .option("innodb-autoinc-lock-mode", "2")
        .start();
    wait_until("the node is synced", PATIENCE, || {
        node.rows("SHOW STATUS LIKE 'wsrep_ready'").first().is_some_and(|row| row[1] == "ON")
    });
    let load = Load::on(&node).bank(1).start();
    load.wait_for(50);
    load.stop();
    let ours = scratch();
    Pipeline::new()
        .stage(xb("xb-snap").args(node.options()).arg("--galera-info"))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(ours.path()))
        .run()
        .assert_ok();
    let stock = scratch();
    let mut backup = node.program("mariadb-backup");
    backup.args(node.options()).args(["--backup", "--galera-info"]);
    backup.arg(format!("--target-dir={}", stock.path().join("to").display()));
    Pipeline::new().stage(backup).run().assert_ok();
    let info = |dir: PathBuf| std::fs::read_to_string(dir.join("xtrabackup_galera_info")).unwrap();
    let (ours, stock) = (info(ours.path().into()), info(stock.path().join("to")));
    assert_eq!(ours, stock);
    let uuid = &node.rows("SHOW STATUS LIKE 'wsrep_local_state_uuid'")[0][1];
    assert!(ours.starts_with(uuid) && ours.trim_end().ends_with(" 7"), "{ours}");
}
