//! Events of a binary log, as far as the end of a replay depends on them: where transactions begin and end, when, and their
//! GTIDs. Pure.
//!
//! Sources: MariaDB `log_event.h`, MySQL `binlog_event.h` and `control_events.h`: a header of 19 bytes (time, type, server id,
//! size, position of the next event, flags), then the body, then a CRC-32 if the format description says so.

use crate::server::Family;

/// The first bytes of a file.
pub const MAGIC: &[u8; 4] = b"\xfebin";
/// Length of a header.
pub const HEADER: usize = 19;
/// The largest event whose body is looked at.
pub const LARGEST: usize = 16 << 20;

const QUERY: u8 = 2;
const STOP: u8 = 3;
const ROTATE: u8 = 4;
const FORMAT: u8 = 15;
const XID: u8 = 16;
const GTID: u8 = 33;
const ANONYMOUS: u8 = 34;
const XA_PREPARE: u8 = 38;
const PAYLOAD: u8 = 40;
const TAGGED: u8 = 42;
const MARIADB_GTID: u8 = 162;
const MARIADB_QUERY_COMPRESSED: u8 = 165;
/// A MariaDB transaction of one statement that commits by itself.
const STANDALONE: u8 = 1;
const MICROS: u64 = 1_000_000;

/// The header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970.
    pub time: u32,
    /// The type.
    pub kind: u8,
    /// The server that made it.
    pub server: u32,
    /// Its length with the header.
    pub size: u32,
}

/// Reads a header; `None` if its length is impossible.
pub fn header(bytes: &[u8; HEADER]) -> Option<Header> {
    let [t0, t1, t2, t3, kind, s0, s1, s2, s3, l0, l1, l2, l3, ..] = *bytes;
    let size = u32::from_le_bytes([l0, l1, l2, l3]);
    let header =
        Header { time: u32::from_le_bytes([t0, t1, t2, t3]), kind, server: u32::from_le_bytes([s0, s1, s2, s3]), size };
    (size as usize >= HEADER).then_some(header)
}

/// True if [`Groups::event`] needs the body.
pub fn has_body(kind: u8) -> bool {
    matches!(kind, QUERY | FORMAT | GTID | ANONYMOUS | MARIADB_GTID)
}

/// A transaction, or a statement that stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The byte after its last.
    pub end: u64,
    /// When it was committed, in microseconds since 1970, as exactly as the server says.
    pub time: u64,
    /// As the server writes it: `0-1-17`, `UUID:17`.
    pub gtid: Option<String>,
}

/// Finds the transactions in the events of a file.
#[derive(Debug)]
pub struct Groups {
    family: Family,
    checksum: usize,
    open: Option<Open>,
}

/// A transaction that has begun.
#[derive(Debug)]
struct Open {
    gtid: Option<String>,
    time: Option<u64>,
    /// The first statement ends it.
    alone: bool,
}

impl Groups {
    /// For the files of a server.
    pub fn new(family: Family) -> Groups {
        Groups { family, checksum: 0, open: None }
    }

    /// The next event, whose body is there if [`has_body`] and it is not too large; `end` is the byte after it. Returns the
    /// transaction that it ends.
    pub fn event(&mut self, header: Header, body: &[u8], end: u64) -> Option<Group> {
        let ends = match header.kind {
            FORMAT => {
                // The algorithm, and the sum that this event always has.
                let on = body.len().checked_sub(5).and_then(|at| body.get(at)).is_some_and(|kind| *kind == 1);
                self.checksum = if on { 4 } else { 0 };
                false
            }
            MARIADB_GTID => {
                self.open = mariadb(header, body);
                false
            }
            GTID | ANONYMOUS | TAGGED => {
                self.open = Some(mysql(header, body));
                false
            }
            ROTATE | STOP => {
                self.open = None;
                false
            }
            XID | XA_PREPARE | PAYLOAD => true,
            QUERY => self.query(body),
            MARIADB_QUERY_COMPRESSED => self.open.as_ref().is_some_and(|open| open.alone),
            _ => false,
        };
        if !ends {
            return None;
        }
        let open = self.open.take()?;
        let time = open.time.unwrap_or_else(|| u64::from(header.time) * MICROS);
        Some(Group { end, time, gtid: open.gtid })
    }

    /// True if a statement ends the transaction.
    fn query(&mut self, body: &[u8]) -> bool {
        let Some(open) = &mut self.open else { return false };
        let Some(sql) = sql(body, self.checksum) else { return open.alone };
        let word = |word: &[u8]| sql.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if self.family == Family::MySql && open.alone && (sql.eq_ignore_ascii_case(b"BEGIN") || word(b"XA START")) {
            open.alone = false;
            return false;
        }
        open.alone
            || sql.eq_ignore_ascii_case(b"COMMIT")
            || sql.eq_ignore_ascii_case(b"ROLLBACK")
            || word(b"XA COMMIT")
            || word(b"XA ROLLBACK")
    }
}

