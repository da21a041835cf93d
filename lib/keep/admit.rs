//! From a stream that has arrived to a backup that exists: read back, described, and published with `meta.json` last.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::json;

use super::catalog::{Backup, Catalog};
use super::intake::Arrived;
use super::meta::{BACKUPS, BackupKind, FAILURES, FORMAT, Failure, Meta, Server, Stage, Stored};
use super::source::Source;
use super::store;
use super::{Keep, describe, marks, sealed};
use crate::error::{Error, Result};
use crate::report::{Level, Report};

/// What is known of a backup before its stream arrives.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: BackupKind,
    /// The base of an increment, if the operator has named it.
    pub parent: Option<String>,
    /// What the operator called it.
    pub label: Option<String>,
    /// When the run began.
    pub start: Timestamp,
    /// The programs that made it.
    pub stages: Vec<Stage>,
    /// What they said.
    pub log: String,
}

/// The name of the object with what the programs said.
const LOG: &str = "log.txt";
/// The name of the object with the index.
const INDEX: &str = "index.jsonl";

/// Makes it a backup. After an error nothing of it is left in the store.
///
/// # Errors
///
/// Damaged, if the stream is, or is not what was announced; Invalid, if its base is not in the store; Failed, if it cannot
/// be stored.
pub fn publish(
    keep: &Keep,
    catalog: &Catalog,
    arrived: Arrived,
    undo: Vec<Vec<String>>,
    draft: Draft,
    report: &dyn Report,
) -> Result<Meta> {
    let (id, prefix) = (draft.id.clone(), format!("{BACKUPS}{}/", draft.id));
    let outcome = publish_under(keep, catalog, &prefix, arrived, undo, draft, report);
    if outcome.is_err() {
        marks::abandon(&*keep.store, &id)?;
    }
    outcome
}

