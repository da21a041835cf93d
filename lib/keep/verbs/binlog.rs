//! `binlog`: archives the binary logs of the server.

use crate::error::Result;
use crate::keep::Keep;
use crate::keep::binlog::follow;
pub use crate::keep::binlog::follow::Options;
use crate::report::Report;

/// Archives binary logs: those that are there, or without end.
///
/// # Errors
///
/// As [`follow::run`].
pub fn run(keep: &Keep, options: Options, report: &dyn Report) -> Result<()> {
    follow::run(keep, options, report)
}
