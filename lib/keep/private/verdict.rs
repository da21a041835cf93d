//! Who is to blame if a private server fails: the backup, or this host. Pure.
//!
//! Only what says that data is bad counts against a backup. A server may also fail because it finds no memory, no space, no
//! key or no plugin, or because somebody ends it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use crate::error::{Error, Kind};

/// Words of servers about data that is bad, in lower case.
const OF_DATA: [&str; 14] = [
    "corrupt",
    "checksum mismatch",
    "is marked as crashed",
    "should be repaired",
    "incorrect key file",
    "incorrect information in file",
    "doesn't exist in engine",
    "cannot find a valid tablespace",
    "could not find a valid tablespace",
    "tablespace is missing",
    "missing tablespace",
    "log sequence number",
    "page [page id",
    "wrong page type",
];
/// Words of servers about their host. They come first: a page that cannot be decrypted is said to be corrupted, too.
const OF_HOST: [&str; 19] = [
    "out of memory",
    "cannot allocate",
    "can't allocate",
    "memory for the buffer pool",
    "no space left",
    "errno: 28",
    "error number 28",
    "disk full",
    "is full",
    "too many open files",
    "permission denied",
    "encrypt",
    "decrypt",
    "keyring",
    "plugin",
    "shared library",
    "unknown variable",
    "unknown option",
    "input/output error",
];

/// True if a message blames the host.
pub(super) fn blames_host(text: &str) -> bool {
    let text = text.to_lowercase();
    OF_HOST.iter().any(|words| text.contains(words))
}

/// Whom messages blame: `Damaged` is the backup.
pub(super) fn kind(messages: &str) -> Kind {
    let text = messages.to_lowercase();
    let says = |words: &[&str]| text.lines().any(|line| words.iter().any(|word| line.contains(word)));
    if !says(&OF_HOST) && says(&OF_DATA) { Kind::Damaged } else { Kind::Failed }
}

/// The error of a server that has ended by itself. `log` is all that it said.
pub(super) fn ended(place: &str, what: &str, status: ExitStatus, log: &str) -> Error {
    // InnoDB aborts when it finds a page that it cannot use. Other signals come from outside.
    let crashed = matches!(status.signal(), None | Some(4 | 6 | 7 | 8 | 11));
    let kind = if crashed { kind(&errors(log)) } else { Kind::Failed };
    let error = Error::new(kind, place, format_args!("{what} ({status}): {}", last(log)));
    match kind {
        Kind::Damaged => error,
        _ => error.hint("this says nothing about the backup; try again when the reason is gone"),
    }
}

/// Its errors.
fn errors(log: &str) -> String {
    let lines = log.lines().filter(|line| line.contains("[ERROR]") || line.contains("Assertion"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the server said that sounds like a reason: of several errors the last but for those that only announce the end.
pub(super) fn last(log: &str) -> String {
    let reason = |line: &&str| line.contains("[ERROR]") && !line.ends_with("Aborting") && !line.ends_with("Aborted");
    let line = log.lines().rev().find(reason).or_else(|| log.lines().next_back());
    line.unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bad_data_counts_against_a_backup() {
        let bad = "x [Note] a\nx [ERROR] InnoDB: Database page corruption on disk of page [page id: space=5]\n";
        let of = |code: i32, log: &str| ended("id", "no server starts on it", ExitStatus::from_raw(code), log).kind();
        assert_eq!((of(1 << 8, bad), of(6, bad)), (Kind::Damaged, Kind::Damaged));
        // Ended by SIGKILL, whatever it had said; for want of memory, of space, of a key.
        assert_eq!((of(9, bad), of(15, bad), of(9, "")), (Kind::Failed, Kind::Failed, Kind::Failed));
        for line in [
            "[ERROR] InnoDB: Cannot allocate memory for the buffer pool",
            "[ERROR] InnoDB: Error number 28 means 'No space left on device'",
            "[ERROR] InnoDB: Table d/t is encrypted, and a page looks corrupted: the encryption key is not found",
            "[ERROR] Can't open shared library 'file_key_management.so'",
            "[ERROR] something that nobody knows",
            "[Note] InnoDB: corrupt is only a word in a note",
        ] {
            assert_eq!(of(1 << 8, line), Kind::Failed, "{line}");
        }
        let error = ended("id", "no server starts on it", ExitStatus::from_raw(9), "[ERROR] a\n[ERROR] Aborting");
        assert_eq!(error.to_string(), "id: no server starts on it (signal: 9 (SIGKILL)): [ERROR] a");
    }
}
