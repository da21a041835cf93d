//! Catches the redo log that a backup needs while the backup streams by; restores with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args};
use xb::Result;
use xb::budget::Budget;
use xb::capture;
use xb::cli::{self, Console, Size, Tool};
use xb::restore::{apply, copy_back, merge, status};
use xb::stream::holes::Holes;

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Add the redo log to the stream of xb-snap; restore a backup",
    man: include_str!("../man/xb-redo.1.in"),
};

#[derive(Args)]
#[command(group = ArgGroup::new("place").args(["datadir", "defaults_file"]).multiple(true))]
#[command(group = ArgGroup::new("mode").args(["apply", "merge", "status", "copy_back"]))]
struct Redo {
    /// Where the redo log is looked for, if not where the stream says; with --copy-back, the directory to fill
    #[arg(long, value_name = "DIR", conflicts_with_all = ["apply", "merge", "status"])]
    datadir: Option<PathBuf>,
    /// Keys of an encrypted redo log of MySQL: the data file of component_keyring_file
    #[arg(long, value_name = "FILE", conflicts_with = "mode")]
    keyring: Option<PathBuf>,
    /// Keep log that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /var/tmp]
    #[arg(long, value_name = "DIR", conflicts_with = "mode")]
    spool_dir: Option<PathBuf>,
    /// Keep up to SIZE of it in memory
    #[arg(long, value_name = "SIZE", default_value = "8M", conflicts_with = "mode")]
    spool_memory: Size,
    /// Fail when more than SIZE has to be kept [default: no limit]
    #[arg(long, value_name = "SIZE", conflicts_with = "mode")]
    spool_limit: Option<Size>,
    /// Most memory for names, open members and tablespaces; more is needed in all
    #[arg(long, value_name = "SIZE", default_value = "44m", conflicts_with = "mode")]
    memory: Size,
    #[command(flatten)]
    restore: Restore,
}

#[derive(Args)]
#[command(next_help_heading = "Restoring")]
struct Restore {
    /// Make the backup in DIR a data directory: a server recovers it, offline
    #[arg(long, value_name = "DIR")]
    apply: Option<PathBuf>,
    /// Make increments part of the backup in DIR, without applying it
    #[arg(long, value_name = "DIR", requires = "incremental_dir")]
    merge: Option<PathBuf>,
    /// The increments, unpacked, in the order in which they were made
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["status", "copy_back"], requires = "mode")]
    incremental_dir: Vec<PathBuf>,
    /// Say in one line what DIR is; exit status 0 if it can be used
    #[arg(long, value_name = "DIR")]
    status: Option<PathBuf>,
    /// Copy the applied backup in DIR into an empty data directory
    #[arg(long, value_name = "DIR", requires = "place")]
    copy_back: Option<PathBuf>,
    /// With --copy-back: the option file of the server, which says where its files are to be
    #[arg(long, value_name = "FILE", requires = "copy_back")]
    defaults_file: Option<PathBuf>,
    /// With --defaults-file: read its groups with this suffix, too
    #[arg(long, value_name = "SUFFIX", requires = "defaults_file")]
    defaults_group_suffix: Option<String>,
    /// With --copy-back: tables that had a DATA DIRECTORY in one of these go back there; separated by semicolons [default:
    /// innodb_directories of the option file]
    #[arg(long, value_name = "DIRS", value_delimiter = ';', requires = "copy_back")]
    innodb_directories: Vec<PathBuf>,
    /// Leave the backup as it is and apply, or merge, to a copy in NEWDIR
    #[arg(long, value_name = "NEWDIR", requires = "mode", conflicts_with_all = ["status", "copy_back"])]
    to: Option<PathBuf>,
    /// Read every file and hold it against the manifest, also those that are as xb-unpack left them
    #[arg(long, requires = "mode", conflicts_with_all = ["status", "copy_back"])]
    verify: bool,
    /// Most zeros by which increments let tablespaces grow, beside 128 for each byte that was copied [default: 1g]
    #[arg(long, value_name = "SIZE", requires = "incremental_dir")]
    hole_limit: Option<Size>,
    /// Memory for the server's buffer pool [default: by the log and what is free]
    #[arg(long, value_name = "SIZE", requires = "apply")]
    use_memory: Option<Size>,
    /// The server program [default: the newest that fits]
    #[arg(long, value_name = "PATH", requires = "apply")]
    server: Option<PathBuf>,
    /// An option for it that the backup lacks, or has another value of: where keys or plugins are on this host; with
    /// --copy-back, where files are to be, before what the option file says
    #[arg(long, value_name = "NAME=VALUE", requires = "mode", conflicts_with_all = ["merge", "status"], value_parser = server_option)]
    server_option: Vec<(String, String)>,
    /// With --apply: increments may follow; check everything, and leave the log to --copy-back, or to the server that is
    /// started on DIR. What a server would not do by itself is done now
    #[arg(long, requires = "apply", conflicts_with = "to")]
    wait: bool,
    /// With --status: print a JSON object instead of the line
    #[arg(long, requires = "status")]
    json: bool,
    /// With --copy-back: move the files; the backup is gone then
    #[arg(long, requires = "copy_back")]
    r#move: bool,
    /// With --copy-back: the data directory may hold something else, which stays; no file of the backup may be there
    #[arg(long, requires = "copy_back")]
    keep_existing: bool,
    /// Give the files to USER [default: the data directory's owner]
    #[arg(long, value_name = "USER[:GROUP]", requires = "copy_back")]
    owner: Option<String>,
    /// Read and copy in N threads [default: number of processors, at most 4]
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", requires = "mode", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// `file-key-management-filename=/etc/keys`.
fn server_option(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a server option is NAME=VALUE")?;
    Ok((name.replace('-', "_"), value.to_owned()))
}

