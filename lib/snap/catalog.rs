//! The file-per-table and general tablespaces: which exist, and which have changed since they were copied. Source:
//! `facts/mariadb-hot-backup#ddl`, rule C.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bstr::ByteSlice;

use super::copy::Outcome;
use super::ddl::{Decision, Evidence, Now, decide};
use super::filter::Filter;
use super::open::{self, Head};
use crate::error::{Error, Result};
use crate::innodb::ids::SpaceId;
use crate::io::cache::{ALIGN, Aligned, Policy};
use crate::server::dictionary::{Dictionary, File, Ledger};
use crate::server::files::{self, Tablespace};
use crate::server::mariadb::ddl_log::Named;

/// A tablespace found by a listing. It takes about 170 bytes with its name, because a server may have a hundred
/// thousand.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name in the stream.
    pub(super) name: Box<[u8]>,
    external: Option<Box<Path>>,
    outcome: OnceLock<Outcome>,
    /// The last listing found it.
    present: AtomicBool,
    /// It was copied by the extra pass: DDL logged before that pass does not concern it.
    late: bool,
}

/// All of them, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    tables: Vec<Table>,
    /// Total size in bytes, as listed.
    pub(super) bytes: u64,
    /// The server's dictionary at that time; `None` if the server does not run.
    pub(super) dictionary: Option<Dictionary>,
    /// Files with the name of a tablespace that are not the server's.
    twins: Vec<(Tablespace, Head)>,
}

/// What changed, as a listing under the lock shows.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Must be copied again, under another name.
    pub(super) again: Vec<Tablespace>,
    /// Must be copied for the first time: page 0 of the same file was not initialized before.
    pub(super) unwritten: Vec<Tablespace>,
    /// Names of members whose tablespaces no longer exist.
    pub(super) gone: Vec<Vec<u8>>,
}

/// What a listing under the lock is compared with.
pub(super) struct Review<'a, 'd> {
    /// The tablespaces of the server's dictionary.
    pub(super) ledger: &'a mut Ledger<'d>,
    /// Reads page 0 of files; leaves out files that no longer exist.
    pub(super) heads: &'a dyn Fn(Vec<Tablespace>) -> Result<Vec<(Tablespace, Head)>>,
}

/// One pass through a listing.
struct Pass<'a> {
    touched: &'a Touched<'a>,
    changes: Changes,
    /// Files whose page 0 must be read before a decision.
    unsure: Vec<Tablespace>,
}

impl<'a> Pass<'a> {
    fn new(touched: &'a Touched<'a>) -> Self {
        Pass { touched, changes: Changes::default(), unsure: Vec::new() }
    }
}

impl Table {
    /// Path of the file.
    pub(super) fn path(&self, datadir: &Path) -> PathBuf {
        self.external.as_deref().map_or_else(|| files::path_of(datadir, &self.name), Path::to_owned)
    }

    /// True if the path of the file differs from its member name.
    pub(super) fn is_external(&self) -> bool {
        self.external.is_some()
    }

    /// Records the result of the copy.
    pub(super) fn set(&self, outcome: Outcome) {
        let _ = self.outcome.set(outcome);
    }

    fn of(found: Tablespace, late: bool) -> Self {
        Table {
            name: found.name.into_boxed_slice(),
            external: found.external.map(PathBuf::into_boxed_path),
            outcome: OnceLock::new(),
            present: AtomicBool::new(false),
            late,
        }
    }
}

impl Catalog {
    /// Lists all wanted tablespaces.
    pub(super) fn list(datadir: &Path, filter: &Filter, dictionary: Option<Dictionary>) -> Result<Self> {
        let mut catalog = Catalog::default();
        each(datadir, filter, &mut |found| {
            match twin(&found, datadir, dictionary.as_ref())? {
                Some(head) => catalog.twins.push((found, head)),
                None => {
                    catalog.bytes = catalog.bytes.saturating_add(found.size);
                    catalog.tables.push(Table::of(found, false));
                }
            }
            Ok(())
        })?;
        catalog.dictionary = dictionary;
        catalog.sort();
        Ok(catalog)
    }

