//! How a backup that has lost `meta.json` is told from a run that was cut off.
//!
//! ```text
//! begun.json   before the first other object
//! …            stream, index, log
//! ready.json   what meta.json will be: from here on the backup is complete
//!              begun.json is removed
//! meta.json    the backup exists
//!              ready.json is removed
//! ```
//!
//! So objects with `begun.json` alone are those of a run that was cut off, and may be removed; with `ready.json` the next
//! run finishes what the last one began; with neither they were a backup, and nobody but the operator removes them.

use std::collections::BTreeMap;

use super::catalog::META;
use super::meta::{self, BACKUPS, FORMAT, Meta, Note, What};
use super::store::{self, Object, Store};
use super::{catalog, sealed};
use crate::error::Result;

/// The object that a run writes first.
pub const BEGUN: &str = "begun.json";
/// What `meta.json` will be.
pub const READY: &str = "ready.json";

/// Marks a run that begins. `prefix` is `backups/ID/`.
///
/// # Errors
///
/// Failed, if it cannot be written.
pub fn begin(store: &dyn Store, prefix: &str) -> Result<()> {
    let body = serde_json::json!({ "format": FORMAT, "at": jiff::Timestamp::now() });
    store::put(store, &format!("{prefix}{BEGUN}"), &sealed::write(&body)?)
}

/// Makes a backup exist whose other objects are stored.
///
/// # Errors
///
/// Failed, if it cannot be written.
pub fn finish(store: &dyn Store, prefix: &str, meta: &Meta) -> Result<()> {
    let bytes = sealed::write(meta)?;
    store::put(store, &format!("{prefix}{READY}"), &bytes)?;
    complete(store, prefix, &bytes)
}

fn complete(store: &dyn Store, prefix: &str, bytes: &[u8]) -> Result<()> {
    store.remove(&format!("{prefix}{BEGUN}"))?;
    store::put(store, &format!("{prefix}{META}"), bytes)?;
    // It exists. A mark that stays is removed by the next run.
    let _ = store.remove(&format!("{prefix}{READY}"));
    Ok(())
}

/// Removes what a failed run has stored, and leaves no state that looks like a backup.
///
/// # Errors
///
/// Failed, if it cannot be removed.
pub fn abandon(store: &dyn Store, id: &str) -> Result<()> {
    let prefix = format!("{BACKUPS}{id}/");
    let objects = store.list(&prefix)?;
    if !objects.iter().any(|object| object.name == format!("{prefix}{BEGUN}")) && !objects.is_empty() {
        // It failed between the marks.
        catalog::note(store, id, &Note::new(What::Deleted, true))?;
    }
    remove(store, id, store.list(&prefix)?)
}

/// Removes the objects of a backup: those that finish it first, the marks that it is none last.
///
/// # Errors
///
/// Failed, if one cannot be removed.
pub fn remove(store: &dyn Store, id: &str, mut objects: Vec<Object>) -> Result<()> {
    let prefix = format!("{BACKUPS}{id}/");
    let rank = |object: &Object| match object.name.strip_prefix(&prefix) {
        Some(READY) => 0,
        Some(META) => 2,
        Some(BEGUN) => 3,
        Some(name) if name.starts_with("notes/") => 4,
        _ => 1,
    };
    objects.sort_by_key(rank);
    objects.iter().try_for_each(|object| store.remove(&object.name))
}

