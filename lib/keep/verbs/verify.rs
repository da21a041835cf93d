//! `verify`: reads and proves what is stored, without restoring it.

use std::fs::{File, OpenOptions};
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::keep::Keep;
use crate::keep::binlog::{Archive, pieces};
use crate::keep::catalog::{self, Backup, Catalog};
use crate::keep::chain::Ear;
use crate::keep::meta::{Note, What};
use crate::keep::source::Wanted;
use crate::keep::store::{self, Use};
use crate::report::{Level, Report};

/// Which backups, and how thoroughly.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ids; none: the newest with all that it builds on.
    pub ids: Vec<String>,
    /// All of the store.
    pub all: bool,
    /// Every page of InnoDB tablespaces, too.
    pub pages: bool,
}

/// What can be done about a lost `meta.json`.
const LOST: &str = "take it from another copy of the store, or add its stream again: xb-keep add";

/// Verifies backups, and notes the verdict of each. All are verified, also if one is bad.
///
/// # Errors
///
/// Damaged, if one of them is.
pub fn run(keep: &Keep, options: &Options, report: &dyn Report) -> Result<()> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let mut bad: Option<Error> = None;
    let mut fail = |error: Error| {
        if let Some(before) = bad.replace(error) {
            report.error(&before);
        }
    };
    if options.all {
        catalog.damaged.iter().for_each(|(_, error)| fail(error.clone()));
        for remains in catalog.remains.iter().filter(|remains| remains.lost) {
            fail(Error::damaged(&remains.id, "its meta.json is missing").hint(LOST));
        }
    }
    if options.all {
        for piece in Archive::all(&*keep.store)?.iter().flat_map(|archive| &archive.logs).flat_map(|log| &log.pieces) {
            match pieces::one(keep, piece) {
                Err(error) if error.kind() != Kind::Damaged => return Err(error),
                outcome => outcome.map(drop).unwrap_or_else(&mut fail),
            }
        }
    }
    for backup in wanted(&catalog, options)? {
        let began = Instant::now();
        report.stage(&backup.meta.id);
        let outcome = one(keep, backup, options.pages, report);
        let millis = u64::try_from(began.elapsed().as_millis()).ok();
        match outcome {
            Ok(()) => {
                note(keep, backup, Note { millis, ..Note::new(What::Verified, true) }, report);
                let seconds = began.elapsed().as_secs();
                report.note(Level::Info, format_args!("{}: verified in {seconds} s", backup.meta.id));
            }
            // A missing key or program says nothing about the backup.
            Err(error) if error.kind() != Kind::Damaged => return Err(error),
            Err(error) => {
                let detail = error.to_string();
                note(keep, backup, Note { millis, detail, ..Note::new(What::Verified, false) }, report);
                fail(error);
            }
        }
    }
    bad.map_or(Ok(()), Err)
}

fn wanted<'a>(catalog: &'a Catalog, options: &Options) -> Result<Vec<&'a Backup>> {
    if options.all {
        return Ok(catalog.backups.iter().collect());
    }
    if options.ids.is_empty() {
        return catalog.chain(catalog.find("latest")?);
    }
    options.ids.iter().map(|id| catalog.find(id)).collect()
}

/// Reads every object of a backup.
fn one(keep: &Keep, backup: &Backup, pages: bool, report: &dyn Report) -> Result<()> {
    let id = &backup.meta.id;
    if let Some(fault) = &backup.fault {
        return Err(Error::damaged(id, fault));
    }
    if let Some(log) = &backup.meta.log {
        let bytes = store::small(&*keep.store, &backup.object(&log.object))?;
        if blake3::hash(&bytes).to_hex().as_str() != log.blake3 {
            return Err(Error::damaged(backup.object(&log.object), "damaged: its sum is wrong"));
        }
    }
    let mut verify = vec!["xb-unpack".to_owned(), "--verify".to_owned()];
    verify.extend(pages.then(|| "--pages".to_owned()));
    let ear = Ear::default();
    let outcome = keep.with_source(backup, |source| {
        source.index()?;
        source.run(Wanted::Whole, &[verify], null()?, &ear, report).map(drop)
    });
    ear.tell(report);
    outcome
}

/// Where output goes that nobody wants.
///
/// # Errors
///
/// Failed, if the system has no such place.
pub fn null() -> Result<File> {
    OpenOptions::new().write(true).open("/dev/null").map_err(|cause| Error::io("/dev/null", "cannot open", &cause))
}

/// Adds a note; a store that cannot be written to keeps nobody from reading.
pub(super) fn note(keep: &Keep, backup: &Backup, note: Note, report: &dyn Report) {
    if let Err(error) = catalog::note(&*keep.store, &backup.meta.id, &note) {
        report.note(Level::Warning, format_args!("the verdict could not be noted: {error}"));
    }
}
