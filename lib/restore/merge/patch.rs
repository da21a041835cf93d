//! Writes the pages of a delta into the file of a tablespace.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::delta::Cluster;
use crate::innodb::ids::PageSize;
use crate::innodb::is_zero;
use crate::restore::files::fail;
use crate::stream::native::Entry;

/// How many bytes are read and written at a time.
const PIECE: usize = 1 << 20;
/// Holes consist of blocks of this size.
const BLOCK: usize = 4096;

/// A delta, as the manifest describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    page_size: PageSize,
    /// Length of the file in pages.
    pages: u32,
    zero_runs: &'a [(u32, u32)],
}

impl<'a> Shape<'a> {
    /// From the delta's line in the manifest, if that is complete.
    pub(super) fn of(path: &Path, entry: &'a Entry) -> Result<Self> {
        let fault = |what: &str| Error::damaged("xb_manifest", format_args!("{}: {what}", path.display()));
        let page_size = entry.page_size.and_then(PageSize::new);
        let page_size = page_size.ok_or_else(|| fault("no page size, or an impossible one"))?;
        let pages = entry.pages.ok_or_else(|| fault("it does not say how long the file was"))?;
        let zero_runs = entry.zero_runs.as_slice();
        let mut before = 0;
        for (first, count) in zero_runs {
            let end = first.checked_add(*count).filter(|end| *end <= pages);
            before = end.filter(|_| *first >= before).ok_or_else(|| fault("its runs of zero pages are impossible"))?;
        }
        Ok(Shape { page_size, pages, zero_runs })
    }

    /// Size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.page_size.offset(self.pages)
    }

    /// Total size of its runs of zero pages.
    pub(super) fn zeros(&self) -> u64 {
        let pages = self.zero_runs.iter().map(|(_, count)| u64::from(*count));
        pages.fold(0, u64::saturating_add).saturating_mul(u64::from(self.page_size))
    }

    /// Reads only the lists of a delta. True if they and the runs of zeros cover every page of the file.
    pub(super) fn check(&self, path: &Path) -> Result<bool> {
        let mut count: u64 = self.zero_runs.iter().map(|(_, count)| u64::from(*count)).sum();
        clusters(path, self.page_size, |_, _, places| {
            if places.last().is_some_and(|place| *place >= self.pages) {
                return Err(Error::damaged(
                    path.display(),
                    format_args!("has a page beyond the {} of its file", self.pages),
                ));
            }
            count += places.len() as u64;
            Ok(())
        })?;
        Ok(count == u64::from(self.pages))
    }

    /// Changes `target` from the state of the base to that of the increment. Can be repeated. True if anything was
    /// changed.
    pub(super) fn apply(&self, delta: &Path, target: &File, place: &Path) -> Result<bool> {
        let write = |cause: std::io::Error| fail(place, "cannot write", &cause);
        let mut changed = target.metadata().map_err(write)?.len() != self.size();
        if changed {
            target.set_len(self.size()).map_err(write)?;
        }
        for (first, count) in self.zero_runs {
            let (at, len) = (self.page_size.offset(*first), self.page_size.offset(*count));
            changed |= clear(target, at, len).map_err(write)?;
        }
        let size = self.page_size.bytes();
        let (mut new, mut old) = (vec![0; PIECE], vec![0; PIECE]);
        clusters(delta, self.page_size, |file, from, places| {
            let (mut rest, mut from) = (places, from);
            while let Some(&first) = rest.first() {
                let run = (first..).zip(rest).take(PIECE / size).take_while(|(expected, at)| expected == *at).count();
                rest = rest.part(run..)?;
                let (new, old) = (new.part_mut(..run * size)?, old.part_mut(..run * size)?);
                file.read_exact_at(new, from).map_err(|cause| fail(delta, "cannot read", &cause))?;
                from += new.len() as u64;
                let at = self.page_size.offset(first);
                target.read_exact_at(old, at).map_err(|cause| fail(place, "cannot read", &cause))?;
                if new != old {
                    target.write_all_at(new, at).map_err(write)?;
                    (at..).step_by(size).zip(new.chunks(size)).for_each(|(at, page)| punch(target, at, page));
                    changed = true;
                }
            }
            Ok(())
        })?;
        Ok(changed)
    }
}

/// Visits the clusters of a delta: the offset of the first page, and the numbers of the pages in the tablespace.
fn clusters(path: &Path, page_size: PageSize, mut each: impl FnMut(&File, u64, &[u32]) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|cause| fail(path, "cannot open", &cause))?;
    let len = file.metadata().map_err(|cause| fail(path, "cannot read", &cause))?.len();
    let fault =
        |at: u64, what: &dyn std::fmt::Display| Error::damaged(path.display(), format_args!("byte {at}: {what}"));
    let mut head = vec![0; page_size.bytes()];
    let (mut at, mut before) = (0u64, None);
    loop {
        let first = at + u64::from(page_size);
        if first > len {
            return Err(fault(at, &"truncated: a cluster is missing"));
        }
        file.read_exact_at(&mut head, at).map_err(|cause| fail(path, "cannot read", &cause))?;
        let Cluster { last, pages } = Cluster::parse(&head).map_err(|what| fault(at, &what))?;
        let end = first + pages.len() as u64 * u64::from(page_size);
        if end > len || (last && end < len) {
            return Err(fault(at, &format_args!("a cluster ends at byte {end}, the file at {len}")));
        }
        if before.zip(pages.first().copied()).is_some_and(|(before, first): (u32, u32)| before >= first) {
            return Err(fault(at, &"its pages do not follow those of the cluster before it"));
        }
        each(&file, first, &pages)?;
        if last {
            return Ok(());
        }
        (at, before) = (end, pages.last().copied());
    }
}

