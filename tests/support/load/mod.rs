//! Write loads in the background. Every worker has its own connection, and its own seed, which decides all that it
//! does.
//!
//! Everything can be replayed from the binlog: a load must write the same on a server that replays it.

mod bank;
mod builds;
mod ddl;
mod engines;
mod imports;
mod odd;
mod rows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::{Family, Random, Server, wait_until};

pub use bank::OPENING;

/// How long a load may take to make progress, even while a lock blocks it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A load: its tables, and what one worker does again and again.
pub(super) struct Kind {
    name: &'static str,
    /// Statements that make and fill its tables.
    schema: fn(Family) -> Vec<String>,
    step: fn(&mut Worker) -> mysql::Result<()>,
}

/// What a step works with.
pub(super) struct Worker {
    conn: Conn,
    /// Where the server keeps its files, and a directory beside.
    data: PathBuf,
    home: PathBuf,
    family: Family,
    random: Random,
    /// Counted from 0 within a kind.
    number: usize,
    /// Steps done.
    step: u64,
}

/// The description of a load, to be started.
pub struct Load {
    socket: PathBuf,
    data: PathBuf,
    home: PathBuf,
    family: Family,
    kinds: Vec<(&'static Kind, usize)>,
    seed: u64,
}

impl Load {
    /// A load on this server, with nothing to do yet.
    pub fn on(server: &Server) -> Self {
        Load {
            socket: server.socket(),
            data: server.data().to_path_buf(),
            home: server.home().to_path_buf(),
            family: server.flavour().family(),
            kinds: Vec::new(),
            seed: 1,
        }
    }

    /// Bank transfers: the sum of all balances never changes, and every balance follows from the ledger.
    #[must_use]
    pub fn bank(self, workers: usize) -> Self {
        self.with(&bank::BANK, workers)
    }

    /// Random writes as sysbench does, with rows up to 40 KB.
    #[must_use]
    pub fn rows(self, workers: usize) -> Self {
        self.with(&rows::ROWS, workers)
    }

    /// Tables of every row format, compressed, partitioned and full-text.
    #[must_use]
    pub fn formats(self, workers: usize) -> Self {
        self.with(&rows::FORMATS, workers)
    }

    /// Tables of other engines: Aria of both kinds (MariaDB), MyISAM, CSV.
    #[must_use]
    pub fn engines(self, workers: usize) -> Self {
        self.with(&engines::ENGINES, workers)
    }

    /// An Archive table, which takes new rows only. What mariadb-backup copies of it under a load may be broken.
    #[must_use]
    pub fn archive(self, workers: usize) -> Self {
        self.with(&engines::ARCHIVE, workers)
    }

    /// Create, drop, rename, truncate, rebuild, index, partition, full-text, swap, across databases.
    #[must_use]
    pub fn ddl(self, workers: usize) -> Self {
        self.with(&ddl::STORM, workers)
    }

    /// Of MySQL: indexes built without redo in tablespaces of every kind, partitions exchanged, undo truncated.
    #[must_use]
    pub fn builds(self, workers: usize) -> Self {
        self.with(&builds::BUILDS, workers)
    }

    /// Tables discarded and imported, swapped, exchanged with partitions. A backup may end with 5 for it.
    #[must_use]
    pub fn imports(self, workers: usize) -> Self {
        self.with(&imports::IMPORTS, workers)
    }

    /// Of MariaDB: spatial indexes, instant ALTER, wide rows of the oldest format, long keys.
    #[must_use]
    pub fn odd(self, workers: usize) -> Self {
        self.with(&odd::ODD, workers)
    }

    /// All of the above that both families support and that every backup must handle.
    #[must_use]
    pub fn everything(self) -> Self {
        self.bank(2).rows(1).formats(1).engines(1).archive(1).ddl(1)
    }

    /// Another seed; the default is 1.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn with(mut self, kind: &'static Kind, workers: usize) -> Self {
        self.kinds.push((kind, workers));
        self
    }

    /// Makes and fills the tables, without a load on them.
    pub fn prepare(&self) {
        let mut conn = self.connect();
        for (kind, _) in &self.kinds {
            for statement in (kind.schema)(self.family) {
                conn.query_drop(&statement).unwrap_or_else(|error| panic!("{error}\nin: {statement:.300}"));
            }
        }
    }

    /// In a database, so that sequences (`seq_1_to_500`) are found without one before their name.
    fn connect(&self) -> Conn {
        let mut conn = super::server::connect(&self.socket).expect("cannot connect for a load");
        conn.query_drop("USE test").expect("there is no database test");
        conn
    }

