//! On a file system that can, a copy of a backup shares its blocks.

use std::path::Path;

use crate::support::backup::{apply, take};
use crate::support::disk::{SharingDisk, shared};
use crate::support::tool::tree;
use crate::support::{Load, Pipeline, Server, check, xb};

/// Of the files that a copy and its original have in common: how many share all of their blocks, and how many do not.
fn sharing(original: &Path, copy: &Path) -> (usize, usize) {
    let (original, copied) = (tree(original), tree(copy));
    let same = copied.iter().filter(|(name, content)| original.get(*name) == Some(content));
    let shared: Vec<bool> = same.filter_map(|(name, _)| shared(&copy.join(name))).collect();
    let all = shared.iter().filter(|shared| **shared).count();
    (all, shared.len() - all)
}

#[test]
fn copies_share_their_blocks_and_are_right() {
    let Some(disk) = SharingDisk::new() else { return };
    let server = Server::new().start();
    Load::on(&server).bank(1).engines(1).prepare();
    let [backup, copy, data] = ["backup", "copy", "data"].map(|name| disk.path().join(name));
    take(&server, &[], &backup);
    let before = tree(&backup);
    Pipeline::new().stage(apply(&backup).arg("--to").arg(&copy)).run().assert_ok();
    assert!(tree(&backup) == before, "the backup was changed");
    let (all, some) = sharing(&backup, &copy);
    // The server has written to some, if only what was there.
    assert!(all > 5 * some, "of {} files {some} have blocks of their own", all + some);
    let mut back = xb("xb-redo");
    back.arg("--copy-back").arg(&copy).arg("--datadir").arg(&data);
    Pipeline::new().stage(back).run().assert_ok();
    let (all, some) = sharing(&copy, &data);
    assert!(all > 50 && some == 0, "of {} files {some} have blocks of their own", all + some);
    // What is written to one is not written to the other.
    check::restored_at(&server, &data, &check::position(&backup).unwrap()).assert_good();
    check::sound(&server, &copy).assert_good();
}
