//! Reads a file of the server in batches, verifies its pages, and reads torn ones again.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::workers::BATCH;
use crate::bytes::{Part as _, within};
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::aria::{self, Aria};
use crate::innodb::ids::{Lsn, PageNo, SpaceId};
use crate::innodb::page::{self, Content};
use crate::innodb::space::{self, HEAD, Space, Tally};
use crate::innodb::{Doublewrite, Fault};
use crate::io::cache::{ALIGN, Aligned, Policy, Source};
use crate::server::files::{self, Identity};

/// A torn page is read again at once this many times, then at intervals until a time limit: a server with buffered
/// writes was seen to need hundreds of reads (`facts/mariadb-hot-backup#torn-pages`).
const AT_ONCE: u32 = 3;
const INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// Smaller files are read through the page cache, where they displace little.
const SMALL: u64 = 64 << 10;

/// A file of a tablespace that has several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) space: &'a Space,
    /// Number of the file's first page.
    pub(super) first: PageNo,
    pub(super) doublewrite: Option<&'a Doublewrite>,
}

/// An open file.
pub(super) struct Open<'a> {
    source: Source,
    place: &'a Path,
    /// Which file it is.
    pub(super) identity: Identity,
    /// See [`files::Tablespace::changed`]; from before the first read.
    pub(super) changed: (i64, i64),
    size: u64,
}

/// What the first bytes of a tablespace say, whether the rest of page 0 is complete or not. IMPORT TABLESPACE writes
/// other ids and no LSN into an existing file (`facts/mariadb-hot-backup#pages-without-lsn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The tablespace's id; 0 if page 0 is not initialized.
    pub(super) space: SpaceId,
    /// Its flags, one of which says that it is encrypted.
    flags: u32,
    /// The LSN of page 0.
    pub(super) lsn: Lsn,
}

impl Head {
    /// Needs only the first block of the file, which the kernel reads as a whole.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Head { space: space::id(bytes), flags: space::flags(bytes), lsn: page::lsn(bytes).unwrap_or_default() }
    }

    /// The tablespace's id, if page 0 is initialized.
    pub(super) fn id(self) -> Option<SpaceId> {
        (self.space != SpaceId::SYSTEM).then_some(self.space)
    }

    /// True if redo alone can have led from `self` to `later`. Redo also logs that a tablespace was encrypted or
    /// decrypted, but a copy with pages from before and after is read with one key.
    pub(super) fn leads_to(self, later: Head) -> bool {
        self.space == later.space && self.flags == later.flags && self.lsn <= later.lsn
    }
}

/// The file of a tablespace when it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) identity: Identity,
    /// See [`Tablespace::changed`](crate::server::files::Tablespace::changed).
    pub(super) changed: (i64, i64),
    pub(super) head: Head,
}

/// The kind of blocks in a file of an Aria table.
pub(super) struct AriaFile {
    table: Aria,
    /// True for the `.MAD`, false for the `.MAI`.
    data: bool,
}

impl AriaFile {
    /// From the file's name; `None` for any other file, and if the index cannot be parsed.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let data = match path.extension()?.as_bytes() {
            b"MAD" => true,
            b"MAI" => false,
            _ => return None,
        };
        let index = regular(&path.with_extension("MAI")).ok()?;
        let mut head = Vec::new();
        index.take(aria::HEAD as u64).read_to_end(&mut head).ok()?;
        Some(AriaFile { table: Aria::parse(&head)?, data })
    }
}

/// Opens a regular file only: opening a pipe would wait for a writer.
fn regular(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Opens a file; `None` if it was removed after it was listed.
pub(super) fn open(path: &Path, policy: Policy) -> Result<Option<Open<'_>>> {
    let small = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= SMALL);
    let source = match regular(path) {
        Ok(file) => Source::new(file, if small { Policy::Keep } else { policy }),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return files::seen(path).map(|_| None),
        Err(cause) => {
            let error = Error::io(path.display(), "cannot open", &cause);
            let denied = cause.kind() == io::ErrorKind::PermissionDenied;
            return Err(if denied { error.hint("run xb-snap as the server's user, or as root") } else { error });
        }
    };
    let meta = source.file().metadata().map_err(|cause| Error::io(path.display(), "cannot look at", &cause))?;
    Ok(Some(Open {
        source,
        place: path,
        identity: Identity::of(&meta),
        changed: files::changed(&meta),
        size: meta.len(),
    }))
}