    /// Makes the tables and sets the workers to work.
    pub fn start(self) -> Working {
        self.prepare();
        self.go_on()
    }

    /// Sets the workers to work on tables that are there already.
    pub fn go_on(self) -> Working {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (kind, workers) in &self.kinds {
            for number in 0..*workers {
                let conn = self.connect();
                let random = Random::new(self.seed.wrapping_mul(1000).wrapping_add(threads.len() as u64));
                let (data, home) = (self.data.clone(), self.home.clone());
                let worker = Worker { conn, data, home, family: self.family, random, number, step: 0 };
                let (kind, done) = (*kind, Arc::new(AtomicU64::new(0)));
                let (stop, count) = (stop.clone(), done.clone());
                let thread = std::thread::spawn(move || work(kind, worker, &stop, &count));
                threads.push(Thread { kind: kind.name, done, thread });
            }
        }
        Working { stop, threads }
    }
}

/// A running load. It stops when it is dropped.
pub struct Working {
    stop: Arc<AtomicBool>,
    threads: Vec<Thread>,
}

struct Thread {
    kind: &'static str,
    /// Steps done.
    done: Arc<AtomicU64>,
    thread: JoinHandle<Result<(), String>>,
}

impl Working {
    /// Steps done so far, by all workers together.
    pub fn done(&self) -> u64 {
        self.threads.iter().map(|thread| thread.done.load(Relaxed)).sum()
    }

    /// Steps done by the slowest worker of a kind.
    fn least(&self, kind: &str) -> u64 {
        let workers = self.threads.iter().filter(|thread| thread.kind == kind);
        workers.map(|thread| thread.done.load(Relaxed)).min().unwrap_or_else(|| panic!("no load {kind}"))
    }

    /// Waits until so many more steps are done.
    pub fn wait_for(&self, steps: u64) {
        let goal = self.done() + steps;
        wait_until("the write load", PATIENCE, || self.done() >= goal || self.ended());
    }

    /// Waits until each worker of this kind (`bank`, `rows`, `formats`, `engines`, `archive`, `ddl`,
    /// `builds`) has done so many more.
    pub fn wait_for_each(&self, kind: &str, steps: u64) {
        let goal = self.least(kind) + steps;
        wait_until("the write load", PATIENCE, || self.least(kind) >= goal || self.ended());
    }

    fn ended(&self) -> bool {
        self.threads.iter().any(|thread| thread.thread.is_finished())
    }

    /// Lets each worker finish its step; returns how many steps each kind has done. Panics if a worker had an error
    /// that its load does not allow; a stopped server is not such an error.
    pub fn stop(mut self) -> BTreeMap<&'static str, u64> {
        self.stop.store(true, Relaxed);
        let mut counts = BTreeMap::new();
        for thread in std::mem::take(&mut self.threads) {
            if let Err(error) = thread.thread.join().expect("a load panicked") {
                panic!("load {}: {error}", thread.kind);
            }
            *counts.entry(thread.kind).or_insert(0) += thread.done.load(Relaxed);
        }
        counts
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            let _ = thread.thread.join();
        }
    }
}

fn work(kind: &Kind, mut worker: Worker, stop: &AtomicBool, done: &AtomicU64) -> Result<(), String> {
    while !stop.load(Relaxed) {
        match (kind.step)(&mut worker) {
            Ok(()) => {
                worker.step += 1;
                done.fetch_add(1, Relaxed);
            }
            Err(error) if passing(&error) => worker.conn.query_drop("ROLLBACK").unwrap_or_default(),
            Err(error) if lost(&error) => break,
            Err(error) => return Err(format!("after {} steps: {error}", worker.step)),
        }
    }
    Ok(())
}

/// Two workers in each other's way: lock wait timeout, deadlock, record changed, table definition changed.
fn passing(error: &mysql::Error) -> bool {
    matches!(error, mysql::Error::MySqlError(error) if matches!(error.code, 1205 | 1213 | 1020 | 1412))
}

/// The server has stopped, or is stopping: shutdown in progress, connection killed.
fn lost(error: &mysql::Error) -> bool {
    match error {
        mysql::Error::MySqlError(error) => matches!(error.code, 1053 | 1927 | 1317),
        mysql::Error::IoError(_) | mysql::Error::CodecError(_) | mysql::Error::DriverError(_) => true,
        _ => false,
    }
}

/// The statements of a schema, from one text.
fn statements(text: &str) -> Vec<String> {
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}