    /// A catalog of tablespaces that the caller has listed.
    pub(super) fn of(spaces: Vec<Tablespace>) -> Self {
        let bytes = spaces.iter().fold(0, |bytes: u64, space| bytes.saturating_add(space.size));
        let tables = spaces.into_iter().map(|space| Table::of(space, false)).collect();
        let mut catalog = Catalog { tables, bytes, ..Catalog::default() };
        catalog.sort();
        catalog
    }

    /// Adds tablespaces.
    pub(super) fn add(&mut self, spaces: Vec<Tablespace>) {
        let more = Catalog::of(spaces);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.tables.extend(more.tables);
        self.sort();
    }

    /// The name of a tablespace that no longer existed when it was to be copied.
    pub(super) fn missed(&self) -> Option<&[u8]> {
        let gone = |table: &&Table| table.outcome.get() == Some(&Outcome::Gone);
        self.tables.iter().find(gone).map(|table| &*table.name)
    }

    /// The tablespaces, sorted by name.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Tablespaces with a new path, or whose page 0 was not initialized when they were to be copied. Nothing was sent
    /// for them, so they can be sent under their own names, without a lock.
    pub(super) fn fresh(&self, datadir: &Path, filter: &Filter, dictionary: Dictionary) -> Result<Catalog> {
        let mut fresh = Catalog::default();
        each(datadir, filter, &mut |found| {
            let unsent = match self.find(&found.name) {
                None => !is_temporary(&found.name),
                Some(table) => match table.outcome.get() {
                    Some(Outcome::Copied(_)) => false,
                    Some(Outcome::Foreign(seen)) if seen.identity == found.identity => {
                        dictionary.has(file(&found, seen.head))
                    }
                    _ => true,
                },
            };
            if unsent && twin(&found, datadir, Some(&dictionary))?.is_none() {
                fresh.bytes = fresh.bytes.saturating_add(found.size);
                fresh.tables.push(Table::of(found, true));
            }
            Ok(())
        })?;
        fresh.dictionary = Some(dictionary);
        Ok(fresh)
    }

    /// Adds the copied tablespaces of [`Catalog::fresh`].
    pub(super) fn merge(&mut self, fresh: Catalog) {
        self.tables.retain(|table| table.sent() || !fresh.tables.iter().any(|one| one.name == table.name));
        self.tables.extend(fresh.tables);
        self.sort();
    }

    /// Lists again, under the lock. `all` are the logged DDL statements since the backup began, `late` those since the
    /// extra pass.
    pub(super) fn changes(
        &self,
        datadir: &Path,
        filter: &Filter,
        all: &Named,
        late: &Named,
        review: &mut Review<'_, '_>,
    ) -> Result<Changes> {
        let touched = |table: &Table, _| if table.late { late } else { all }.has(&table.name);
        let mut pass = Pass::new(&touched);
        each(datadir, filter, &mut |found| {
            let temporary = self.find(&found.name).is_none() && is_temporary(&found.name);
            self.hold(found, None, temporary, review.ledger, &mut pass)
        })?;
        let mut changes = self.hold_unsure(pass, review)?;
        changes.gone = self.gone();
        Ok(changes)
    }

