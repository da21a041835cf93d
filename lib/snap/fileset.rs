//! Compares the files to be copied with the server's dictionary. A tablespace that has no file ends the backup; a file
//! that belongs to no tablespace is left out, with a warning.

use std::path::PathBuf;

use bstr::ByteSlice;

use super::filter::Filter;
use super::open::{self, Head};
use super::steps::Found;
use crate::error::{Error, Result};
use crate::innodb::ids::SpaceId;
use crate::io::cache::{ALIGN, Aligned, Policy};
use crate::report::{Level, Report};
use crate::server::dictionary::{Dictionary, File, Ledger, Owner, Row};
use crate::server::files::{self, Layout, Tablespace, UNSEEN};

/// This many files that are left out get a line of their own.
const LINES: usize = 20;

/// Which of the files with the name of an undo tablespace are the server's.
pub(super) fn undo(found: &[Tablespace], dictionary: &Dictionary, layout: &Layout) -> Result<Vec<Tablespace>> {
    let mut ours = Vec::new();
    each_head(found, layout, &mut |space, file| {
        if dictionary.has(file) {
            ours.push(space.clone());
        }
        Ok(())
    })?;
    Ok(ours)
}

/// Marks the tablespaces of these files as found.
pub(super) fn take(ledger: &mut Ledger<'_>, found: &[Tablespace], layout: &Layout) -> Result<()> {
    each_head(found, layout, &mut |_, file| ledger.take(file).map(|_| ()))
}

fn each_head(
    found: &[Tablespace],
    layout: &Layout,
    visit: &mut dyn FnMut(&Tablespace, File<'_>) -> Result<()>,
) -> Result<()> {
    let mut block = Aligned::new(ALIGN);
    for space in found {
        if let Some(head) = open::head(&path(space, layout), Policy::Keep, &mut block)? {
            visit(space, File { id: head.id(), name: &space.name, external: space.external.as_deref() })?;
        }
    }
    Ok(())
}

/// For a stopped server: fails if two files have the same tablespace id. Only the dictionary of a recovered server
/// tells which of them is the table's.
pub(super) fn distinct(found: &Found, layout: &Layout) -> Result<()> {
    let paths = || {
        let tables = found.catalog.tables().iter().map(|table| table.path(&layout.datadir));
        tables.chain(found.undo.iter().map(|space| path(space, layout)))
    };
    let (mut block, mut ids) = (Aligned::new(ALIGN), Vec::new());
    for (place, path) in paths().enumerate() {
        let head = open::head(&path, Policy::Keep, &mut block)?;
        ids.extend(head.and_then(Head::id).map(|id| (id, place)));
    }
    ids.sort_unstable();
    let twice = ids.iter().zip(ids.iter().skip(1)).find(|(one, next)| one.0 == next.0);
    let Some(((id, one), (_, other))) = twice else { return Ok(()) };
    let path = |place: &usize| paths().nth(*place).unwrap_or_default();
    let what = format!("has tablespace {id}, and so has {}: one is a copy of the other", path(other).display());
    Err(Error::invalid(path(one).display(), what)
        .hint("move the copy out of the data directory, or let the server run: it knows which is the table's"))
}

fn path(space: &Tablespace, layout: &Layout) -> PathBuf {
    space.external.clone().unwrap_or_else(|| files::path_of(&layout.datadir, &space.name))
}

/// The ids of tablespaces for which there is no file: neither one that was `listed` nor another. Does not read the
/// files.
pub(super) fn unseen(dictionary: &Dictionary, listed: impl Fn(&[u8]) -> bool, filter: &Filter) -> Result<Vec<SpaceId>> {
    let mut unseen = Vec::new();
    for row in dictionary.rows().iter().filter(|row| wanted(dictionary, row, filter)) {
        if !listed(dictionary.name(row)) && files::seen(&dictionary.path(row))?.is_none() {
            unseen.push(row.id);
        }
    }
    Ok(unseen)
}

/// Those of them for which there is still no file.
pub(super) fn still_unseen(dictionary: &Dictionary, before: &[SpaceId]) -> Result<Vec<SpaceId>> {
    let mut unseen = Vec::new();
    for row in before.iter().filter_map(|id| dictionary.row(*id)) {
        if files::seen(&dictionary.path(row))?.is_none() {
            unseen.push(row.id);
        }
    }
    Ok(unseen)
}

/// Fails if the server has one of these tablespaces open.
pub(super) fn none_open(dictionary: &Dictionary, unseen: &[SpaceId]) -> Result<()> {
    let open = unseen.iter().filter_map(|id| dictionary.row(*id)).find(|row| row.is_open());
    open.map_or(Ok(()), |row| Err(missing(dictionary, row)))
}

/// Fails if the server has a tablespace for which no file was found.
pub(super) fn none_missing(ledger: &Ledger<'_>, filter: &Filter) -> Result<()> {
    let dictionary = ledger.dictionary;
    let first = ledger.missing().find(|row| wanted(dictionary, row, filter));
    first.map_or(Ok(()), |row| Err(missing(dictionary, row)))
}

/// Ids of tablespaces for which no file was found and that the server has not opened.
pub(super) fn unopened(ledger: &Ledger<'_>, filter: &Filter) -> Vec<SpaceId> {
    let dictionary = ledger.dictionary;
    ledger.unopened().filter(|row| wanted(dictionary, row, filter)).map(|row| row.id).collect()
}

fn missing(dictionary: &Dictionary, row: &Row) -> Error {
    let path = dictionary.path(row);
    let what = format!(
        "the server has tablespace {} in {}, and the file there is missing, or another one",
        row.id,
        path.display()
    );
    Error::invalid(dictionary.name(row).as_bstr(), what).hint(UNSEEN)
}

/// A table that an ALTER is building may come and go; a server that recovers drops it.
fn wanted(dictionary: &Dictionary, row: &Row, filter: &Filter) -> bool {
    !row.is_temporary(dictionary) && filter.wants(dictionary.name(row))
}

/// Warns of the files that were left out.
pub(super) fn tell(ledger: &Ledger<'_>, report: &dyn Report) {
    let warn = |text: std::fmt::Arguments<'_>| report.note(Level::Warning, text);
    for (name, owner) in ledger.foreign_files.iter().take(LINES) {
        let name = name.as_bstr();
        match owner {
            Owner::Copy(row) => {
                let table = ledger.dictionary.name(row).as_bstr();
                warn(format_args!("{name}: left out: tablespace {} of the server is in {table}", row.id));
            }
            Owner::Server(_) | Owner::Nobody => {
                warn(format_args!("{name}: left out: the server has no tablespace in this file"));
            }
        }
    }
    if let Some(more) = ledger.foreign_files.len().checked_sub(LINES).filter(|more| *more > 0) {
        warn(format_args!("data directory: left out: {more} more such files"));
    }
}
