//! `xb-redo --merge`: merges increments into their base, which then equals a full backup.
//!
//! No log is applied. The logs of the base and of the inner increments are not needed: the merged files are what a full
//! copy would have read, and the log of the last increment begins before that copy
//! (`facts/mariadb-hot-backup#increments`). Everything is checked before a byte is changed: that base and increments
//! belong together, every file's digest, the lists of all deltas. `plan` derives from the manifests what is to be done;
//! `journal` says why a killed merge can be run again.

mod chain;
mod growth;
mod journal;
mod patch;
mod plan;
mod result;
mod work;

use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use self::growth::Growth;
use self::journal::{Journal, Phase};
use self::patch::Shape;
use self::plan::{Origin, Plan};
use self::work::Work;
use super::backup::{self, Backup};
use super::check::Thorough;
use super::state::State;
use super::{check, clone, lock, waiting};
use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::ids::Lsn;
use crate::report::{Level, Report};
use crate::stream::native::names::MERGING;
use crate::stream::native::{Entry, StreamKind};

/// What to merge.
#[derive(Clone, Debug)]
pub struct Options {
    /// The base, unpacked and not applied.
    pub dir: PathBuf,
    /// Increments, unpacked, in the order in which they were made.
    pub increments: Vec<PathBuf>,
    /// Merge into a copy in this directory instead.
    pub to: Option<PathBuf>,
    /// Number of threads that read and write files.
    pub threads: usize,
    /// Which files are verified before.
    pub thorough: Thorough,
    /// How many bytes of zeros tablespaces may grow by, in addition to a multiple of what was copied of them.
    pub holes: u64,
}

/// The result of a merge.
#[derive(Clone, Debug)]
pub struct Merged {
    /// Its directory.
    pub dir: PathBuf,
    /// True if this run has verified base and increments by their digests; false if it found a finished merge, or
    /// finished one that an earlier run had begun.
    pub proved: bool,
}

/// Merges, or continues an interrupted merge.
///
/// # Errors
///
/// - Invalid: the increments do not fit the base or each other.
/// - Damaged: a backup is incomplete, or a file differs from its manifest.
/// - Failed: files cannot be read or written, or the limit for zeros is exceeded.
///
/// Nothing is changed before everything is checked. After that, `xb_merging` marks the directory, and another run with
/// the same increments continues.
pub fn run(options: &Options, report: &dyn Report) -> Result<Merged> {
    run_if(options, &|_| Ok(()), report)
}

/// Like [`run`], but only if `ready` succeeds. It is called with the last increment once the increments are known to
/// belong to the base, and before files are read as a whole.
pub(super) fn run_if(options: &Options, ready: &dyn Fn(&Backup) -> Result<()>, report: &dyn Report) -> Result<Merged> {
    waiting::end(&options.dir, report)?;
    let increments = chain::increments(&options.increments)?;
    let ready = || increments.last().map_or(Ok(()), ready);
    let target = options.to.as_ref().unwrap_or(&options.dir);
    let merged = |proved| Ok(Merged { dir: target.clone(), proved });
    let ids: Vec<String> = increments.iter().filter_map(Backup::id).map(str::to_owned).collect();
    if let Some(journal) = Journal::read(target)? {
        let Some(done) = ids.len().checked_sub(journal.increments.len()).filter(|_| ids.ends_with(&journal.increments))
        else {
            return Err(Error::invalid(target.display(), "a merge of other increments was interrupted here")
                .hint(format_args!("give those with the backup ids {}", journal.increments.join(", "))));
        };
        report.note(Level::Info, format_args!("{}: continuing an interrupted run", target.display()));
        ready()?;
        let increments = increments.part(done..)?;
        digests(increments, options.thorough, options.threads, report)?;
        merge(target, increments, Some(journal), options.threads, report)?;
        return merged(false);
    }
    let nothing = || report.note(Level::Info, format_args!("{}: is merged already; nothing to do", target.display()));
    if options.to.is_some() && is_merged(target, &ids) {
        nothing();
        return merged(false);
    }
    let base = Backup::read(&options.dir)?;
    // Skips increments that an earlier run has merged into the base.
    let done = base.id().and_then(|id| ids.iter().position(|one| one == id)).map_or(0, |at| at + 1);
    let increments = increments.part(done..)?;
    if increments.is_empty() && options.to.is_none() {
        nothing();
        return merged(false);
    }
    in_order(&base, increments)?;
    ready()?;
    prove(&base, increments, options, report)?;
    if let Some(to) = &options.to
        && !clone::run(&options.dir, to, options.threads, report)?
    {
        // The copy of an earlier run may have been changed since.
        let copy = Backup::read(to)?;
        chain::base(&copy)?;
        digests(std::slice::from_ref(&copy), options.thorough, options.threads, report)?;
    }
    match increments {
        [] => nothing(),
        _ => merge(target, increments, None, options.threads, report)?,
    }
    merged(true)
}

