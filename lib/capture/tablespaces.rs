//! The tablespaces of a backup, by its manifest with its markers resolved, compared with the tablespaces whose file the
//! log deletes.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use bstr::ByteSlice;

use crate::budget::{Budget, Exceeded, Share};
use crate::innodb::delta::DELTA;
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::redo::mariadb::Deletions;
use crate::stream::native::Entry;
use crate::stream::native::names::{AGAIN, DROPPED, marked};

/// Bytes that a set needs for one hash just after it has grown.
const HASH: usize = 24;

/// The tablespaces in compact form, because there may be a million: names are kept as hashes.
#[derive(Debug)]
pub(super) struct Present {
    hasher: RandomState,
    spaces: Vec<Space>,
    again: HashSet<u64>,
    dropped: HashSet<u64>,
    /// The memory that they use.
    memory: Share,
}

#[derive(Debug)]
struct Space {
    name: u64,
    /// Zero if unknown.
    there_since: Lsn,
    id: SpaceId,
    /// Length of the name by which the server opens it, at most 4000 bytes (`OS_FILE_MAX_PATH`).
    opened: u16,
    again: bool,
}

/// A tablespace of the backup whose file was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) id: SpaceId,
    /// The LSN of the deletion.
    pub(super) lsn: Lsn,
    name: u64,
}

impl Present {
    /// An empty set whose memory counts against the budget.
    pub(super) fn within(budget: &Budget) -> Self {
        Present {
            hasher: RandomState::new(),
            spaces: Vec::new(),
            again: HashSet::new(),
            dropped: HashSet::new(),
            memory: budget.share(),
        }
    }

    /// Adds a line of the manifest.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), Exceeded> {
        self.note(entry);
        let bytes =
            self.spaces.capacity() * size_of::<Space>() + (self.again.capacity() + self.dropped.capacity()) * HASH;
        self.memory.grow(bytes as u64)
    }

    fn note(&mut self, entry: &Entry) {
        let path = entry.path().unwrap_or_default();
        if let Some(name) = marked(&path, DROPPED) {
            self.dropped.insert(self.hasher.hash_one(name));
            return;
        }
        let (name, again) = file(&path);
        let hash = self.hasher.hash_one(&name);
        if again {
            self.again.insert(hash);
        }
        // The restored server drops a table that an ALTER was building, whether it is complete or not.
        let Some(id) = entry.space_id.filter(|_| !name.contains_str("/#sql")) else { return };
        let opened = entry.location.as_ref().map_or("./".len() + name.len(), String::len);
        let opened = u16::try_from(opened).unwrap_or(u16::MAX);
        self.spaces.push(Space { name: hash, there_since: entry.there_since.unwrap_or_default(), id, opened, again });
    }

    /// The first tablespace of the backup that the log deletes before `end`.
    pub(super) fn conflict(&self, deletions: &Deletions, end: Lsn) -> Option<Conflict> {
        let stays =
            |space: &&Space| space.again || !(self.again.contains(&space.name) || self.dropped.contains(&space.name));
        self.spaces.iter().filter(stays).find_map(|space| {
            // Only if the log hides the ids, the file has to identify the tablespace.
            let since = Some(space.there_since).filter(|lsn| *lsn > Lsn::ZERO && deletions.is_sealed());
            let lsn = deletions.of(space.id, usize::from(space.opened), since.unwrap_or(end).min(end))?;
            Some(Conflict { id: space.id, lsn, name: space.name })
        })
    }

    /// True if this line describes that tablespace.
    pub(super) fn is(&self, conflict: Conflict, entry: &Entry) -> bool {
        let name = file(&entry.path().unwrap_or_default()).0;
        entry.space_id == Some(conflict.id) && self.hasher.hash_one(name) == conflict.name
    }
}

/// The file that a member describes, and whether it replaces another member.
pub(super) fn file(path: &[u8]) -> (Vec<u8>, bool) {
    let path = path.strip_suffix(DELTA).unwrap_or(path);
    marked(path, AGAIN).map_or_else(|| (path.to_vec(), false), |name| (name, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::native::EntryKind;

    fn entry(name: &str, id: Option<u32>) -> Entry {
        let mut entry = Entry::new(name.as_bytes(), EntryKind::Innodb, 0, &blake3::hash(b""));
        entry.space_id = id.map(SpaceId::new);
        entry
    }

    /// The tablespaces that conflict with the deletion of id 7 at LSN 500.
    fn found(lines: &[(&str, Option<u32>)]) -> Option<String> {
        let mut deletions = Deletions::default();
        deletions.see(b"\x9c\x07\0./db/t.ibd\x01....", Lsn::new(500), false);
        let mut present = Present::within(&Budget::default());
        let lines: Vec<Entry> = lines.iter().map(|(name, id)| entry(name, *id)).collect();
        lines.iter().for_each(|line| present.add(line).unwrap());
        assert_eq!(present.conflict(&deletions, Lsn::new(500)), None);
        let conflict = present.conflict(&deletions, Lsn::new(501))?;
        assert_eq!((conflict.id.get(), conflict.lsn.get()), (7, 500));
        let named: Vec<&Entry> = lines.iter().filter(|line| present.is(conflict, line)).collect();
        Some(String::from_utf8(file(&named.last()?.path()?).0).unwrap())
    }

    #[test]
    fn a_deleted_tablespace_that_is_here_is_found() {
        assert_eq!(found(&[("db/s.ibd", Some(6)), ("db/t.ibd", Some(7))]).as_deref(), Some("db/t.ibd"));
        assert_eq!(found(&[("db/t.ibd.delta", Some(7))]).as_deref(), Some("db/t.ibd"));
        assert_eq!(found(&[("db/t.ibd", Some(7)), ("db/t.new", Some(7))]).as_deref(), Some("db/t.ibd"));
        // Renamed after it was imported.
        assert_eq!(found(&[("db/t.del", None), ("db/u.new", Some(7))]).as_deref(), Some("db/u.ibd"));
    }

    #[test]
    fn an_encrypted_log_tells_old_files_from_new() {
        let mut deletions = Deletions::default();
        deletions.see(b"\x9cabcdefghijkl\x01....", Lsn::new(500), true);
        for (there_since, conflict) in [(None, true), (Some(500), false), (Some(501), true)] {
            let mut line = entry("db/t.ibd", Some(7));
            line.there_since = there_since.map(Lsn::new);
            let mut present = Present::within(&Budget::default());
            present.add(&line).unwrap();
            assert_eq!(present.conflict(&deletions, Lsn::new(900)).is_some(), conflict);
        }
    }

    #[test]
    fn one_that_was_dropped_or_replaced_is_not_here() {
        assert_eq!(found(&[("db/t.ibd", Some(7)), ("db/t.del", None)]), None);
        assert_eq!(found(&[("db/t.ibd", Some(7)), ("db/t.new", Some(8))]), None);
        assert_eq!(found(&[("db/t.ibd", Some(7)), ("db/t.new", None)]), None);
        assert_eq!(found(&[("db/t.ibd.delta", Some(7)), ("db/t.new", Some(8))]), None);
        assert_eq!(found(&[("db/#sql-alter-1-2.ibd", Some(7))]), None);
    }
}
