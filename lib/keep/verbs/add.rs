//! `add`: a stream from anywhere becomes a backup of the store.

use std::fs::File;

use jiff::Timestamp;

use crate::error::Result;
use crate::keep::Keep;
use crate::keep::admit::{self, Draft};
use crate::keep::intake;
use crate::keep::meta::{BACKUPS, BackupKind, Meta};
use crate::keep::stages::{self, Form};
use crate::keep::store::Use;
use crate::report::Report;

/// What the stream is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its kind.
    pub kind: BackupKind,
    /// The id of the base of an increment, if the stream does not tell.
    pub parent: Option<String>,
    /// What to call it.
    pub label: Option<String>,
    /// The programs that turn it into an xbstream, from left to right; none: its first bytes tell.
    pub undo: Vec<String>,
}

/// Stores a stream.
///
/// # Errors
///
/// Damaged, if the stream is, or is not of this kind; Invalid, if its base is not in the store; Failed, if it cannot be
/// stored.
pub fn run(keep: &Keep, options: &Options, input: File, report: &dyn Report) -> Result<Meta> {
    let _held = keep.store.hold(Use::Add)?;
    let catalog = keep.recovered()?;
    let parent = options.parent.as_deref().map(|parent| catalog.find(parent)).transpose()?;
    let parent = parent.map(|parent| parent.meta.id.clone());
    let start = Timestamp::now();
    let id = catalog.new_id(start, options.kind);
    let arrived = intake::take(&*keep.store, &format!("{BACKUPS}{id}/"), input, report)?;
    let form = Form { start: &arrived.start, suffixes: &arrived.suffixes };
    let given = options.undo.iter().map(|run| run.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let mut undo: Vec<Vec<String>> = given.filter(|run| !run.is_empty()).collect();
    if undo.is_empty() {
        let key = keep.key.as_deref().or(keep.settings.backup.key_file.as_deref());
        undo = stages::undo(&form, &[], key)?;
    }
    let label = options.label.clone();
    let draft = Draft { id, kind: options.kind, parent, label, start, stages: Vec::new(), log: String::new() };
    admit::publish(keep, &catalog, arrived, undo, draft, report)
}
