//! What a job reports while it runs. The command line prints it; a caller that wants no output passes `&()`.

use std::fmt::Arguments;

use crate::error::Error;

/// How important a note is to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only with `--verbose`.
    Detail,
    /// Printed by default, and not with `--quiet`.
    Info,
    /// Printed even with `--quiet`: the result may not be what was wanted.
    Warning,
}

/// Receives notes and progress. All methods may be called from any thread.
pub trait Report: Sync {
    /// Prints one line, in the grammar of messages (`where: what`).
    fn note(&self, level: Level, text: Arguments<'_>);
    /// Prints a failure that the job does not return, because it returns another one.
    fn error(&self, error: &Error);
    /// How many bytes are expected in all, as soon as that is known; 0 if the expectation turns out to be wrong.
    fn expect(&self, bytes: u64);
    /// This many more bytes have been processed.
    fn advance(&self, bytes: u64);
    /// Facts about the whole run, as a JSON object; they go into the summary that `--log=json` prints last.
    fn facts(&self, _: serde_json::Value) {}
    /// What the job is doing now: a phase ("copying", "waiting for commits") or a member's name.
    fn stage(&self, text: &str);
}

impl Report for () {
    fn note(&self, _: Level, _: Arguments<'_>) {}
    fn error(&self, _: &Error) {}
    fn expect(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn stage(&self, _: &str) {}
}
