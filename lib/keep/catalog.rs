//! The backups of a store: what its objects say, put together.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::marks;
use super::meta::{self, BACKUPS, BackupKind, FAILURES, Failure, Meta, Note, What};
use super::retention::Item;
use super::store::{self, Object, Store};
use crate::error::{Error, Result};

/// The object whose existence makes a backup exist.
pub const META: &str = "meta.json";

/// A backup, and what was learnt of it.
#[derive(Clone, Debug)]
pub struct Backup {
    /// What was known when it was made.
    pub meta: Meta,
    /// What was learnt later, the oldest first.
    pub notes: Vec<Note>,
    /// Size of all its objects in bytes.
    pub stored: u64,
    /// What is wrong with its objects, as far as a listing shows.
    pub fault: Option<String>,
}

impl Backup {
    /// The newest note of a kind.
    pub fn last(&self, what: What) -> Option<&Note> {
        self.notes.iter().rev().find(|note| note.what == what)
    }

    /// True if `prune` must keep it.
    pub fn is_pinned(&self) -> bool {
        let last = self.notes.iter().rev().find(|note| matches!(note.what, What::Pinned | What::Unpinned));
        last.is_some_and(|note| note.what == What::Pinned)
    }

    /// False if an object is missing, or the last proof failed.
    pub fn is_good(&self) -> bool {
        let proof = self.notes.iter().rev().find(|note| matches!(note.what, What::Verified | What::Drilled));
        self.fault.is_none() && proof.is_none_or(|note| note.good)
    }

    /// The newest proof of a kind that was good.
    pub fn proof(&self, what: What) -> Option<&Note> {
        self.notes.iter().rev().find(|note| note.what == what && note.good)
    }

    /// The name of one of its objects in the store.
    pub fn object(&self, name: &str) -> String {
        format!("{BACKUPS}{}/{name}", self.meta.id)
    }
}

/// Objects that are no backup: a run was cut off, or the object that makes them one is lost.
#[derive(Clone, Debug)]
pub struct Remains {
    /// The id.
    pub id: String,
    /// Its objects.
    pub objects: Vec<Object>,
    /// It was a backup: it is marked as deleted.
    pub deleted: bool,
    /// It was a backup, and nothing but its `meta.json` tells what it was.
    pub lost: bool,
    /// It is marked as a run that was cut off.
    pub begun: bool,
}

/// All backups of a store.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The oldest first.
    pub backups: Vec<Backup>,
    /// Backups whose description is damaged.
    pub damaged: Vec<(String, Error)>,
    /// What is no backup.
    pub remains: Vec<Remains>,
    /// The newest failed run.
    pub failure: Option<Failure>,
    /// All notes of failed runs.
    pub failures: Vec<Object>,
}

impl Catalog {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Failed, if the store cannot be read. A damaged object is none: see [`Catalog::damaged`].
    pub fn read(store: &dyn Store) -> Result<Catalog> {
        let mut catalog = Catalog::default();
        let mut by_id: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for object in store.list(BACKUPS)? {
            let id = object.name.strip_prefix(BACKUPS).and_then(|rest| rest.split_once('/'));
            if let Some((id, _)) = id {
                by_id.entry(id.to_owned()).or_default().push(object);
            }
        }
        for (id, objects) in by_id {
            catalog.add(store, id, objects);
        }
        catalog.backups.sort_by(|a, b| (a.meta.start, &a.meta.id).cmp(&(b.meta.start, &b.meta.id)));
        let parents: Vec<String> = catalog.backups.iter().filter_map(|backup| backup.meta.parent.clone()).collect();
        for remains in &mut catalog.remains {
            remains.lost |= !remains.deleted && parents.contains(&remains.id);
        }
        catalog.failures = store.list(FAILURES)?;
        let newest = catalog.failures.last();
        let read =
            newest.map(|object| store::small(store, &object.name).and_then(|bytes| meta::read(&object.name, &bytes)));
        catalog.failure = read.and_then(Result::ok);
        Ok(catalog)
    }

    fn add(&mut self, store: &dyn Store, id: String, objects: Vec<Object>) {
        let prefix = format!("{BACKUPS}{id}/");
        let names = || objects.iter().filter_map(|object| Some((object.name.strip_prefix(&prefix)?, object)));
        let note = |name: &str| name.strip_prefix("notes/").map(str::to_owned);
        let deleted = names().filter_map(|(name, _)| note(name)).any(|name| name.ends_with("-deleted.json"));
        let has_notes = names().any(|(name, _)| name.starts_with("notes/"));
        if deleted || !names().any(|(name, _)| name == META) {
            let has = |mark: &str| names().any(|(name, _)| name == mark);
            let (begun, ready) = (has(marks::BEGUN), has(marks::READY));
            let lost = !deleted && (has_notes || !begun && !ready);
            return self.remains.push(Remains { id, deleted, lost, begun, objects });
        }
        match self.backup(store, &id, &objects) {
            Ok(backup) => self.backups.push(backup),
            Err(error) => self.damaged.push((id, error)),
        }
    }

