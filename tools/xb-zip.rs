//! Compress the members of an xbstream, or decompress them.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use xb::budget::Budget;
use xb::cli::{self, Console, Limits, Size, Tool};
use xb::codec::members;
use xb::codec::whole_input;
use xb::codec::{Codec, PIECE};
use xb::zip::{Algorithm, Unzip, Zip};
use xb::{Error, Result};

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Compress the members of an xbstream, or decompress them",
    man: include_str!("../man/xb-zip.1.in"),
};

#[derive(Args)]
struct Options {
    /// Decompress zstd, lz4 and qpress; the first bytes of each member tell its format
    #[arg(short = 'd', long)]
    decompress: bool,
    /// Compress to this format
    #[arg(short = 'a', long, value_name = "FORMAT", default_value = "zstd", conflicts_with = "decompress")]
    algorithm: Format,
    /// Put at most SIZE of content into a frame, 4k to 1m
    #[arg(long, value_name = "SIZE", default_value = "1m", conflicts_with = "decompress")]
    chunk_size: Size,
    /// Compress or decompress the whole input, which need not be a stream
    #[arg(long)]
    raw: bool,
    /// Accept an empty input as a stream without members
    #[arg(long, conflicts_with = "raw")]
    allow_empty: bool,
    /// Use N threads [default: number of processors]
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// zstd level [default: -1]
    #[arg(value_name = "-1..-19", allow_negative_numbers = true, conflicts_with = "decompress",
          value_parser = clap::value_parser!(i32).range(-19..=-1))]
    level: Option<i32>,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Zstd,
    Lz4,
}

fn main() -> ExitCode {
    cli::run(&TOOL, |options: Options, console| {
        let budget = options.limits.budget();
        if options.decompress {
            run(&Unzip::within(&budget), &options, budget, console)
        } else {
            run(&options.zip()?, &options, budget, console)
        }
    })
}

fn run(codec: &impl Codec, options: &Options, budget: Budget, console: &Console) -> Result<()> {
    let threads = cli::all_threads(options.threads);
    let (input, output) = (cli::stdin()?, cli::stdout()?);
    if options.raw {
        return whole_input::rewrite(codec, input, output, threads, console);
    }
    cli::warn_of_readers(console);
    let how = members::Options {
        allow_empty: options.allow_empty,
        budget,
        holes: options.limits.holes(),
        ..members::Options::new(threads)
    };
    members::rewrite(codec, input, output, &how, console)
}

impl Options {
    fn zip(&self) -> Result<Zip> {
        let frame = usize::try_from(self.chunk_size.0).unwrap_or(usize::MAX);
        if !(4096..=PIECE).contains(&frame) {
            return Err(Error::usage("--chunk-size", "4k to 1m are possible"));
        }
        let algorithm = match (self.algorithm, self.level) {
            (Format::Zstd, level) => Algorithm::Zstd(-level.unwrap_or(-1)),
            (Format::Lz4, None | Some(-1)) => Algorithm::Lz4,
            (Format::Lz4, Some(level)) => return Err(Error::usage(level, "lz4 has no levels")),
        };
        Ok(Zip { algorithm, frame })
    }
}
