//! Copies one file into a stream: a tablespace with its pages verified, or any other file as it is.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bstr::ByteSlice;

use super::manifest::Manifest;
use super::workers::{Abort, BATCH, Buffers};
use crate::error::{Error, Result};
use crate::innodb::space::{HEAD, Space, Tally};
use crate::innodb::{Doublewrite, Fault};
use crate::io::cache::{ALIGN, Aligned, Policy, Source};
use crate::report::{Level, Report};
use crate::server::files;
use crate::stream::Writer;
use crate::stream::profile::{Entry, EntryKind};

/// A page caught half-written is read again at once this many times, then at intervals, by time and not by count: a
/// server with buffered writes was seen to need hundreds of reads (spec section 7.4).
const AT_ONCE: u32 = 3;
const INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// Smaller files are read through the cache: nobody misses what they displace.
const SMALL: u64 = 64 << 10;

/// What all copying threads share.
pub(super) struct Copier<'a> {
    pub(super) policy: Policy,
    pub(super) report: &'a dyn Report,
    pub(super) manifest: &'a Manifest,
    pub(super) abort: &'a Abort,
    /// Pages of all tablespaces.
    pub(super) pages: &'a Mutex<Tally>,
}

/// A file of pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages<'a> {
    /// The member's name.
    pub(super) name: &'a [u8],
    /// The file.
    pub(super) path: &'a Path,
    /// True if the file is not below the data directory, or has another name there.
    pub(super) elsewhere: bool,
    /// A file of the system tablespace, which is known before.
    pub(super) part: Option<Part<'a>>,
    /// Copy a file whose page 0 is not written yet as it is.
    pub(super) unwritten: bool,
}

/// A file of a tablespace of several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) space: &'a Space,
    /// Number of the file's first page.
    pub(super) first: u32,
    pub(super) doublewrite: Option<&'a Doublewrite>,
}

/// What became of a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the stream; this is the file's device and inode.
    Copied((u64, u64)),
    /// Page 0 is not written yet; nothing was sent.
    Deferred((u64, u64)),
    /// The file has gone since it was listed.
    Gone,
}

/// A file that is being read.
struct Open<'a> {
    source: Source,
    place: &'a Path,
    identity: (u64, u64),
    size: u64,
}

