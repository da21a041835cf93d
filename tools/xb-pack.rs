//! Turn files into an xbstream.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use xb::Result;
use xb::cli::{self, Size, Tool};
use xb::pack::{self, List};
use xb::stream::pick::Patterns;

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Turn files into an xbstream",
    man: include_str!("../man/xb-pack.1.in"),
};

#[derive(Args)]
struct Pack {
    /// Change to DIR first: names are relative to it
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Also pack the files named in FILE, one per line; - is stdin
    #[arg(short = 'T', long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// Names in FILE end with a NUL byte, not a newline
    #[arg(short = '0', long, requires = "files_from")]
    null: bool,
    /// Leave out files that match; a pattern without a slash also matches a last component
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Write neither xb_begin nor xb_manifest
    #[arg(long)]
    no_manifest: bool,
    /// Read N files at the same time [default: number of processors, at most 4]
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Size of reads and of chunks, 4k to 1m
    #[arg(long, value_name = "SIZE", default_value = "512k")]
    buffer_size: Size,
    /// As mbstream -c; has no effect
    #[arg(short = 'c', long, hide = true)]
    create: bool,
    /// Files, and directories with everything below them
    #[arg(value_name = "PATH", required_unless_present = "files_from")]
    paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    cli::run(&TOOL, |args: Pack, console| {
        cli::warn_of_readers(console);
        pack::pack(args.options()?, cli::stdout()?, console)
    })
}

impl Pack {
    fn options(self) -> Result<pack::Options> {
        let _ = self.create;
        Ok(pack::Options {
            dir: self.directory,
            paths: self.paths,
            list: self.files_from.map(|file| List { file, null: self.null }),
            exclude: Patterns::new(&self.exclude)?,
            manifest: !self.no_manifest,
            threads: cli::threads(self.threads),
            spool_dir: cli::spool_dir(None),
            chunk: self.buffer_size.within("--buffer-size", pack::CHUNK_MIN, pack::CHUNK_MAX)?,
        })
    }
}
