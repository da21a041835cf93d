//! Errors that the server returns, and broken connections.

use std::fmt;
use std::io::ErrorKind;

use crate::error::{Error, reason};

/// The hint when a session that a backup needs is lost.
pub const LOST: &str = "the session was killed, or the server stopped; run the backup again";

/// A statement that the server refused, or a broken connection.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The server's error number; `None` if the connection broke.
    pub code: Option<u16>,
    /// The server's message.
    pub message: String,
}

/// Error numbers are those of `mysqld_error.h`; only a few are distinguished.
impl Refusal {
    /// `ER_LOCK_WAIT_TIMEOUT`: another session holds the lock.
    pub const LOCK_WAIT: u16 = 1205;
    /// `ER_UNKNOWN_SYSTEM_VARIABLE`
    pub(super) const UNKNOWN_VARIABLE: u16 = 1193;
    /// `ER_SERVER_SHUTDOWN`, `ER_QUERY_INTERRUPTED`, `ER_CONNECTION_KILLED` (MariaDB), `ER_CLIENT_INTERACTION_TIMEOUT`
    /// (MySQL): the last errors of a connection that the server ends.
    const FAREWELL: [u16; 4] = [1053, 1317, 1927, 4031];

    /// A connection that broke, or could not be made.
    pub(super) fn broken(cause: &std::io::Error) -> Self {
        Refusal { code: None, message: broken(cause) }
    }

    /// True if the connection is lost, and with it the locks of the session.
    pub fn is_lost(&self) -> bool {
        self.code.is_none_or(|code| Self::FAREWELL.contains(&code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} (error {code})", self.message),
            None => write!(f, "the connection is lost: {}", self.message),
        }
    }
}

impl From<mysql::Error> for Refusal {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(error) => Refusal { code: Some(error.code), message: error.message },
            mysql::Error::IoError(cause) => Refusal::broken(&cause),
            mysql::Error::DriverError(error) => {
                let words = match error {
                    mysql::DriverError::CouldNotConnect(Some((_, cause, _))) => cause,
                    other => other.to_string(),
                };
                Refusal { code: None, message: reason(&std::io::Error::other(words)) }
            }
            mysql::Error::CodecError(error) => {
                let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
                Refusal { code: None, message: cause.map_or_else(|| error.to_string(), broken) }
            }
            other => Refusal { code: None, message: other.to_string() },
        }
    }
}

fn broken(cause: &std::io::Error) -> String {
    match cause.kind() {
        ErrorKind::WouldBlock => "the server has not answered for too long".into(),
        _ => reason(cause),
    }
}

impl From<Refusal> for Error {
    /// A lost session makes the snapshot invalid; any other error is for the operator.
    fn from(refusal: Refusal) -> Self {
        match refusal.is_lost() {
            true => Error::invalid("server", refusal).hint(LOST),
            false => Error::failed("server", refusal),
        }
    }
}
