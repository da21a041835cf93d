//! `restore`: a backup, with all that it builds on, as a directory on which a server can start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::catalog::Backup;
use crate::keep::chain::{self, Ear};
use crate::keep::meta::{BackupKind, Note, What};
use crate::keep::source::Wanted;
use crate::keep::store::Use;
use crate::keep::verbs::verify;
use crate::report::{Level, Report};

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The backup.
    pub id: String,
    /// The directory, which must be empty or not exist.
    pub to: PathBuf,
    /// A data directory to which the result is copied.
    pub copy_back: Option<CopyBack>,
}

/// `xb-redo --copy-back`.
#[derive(Clone, Debug)]
pub struct CopyBack {
    /// The data directory.
    pub datadir: PathBuf,
    /// The owner of the files, if it is not that of the directory.
    pub owner: Option<String>,
}

/// The programs that follow once everything is unpacked.
#[derive(Debug)]
struct Plan {
    apply: Vec<String>,
    copy_back: Option<Vec<String>>,
}

/// Restores a backup.
///
/// # Errors
///
/// Damaged, if a backup that is needed is missing or bad; the kind of the program that failed.
pub fn run(keep: &Keep, options: &Options, report: &dyn Report) -> Result<()> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(&options.id)?;
    let began = Instant::now();
    let outcome = restore(keep, &catalog.chain(backup)?, options, report);
    if outcome.is_ok() {
        let millis = u64::try_from(began.elapsed().as_millis()).ok();
        let detail = options.to.display().to_string();
        verify::note(keep, backup, Note { millis, detail, ..Note::new(What::Restored, true) }, report);
        let (id, to, seconds) = (&backup.meta.id, options.to.display(), began.elapsed().as_secs());
        report.note(Level::Info, format_args!("{id}: restored to {to} in {seconds} s"));
        report.facts(serde_json::json!({ "id": id, "directory": options.to, "binlog": backup.meta.binlog }));
    }
    outcome
}

/// The steps, a line each.
///
/// # Errors
///
/// As [`run`], as far as the catalogue shows.
pub fn plan(keep: &Keep, options: &Options) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(&options.id)?;
    let chain = catalog.chain(backup)?;
    let (_, increments) = split(&chain)?;
    let directories: Vec<PathBuf> = increments.iter().map(|one| Path::new("…").join(&one.meta.id)).collect();
    let plan = Plan::new(keep, &directories, options);
    let mut text = String::new();
    let mut step = |number: usize, line: &str| {
        let _ = writeln!(text, "{number}. {line}");
    };
    for (number, one) in chain.iter().enumerate() {
        let to = if number == 0 { options.to.clone() } else { Path::new("…").join(&one.meta.id) };
        let unpack = ["xb-unpack".to_owned(), "-C".to_owned(), to.display().to_string()];
        let programs: Vec<String> = keep.undo(one).iter().map(|run| run.join(" ")).chain([unpack.join(" ")]).collect();
        step(number + 1, &format!("{} ({} bytes) | {}", one.meta.id, one.meta.stream.bytes, programs.join(" | ")));
    }
    step(chain.len() + 1, &plan.apply.join(" "));
    if let Some(run) = &plan.copy_back {
        step(chain.len() + 2, &run.join(" "));
    }
    Ok(text)
}

fn split<'a>(chain: &'a [&'a Backup]) -> Result<(&'a Backup, &'a [&'a Backup])> {
    let (base, increments) = chain.split_first().ok_or_else(|| Error::internal("a backup without itself"))?;
    match base.meta.kind {
        BackupKind::Full => Ok((base, increments)),
        BackupKind::Incremental | BackupKind::Files => {
            Err(Error::failed(&base.meta.id, "holds files, which are no backup of a server")
                .hint("xb-keep cat STORE ID | xb-unpack -C DIR"))
        }
    }
}

/// Unpacks and applies a chain, and copies the result back if that is wanted.
pub(super) fn restore(keep: &Keep, chain: &[&Backup], options: &Options, report: &dyn Report) -> Result<()> {
    let (base, increments) = split(chain)?;
    let to = &options.to;
    // On the same file system: there is room for the rest, too.
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fail = |cause: &std::io::Error| Error::io(parent.display(), "cannot write", cause);
    let beside = if increments.is_empty() {
        None
    } else {
        Some(tempfile::Builder::new().prefix(".xb-keep-").tempdir_in(parent).map_err(|cause| fail(&cause))?)
    };
    let at = |one: &Backup| beside.as_ref().map_or(parent, |dir| dir.path()).join(&one.meta.id);
    unpack(keep, base, to, report)?;
    for one in increments {
        unpack(keep, one, &at(one), report)?;
    }
    let directories: Vec<PathBuf> = increments.iter().map(|one| at(one)).collect();
    let plan = Plan::new(keep, &directories, options);
    report.stage("applying");
    heard(plan.apply, report)?;
    if let Some(run) = plan.copy_back {
        report.stage("copying back");
        heard(run, report)?;
    }
    Ok(())
}

fn heard(run: Vec<String>, report: &dyn Report) -> Result<()> {
    let ear = Ear::default();
    let outcome = chain::run(run, &ear);
    ear.tell(report);
    outcome
}

fn unpack(keep: &Keep, backup: &Backup, to: &Path, report: &dyn Report) -> Result<()> {
    report.stage(&backup.meta.id);
    let unpack = vec!["xb-unpack".to_owned(), "-C".to_owned(), to.display().to_string()];
    let ear = Ear::default();
    let outcome = keep
        .with_source(backup, |source| source.run(Wanted::Whole, &[unpack], verify::null()?, &ear, report).map(drop));
    ear.tell(report);
    outcome.map_err(|error| {
        Error::new(error.kind(), &backup.meta.id, &error)
            .hint(error.advice().unwrap_or("the directory is not complete; remove it"))
    })
}

impl Plan {
    fn new(keep: &Keep, directories: &[PathBuf], options: &Options) -> Plan {
        let restoring = &keep.settings.restore;
        let word = |path: &Path| path.display().to_string();
        let mut apply = vec!["xb-redo".to_owned(), "--apply".to_owned(), word(&options.to)];
        if let Some(server) = &restoring.server {
            apply.extend(["--server".to_owned(), word(server)]);
        }
        apply.extend(restoring.use_memory.iter().map(|size| format!("--use-memory={size}")));
        apply.extend(restoring.server_options.iter().map(|option| format!("--server-option={option}")));
        if !directories.is_empty() {
            apply.push("--incremental-dir".to_owned());
            apply.extend(directories.iter().map(|dir| word(dir)));
        }
        let copy_back = options.copy_back.as_ref().map(|copy| {
            let mut run = vec!["xb-redo".to_owned(), "--copy-back".to_owned(), word(&options.to)];
            run.extend(["--datadir".to_owned(), word(&copy.datadir)]);
            run.extend(copy.owner.iter().flat_map(|owner| ["--owner".to_owned(), owner.clone()]));
            run
        });
        Plan { apply, copy_back }
    }
}
