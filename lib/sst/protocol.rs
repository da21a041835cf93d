//! What the script tells mariadbd: lines on standard output, of which any other one ends the transfer.

use std::fmt;

use super::args::Address;
use crate::error::{Error, Result};

/// A position in the history of a cluster: `UUID:SEQNO DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    uuid: String,
    seqno: i64,
    domain: u32,
}

impl Position {
    /// Parses `UUID:SEQNO`, with or without a domain behind it.
    ///
    /// # Errors
    ///
    /// Damaged: it is something else.
    pub fn parse(text: &str) -> Result<Position> {
        let fail = || Error::damaged("position", format_args!("{:?} is not UUID:SEQNO", text.trim_end()));
        let mut words = text.split_ascii_whitespace();
        let (uuid, seqno) = words.next().and_then(|word| word.split_once(':')).ok_or_else(fail)?;
        let is_uuid = uuid.len() == 36
            && uuid.char_indices().all(|(at, c)| match at {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            });
        let domain = words.next().map_or(Ok(0), str::parse).map_err(|_| fail())?;
        match (is_uuid, seqno.parse(), words.next()) {
            (true, Ok(seqno), None) => Ok(Position { uuid: uuid.to_owned(), seqno, domain }),
            _ => Err(fail()),
        }
    }

    /// The same in this domain.
    #[must_use]
    pub fn in_domain(self, domain: u32) -> Position {
        Position { domain, ..self }
    }

    /// `UUID:SEQNO`
    pub fn bare(&self) -> String {
        format!("{}:{}", self.uuid, self.seqno)
    }

    /// The cluster's UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The number of the last transaction.
    pub fn seqno(&self) -> i64 {
        self.seqno
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.uuid, self.seqno, self.domain)
    }
}

/// A line for mariadbd.
#[derive(Debug)]
pub enum Line<'a> {
    /// The joiner listens: how its secret is to be given back, where, and the module.
    Ready {
        /// What only the donor gets to know.
        secret: &'a str,
        /// Where the joiner listens.
        address: &'a Address,
        /// How it wants the data.
        module: &'a str,
    },
    /// The joiner's data are in place.
    InPlace(&'a Position),
    /// The donor goes on working during an incremental transfer.
    Continue,
    /// The donor is through.
    Done(&'a Position),
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Ready { secret, address, module } => write!(f, "ready xb:{secret}@{}/{module}//1", address.place()),
            Line::InPlace(position) => position.fmt(f),
            Line::Continue => f.write_str("continue"),
            Line::Done(position) => write!(f, "done {}", position.bare()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "9e6d297b-ea46-11f1-aaef-13470fd074e5";

    #[test]
    fn positions_are_parsed_and_nothing_else() {
        for (text, want) in [
            (format!("{UUID}:7 3\n"), Some(format!("{UUID}:7 3"))),
            (format!("{UUID}:7"), Some(format!("{UUID}:7 0"))),
            (format!("{UUID}:-1 0"), Some(format!("{UUID}:-1 0"))),
            (format!("{UUID}:7 0 x"), None),
            (format!("{UUID}:7 x"), None),
            (format!("{UUID}:"), None),
            (UUID.to_owned(), None),
            (format!("x{UUID}:7"), None),
            ("9e6d297b:7".into(), None),
            (String::new(), None),
        ] {
            let found = Position::parse(&text);
            assert_eq!(found.as_ref().ok().map(ToString::to_string), want, "{text:?}: {found:?}");
        }
    }

    #[test]
    fn lines_are_those_that_the_server_knows() {
        let position = Position::parse(&format!("{UUID}:7 3")).unwrap();
        let address = Address::parse("[::1]:24444").unwrap();
        let secret = "0123456789abcdef0123456789abcdef";
        let ready = Line::Ready { secret, address: &address, module: "xb-plain" };
        assert_eq!(ready.to_string(), format!("ready xb:{secret}@[::1]:24444/xb-plain//1"));
        assert_eq!(Line::InPlace(&position).to_string(), format!("{UUID}:7 3"));
        assert_eq!(Line::Continue.to_string(), "continue");
        assert_eq!(Line::Done(&position).to_string(), format!("done {UUID}:7"));
    }
}
