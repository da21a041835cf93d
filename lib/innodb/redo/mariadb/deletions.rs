//! Tablespaces whose file was deleted while a log was written. A server that recovers skips all log records of such a
//! tablespace, before and after the deletion. That is right for a table that was dropped, and wrong for one that
//! exists, as after DISCARD and IMPORT TABLESPACE, which keep its id. Source: `facts/mariadb-hot-backup#deleted-files`,
//! `log0recv.cc` (`fil_name_process`).

use std::collections::BTreeMap;

use super::mtr::{self, FileOp};
use crate::innodb::ids::{Lsn, SpaceId};

/// The deleted tablespaces, and the LSN of the first deletion of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    /// By id.
    spaces: BTreeMap<SpaceId, Lsn>,
    /// For an encrypted log, which shows only this: by the total length of id, page number and name.
    lengths: BTreeMap<usize, Lsn>,
}

impl Deletions {
    /// Adds a complete mini-transaction, which begins at `lsn`.
    pub fn see(&mut self, mtr: &[u8], lsn: Lsn, encrypted: bool) {
        if !encrypted {
            for file in mtr::files(mtr) {
                if let FileOp::Delete(_) = file.op {
                    self.spaces.entry(file.space).or_insert(lsn);
                }
            }
            return;
        }
        for (kind, length) in mtr::sealed_files(mtr) {
            match kind {
                mtr::DELETE => drop(self.lengths.entry(length).or_insert(lsn)),
                mtr::RENAME => self.renamed(length),
                _ => {}
            }
        }
    }

    /// A file with any of the lengths may have been renamed: `length` is that of both names, with a zero between.
    fn renamed(&mut self, length: usize) {
        let to = |from: &usize| length.checked_sub(from + 1);
        let names = self.lengths.iter().filter_map(|(from, lsn)| Some((to(from)?, *lsn)));
        let lengths = names.flat_map(|(name, lsn)| (1..=5).map(move |number| (number + 1 + name, lsn)));
        for (length, lsn) in lengths.collect::<Vec<_>>() {
            let first = self.lengths.entry(length).or_insert(lsn);
            *first = lsn.min(*first);
        }
    }

    /// True if the log is encrypted, and hides the ids.
    pub fn is_sealed(&self) -> bool {
        !self.lengths.is_empty()
    }

    /// True if the log, as far as it was read, has no deletions.
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty() && self.lengths.is_empty()
    }

    /// The LSN before `end` at which the file of this tablespace was deleted; in an encrypted log, at which a file was
    /// deleted that may be this one. `name_len` is the length of the name by which the server opens it, `./db/t.ibd`.
    pub fn of(&self, space: SpaceId, name_len: usize, end: Lsn) -> Option<Lsn> {
        let length = mtr::varint_len(space.get()) + 1 + name_len;
        let found = self.spaces.get(&space).or_else(|| self.lengths.get(&length));
        found.copied().filter(|lsn| *lsn < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FILE_DELETE of tablespace 7, `./db/t.ibd`; INIT_PAGE of page 3 of 8, then one of the page after it; the end.
    const MTR: &[u8] = b"\x9c\x07\0./db/t.ibd\x12\x08\x03\x91\x04\x01....";

    #[test]
    fn a_deletion_counts_up_to_the_end_of_the_backup() {
        let mut deletions = Deletions::default();
        assert!(deletions.is_empty());
        deletions.see(MTR, Lsn::new(500), false);
        deletions.see(MTR, Lsn::new(900), false);
        assert!(!deletions.is_empty());
        assert_eq!(deletions.of(SpaceId::new(7), 10, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(7), 99, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(7), 10, Lsn::new(500)), None);
        assert_eq!(deletions.of(SpaceId::new(8), 10, Lsn::new(501)), None);
    }

    #[test]
    fn a_name_of_another_length_is_followed() {
        let mut deletions = Deletions::default();
        // Of ./db/t.ibd: before the deletion a rename says nothing.
        deletions.see(b"\xaf2 names, 15 byt\x01....", Lsn::new(400), true);
        deletions.see(b"\x9cabcdefghijkl\x01....", Lsn::new(500), true);
        assert_eq!(deletions.of(SpaceId::new(7), 3, Lsn::new(501)), None);
        deletions.see(b"\xaf2 names, 15 byt\x01....", Lsn::new(600), true);
        // 12 bytes of id, page number and the old name, a zero, the new name.
        assert_eq!(deletions.of(SpaceId::new(7), 2, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(300), 2, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(7), 20, Lsn::new(501)), None);
    }

    #[test]
    fn of_an_encrypted_log_lengths_are_known() {
        let mut deletions = Deletions::default();
        // Everything but types and lengths looks random.
        deletions.see(b"\x9cabcdefghijkl\x12ab\x91a\x01....", Lsn::new(500), true);
        assert_eq!(deletions.of(SpaceId::new(7), 10, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(127), 10, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(128), 10, Lsn::new(501)), None);
        assert_eq!(deletions.of(SpaceId::new(128), 9, Lsn::new(501)), Some(Lsn::new(500)));
        assert_eq!(deletions.of(SpaceId::new(7), 10, Lsn::new(500)), None);
        assert_eq!(deletions.of(SpaceId::new(7), 1, Lsn::new(501)), None);
    }
}
