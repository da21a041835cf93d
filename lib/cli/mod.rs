//! The harness of every tool: arguments, messages, progress, exit codes. Only this module prints and exits.

mod connection;
mod console;
mod docs;
mod front;
mod keep;
mod meter;
mod others;
mod screen;
mod snapshot;
mod sst;
mod units;
mod values;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use rustix::fs::Mode;
use rustix::process::umask;

use crate::budget::Budget;
use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};
pub use connection::Connection;
pub use console::Console;
pub use front::front;
pub use keep::keep;
pub use meter::Pace;
pub use snapshot::{History, Increment, Partial};
pub use sst::sst;
pub use units::{Seconds, Size, human};

/// The description of a tool, without its arguments.
pub struct Tool {
    /// The program's name, `env!("CARGO_BIN_NAME")`.
    pub name: &'static str,
    /// One sentence: the NAME line of the man page and the first line of the help.
    pub about: &'static str,
    /// The man page's source, with the placeholders `@VERSION@` and `@OPTIONS@`.
    pub man: &'static str,
}

/// Options that every tool has.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Print more: each file when it is done
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Print only warnings and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Show progress on stderr; auto: only on a terminal
    #[arg(long, global = true, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "auto", default_missing_value = "always")]
    progress: When,
    /// Format of messages on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log: Log,
    /// Print the man page or a shell's completions
    #[arg(long, hide = true, value_name = "WHAT", exclusive = true)]
    generate: Option<docs::What>,
}

/// Limits for the memory and time that an input can cost.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Use at most SIZE of memory for names and open members; the program needs more in total
    #[arg(long, value_name = "SIZE", default_value = "44m")]
    memory: Size,
    /// Let holes in a stream become at most SIZE of zeros, in addition to 128 for each byte of content
    #[arg(long, value_name = "SIZE", default_value = "1g")]
    hole_limit: Size,
}

impl Limits {
    /// Memory for names and open members.
    pub fn budget(&self) -> Budget {
        Budget::new(self.memory.0)
    }

    /// How many bytes of zeros holes may become.
    pub fn holes(&self) -> u64 {
        self.hole_limit.0
    }
}

/// When to show progress, and how.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Auto,
    Always,
    Never,
    Json,
}

/// The format of messages.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    Text,
    Json,
}

#[derive(Parser)]
#[command(version, disable_help_subcommand = true, args_override_self = true)]
struct Line<A: Args> {
    #[command(flatten)]
    tool: A,
    #[command(flatten)]
    common: Common,
}

/// Runs a tool: parses its arguments, does its work, prints errors, and ends the process with the exit codes of the
/// README. After a broken pipe or a caught signal it dies by the signal itself, so that shells and systemd see it.
pub fn run<A: Args>(tool: &Tool, work: impl FnOnce(A, &Console) -> Result<()>) -> ExitCode {
    let mut command = Line::<A>::command().name(tool.name).about(tool.about).bin_name(tool.name);
    // A missing operand must not hide `--generate`, so it is looked for before the arguments are checked.
    if let Some(what) = docs::wanted(std::env::args_os()) {
        docs::print(tool, &mut command, what);
        return ExitCode::SUCCESS;
    }
    let line = match command.try_get_matches_from_mut(std::env::args_os()).and_then(|m| Line::<A>::from_arg_matches(&m))
    {
        Ok(line) => line,
        Err(error) => return refuse(tool, &error),
    };
    // All our output contains the server's rows and password hashes.
    umask(umask(Mode::RWXO) | Mode::RWXO | Mode::WGRP);
    let console = Console::new(tool.name, &line.common);
    let outcome = work(line.tool, &console);
    console.finish();
    match outcome {
        Ok(()) => {
            console.summary(0);
            ExitCode::SUCCESS
        }
        Err(error) => {
            console.error(&error);
            console.summary(error.kind().code());
            end(error.kind())
        }
    }
}

/// Prints clap's error in our grammar; help and version go to stdout, with status 0.
fn refuse(tool: &Tool, error: &clap::Error) -> ExitCode {
    let Refusal { what, hint } = if error.use_stderr() {
        refusal(tool.name, error)
    } else if is_alone() || is_verb(tool.name) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    } else {
        // `-h localhost > backup` was meant for another program.
        misplaced(tool.name, error.kind())
    };
    let log = asked(std::env::args_os());
    meter::say(&console::message(tool.name, log, "error", &what));
    meter::say(&console::message(tool.name, log, "hint", &hint));
    ExitCode::from(Kind::Usage.code())
}

/// True if help or version are all that was asked for, or somebody reads them on a terminal.
fn is_alone() -> bool {
    std::env::args_os().len() == 2 || std::io::stdout().is_terminal()
}

/// True for `xb-keep VERB --help`, which nobody means for another program.
fn is_verb(tool: &str) -> bool {
    let mut words = std::env::args_os().skip(1);
    let verb = words.next().is_some_and(|word| !word.to_string_lossy().starts_with('-'));
    tool == keep::NAME && verb && words.len() == 1
}

/// What is wrong with a command line, and a hint.
struct Refusal {
    what: String,
    hint: String,
}

