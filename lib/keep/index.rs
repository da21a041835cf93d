//! Where the members of a stored stream are. Pure: it is fed with heads of chunks, and becomes an object of JSON lines.
//!
//! ```text
//! {"index":1,"members":2,"bytes":123456}
//! {"path":"db/t.ibd.zst","size":98304,"space_id":5,"at":[[512,4096],[9000,100]]}
//! ```
//!
//! `at` has the places of the member's chunks in the stream, as offset and length. `path` is the name in the stream;
//! `path_hex` has it if it is not UTF-8. `size` is that of the content before compression, if it is known.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use bstr::ByteSlice;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Internal, OrInternal as _, Result};
use crate::innodb::ids::SpaceId;
use crate::stream::native::{Entry, LINE_MAX, plain_name};

/// Version of the first line; readers refuse a newer one.
pub const VERSION: u32 = 1;
/// The longest line, in bytes: a member in a million chunks.
const LONGEST: u64 = 64 << 20;

/// A part of a stream: offset and length in bytes.
pub type Place = (u64, u64);

/// A member of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// Size of the content before compression, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// InnoDB: tablespace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<SpaceId>,
    /// Its chunks, in order, those without a gap joined.
    pub at: Vec<Place>,
}

impl Member {
    /// Its name in the stream.
    pub fn path(&self) -> Vec<u8> {
        match (&self.path, &self.path_hex) {
            (Some(path), _) => path.as_bytes().to_vec(),
            (None, hex) => {
                let digits = hex.as_deref().unwrap_or_default().as_bytes().chunks(2);
                digits.filter_map(|two| u8::from_str_radix(two.to_str().ok()?, 16).ok()).collect()
            }
        }
    }

    /// Its size in the stream, with the heads of its chunks, in bytes.
    pub fn stored(&self) -> u64 {
        self.at.iter().fold(0, |sum, (_, len)| sum.saturating_add(*len))
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    index: u32,
    members: u64,
    bytes: u64,
}

/// The index of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Length of the stream in bytes.
    pub bytes: u64,
    /// In the order in which they begin.
    pub members: Vec<Member>,
}

/// Collects an index while a stream passes.
#[derive(Debug, Default)]
pub struct Builder {
    members: Vec<Member>,
    by_path: HashMap<Vec<u8>, usize>,
    /// The stream renames, removes or replaces members, so that a part of it means nothing by itself.
    entangled: bool,
}

impl Builder {
    /// Adds a chunk of a member: it begins at `at`, with its head, and ends before `end`. `opened`: it is the first.
    ///
    /// # Errors
    ///
    /// Internal, if chunks come in the wrong order.
    pub fn chunk(&mut self, path: &[u8], opened: bool, at: u64, end: u64) -> Result<(), Internal> {
        let number = match self.by_path.get(path) {
            Some(number) if !opened => *number,
            known => {
                self.entangled |= known.is_some();
                let text = path.to_str().ok().map(str::to_owned);
                let hex = path.iter().map(|byte| format!("{byte:02x}")).collect();
                let path_hex = text.is_none().then_some(hex);
                self.members.push(Member { path: text, path_hex, ..Member::default() });
                self.by_path.insert(path.to_vec(), self.members.len() - 1);
                self.members.len() - 1
            }
        };
        let len = end.checked_sub(at).or_internal("a chunk ends before it begins")?;
        let member = self.members.get_mut(number).or_internal("a member that was opened is not there")?;
        match member.at.last_mut() {
            Some((start, so_far)) if start.saturating_add(*so_far) == at => *so_far = so_far.saturating_add(len),
            _ => member.at.push((at, len)),
        }
        Ok(())
    }

    /// The stream has a chunk that concerns other members than its own.
    pub fn entangle(&mut self) {
        self.entangled = true;
    }

    /// The index of a stream of this length; `None` if its members do not stand alone.
    pub fn finish(self, bytes: u64) -> Option<Index> {
        (!self.entangled).then_some(Index { bytes, members: self.members })
    }
}

impl Index {
    /// Adds what the manifest says of a member, by its plain name.
    pub fn describe(&mut self, entries: &HashMap<Vec<u8>, Described>) {
        for member in &mut self.members {
            if let Some(described) = entries.get(plain_name(&member.path())) {
                member.size = Some(described.size);
                member.space_id = described.space_id;
            }
        }
    }

