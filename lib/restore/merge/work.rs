//! Executes a plan, phase by phase.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bstr::ByteSlice;

use super::journal::{Journal, Phase};
use super::patch::Shape;
use super::plan::{Origin, Plan, Space};
use super::{LOST, result};
use crate::error::{Error, OrInternal as _, Result};
use crate::io::copy;
use crate::report::Report;
use crate::restore::backup::Backup;
use crate::restore::files::{self, fail};
use crate::restore::{check, clone};
use crate::stream::name;
use crate::stream::native::names::ASIDE;
use crate::stream::native::{Entry, EntryKind};

/// A merge in progress.
pub(super) struct Work<'a> {
    pub(super) dir: &'a Path,
    pub(super) base: &'a Backup,
    pub(super) increments: &'a [Backup],
    pub(super) plan: &'a Plan<'a>,
    pub(super) threads: usize,
    /// True if no earlier run has changed anything yet.
    pub(super) fresh: bool,
    pub(super) report: &'a dyn Report,
}

impl Work<'_> {
    /// Runs all phases from the journal's on, except the last, which is [`result::place`].
    pub(super) fn run(&self, journal: &mut Journal) -> Result<()> {
        self.report.stage("merging");
        if journal.phase == Phase::Clearing {
            journal.enter(self.dir, Phase::Clearing)?;
            self.clear()?;
            journal.enter(self.dir, Phase::Placing)?;
        }
        if journal.phase == Phase::Placing {
            self.place()?;
            journal.enter(self.dir, Phase::Writing)?;
        }
        let lines = self.write()?;
        let last = self.increments.last().or_internal(LOST)?;
        result::write(self.dir, last, lines)?;
        journal.enter(self.dir, Phase::Finishing)
    }

    /// The path of a file; a name that leads out of the directory means damage.
    fn path(&self, name: &[u8]) -> Result<PathBuf> {
        match name::clean(name) {
            Ok(clean) => Ok(self.dir.join(OsStr::from_bytes(&clean))),
            Err(fault) => Err(Error::damaged("xb_manifest", format_args!("{}: refused: {fault}", name.as_bstr()))),
        }
    }

    /// The temporary name of a file that is to be renamed.
    fn aside(&self, number: usize) -> PathBuf {
        self.dir.join(format!("{ASIDE}{number}"))
    }

    /// Tables may have swapped names, so all get a temporary name before the first gets its new one.
    fn clear(&self) -> Result<()> {
        for (number, (from, _)) in self.plan.moves.iter().enumerate() {
            let aside = self.aside(number);
            if !aside.exists() {
                rename(&self.path(from)?, &aside)?;
            }
        }
        self.plan.removed.iter().try_for_each(|name| files::remove(&self.path(name)?))
    }

    fn place(&self) -> Result<()> {
        for (number, (_, to)) in self.plan.moves.iter().enumerate() {
            let aside = self.aside(number);
            if aside.exists() {
                rename(&aside, &self.parent(to)?)?;
            }
        }
        Ok(())
    }

    /// Writes pages and whole files; returns the lines of the new manifest.
    fn write(&self) -> Result<Vec<Entry>> {
        let bytes = |entry: &Entry| entry.size;
        let deltas = self.plan.spaces.iter().flat_map(|space| &space.deltas).map(|(_, entry)| bytes(entry));
        self.report.expect(deltas.chain(self.plan.whole.iter().map(|(_, entry)| bytes(entry))).sum());
        let lines = Mutex::new(BTreeMap::new());
        let keep = |name: &[u8], entry: Entry| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_vec(), entry);
        };
        let mut spaces: Vec<&Space<'_>> = self.plan.spaces.iter().collect();
        spaces.sort_by_key(|space| std::cmp::Reverse(space.deltas.iter().map(|(_, entry)| entry.size).max()));
        files::each(&spaces, self.threads, |space| {
            keep(&space.name, self.space(space)?);
            Ok(())
        })?;
        files::each(&self.plan.whole, self.threads, |(name, entry)| {
            keep(name, self.whole(name, entry)?);
            Ok(())
        })?;
        for (name, entry) in &self.plan.same {
            keep(name, entry.renamed(name));
        }
        self.prune()?;
        Ok(lines.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect())
    }

    /// Writes one tablespace; returns its line.
    fn space(&self, space: &Space<'_>) -> Result<Entry> {
        let path = self.parent(&space.name)?;
        match space.origin {
            Origin::Base(_) => {}
            Origin::Whole(number, entry) => self.copy(number, entry, &path)?,
            Origin::Nothing => {
                File::create(&path).map_err(|cause| fail(&path, "cannot create", &cause))?;
                files::give(&path, self.owner()?)?;
            }
        }
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|cause| fail(&path, "cannot open", &cause))?;
        let (mut changed, mut size) = (false, 0);
        for (number, entry) in &space.deltas {
            let delta = self.increments.get(*number).or_internal(LOST)?.file(entry)?;
            let shape = Shape::of(&delta, entry)?;
            changed |= shape.apply(&delta, &file, &path)?;
            size = shape.size();
            self.report.advance(entry.size);
        }
        let (_, last) = space.deltas.last().or_internal(LOST)?;
        // An earlier run may have written pages that look unchanged now.
        let known = match space.origin {
            Origin::Base(entry) | Origin::Whole(_, entry) if !changed && self.fresh => Some(entry.blake3.clone()),
            _ => None,
        };
        let mut line = Entry::new(&space.name, EntryKind::Innodb, size, &blake3::Hash::from_bytes([0; 32]));
        line.blake3 = match known {
            Some(digest) => digest,
            None => check::of_file(&path, &())?.1.to_hex().to_string(),
        };
        (line.space_id, line.flags, line.page_size) = (last.space_id, last.flags, last.page_size);
        line.location.clone_from(&last.location);
        Ok(line)
    }

    /// Copies a file of the last increment; returns its line.
    fn whole(&self, name: &[u8], entry: &Entry) -> Result<Entry> {
        let path = self.parent(name)?;
        self.copy(self.increments.len() - 1, entry, &path)?;
        self.report.advance(entry.size);
        match result::rewritten(name, &path)? {
            Some(text) => {
                fs::write(&path, &text).map_err(|cause| fail(&path, "cannot write", &cause))?;
                Ok(Entry::new(name, entry.kind, text.len() as u64, &blake3::hash(&text)))
            }
            None => Ok(entry.renamed(name)),
        }
    }

    fn copy(&self, number: usize, entry: &Entry, to: &Path) -> Result<()> {
        let from = self.increments.get(number).or_internal(LOST)?.file(entry)?;
        copy::file(&from, to)?;
        files::give(to, self.owner()?)
    }

    /// New files get the owner of the base.
    fn owner(&self) -> Result<Option<(u32, u32)>> {
        let data = fs::metadata(self.dir).map_err(|cause| fail(self.dir, "cannot read", &cause))?;
        Ok(rustix::process::geteuid().is_root().then_some((data.uid(), data.gid())))
    }

    /// The path of a file; creates its directory if needed.
    fn parent(&self, name: &[u8]) -> Result<PathBuf> {
        let path = self.path(name)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
            clone::directory(self.dir, parent, None)?;
        }
        Ok(path)
    }

    /// Removes directories of databases that no longer exist: an empty one would be a database.
    fn prune(&self) -> Result<()> {
        let names: BTreeSet<PathBuf> = self
            .base
            .ours
            .iter()
            .flat_map(|ours| &ours.entries)
            .filter_map(Entry::path)
            .map(|name| Ok(self.path(&name)?.parent().map(Path::to_owned).unwrap_or_default()))
            .collect::<Result<_>>()?;
        for backup in names.iter().rev().filter(|backup| *backup != self.dir) {
            // A directory that is not empty, or does not exist, is no error.
            let _ = fs::remove_dir(backup);
        }
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|cause| fail(from, "cannot rename", &cause))
}