    /// The same for tablespaces that the caller has listed. `touched` are the ids of tablespaces with content that is
    /// not in the redo log. Undo tablespaces are complete in the log.
    pub(super) fn changes_of(
        &self,
        tables: Vec<Tablespace>,
        undo: Vec<Tablespace>,
        touched: &BTreeSet<SpaceId>,
        review: &mut Review<'_, '_>,
    ) -> Result<Changes> {
        let mut changes = Changes::default();
        let of_table = |_: &Table, head: Head| touched.contains(&head.space);
        let of_undo = |_: &Table, _: Head| false;
        let lists: [(Vec<Tablespace>, &Touched<'_>); 2] = [(tables, &of_table), (undo, &of_undo)];
        for (list, touched) in lists {
            let mut pass = Pass::new(touched);
            for found in list {
                self.hold(found, None, false, review.ledger, &mut pass)?;
            }
            let of_list = self.hold_unsure(pass, review)?;
            changes.again.extend(of_list.again);
            changes.unwritten.extend(of_list.unwritten);
        }
        changes.gone = self.gone();
        Ok(changes)
    }

    /// Compares what was copied while no DDL could run with the server's dictionary.
    pub(super) fn compare_with(&self, ledger: &mut Ledger<'_>) -> Result<()> {
        for table in &self.tables {
            let head = match table.outcome.get() {
                Some(Outcome::Copied(seen) | Outcome::Foreign(seen)) => seen.head,
                Some(Outcome::Deferred(_)) => Head::default(),
                Some(Outcome::Gone) | None => continue,
            };
            let file = File { id: head.id(), name: &table.name, external: table.external.as_deref() };
            ledger.take(file)?;
        }
        self.twins.iter().try_for_each(|(found, head)| ledger.take(file(found, *head)).map(|_| ()))
    }

    /// Finds out whether a file is the server's and decides on it ([`decide`]). `read` is its page 0, if it was read
    /// just now; a file whose page 0 must be read first is added to `unsure`.
    fn hold(
        &self,
        found: Tablespace,
        read: Option<Head>,
        is_temporary: bool,
        ledger: &mut Ledger<'_>,
        pass: &mut Pass<'_>,
    ) -> Result<()> {
        let table = self.find(&found.name);
        let before = table.and_then(|table| table.outcome.get());
        let now = Now::of(&found, before, read);
        let is_servers = match now.head {
            Some(head) if !is_temporary => ledger.take(file(&found, head))?,
            _ => false,
        };
        let is_touched = match (table, before) {
            (Some(table), Some(Outcome::Copied(seen))) => (pass.touched)(table, seen.head),
            _ => false,
        };
        if let Some(table) = table {
            table.present.store(is_servers, Relaxed);
        }
        match decide(before, Some(now), Evidence { is_servers, is_touched, is_temporary }) {
            Decision::Keep | Decision::Drop => {}
            Decision::Recopy => pass.changes.again.push(found),
            Decision::CopyFirst => pass.changes.unwritten.push(found),
            Decision::CheckPage0 => pass.unsure.push(found),
        }
        Ok(())
    }

    /// Reads page 0 of the unsure files and decides on them. Files that no longer exist are left out.
    fn hold_unsure(&self, mut pass: Pass<'_>, review: &mut Review<'_, '_>) -> Result<Changes> {
        for (found, head) in (review.heads)(std::mem::take(&mut pass.unsure))? {
            self.hold(found, Some(head), false, review.ledger, &mut pass)?;
        }
        Ok(pass.changes)
    }

    /// Names of members whose tablespaces the server no longer has.
    fn gone(&self) -> Vec<Vec<u8>> {
        let none = Evidence { is_servers: false, is_touched: false, is_temporary: false };
        let gone = self
            .tables
            .iter()
            .filter(|table| !table.present.load(Relaxed) && decide(table.outcome.get(), None, none) == Decision::Drop);
        gone.map(|table| table.name.to_vec()).collect()
    }

    /// True if a listing has this name.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
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

/// True if a tablespace has content that is not in the redo log. Arguments: its entry, and its page 0 when it was
/// copied.
type Touched<'a> = dyn Fn(&Table, Head) -> bool + 'a;

fn file(found: &Tablespace, head: Head) -> File<'_> {
    File { id: head.id(), name: &found.name, external: found.external.as_deref() }
}

/// Handles the second file with one name: returns its page 0 if the server's tablespace is not in this file.
fn twin(found: &Tablespace, datadir: &Path, dictionary: Option<&Dictionary>) -> Result<Option<Head>> {
    if !found.twin {
        return Ok(None);
    }
    let path = found.external.clone().unwrap_or_else(|| files::path_of(datadir, &found.name));
    let Some(dictionary) = dictionary else {
        let what = format!("{} is in two files, and only the server knows which is the table's", found.name.as_bstr());
        return Err(Error::invalid(path.display(), what).hint("move the other one away, or let the server run"));
    };
    // If it no longer exists, the copy will notice.
    let head = open::head(&path, Policy::Keep, &mut Aligned::new(ALIGN))?;
    Ok(head.filter(|head| !dictionary.has(file(found, *head))))
}

fn is_temporary(name: &[u8]) -> bool {
    name.contains_str("/#sql")
}

fn each(datadir: &Path, filter: &Filter, visit: &mut dyn FnMut(Tablespace) -> Result<()>) -> Result<()> {
    for database in files::databases(datadir)? {
        files::tablespaces(datadir, &database, &mut |found| {
            if filter.wants(&found.name) { visit(found) } else { Ok(()) }
        })?;
    }
    Ok(())
}
