//! The rules that span chunks: every member is opened once, grows without gaps, and has an end mark.

use std::collections::HashMap;

use bstr::ByteSlice;

use super::reader::{Body, Head, SENDER};
use super::table::Table;
use crate::budget::{Budget, Share};
use crate::bytes::Fields as _;
use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _, Result};

/// A hash of a path, so that a million members need little memory. Among a million, two have the same hash with a
/// probability of 10^-8; then a good stream is refused.
pub type Key = u64;

/// The key of a path.
pub fn key(path: &[u8]) -> Key {
    blake3::hash(path).as_bytes().le_u64::<0>()
}

/// What a chunk means for its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The member's number: small, constant while it is open, then free for another.
    pub slot: usize,
    /// True if this chunk opened the member.
    pub opened: bool,
    /// True if the member was complete before and begins again (rewrite flag).
    pub anew: bool,
    /// True if what a chunk removes, or gives to a renamed member as its name, stood in the stream before.
    pub known: bool,
}

/// How many members may be open at once, at most. Real backups have one per copying thread. Each costs the reader a few
/// kilobytes, so this many cost tens of megabytes.
pub const OPEN_MAX: usize = 16384;

/// Memory that an open member costs any reader, in addition to its name.
const OPEN: usize = 256;

/// The open and the complete members.
#[derive(Debug, Default)]
pub struct Members {
    open: HashMap<Vec<u8>, Open>,
    complete: Table<()>,
    directories: Table<()>,
    free: Vec<usize>,
    opened: usize,
    budget: Budget,
    /// Memory that each open member costs the caller.
    each: u64,
}

#[derive(Debug)]
struct Open {
    slot: usize,
    /// The offset at which the next bytes are expected.
    next: u64,
    _memory: Share,
}

impl Members {
    /// Limits the memory for names and open members; an open one costs the caller `each` bytes.
    pub fn within(budget: &Budget, each: usize) -> Self {
        Members {
            complete: Table::within(budget.share()),
            directories: Table::within(budget.share()),
            budget: budget.clone(),
            each: each as u64,
            ..Members::default()
        }
    }

    /// Checks a chunk against the chunks before it. `place` is the input's name in messages.
    pub fn accept(&mut self, place: &str, head: &Head) -> Result<Step> {
        let path = &head.path;
        let fault = |what: &str| {
            Err(Error::damaged(place, format_args!("{}: {what} (stream byte {})", path.as_bstr(), head.at)))
        };
        let without_slot = |known| Ok(Step { slot: 0, opened: false, anew: false, known });
        match &head.body {
            Body::Skipped => return without_slot(false),
            Body::Rename(_) | Body::Remove if self.open.contains_key(path) => {
                return fault("renamed or removed before its end mark");
            }
            Body::Rename(new) => {
                if self.complete.remove(key(path)).is_none() {
                    return fault("renamed, but not in the stream");
                }
                if self.open.contains_key(new) || self.directories.contains(key(new)) || !self.place_under(new)? {
                    return fault("renamed to a name that is in use");
                }
                let known = self.complete.contains(key(new));
                self.complete.insert(key(new), ())?;
                return without_slot(known);
            }
            Body::Remove => return without_slot(self.complete.remove(key(path)).is_some()),
            Body::Payload { .. } | Body::Sparse { .. } | Body::Seek(_) | Body::End => {}
        }
        let (opened, anew) = match self.open.contains_key(path) {
            true => (false, false),
            false => {
                let known = self.complete.contains(key(path));
                if known && !head.rewrite() {
                    return fault("comes a second time");
                }
                if self.directories.contains(key(path)) || !self.place_under(path)? {
                    return fault("is both a file and a directory");
                }
                if self.open.len() >= OPEN_MAX {
                    return fault(&format!("opened while {OPEN_MAX} others are open"));
                }
                self.complete.remove(key(path));
                let mut memory = self.budget.share();
                memory.set(self.each.saturating_add((OPEN + 3 * path.len()) as u64))?;
                let slot = self.free.pop().unwrap_or(self.open.len());
                self.opened += 1;
                self.open.insert(path.clone(), Open { slot, next: 0, _memory: memory });
                (true, known)
            }
        };
        let open = self.open.get_mut(path).or_internal("a member that is open is not among the open ones")?;
        let slot = open.slot;
        match head.body {
            Body::Payload { offset, .. } | Body::Sparse { offset, .. } if offset != open.next => {
                let what = format!("out of order: bytes for offset {offset} come where {} is expected", open.next);
                return fault(&what);
            }
            // The reader has checked that the sum is a valid file offset.
            Body::Payload { offset, len } => open.next = offset.saturating_add(len),
            Body::Sparse { offset, grown, .. } => open.next = offset.saturating_add(grown),
            Body::Seek(offset) => open.next = offset,
            _ => {
                self.open.remove(path);
                self.free.push(slot);
                self.complete.insert(key(path), ())?;
            }
        }
        Ok(Step { slot, opened, anew, known: anew })
    }