/// The statement in the body of a query event.
fn sql(body: &[u8], checksum: usize) -> Option<&[u8]> {
    let database = usize::from(*body.get(8)?);
    let status = usize::from(u16::from_le_bytes([*body.get(11)?, *body.get(12)?]));
    body.get(13 + status + database + 1..body.len().checked_sub(checksum)?)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn mariadb(header: Header, body: &[u8]) -> Option<Open> {
    let (sequence, domain, flags) = (number(body.get(..8)?), number(body.get(8..12)?), *body.get(12)?);
    let gtid = Some(format!("{domain}-{}-{sequence}", header.server));
    Some(Open { gtid, time: None, alone: flags & STANDALONE != 0 })
}

fn mysql(header: Header, body: &[u8]) -> Open {
    let gtid = || {
        let (sid, number) = (body.get(1..17)?, number(body.get(17..25)?));
        let hex: String = sid.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |range: std::ops::Range<usize>| hex.get(range);
        let (a, b, c, d, e) = (part(0..8)?, part(8..12)?, part(12..16)?, part(16..20)?, part(20..32)?);
        Some(format!("{a}-{b}-{c}-{d}-{e}:{number}"))
    };
    // After the numbers of the logical clock; the highest bit says that another time follows.
    let time = || {
        (*body.get(25)? == 2).then_some(())?;
        Some(number(body.get(42..49)?) & !(1 << 55)).filter(|time| *time > 0)
    };
    let plain = matches!(header.kind, GTID | ANONYMOUS);
    Open { gtid: gtid().filter(|_| header.kind == GTID), time: time().filter(|_| plain), alone: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(groups: &mut Groups, kind: u8, body: &[u8], end: u64) -> Option<Group> {
        groups.event(Header { time: 100, kind, server: 7, size: 0 }, body, end)
    }

    fn query(sql: &str, checksum: usize) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend([1, 0, 0, 2, 0, 9, 9, b'd', 0]);
        body.extend(sql.as_bytes());
        body.extend(vec![0; checksum]);
        body
    }

    #[test]
    fn transactions_of_mariadb_are_found() {
        let mut groups = Groups::new(Family::MariaDb);
        event(&mut groups, FORMAT, &[0, 1, 0, 0, 0, 0], 250);
        let gtid = |flags: u8| [&17u64.to_le_bytes()[..], &3u32.to_le_bytes(), &[flags], &[0; 10]].concat();
        assert_eq!(event(&mut groups, MARIADB_GTID, &gtid(0), 300), None);
        assert_eq!(event(&mut groups, QUERY, &query("INSERT INTO t VALUES (1)", 4), 400), None);
        let group = event(&mut groups, XID, &[], 431).unwrap();
        assert_eq!(group, Group { end: 431, time: 100 * MICROS, gtid: Some("3-7-17".into()) });
        event(&mut groups, MARIADB_GTID, &gtid(1), 500);
        assert_eq!(event(&mut groups, QUERY, &query("CREATE TABLE c (i INT)", 4), 600).unwrap().end, 600);
        event(&mut groups, MARIADB_GTID, &gtid(0), 700);
        assert_eq!(event(&mut groups, QUERY, &query("COMMIT", 4), 800).unwrap().end, 800);
        event(&mut groups, MARIADB_GTID, &gtid(0), 900);
        assert_eq!(event(&mut groups, STOP, &[], 1000), None);
        assert_eq!(event(&mut groups, XID, &[], 1100), None, "nothing is open");
    }

    #[test]
    fn transactions_of_mysql_are_found() {
        let mut groups = Groups::new(Family::MySql);
        let mut gtid = vec![0];
        gtid.extend(0x10..0x20);
        gtid.extend(5u64.to_le_bytes());
        gtid.push(2);
        gtid.extend([0; 16]);
        gtid.extend(&(1_234_567u64 | 1 << 55).to_le_bytes()[..7]);
        event(&mut groups, GTID, &gtid, 300);
        assert_eq!(event(&mut groups, QUERY, &query("BEGIN", 0), 400), None);
        let group = event(&mut groups, XID, &[], 431).unwrap();
        assert_eq!(group.gtid.as_deref(), Some("10111213-1415-1617-1819-1a1b1c1d1e1f:5"));
        assert_eq!(group.time, 1_234_567);
        event(&mut groups, ANONYMOUS, &gtid, 500);
        let group = event(&mut groups, QUERY, &query("CREATE TABLE c (i INT)", 0), 600).unwrap();
        assert_eq!((group.end, group.gtid), (600, None));
    }

    #[test]
    fn short_bodies_are_no_transactions() {
        for family in [Family::MariaDb, Family::MySql] {
            for kind in 0..=u8::MAX {
                for len in 0..60 {
                    let mut groups = Groups::new(family);
                    event(&mut groups, GTID, &[], 10);
                    event(&mut groups, kind, &vec![0xff; len], 20);
                }
            }
        }
    }
}
