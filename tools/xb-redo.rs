//! Catches the redo log that a backup needs while the backup streams by.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use xb::cli::{self, Size, Tool};
use xb::redo::filter;

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Add the redo log to the stream of xb-snap",
    man: include_str!("../man/xb-redo.1.in"),
};

#[derive(Args)]
struct Redo {
    /// Read the log below DIR, when it is not where the stream says
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,
    /// Keep log that cannot be sent yet in an unlinked file in DIR [default: $TMPDIR or /tmp]
    #[arg(long, value_name = "DIR")]
    spool_dir: Option<PathBuf>,
    /// Keep up to SIZE of it in memory
    #[arg(long, value_name = "SIZE", default_value = "8M")]
    spool_memory: Size,
    /// Fail when more than SIZE has to be kept [default: no limit]
    #[arg(long, value_name = "SIZE")]
    spool_limit: Option<Size>,
}

fn main() -> ExitCode {
    cli::run(&TOOL, |args: Redo, report| {
        let options = filter::Options {
            datadir: args.datadir,
            spool_dir: args.spool_dir.unwrap_or_else(std::env::temp_dir),
            spool_memory: args.spool_memory.0,
            spool_limit: args.spool_limit.map_or(u64::MAX, |limit| limit.0),
        };
        filter::run(&options, cli::stdin()?, cli::stdout()?, report)
    })
}