/// What the first bytes of a file say; `None` if it no longer exists.
pub(super) fn head(path: &Path, policy: Policy, block: &mut Aligned) -> Result<Option<Head>> {
    open(path, policy)?.map(|mut open| open.head(block)).transpose()
}

impl Open<'_> {
    /// Limits the number of bytes to read.
    pub(super) fn limit(&mut self, size: u64) {
        self.size = self.size.min(size);
    }

    /// Reads the next batch; `None` at the size that the file had when it was opened. What is added later is in the
    /// log.
    pub(super) fn batch(&mut self, batch: &mut Aligned, offset: u64) -> Result<Option<usize>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(BATCH);
        let want = left.next_multiple_of(ALIGN);
        if want == 0 {
            return Ok(None);
        }
        let buffer = batch.as_mut().part_mut(..want)?;
        let read = self.read(buffer, offset)?.min(left);
        Ok((read > 0).then_some(read))
    }

    /// The state of the file for the catalog, with what its first bytes say.
    pub(super) fn seen(&self, head: Head) -> Seen {
        Seen { identity: self.identity, changed: self.changed, head }
    }

    /// Reads again what its first bytes say.
    pub(super) fn head(&mut self, block: &mut Aligned) -> Result<Head> {
        let read = self.read(block.as_mut().part_mut(..ALIGN)?, 0)?;
        Ok(Head::of(block.as_ref().part(..read)?))
    }

    /// Reads bytes from an offset that need not be aligned, and returns their range in the batch; fewer at the end of
    /// the file. `len` is at most the size of a batch minus [`ALIGN`].
    pub(super) fn range(&mut self, batch: &mut Aligned, offset: u64, len: usize) -> Result<std::ops::Range<usize>> {
        let within = within(offset, ALIGN);
        let buffer = batch.as_mut().part_mut(..(within + len).next_multiple_of(ALIGN))?;
        let read = self.read(buffer, offset - within as u64)?;
        Ok(within..read.clamp(within, within + len))
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.source
            .read_at(buffer, offset)
            .map_err(|cause| Error::io(self.place.display(), format_args!("cannot read at byte {offset}"), &cause))
    }

    /// Page 0, read again until it is complete; `None` if it is not initialized or the file is shorter than a page.
    pub(super) fn space(&mut self, batch: &mut Aligned, read: usize) -> Result<Option<Space>> {
        let head = batch.as_mut().part_mut(..read.min(HEAD))?;
        match Space::parse(head) {
            Ok(space) => Ok(space),
            // The whole file is shorter than a page.
            Err(Fault::Size { .. }) if read as u64 >= self.size => Ok(None),
            Err(_) => self.read_until_complete(head, 0, 0, &Space::parse, &mut Aligned::new(HEAD)).map(Option::flatten),
        }
    }

    /// Verifies whole pages and reads torn ones again. Returns how many bytes are good: fewer than there are if the
    /// file was truncated in the meantime.
    pub(super) fn verify(
        &mut self,
        pages: &mut [u8],
        first: PageNo,
        offset: u64,
        part: Part<'_>,
        tally: &mut Tally,
        again: &mut Aligned,
    ) -> Result<usize> {
        let size = part.space.page_size.bytes();
        let mut done = 0;
        loop {
            let from = u32::try_from(done / size).ok().and_then(|done| first.checked_add(done));
            let from = from.or_internal("a page beyond the last that there can be")?;
            let rest = pages.part(done..)?;
            let Err((bad, _)) = part.space.check_run(from, rest, part.doublewrite, tally) else {
                return self.still(pages, first, offset, part.space, again);
            };
            let at = bad.checked_since(first).or_internal("a page before the first")? as usize * size;
            let page = pages.part_mut(at..at.saturating_add(size))?;
            let check = |page: &[u8]| part.space.check(bad, page);
            let number = u64::from(bad.get());
            if self.read_until_complete(page, number, offset + at as u64, &check, again)?.is_none() {
                let pages = pages.part_mut(..at)?;
                return self.still(pages, first, offset, part.space, again);
            }
            tally.verified += 1;
            done = at + size;
        }
    }

    /// Verifies pages whose checksums are encrypted with them: they are complete when two reads, some time apart, agree
    /// (`facts/mysql-hot-backup#page-checks`). Returns how many bytes are good, as [`Open::verify`].
    fn still(
        &mut self,
        pages: &mut [u8],
        first: PageNo,
        offset: u64,
        space: &Space,
        again: &mut Aligned,
    ) -> Result<usize> {
        let size = space.page_size.bytes();
        let hidden = |number: PageNo, page: &[u8]| space.check(number, page) == Ok(Content::Encrypted);
        if !space.may_hide_sums() || !first.onward().zip(pages.chunks(size)).any(|(number, page)| hidden(number, page))
        {
            return Ok(pages.len());
        }
        sleep(INTERVAL);
        let good = pages.len();
        for (index, (number, page)) in first.onward().zip(pages.chunks_mut(size)).enumerate() {
            if !hidden(number, page) {
                continue;
            }
            let last = RefCell::new(page.to_vec());
            let check = |page: &[u8]| {
                let content = space.check(number, page)?;
                let same = content != Content::Encrypted || last.borrow().as_slice() == page;
                last.replace(page.to_vec());
                if same { Ok(content) } else { Err(Fault::Changing) }
            };
            let at = offset + (index * size) as u64;
            if self.read_until_complete(page, u64::from(number.get()), at, &check, again)?.is_none() {
                return Ok(index * size);
            }
        }
        Ok(good)
    }

    /// Reads a page again until `check` finds it complete, and returns the result of `check`; `None` if the file no
    /// longer has the page.
    fn read_until_complete<T>(
        &mut self,
        page: &mut [u8],
        number: u64,
        offset: u64,
        check: &dyn Fn(&[u8]) -> Result<T, Fault>,
        again: &mut Aligned,
    ) -> Result<Option<T>> {
        // Pages of 1 and 2 KiB share a block with others.
        let within = within(offset, ALIGN);
        let want = (within + page.len()).next_multiple_of(ALIGN);
        let mut patience = Patience::new();
        loop {
            let block = again.as_mut().part_mut(..want)?;
            let read = self.read(block, offset - within as u64)?;
            if read < within + page.len() {
                return Ok(None);
            }
            let found = block.part(within..within + page.len())?;
            match check(found) {
                Ok(checked) => {
                    page.copy_from_slice(found);
                    return Ok(Some(checked));
                }
                Err(fault) if !patience.wait() => return Err(self.bad(number, offset, fault)),
                Err(Fault::Changing) => sleep(INTERVAL),
                Err(_) => {}
            }
        }
    }

    /// Verifies whole blocks of an Aria file and reads torn ones again.
    pub(super) fn verify_aria(
        &mut self,
        bytes: &mut [u8],
        offset: u64,
        aria: &AriaFile,
        again: &mut Aligned,
    ) -> Result<()> {
        let size = aria.table.block_size as usize;
        for (index, block) in bytes.chunks_exact_mut(size).enumerate() {
            let at = offset + (index * size) as u64;
            let number = at / u64::from(aria.table.block_size);
            let check = |block: &[u8]| match aria.data {
                true => aria.table.check_data(number, block),
                false => aria.table.check_index(number, block),
            };
            if check(block).is_err() {
                self.read_until_complete(block, number, at, &check, again)?;
            }
        }
        Ok(())
    }

    fn bad(&self, number: u64, offset: u64, fault: Fault) -> Error {
        let what = format!("page {number} (byte {offset}) is bad: {fault}; read again for {} s", PATIENCE.as_secs());
        Error::damaged(self.place.display(), what).hint(
            "the page is damaged on disk; CHECK TABLE on the server tells more, an older backup may have it whole",
        )
    }
}

