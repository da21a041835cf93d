//! Captures the redo log for a backup while the backup passes; restores backups.

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
    /// Directory of the redo log, if it is not where the stream says; with --copy-back, the data directory to fill
    #[arg(long, value_name = "DIR", conflicts_with_all = ["apply", "merge", "status"])]
    datadir: Option<PathBuf>,
    /// Keys for an encrypted redo log of MySQL: the data file of component_keyring_file
    #[arg(long, value_name = "FILE", conflicts_with = "mode")]
    keyring: Option<PathBuf>,
    /// Keep log that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /var/tmp]
    #[arg(long, value_name = "DIR", conflicts_with = "mode")]
    spool_dir: Option<PathBuf>,
    /// Keep up to SIZE of it in memory
    #[arg(long, value_name = "SIZE", default_value = "8M", conflicts_with = "mode")]
    spool_memory: Size,
    /// Fail if more than SIZE has to be kept [default: no limit]
    #[arg(long, value_name = "SIZE", conflicts_with = "mode")]
    spool_limit: Option<Size>,
    /// Use at most SIZE of memory for names, open members and tablespaces; the program needs more in total
    #[arg(long, value_name = "SIZE", default_value = "44m", conflicts_with = "mode")]
    memory: Size,
    #[command(flatten)]
    restore: Restore,
}

#[derive(Args)]
#[command(next_help_heading = "Restoring")]
struct Restore {
    /// Turn the backup in DIR into a data directory: a server recovers it, offline
    #[arg(long, value_name = "DIR")]
    apply: Option<PathBuf>,
    /// Merge increments into the backup in DIR, without applying it
    #[arg(long, value_name = "DIR", requires = "incremental_dir")]
    merge: Option<PathBuf>,
    /// Unpacked increments, in the order in which they were made
    #[arg(long, value_name = "DIR", num_args = 1.., conflicts_with_all = ["status", "copy_back"], requires = "mode")]
    incremental_dir: Vec<PathBuf>,
    /// Describe DIR in one line; exit status 0 if it can be used
    #[arg(long, value_name = "DIR")]
    status: Option<PathBuf>,
    /// Copy the applied backup in DIR into an empty data directory
    #[arg(long, value_name = "DIR", requires = "place")]
    copy_back: Option<PathBuf>,
    /// With --copy-back: the server's option file, which says where its files go
    #[arg(long, value_name = "FILE", requires = "copy_back")]
    defaults_file: Option<PathBuf>,
    /// With --defaults-file: read its groups with this suffix, too
    #[arg(long, value_name = "SUFFIX", requires = "defaults_file")]
    defaults_group_suffix: Option<String>,
    /// With --copy-back: return tables with a DATA DIRECTORY below one of these to it; separated by semicolons
    /// [default: innodb_directories of the option file]
    #[arg(long, value_name = "DIRS", value_delimiter = ';', requires = "copy_back")]
    innodb_directories: Vec<PathBuf>,
    /// Leave the backup unchanged, and apply or merge in a copy in NEWDIR
    #[arg(long, value_name = "NEWDIR", requires = "mode", conflicts_with_all = ["status", "copy_back"])]
    to: Option<PathBuf>,
    /// Read and verify every file, including those that have not changed since xb-unpack wrote them
    #[arg(long, requires = "mode", conflicts_with_all = ["status", "copy_back"])]
    verify: bool,
    /// Let increments add at most SIZE of zeros to tablespaces, in addition to 128 for each byte that was copied
    /// [default: 1g]
    #[arg(long, value_name = "SIZE", requires = "incremental_dir")]
    hole_limit: Option<Size>,
    /// Size of the server's buffer pool [default: depends on the log and the free memory]
    #[arg(long, value_name = "SIZE", requires = "apply")]
    use_memory: Option<Size>,
    /// Server program [default: the newest one of the right version]
    #[arg(long, value_name = "PATH", requires = "apply")]
    server: Option<PathBuf>,
    /// Set a server option that the backup lacks or that is different on this host, such as the path of keys or plugins;
    /// with --copy-back: where files go, instead of what the option file says
    #[arg(long, value_name = "NAME=VALUE", requires = "mode", conflicts_with_all = ["merge", "status"], value_parser = server_option)]
    server_option: Vec<(String, String)>,
    /// With --apply: increments may follow; check everything, and leave the log to --copy-back, or to the server that is
    /// started on DIR. What a server would not do by itself is done now
    #[arg(long, requires = "apply", conflicts_with = "to")]
    wait: bool,
    /// With --apply: also roll back XA transactions that clients have prepared and not ended; no increment fits any more
    #[arg(long, requires = "apply")]
    rollback_prepared: bool,
    /// With --apply: pass over damaged pages and files (innodb_force_recovery=1). Rows may be missing in the result: dump it,
    /// and do not go on with it
    #[arg(long, requires = "apply")]
    force_recovery: bool,
    /// With --apply: apply the log without a server. Only MariaDB; not with encryption
    #[arg(long, hide = true, requires = "apply", conflicts_with_all = ["server", "server_option", "wait", "rollback_prepared", "force_recovery"])]
    native: bool,
    /// With --status: print a JSON object instead of the line
    #[arg(long, requires = "status")]
    json: bool,
    /// With --copy-back: move the files; the backup no longer exists afterwards
    #[arg(long, requires = "copy_back")]
    r#move: bool,
    /// With --copy-back: the data directory may hold something else, which stays; no file of the backup may be there
    #[arg(long, requires = "copy_back")]
    keep_existing: bool,
    /// Give the files to USER [default: the data directory's owner]
    #[arg(long, value_name = "USER[:GROUP]", requires = "copy_back")]
    owner: Option<String>,
    /// Use N threads [default: number of processors, at most 4]
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
        let (rollback_prepared, forced) = (restore.rollback_prepared, restore.force_recovery);
        let memory = restore.use_memory.map(|size| size.0);
        let server_options = restore.server_option.into_iter().collect();
        let options = apply::Options {
            dir,
            increments,
            to,
            memory,
            server,
            server_options,
            threads,
            thorough,
            holes,
            wait,
            rollback_prepared,
            forced,
            native: restore.native,
        };
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
