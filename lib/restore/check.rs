//! Verifies the files of a backup against its manifest.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::backup::Backup;
use super::files::{self, fail};
use crate::bytes::Part as _;
use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};
use crate::stream::native::Entry;
use crate::stream::native::prints::Prints;

/// How many bytes are read at a time; BLAKE3 is fastest on large pieces.
const PIECE: usize = 1 << 20;

/// Which files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thorough {
    /// Every file is read.
    All,
    /// Every file that has changed since xb-unpack verified it and synced it to disk.
    Changed,
}

/// Reads files and compares their digests with the manifest. Backups of other programs have no digests.
/// With `forced`, one that differs is only told.
pub(super) fn digests(
    backup: &Backup,
    thorough: Thorough,
    threads: usize,
    forced: bool,
    report: &dyn Report,
) -> Result<()> {
    let Some(ours) = &backup.ours else { return Ok(()) };
    report.stage("checking");
    // The largest come first, so that no thread reads one alone at the end.
    let mut entries: Vec<&Entry> = ours.entries.iter().collect();
    if let Some(prints) = (thorough == Thorough::Changed).then(|| Prints::read(&backup.path, &ours.trailer)).flatten() {
        let same = |entry: &Entry| entry.path().zip(backup.file(entry).ok());
        entries.retain(|entry| !same(entry).is_some_and(|(name, path)| prints.has(&name, &path)));
        report.note(
            Level::Detail,
            format_args!(
                "{}: {} of {} files are as xb-unpack left them, and not read again",
                backup.path.display(),
                ours.entries.len() - entries.len(),
                ours.entries.len()
            ),
        );
    }
    report.expect(entries.iter().map(|entry| entry.size).sum());
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.size));
    files::each(&entries, threads, |entry| match digest(backup, entry, report) {
        Err(error) if forced && error.kind() == Kind::Damaged => {
            report.note(Level::Warning, format_args!("{error}"));
            Ok(())
        }
        outcome => outcome,
    })
}

fn digest(backup: &Backup, entry: &Entry, report: &dyn Report) -> Result<()> {
    let path = backup.file(entry)?;
    let (size, digest) = of_file(&path, report)?;
    if size == entry.size && *digest.to_hex() == entry.blake3 {
        return Ok(());
    }
    Err(Error::damaged(path.display(), "its content differs from what the manifest says")
        .hint("the copy was damaged after it was unpacked; unpack the backup again"))
}

/// The size of a file and its digest.
pub(super) fn of_file(path: &Path, report: &dyn Report) -> Result<(u64, blake3::Hash)> {
    let mut file = File::open(path).map_err(|cause| fail(path, "cannot open", &cause))?;
    let len = file.metadata().map_or(0, |data| data.len());
    let (mut digest, mut size) = (blake3::Hasher::new(), 0u64);
    let mut buffer = vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE).max(1))];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, digest.finalize())),
            Ok(got) => {
                digest.update(buffer.part(..got)?);
                size = size.saturating_add(got as u64);
                report.advance(got as u64);
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(fail(path, "cannot read", &cause)),
        }
    }
}
