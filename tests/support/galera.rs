//! Galera clusters of private nodes on loopback. Each node has its own directory, ports and option file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use tempfile::TempDir;

use super::server::{connect, mortal, wait};
use super::vault::free_port;
use super::{Flavour, Server, scratch, server, template, xb};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";
/// Long enough for a transfer on a busy machine.
const SYNCED: Duration = Duration::from_secs(60);

/// Three nodes; the first has data, the others are empty and do not run.
pub struct Cluster {
    pub first: Node,
    pub second: Node,
    pub third: Node,
}

/// A node, running or stopped.
pub struct Node {
    home: TempDir,
    data: PathBuf,
    flavour: Flavour,
    child: Option<Child>,
    /// A program that starts the server, and its arguments.
    pub wrapper: Vec<String>,
}

/// The description of a cluster.
pub struct Lab {
    flavour: Flavour,
    joiner: Flavour,
    host: String,
    sst: String,
    server: String,
    provider: String,
    build: server::Builder,
}

impl Lab {
    /// Nodes of this server.
    pub fn new(flavour: Flavour) -> Lab {
        Lab {
            flavour,
            joiner: flavour,
            host: "127.0.0.1".to_owned(),
            sst: String::new(),
            server: String::new(),
            provider: String::new(),
            build: Server::new().flavour(flavour),
        }
    }

    /// The server of the second and third node.
    #[must_use]
    pub fn joiner(self, joiner: Flavour) -> Lab {
        Lab { joiner, ..self }
    }

    /// Where the joiners get their data.
    #[must_use]
    pub fn host(self, host: &str) -> Lab {
        Lab { host: host.to_owned(), ..self }
    }

    /// Lines of `[sst]`, and groups behind it.
    #[must_use]
    pub fn sst(self, lines: &str) -> Lab {
        Lab { sst: lines.to_owned(), ..self }
    }

    /// Options of every server; `@HOME@` is the node's directory.
    #[must_use]
    pub fn server(self, lines: &str) -> Lab {
        Lab { server: lines.to_owned(), ..self }
    }

    /// More of `wsrep_provider_options`, each with `;` before it.
    #[must_use]
    pub fn provider(self, options: &str) -> Lab {
        Lab { provider: options.to_owned(), ..self }
    }

    /// The server without Galera that makes the data.
    #[must_use]
    pub fn made_by(self, change: impl FnOnce(server::Builder) -> server::Builder) -> Lab {
        Lab { build: change(self.build), ..self }
    }

    /// A cluster whose first node runs.
    pub fn start(self) -> Cluster {
        let mut cluster = self.lay_out();
        cluster.found();
        cluster
    }

    /// A cluster of which no node runs.
    pub fn lay_out(self) -> Cluster {
        // A server without Galera makes the data, as many clusters begin.
        let mut server = self.build.clone().start();
        server.sql(
            "CREATE USER sst@localhost IDENTIFIED BY 'secret';
             GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR ON *.* TO sst@localhost;
             CREATE DATABASE shop;
             CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, c VARCHAR(120), pad VARCHAR(200));
             INSERT INTO shop.t (c, pad) SELECT LEFT(SHA2(seq, 512), 120), REPEAT(MD5(seq), 4) FROM test.seq_1_to_10000",
        );
        server.stop();
        let ports: Vec<u16> = std::iter::repeat_with(free_port).take(9).collect();
        let peers = [0, 3, 6].map(|at| format!("127.0.0.1:{}", ports[at])).join(",");
        let node = |number: usize| {
            let home = scratch();
            let (data, at) = (home.path().join("data"), 3 * (number - 1));
            template::skeleton(home.path());
            if number == 1 {
                for name in ["data", "undo", "outside"] {
                    let (from, to) = (server.home().join(name), home.path().join(name));
                    assert!(Command::new("cp").arg("-aT").arg(from).arg(to).status().unwrap().success());
                }
            }
            let flavour = if number == 1 { self.flavour } else { self.joiner };
            let auth = if flavour == Flavour::Installed { "wsrep_sst_auth=sst:secret" } else { "" };
            let (own, ist, receive) = (ports[at], ports[at + 1], ports[at + 2]);
            let (host, provider, server, sst) = (&self.host, &self.provider, &self.server, &self.sst);
            let text = format!(
                "[mariadbd]\nuser=root\ndatadir=@HOME@/data\ntmpdir=@HOME@/tmp\nsocket=@HOME@/socket\npid-file=@HOME@/pid\n\
                 log-error=@HOME@/error.log\nskip-networking\nbinlog_format=ROW\ninnodb_autoinc_lock_mode=2\n\
                 innodb_buffer_pool_size=48M\ninnodb_log_file_size=32M\nperformance_schema=OFF\nwsrep_on=ON\n\
                 wsrep_provider={PROVIDER}\nwsrep_provider_options=\"gmcast.listen_addr=tcp://127.0.0.1:{own};\
                 ist.recv_addr=127.0.0.1:{ist};gcache.size=32M{provider}\"\nwsrep_cluster_name=lab\n\
                 wsrep_cluster_address=gcomm://{peers}\nwsrep_node_name=node{number}\nwsrep_node_address=127.0.0.1:{own}\n\
                 wsrep_sst_method=xb\nwsrep_sst_receive_address={host}:{receive}\n{auth}\nplugin-dir={}\n{server}\n\
                 [sst]\nsst-log-archive-dir=@HOME@/old-logs\n{sst}\n",
                flavour.plugins().display(),
            );
            let text = text.replace("@HOME@", &home.path().display().to_string());
            fs::write(home.path().join("my.cnf"), text).unwrap();
            Node { data, home, flavour, child: None, wrapper: Vec::new() }
        };
        Cluster { first: node(1), second: node(2), third: node(3) }
    }
}

