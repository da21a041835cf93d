//! Seeds a node that joins a Galera cluster, by our programs.

use std::alloc::System;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use xb::Result;
use xb::cli::{self, Tool};
use xb::sst::args::{Address, Call, Role};
use xb::sst::protocol::Position;
use xb::sst::{self, Voice};
use zeroizing_alloc::ZeroAlloc;

/// What is freed is overwritten: there may have been a password.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Transfer the state of a Galera node to one that joins; mariadbd calls it",
    man: include_str!("../man/wsrep_sst_xb.1.in"),
};

#[derive(Args)]
struct Sst {
    /// Which side of the transfer this is
    #[arg(long, value_name = "ROLE", required_unless_present_any = ["seed", "generate"])]
    role: Option<Side>,
    /// Where the joiner listens; the port is 4444 if there is none
    #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["seed", "generate"])]
    address: Option<String>,
    /// Data directory
    #[arg(long, value_name = "DIR", required_unless_present_any = ["seed", "generate"])]
    datadir: Option<PathBuf>,
    /// Write the position of the backup in DIR, which is applied or copied back, into its grastate.dat; nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["role", "address", "datadir"])]
    seed: Option<PathBuf>,
    /// Read this option file only
    #[arg(long, value_name = "FILE")]
    defaults_file: Option<PathBuf>,
    /// Read this option file after the system's
    #[arg(long, value_name = "FILE")]
    defaults_extra_file: Option<PathBuf>,
    /// Also read groups with this suffix
    #[arg(long, value_name = "SUFFIX")]
    defaults_group_suffix: Option<String>,
    /// Joiner: process of mariadbd; the transfer ends when it does
    #[arg(long, value_name = "PID")]
    parent: Option<i32>,
    /// Donor: socket for clients
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Donor: port for clients; the socket is used
    #[arg(long, value_name = "N")]
    local_port: Option<u16>,
    /// Donor: position in the history of the cluster
    #[arg(long, value_name = "UUID:SEQNO")]
    gtid: Option<String>,
    /// Donor: domain of GTIDs
    #[arg(long, value_name = "N")]
    gtid_domain_id: Option<u32>,
    /// Donor: send no data, for an incremental transfer follows
    #[arg(long)]
    bypass: bool,
    /// Base name of the binary log
    #[arg(long, value_name = "NAME")]
    binlog: Option<PathBuf>,
    /// Index of the binary log
    #[arg(long, value_name = "NAME")]
    binlog_index: Option<PathBuf>,
    /// 1 if wsrep_debug is on; has no effect
    #[arg(long, value_name = "0|1")]
    progress: Option<u8>,
    /// The arguments of mariadbd; the last option
    #[arg(long, value_name = "ARGS", num_args = 0.., allow_hyphen_values = true)]
    mysqld_args: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Joiner,
    Donor,
}

fn main() -> ExitCode {
    cli::sst(&TOOL, run)
}

fn run(args: Sst, voice: &Arc<dyn Voice>) -> Result<()> {
    if let Some(dir) = args.seed {
        let position = sst::seed::run(&dir)?;
        voice.say(&format!("{}: has the state {}", dir.display(), position.bare()));
        return Ok(());
    }
    let _ = (args.local_port, args.progress);
    let domain = args.gtid_domain_id.unwrap_or_default();
    let position = args.gtid.map(|text| Position::parse(&text)).transpose()?;
    let call = Call {
        role: if matches!(args.role, Some(Side::Donor)) { Role::Donor } else { Role::Joiner },
        address: Address::parse(&args.address.unwrap_or_default())?,
        datadir: args.datadir.unwrap_or_default(),
        defaults_file: args.defaults_file,
        defaults_extra_file: args.defaults_extra_file,
        defaults_group_suffix: args.defaults_group_suffix,
        parent: args.parent,
        socket: args.socket,
        position: position.map(|position| position.in_domain(domain)),
        bypass: args.bypass,
        binlog: args.binlog,
        binlog_index: args.binlog_index,
    };
    sst::run(&call, &args.mysqld_args, voice)
}
