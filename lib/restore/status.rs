//! `xb-redo --status`: describes a directory in one line.

use std::path::Path;

use serde_json::{Value, json};

use super::backup::{Backup, Progress};
use crate::error::{Error, Result};
use crate::stream::native::StreamKind;

/// The description of a directory, and whether it can be used.
#[derive(Debug)]
pub struct Status {
    /// One line for people.
    pub line: String,
    /// The same for programs.
    pub json: Value,
    /// Why the directory cannot be used; decides the exit code.
    pub outcome: Result<()>,
}

/// Examines a directory without reading its data: `--apply` does that before it begins.
pub fn of(dir: &Path) -> Status {
    let read = Backup::read(dir);
    let outcome = read.as_ref().map_err(Clone::clone).and_then(Backup::check);
    let reason = outcome.as_ref().err().map(Error::to_string);
    let mut json = json!({
        "directory": dir.display().to_string(),
        "complete": outcome.is_ok(),
        "applied": false,
        "ready": outcome.is_ok(),
        "reason": reason,
    });
    let mut line = dir.display().to_string();
    if let Ok(backup) = &read {
        describe(backup, &mut line, &mut json, outcome.is_ok());
    }
    line.push_str(&reason.map_or(String::new(), |reason| {
        format!(": {}", reason.strip_prefix(&format!("{}: ", dir.display())).unwrap_or(&reason))
    }));
    Status { line, json, outcome }
}

fn describe(backup: &Backup, line: &mut String, json: &mut Value, good: bool) {
    let kind = match backup.kind {
        StreamKind::Full => "full",
        StreamKind::Incremental => "incremental",
        StreamKind::Files => "files",
    };
    let origin = if backup.ours.is_some() { "xb-snap" } else { "mariadb-backup" };
    let applied = backup.progress == Progress::Applied;
    let version = backup.server_version.as_deref().unwrap_or("unknown version");
    line.push_str(&format!(": {kind} backup of {version} by {origin}"));
    if let (start, Some(end)) = (backup.start_lsn, backup.end_lsn) {
        let start = start.map_or(String::new(), |start| start.to_string());
        line.push_str(&format!(", lsn {start}..{end}"));
    }
    line.push_str(if backup.without_innodb() { ", without InnoDB" } else { "" });
    let base = backup.ours.as_ref().and_then(|ours| ours.begin.base.as_ref());
    if let Some(base) = base {
        let id = base.id.as_deref().unwrap_or("unknown");
        line.push_str(&format!(", since lsn {} of backup {id}", base.lsn));
    }
    if let Some(ours) = &backup.ours {
        line.push_str(&format!(", id {}", ours.begin.backup_id));
    }
    line.push_str(if backup.partial { ", partial" } else { "" });
    let forced = backup.state.as_ref().is_some_and(|state| state.forced);
    line.push_str(if forced { ", recovered over damaged pages" } else { "" });
    line.push_str(match (good, backup.progress) {
        (true, Progress::Applied) => ", complete, applied: ready for xb-redo --copy-back",
        (true, _) if backup.kind == StreamKind::Incremental => ", complete: ready for xb-redo --merge",
        (true, _) if backup.waiting.is_some() => ", complete, waits: ready for xb-redo --merge or --copy-back",
        (true, _) => ", complete, not applied: ready for xb-redo --apply",
        (false, Progress::Applied) => ", applied",
        // The reason of the failure names the unfinished step.
        (false, Progress::Half) => "",
        (false, Progress::Unpacked) => ", not applied",
    });
    let facts = json!({
        "kind": kind,
        "origin": origin,
        "server_version": backup.server_version,
        "start_lsn": backup.start_lsn,
        "end_lsn": backup.end_lsn,
        "partial": backup.partial,
        "applied": applied && good,
        "forced": forced,
        "base_id": base.and_then(|base| base.id.as_ref()),
        "base_lsn": base.map(|base| base.lsn),
        "start_time": backup.ours.as_ref().map(|ours| &ours.begin.start_time),
        "end_time": backup.ours.as_ref().map(|ours| &ours.trailer.end_time),
        "bytes": backup.ours.as_ref().map(|ours| ours.trailer.bytes),
        "members": backup.ours.as_ref().map(|ours| ours.trailer.members),
        "binlog": backup.ours.as_ref().and_then(|ours| ours.trailer.binlog.as_ref()),
        "locks_ms": backup.ours.as_ref().map(|ours| &ours.trailer.locks_ms),
        "backup_id": backup.ours.as_ref().map(|ours| &ours.trailer.backup_id),
    });
    if let (Some(json), Value::Object(facts)) = (json.as_object_mut(), facts) {
        json.extend(facts);
    }
}
