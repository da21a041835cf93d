//! `xb_images`: pages as they are about to be written, so that a torn page can be written again.
//!
//! Rounds follow each other, each with all pages of a round of writing that the log cannot bring back by itself. A round
//! is synced before the first of its pages is written; if it is not whole, none was. All rounds can be written again in
//! their order, whatever has been written: a later one has the newer state of a page.
//!
//! ```text
//! round:  8 magic   8 length of what follows the digest   32 BLAKE3 of it   pages
//! page:   2 length of the path   path, relative   8 offset   4 length   4 unused bytes after it   bytes
//! ```

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::page::{Image, Last};
use crate::error::{Error, Result};
use crate::innodb::PageSize;
use crate::restore::files::{self, fail};
use crate::stream::name;
use crate::stream::native::names::IMAGES;

const MAGIC: &[u8; 8] = b"xbimage1";
const HEAD: u64 = 48;
/// When the file is longer, all pages are synced, and it begins anew.
const MOST: u64 = 1 << 30;
/// The smallest part of a file that can be a hole.
const BLOCK: u64 = 4 << 10;

/// The file, being written.
#[derive(Debug)]
pub(super) struct Images {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    len: u64,
}

impl Images {
    /// Creates it; an older one has been dealt with.
    pub(super) fn create(dir: &Path) -> Result<Images> {
        let path = dir.join(IMAGES);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|cause| fail(&path, "cannot create", &cause))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|cause| fail(dir, "cannot sync", &cause))?;
        Ok(Images { dir: dir.to_owned(), path, file, len: 0 })
    }

    /// Keeps a round on disk.
    pub(super) fn keep(&mut self, round: &[Image]) -> Result<()> {
        if !round.iter().any(|image| image.precious) {
            return Ok(());
        }
        if self.len > MOST {
            files::sync(&self.dir)?;
            self.file.set_len(0).map_err(|cause| fail(&self.path, "cannot write", &cause))?;
            self.len = 0;
        }
        let len = self.append(round).map_err(|cause| fail(&self.path, "cannot write", &cause))?;
        self.len += len;
        Ok(())
    }

    fn append(&mut self, round: &[Image]) -> io::Result<u64> {
        let (mut digest, mut len) = (blake3::Hasher::new(), 0);
        self.file.seek(SeekFrom::Start(self.len + HEAD))?;
        let mut out = BufWriter::with_capacity(256 << 10, &self.file);
        let mut put = |bytes: &[u8]| {
            digest.update(bytes);
            len += bytes.len() as u64;
            out.write_all(bytes)
        };
        for image in round.iter().filter(|image| image.precious) {
            let path = image.path.strip_prefix(&self.dir).map_err(io::Error::other)?.as_os_str().as_bytes();
            let number = |len: usize| u32::try_from(len).map(u32::to_be_bytes).map_err(io::Error::other);
            put(&u16::try_from(path.len()).map_err(io::Error::other)?.to_be_bytes())?;
            put(path)?;
            put(&image.at.to_be_bytes())?;
            put(&number(image.bytes.len())?)?;
            put(&number(image.unused)?)?;
            put(&image.bytes)?;
        }
        out.flush()?;
        drop(out);
        let head = [&MAGIC[..], &len.to_be_bytes(), digest.finalize().as_bytes()].concat();
        self.file.write_all_at(&head, self.len)?;
        self.file.sync_data()?;
        Ok(HEAD + len)
    }

    /// Removes it: all pages are synced, and the log is replaced.
    pub(super) fn remove(self) -> Result<()> {
        files::remove(&self.path)
    }
}

/// Writes a page to its file.
pub(super) fn write(last: &mut Last, image: &Image) -> Result<()> {
    let Image { path, at, bytes, unused, .. } = image;
    let file = last.open(path)?;
    let fault = |cause: io::Error| fail(path, "cannot write", &cause);
    file.write_all_at(bytes, *at).map_err(fault)?;
    if *unused == 0 {
        return Ok(());
    }
    // The rest of a page_compressed page: a hole as far as possible, zeros in between.
    let (from, to) = (at + bytes.len() as u64, at + (bytes.len() + unused) as u64);
    let hole = from.next_multiple_of(BLOCK).min(to);
    let zeros = vec![0; usize::try_from(hole - from).unwrap_or(0)];
    file.write_all_at(&zeros, from).map_err(fault)?;
    if hole < to && fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, hole, to - hole).is_err() {
        let zeros = vec![0; usize::try_from(to - hole).unwrap_or(0)];
        file.write_all_at(&zeros, hole).map_err(fault)?;
    }
    // A hole does not make a file longer.
    let len = file.metadata().map_err(fault)?.len();
    if len < to { file.set_len(to).map_err(fault) } else { Ok(()) }
}

/// Writes all pages again that an interrupted run has kept.
pub(super) fn mend(dir: &Path) -> Result<()> {
    let path = dir.join(IMAGES);
    let file = match File::open(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(|cause| fail(&path, "cannot open", &cause))?,
    };
    let mut last = Last::default();
    let mut at = 0;
    while let Some(len) = whole(&file, at).map_err(|cause| fail(&path, "cannot read", &cause))? {
        let mut input = BufReader::new(&file);
        input.seek(SeekFrom::Start(at + HEAD)).map_err(|cause| fail(&path, "cannot read", &cause))?;
        let mut input = input.take(len);
        while let Some(image) = next(&mut input, dir)? {
            write(&mut last, &image)?;
        }
        at += HEAD + len;
    }
    files::sync(dir)?;
    files::remove(&path)
}

