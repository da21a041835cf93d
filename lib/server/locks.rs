//! What the locks of both families have in common: how long they were held, and the errors when one is not granted or
//! is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::refusal::LOST;
use crate::error::Error;

/// How long each lock was held, in milliseconds, from the request to the release of all.
pub type Times = BTreeMap<String, u64>;

/// The error for a lock that is held by another session; `who` describes that, if known.
pub(super) fn not_granted(sql: &str, timeout: Duration, who: Option<String>) -> Error {
    let who = who.unwrap_or_else(|| "SHOW PROCESSLIST may tell who holds it".into());
    Error::failed("server", format_args!("{sql} not granted within {} s", timeout.as_secs()))
        .hint(format_args!("{who}; wait longer with --lock-timeout"))
}

/// The error for a lost session that held the locks.
pub(super) fn lost(why: impl std::fmt::Display) -> Error {
    Error::invalid("server", format_args!("the backup's locks were lost: {why}")).hint(LOST)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
