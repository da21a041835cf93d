//! Turn an xbstream into files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use xb::budget::Budget;
use xb::cli::{self, Console, Size, Tool};
use xb::stream::pick::Patterns;
use xb::unpack::{self, Destination, Existing, Format, Listing, Options, Pages, Sparse};
use xb::{Error, Result};

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Turn an xbstream into files, list or verify it",
    man: include_str!("../man/xb-unpack.1.in"),
};

#[derive(Args)]
struct Unpack {
    /// Write into DIR; it is created if missing, and must be empty
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Allow a DIR that is not empty, and replace files in it
    #[arg(long)]
    overwrite: bool,
    /// Allow a DIR that is not empty, keep its files, and fail if the stream has a file of the same name
    #[arg(long, conflicts_with = "overwrite")]
    keep_existing: bool,
    /// Do not wait until everything is synced to disk
    #[arg(long)]
    no_sync: bool,
    /// Turn blocks of zeros into holes
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    sparse: Holes,
    /// List the members; write nothing
    #[arg(short = 't', long, conflicts_with = "verify")]
    list: bool,
    /// List as JSON, one object per line
    #[arg(long, requires = "list")]
    json: bool,
    /// Verify structure, checksums and manifest; write nothing
    #[arg(long)]
    verify: bool,
    /// Also verify every page of InnoDB tablespaces
    #[arg(long, requires = "verify")]
    pages: bool,
    /// Accept an empty input as a stream without members
    #[arg(long)]
    allow_empty: bool,
    /// Use N threads [default: number of processors, at most 4]
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Size of writes, 64k to 4m
    #[arg(long, value_name = "SIZE", default_value = "256k")]
    buffer_size: Size,
    /// Use at most SIZE of memory for names and open members; the program needs more in total
    #[arg(long, value_name = "SIZE", default_value = "44m")]
    memory: Size,
    /// As mbstream -x; has no effect
    #[arg(short = 'x', long, hide = true)]
    extract: bool,
    /// Write or list only members that match, or whose directory matches; all are verified
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Holes {
    Auto,
    Never,
}

fn main() -> ExitCode {
    cli::run(&TOOL, run)
}

fn run(args: Unpack, console: &Console) -> Result<()> {
    let _ = args.extract;
    no_file(&args.patterns)?;
    let sparse = match args.sparse {
        Holes::Auto => Sparse::Auto,
        Holes::Never => Sparse::Never,
    };
    let existing = match (args.overwrite, args.keep_existing) {
        (true, _) => Existing::Replace,
        (_, true) => Existing::Keep,
        _ => Existing::Refuse,
    };
    let format = if args.json { Format::Json } else { Format::Text };
    let pages = Pages::default();
    let inspect = |path: &[u8]| pages.inspect(path);
    let options = Options {
        destination: (!args.list && !args.verify).then_some(Destination {
            dir: args.directory,
            existing,
            sync: !args.no_sync,
            sparse,
        }),
        pick: Patterns::new(&args.patterns)?,
        list: args.list.then(xb::io::stdout).transpose()?.map(|out| Listing::new(out, format)),
        inspect: args.pages.then_some(&inspect),
        allow_empty: args.allow_empty,
        buffer: args.buffer_size.within("--buffer-size", unpack::BUFFER_MIN, unpack::BUFFER_MAX)?,
        budget: Budget::new(args.memory.0),
        threads: if args.list { 1 } else { cli::threads(args.threads) },
    };
    let summary = unpack::unpack(cli::stdin()?, &options, console)?;
    if args.pages {
        pages.finish(console)?;
    }
    if args.verify {
        console.verified(&summary);
    }
    Ok(())
}

/// Refuses a file as an operand: the stream comes from stdin, and the user would wait forever or see an error for an
/// empty input.
fn no_file(patterns: &[String]) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let device = std::fs::metadata("/dev/stdin").is_ok_and(|input| input.file_type().is_char_device());
    match patterns.iter().find(|pattern| device && std::path::Path::new(pattern).is_file()) {
        Some(file) => Err(Error::usage(file, "is a file here; operands name members of the stream on stdin")
            .hint(format_args!("xb-unpack … < {file}"))),
        None => Ok(()),
    }
}
