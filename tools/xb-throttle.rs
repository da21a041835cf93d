//! Passes a stream on at a limited rate, and shows progress.

use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use xb::Result;
use xb::cli::{self, Console, Pace, Seconds, Size, Tool};
use xb::throttle::{self, Options, remote};

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Limit the rate of a stream, and show how far it is",
    man: include_str!("../man/xb-throttle.1.in"),
};

#[derive(Args)]
struct Throttle {
    /// Limit the rate to RATE bytes per second; 0 for no limit
    #[arg(short = 'L', long, value_name = "RATE", default_value = "0")]
    rate_limit: Size,
    /// Expect SIZE bytes; auto: the estimate in the first member of the stream
    #[arg(short, long, value_name = "SIZE", default_value = "auto")]
    size: Expected,
    /// Print numbers only: per cent, or bytes if the size is not known
    #[arg(short, long)]
    numeric: bool,
    /// Show progress every SEC seconds [default: 1; in a log 5]
    #[arg(short, long, value_name = "SEC")]
    interval: Option<Seconds>,
    /// Show NAME before the progress
    #[arg(short = 'N', long, value_name = "NAME")]
    name: Option<String>,
    /// After a stall, send at most the amount for MS milliseconds at once
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    burst: u64,
    /// Set the rate of the running xb-throttle with this process id to that of -L
    #[arg(short = 'R', long, value_name = "PID", requires = "rate_limit")]
    remote: Option<i32>,
}

/// A size, or none.
#[derive(Clone)]
struct Expected(Option<u64>);

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Expected(None)) } else { Ok(Expected(Some(text.parse::<Size>()?.0))) }
    }
}

fn main() -> ExitCode {
    cli::run(&TOOL, run)
}

fn run(args: Throttle, console: &Console) -> Result<()> {
    let rate = args.rate_limit.0;
    if let Some(process) = args.remote {
        return remote::change(process, rate);
    }
    let options = Options { rate, burst_ms: args.burst, size: args.size.0, names: console.verbose() };
    let pace = Pace { interval: args.interval.map(|Seconds(time)| time), numeric: args.numeric, name: args.name };
    let (input, output) = (cli::stdin()?, cli::stdout()?);
    cli::warn_of_readers(console);
    console.metered(pace, || throttle::run(&options, input, output, console))
}