impl Copier<'_> {
    /// Copies a tablespace. Pages that stay bad end the backup.
    pub(super) fn tablespace(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        file: Pages<'_>,
    ) -> Result<Outcome> {
        let Some(mut open) = open(file.path, self.policy)? else { return Ok(Outcome::Gone) };
        let Some(mut read) = open.batch(&mut buffers.batch, 0)? else { return Ok(Outcome::Deferred(open.identity)) };
        let own;
        let part = match file.part {
            Some(part) => part,
            None => match open.space(&mut buffers.batch, read)? {
                Some(space) => {
                    own = space;
                    Part { space: &own, first: 0, doublewrite: None }
                }
                None if file.unwritten => return self.raw(out, buffers, file, open),
                None => return Ok(Outcome::Deferred(open.identity)),
            },
        };
        let page = usize::try_from(part.space.page_size).unwrap_or(BATCH);
        let (mut digest, mut tally, mut offset) = (blake3::Hasher::new(), Tally::default(), 0u64);
        loop {
            self.abort.check()?;
            // A piece of a page at the end is a page that is being added; the log has it.
            let whole = read - read % page;
            let Some(pages) = buffers.batch.as_mut().get_mut(..whole).filter(|pages| !pages.is_empty()) else { break };
            let first = u32::try_from(offset / u64::from(part.space.page_size)).unwrap_or(u32::MAX);
            let first = part.first.saturating_add(first);
            let good = open.verify(pages, first, offset, part, &mut tally, &mut buffers.again)?;
            let pages = pages.get(..good).unwrap_or_default();
            digest.update(pages);
            if !pages.is_empty() {
                out.payload(file.name, offset, pages)?;
            }
            self.report.advance(pages.len() as u64);
            offset += pages.len() as u64;
            if good < whole || whole < BATCH {
                break;
            }
            match open.batch(&mut buffers.batch, offset)? {
                Some(count) => read = count,
                None => break,
            }
        }
        out.end(file.name)?;
        let mut entry = Entry::new(file.name, EntryKind::Innodb, offset, &digest.finalize());
        entry.space_id = Some(part.space.id);
        entry.flags = Some(part.space.flags);
        entry.page_size = Some(part.space.page_size);
        entry.location = file.elsewhere.then(|| file.path.display().to_string());
        self.done(&entry, file.name, offset)?;
        if let Ok(mut all) = self.pages.lock() {
            all.zero += tally.zero;
            all.verified += tally.verified;
            all.unverified += tally.unverified;
            all.skipped += tally.skipped;
        }
        Ok(Outcome::Copied(open.identity))
    }

    /// A tablespace whose page 0 is not written: the log has all of it (spec section 5).
    fn raw(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        file: Pages<'_>,
        mut open: Open<'_>,
    ) -> Result<Outcome> {
        let (size, digest) = self.stream(out, buffers, file.name, &mut open)?;
        self.done(&Entry::new(file.name, EntryKind::File, size, &digest), file.name, size)?;
        Ok(Outcome::Copied(open.identity))
    }

    /// Copies any other file as it is. False if it has gone.
    pub(super) fn file(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        name: &[u8],
        path: &Path,
    ) -> Result<bool> {
        let Some(mut open) = open(path, self.policy)? else { return Ok(false) };
        let (size, digest) = self.stream(out, buffers, name, &mut open)?;
        self.done(&Entry::new(name, EntryKind::File, size, &digest), name, size)?;
        Ok(true)
    }

    /// A member made here.
    pub(super) fn made(&self, out: &Writer<impl Write>, name: &str, kind: EntryKind, content: &[u8]) -> Result<()> {
        out.member(name.as_bytes(), content)?;
        let entry = Entry::new(name.as_bytes(), kind, content.len() as u64, &blake3::hash(content));
        self.done(&entry, name.as_bytes(), content.len() as u64)
    }

    fn stream(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        name: &[u8],
        open: &mut Open<'_>,
    ) -> Result<(u64, blake3::Hash)> {
        let (mut digest, mut offset) = (blake3::Hasher::new(), 0u64);
        while let Some(count) = open.batch(&mut buffers.batch, offset)? {
            self.abort.check()?;
            let bytes = buffers.batch.as_ref().get(..count).unwrap_or_default();
            digest.update(bytes);
            if offset == 0 && count < BATCH {
                out.member(name, bytes)?;
                self.report.advance(count as u64);
                return Ok((count as u64, digest.finalize()));
            }
            out.payload(name, offset, bytes)?;
            self.report.advance(count as u64);
            offset += count as u64;
            if count < BATCH {
                break;
            }
        }
        out.end(name)?;
        Ok((offset, digest.finalize()))
    }

    fn done(&self, entry: &Entry, name: &[u8], size: u64) -> Result<()> {
        self.manifest.add(entry)?;
        self.report.note(Level::Detail, format_args!("{}: {size} bytes", name.as_bstr()));
        Ok(())
    }
}

/// Opens a file; `None` if it has gone since it was listed.
fn open(path: &Path, policy: Policy) -> Result<Option<Open<'_>>> {
    let small = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= SMALL);
    let source = match Source::open(path, if small { Policy::Keep } else { policy }) {
        Ok(source) => source,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            let error = Error::io(path.display(), "cannot open", &cause);
            let denied = cause.kind() == io::ErrorKind::PermissionDenied;
            return Err(if denied { error.hint("run xb-snap as the server's user, or as root") } else { error });
        }
    };
    let meta = source.file().metadata().map_err(|cause| Error::io(path.display(), "cannot look at", &cause))?;
    Ok(Some(Open { source, place: path, identity: files::identity(&meta), size: meta.len() }))
}