    fn backup(&self, store: &dyn Store, id: &str, objects: &[Object]) -> Result<Backup> {
        let prefix = format!("{BACKUPS}{id}/");
        let name = format!("{prefix}{META}");
        let meta: Meta = meta::read(&name, &store::small(store, &name)?)?;
        if meta.id != id {
            return Err(Error::damaged(&name, format_args!("is that of {}", meta.id)));
        }
        let mut notes = Vec::new();
        for object in objects.iter().filter(|object| object.name.starts_with(&format!("{prefix}notes/"))) {
            notes.push(meta::read::<Note>(&object.name, &store::small(store, &object.name)?)?);
        }
        notes.sort_by_key(|note| note.at);
        let sizes: HashMap<&str, u64> =
            objects.iter().filter_map(|object| Some((object.name.strip_prefix(&prefix)?, object.size))).collect();
        let parts = [Some(&meta.stream), meta.index.as_ref(), meta.log.as_ref()];
        let fault = parts.into_iter().flatten().find_map(|part| match sizes.get(part.object.as_str()) {
            None => Some(format!("{} is missing", part.object)),
            Some(size) if *size != part.bytes => Some(format!("{} has {size} bytes, not {}", part.object, part.bytes)),
            Some(_) => None,
        });
        Ok(Backup { notes, stored: objects.iter().map(|object| object.size).sum(), fault, meta })
    }

    /// A backup by its id, the beginning of its id, its label, `latest` or `latest-full`.
    ///
    /// # Errors
    ///
    /// Usage, if there is none, or several; Damaged, if its description is.
    pub fn find(&self, asked: &str) -> Result<&Backup> {
        if let Some((_, error)) = self.damaged.iter().find(|(id, _)| id == asked) {
            return Err(error.clone());
        }
        let backups = || self.backups.iter().filter(|backup| backup.meta.kind != BackupKind::Files);
        let newest = match asked {
            "latest" => Some(backups().next_back()),
            "latest-full" => Some(backups().rfind(|backup| backup.meta.kind == BackupKind::Full)),
            _ => None,
        };
        if let Some(newest) = newest {
            return newest.ok_or_else(|| Error::failed(asked, "the store has no backup"));
        }
        let exact = self.backups.iter().find(|backup| backup.meta.id == asked);
        let label =
            || self.backups.iter().filter(|backup| backup.meta.label.as_deref() == Some(asked)).collect::<Vec<_>>();
        let begins = || self.backups.iter().filter(|backup| backup.meta.id.starts_with(asked)).collect::<Vec<_>>();
        let found = exact.map(|backup| vec![backup]).unwrap_or_else(label);
        let found = if found.is_empty() { begins() } else { found };
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(Error::usage(asked, "no backup has this id or label").hint("xb-keep list STORE shows them")),
            several => {
                let ids: Vec<&str> = several.iter().map(|backup| backup.meta.id.as_str()).collect();
                Err(Error::usage(asked, format_args!("could be {}", ids.join(" or "))))
            }
        }
    }

    /// A full backup and the increments up to `last`, in the order in which they are applied.
    ///
    /// # Errors
    ///
    /// Damaged, if one of them is missing or bad.
    pub fn chain<'a>(&'a self, last: &'a Backup) -> Result<Vec<&'a Backup>> {
        let mut chain = vec![last];
        let mut next = last;
        while let Some(parent) = &next.meta.parent {
            if let Some((_, error)) = self.damaged.iter().find(|(id, _)| id == parent) {
                return Err(error.clone());
            }
            let base = self.backups.iter().find(|backup| backup.meta.id == *parent);
            let id = &next.meta.id;
            let base = base.ok_or_else(|| Error::damaged(id, format_args!("its base {parent} is not in the store")))?;
            if chain.iter().any(|one| one.meta.id == base.meta.id) {
                return Err(Error::damaged(id, "is its own base"));
            }
            chain.push(base);
            next = base;
        }
        if next.meta.kind == BackupKind::Incremental {
            return Err(Error::damaged(&next.meta.id, "an increment whose base is not known")
                .hint("add it again with --parent ID"));
        }
        chain.reverse();
        for backup in &chain {
            if let Some(fault) = &backup.fault {
                return Err(Error::damaged(&backup.meta.id, fault));
            }
        }
        Ok(chain)
    }

    /// For retention.
    pub fn items(&self) -> Vec<Item> {
        let item = |backup: &Backup| {
            let lost = backup.meta.kind == BackupKind::Incremental && backup.meta.parent.is_none();
            Item {
                id: backup.meta.id.clone(),
                // Without a base that is known, it is as if that were gone.
                parent: backup.meta.parent.clone().or_else(|| lost.then(String::new)),
                time: backup.meta.start,
                pinned: backup.is_pinned(),
                good: backup.is_good(),
                verified: backup.proof(What::Verified).or_else(|| backup.proof(What::Drilled)).is_some()
                    && backup.is_good(),
            }
        };
        self.backups.iter().map(item).collect()
    }

    /// An id for a backup that begins now.
    pub fn new_id(&self, start: Timestamp, kind: BackupKind) -> String {
        let plain = format!("{}-{}", meta::stamp(start), kind.short());
        let taken = |id: &str| {
            self.backups.iter().any(|backup| backup.meta.id == id)
                || self.remains.iter().any(|remains| remains.id == id)
                || self.damaged.iter().any(|(damaged, _)| damaged == id)
                || self.failures.iter().any(|object| object.name == format!("{FAILURES}{id}.json"))
        };
        let numbered = (2..).map(|number: u32| format!("{plain}-{number}"));
        std::iter::once(plain.clone()).chain(numbered).find(|id| !taken(id)).unwrap_or(plain)
    }
}

/// Adds a note to a backup.
///
/// # Errors
///
/// Failed, if it cannot be written.
pub fn note(store: &dyn Store, id: &str, note: &Note) -> Result<()> {
    store::put(store, &meta::note_name(id, note), &super::sealed::write(note)?)
}

impl Note {
    /// A note of now.
    pub fn new(what: What, good: bool) -> Note {
        Note { format: meta::FORMAT, what, at: Timestamp::now(), good, millis: None, detail: String::new() }
    }
}
