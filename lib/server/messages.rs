//! What a server writes to its error log while it recovers. Sources: `log0recv.cc`, `srv0start.cc`, `trx0roll.cc`, and
//! the logs of MariaDB 10.11 and 11.8 and of MySQL 9.7.

use crate::innodb::ids::Lsn;

/// A line that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The redo log was read to its end.
    EndOfLog(Lsn),
    /// The LSN at which the server goes on; said by every start.
    Sequence(Lsn),
    /// MySQL: the log was read so far, to the end of a block. It is said several times.
    Scanned(Lsn),
    /// MySQL: the server has ended as it should.
    ShutDown,
    /// An error, without time and thread.
    Error(String),
    /// How far it is.
    Progress(String),
}

/// What InnoDB and Aria say about their progress.
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

/// Reads a line; `None` if it tells nothing that matters.
pub fn parse(line: &str) -> Option<Message> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse::<Lsn>().ok()
    };
    if let Some((_, text)) = line.split_once("[ERROR] ") {
        return Some(Message::Error(text.trim().to_owned()));
    }
    // A note only; what merely quotes these words (a warning) does not count.
    let (_, text) = line.split_once("[Note] ")?;
    // MySQL's lines have a code and a part of the server before the text.
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
