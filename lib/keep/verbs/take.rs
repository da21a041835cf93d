//! `full` and `incr`: make a backup by the pipeline of the settings.

use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;

use crate::error::{Error, Kind, Result};
use crate::keep::admit::{self, Draft};
use crate::keep::catalog::{Backup, Catalog};
use crate::keep::chain::{self, Ear};
use crate::keep::intake::{self, Arrived};
use crate::keep::meta::{BACKUPS, BackupKind, Meta, Stage};
use crate::keep::stages::{self, Form, Since};
use crate::keep::store::Use;
use crate::keep::{Keep, describe};
use crate::report::{Level, Report};

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The base of an increment: `last`, `full` or an id; `None` for a full backup.
    pub base: Option<String>,
    /// What to call it.
    pub label: Option<String>,
}

/// Makes a backup. It exists if this succeeds, and not otherwise.
///
/// # Errors
///
/// The kind of the program that failed; Failed, if the store is in use or cannot be written.
pub fn run(keep: &Keep, options: &Options, report: &dyn Report) -> Result<Meta> {
    let _held = keep.store.hold(Use::Add)?;
    let making = &keep.settings.backup;
    stages::check(&making.stages, making.key_file.as_deref())?;
    let catalog = keep.recovered()?;
    let base = options.base.as_deref().map(|asked| base(&catalog, asked)).transpose()?;
    let kind = if base.is_some() { BackupKind::Incremental } else { BackupKind::Full };
    let start = Timestamp::now();
    let id = catalog.new_id(start, kind);
    let ear = Ear::default();
    let job = Job { keep, catalog: &catalog, base, options, id: &id, kind, start };
    let outcome = job.run(&ear, report);
    ear.tell(report);
    match &outcome {
        Ok(meta) => hook(keep, &keep.settings.hooks.on_success, &meta.id, "stored", report),
        Err(error) => {
            if let Err(second) = admit::failed(keep, &id, error, ear.tail()) {
                report.error(&second);
            }
            hook(keep, &keep.settings.hooks.on_failure, &id, &error.to_string(), report);
        }
    }
    outcome
}

struct Job<'a> {
    keep: &'a Keep,
    catalog: &'a Catalog,
    base: Option<&'a Backup>,
    options: &'a Options,
    id: &'a str,
    kind: BackupKind,
    start: Timestamp,
}

impl Job<'_> {
    fn run(&self, ear: &Ear, report: &dyn Report) -> Result<Meta> {
        let making = &self.keep.settings.backup;
        let mut programs = stages::pipeline(making);
        // Removed when the backup is done.
        let dir = tempfile::Builder::new().prefix("xb-keep-").tempdir_in(&self.keep.temporary);
        let dir = dir.map_err(|cause| Error::io(self.keep.temporary.display(), "cannot write", &cause))?;
        if let Some(base) = self.base {
            let since = self.since(base, dir.path(), report)?;
            programs = stages::incremental(programs, &since)?;
        }
        let recorded = stages::pipeline(making);
        report.stage("copying");
        let mut running = chain::start(&programs, ear)?;
        let prefix = format!("{BACKUPS}{}/", self.id);
        let taken = running.output().and_then(|output| intake::take(&*self.keep.store, &prefix, output, report));
        let ended = running.wait();
        let (arrived, codes) = judge(taken, ended)?;
        let form = Form { start: &arrived.start, suffixes: &arrived.suffixes };
        let undo = stages::undo(&form, &making.stages, making.key_file.as_deref())?;
        let stages = recorded.into_iter().zip(codes).map(|(run, exit_code)| Stage { run, exit_code }).collect();
        let draft = Draft {
            id: self.id.to_owned(),
            kind: self.kind,
            parent: self.base.map(|base| base.meta.id.clone()),
            label: self.options.label.clone(),
            start: self.start,
            stages,
            log: ear.log(),
        };
        admit::publish(self.keep, self.catalog, arrived, undo, draft, report)
    }

    /// What the program that makes an increment needs to know of its base.
    fn since(&self, base: &Backup, dir: &Path, report: &dyn Report) -> Result<Since> {
        report.stage("reading the base");
        let lsn = base
            .meta
            .to_lsn
            .ok_or_else(|| Error::invalid(&base.meta.id, "its LSN is not known").hint("take a full backup"))?;
        let ours = base.meta.backup_id.is_some();
        if ours {
            self.keep.with_source(base, |source| describe::base(source, dir))?;
        }
        Ok(Since { dir: ours.then(|| dir.to_owned()), lsn: lsn.get() })
    }
}

/// The error that explains the others: that of the store, then that of the program that failed, then that of the stream.
fn judge(taken: Result<Arrived>, ended: Result<Vec<i32>>) -> Result<(Arrived, Vec<i32>)> {
    match (taken, ended) {
        (Ok(arrived), Ok(codes)) => Ok((arrived, codes)),
        (_, Err(error)) if matches!(error.kind(), Kind::Signal(_)) => Err(error),
        (Err(error), _) if error.kind() == Kind::Failed => Err(error),
        (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
    }
}

/// The base of an increment.
fn base<'a>(catalog: &'a Catalog, asked: &str) -> Result<&'a Backup> {
    let name = match asked {
        "last" => "latest",
        "full" => "latest-full",
        id => id,
    };
    let usable = |backup: &&Backup| {
        backup.is_good() && catalog.chain(backup).is_ok_and(|chain| chain.iter().all(|one| one.is_good()))
    };
    let found = match asked {
        "last" | "full" => {
            let full = asked == "full";
            let of_kind = |backup: &&Backup| match backup.meta.kind {
                BackupKind::Full => true,
                BackupKind::Incremental => !full,
                BackupKind::Files => false,
            };
            catalog.backups.iter().rev().filter(of_kind).find(usable)
        }
        _ => Some(catalog.find(name)?).filter(usable),
    };
    found.ok_or_else(|| {
        Error::failed(asked, "the store has no backup that could be the base")
            .hint("take a full backup: xb-keep full STORE")
    })
}

/// Runs a hook. That it fails is said, and changes nothing.
fn hook(keep: &Keep, run: &[String], id: &str, result: &str, report: &dyn Report) {
    let Some((program, arguments)) = run.split_first() else { return };
    let mut command = Command::new(program);
    command.args(arguments).env("XB_STORE", keep.store.place()).env("XB_ID", id).env("XB_RESULT", result);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let fault = match command.status() {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(cause) => crate::error::reason(&cause),
    };
    report.note(Level::Warning, format_args!("hook {program}: {fault}"));
}
