//! Checks that increments belong to a base, in this order and without a gap. Source:
//! `facts/mariadb-hot-backup#increments`.
//!
//! An increment has the pages newer than its base's checkpoint LSN. Base and increment together are what a full backup
//! would have copied, if the base is exactly that one, or any that began after the increment's threshold and is older
//! than the increment. Backup ids tell which; an increment that was made from an LSN alone has no id of a base.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::restore::backup::{Backup, Ours, Progress};
use crate::stream::native::StreamKind;

/// Reads increments and checks each by itself.
pub(super) fn increments(paths: &[PathBuf]) -> Result<Vec<Backup>> {
    paths.iter().map(|path| increment(Backup::read(path)?)).collect()
}

fn increment(backup: Backup) -> Result<Backup> {
    let place = backup.path.display();
    if backup.ours.is_none() {
        return Err(Error::invalid(
            place,
            "was made by mariadb-backup, whose increments presume a base with its log applied",
        )
        .hint("mariadb-backup --prepare --target-dir=BASE --incremental-dir=DIR, on a prepared base"));
    }
    if backup.kind != StreamKind::Incremental {
        return Err(Error::invalid(place, "is no increment")
            .hint("the base comes after --merge or --apply, increments after --incremental-dir"));
    }
    backup.check()?;
    Ok(backup)
}

/// The parts that every backup of ours has.
pub(super) fn ours(backup: &Backup) -> Result<&Ours> {
    backup.ours.as_deref().ok_or_else(|| {
        Error::invalid(
            backup.path.display(),
            "was made by mariadb-backup; without a manifest nothing can be merged into it",
        )
        .hint("mariadb-backup --prepare it, then again with --incremental-dir")
    })
}

/// Checks that this backup can be the base of increments.
pub(super) fn base(backup: &Backup) -> Result<()> {
    let place = backup.path.display();
    ours(backup)?;
    if backup.kind == StreamKind::Incremental {
        return Err(Error::invalid(place, "is an increment itself").hint("the base is a full backup"));
    }
    unapplied(backup)?;
    backup.check()
}

/// Checks that no log has been applied to a backup that increments will patch.
pub(super) fn unapplied(backup: &Backup) -> Result<()> {
    if backup.progress == Progress::Unpacked {
        return Ok(());
    }
    Err(Error::invalid(backup.path.display(), "is applied: increments fit a backup only as it was unpacked")
        .hint("unpack the backup again; keep one that is to take increments unapplied (--to)"))
}

/// Checks that `next` builds on `before`.
pub(super) fn follows(before: &Backup, next: &Backup) -> Result<()> {
    let (old, new) = (ours(before)?, ours(next)?);
    let refuse = |what: String| Err(Error::invalid(next.path.display(), what));
    let place = before.path.display();
    if let (Some(then), Some(now)) = (&old.begin.server_uuid, &new.begin.server_uuid)
        && then != now
    {
        return refuse(format!("is of server {now}, {place} of server {then}"));
    }
    if old.begin.family != new.begin.family {
        return refuse(format!("is of another kind of server than {place}"));
    }
    let Some(base) = &new.begin.base else { return Err(Error::damaged(next.path.display(), "xb_begin names no base")) };
    if let Some(id) = base.id.as_ref().filter(|id| **id != old.begin.backup_id) {
        let what =
            format!("builds on backup {id}, {place} is {}: the order is wrong, or one is missing", old.begin.backup_id);
        return Err(Error::invalid(next.path.display(), what)
            .hint("give all increments in the order in which they were made; xb-redo --status shows the ids"));
    }
    let (Some(start), Some(later)) = (before.start_lsn, next.start_lsn) else {
        return refuse(format!("xb_begin of it or of {place} names no lsn"));
    };
    if base.lsn > start {
        let what = format!(
            "has what changed since lsn {}, {place} begins at lsn {start}: changes between are missing",
            base.lsn
        );
        return Err(Error::invalid(next.path.display(), what)
            .hint("an increment begins at the to_lsn of its base, which is where that began"));
    }
    if old.begin.filter != new.begin.filter {
        return refuse(format!("was made with other options for tables and databases than {place}"));
    }
    // If the server has another history, its log may end earlier. An increment that was compared with this base is
    // right in any case.
    let proved = base.proved && base.id.is_some();
    if later < start || !proved && next.end_lsn < before.end_lsn {
        return refuse(format!("is older than {place}"));
    }
    if old.trailer.partial != new.trailer.partial {
        return refuse(format!("only one of it and {place} is a partial backup"));
    }
    Ok(())
}
