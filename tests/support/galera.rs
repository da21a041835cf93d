//! Galera clusters of private nodes on loopback. Each node has its own directory, ports and option file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use tempfile::TempDir;

use super::server::{connect, mortal, wait};
use super::vault::free_port;
use super::{Flavour, Server, scratch, xb};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
/// Long enough for a transfer on a busy machine.
const SYNCED: Duration = Duration::from_secs(60);

/// Two nodes; the first has data, the second is empty and does not run.
pub struct Cluster {
    pub first: Node,
    pub second: Node,
}

/// A node, running or stopped.
pub struct Node {
    home: TempDir,
    data: PathBuf,
    flavour: Flavour,
    child: Option<Child>,
}

impl Cluster {
    /// A cluster whose first node runs. `extra` goes into the option files of both: groups and lines. `host` is where the
    /// second node gets its data.
    pub fn start(flavour: Flavour, host: &str, extra: &str) -> Cluster {
        // A server without Galera makes the data, as many clusters begin.
        let mut server = Server::new().flavour(flavour).start();
        server.sql(
            "CREATE USER sst@localhost IDENTIFIED BY 'secret';
             GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR ON *.* TO sst@localhost;
             CREATE DATABASE shop;
             CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, c VARCHAR(120), pad VARCHAR(200));
             INSERT INTO shop.t (c, pad) SELECT LEFT(SHA2(seq, 512), 120), REPEAT(MD5(seq), 4) FROM test.seq_1_to_10000",
        );
        server.stop();
        let ports: Vec<u16> = std::iter::repeat_with(free_port).take(6).collect();
        let peers = format!("127.0.0.1:{},127.0.0.1:{}", ports[0], ports[3]);
        let node = |number: usize, at: usize| {
            let home = scratch();
            let data = home.path().join("data");
            match number {
                1 => assert!(Command::new("cp").arg("-a").arg(server.data()).arg(&data).status().unwrap().success()),
                _ => fs::create_dir(&data).unwrap(),
            }
            fs::create_dir(home.path().join("tmp")).unwrap();
            let auth = if flavour == Flavour::Installed { "wsrep_sst_auth=sst:secret" } else { "" };
            let (own, receive, top) = (ports[at], ports[at + 2], home.path().display());
            let text = format!(
                "[mariadbd]\nuser=root\ndatadir={top}/data\ntmpdir={top}/tmp\nsocket={top}/socket\npid-file={top}/pid\n\
                 log-error={top}/error.log\nskip-networking\nbinlog_format=ROW\ninnodb_autoinc_lock_mode=2\n\
                 innodb_buffer_pool_size=48M\ninnodb_log_file_size=32M\nperformance_schema=OFF\nwsrep_on=ON\n\
                 wsrep_provider={PROVIDER}\nwsrep_provider_options=\"gmcast.listen_addr=tcp://127.0.0.1:{own};\
                 ist.recv_addr=127.0.0.1:{};gcache.size=32M\"\nwsrep_cluster_name=lab\n\
                 wsrep_cluster_address=gcomm://{peers}\nwsrep_node_name=node{number}\nwsrep_node_address=127.0.0.1:{own}\n\
                 wsrep_sst_method=xb\nwsrep_sst_receive_address={host}:{receive}\n{auth}\n\
                 [sst]\nsst-log-archive-dir={top}/old-logs\n{extra}\n",
                ports[at + 1],
            );
            fs::write(home.path().join("my.cnf"), text).unwrap();
            Node { data, home, flavour, child: None }
        };
        let mut cluster = Cluster { first: node(1, 0), second: node(2, 3) };
        cluster.first.launch(&["--wsrep-new-cluster"]);
        cluster.first.synced().unwrap_or_else(|log| panic!("the first node does not start:\n{log}"));
        cluster
    }

    /// Both nodes have the same rows in all tables of `shop`, and see each other.
    pub fn assert_equal(&self) {
        for node in [&self.first, &self.second] {
            assert_eq!(node.status("wsrep_cluster_size"), "2");
        }
        let sums = |node: &Node| -> Vec<(String, Option<u64>)> {
            let mut conn = node.connect().unwrap();
            conn.query_drop("SET wsrep_sync_wait=15").unwrap();
            let tables: Vec<String> = conn.query("SHOW TABLES FROM shop").unwrap();
            assert!(!tables.is_empty());
            tables.iter().flat_map(|table| conn.query(format!("CHECKSUM TABLE shop.{table}")).unwrap()).collect()
        };
        assert_eq!(sums(&self.first), sums(&self.second));
    }
}

impl Node {
    fn launch(&mut self, more: &[&str]) {
        let mut command = Command::new(self.flavour.server());
        command.arg(format!("--defaults-file={}", self.home.path().join("my.cnf").display())).args(more);
        if self.flavour != Flavour::Installed {
            command.arg(format!("--plugin-dir={}", self.flavour.plugins().display()));
        }
        let tools = PathBuf::from(xb("wsrep_sst_xb").get_program()).parent().unwrap().to_path_buf();
        let server = self.flavour.server().parent().unwrap().to_path_buf();
        let path = format!("{}:{}:{}", tools.display(), server.display(), std::env::var("PATH").unwrap());
        let mut command = mortal(command);
        command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts it.
    pub fn begin(&mut self) {
        self.launch(&[]);
    }

    /// Starts it, and waits until it has the state of the cluster.
    pub fn join(&mut self) {
        self.begin();
        self.synced().unwrap_or_else(|log| panic!("the node does not join:\n{log}"));
    }

    /// Waits until it has the state of the cluster. A node that ends, or takes too long, gives its log.
    pub fn synced(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < SYNCED {
            if self.connect().is_ok() && self.status("wsrep_local_state_comment") == "Synced" {
                return Ok(());
            }
            if self.ended() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(self.log())
    }

    /// True if its server does not run.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    pub fn connect(&self) -> mysql::Result<Conn> {
        connect(&self.home.path().join("socket"))
    }

    pub fn sql(&self, statement: &str) {
        self.connect().unwrap().query_drop(statement).unwrap();
    }

    /// A value of `SHOW STATUS`; empty if there is none.
    pub fn status(&self, name: &str) -> String {
        let row = self.connect().and_then(|mut conn| conn.query_first(format!("SHOW STATUS LIKE '{name}'")));
        row.ok().flatten().map_or(String::new(), |(_, value): (String, String)| value)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.home.path().join("error.log")).unwrap_or_default()).into_owned()
    }

    /// Adds to its option file.
    pub fn set(&self, text: &str) {
        let path = self.home.path().join("my.cnf");
        fs::write(&path, fs::read_to_string(&path).unwrap() + text + "\n").unwrap();
    }

    /// Its data directory is empty again; it must not run.
    pub fn forget(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.data).unwrap();
        fs::create_dir(&self.data).unwrap();
    }

    /// Shuts it down.
    pub fn stop(&mut self) {
        self.sql("SHUTDOWN");
        let child = self.child.as_mut().unwrap();
        assert!(wait(child, SYNCED).is_some(), "the node does not end");
        self.child = None;
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