impl Open<'_> {
    /// Reads the next batch; `None` at the end as it was when the file was opened. What is added later is in the log.
    fn batch(&mut self, batch: &mut Aligned, offset: u64) -> Result<Option<usize>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(BATCH);
        let want = left.next_multiple_of(ALIGN);
        let Some(buffer) = batch.as_mut().get_mut(..want).filter(|buffer| !buffer.is_empty()) else { return Ok(None) };
        let read = self.read(buffer, offset)?.min(left);
        Ok((read > 0).then_some(read))
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.source
            .read_at(buffer, offset)
            .map_err(|cause| Error::io(self.place.display(), format_args!("cannot read at byte {offset}"), &cause))
    }

    /// What page 0 says, read again until it is complete.
    fn space(&mut self, batch: &mut Aligned, read: usize) -> Result<Option<Space>> {
        let mut patience = Patience::new();
        loop {
            let head = batch.as_ref().get(..read.min(HEAD)).unwrap_or_default();
            match Space::parse(head) {
                Ok(space) => return Ok(space),
                Err(fault) if !patience.wait() => return Err(self.bad(0, 0, fault)),
                Err(_) => {}
            }
            let head = batch.as_mut().get_mut(..read.min(HEAD).next_multiple_of(ALIGN)).unwrap_or_default();
            self.read(head, 0)?;
        }
    }

    /// Verifies whole pages, reading torn ones again into their place. Returns how many bytes are good: fewer than
    /// there are if the file was cut off meanwhile.
    fn verify(
        &mut self,
        pages: &mut [u8],
        first: u32,
        offset: u64,
        part: Part<'_>,
        tally: &mut Tally,
        again: &mut Aligned,
    ) -> Result<usize> {
        let size = usize::try_from(part.space.page_size).unwrap_or(BATCH);
        let mut done = 0;
        loop {
            let from = first.saturating_add(u32::try_from(done / size).unwrap_or(u32::MAX));
            let rest = pages.get(done..).unwrap_or_default();
            let Err((bad, _)) = part.space.check_run(from, rest, part.doublewrite, tally) else {
                return Ok(pages.len());
            };
            let at = usize::try_from(bad.saturating_sub(first)).unwrap_or(usize::MAX).saturating_mul(size);
            let Some(page) = pages.get_mut(at..at.saturating_add(size)) else { return Ok(done) };
            if !self.settle(page, bad, offset + at as u64, part, again)? {
                return Ok(at);
            }
            tally.verified += 1;
            done = at + size;
        }
    }

    /// Reads a page until it is complete; false if it is beyond the end by now.
    fn settle(
        &mut self,
        page: &mut [u8],
        number: u32,
        offset: u64,
        part: Part<'_>,
        again: &mut Aligned,
    ) -> Result<bool> {
        // Pages of 1 and 2 KiB share a block with others.
        let within = usize::try_from(offset % ALIGN as u64).unwrap_or(0);
        let want = (within + page.len()).next_multiple_of(ALIGN);
        let mut patience = Patience::new();
        loop {
            let Some(block) = again.as_mut().get_mut(..want) else { return Ok(false) };
            let read = self.read(block, offset - within as u64)?;
            let Some(found) = block.get(within..within + page.len()).filter(|_| read >= within + page.len()) else {
                return Ok(false);
            };
            match part.space.check(number, found) {
                Ok(_) => {
                    page.copy_from_slice(found);
                    return Ok(true);
                }
                Err(fault) if !patience.wait() => return Err(self.bad(number, offset, fault)),
                Err(_) => {}
            }
        }
    }

    fn bad(&self, number: u32, offset: u64, fault: Fault) -> Error {
        let what = format!("page {number} (byte {offset}) is bad: {fault}; read again for {} s", PATIENCE.as_secs());
        Error::damaged(self.place.display(), what).hint(
            "the page is damaged on disk; CHECK TABLE on the server tells more, an older backup may have it whole",
        )
    }
}

/// Waits between reads of a torn page.
struct Patience {
    start: Instant,
    reads: u32,
}

impl Patience {
    fn new() -> Self {
        Patience { start: Instant::now(), reads: 0 }
    }

    /// Waits for the next read; false when it has been long enough.
    fn wait(&mut self) -> bool {
        self.reads += 1;
        if self.reads > AT_ONCE {
            sleep(INTERVAL);
        }
        self.start.elapsed() < PATIENCE
    }
}

/// The system tablespace's page 0 and doublewrite area, from its first file.
pub(super) fn system_space(path: &Path, policy: Policy) -> Result<(Space, Option<Doublewrite>)> {
    let missing = || Error::failed(path.display(), "is not there, or page 0 is not written");
    let mut open = open(path, policy)?.ok_or_else(missing)?;
    let mut batch = Aligned::new(BATCH);
    let read = open.batch(&mut batch, 0)?.ok_or_else(missing)?;
    let space = open.space(&mut batch, read)?.ok_or_else(missing)?;
    let size = usize::try_from(space.page_size).unwrap_or(BATCH);
    let at = size * usize::try_from(crate::innodb::doublewrite::PAGE).unwrap_or(0);
    let page = batch.as_ref().get(at..at + size).unwrap_or_default();
    let doublewrite = Doublewrite::parse(page, space.page_size);
    Ok((space, doublewrite))
}
