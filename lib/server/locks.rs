//! What the locks of both families have in common: how long they were held, and what is said when one is not granted, or
//! lost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::session::{LOST, Session};
use crate::error::Error;

/// How long each lock was held, from the moment it was asked for to the end of all, in milliseconds.
pub type Times = BTreeMap<String, u64>;

/// A lock that somebody else holds.
pub(super) fn not_granted(session: &mut Session, sql: &str, timeout: Duration) -> Error {
    let who = longest(session).unwrap_or_else(|| "SHOW PROCESSLIST may tell who holds it".into());
    Error::failed("server", format_args!("{sql} not granted within {} s", timeout.as_secs()))
        .hint(format_args!("{who}; wait longer with --lock-timeout"))
}

/// The statement that runs longest, which may be the one in the way; others' are visible with PROCESS only.
fn longest(session: &mut Session) -> Option<String> {
    let sql = "SELECT id, user, time, LEFT(info, 200) AS info FROM information_schema.processlist \
        WHERE id <> CONNECTION_ID() AND info IS NOT NULL AND command = 'Query' ORDER BY time DESC LIMIT 1";
    let found = session.record(sql).ok().flatten()?;
    let text = |key: &str| found.get(key).map(String::as_str).unwrap_or_default();
    let (id, user, time, info) = (text("id"), text("user"), text("time"), text("info"));
    Some(format!("connection {id} of {user} has been running for {time} s: {}", info.replace('\n', " ")))
}

/// The session that held the locks has gone.
pub(super) fn lost(why: impl std::fmt::Display) -> Error {
    Error::invalid("server", format_args!("the backup's locks were lost: {why}")).hint(LOST)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
