//! What a server writes to its error log while it recovers. Sources: `log0recv.cc`, `srv0start.cc`, `trx0roll.cc`, and
//! the logs of 10.11 and 11.8 servers.

/// A line that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The redo log was read to its end.
    EndOfLog(u64),
    /// The LSN at which the server goes on; said by every start.
    Sequence(u64),
    /// An error, without time and thread.
    Error(String),
    /// How far it is.
    Progress(String),
}

/// What InnoDB and Aria say about their progress.
const PROGRESS: [&str; 8] = [
    "Starting crash recovery",
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
        text.bytes().take_while(u8::is_ascii_digit).fold(None, |number: Option<u64>, digit| {
            number.unwrap_or_default().checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
    };
    if let Some((_, text)) = line.split_once("[ERROR] ") {
        return Some(Message::Error(text.trim().to_owned()));
    }
    // A note only; what merely quotes these words (a warning) does not count.
    let (_, text) = line.split_once("[Note] ")?;
    let text = text.trim();
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
        assert_eq!(parse("End of log at LSN=18762011"), Some(Message::EndOfLog(18_762_011)));
        assert_eq!(parse("log sequence number 18762011; transaction id 191"), Some(Message::Sequence(18_762_011)));
        assert_eq!(parse("To recover: 1097 pages"), Some(Message::Progress("To recover: 1097 pages".into())));
        assert_eq!(parse("Using io_uring"), None);
        assert_eq!(parse("End of log at LSN="), None);
        assert_eq!(parse("End of log at LSN=99999999999999999999999"), None);
        let error = "2026-11-21 10:45:01 0 [ERROR] InnoDB: Missing FILE_CHECKPOINT(4711)";
        assert_eq!(super::parse(error), Some(Message::Error("InnoDB: Missing FILE_CHECKPOINT(4711)".into())));
    }
}
