//! Checks that the server sees the same files under the same names. Even if the data directory is the server's, another
//! file system may be mounted below it, in our mount namespace or in the server's: an older copy of a database has the
//! same names and ids.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::process::Pid;

use crate::error::{Error, Result};
use crate::server::files::UNSEEN;

/// How often to look again: a file may be renamed or created anew between two looks.
const LOOKS: u32 = 20;

/// What the kernel tells of the server's view.
#[derive(Debug)]
pub(super) enum View {
    /// The server is in the same mount namespace, so a path leads it to the same file.
    Same,
    /// The server's root directory as seen from here, and its data directory beside ours.
    Root { root: PathBuf, theirs: PathBuf, ours: PathBuf },
    /// Unknown: only files on the mount of the data directory itself are certain to be the server's.
    Mount { id: u64, datadir: PathBuf },
    /// The operator vouches for it, or the kernel does not distinguish mounts.
    Trusted,
}

impl View {
    /// The view of the server that listens at our connection. `theirs` and `ours` are paths of its data directory.
    pub(super) fn of(peer: Option<Pid>, theirs: &Path, ours: &Path, trust: bool) -> View {
        match peer.filter(|pid| is_server(*pid)).and_then(|pid| Self::of_process(pid, theirs, ours)) {
            Some(view) => view,
            None if trust => View::Trusted,
            None => mount(ours).map_or(View::Trusted, |id| View::Mount { id, datadir: ours.to_owned() }),
        }
    }

    /// `None` if this process may not inspect the other.
    fn of_process(pid: Pid, theirs: &Path, ours: &Path) -> Option<View> {
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let root = proc.join("root");
        let same = |what: &str| {
            Some(fs::read_link(proc.join(what)).ok()? == fs::read_link(Path::new("/proc/self").join(what)).ok()?)
        };
        if same("ns/mnt")? && same("root")? && theirs == ours {
            return Some(View::Same);
        }
        fs::metadata(root.join(relative(theirs))).ok()?;
        Some(View::Root { root, theirs: theirs.to_owned(), ours: ours.to_owned() })
    }

    /// Checks a file or a directory.
    ///
    /// # Errors
    ///
    /// Invalid, if the server sees another file under this name, or if that cannot be excluded.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        match self {
            View::Same | View::Trusted => Ok(()),
            View::Root { root, theirs, ours } => {
                let name = path.strip_prefix(ours).map_or_else(|_| path.to_owned(), |below| theirs.join(below));
                match agree(path, &root.join(relative(&name)))? {
                    true => Ok(()),
                    false => {
                        let what = format!("is another file than the server has at {}", name.display());
                        Err(Error::invalid(path.display(), what).hint(UNSEEN))
                    }
                }
            }
            View::Mount { id, datadir } if path.starts_with(datadir) && !is_linked(path, datadir) => {
                match mount(path) {
                    Some(own) if own != *id => {
                        let what = "is on another mount than the data directory; that the server sees the same there cannot be shown";
                        Err(Error::invalid(path.display(), what).hint(
                        "run xb-snap as root on the server's host and connect through its socket, or vouch for it with \
                         --trust-datadir",
                    ))
                    }
                    _ => Ok(()),
                }
            }
            View::Mount { .. } => Ok(()),
        }
    }
}

/// A proxy in front of a server, or systemd, may listen in its place.
fn is_server(pid: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    name.is_ok_and(|name| matches!(name.trim_end(), "mariadbd" | "mysqld"))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// True if both paths lead to one file, or to none.
fn agree(ours: &Path, theirs: &Path) -> Result<bool> {
    for look in 0..LOOKS {
        let (before, other, after) = (id(ours)?, id(theirs)?, id(ours)?);
        if before == other || after == other {
            return Ok(true);
        }
        if before == after && look >= LOOKS / 2 {
            return Ok(false);
        }
    }
    // The entry changes all the time, so both paths lead to the same directory.
    Ok(true)
}

fn id(path: &Path) -> Result<Option<(u64, u64)>> {
    let seen = |file: Metadata| (file.dev(), file.ino());
    match fs::metadata(path) {
        Ok(file) => Ok(Some(seen(file))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::io(path.display(), "cannot look at", &cause)),
    }
}

/// The id of the mount that a file is on; `None` if it no longer exists, or the kernel does not tell (before Linux
/// 5.8).
fn mount(path: &Path) -> Option<u64> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID).then_some(found.stx_mnt_id)
}

/// True if a symbolic link leads out of the data directory: the server follows it as well.
fn is_linked(path: &Path, datadir: &Path) -> bool {
    let below = path.ancestors().take_while(|part| *part != datadir);
    below.into_iter().any(|part| part.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_name_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, root) = (dir.path().join("ours"), dir.path().join("root"));
        fs::create_dir_all(ours.join("d")).unwrap();
        fs::create_dir_all(root.join("data")).unwrap();
        fs::write(ours.join("d/t"), "x").unwrap();
        std::os::unix::fs::symlink(ours.join("d"), root.join("data/d")).unwrap();
        let view = View::Root { root: root.clone(), theirs: "/data".into(), ours: ours.clone() };
        view.check(&ours.join("d/t")).unwrap();
        view.check(&ours.join("d/gone")).unwrap();
        fs::create_dir(root.join("data/e")).unwrap();
        fs::create_dir(ours.join("e")).unwrap();
        fs::write(ours.join("e/t"), "x").unwrap();
        for name in ["e", "e/t"] {
            assert!(
                view.check(&ours.join(name))
                    .unwrap_err()
                    .to_string()
                    .contains("is another file than the server has at /data/e")
            );
        }
    }

    #[test]
    fn what_is_on_another_mount_is_not_taken() {
        let proc = View::Mount { id: mount(Path::new("/")).unwrap(), datadir: "/".into() };
        assert!(proc.check(Path::new("/proc/self")).is_ok(), "a link leads there");
        assert!(proc.check(Path::new("/proc/version")).is_err());
        assert!(proc.check(Path::new("/nonexistent")).is_ok());
    }
}