    /// The bytes of the object.
    ///
    /// # Errors
    ///
    /// Internal, if it cannot be JSON.
    pub fn write(&self) -> Result<Vec<u8>, Internal> {
        const LOST: &str = "an index cannot be written as JSON";
        let head = Head { index: VERSION, members: self.members.len() as u64, bytes: self.bytes };
        let mut bytes = serde_json::to_vec(&head).map_err(|_| Internal(LOST))?;
        bytes.push(b'\n');
        for member in &self.members {
            serde_json::to_writer(&mut bytes, member).map_err(|_| Internal(LOST))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// Reads the object `name`, which the caller has compared with its sum or will.
    ///
    /// # Errors
    ///
    /// Damaged, if a line cannot be right; Failed, if it cannot be read.
    pub fn read(name: &str, input: impl Read) -> Result<Index> {
        let fault = |what: &dyn std::fmt::Display| Error::damaged(name, what);
        let (mut input, mut line) = (BufReader::new(input), Vec::new());
        let mut next = |most: u64| -> Result<Option<Vec<u8>>> {
            line.clear();
            let got = Read::by_ref(&mut input).take(most).read_until(b'\n', &mut line);
            match got.map_err(|cause| Error::io(name, "cannot read", &cause))? {
                0 => Ok(None),
                _ if line.ends_with(b"\n") => Ok(Some(std::mem::take(&mut line))),
                _ => Err(fault(&"damaged: a line has no end")),
            }
        };
        let head = next(LINE_MAX as u64)?.ok_or_else(|| fault(&"is empty"))?;
        let head: Head = serde_json::from_slice(&head).map_err(|cause| fault(&cause))?;
        if head.index > VERSION {
            return Err(fault(&"is newer than this program").hint("use newer xb-tools"));
        }
        let mut members = Vec::new();
        while let Some(line) = next(LONGEST)? {
            let member: Member = serde_json::from_slice(&line).map_err(|cause| fault(&cause))?;
            let mut before = 0;
            for (at, len) in &member.at {
                let end = at.checked_add(*len).filter(|end| *end <= head.bytes && *at >= before);
                before = end.ok_or_else(|| fault(&"damaged: a member is outside the stream"))?;
            }
            members.push(member);
        }
        if members.len() as u64 != head.members {
            return Err(fault(&format_args!("damaged: {} members, and {} are announced", members.len(), head.members)));
        }
        Ok(Index { bytes: head.bytes, members })
    }

    /// The places of the members that are picked, in the order of the stream, those without a gap joined; and their names.
    pub fn places(&self, mut picks: impl FnMut(&[u8]) -> bool) -> (Vec<Place>, Vec<Vec<u8>>) {
        let (mut places, mut names) = (Vec::new(), Vec::new());
        for member in &self.members {
            let path = member.path();
            if picks(&path) {
                places.extend_from_slice(&member.at);
                names.push(path);
            }
        }
        places.sort_unstable();
        let mut joined: Vec<Place> = Vec::with_capacity(places.len());
        for (at, len) in places {
            match joined.last_mut() {
                Some((start, so_far)) if start.saturating_add(*so_far) == at => *so_far = so_far.saturating_add(len),
                _ => joined.push((at, len)),
            }
        }
        (joined, names)
    }
}

/// What a manifest says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Size of the content in bytes.
    pub size: u64,
    /// InnoDB: tablespace id.
    pub space_id: Option<SpaceId>,
}

impl From<&Entry> for Described {
    fn from(entry: &Entry) -> Self {
        Described { size: entry.size, space_id: entry.space_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut builder = Builder::default();
        for (path, opened, at, end) in [
            (&b"a"[..], true, 0, 10),
            (b"b\xff", true, 10, 30),
            (b"a", false, 30, 35),
            (b"a", false, 35, 40),
            (b"b\xff", false, 40, 50),
        ] {
            builder.chunk(path, opened, at, end).unwrap();
        }
        builder.finish(50).unwrap()
    }

    #[test]
    fn an_index_comes_back_as_it_went() {
        let index = index();
        assert_eq!(Index::read("i", index.write().unwrap().as_slice()).unwrap(), index);
        assert_eq!(index.members[0].at, [(0, 10), (30, 10)]);
        assert_eq!(index.members[1].path(), b"b\xff");
        assert_eq!(index.members[1].stored(), 30);
    }

    #[test]
    fn places_are_those_of_the_stream_in_its_order() {
        let index = index();
        assert_eq!(index.places(|_| true), (vec![(0, 50)], vec![b"a".to_vec(), b"b\xff".to_vec()]));
        assert_eq!(index.places(|path| path == b"a").0, [(0, 10), (30, 10)]);
        assert_eq!(index.places(|_| false), (vec![], vec![]));
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let good = String::from_utf8(index().write().unwrap()).unwrap();
        for (from, to) in [
            ("\"members\":2", "\"members\":3"),
            ("[30,10]", "[30,21]"),
            ("[30,10]", "[5,10]"),
            ("[30,10]", "[30,18446744073709551615]"),
            ("\"index\":1", "\"index\":2"),
            ("\"at\"", "\"to\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(bad != good && Index::read("i", bad.as_bytes()).is_err(), "{to}");
        }
        assert!(Index::read("i", &good.as_bytes()[..good.len() - 1]).is_err());
        assert!(Index::read("i", &b""[..]).is_err());
    }

    #[test]
    fn a_stream_that_replaces_members_has_no_index() {
        let mut builder = Builder::default();
        builder.chunk(b"a", true, 0, 10).unwrap();
        builder.chunk(b"a", true, 10, 20).unwrap();
        assert_eq!(builder.finish(20), None);
    }
}
