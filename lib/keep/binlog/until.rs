//! The moment up to which binary logs are replayed, and where it is in the archive.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;

use super::events::{self, Group, Groups, HEADER};
use super::parts;
use crate::error::{Error, Result};
use crate::server::Family;

/// A moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// Everything that was committed before this time.
    Time(Timestamp),
    /// This transaction is the last one.
    Gtid(String),
    /// Everything before this byte of this file.
    Position(String, u64),
    /// Everything that is archived.
    End,
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Until, String> {
        if text == "end" {
            return Ok(Until::End);
        }
        if let Some((file, position)) = text.rsplit_once(':') {
            if let (true, Ok(position)) = (parts(file).is_some(), position.parse()) {
                return Ok(Until::Position(file.to_owned(), position));
            }
            let is_uuid = file.len() == 36 && file.chars().all(|char| char.is_ascii_hexdigit() || char == '-');
            if is_uuid && position.parse::<u64>().is_ok() {
                return Ok(Until::Gtid(text.to_lowercase()));
            }
        }
        if text.split('-').count() == 3 && text.split('-').all(|part| part.parse::<u64>().is_ok()) {
            return Ok(Until::Gtid(text.to_owned()));
        }
        let local = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::system()).ok();
        let time = text.parse().ok().or_else(|| local().map(|time| time.timestamp()));
        time.map(Until::Time).ok_or_else(|| {
            "want a time (2026-01-31 03:15:00, in UTC with a Z), a GTID, FILE:POSITION of a binary log, or end"
                .to_owned()
        })
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Time(time) => time.fmt(f),
            Until::Gtid(gtid) => gtid.fmt(f),
            Until::Position(file, position) => write!(f, "{file}:{position}"),
            Until::End => f.write_str("the end of the archive"),
        }
    }
}

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The byte after the last transaction that is wanted; `None` if the file has none.
    pub end: Option<u64>,
    /// How many are wanted.
    pub groups: u64,
    /// When the last transaction of the file was committed, wanted or not, in microseconds since 1970.
    pub time: Option<u64>,
    /// The moment is in this file.
    pub reached: bool,
}

/// Looks for the moment in the file `name` of a binary log, from a byte on.
///
/// # Errors
///
/// Damaged, if the file is not one, or has an event of impossible length; Failed, if it cannot be read.
pub fn scan(path: &Path, name: &str, from: u64, family: Family, until: &Until) -> Result<Found> {
    let fail = |cause: &std::io::Error| Error::io(name, "cannot read", cause);
    let mut input = BufReader::new(File::open(path).map_err(|cause| fail(&cause))?);
    let mut magic = [0; 4];
    let read = input.read_exact(&mut magic);
    if read.is_err() || magic != *events::MAGIC {
        return Err(Error::damaged(name, "is not a binary log"));
    }
    let (mut groups, mut found, mut at) = (Groups::new(family), Found::default(), magic.len() as u64);
    loop {
        let mut head = [0; HEADER];
        match input.read_exact(&mut head) {
            // The last event may not be whole yet.
            Err(cause) if cause.kind() == ErrorKind::UnexpectedEof => break,
            read => read.map_err(|cause| fail(&cause))?,
        }
        let header = events::header(&head)
            .ok_or_else(|| Error::damaged(name, format_args!("an event of impossible length at byte {at}")))?;
        let rest = header.size as usize - HEADER;
        let mut body = Vec::new();
        if events::has_body(header.kind) && rest <= events::LARGEST {
            Read::by_ref(&mut input).take(rest as u64).read_to_end(&mut body).map_err(|cause| fail(&cause))?;
            if body.len() < rest {
                break;
            }
        } else {
            input.seek_relative(i64::from(header.size) - HEADER as i64).map_err(|cause| fail(&cause))?;
        }
        let end = at.saturating_add(header.size.into());
        // Of a body that was passed over, the end may not be there.
        if end > input.get_ref().metadata().map_err(|cause| fail(&cause))?.len() {
            break;
        }
        at = end;
        let Some(group) = groups.event(header, &body, end).filter(|group| group.end > from) else { continue };
        found.time = found.time.max(Some(group.time));
        if !found.take(&group, name, until) {
            found.reached = true;
            break;
        }
    }
    if let Until::Position(file, position) = until
        && file == name
        && at >= *position
    {
        found.reached = true;
    }
    Ok(found)
}

impl Found {
    /// False if the moment has come.
    fn take(&mut self, group: &Group, name: &str, until: &Until) -> bool {
        let wanted = match until {
            Until::Time(time) => i128::from(group.time) < i128::from(time.as_microsecond()),
            Until::Position(file, position) => file != name || group.end <= *position,
            Until::Gtid(_) | Until::End => true,
        };
        if wanted {
            self.end = Some(group.end);
            self.groups += 1;
        }
        let last = matches!(until, Until::Gtid(gtid) if group.gtid.as_ref() == Some(gtid));
        wanted && !last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_apart() {
        let of = |text: &str| text.parse::<Until>();
        assert_eq!(of("end"), Ok(Until::End));
        assert_eq!(of("db.one-bin.000012:4711"), Ok(Until::Position("db.one-bin.000012".into(), 4711)));
        assert_eq!(of("0-1-17"), Ok(Until::Gtid("0-1-17".into())));
        let gtid = "3E11FA47-71CA-11E1-9E33-C80AA9429562:23";
        assert_eq!(of(gtid), Ok(Until::Gtid(gtid.to_lowercase())));
        assert_eq!(of("2026-01-31T03:15:00Z"), Ok(Until::Time("2026-01-31T03:15:00Z".parse().unwrap())));
        assert!(matches!(of("2026-01-31 03:15:00"), Ok(Until::Time(_))));
        for text in ["", "now", "12:00", "binlog:4", "binlog.000001:x", "0-1", "2026-13-01 00:00:00"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
