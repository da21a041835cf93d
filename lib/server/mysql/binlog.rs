//! The GTIDs of a binary log file: those before it, and those in it. Source: `facts/mysql-hot-backup#binlog`;
//! `control_events.cpp`, `rpl_gtid_set.cc`, the serialisation library's varlen integers. Integers are little-endian.

use std::fmt;

use super::gtid::{GtidSet, Uuid};
use crate::bytes::Fields as _;

/// The first bytes of a binary log.
pub const MAGIC: [u8; 4] = *b"\xfebin";
/// The first bytes of an encrypted binary log.
pub const ENCRYPTED: [u8; 4] = *b"\xfdbin";
/// Length of the header of an encrypted log, which positions do not count.
pub const ENCRYPTION_HEADER: u64 = 512;
/// Length of an event's header in bytes.
pub const HEADER: usize = 19;

const GTID: u8 = 33;
const PREVIOUS_GTIDS: u8 = 35;
const TAGGED_GTID: u8 = 42;
/// The longest tag.
const TAG_MAX: usize = 32;

/// The relevant part of an event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    kind: u8,
    /// Length of the event in bytes, including the header.
    len: u32,
}

/// Why an event cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Shorter than its header, or than its content.
    Short,
    /// A format of a newer server.
    Unknown,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Short => "is shorter than what it holds",
            Fault::Unknown => "is of a format that is not known",
        })
    }
}