fn main() -> ExitCode {
    cli::run(&TOOL, run)
}

fn run(args: Redo, console: &Console) -> Result<()> {
    let restore = args.restore;
    let threads = cli::threads(restore.threads);
    let thorough = if restore.verify { apply::Thorough::All } else { apply::Thorough::Changed };
    let holes = restore.hole_limit.map_or(Holes::LIMIT, |limit| limit.0);
    if let Some(dir) = restore.merge {
        let options =
            merge::Options { dir, increments: restore.incremental_dir, to: restore.to, threads, thorough, holes };
        return merge::run(&options, console).map(drop);
    }
    if let Some(dir) = restore.apply {
        let Restore { incremental_dir: increments, to, server, wait, .. } = restore;
        let memory = restore.use_memory.map(|size| size.0);
        let server_options = restore.server_option.into_iter().collect();
        let options =
            apply::Options { dir, increments, to, memory, server, server_options, threads, thorough, holes, wait };
        return apply::run(&options, console);
    }
    if let Some(dir) = restore.status {
        let status = status::of(&dir);
        let told = console.answer(if restore.json { &status.json } else { &status.line });
        return status.outcome.and(told);
    }
    if let Some(dir) = restore.copy_back {
        let Restore { r#move: take, owner, defaults_file, innodb_directories: directories, .. } = restore;
        let options = copy_back::Options {
            dir,
            datadir: args.datadir,
            defaults_file,
            group_suffix: restore.defaults_group_suffix,
            server_options: restore.server_option.into_iter().collect(),
            directories,
            keep: restore.keep_existing,
            take,
            owner,
            threads,
        };
        return copy_back::run(&options, console);
    }
    cli::warn_of_readers(console);
    let options = capture::Options {
        datadir: args.datadir,
        keyring: args.keyring,
        spool_dir: cli::spool_dir(args.spool_dir),
        spool_memory: args.spool_memory.0,
        spool_limit: args.spool_limit.map_or(u64::MAX, |limit| limit.0),
        budget: Budget::new(args.memory.0),
    };
    capture::run(&options, cli::stdin()?, cli::stdout()?, console)
}
