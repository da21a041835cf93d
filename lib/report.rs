//! What a job tells while it runs. The command line prints it; a caller that wants silence passes `&()`.

use std::fmt::Arguments;

use crate::error::Error;

/// How much an operator wants to know of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only with `--verbose`.
    Detail,
    /// What a run says by default, unless `--quiet`.
    Info,
    /// Said even with `--quiet`: the result may not be what was wanted.
    Warning,
}

/// Receives notes and progress. All methods may be called from any thread.
pub trait Report: Sync {
    /// One line, in the grammar of messages (`where: what`).
    fn note(&self, level: Level, text: Arguments<'_>);
    /// A failure that the outcome of the job will not tell, because another comes first.
    fn error(&self, error: &Error);
    /// How many bytes are expected in all, as soon as that is known; 0 if it turns out that this is not what passes.
    fn expect(&self, bytes: u64);
    /// So many bytes more have gone through.
    fn advance(&self, bytes: u64);
    /// Facts about the whole run, as an object: they go into the summary with which `--log=json` ends.
    fn facts(&self, _: serde_json::Value) {}
    /// What is being done now: a phase ("copying", "waiting for commits") or a member's name.
    fn stage(&self, text: &str);
}

impl Report for () {
    fn note(&self, _: Level, _: Arguments<'_>) {}
    fn error(&self, _: &Error) {}
    fn expect(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn stage(&self, _: &str) {}
}