fn publish_under(
    keep: &Keep,
    catalog: &Catalog,
    prefix: &str,
    arrived: Arrived,
    undo: Vec<Vec<String>>,
    draft: Draft,
    report: &dyn Report,
) -> Result<Meta> {
    let Arrived { upload, stored, index, .. } = arrived;
    let mut index = index;
    report.stage("syncing");
    marks::begin(&*keep.store, prefix)?;
    upload.publish()?;
    let mut meta = Meta {
        format: FORMAT,
        id: draft.id,
        kind: draft.kind,
        parent: draft.parent,
        label: draft.label,
        start: draft.start,
        end: Timestamp::now(),
        program: concat!("xb-keep ", env!("CARGO_PKG_VERSION")).to_owned(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        stages: draft.stages,
        undo,
        stream: stored,
        index: None,
        log: None,
        plain: None,
        server: Server::default(),
        backup_id: None,
        from_lsn: None,
        to_lsn: None,
        end_lsn: None,
        binlog: None,
        replica: None,
        galera: None,
        partial: false,
        proved: false,
    };
    let put = |object: &str, bytes: &[u8]| -> Result<Stored> {
        let name = format!("{prefix}{object}");
        let mut upload = keep.store.create(&name)?;
        upload.write_all(bytes).map_err(|cause| Error::io(&name, "cannot write", &cause))?;
        upload.publish()?;
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        Ok(Stored { object: object.to_owned(), bytes: bytes.len() as u64, blake3 })
    };
    // Before the manifest is read the index knows no sizes; it leads there all the same.
    let rough = match &index {
        Some(index) => Some(put("index.part", &index.write()?)?),
        None => None,
    };
    let undo = meta.undo.clone();
    let stream = meta.stream.clone();
    let source = Source { store: &*keep.store, prefix, stream: &stream, index: rough.as_ref(), undo: &undo };
    describe::complete(&source, &mut meta, index.as_mut(), &keep.temporary, report)?;
    if meta.kind == BackupKind::Incremental {
        meta.parent = Some(base(catalog, &meta, &source, keep)?);
    }
    if let Some(index) = &index {
        meta.index = Some(put(INDEX, &index.write()?)?);
        keep.store.remove(&format!("{prefix}index.part"))?;
    }
    if !draft.log.is_empty() {
        meta.log = Some(put(LOG, draft.log.as_bytes())?);
    }
    marks::finish(&*keep.store, prefix, &meta)?;
    Ok(meta)
}

/// The backup on which an increment builds.
fn base(catalog: &Catalog, meta: &Meta, source: &Source<'_>, keep: &Keep) -> Result<String> {
    let fits = |backup: &&Backup| backup.meta.to_lsn.is_some() && backup.meta.to_lsn == meta.from_lsn;
    let same_server = |backup: &&Backup| backup.meta.server.uuid == meta.server.uuid;
    // `xb_begin` names the base by its id, if it was known.
    let wanted = describe::base_id(source, &keep.temporary)?;
    let of_id = |id: &str| catalog.backups.iter().find(|backup| backup.meta.backup_id.as_deref() == Some(id));
    if let Some(wanted) = wanted {
        let found = of_id(&wanted).ok_or_else(|| {
            Error::invalid("stream", format_args!("its base, backup {wanted}, is not in the store"))
                .hint("take a full backup")
        })?;
        return match &meta.parent {
            Some(parent) if *parent != found.meta.id => {
                Err(Error::invalid("stream", format_args!("its base is {}, not {parent}", found.meta.id)))
            }
            _ => Ok(found.meta.id.clone()),
        };
    }
    let fault =
        |what: String| Err(Error::invalid("stream", what).hint("--parent ID names the base; or take a full backup"));
    if let Some(parent) = &meta.parent {
        let named = catalog.backups.iter().find(|backup| backup.meta.id == *parent);
        return match named.filter(fits) {
            Some(backup) => Ok(backup.meta.id.clone()),
            None => fault(format!("does not begin where {parent} ends")),
        };
    }
    let found: Vec<&Backup> = catalog.backups.iter().filter(fits).filter(same_server).collect();
    match found.as_slice() {
        [one] => Ok(one.meta.id.clone()),
        [] => fault("no backup in the store is its base".to_owned()),
        _ => fault("several backups in the store could be its base".to_owned()),
    }
}

/// Notes a run that failed.
///
/// # Errors
///
/// Failed, if even that cannot be written.
pub fn failed(keep: &Keep, id: &str, error: &Error, log: String) -> Result<()> {
    let failure = Failure { format: FORMAT, id: id.to_owned(), at: Timestamp::now(), error: error.to_string(), log };
    store::put(&*keep.store, &format!("{FAILURES}{id}.json"), &sealed::write(&failure)?)
}

/// The line of a result, and its facts.
pub fn tell(meta: &Meta, human: impl Fn(u64) -> String, report: &dyn Report) -> String {
    let seconds = meta.end.duration_since(meta.start).as_secs();
    let mut line = format!("{}: {} stored in {seconds} s", meta.id, human(meta.stream.bytes));
    if let Some(plain) = meta.plain {
        line.push_str(&format!(", {} members of {}", plain.members, human(plain.bytes)));
    }
    if let Some(parent) = &meta.parent {
        line.push_str(&format!(", since {parent}"));
    }
    match &meta.binlog {
        Some(binlog) => line.push_str(&format!(", binlog {} {}", binlog.file, binlog.position)),
        None => line.push_str(", no binlog position"),
    }
    if !meta.proved {
        report.note(
            Level::Warning,
            format_args!("{}: another program made it; nothing proves that it is complete", meta.id),
        );
    }
    report.facts(json!({
        "id": meta.id,
        "kind": meta.kind,
        "parent": meta.parent,
        "stored_bytes": meta.stream.bytes,
        "blake3": meta.stream.blake3,
        "binlog": meta.binlog,
        "to_lsn": meta.to_lsn,
    }));
    line
}