/// True if the directory is the result already, applied or not.
fn is_merged(target: &Path, ids: &[String]) -> bool {
    Backup::read(target).is_ok_and(|found| {
        found.kind != StreamKind::Incremental && found.id().is_some_and(|id| ids.last().is_some_and(|last| last == id))
    })
}

/// Checks that each follows the one before it.
fn in_order(base: &Backup, increments: &[Backup]) -> Result<()> {
    chain::base(base)?;
    let mut before = base;
    for next in increments {
        chain::follows(before, next)?;
        before = next;
    }
    Ok(())
}

/// Checks everything else that can be checked, and changes nothing.
fn prove(base: &Backup, increments: &[Backup], options: &Options, report: &dyn Report) -> Result<()> {
    digests(std::slice::from_ref(base), options.thorough, options.threads, report)?;
    digests(increments, options.thorough, options.threads, report)?;
    let plan = plan(base, increments)?;
    let mut growth = Growth::new(options.holes);
    for space in &plan.spaces {
        growth.begin(space);
        for (at, (number, entry)) in space.deltas.iter().enumerate() {
            let delta = increments.get(*number).or_internal(LOST)?.file(entry)?;
            let shape = Shape::of(&delta, entry)?;
            growth.step(&delta, entry, &shape)?;
            let complete = shape.check(&delta)?;
            if at == 0 && space.origin == Origin::Nothing && !complete {
                let what = "has only what changed in it, and the base does not have this tablespace";
                return Err(Error::invalid(delta.display(), what)
                    .hint("was the base a partial backup? take a full backup of everything"));
            }
        }
    }
    Ok(())
}

fn digests(directories: &[Backup], thorough: Thorough, threads: usize, report: &dyn Report) -> Result<()> {
    directories.iter().try_for_each(|backup| check::digests(backup, thorough, threads, false, report))
}

fn entries(backup: &Backup) -> Result<&[Entry]> {
    Ok(&chain::ours(backup)?.entries)
}

fn plan<'a>(base: &'a Backup, increments: &'a [Backup]) -> Result<Plan<'a>> {
    let lists: Vec<&[Entry]> = increments.iter().map(entries).collect::<Result<_>>()?;
    Plan::new(entries(base)?, &lists).map_err(|clash| {
        let backup = clash.backup.checked_sub(1).and_then(|number| increments.get(number)).unwrap_or(base);
        let [one, other] = &clash.names;
        let what = format!("{} and {} are both tablespace {}", one.as_bstr(), other.as_bstr(), clash.space_id);
        Error::invalid(backup.path.display(), what)
            .hint("one is a copy that lay in the server's data directory; take a new full backup")
    })
}

/// Changes the base in `dir`; `journal` is set if an earlier run has begun.
fn merge(
    dir: &Path,
    increments: &[Backup],
    journal: Option<Journal>,
    threads: usize,
    report: &dyn Report,
) -> Result<()> {
    let lock = lock::take(dir, report)?;
    let last = increments.last().or_internal(LOST)?;
    let fresh = journal.is_none();
    // There was no lock until now.
    if Journal::read(dir)? != journal {
        return Err(
            Error::failed(dir.display(), "another xb-redo was running in it").hint("look at --status and run it again")
        );
    }
    if journal.as_ref().is_none_or(|journal| journal.phase < Phase::Finishing) {
        let base = Backup::ours(dir, State::read(dir)?)?;
        chain::unapplied(&base)?;
        let id = base.id().or_internal(LOST)?;
        if journal.as_ref().is_some_and(|journal| journal.base != id) {
            return Err(backup::of_another(&dir.join(MERGING)));
        }
        let ids = increments.iter().filter_map(Backup::id).map(str::to_owned).collect();
        let mut journal = journal.unwrap_or_else(|| Journal::new(id.to_owned(), ids));
        increments.first().map_or(Ok(()), |first| chain::follows(&base, first))?;
        let plan = plan(&base, increments)?;
        let work = Work { dir, base: &base, increments, plan: &plan, threads, fresh, report };
        work.run(&mut journal)?;
    }
    result::place(dir)?;
    Journal::remove(dir)?;
    report.facts(serde_json::json!({
        "directory": dir.display().to_string(),
        "backup_id": last.id(),
        "increments": increments.len(),
        "start_lsn": last.start_lsn,
        "end_lsn": last.end_lsn,
    }));
    let lsn = |lsn: Option<Lsn>| lsn.unwrap_or_default();
    report.note(
        Level::Info,
        format_args!(
            "{}: merged {} increments, lsn {}..{}; ready for xb-redo --apply",
            dir.display(),
            increments.len(),
            lsn(last.start_lsn),
            lsn(last.end_lsn)
        ),
    );
    lock::give_back(dir)?;
    drop(lock);
    Ok(())
}

/// Cannot happen with any input.
const LOST: &str = "a chain of increments has lost a link";
