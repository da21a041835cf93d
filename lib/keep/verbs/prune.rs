//! `prune`: removes what the rules do not keep, and what crashed runs left.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::binlog::{self, Archive};
use crate::keep::catalog::{self, Backup, Catalog, Remains};
use crate::keep::marks;
use crate::keep::meta::{BACKUPS, Note, What};
use crate::keep::retention::{self, Decision, Rules};
use crate::keep::store::{Object, Use};
use crate::report::Report;

/// How many notes of failed runs are kept.
const FAILURES: usize = 50;
/// Remains of a run that is younger than this stay, in seconds; somebody may be looking into it.
const YOUNG: i64 = 86_400;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rules instead of those of the settings.
    pub rules: Rules,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug)]
pub struct Pruned {
    /// The decision about each backup.
    pub decisions: Vec<Decision>,
    /// Remains of crashed runs.
    pub remains: Vec<String>,
    /// How many objects of binary logs.
    pub logs: usize,
    /// How many bytes.
    pub bytes: u64,
}

/// Prunes.
///
/// # Errors
///
/// Damaged, if a backup cannot be read, because nobody knows what it builds on; Usage, if the rules would keep nothing;
/// Failed, if the store is in use.
pub fn run(keep: &Keep, options: &Options, report: &dyn Report) -> Result<Pruned> {
    let how = if options.dry_run { Use::Read } else { Use::Prune };
    let _held = keep.store.hold(how)?;
    let rules = options.rules.clone().or(&keep.settings.retention);
    rules.check()?;
    let catalog = if options.dry_run { keep.catalog()? } else { keep.recovered()? };
    if let Some((id, error)) = catalog.damaged.first() {
        let what =
            format_args!("nothing is pruned while {id} cannot be read, for what it builds on is not known: {error}");
        return Err(Error::damaged(keep.store.place(), what)
            .hint(format_args!("take {BACKUPS}{id} from another copy of the store, or move it away")));
    }
    let decisions = retention::decide(&catalog.items(), &rules);
    let remains: Vec<&Remains> =
        catalog.remains.iter().filter(|remains| remains.deleted || is_abandoned(remains)).collect();
    let gone: Vec<&str> = decisions.iter().filter(|one| !one.keep).map(|one| one.id.as_str()).collect();
    let backups = || catalog.backups.iter().filter(|backup| gone.contains(&backup.meta.id.as_str()));
    let mut bytes = backups().fold(0, |sum: u64, backup| sum.saturating_add(backup.stored));
    let leftovers = || remains.iter().flat_map(|remains| &remains.objects);
    bytes = leftovers().fold(bytes, |sum, object| sum.saturating_add(object.size));
    let kept = catalog.backups.iter().filter(|backup| !gone.contains(&backup.meta.id.as_str()));
    let logs = below(&Archive::all(&*keep.store)?, &kept.collect::<Vec<_>>());
    bytes = logs.iter().fold(bytes, |sum, object| sum.saturating_add(object.size));
    if !options.dry_run {
        // The newest first: an increment goes before its base.
        for backup in backups().collect::<Vec<_>>().into_iter().rev() {
            report.stage(&backup.meta.id);
            catalog::note(&*keep.store, &backup.meta.id, &Note::new(What::Deleted, true))?;
            marks::remove(&*keep.store, &backup.meta.id, keep.store.list(&backup.object(""))?)?;
        }
        for one in &remains {
            marks::remove(&*keep.store, &one.id, one.objects.clone())?;
        }
        for object in &logs {
            keep.store.remove(&object.name)?;
        }
        old_failures(keep, &catalog)?;
        bytes = bytes.saturating_add(keep.store.sweep()?);
    }
    let remains = remains.iter().map(|remains| remains.id.clone()).collect();
    Ok(Pruned { decisions, remains, logs: logs.len(), bytes })
}

/// Binary logs that no backup needs: those before the oldest position of a backup of their server. Without such a backup
/// all stay, and so do those of other names.
fn below(archives: &[Archive], kept: &[&Backup]) -> Vec<Object> {
    let mut objects = Vec::new();
    for archive in archives {
        let of_server =
            kept.iter().filter(|backup| binlog::server(backup.meta.server.uuid.as_deref()) == archive.server);
        let positions: Vec<&str> =
            of_server.filter_map(|backup| backup.meta.binlog.as_ref()).map(|binlog| binlog.file.as_str()).collect();
        for log in &archive.logs {
            let of_series = positions.iter().filter_map(|file| binlog::parts(file));
            let floor = of_series.filter(|(series, _)| *series == log.series).map(|(_, number)| number).min();
            if floor.is_some_and(|floor| log.number < floor) {
                objects.extend(log.pieces.iter().map(|piece| piece.object.clone()));
            }
        }
    }
    objects
}

/// A run that was cut off long ago, and is marked so. Whatever may have been a backup is none of these.
fn is_abandoned(remains: &Remains) -> bool {
    let time = remains.id.get(..16).and_then(|stamp| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok());
    let time = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()).map(|time| time.timestamp());
    let old = time.is_some_and(|time| Timestamp::now().duration_since(time).as_secs() > YOUNG);
    old && remains.begun && !remains.lost
}

fn old_failures(keep: &Keep, catalog: &Catalog) -> Result<()> {
    let old = catalog.failures.len().saturating_sub(FAILURES);
    catalog.failures.iter().take(old).try_for_each(|object| keep.store.remove(&object.name))
}

impl Pruned {
    /// A line for each backup, with the reasons.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for Decision { id, keep, reasons } in &self.decisions {
            let word = if *keep { "keep  " } else { "remove" };
            let _ = writeln!(text, "{word} {id}: {}", reasons.join(", "));
        }
        for id in &self.remains {
            let _ = writeln!(text, "remove {id}: remains of a run that was cut off");
        }
        if self.logs > 0 {
            let _ = writeln!(text, "remove {} objects of binary logs before the oldest backup", self.logs);
        }
        text
    }

    /// How many backups go.
    pub fn removed(&self) -> usize {
        self.decisions.iter().filter(|one| !one.keep).count()
    }
}
