//! Calls by mariadbd: its arguments, where a transfer speaks, and how it ends.

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use rustix::fs::Mode;
use rustix::process::umask;

use super::{Tool, docs, end, meter};
use crate::error::{Error, Kind, Result};
use crate::sst::{self, Voice};

#[derive(Parser)]
#[command(version, disable_help_subcommand = true, args_override_self = true)]
struct Line<A: Args> {
    #[command(flatten)]
    tool: A,
    /// Print the man page or a shell's completions
    #[arg(long, hide = true, value_name = "WHAT", exclusive = true)]
    generate: Option<docs::What>,
}

/// Standard output and error, a whole line at a time.
#[derive(Default)]
struct Streams(Mutex<()>);

impl Voice for Streams {
    fn tell(&self, line: &str) -> Result<()> {
        crate::io::stdout()?
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|cause| Error::io("stdout", "cannot write", &cause))
    }

    fn say(&self, line: &str) {
        let _one = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody who listens is no reason to fail.
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

/// Runs a script that mariadbd calls. Standard output is only for lines that mariadbd understands. The exit status is an
/// errno, which the server tells the whole cluster.
pub fn sst<A: Args>(tool: &Tool, work: impl FnOnce(A, &Arc<dyn Voice>) -> Result<()>) -> ExitCode {
    let mut command = Line::<A>::command().name(tool.name).about(tool.about).bin_name(tool.name);
    if let Some(what) = docs::wanted(std::env::args_os()) {
        docs::print(tool, &mut command, what);
        return ExitCode::SUCCESS;
    }
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let line = match parsed.and_then(|matches| Line::<A>::from_arg_matches(&matches)) {
        Ok(line) => line,
        Err(error) if !error.use_stderr() && super::is_alone() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let refusal = match error.use_stderr() {
                true => super::refusal(tool.name, &error),
                false => super::misplaced(tool.name, error.kind()),
            };
            meter::say(&format!("{}: {}", tool.name, refusal.what));
            meter::say(&format!("hint: {}", refusal.hint));
            return ExitCode::from(code(Kind::Usage));
        }
    };
    umask(umask(Mode::RWXO) | Mode::RWXO | Mode::WGRP);
    let voice: Arc<dyn Voice> = Arc::new(Streams::default());
    match work(line.tool, &voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            voice.say(&sst::failure(&error));
            match error.kind() {
                Kind::Signal(_) => end(error.kind()),
                kind => ExitCode::from(code(kind)),
            }
        }
    }
}

/// The errno for a failure: EINVAL, EBADMSG, EACCES, EAGAIN, EPIPE.
fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => 22,
        Kind::Damaged => 74,
        Kind::Key => 13,
        Kind::Invalid => 11,
        Kind::Failed | Kind::Pipe | Kind::Signal(_) => 32,
    }
}
