//! Passes a stream on, and computes its sums.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use xb::Result;
use xb::cli::{self, Console, Limits, Tool};
use xb::sum::{self, Algorithm, Options, What};

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Sum a stream, and its members, while it passes",
    man: include_str!("../man/xb-sum.1.in"),
};

#[derive(Args)]
struct Sum {
    /// Use this algorithm; may be repeated [default: sha1; with -c, that of its file]
    #[arg(short, long = "algorithm", value_name = "NAME", value_enum, value_delimiter = ',')]
    algorithms: Vec<Algorithm>,
    /// Write the sums to FILE, which is complete and synced to disk before stdout is closed [default: to stderr]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sum each member: lines with sum, size and name; also: in addition to the stream, only: instead of it
    #[arg(long, value_name = "WHICH", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "also")]
    members: Option<Which>,
    /// Exit with status 3 unless the sums are those in FILE
    #[arg(short, long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Accept an empty input
    #[arg(long)]
    allow_empty: bool,
    /// Compare two files of sums, and read nothing else
    #[arg(long, value_names = ["A", "B"], num_args = 2, conflicts_with_all = ["algorithms", "output", "members", "check", "allow_empty"])]
    compare: Vec<PathBuf>,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Also,
    Only,
}

fn main() -> ExitCode {
    cli::run(&TOOL, run)
}

fn run(args: Sum, console: &Console) -> Result<()> {
    if let [a, b] = args.compare.as_slice() {
        return sum::compare(a, b);
    }
    let what = match args.members {
        None => What::Stream,
        Some(Which::Also) => What::Both,
        Some(Which::Only) => What::Members,
    };
    let silent = args.output.is_some() || args.check.is_some();
    let options = Options {
        algorithms: args.algorithms,
        what,
        output: args.output,
        check: args.check,
        allow_empty: args.allow_empty,
        budget: args.limits.budget(),
        holes: args.limits.holes(),
    };
    cli::warn_of_readers(console);
    let lines = sum::run(&options, cli::stdin()?, &cli::stdout()?, console)?;
    if !silent {
        console.result(&lines);
    }
    Ok(())
}