fn misplaced(tool: &str, kind: ErrorKind) -> Refusal {
    let (option, thing) = match kind {
        ErrorKind::DisplayVersion => ("-V, --version", "the version"),
        _ => ("-h, --help", "the help"),
    };
    let host = if tool == "xb-snap" && kind == ErrorKind::DisplayHelp { "; a host is named by --host" } else { "" };
    Refusal {
        what: format!("{option}: {thing} does not go into a file or pipe among other arguments"),
        hint: format!(
            "{tool} {} alone prints it{host}",
            if kind == ErrorKind::DisplayVersion { "-V" } else { "--help" }
        ),
    }
}

fn refusal(tool: &str, error: &clap::Error) -> Refusal {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let has_verbs = tool == keep::NAME;
    let usual = || match has_verbs {
        true => format!("{tool} --help lists the verbs, {tool} VERB --help the options of one"),
        false => format!("{tool} --help lists the options"),
    };
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Refusal { what: "what to do is missing".to_owned(), hint: usual() };
    }
    let argument = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue);
    // A word where no operand is expected.
    let word = match error.kind() {
        ErrorKind::UnknownArgument => argument.clone(),
        // The level of xb-zip is the only operand that is a number.
        ErrorKind::ValueValidation | ErrorKind::InvalidValue if tool == "xb-zip" => {
            value.filter(|_| argument.as_deref().is_some_and(|argument| argument.contains("-1..-19")))
        }
        _ => None,
    };
    if let Some(word) = word.filter(|word| !word.starts_with('-') && !has_verbs) {
        let hint = if tool == "xb-snap" { usual() } else { format!("{tool} reads stdin: {tool} … < {word}") };
        return Refusal { what: format!("{word}: is not an option, and this program takes no files"), hint };
    }
    if let (ErrorKind::UnknownArgument, Some(option)) =
        (error.kind(), argument.as_ref().filter(|word| word.starts_with('-')))
    {
        let similar = context(ContextKind::SuggestedArg).map(|option| format!("did you mean {option}?"));
        let hint = others::answer(tool, option).map(|answer| format!("here: {answer}")).or(similar);
        return Refusal { what: format!("{option}: is not an option of {tool}"), hint: hint.unwrap_or_else(usual) };
    }
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
    // clap lists missing operands on separate lines.
    let is_footer = |line: &str| ["Usage:", "tip:", "For more information"].iter().any(|word| line.starts_with(word));
    let rest: Vec<&str> = lines.take_while(|line| !is_footer(line)).collect();
    let detail = if rest.is_empty() { String::new() } else { format!(" {}", rest.join(", ")) };
    let similar = context(ContextKind::SuggestedValue).map(|value| format!("did you mean {value}?"));
    Refusal { what: format!("{first}{detail}"), hint: similar.unwrap_or_else(usual) }
}

/// The value of `--log` in arguments that cannot be parsed.
fn asked(args: impl Iterator<Item = OsString>) -> Log {
    let mut options = args.skip(1).take_while(|option| option != "--");
    let mut log = Log::Text;
    while let Some(option) = options.next() {
        let value = if option == "--log" {
            options.next()
        } else {
            option.to_str().and_then(|option| option.strip_prefix("--log=")).map(OsString::from)
        };
        log = value.and_then(|value| Log::from_str(value.to_str()?, false).ok()).unwrap_or(log);
    }
    log
}

fn end(kind: Kind) -> ExitCode {
    let signal = match kind {
        Kind::Pipe => Some(signal_hook::consts::SIGPIPE),
        Kind::Signal(number) => Some(number),
        _ => None,
    };
    if let Some(signal) = signal {
        // Returns only if the signal cannot be raised; then the exit code says the same.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    ExitCode::from(kind.code())
}

/// The number of threads for `-j`; by default the number of processors, at most 4.
pub fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| processors().min(4), usize::from)
}

/// The same for work that needs much processor time; by default the number of processors.
pub fn all_threads(asked: Option<u16>) -> usize {
    asked.map_or_else(processors, usize::from)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The directory for a spool's file: as requested, `TMPDIR`, or `/var/tmp`, because `/tmp` may be in memory.
pub fn spool_dir(asked: Option<PathBuf>) -> PathBuf {
    let set = || std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    asked.or_else(set).unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// Standard input as a stream; refuses a terminal.
pub fn stdin() -> Result<std::fs::File> {
    if std::io::stdin().is_terminal() {
        return Err(Error::usage("stdin", "is a terminal; a stream is expected")
            .hint("pipe a stream in, or redirect a file: < backup.xbs"));
    }
    crate::io::stdin()
}

/// Warns if standard output is a file that every user can read: a backup that is not encrypted contains rows and
/// password hashes.
pub fn warn_of_readers(report: &dyn Report) {
    let data = rustix::stdio::stdout();
    let Ok(data) = rustix::fs::fstat(data) else { return };
    if rustix::fs::FileType::from_raw_mode(data.st_mode).is_file() && data.st_mode & 0o004 != 0 {
        let what = "every user can read this file, and a backup has password hashes unless it is encrypted: chmod o-r, and umask 077 \
             next time";
        report.note(Level::Warning, format_args!("stdout: {what}"));
    }
}

/// Standard output for binary data; refuses a terminal.
pub fn stdout() -> Result<std::fs::File> {
    if std::io::stdout().is_terminal() {
        return Err(Error::usage("stdout", "is a terminal; refusing to write a stream to it")
            .hint("pipe it into the next tool, or redirect it to a file: > backup.xbs"));
    }
    crate::io::stdout()
}
