//! Copies of whole files: shared blocks where the file system can, else in the kernel, holes kept.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::SeekFrom as Look;
use rustix::io::Errno;

use super::BUFFER;
use crate::bytes::Part as _;
use crate::error::{Error, Result};

/// Copies a file with its mode and, for root, its owner; what stands in the target's place is overwritten.
pub fn file(from: &Path, to: &Path) -> Result<()> {
    let source = File::open(from).map_err(|cause| Error::io(from.display(), "cannot open", &cause))?;
    let write = |cause: io::Error| Error::io(to.display(), "cannot write", &cause);
    let data = source.metadata().map_err(|cause| Error::io(from.display(), "cannot read", &cause))?;
    let mut options = fs::OpenOptions::new();
    let target = options.write(true).create(true).truncate(true).mode(data.mode() & 0o770).open(to).map_err(write)?;
    if rustix::process::geteuid().is_root() {
        fchown(&target, Some(data.uid()), Some(data.gid())).map_err(write)?;
    }
    target.set_permissions(fs::Permissions::from_mode(data.mode() & 0o770)).map_err(write)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    content(&source, &target, data.len())
        .map_err(|cause| Error::io(to.display(), format_args!("cannot copy {}", from.display()), &cause))
}

/// Copies the data and leaves the holes.
fn content(source: &File, target: &File, len: u64) -> io::Result<()> {
    target.set_len(len)?;
    let mut at = 0;
    while at < len {
        let data = match rustix::fs::seek(source, Look::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            // A file system without holes.
            Err(_) => return range(source, target, at, len),
        };
        let hole = rustix::fs::seek(source, Look::Hole(data)).unwrap_or(len).min(len);
        range(source, target, data, hole)?;
        at = hole;
    }
    Ok(())
}

/// Copies bytes `at..end`.
fn range(mut source: &File, mut target: &File, at: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (at, at);
    while from < end {
        let want = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            // Between file systems, and where the kernel cannot: by hand.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::BADF) => {
                source.seek(SeekFrom::Start(from))?;
                target.seek(SeekFrom::Start(to))?;
                let mut rest = source.take(end - from);
                let mut buffer = vec![0; BUFFER];
                loop {
                    match rest.read(&mut buffer) {
                        Ok(0) if rest.limit() > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(0) => return Ok(()),
                        Ok(got) => target.write_all(buffer.part(..got)?)?,
                        Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                        Err(cause) => return Err(cause),
                    }
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn content_mode_and_holes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let source = File::create(&from).unwrap();
        source.set_len(20 << 20).unwrap();
        source.write_all_at(&[7; 5000], 10 << 20).unwrap();
        source.write_all_at(&[9; 10], (15 << 20) + 3).unwrap();
        source.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&to, vec![1; 30 << 20]).unwrap();
        file(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        let (a, b) = (fs::metadata(&from).unwrap(), fs::metadata(&to).unwrap());
        assert_eq!(b.mode() & 0o777, 0o600);
        assert!(b.blocks() <= a.blocks() + 16, "{} blocks became {}", a.blocks(), b.blocks());
        fs::write(&from, "").unwrap();
        file(&from, &to).unwrap();
        assert_eq!(b"", fs::read(&to).unwrap().as_slice());
    }
}
