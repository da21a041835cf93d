//! `list`: what the store has; or the members of one backup.

use std::fmt::Write as _;

use bstr::ByteSlice;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::catalog::{Backup, Catalog};
use crate::keep::meta::What;
use crate::keep::status;
use crate::keep::store::Use;

/// The backups of a store, as a tree or as one JSON object, and the first error of those that cannot be read.
///
/// # Errors
///
/// Failed, if the store cannot be read.
pub fn backups(keep: &Keep, as_json: bool, human: &dyn Fn(u64) -> String) -> Result<(String, Result<()>)> {
    let catalog = keep.catalog()?;
    let text = if as_json { object(&catalog).to_string() } else { tree(&catalog, human) };
    let fault = catalog.damaged.first().map(|(_, error)| error.clone());
    Ok((text.trim_end().to_owned(), fault.map_or(Ok(()), Err)))
}

fn tree(catalog: &Catalog, human: &dyn Fn(u64) -> String) -> String {
    let mut text = String::new();
    let there = |id: &str| catalog.backups.iter().any(|backup| backup.meta.id == id);
    let roots = catalog.backups.iter().filter(|one| one.meta.parent.as_deref().is_none_or(|parent| !there(parent)));
    for root in roots {
        branch(catalog, root, 0, human, &mut text);
    }
    for (id, error) in &catalog.damaged {
        let _ = writeln!(text, "{id}  DAMAGED: {error}");
    }
    for remains in &catalog.remains {
        let what = if remains.lost { "LOST: its meta.json is missing" } else { "remains of a run that did not end" };
        let _ = writeln!(text, "{}  {what}", remains.id);
    }
    text
}

/// A backup, and what builds on it.
fn branch(catalog: &Catalog, backup: &Backup, depth: usize, human: &dyn Fn(u64) -> String, text: &mut String) {
    let meta = &backup.meta;
    let ratio = meta.plain.filter(|plain| plain.bytes > 0 && meta.stream.bytes > 0);
    let ratio = ratio.map(|plain| {
        let tenths = plain.bytes.saturating_mul(10) / meta.stream.bytes;
        format!(" ({}.{}:1)", tenths / 10, tenths % 10)
    });
    let _ =
        write!(text, "{}{}  {}{}", "  ".repeat(depth), meta.id, human(meta.stream.bytes), ratio.unwrap_or_default());
    if let Some(lsn) = meta.to_lsn {
        let _ = write!(text, "  lsn {lsn}");
    }
    if let Some(binlog) = &meta.binlog {
        let _ = write!(text, "  {}:{}", binlog.file, binlog.position);
    }
    if let Some(label) = &meta.label {
        let _ = write!(text, "  \"{}\"", label.escape_default());
    }
    if backup.is_pinned() {
        text.push_str("  pinned");
    }
    for what in [What::Verified, What::Drilled] {
        if let Some(note) = backup.last(what) {
            let age = u64::try_from(Timestamp::now().duration_since(note.at).as_secs()).unwrap_or(0);
            let verdict = if note.good { "" } else { " BAD" };
            let _ = write!(text, "  {}{verdict} {} ago", what.word(), status::span(age));
        }
    }
    if let Some(fault) = &backup.fault {
        let _ = write!(text, "  BAD: {fault}");
    }
    text.push('\n');
    // A circle has no root, so this ends.
    let children = catalog.backups.iter().filter(|one| one.meta.parent.as_deref() == Some(&meta.id));
    children.for_each(|child| branch(catalog, child, depth + 1, human, text));
}

/// A backup as an object: `meta.json`, and what was learnt since.
pub(super) fn value(backup: &Backup) -> Value {
    let mut value = serde_json::to_value(&backup.meta).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        let proof = |what| {
            backup
                .last(what)
                .map(|note| json!({ "at": note.at, "good": note.good, "detail": note.detail, "millis": note.millis }))
        };
        object.insert("stored_bytes".into(), json!(backup.stored));
        object.insert("pinned".into(), json!(backup.is_pinned()));
        object.insert("good".into(), json!(backup.is_good()));
        object.insert("fault".into(), json!(backup.fault));
        for what in [What::Verified, What::Drilled, What::Restored] {
            object.insert(what.word().into(), json!(proof(what)));
        }
    }
    value
}

fn object(catalog: &Catalog) -> Value {
    let damaged = catalog.damaged.iter().map(|(id, error)| json!({ "id": id, "error": error.to_string() }));
    let remains = catalog.remains.iter().map(|one| json!({ "id": one.id, "lost": one.lost, "deleted": one.deleted }));
    json!({
        "backups": catalog.backups.iter().map(value).collect::<Vec<_>>(),
        "damaged": damaged.collect::<Vec<_>>(),
        "remains": remains.collect::<Vec<_>>(),
    })
}

/// The members of a backup.
///
/// # Errors
///
/// Damaged, if its index is; Failed, if it has none.
pub fn members(keep: &Keep, id: &str, as_json: bool) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(id)?;
    let index = keep.with_source(backup, |source| source.index())?;
    let index = index.ok_or_else(|| {
        Error::failed(&backup.meta.id, "has no index, for it is coded as a whole")
            .hint("xb-keep cat STORE ID | xb-unpack --list")
    })?;
    let mut text = String::new();
    for member in &index.members {
        let path = member.path();
        if as_json {
            let value = json!({
                "path": path.to_str_lossy(), "size": member.size, "stored_bytes": member.stored(), "space_id": member.space_id,
            });
            let _ = writeln!(text, "{value}");
        } else {
            let size = member.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
            let _ = writeln!(text, "{size:>14} {:>14} {}", member.stored(), path.to_str_lossy().escape_debug());
        }
    }
    Ok(text.trim_end().to_owned())
}
