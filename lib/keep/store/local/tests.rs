//! Tests of the store in a directory.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::error::Kind;
use crate::keep::store::{put, small};

fn store() -> (tempfile::TempDir, Local) {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::init(&dir.path().join("store")).unwrap();
    (dir, store)
}

#[test]
fn an_object_is_there_whole_or_not_at_all() {
    let (_dir, store) = store();
    let mut upload = store.create("backups/a/stream.xbs").unwrap();
    upload.write_all(b"half").unwrap();
    assert_eq!(store.list("").unwrap(), []);
    assert_eq!(store.sweep().unwrap(), 0);
    assert_eq!(fs::read_dir(store.path(TMP)).unwrap().count(), 1, "it is in use");
    drop(upload);
    assert_eq!(fs::read_dir(store.path(TMP)).unwrap().count(), 0);
    fs::write(store.path(TMP).join("left"), b"over").unwrap();
    assert_eq!(store.sweep().unwrap(), 4);
    put(&store, "backups/a/stream.xbs", b"whole").unwrap();
    let mode = fs::metadata(store.path("backups/a/stream.xbs")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    let again = put(&store, "backups/a/stream.xbs", b"other").unwrap_err();
    assert!(again.to_string().contains("nothing in a store is overwritten"), "{again}");
    assert_eq!(small(&store, "backups/a/stream.xbs").unwrap(), b"whole");
    store.remove("backups/a/stream.xbs").unwrap();
    store.remove("backups/a/stream.xbs").unwrap();
    assert!(!store.path("backups").exists() && store.path(TMP).exists());
}

#[test]
fn ranges_are_read_exactly_or_refused() {
    let (_dir, store) = store();
    put(&store, "o", b"0123456789").unwrap();
    let range = |from, len| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        store.read("o", from, len)?.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    };
    assert_eq!(range(3, Some(4)).unwrap(), b"3456");
    assert_eq!(range(8, None).unwrap(), b"89");
    assert_eq!(range(10, Some(0)).unwrap(), b"");
    assert_eq!(range(8, Some(3)).unwrap_err().kind(), Kind::Damaged);
    assert_eq!(store.read("p", 0, None).err().unwrap().kind(), Kind::Damaged);
}

#[test]
fn a_listing_has_objects_alone_in_order() {
    let (_dir, store) = store();
    for name in ["backups/b/meta.json", "backups/a/meta.json", "failures/x.json", "backups/a/stream"] {
        put(&store, name, b"x").unwrap();
    }
    let names = |prefix| store.list(prefix).unwrap().into_iter().map(|object| object.name).collect::<Vec<_>>();
    assert_eq!(names("backups/a/"), ["backups/a/meta.json", "backups/a/stream"]);
    assert_eq!(names("").len(), 4);
    assert_eq!(names("backups").len(), 3);
}

#[test]
fn who_prunes_is_alone_and_who_adds_is_the_only_one() {
    let (_dir, store) = store();
    let (read, add) = (store.hold(Use::Read).unwrap(), store.hold(Use::Add).unwrap());
    let also = store.hold(Use::Read).unwrap();
    assert!(store.hold(Use::Add).is_err() && store.hold(Use::Prune).is_err());
    drop(add);
    assert!(store.hold(Use::Prune).is_err());
    drop((read, also));
    let prune = store.hold(Use::Prune).unwrap();
    let follow = store.hold(Use::Follow).unwrap();
    assert!(store.hold(Use::Follow).is_err());
    drop(follow);
    assert!(store.hold(Use::Read).is_err() && store.hold(Use::Add).is_err());
    drop(prune);
    store.hold(Use::Add).unwrap();
}

#[test]
fn a_store_takes_no_directory_with_something_in_it() {
    let (dir, _store) = store();
    assert!(Local::init(&dir.path().join("store")).is_err());
}