/// Finishes backups that are complete and were cut off before they existed. For a verb that adds or removes backups.
///
/// # Errors
///
/// Failed, if the store cannot be read or written.
pub fn recover(store: &dyn Store) -> Result<()> {
    let mut by_id: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in store.list(BACKUPS)? {
        if let Some((id, name)) = object.name.strip_prefix(BACKUPS).and_then(|rest| rest.split_once('/')) {
            by_id.entry(id.to_owned()).or_default().push(name.to_owned());
        }
    }
    for (id, names) in by_id {
        let has = |name: &str| names.iter().any(|other| other == name);
        let deleted = names.iter().any(|name| name.starts_with("notes/") && name.ends_with("-deleted.json"));
        let prefix = format!("{BACKUPS}{id}/");
        let cut_off = has(READY) || has(META) && has(BEGUN);
        if deleted || !cut_off {
            continue;
        }
        if has(META) {
            store.remove(&format!("{prefix}{BEGUN}"))?;
            store.remove(&format!("{prefix}{READY}"))?;
            continue;
        }
        let name = format!("{prefix}{READY}");
        let bytes = store::small(store, &name)?;
        // A damaged one stays, and status tells.
        if meta::read::<Meta>(&name, &bytes).is_ok_and(|meta| meta.id == id) {
            complete(store, &prefix, &bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::catalog::Catalog;
    use crate::keep::store::local::Local;

    fn meta(id: &str) -> Meta {
        let text = format!(
            r#"{{"format":1,"id":"{id}","kind":"full","start":"2026-01-31T03:15:00Z","end":"2026-01-31T03:16:00Z",
            "program":"x","host":"h","stages":[],"undo":[],"stream":{{"object":"stream.xbs","bytes":1,"blake3":""}},
            "proved":true}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// A store in which everything fails after so many changes: the process is gone.
    struct Cut<'a>(&'a Local, std::sync::atomic::AtomicUsize);

    impl Cut<'_> {
        fn step(&self) -> Result<()> {
            use std::sync::atomic::Ordering::Relaxed;
            let left = self.1.load(Relaxed);
            self.1.store(left.saturating_sub(1), Relaxed);
            if left == 0 { Err(crate::error::Error::failed("cut", "off")) } else { Ok(()) }
        }
    }

    impl Store for Cut<'_> {
        fn place(&self) -> String {
            self.0.place()
        }
        fn create(&self, name: &str) -> Result<Box<dyn store::Upload>> {
            self.step()?;
            self.0.create(name)
        }
        fn read(&self, name: &str, from: u64, len: Option<u64>) -> Result<Box<dyn std::io::Read + Send>> {
            self.0.read(name, from, len)
        }
        fn list(&self, prefix: &str) -> Result<Vec<Object>> {
            self.0.list(prefix)
        }
        fn remove(&self, name: &str) -> Result<()> {
            self.step()?;
            self.0.remove(name)
        }
        fn sweep(&self) -> Result<u64> {
            self.0.sweep()
        }
        fn space(&self) -> Result<Option<store::Space>> {
            self.0.space()
        }
        fn hold(&self, how: store::Use) -> Result<Box<dyn store::Held>> {
            self.0.hold(how)
        }
    }

    #[test]
    fn a_run_cut_off_anywhere_is_a_backup_or_may_be_removed() {
        for cut in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let local = Local::init(&dir.path().join("store")).unwrap();
            let (id, prefix) = ("20260131T031500Z-full", "backups/20260131T031500Z-full/");
            let work = |store: &dyn Store| -> Result<()> {
                begin(store, prefix)?;
                store::put(store, &format!("{prefix}stream.xbs"), b"x")?;
                finish(store, prefix, &meta(id))
            };
            let outcome = work(&Cut(&local, cut.into()));
            recover(&local).unwrap();
            let catalog = Catalog::read(&local).unwrap();
            assert!(catalog.damaged.is_empty() && catalog.remains.iter().all(|one| !one.lost && one.begun), "{cut}");
            // The third change is the one that decides.
            assert_eq!(catalog.backups.len(), usize::from(cut > 2), "{cut}: {outcome:?}");
            if let [backup] = catalog.backups.as_slice() {
                assert_eq!(backup.fault, None);
                assert_eq!(local.list(prefix).unwrap().len(), 2, "no mark is left");
                // Now its description is lost.
                local.remove(&format!("{prefix}{META}")).unwrap();
                let catalog = Catalog::read(&local).unwrap();
                assert!(catalog.remains.iter().all(|one| one.lost && !one.begun));
            }
        }
    }

    #[test]
    fn a_removal_cut_off_anywhere_leaves_no_backup() {
        for cut in 0..6 {
            let dir = tempfile::tempdir().unwrap();
            let local = Local::init(&dir.path().join("store")).unwrap();
            let (id, prefix) = ("20260131T031500Z-full", "backups/20260131T031500Z-full/");
            begin(&local, prefix).unwrap();
            store::put(&local, &format!("{prefix}stream.xbs"), b"x").unwrap();
            store::put(&local, &format!("{prefix}{READY}"), &sealed::write(&meta(id)).unwrap()).unwrap();
            let outcome = abandon(&Cut(&local, cut.into()), id);
            recover(&local).unwrap();
            let catalog = Catalog::read(&local).unwrap();
            assert!(catalog.remains.iter().all(|one| !one.lost), "{cut}: {outcome:?}");
            // Until something was removed it is whole.
            assert_eq!(catalog.backups.len(), usize::from(cut == 0), "{cut}");
        }
    }
}