impl Cluster {
    /// A cluster whose first node runs. `extra` goes into the option files of all: groups and lines. `host` is where the
    /// others get their data.
    pub fn start(flavour: Flavour, host: &str, extra: &str) -> Cluster {
        Lab::new(flavour).host(host).sst(extra).start()
    }

    /// Starts the first node as the first of a cluster.
    pub fn found(&mut self) {
        let state = self.first.data().join("grastate.dat");
        if let Ok(text) = fs::read_to_string(&state) {
            fs::write(&state, text.replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1")).unwrap();
        }
        self.first.launch(&["--wsrep-new-cluster"]);
        self.first.synced().unwrap_or_else(|log| panic!("the first node does not start:\n{log}"));
    }

    /// All nodes that run have the same rows in all tables of `shop`, and see each other.
    pub fn assert_equal(&mut self) {
        let mut nodes = vec![&self.first];
        for node in [&mut self.second, &mut self.third] {
            if !node.ended() {
                nodes.push(node);
            }
        }
        assert!(nodes.len() > 1, "only one node runs");
        for node in &nodes {
            assert_eq!(node.status("wsrep_cluster_size"), nodes.len().to_string());
        }
        let sums: Vec<_> = nodes.iter().map(|node| node.sums()).collect();
        assert!(sums.iter().all(|one| *one == sums[0]), "{sums:?}");
    }
}

impl Node {
    fn launch(&mut self, more: &[&str]) {
        let (server, mut wrapper) = (self.flavour.server(), self.wrapper.iter());
        let mut command = Command::new(wrapper.next().map_or(server.as_os_str(), |program| program.as_ref()));
        if !self.wrapper.is_empty() {
            command.args(wrapper).arg(&server);
        }
        command.arg(format!("--defaults-file={}", self.home.path().join("my.cnf").display())).args(more);
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

    /// The checksums of the tables of `shop`, when all that others have committed before is here.
    pub fn sums(&self) -> Vec<(String, Option<u64>)> {
        let mut conn = self.connect().unwrap();
        conn.query_drop("SET wsrep_sync_wait=15").unwrap();
        let tables: Vec<String> = conn.query("SHOW TABLES FROM shop").unwrap();
        assert!(!tables.is_empty());
        tables.iter().flat_map(|table| conn.query(format!("CHECKSUM TABLE shop.{table}")).unwrap()).collect()
    }

    /// The server's process.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its data directory is this one, which is empty; before its first start.
    pub fn move_to(&mut self, data: &Path) {
        self.set(&format!("[mariadbd]\ndatadir={}", data.display()));
        self.data = data.to_path_buf();
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

/// Writes to a node until the value is dropped, whatever becomes of the node.
pub struct Writer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn on(node: &Node) -> Writer {
        let (over, socket) = (Arc::new(AtomicBool::new(false)), node.home().join("socket"));
        let ended = over.clone();
        let work = move || {
            let mut conn = None;
            while !ended.load(Relaxed) {
                let written = conn.as_mut().map(|conn: &mut Conn| {
                    conn.query_drop("INSERT INTO shop.t (c, pad) VALUES (UUID(), REPEAT(MD5(RAND()), 4))")?;
                    conn.query_drop("UPDATE shop.t SET c = UUID() WHERE id = 1 + FLOOR(RAND() * 10000)")
                });
                if !matches!(written, Some(Ok(()))) {
                    std::thread::sleep(Duration::from_millis(50));
                    conn = connect(&socket).ok();
                }
            }
        };
        Writer { over, thread: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
