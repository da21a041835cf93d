//! The tablespaces of one file each: which there are, and what has changed since they were copied. Source: spec
//! section 5, rule C.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::copy::Outcome;
use super::filter::Filter;
use super::open::Head;
use crate::error::Result;
use crate::server::ddl_log::Named;
use crate::server::files::{self, Tablespace};

/// A tablespace that a listing found. About 170 bytes with its name, for there may be a hundred thousand.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name in the stream.
    pub(super) name: Box<[u8]>,
    elsewhere: Option<Box<Path>>,
    outcome: OnceLock<Outcome>,
    /// Seen by the last listing.
    present: AtomicBool,
    /// Copied when the DDL log had this length: earlier statements do not concern it. False: all do.
    late: bool,
}

/// All of them, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Vec<Table>,
    /// Bytes, as listed.
    pub(super) bytes: u64,
}

/// What a listing under the lock found out.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// To be copied again, under another name.
    pub(super) again: Vec<Tablespace>,
    /// To be copied so for the first time: the same file as before, whose page 0 was not written yet.
    pub(super) unwritten: Vec<Tablespace>,
    /// In the stream and since written to. Whether by redo alone, only page 0 can tell: it was this.
    pub(super) doubtful: Vec<(Tablespace, Head)>,
    /// In the stream, and gone: their names there.
    pub(super) gone: Vec<Vec<u8>>,
}

impl Table {
    /// The file.
    pub(super) fn path(&self, datadir: &Path) -> PathBuf {
        self.elsewhere.as_deref().map_or_else(|| files::path_of(datadir, &self.name), Path::to_owned)
    }

    /// True if the file is not where its name says.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Notes what became of the copy.
    pub(super) fn set(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
    }

    fn of(found: Tablespace, late: bool) -> Self {
        Table {
            name: found.name.into_boxed_slice(),
            elsewhere: found.elsewhere.map(PathBuf::into_boxed_path),
            outcome: OnceLock::new(),
            present: AtomicBool::new(false),
            late,
        }
    }
}

impl Known {
    /// Lists all that are wanted.
    pub(super) fn list(datadir: &Path, filter: &Filter) -> Result<Self> {
        let mut known = Known::default();
        each(datadir, filter, &mut |found| {
            known.bytes = known.bytes.saturating_add(found.size);
            known.tables.push(Table::of(found, false));
            Ok(())
        })?;
        known.sort();
        Ok(known)
    }

    /// Those that were listed elsewhere.
    pub(super) fn of(spaces: Vec<Tablespace>) -> Self {
        let bytes = spaces.iter().fold(0, |bytes: u64, space| bytes.saturating_add(space.size));
        let mut known = Known { tables: spaces.into_iter().map(|space| Table::of(space, false)).collect(), bytes };
        known.sort();
        known
    }

    /// Takes in some more.
    pub(super) fn add(&mut self, spaces: Vec<Tablespace>) {
        let more = Known::of(spaces);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.tables.extend(more.tables);
        self.sort();
    }

    /// The name of one that had gone when it was to be copied.
    pub(super) fn missed(&self) -> Option<&[u8]> {
        let gone = |table: &&Table| table.outcome.get() == Some(&Outcome::Gone);
        self.tables.iter().find(gone).map(|table| &*table.name)
    }

    /// The tables, in order.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Tablespaces whose path nobody has seen yet, or whose page 0 was not there: their copies can be sent under their
    /// own names, without a lock.
    pub(super) fn fresh(&self, datadir: &Path, filter: &Filter) -> Result<Known> {
        let mut fresh = Known::default();
        each(datadir, filter, &mut |found| {
            let unsent = self.find(&found.name).map_or(!is_temporary(&found.name), |table| !table.sent());
            if unsent {
                fresh.bytes = fresh.bytes.saturating_add(found.size);
                fresh.tables.push(Table::of(found, true));
            }
            Ok(())
        })?;
        Ok(fresh)
    }

    /// Takes in what [`Known::fresh`] found and was then copied.
    pub(super) fn merge(&mut self, fresh: Known) {
        self.tables.retain(|table| table.sent() || !fresh.tables.iter().any(|one| one.name == table.name));
        self.tables.extend(fresh.tables);
        self.sort();
    }

    /// Lists again, under the lock. `all` are the statements since the backup began, `late` those since the extra pass.
    pub(super) fn changes(&self, datadir: &Path, filter: &Filter, all: &Named, late: &Named) -> Result<Changes> {
        let mut changes = Changes::default();
        each(datadir, filter, &mut |found| {
            // A table that an ALTER is building is dropped by the restored server; no record needs it.
            if self.find(&found.name).is_some() || !is_temporary(&found.name) {
                self.judge(found, &mut changes, &|table, _| if table.late { late } else { all }.has(&table.name));
            }
            Ok(())
        })?;
        changes.gone = self.gone();
        Ok(changes)
    }

    /// The same of those that were listed elsewhere. `touched` are tablespaces, by their numbers, with content that is not
    /// in the redo log; all of undo is.
    pub(super) fn changes_of(
        &self,
        tables: Vec<Tablespace>,
        undo: Vec<Tablespace>,
        touched: &BTreeSet<u32>,
    ) -> Changes {
        let mut changes = Changes::default();
        for found in tables {
            self.judge(found, &mut changes, &|_, head| touched.contains(&head.space));
        }
        for found in undo {
            self.judge(found, &mut changes, &|_, _| false);
        }
        changes.gone = self.gone();
        changes
    }

    /// What becomes of a tablespace that is there. `touched`: its copy is not good, whatever its file looks like.
    fn judge(&self, found: Tablespace, changes: &mut Changes, touched: &dyn Fn(&Table, Head) -> bool) {
        let Some(table) = self.find(&found.name) else { return changes.again.push(found) };
        table.present.store(true, Relaxed);
        match table.outcome.get() {
            Some(&Outcome::Deferred(identity)) if identity == found.identity => changes.unwritten.push(found),
            Some(Outcome::Copied(seen)) if seen.identity == found.identity && !touched(table, seen.head) => {
                if seen.changed != found.changed {
                    changes.doubtful.push((found, seen.head));
                }
            }
            _ => changes.again.push(found),
        }
    }

    /// Names of those in the stream that the last listing did not have.
    fn gone(&self) -> Vec<Vec<u8>> {
        let gone = self.tables.iter().filter(|table| table.sent() && !table.present.load(Relaxed));
        gone.map(|table| table.name.to_vec()).collect()
    }

    fn find(&self, name: &[u8]) -> Option<&Table> {
        let at = self.tables.binary_search_by(|table| (*table.name).cmp(name)).ok()?;
        self.tables.get(at)
    }

    fn sort(&mut self) {
        self.tables.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

impl Table {
    fn sent(&self) -> bool {
        matches!(self.outcome.get(), Some(Outcome::Copied(_)))
    }
}

fn is_temporary(name: &[u8]) -> bool {
    bstr::ByteSlice::contains_str(name, "/#sql")
}

fn each(datadir: &Path, filter: &Filter, visit: &mut dyn FnMut(Tablespace) -> Result<()>) -> Result<()> {
    for database in files::databases(datadir)? {
        files::tablespaces(datadir, &database, &mut |found| {
            if filter.wants(&found.name) { visit(found) } else { Ok(()) }
        })?;
    }
    Ok(())
}
