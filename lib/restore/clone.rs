//! Copies a directory: for `--to`, which leaves the backup unchanged, and for `--copy-back`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::backup::{Backup, Progress, UNFINISHED};
use super::destinations::apart;
use super::files::{self, Item, fail};
use crate::error::{Error, Result};
use crate::io;
use crate::io::copy;
use crate::report::{Level, Report};
use crate::stream::native::names::{INCOMPLETE, LOCK};

/// The text of the marker in a directory that is being filled.
const COPYING: &str = "xb-redo --to";

/// Copies a backup to `to`, which must be new, empty, or left by an interrupted run. False if it is a copy already, by
/// its metadata; that copy may have been applied.
pub(super) fn run(from: &Path, to: &Path, threads: usize, report: &dyn Report) -> Result<bool> {
    let source = Backup::read(from)?;
    if source.progress != Progress::Unpacked {
        return Err(Error::failed(from.display(), "has been applied already, or half")
            .hint("--to copies what is still as it was unpacked"));
    }
    source.refuse_increment()?;
    source.check()?;
    apart(from, to, false)?;
    if same_backup(&source, to) {
        report.note(Level::Info, format_args!("{}: is a copy of it already", to.display()));
        return Ok(false);
    }
    claim(to, COPYING, &source, false)?;
    let items = files::list(from)?;
    let items: Vec<Item> = items.into_iter().filter(|item| item.path != Path::new(LOCK)).collect();
    report.stage("copying");
    report.expect(items.iter().map(|item| item.size).sum());
    tree(from, &|path| to.join(path), &items, None, threads, report)?;
    files::sync(to)?;
    files::remove(&to.join(INCOMPLETE))?;
    Ok(true)
}

/// True if `to` is a complete copy of the same backup, applied or not.
fn same_backup(source: &Backup, to: &Path) -> bool {
    let id = |backup: &Backup| backup.ours.as_ref().map(|ours| (ours.trailer.backup_id.clone(), backup.end_lsn));
    Backup::read(to).is_ok_and(|copy| id(&copy).is_some() && id(&copy) == id(source))
}

/// Creates and marks a directory to be filled. Accepts an empty one, or one that an interrupted run of the same kind
/// (`who`) with the same backup has marked; with `keep`, also one with other files. Ignores `lost+found`, which an empty
/// file system has.
pub(super) fn claim(to: &Path, who: &str, source: &Backup, keep: bool) -> Result<()> {
    apart(&source.path, to, keep)?;
    fs::create_dir_all(to).map_err(|cause| fail(to, "cannot create", &cause))?;
    let (marker, text) = (to.join(INCOMPLETE), format!("{who}{UNFINISHED}\n{}\n", source.identity()?));
    match io::small(&marker)? {
        Some(found) if found == text.as_bytes() => return Ok(()),
        Some(_) => {
            return Err(Error::failed(to.display(), "was begun by another program, or with another backup")
                .hint(format_args!("{} says by whom; give an empty or a new directory", marker.display())));
        }
        None => {}
    }
    let entries = fs::read_dir(to).map_err(|cause| fail(to, "cannot list", &cause))?;
    for entry in entries {
        let name = entry.map_err(|cause| fail(to, "cannot list", &cause))?.file_name();
        if !keep && name != OsStr::new("lost+found") {
            return Err(Error::failed(
                to.display(),
                format_args!("is not empty: it has {}", Path::new(&name).display()),
            )
            .hint("choose an empty or a new directory; nothing was written"));
        }
    }
    fs::write(&marker, text).map_err(|cause| fail(&marker, "cannot write", &cause))
}

/// Copies items to their destinations, directories first. `owner` becomes the owner of all; without it, root preserves
/// owners.
pub(super) fn tree(
    from: &Path,
    place: &(dyn Fn(&Path) -> PathBuf + Sync),
    items: &[Item],
    owner: Option<(u32, u32)>,
    threads: usize,
    report: &dyn Report,
) -> Result<()> {
    for item in items.iter().filter(|item| item.is_dir) {
        directory(&from.join(&item.path), &place(&item.path), owner)?;
    }
    let mut items: Vec<&Item> = items.iter().filter(|item| !item.is_dir).collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.size));
    files::each(&items, threads, |item| {
        let target = place(&item.path);
        copy::file(&from.join(&item.path), &target)?;
        files::give(&target, owner)?;
        report.advance(item.size);
        Ok(())
    })
}

/// Creates a directory with the mode and owner of another.
pub(super) fn directory(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let data = fs::metadata(from).map_err(|cause| fail(from, "cannot read", &cause))?;
    match fs::create_dir(to) {
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(fail(to, "cannot create", &cause));
        }
        _ => {}
    }
    let permissions = fs::Permissions::from_mode(data.mode() & 0o770);
    fs::set_permissions(to, permissions).map_err(|cause| fail(to, "cannot set the mode", &cause))?;
    let keep = rustix::process::geteuid().is_root().then_some((data.uid(), data.gid()));
    files::give(to, owner.or(keep))
}
