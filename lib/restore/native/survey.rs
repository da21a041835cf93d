//! Reads the log from end to end before anything is changed: every record is parsed, and what is known only after the
//! last one is noted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::error::{Error, Result};
use crate::innodb::redo::mariadb::mtr::FileOp;
use crate::innodb::redo::mariadb::records::{Body, PageId, PageOp, Records};
use crate::innodb::{Lsn, PageNo, SpaceId};
use crate::log::captured::mariadb::Captured;

/// Where the size of a tablespace is in its page 0.
const SIZE: std::ops::Range<usize> = 46..50;

/// Part of a mini-transaction: the first record names a page, and the others are of the same page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The page.
    pub(super) page: PageId,
    /// Offset in the log file.
    pub(super) at: u64,
    /// Bytes.
    pub(super) len: u32,
    /// Where its mini-transaction begins and ends.
    pub(super) start_lsn: Lsn,
    /// The end.
    pub(super) end_lsn: Lsn,
}

/// A page whose earlier content does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Void {
    /// Offset of the last record that says so.
    pub(super) at: u64,
    /// It was freed, and not initialized.
    pub(super) freed: bool,
}

/// A tablespace that is cut and made anew: nothing before counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Offset of the mini-transaction.
    pub(super) at: u64,
    /// Where that begins.
    pub(super) lsn: Lsn,
    /// How many pages are left, the smallest number of all cuts.
    pub(super) pages: u32,
}

/// What the log says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Its last name, as in the log.
    pub(super) name: Vec<u8>,
    /// Where it was deleted.
    pub(super) deleted: Option<Lsn>,
}

/// What is known after the last record.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Pages that were freed or initialized.
    pub(super) voids: HashMap<PageId, Void>,
    /// Tablespaces that were cut.
    pub(super) cuts: BTreeMap<SpaceId, Cut>,
    /// Tablespaces whose files the log names.
    pub(super) named: BTreeMap<SpaceId, Named>,
    /// Tablespaces with records of pages: the first one.
    pub(super) used: BTreeMap<SpaceId, (PageId, Lsn)>,
    /// Tablespaces whose size was written.
    pub(super) sized: BTreeSet<SpaceId>,
    /// How many records there are of each kind.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// Records of the first page of each tablespace that was initialized by the log.
    pub(super) heads: BTreeMap<SpaceId, Vec<Run>>,
}

impl Survey {
    /// Of a log that ends at this LSN.
    pub(super) fn of(captured: &Captured, end: Lsn) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut begun = false;
        let found = captured.walk(|at, mtr| {
            let (start_lsn, end_lsn) = (captured.lsn(at), captured.lsn(at + mtr.len() as u64));
            if end_lsn > end {
                let what = format_args!("continues to lsn {end_lsn}, beyond the end of the backup at {end}");
                return Err(Error::damaged(captured.path().display(), what));
            }
            begun |= survey.see(captured.path(), at, mtr, (start_lsn, end_lsn), captured.start_lsn())?;
            Ok(())
        })?;
        if found != end {
            let what = format_args!("truncated: ends at lsn {found}, the backup at {end}");
            return Err(Error::damaged(captured.path().display(), what));
        }
        if !begun {
            let what = format_args!("has no record of its checkpoint at lsn {}", captured.start_lsn());
            return Err(Error::damaged(captured.path().display(), what));
        }
        Ok(survey)
    }

    /// True if the mini-transaction has the record of this checkpoint.
    fn see(&mut self, path: &Path, at: u64, mtr: &[u8], lsns: (Lsn, Lsn), checkpoint: Lsn) -> Result<bool> {
        let mut begun = false;
        for record in Records::of(mtr) {
            let record = record.map_err(|fault| {
                Error::damaged(path.display(), format_args!("mini-transaction at lsn {}: {fault}", lsns.0))
            })?;
            match record.body {
                Body::File(None) => {}
                Body::File(Some(file)) => match file.op {
                    FileOp::Checkpoint(lsn) => begun |= lsn == checkpoint,
                    FileOp::Delete(_) => drop(self.named.entry(file.space).or_default().deleted.get_or_insert(lsns.0)),
                    FileOp::Create(name) | FileOp::Modify(name) | FileOp::Rename(_, name) => {
                        self.named.entry(file.space).or_default().name = name.to_vec();
                    }
                },
                Body::Page(page, op) => {
                    *self.counts.entry(op.name()).or_default() += 1;
                    self.used.entry(page.space).or_insert((page, lsns.0));
                    let here = at + record.place.start as u64;
                    match op {
                        PageOp::Trim => {
                            let before = self.cuts.get(&page.space).map_or(u32::MAX, |cut| cut.pages);
                            let pages = page.number.get().min(before);
                            self.cuts.insert(page.space, Cut { at, lsn: lsns.0, pages });
                        }
                        PageOp::Free => drop(self.voids.insert(page, Void { at: here, freed: true })),
                        PageOp::Init => drop(self.voids.insert(page, Void { at: here, freed: false })),
                        PageOp::Write { at, bytes }
                            if page.number == PageNo::new(0) && at < SIZE.end && at + bytes.len() > SIZE.start =>
                        {
                            self.sized.insert(page.space);
                        }
                        _ => {}
                    }
                }
            }
        }
        each_run(mtr, at, lsns, |run, _| {
            if run.page.number == PageNo::new(0) && self.voids.contains_key(&run.page) {
                self.heads.entry(run.page.space).or_default().push(run);
            }
            Ok(())
        })
        .map_err(|fault: Error| fault)?;
        Ok(begun)
    }

    /// True if the records of this run count for nothing.
    pub(super) fn passes_over(&self, run: &Run) -> bool {
        let cut = self.cuts.get(&run.page.space).is_some_and(|cut| run.at < cut.at);
        cut || self.voids.get(&run.page).is_some_and(|void| run.at < void.at || run.at == void.at && void.freed)
    }
}

/// Calls `each` with every run of a mini-transaction whose records have been checked, and its bytes.
pub(super) fn each_run(
    mtr: &[u8],
    at: u64,
    (start_lsn, end_lsn): (Lsn, Lsn),
    mut each: impl FnMut(Run, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut begun: Option<(PageId, usize)> = None;
    let mut end = 0;
    let mut close = |begun: Option<(PageId, usize)>, end: usize| {
        let Some((page, from)) = begun else { return Ok(()) };
        let bytes = mtr.get(from..end).unwrap_or_default();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        each(Run { page, at: at + from as u64, len, start_lsn, end_lsn }, bytes)
    };
    for record in Records::of(mtr) {
        let Ok(record) = record else { return Err(Error::internal("a record has changed")) };
        if let Body::Page(page, ref op) = record.body
            && !record.same_page
        {
            close(begun.take(), end)?;
            begun = (*op != PageOp::Trim).then_some((page, record.place.start));
        }
        end = record.place.end;
    }
    close(begun, end)
}