    /// Checks that no member is open at the end of the input, whose length is `at`.
    pub fn finish(&self, place: &str, at: u64) -> Result<()> {
        let Some((path, open)) = self.open.iter().min_by_key(|(_, open)| open.slot) else { return Ok(()) };
        let more = match self.open.len() {
            1 => String::new(),
            count => format!("; {} more members are open", count - 1),
        };
        let what =
            format!("truncated: {} has {} bytes and no end mark{more} (stream byte {at})", path.as_bstr(), open.next);
        Err(Error::damaged(place, what).hint(SENDER))
    }

    /// The number of members so far.
    pub fn count(&self) -> usize {
        self.opened
    }

    /// The size of an open member so far, including holes.
    pub fn size(&self, path: &[u8]) -> Option<u64> {
        self.open.get(path).map(|open| open.next)
    }

    /// Records the directories of a path; false if one of them is a file.
    fn place_under(&mut self, path: &[u8]) -> Result<bool> {
        for slash in path.find_iter(b"/") {
            let directory = path.part(..slash)?;
            let name = key(directory);
            let new = self.directories.insert(name, ())?;
            if new && (self.complete.contains(name) || self.open.contains_key(directory)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str, body: Body) -> Head {
        Head { path: path.into(), flags: 0, at: 0, body }
    }

    #[test]
    fn slots_are_reused_and_ends_are_demanded() {
        let mut members = Members::default();
        let data = |offset, len| Body::Payload { offset, len };
        assert_eq!(members.accept("x", &head("a", data(0, 5))).unwrap().slot, 0);
        assert_eq!(members.accept("x", &head("b", data(0, 5))).unwrap().slot, 1);
        assert!(!members.accept("x", &head("a", data(5, 1))).unwrap().opened);
        assert!(members.finish("x", 9).unwrap_err().to_string().contains("a has 6 bytes and no end mark; 1 more"));
        members.accept("x", &head("a", Body::End)).unwrap();
        assert_eq!(members.accept("x", &head("c", Body::End)).unwrap().slot, 0);
        members.accept("x", &head("b", Body::End)).unwrap();
        members.finish("x", 9).unwrap();
        for body in [data(0, 1), Body::End, Body::Seek(3)] {
            assert!(members.accept("x", &head("a", body)).unwrap_err().to_string().contains("second time"));
        }
        let again = Head { flags: super::super::chunk::REWRITE, ..head("a", data(0, 1)) };
        assert!(members.accept("x", &again).unwrap().anew);
    }

    #[test]
    fn a_name_is_a_file_or_a_directory() {
        let mut members = Members::default();
        members.accept("x", &head("t1", Body::End)).unwrap();
        assert!(members.accept("x", &head("t1/x", Body::End)).is_err());
        members.accept("x", &head("d/x", Body::End)).unwrap();
        assert!(members.accept("x", &head("d", Body::End)).is_err());
    }
}
