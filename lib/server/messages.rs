//! The messages in the error log of a server that recovers. Sources: `log0recv.cc`, `srv0start.cc`, `trx0roll.cc`, and
//! the logs of MariaDB 10.11 and 11.8 and of MySQL 9.7.

use crate::innodb::ids::Lsn;

/// A relevant line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The redo log was read to its end.
    EndOfLog(Lsn),
    /// The LSN at which the server continues; logged at every start.
    Sequence(Lsn),
    /// MySQL: the log was read up to here, the end of a block. Logged repeatedly.
    Scanned(Lsn),
    /// MySQL: the server has shut down cleanly.
    ShutDown,
    /// An error, without time and thread.
    Error(String),
    /// Progress of recovery.
    Progress(String),
}

/// Messages of InnoDB and Aria about their progress.
const PROGRESS: [&str; 9] = [
    "Starting crash recovery",
    "Applying a batch of",
    "Read redo log up to LSN",
    "To recover:",
    "Parsed redo log",
    "Rolled back",
    "Rollback of",
    "Starting in background",
    "Aria engine: starting recovery",
];

/// Parses a line; `None` if it is not relevant.
pub fn parse(line: &str) -> Option<Message> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse::<Lsn>().ok()
    };
    if let Some((_, text)) = line.split_once("[ERROR] ") {
        return Some(Message::Error(text.trim().to_owned()));
    }
    // Only a note counts, and not a warning that quotes these words.
    let (_, text) = line.split_once("[Note] ")?;
    // In MySQL a code and a subsystem precede the text.
    let (place, text) = match text.trim().strip_prefix("[MY-").and_then(|text| text.split_once("] [")) {
        Some((_, text)) => text.split_once("] ").unwrap_or(("", text)),
        None => ("", text.trim()),
    };
    if place == "InnoDB" {
        if let Some(lsn) = text.strip_prefix("Doing recovery: scanned up to log sequence number ") {
            return number(lsn).map(Message::Scanned);
        }
        if let Some((_, lsn)) = text.split_once(" started; log sequence number ") {
            return number(lsn).map(Message::Sequence);
        }
        if text.starts_with("Shutdown completed") {
            return Some(Message::ShutDown);
        }
    }
    if let Some((_, lsn)) = text.split_once("End of log at LSN=") {
        return number(lsn).map(Message::EndOfLog);
    }
    if let Some(lsn) = text.strip_prefix("InnoDB: log sequence number ") {
        return number(lsn).map(Message::Sequence);
    }
    PROGRESS
        .iter()
        .any(|known| text.contains(known))
        .then(|| Message::Progress(text.trim_start_matches("InnoDB: ").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_real_logs() {
        let note = "2026-11-21 10:41:45 0 [Note] InnoDB: ";
        let parse = |text: &str| parse(&format!("{note}{text}"));
        assert_eq!(parse("End of log at LSN=18762011"), Some(Message::EndOfLog(Lsn::new(18_762_011))));
        assert_eq!(
            parse("log sequence number 18762011; transaction id 191"),
            Some(Message::Sequence(Lsn::new(18_762_011)))
        );
        assert_eq!(parse("To recover: 1097 pages"), Some(Message::Progress("To recover: 1097 pages".into())));
        assert_eq!(parse("Using io_uring"), None);
        assert_eq!(parse("End of log at LSN="), None);
        assert_eq!(parse("End of log at LSN=99999999999999999999999"), None);
        let mysql =
            |text: &str| super::parse(&format!("2026-11-21T15:45:04.147850Z 1 [Note] [MY-012550] [InnoDB] {text}"));
        let scanned = "Doing recovery: scanned up to log sequence number 23947264";
        assert_eq!(mysql(scanned), Some(Message::Scanned(Lsn::new(23_947_264))));
        assert_eq!(mysql("9.7.4 started; log sequence number 23947105"), Some(Message::Sequence(Lsn::new(23_947_105))));
        assert_eq!(mysql("Shutdown completed; log sequence number 24086335"), Some(Message::ShutDown));
        assert_eq!(mysql("Using undo tablespace './undo_001'."), None);
        let error = "2026-11-21 10:45:01 0 [ERROR] InnoDB: Missing FILE_CHECKPOINT(4711)";
        assert_eq!(super::parse(error), Some(Message::Error("InnoDB: Missing FILE_CHECKPOINT(4711)".into())));
    }
}
