//! `--decompress` and `--decrypt` of a directory: what was compressed or encrypted on its way becomes plain, in place.
//!
//! The files are packed, decoded and unpacked into a directory of their own below the backup. When all of that has ended
//! well they are moved to their places, the manifest last. Killed before, the run leaves the backup as it was.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::plan::{Decode, Ending, Input, Output, Pipeline, Stage};
use super::run::Runner;
use crate::error::Result;
use crate::io::files::{fail, sync};
use crate::stream::native::names;

/// Where files are until all are decoded.
const BESIDE: &str = "xb_front.decoded";
/// Endings of encrypted and of compressed files.
const ENCRYPTED: [&str; 2] = [".xbcrypt", ".xbseal"];
const COMPRESSED: [&str; 3] = [".zst", ".lz4", ".qp"];

/// Decodes a directory.
pub(super) fn run(runner: &Runner, decode: &Decode) -> Result<()> {
    let dir = &decode.dir;
    let mut files = Vec::new();
    list(dir, Path::new(""), &mut files)?;
    let coded: Vec<&PathBuf> = files.iter().filter(|file| plain(decode, file).is_some()).collect();
    if coded.is_empty() {
        runner.done();
        return Ok(());
    }
    let beside = dir.join(BESIDE);
    if beside.exists() {
        // Of a run that did not come to its end: nothing was moved.
        fs::remove_dir_all(&beside).map_err(|cause| fail(&beside, "cannot remove", &cause))?;
    }
    // A backup of ours is proved as a whole.
    let whole = files.iter().any(|file| file.as_os_str() == names::BEGIN);
    let remade: BTreeSet<PathBuf> = coded.iter().filter_map(|file| plain(decode, file)).collect();
    let packed = files.iter().filter(|file| match plain(decode, file) {
        Some(_) => true,
        None => whole && !remade.contains(*file),
    });
    let packed = packed.map(|file| file.as_os_str().as_bytes().to_vec()).collect();
    let pipeline = pipeline(decode, &beside, packed);
    if let Err(error) = runner.chain(&pipeline) {
        let _ = fs::remove_dir_all(&beside);
        return Err(error);
    }
    settle(dir, &beside)?;
    if decode.remove {
        for file in coded {
            let path = dir.join(file);
            fs::remove_file(&path).map_err(|cause| fail(&path, "cannot remove", &cause))?;
        }
        sync(dir)?;
    }
    runner.done();
    Ok(())
}

fn pipeline(decode: &Decode, beside: &Path, packed: Vec<Vec<u8>>) -> Pipeline {
    let option = |ours: &str, dir: &Path| {
        let mut word = std::ffi::OsString::from(ours);
        word.push(dir);
        word
    };
    let pack = [option("--directory=", &decode.dir), "--files-from=-".into(), "--null".into()];
    let json = || "--log=json".into();
    let pack = Stage { tool: "xb-pack", arguments: pack.into_iter().chain(["--no-manifest".into(), json()]).collect() };
    let unpack = Stage { tool: "xb-unpack", arguments: vec![option("--directory=", beside), json()] };
    let stages = [Some(pack), decode.decrypt.clone(), decode.decompress.clone(), Some(unpack)];
    Pipeline {
        stages: stages.into_iter().flatten().collect(),
        input: Input::Names(packed),
        output: Output::Nowhere,
        ending: Ending::Silent,
    }
}

/// What a file is called when it is decoded; `None` if nothing is done with it.
fn plain(decode: &Decode, file: &Path) -> Option<PathBuf> {
    let name = file.as_os_str().as_bytes();
    let without = |endings: &[&str], name: &[u8]| {
        let ending = endings.iter().find(|ending| name.ends_with(ending.as_bytes()))?;
        name.get(..name.len().checked_sub(ending.len())?).map(<[u8]>::to_vec)
    };
    let opened = decode.decrypt.as_ref().and_then(|_| without(&ENCRYPTED, name));
    let inner = opened.as_deref().unwrap_or(name);
    let inflated = decode.decompress.as_ref().and_then(|_| without(&COMPRESSED, inner));
    inflated.or(opened).map(|name| std::ffi::OsString::from_vec(name).into())
}

/// The files below a directory, sorted.
fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let dir = root.join(below);
    let entries = fs::read_dir(&dir).map_err(|cause| fail(&dir, "cannot list", &cause))?;
    let mut found = entries.collect::<io::Result<Vec<_>>>().map_err(|cause| fail(&dir, "cannot list", &cause))?;
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in found {
        let path = below.join(entry.file_name());
        let kind = entry.file_type().map_err(|cause| fail(&entry.path(), "cannot look at", &cause))?;
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() && path != Path::new(BESIDE) {
            list(root, &path, files)?;
        }
    }
    Ok(())
}

/// Moves everything to its place, the manifest last.
fn settle(dir: &Path, beside: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(beside, Path::new(""), &mut files)?;
    files.sort_by_key(|file| file.as_os_str() == names::MANIFEST);
    for file in &files {
        let (from, to) = (beside.join(file), dir.join(file));
        if file.as_os_str() == names::MANIFEST {
            sync(dir)?;
        }
        fs::rename(&from, &to).map_err(|cause| fail(&to, "cannot move into its place", &cause))?;
    }
    fs::remove_dir_all(beside).map_err(|cause| fail(beside, "cannot remove", &cause))?;
    sync(dir)
}