/// The length of the round that begins here, if it is whole.
fn whole(file: &File, at: u64) -> io::Result<Option<u64>> {
    let mut head = [0; 48];
    match file.read_exact_at(&mut head, at) {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let (Some((magic, rest)), Some(wanted)) = (head.split_first_chunk::<8>(), head.last_chunk::<32>()) else {
        return Ok(None);
    };
    let len = rest.first_chunk().map_or(0, |len| u64::from_be_bytes(*len));
    if magic != MAGIC || file.metadata()?.len().checked_sub(at + HEAD).is_none_or(|rest| rest < len) {
        return Ok(None);
    }
    let mut digest = blake3::Hasher::new();
    let mut input = file;
    input.seek(SeekFrom::Start(at + HEAD))?;
    io::copy(&mut input.take(len), &mut digest)?;
    Ok((digest.finalize().as_bytes() == wanted).then_some(len))
}

/// The next page of a round whose digest is right.
fn next(input: &mut impl Read, dir: &Path) -> Result<Option<Image>> {
    let lost = || Error::damaged(dir.join(IMAGES).display(), "cannot be read");
    let mut two = [0; 2];
    match input.read_exact(&mut two) {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome.map_err(|_| lost())?,
    }
    let mut path = vec![0; u16::from_be_bytes(two).into()];
    let (mut eight, mut len, mut unused) = ([0; 8], [0; 4], [0; 4]);
    input.read_exact(&mut path).map_err(|_| lost())?;
    input.read_exact(&mut eight).map_err(|_| lost())?;
    input.read_exact(&mut len).map_err(|_| lost())?;
    input.read_exact(&mut unused).map_err(|_| lost())?;
    let size = |four: [u8; 4]| {
        let size = u32::from_be_bytes(four);
        if size <= PageSize::MAX.get() { usize::try_from(size).map_err(|_| lost()) } else { Err(lost()) }
    };
    let mut bytes = vec![0; size(len)?];
    input.read_exact(&mut bytes).map_err(|_| lost())?;
    let path = name::clean(&path).map_err(|_| lost())?;
    let path = dir.join(OsStr::from_bytes(&path));
    Ok(Some(Image { path, at: u64::from_be_bytes(eight), bytes, unused: size(unused)?, precious: true }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A page of this byte.
    fn image(dir: &Path, name: &str, page: u64, byte: u8, len: usize, precious: bool) -> Image {
        let bytes = vec![byte; len];
        Image { path: dir.join(name), at: page * 4096, bytes, unused: 4096 - len, precious }
    }

    fn written(dir: &Path) -> [Vec<u8>; 2] {
        ["db/t.ibd", "ibdata1"].map(|name| fs::read(dir.join(name)).unwrap())
    }

    #[test]
    fn torn_pages_are_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join("db")).unwrap();
        for name in ["db/t.ibd", "ibdata1"] {
            fs::write(dir.join(name), vec![0xee; 8 * 4096]).unwrap();
        }
        let rounds = [
            vec![image(dir, "db/t.ibd", 1, 1, 4096, true), image(dir, "ibdata1", 2, 2, 4096, true)],
            // Of the second, the log has everything.
            vec![image(dir, "db/t.ibd", 5, 3, 4096, true), image(dir, "ibdata1", 3, 4, 4096, false)],
            // One that is stored compressed, and one that was written before.
            vec![image(dir, "db/t.ibd", 7, 5, 1000, true), image(dir, "ibdata1", 2, 6, 4096, true)],
        ];
        let mut images = Images::create(dir).unwrap();
        let mut last = Last::default();
        for round in &rounds {
            images.keep(round).unwrap();
            round.iter().for_each(|image| write(&mut last, image).unwrap());
        }
        let whole = written(dir);
        assert_eq!(whole[0][7 * 4096..7 * 4096 + 1000], [5; 1000]);
        assert!(whole[0][7 * 4096 + 1000..].iter().all(|byte| *byte == 0));
        let kept = fs::read(dir.join(IMAGES)).unwrap();
        // All that may be lost of the pages, and of a last round that is not whole.
        for garbage in [&b""[..], b"xbimage1", &kept[..60], &kept[..kept.len() / 4]] {
            let tear = |name: &str, page: u64| {
                let file = OpenOptions::new().write(true).open(dir.join(name)).unwrap();
                file.write_all_at(&[0x5a; 2048], page * 4096 + 1024).unwrap();
            };
            [1, 5, 7].iter().for_each(|page| tear("db/t.ibd", *page));
            tear("ibdata1", 2);
            fs::write(dir.join(IMAGES), [&kept, garbage].concat()).unwrap();
            mend(dir).unwrap();
            assert!(written(dir) == whole && !dir.join(IMAGES).exists());
        }
        mend(dir).unwrap();
        // A round that is not whole is not written.
        let mut cut = kept.clone();
        *cut.last_mut().unwrap() ^= 1;
        for bytes in [&kept[..kept.len() - 1], &cut] {
            fs::write(dir.join("ibdata1"), vec![0; 8 * 4096]).unwrap();
            fs::write(dir.join(IMAGES), bytes).unwrap();
            mend(dir).unwrap();
            assert_eq!(written(dir)[1][2 * 4096], 2);
        }
    }

    #[test]
    fn nothing_outside_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        fs::create_dir(&inside).unwrap();
        fs::write(dir.path().join("victim"), "mine").unwrap();
        let mut images = Images::create(&inside).unwrap();
        images.keep(&[image(&inside, "../victim", 0, 1, 4096, true)]).unwrap();
        assert_eq!(mend(&inside).unwrap_err().kind(), crate::error::Kind::Damaged);
        assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"mine");
    }
}
