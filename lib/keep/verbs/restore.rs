//! `restore`: a backup, with all that it builds on, as a directory on which a server can start.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::binlog::until::Until;
use crate::keep::binlog::{self, replay};
use crate::keep::catalog::{Backup, Catalog};
use crate::keep::chain::{self, Ear};
use crate::keep::meta::{BackupKind, Note, What};
use crate::keep::replica::{self, Of};
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
    /// The moment up to which binary logs are replayed.
    pub until: Option<Until>,
    /// Whose replica the restored server becomes.
    pub replica: Option<Of>,
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

/// Restores a backup; returns the statements that make it a replica, if that is wanted.
///
/// # Errors
///
/// Damaged, if a backup that is needed is missing or bad; the kind of the program that failed.
pub fn run(keep: &Keep, options: &Options, report: &dyn Report) -> Result<Option<String>> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = chosen(&catalog, options)?;
    let statements = options.replica.map(|of| replica::statements(&backup.meta, of)).transpose()?;
    let began = Instant::now();
    let outcome = restore(keep, &catalog.chain(backup)?, options, report);
    if outcome.is_ok() {
        let millis = u64::try_from(began.elapsed().as_millis()).ok();
        let until = options.until.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
        let detail = format!("{}{until}", options.to.display());
        verify::note(keep, backup, Note { millis, detail, ..Note::new(What::Restored, true) }, report);
        let (id, to, seconds) = (&backup.meta.id, options.to.display(), began.elapsed().as_secs());
        report.note(Level::Info, format_args!("{id}: restored to {to} in {seconds} s"));
        report.facts(serde_json::json!({ "id": id, "directory": options.to, "binlog": backup.meta.binlog }));
    }
    outcome.map(|()| statements)
}

/// The steps, a line each.
///
/// # Errors
///
/// As [`run`], as far as the catalogue shows.
pub fn plan(keep: &Keep, options: &Options) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = chosen(&catalog, options)?;
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
    let mut number = chain.len() + 2;
    if let (Some(until), Some(binlog)) = (&options.until, &backup.meta.binlog) {
        let from = format!("{}:{}", binlog.file, binlog.position);
        step(number, &format!("a private server replays the archived binary logs from {from} until {until}"));
        number += 1;
    }
    if let Some(run) = &plan.copy_back {
        step(number, &run.join(" "));
    }
    Ok(text)
}

/// The backup to begin with: that with the id or, for a moment, the newest good one before it.
fn chosen<'a>(catalog: &'a Catalog, options: &Options) -> Result<&'a Backup> {
    let Some(until) = &options.until else { return catalog.find(&options.id) };
    let usable = |backup: &&Backup| {
        let chain = || catalog.chain(backup).is_ok_and(|chain| chain.iter().all(|one| one.is_good()));
        backup.meta.kind != BackupKind::Files && backup.meta.binlog.is_some() && chain()
    };
    let before = |backup: &&Backup| match (until, &backup.meta.binlog) {
        (Until::Time(time), _) => backup.meta.end <= *time,
        (Until::Position(file, position), Some(at)) => match (binlog::parts(&at.file), binlog::parts(file)) {
            (Some((of, number)), Some((series, wanted))) => {
                of == series && (number, at.position) <= (wanted, *position)
            }
            _ => false,
        },
        (Until::Gtid(gtid), Some(at)) => !executed(&at.gtid, gtid),
        _ => true,
    };
    if options.id != "latest" {
        let named = catalog.find(&options.id)?;
        return Some(named).filter(before).ok_or_else(|| {
            Error::failed(format_args!("--until {until}"), format_args!("{} ends after that", named.meta.id))
                .hint("without an ID the newest backup before the moment is taken")
        });
    }
    let found = catalog.backups.iter().rev().filter(usable).find(before);
    found.ok_or_else(|| {
        Error::failed(format_args!("--until {until}"), "no backup of the store ends before it")
            .hint("xb-keep list STORE shows them with their positions")
    })
}

/// True if a GTID position includes a transaction: `0-1-17,1-1-3` of MariaDB, `UUID:1-5:7,…` of MySQL.
fn executed(position: &str, gtid: &str) -> bool {
    if let Some((uuid, number)) = gtid.split_once(':') {
        let number: u64 = number.parse().unwrap_or(u64::MAX);
        let inside = |range: &str| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let bounds = from.trim().parse::<u64>().ok().zip(to.trim().parse::<u64>().ok());
            bounds.is_some_and(|(from, to)| (from..=to).contains(&number))
        };
        let set = position.split(',').filter_map(|set| set.trim().split_once(':'));
        return set.filter(|(of, _)| of.eq_ignore_ascii_case(uuid)).any(|(_, ranges)| ranges.split(':').any(inside));
    }
    let parts = |text: &str| -> Option<(u64, u64)> {
        let mut parts = text.trim().split('-').map(|part| part.parse().ok());
        let (domain, _, sequence) = (parts.next()??, parts.next()??, parts.next()??);
        Some((domain, sequence))
    };
    let Some((domain, sequence)) = parts(gtid) else { return false };
    position.split(',').filter_map(parts).any(|(of, last)| of == domain && last >= sequence)
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
    // What cannot be replayed is known before the long work.
    let room = match &options.until {
        Some(_) => Some(tempfile::Builder::new().prefix(".xb-keep-").tempdir_in(parent).map_err(|cause| fail(&cause))?),
        None => None,
    };
    let replay = match (&options.until, &room, chain.last()) {
        (Some(until), Some(room), Some(last)) => {
            let room = room.path().canonicalize().map_err(|cause| fail(&cause))?;
            Some((replay::prepare(keep, &last.meta, until, &room, report)?, &last.meta))
        }
        _ => None,
    };
    unpack(keep, base, to, report)?;
    for one in increments {
        unpack(keep, one, &at(one), report)?;
    }
    let directories: Vec<PathBuf> = increments.iter().map(|one| at(one)).collect();
    let plan = Plan::new(keep, &directories, options);
    report.stage("applying");
    heard(plan.apply, report)?;
    if let (Some((replay, meta)), Some(room)) = (&replay, &room) {
        let room = room.path().canonicalize().map_err(|cause| fail(&cause))?;
        let data = to.canonicalize().map_err(|cause| fail(&cause))?;
        replay.run(keep, meta, &data, &room, report)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_includes_what_was_executed() {
        assert!(executed("0-1-17,1-1-3", "0-2-17") && executed("0-1-17", "0-1-1"));
        assert!(!executed("0-1-17,1-1-3", "0-1-18") && !executed("0-1-17", "2-1-1") && !executed("", "0-1-1"));
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = format!("{}:1-5:7, aaaaaaaa-71ca-11e1-9e33-c80aa9429562:1-100", uuid.to_uppercase());
        let of = |number: u64| executed(&set, &format!("{uuid}:{number}"));
        assert_eq!([1, 5, 6, 7, 8].map(of), [true, true, false, true, false]);
    }
}