/// Overwrites bytes with zeros, unless they are zero already; punches a hole if the file system can.
fn clear(file: &File, at: u64, len: u64) -> std::io::Result<bool> {
    let end = at + len;
    let (mut buffer, mut changed, mut at) = (vec![0; PIECE], false, at);
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.part_mut(..want)?;
        file.read_exact_at(piece, at)?;
        if !is_zero(piece) {
            changed = true;
            if hole(file, at, want as u64).is_err() {
                piece.fill(0);
                file.write_all_at(piece, at)?;
            }
        }
        at += want as u64;
    }
    Ok(changed)
}

/// Punches out the blocks at the end of a page_compressed page, which are zero: the server had punched a hole there.
/// This only saves space, so it is no error if the file system cannot.
fn punch(file: &File, at: u64, page: &[u8]) {
    let mut blocks = page.rchunks_exact(BLOCK);
    let free = blocks.by_ref().take_while(|block| is_zero(block)).count() as u64 * BLOCK as u64;
    let end = at + page.len() as u64;
    if free > 0 && end.is_multiple_of(BLOCK as u64) {
        let _ = hole(file, end - free, free);
    }
}

fn hole(file: &File, at: u64, len: u64) -> rustix::io::Result<()> {
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::native::EntryKind;

    fn entry(pages: u32, zero_runs: &[(u32, u32)]) -> Entry {
        let mut entry = Entry::new(b"d/t.ibd.delta", EntryKind::Delta, 0, &blake3::hash(b""));
        (entry.page_size, entry.pages) = (Some(4096), Some(pages));
        entry.zero_runs = zero_runs.to_vec();
        entry
    }

    fn delta(dir: &Path, clusters: &[(&[u32], bool)]) -> std::path::PathBuf {
        let mut bytes = Vec::new();
        for (places, last) in clusters {
            bytes.extend(Cluster::head(PageSize::new(4096).unwrap(), places, *last).unwrap());
            places.iter().for_each(|place| bytes.extend([u8::try_from(place % 200).unwrap() + 1; 4096]));
        }
        std::fs::write(dir.join("delta"), bytes).unwrap();
        dir.join("delta")
    }

    #[test]
    fn a_repeated_merge_gives_the_same_pages() {
        let dir = tempfile::tempdir().unwrap();
        let many: Vec<u32> = (0..1023).collect();
        let path = delta(dir.path(), &[(&many, false), (&[1030, 1031, 1039], true)]);
        let entry = entry(1040, &[(1024, 5), (1038, 1)]);
        let shape = Shape::of(&path, &entry).unwrap();
        assert!(!shape.check(&path).unwrap(), "pages are missing in it");
        for before in [0usize, 500 * 4096 + 7, 2000 * 4096] {
            let place = dir.path().join("t");
            std::fs::write(&place, vec![0xee; before]).unwrap();
            let target = File::options().read(true).write(true).open(&place).unwrap();
            assert!(shape.apply(&path, &target, &place).unwrap());
            let bytes = std::fs::read(&place).unwrap();
            assert_eq!(bytes.len(), 1040 * 4096);
            for (place, page) in (0..).zip(bytes.chunks(4096)) {
                let expect = match place {
                    0..=1022 | 1030 | 1031 | 1039 => u8::try_from(place % 200).unwrap() + 1,
                    1024..=1028 | 1038 => 0,
                    _ => {
                        if before > 1040 * 4096 {
                            0xee
                        } else {
                            0
                        }
                    }
                };
                assert!(page.iter().all(|byte| *byte == expect), "page {place}");
            }
            assert!(!shape.apply(&path, &target, &place).unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_found_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let fault = |clusters: &[(&[u32], bool)], entry: &Entry, cut: u64, words: &str| {
            let path = delta(dir.path(), clusters);
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(file.metadata().unwrap().len() - cut).unwrap();
            let error = Shape::of(&path, entry).and_then(|shape| shape.check(&path)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let many: Vec<u32> = (0..1023).collect();
        fault(&[(&[0, 8], true)], &entry(8, &[]), 0, "beyond the 8 of its file");
        fault(&[(&[0, 8], true)], &entry(9, &[]), 1, "ends at byte");
        fault(&[(&[0, 8], true), (&[], true)], &entry(9, &[]), 0, "ends at byte");
        fault(&[(&many, false)], &entry(2000, &[]), 0, "a cluster is missing");
        fault(&[(&many, false), (&[1022], true)], &entry(2000, &[]), 0, "do not follow");
        fault(&[(&[0], true)], &entry(9, &[(5, 5)]), 0, "runs of zero pages");
        fault(&[(&[0], true)], &entry(9, &[(5, 2), (6, 1)]), 0, "runs of zero pages");
        let (mut odd, mut endless) = (entry(9, &[]), entry(9, &[]));
        (odd.page_size, endless.pages) = (Some(5000), None);
        fault(&[(&[0], true)], &odd, 0, "no page size");
        fault(&[(&[0], true)], &endless, 0, "how long the file was");
        let complete = entry(3, &[(1, 1)]);
        let path = delta(dir.path(), &[(&[0, 2], true)]);
        assert!(Shape::of(&path, &complete).unwrap().check(&path).unwrap());
    }
}