impl Head {
    /// Parses a header.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Head, Fault> {
        let ([kind], len) = (bytes.field::<4, 1>(), bytes.le_u32::<9>());
        if u64::from(len) < HEADER as u64 { Err(Fault::Short) } else { Ok(Head { kind, len }) }
    }

    /// How many bytes follow the header.
    pub fn body(&self) -> u64 {
        u64::from(self.len).saturating_sub(HEADER as u64)
    }

    /// True if the event has GTIDs; [`Head::read`] needs its body then.
    pub fn has_gtids(&self) -> bool {
        matches!(self.kind, GTID | PREVIOUS_GTIDS | TAGGED_GTID)
    }

    /// Adds the event's GTIDs to a set. A checksum at the end of the body is ignored.
    pub fn read(&self, body: &[u8], set: &mut GtidSet) -> Result<(), Fault> {
        let mut bytes = Bytes(body);
        match self.kind {
            PREVIOUS_GTIDS => previous(&mut bytes, set),
            GTID => {
                bytes.take(1)?;
                let uuid = bytes.array()?;
                let number = bytes.number()?;
                set.add(uuid, "", number, number.saturating_add(1));
                Ok(())
            }
            TAGGED_GTID => {
                let (uuid, tag, number) = tagged(&mut bytes)?;
                set.add(uuid, &tag, number, number.saturating_add(1));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A count, then for each source a UUID, in the tagged format a tag, a count and intervals.
fn previous(bytes: &mut Bytes<'_>, set: &mut GtidSet) -> Result<(), Fault> {
    let count = bytes.number()?;
    // The highest byte has the format; the tagged one has it in the lowest byte, too.
    let (count, has_tags) = match count >> 56 {
        0 => (count, false),
        1 => (count >> 8 & 0xffff_ffff_ffff, true),
        _ => return Err(Fault::Unknown),
    };
    for _ in 0..count {
        let uuid = bytes.array()?;
        let tag = if has_tags { bytes.tag()? } else { String::new() };
        for _ in 0..bytes.number()? {
            let (start, end) = (bytes.number()?, bytes.number()?);
            set.add(uuid, &tag, start, end);
        }
    }
    Ok(())
}

/// Version, length, last field that must be understood; then fields, each with its number: 0 flags, 1 UUID, 2 number of
/// the transaction, 3 tag. Later fields do not belong to the GTID.
fn tagged(bytes: &mut Bytes<'_>) -> Result<(Uuid, String, u64), Fault> {
    for _ in 0..3 {
        bytes.varlen()?;
    }
    let (mut uuid, mut number, mut tag) = (None, None, None);
    while tag.is_none() {
        match bytes.varlen()? {
            0 => {
                bytes.varlen()?;
            }
            1 => {
                let mut read = [0; 16];
                for byte in &mut read {
                    *byte = u8::try_from(bytes.varlen()?).map_err(|_| Fault::Unknown)?;
                }
                uuid = Some(read);
            }
            2 => {
                // A signed number; the sign is in the lowest bit.
                let coded = bytes.varlen()?;
                number = (coded & 1 == 0).then_some(coded >> 1);
            }
            3 => tag = Some(bytes.tag()?),
            _ => return Err(Fault::Unknown),
        }
    }
    match (uuid, tag, number) {
        (Some(uuid), Some(tag), Some(number)) => Ok((uuid, tag, number)),
        _ => Err(Fault::Unknown),
    }
}

/// The bytes that are left to parse.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.first_chunk().copied().ok_or(Fault::Short)
    }

    fn number(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    /// The number of one bits at the low end of the first byte is the number of bytes that follow; the rest is the
    /// value, at most 64 bits.
    fn varlen(&mut self) -> Result<u64, Fault> {
        let first = *self.0.first().ok_or(Fault::Short)?;
        let more = first.trailing_ones();
        let coded = self.take(more as usize + 1)?;
        if more == 8 {
            return coded.last_chunk().copied().map(u64::from_le_bytes).ok_or(Fault::Short);
        }
        let bits = coded.iter().rev().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        Ok(bits >> (more + 1))
    }

    fn tag(&mut self) -> Result<String, Fault> {
        let len = usize::try_from(self.varlen()?).ok().filter(|len| *len <= TAG_MAX).ok_or(Fault::Unknown)?;
        std::str::from_utf8(self.take(len)?).map(str::to_owned).map_err(|_| Fault::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The set of a whole file.
    fn gtids(file: &[u8]) -> Result<GtidSet, Fault> {
        let (mut rest, mut set) = (&file[MAGIC.len()..], GtidSet::default());
        while let Some((head, after)) = rest.split_first_chunk() {
            let head = Head::parse(head)?;
            let (body, next) = after.split_at_checked(usize::try_from(head.body()).unwrap()).ok_or(Fault::Short)?;
            head.read(body, &mut set)?;
            rest = next;
        }
        Ok(set)
    }

    /// Files of MySQL 9.7.4, and the GTID sets that the server reported.
    const GOLDEN: [(&str, &[u8], &str); 2] = [
        (
            "tagged",
            include_bytes!("../../../tests/vectors/binlog/tagged"),
            "79c90d70-e5bb-11f1-a209-02fc00000001:1-16:tag_one:1-3",
        ),
        ("plain", include_bytes!("../../../tests/vectors/binlog/plain"), "79c90d70-e5bb-11f1-a209-02fc00000001:1-3"),
    ];

    #[test]
    fn files_of_a_server_have_the_set_that_it_says() {
        for (name, file, expect) in GOLDEN {
            assert_eq!(gtids(file).unwrap().to_string(), expect, "{name}");
        }
    }

    #[test]
    fn a_cut_event_is_not_taken_for_a_set() {
        for (kind, body) in
            [(GTID, &[0; 24][..]), (PREVIOUS_GTIDS, &[1, 0, 0, 0, 0, 0, 0, 0]), (TAGGED_GTID, &[2, 2, 2])]
        {
            let head = Head { kind, len: 99 };
            assert_eq!(head.read(body, &mut GtidSet::default()), Err(Fault::Short), "{kind}");
        }
        let unknown = [0, 0, 0, 0, 0, 0, 0, 2];
        let head = Head { kind: PREVIOUS_GTIDS, len: 27 };
        assert_eq!(head.read(&unknown, &mut GtidSet::default()), Err(Fault::Unknown));
        let mut short = [0; HEADER];
        short[9] = 18;
        assert_eq!(Head::parse(&short), Err(Fault::Short));
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(kind in 30u8..45, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Head { kind, len: 99 }.read(&body, &mut GtidSet::default());
        }
    }
}
