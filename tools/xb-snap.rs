//! Copies a running server's files to a stream.

use std::alloc::System;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use xb::cli::{self, Connection, History, Increment, Partial, Tool};
use xb::io::cache::Policy;
use xb::snap::{self, Job, LockDdl};
use zeroizing_alloc::ZeroAlloc;

/// Freed memory is overwritten: option files, and what the client library sends, contain the password.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Copy a running MariaDB or MySQL server to a stream",
    man: include_str!("../man/xb-snap.1.in"),
};

#[derive(Args)]
struct Snap {
    /// The server's data directory, as seen from here
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,
    /// Continue if nothing proves that the data directory belongs to the server that answers; if it is shown to be
    /// another server's, it is still refused
    #[arg(long, conflicts_with = "offline")]
    trust_datadir: bool,
    /// Copy with N threads [default: number of processors, at most 4]
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// How to read files; auto leaves the page cache unchanged
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    cache: Policy,
    /// When to block DDL: early, from the start; end, for a short time at the end, when changed tables are copied
    /// again; off (MariaDB only), for a short time at the end, and the run fails if a table has changed [default: end
    /// for MariaDB, early for MySQL]
    #[arg(long, value_enum, value_name = "WHEN")]
    lock_ddl: Option<LockDdl>,
    /// Fail if a lock is not granted within S seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    lock_timeout: u64,
    /// Take no locks; safe only while no DDL runs and nothing writes to tables that are not InnoDB
    #[arg(long, conflicts_with = "lock_ddl")]
    no_lock: bool,
    /// Stop replication at a moment when it has no temporary table open
    #[arg(long, visible_alias = "safe-slave-backup")]
    safe_replica: bool,
    /// Add xtrabackup_slave_info: the statements to replicate from this server's sources
    #[arg(long, visible_alias = "slave-info")]
    replica_info: bool,
    /// Add xtrabackup_galera_info: the state of this Galera node
    #[arg(long)]
    galera_info: bool,
    /// Also write xb_begin, xb_pages, xtrabackup_checkpoints and xtrabackup_info to DIR, once the next program has read
    /// the whole stream: all that --incremental-basedir needs
    #[arg(long, value_name = "DIR")]
    extra_lsndir: Option<PathBuf>,
    /// Have the server write out its pages and make a checkpoint before: less log is needed, and the server has more to do
    #[arg(long, visible_alias = "innodb-log-checkpoint-now", conflicts_with = "offline")]
    checkpoint_now: bool,
    /// Keep files copied under a lock that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /var/tmp]
    #[arg(long, value_name = "DIR")]
    spool_dir: Option<PathBuf>,
    /// Copy a stopped server, without a connection; option files and --datadir say where it is
    #[arg(long, conflicts_with_all = ["no_lock", "safe_replica", "replica_info", "galera_info"])]
    offline: bool,
    #[command(flatten)]
    increment: Increment,
    #[command(flatten)]
    history: History,
    #[command(flatten)]
    partial: Partial,
    #[command(flatten)]
    connection: Connection,
}

fn main() -> ExitCode {
    cli::run(&TOOL, |args: Snap, report| {
        let command: Vec<_> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let lock_timeout = Duration::from_secs(args.lock_timeout);
        let (sources, login) = (args.connection.sources(), args.connection.login(lock_timeout, report)?);
        let connect = || login.clone().or_from(&sources.read(&())?)?.connect();
        let spool_dir = cli::spool_dir(args.spool_dir);
        let base = args.increment.asked().base(connect, &spool_dir, report)?;
        let job = Job {
            sources,
            login,
            datadir: args.datadir,
            trust_datadir: args.trust_datadir,
            threads: cli::threads(args.threads),
            policy: args.cache,
            lock_ddl: args.lock_ddl,
            lock_timeout,
            offline: args.offline,
            no_lock: args.no_lock,
            safe_replica: args.safe_replica,
            replica_info: args.replica_info,
            galera_info: args.galera_info,
            filter: args.partial.wanted().filter(report)?,
            base,
            extra_lsndir: args.extra_lsndir,
            history: args.history.series(),
            checkpoint_now: args.checkpoint_now,
            spool_dir,
            command: command.join(" "),
        };
        cli::warn_of_readers(report);
        snap::run(&job, cli::stdout()?, report)
    })
}