/// The intervals between reads of a torn page.
struct Patience {
    start: Instant,
    reads: u32,
}

impl Patience {
    fn new() -> Self {
        Patience { start: Instant::now(), reads: 0 }
    }

    /// Waits for the next read; false when the time is up.
    fn wait(&mut self) -> bool {
        self.reads += 1;
        if self.reads > AT_ONCE {
            sleep(INTERVAL);
        }
        self.start.elapsed() < PATIENCE
    }
}

/// Page 0 and the doublewrite area of the system tablespace, from its first file.
pub(super) fn system_space(path: &Path, policy: Policy) -> Result<(Space, Option<Doublewrite>)> {
    let missing = || Error::failed(path.display(), "is not there, or page 0 is not written");
    let mut open = open(path, policy)?.ok_or_else(missing)?;
    let mut batch = Aligned::new(BATCH);
    let read = open.batch(&mut batch, 0)?.ok_or_else(missing)?;
    let space = open.space(&mut batch, read)?.ok_or_else(missing)?;
    let size = space.page_size.bytes();
    let at = size * crate::innodb::doublewrite::PAGE as usize;
    let page = batch.as_ref().part(at..at + size)?;
    let doublewrite = Doublewrite::parse(page, space.page_size);
    Ok((space, doublewrite))
}
