//! The names of a stream that is being written: each is that of one file, which is written once, from its beginning to
//! its end.
//!
//! Whoever writes a stream has chosen names that differ; this is what makes sure of it. A second member of a name would
//! make the stream one that nobody can read, found out by whoever restores it.

use std::collections::HashMap;
use std::fmt;

use super::members::{Key, key};
use super::table::Table;
use crate::budget::{Budget, Exceeded};

/// Members, by the keys of their names.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Where the next bytes of an open member go.
    open: HashMap<Key, u64>,
    complete: Table<()>,
    directories: Table<()>,
}

/// Why a chunk must not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is a member of this name already, or it is being written by somebody else.
    Twice,
    /// The name, or one of its directories, is a file and a directory.
    Directory,
    /// There is no memory for more names.
    Exceeded(Exceeded),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Twice => f.write_str("a second file of this name in one stream"),
            Fault::Directory => f.write_str("a file and a directory of one name in one stream"),
            Fault::Exceeded(exceeded) => exceeded.fmt(f),
        }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Fault::Exceeded(exceeded)
    }
}

impl Written {
    /// One whose names take a share of a budget.
    pub(crate) fn within(budget: &Budget) -> Self {
        let (complete, directories) = (Table::within(budget.share()), Table::within(budget.share()));
        Written { complete, directories, ..Written::default() }
    }

    /// Bytes `offset..offset + len` of a member.
    pub(crate) fn payload(&mut self, path: &[u8], offset: u64, len: u64) -> Result<(), Fault> {
        let name = self.enter(path)?;
        match self.open.get_mut(&name) {
            Some(next) if *next == offset => *next = offset.saturating_add(len),
            _ => return Err(Fault::Twice),
        }
        Ok(())
    }

    /// The end of a member.
    pub(crate) fn end(&mut self, path: &[u8]) -> Result<(), Fault> {
        let name = self.enter(path)?;
        self.open.remove(&name);
        self.complete.insert(name, ())?;
        Ok(())
    }

    /// The name is free again.
    pub(crate) fn remove(&mut self, path: &[u8]) {
        self.complete.remove(key(path));
    }

    /// True if a member of this name was written, or is being written.
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        let name = key(path);
        self.complete.contains(name) || self.open.contains_key(&name)
    }

    /// Opens a member if it is not open.
    fn enter(&mut self, path: &[u8]) -> Result<Key, Fault> {
        let name = key(path);
        if self.open.contains_key(&name) {
            return Ok(name);
        }
        if self.complete.contains(name) {
            return Err(Fault::Twice);
        }
        if self.directories.contains(name) {
            return Err(Fault::Directory);
        }
        for slash in bstr::ByteSlice::find_iter(path, b"/") {
            let directory = key(path.split_at(slash).0);
            if self.complete.contains(directory) || self.open.contains_key(&directory) {
                return Err(Fault::Directory);
            }
            self.directories.insert(directory, ())?;
        }
        self.open.insert(name, 0);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_one_file() {
        let mut written = Written::default();
        written.payload(b"d/t.ibd", 0, 10).unwrap();
        written.payload(b"d/u.ibd", 0, 10).unwrap();
        assert_eq!(written.payload(b"d/u.ibd", 0, 10), Err(Fault::Twice), "from another thread");
        written.payload(b"d/t.ibd", 10, 10).unwrap();
        written.end(b"d/t.ibd").unwrap();
        assert_eq!(written.payload(b"d/t.ibd", 20, 1), Err(Fault::Twice));
        assert_eq!(written.end(b"d/t.ibd"), Err(Fault::Twice));
        assert_eq!(written.end(b"d"), Err(Fault::Directory));
        assert_eq!(written.payload(b"d/t.ibd/x", 0, 1), Err(Fault::Directory));
        written.end(b"d/empty").unwrap();
        assert!(written.has(b"d/empty") && written.has(b"d/u.ibd") && !written.has(b"d"));
    }

    #[test]
    fn names_that_are_complete_do_not_stay_open() {
        let mut written = Written::default();
        for number in 0..100_000 {
            written.end(format!("database_{}/table_{number}.ibd", number % 100).as_bytes()).unwrap();
        }
        assert_eq!((written.complete.len(), written.open.len(), written.directories.len()), (100_000, 0, 100));
    }
}
