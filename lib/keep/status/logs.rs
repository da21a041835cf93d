//! What is wrong with the archive of binary logs.

use jiff::Timestamp;

use super::State;
use crate::keep::binlog::{self, Archive};
use crate::keep::catalog::Backup;

/// How long the archive of binary logs may be behind a backup, in seconds.
const LATE: i64 = 600;

/// What the binary logs lack from the oldest backup of their server on.
pub(super) fn of(archives: &[Archive], backups: &[&Backup], now: Timestamp) -> Vec<(State, String)> {
    let mut missing = Vec::new();
    for archive in archives {
        let Some((first, newest)) = archive.logs.first().zip(archive.newest()) else { continue };
        let of_server = |backup: &&&Backup| binlog::server(backup.meta.server.uuid.as_deref()) == archive.server;
        let place = |file: &str| binlog::parts(file).map(|(_, number)| number);
        let positions = backups.iter().filter(of_server).filter_map(|backup| backup.meta.binlog.as_ref());
        let mut positions: Vec<_> = positions.filter_map(|at| Some((place(&at.file)?, at))).collect();
        positions.sort_by_key(|(number, at)| (*number, at.position));
        // The archive may have been begun later, or has lost its first files.
        if let Some((_, at)) = positions.first().filter(|(number, _)| *number < first.number) {
            missing.push((State::Warning, format!("{} is missing, in which the oldest backup ends", at.file)));
        }
        // What is after the newest file is still to come.
        let there = first.number..=newest.number;
        let Some((_, at)) = positions.iter().find(|(number, _)| there.contains(number)) else { continue };
        // So is what the newest file lacks.
        let position = if newest.name == at.file { at.position.min(newest.bytes()) } else { at.position };
        missing.extend(archive.gaps(&at.file, position).into_iter().map(|gap| (State::Critical, gap)));
    }
    for archive in archives {
        let Some(newest) = archive.newest() else { continue };
        let end = (newest.number, newest.bytes());
        let behind = |backup: &&&Backup| {
            let at = backup.meta.binlog.as_ref();
            let at = at.and_then(|at| Some((binlog::parts(&at.file)?.1, at.position)));
            let of_server = binlog::server(backup.meta.server.uuid.as_deref()) == archive.server;
            let old = now.duration_since(backup.meta.end).as_secs() > LATE;
            of_server && old && at.is_some_and(|at| at > end)
        };
        if let Some(backup) = backups.iter().filter(behind).max_by_key(|backup| backup.meta.end) {
            let (name, bytes, id) = (&newest.name, newest.bytes(), &backup.meta.id);
            let what = format!("the archive ends at {name}:{bytes}, before {id}; does xb-keep binlog run?");
            missing.push((State::Warning, what));
        }
    }
    missing
}
