//! Encrypt or decrypt the members of a stream.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use xb::cli::{self, Console, Limits, Size, Tool};
use xb::codec::members::Options;
use xb::crypt::keyfile::{self, Source};
use xb::crypt::seal::Algorithm;
use xb::crypt::{self, Decrypt, Encrypt, Format, Keys, Scope};
use xb::report::{Level, Report};
use xb::{Error, Result};

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Encrypt or decrypt the members of a stream",
    man: include_str!("../man/xb-crypt.1.in"),
};

#[derive(Args)]
struct Crypt {
    /// Decrypt the members, whatever the format of each
    #[arg(short, long)]
    decrypt: bool,
    /// Read the key from FILE, which only its owner may read
    #[arg(short, long, value_name = "FILE", conflicts_with = "key_fd")]
    key_file: Option<PathBuf>,
    /// Accept a key file that other users can read, but not change, such as a mounted Kubernetes secret
    #[arg(long, requires = "key_file")]
    allow_readable_key: bool,
    /// Read the key from the open descriptor N
    #[arg(long, value_name = "N")]
    key_fd: Option<i32>,
    /// Encrypt in this format: authenticated, or as Percona's programs do
    #[arg(long, value_enum, default_value = "seal", conflicts_with = "decrypt")]
    format: Container,
    /// Cipher of the seal format
    #[arg(short, long, value_enum, value_name = "NAME", default_value = "aes-256-gcm", conflicts_with = "decrypt")]
    algorithm: Cipher,
    /// Encrypt or decrypt the whole input, which need not be a stream
    #[arg(long)]
    raw: bool,
    /// Plain name that the data had in the stream from which it was taken
    #[arg(long, requires = "raw", requires = "decrypt", default_value = "", hide_default_value = true)]
    name: String,
    /// Pass on members that are not encrypted; an attacker could have put them into the stream
    #[arg(long, requires = "decrypt", conflicts_with = "raw")]
    allow_plain: bool,
    /// Accept an empty input as a stream without members
    #[arg(long, conflicts_with = "raw")]
    allow_empty: bool,
    /// Use N threads [default: number of processors, at most 4]
    #[arg(short = 'j', long, visible_alias = "parallel", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Accept xbcrypt chunks of up to SIZE, at most 2g
    #[arg(long, value_name = "SIZE", default_value = "16m", requires = "decrypt")]
    buffer_size: Size,
    /// Create a new key in FILE, which must not exist
    #[arg(long, value_name = "FILE", exclusive = true)]
    generate_key: Option<PathBuf>,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Clone, Copy, ValueEnum)]
enum Container {
    Seal,
    Xbcrypt,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cipher {
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    #[value(name = "chacha20-poly1305")]
    Chacha20Poly1305,
}

fn main() -> ExitCode {
    cli::run(&TOOL, run)
}

fn run(args: Crypt, console: &Console) -> Result<()> {
    if let Some(file) = args.generate_key {
        return keyfile::generate(&file);
    }
    let source = match (&args.key_file, args.key_fd) {
        (Some(file), _) if args.allow_readable_key => Source::Shared(file.clone()),
        (Some(file), _) => Source::File(file.clone()),
        (_, Some(fd)) => Source::Fd(fd),
        _ => Source::Environment,
    };
    if let Some(path) = source.readable_by_others() {
        console.note(Level::Warning, format_args!("{}: other users can read this key", path.display()));
    }
    let keys = Keys::new(source.read()?);
    let scope = if args.raw { Scope::Whole } else { Scope::Members };
    let options = Options {
        allow_empty: args.allow_empty,
        budget: args.limits.budget(),
        holes: args.limits.holes(),
        ..Options::new(cli::threads(args.threads))
    };
    let (input, output) = (cli::stdin()?, cli::stdout()?);
    if args.decrypt {
        let limit = usize::try_from(args.buffer_size.0).unwrap_or(usize::MAX);
        let decrypt = Decrypt::new(&keys, args.name.as_bytes(), limit).allow_plain(args.allow_plain);
        cli::warn_of_readers(console);
        return crypt::decrypt(&decrypt, scope, input, output, &options, console);
    }
    let format = args.format()?;
    crypt::encrypt(&Encrypt::new(&keys, format)?, scope, input, output, &options, console)
}

impl Crypt {
    fn format(&self) -> Result<Format> {
        match (self.format, self.algorithm) {
            (Container::Seal, Cipher::Aes256Gcm) => Ok(Format::Seal(Algorithm::Aes256Gcm)),
            (Container::Seal, Cipher::Chacha20Poly1305) => Ok(Format::Seal(Algorithm::Chacha20Poly1305)),
            (Container::Xbcrypt, Cipher::Aes256Gcm) => Ok(Format::Xbcrypt),
            (Container::Xbcrypt, Cipher::Chacha20Poly1305) => Err(Error::usage("--algorithm", "xbcrypt has AES only")),
        }
    }
}
