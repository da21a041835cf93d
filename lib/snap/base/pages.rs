//! The page digests of a base, `xb_pages`. The file is checked as a whole when it is opened; digests are read when they
//! are needed.
//!
//! Only the places of its records are in memory: 32 bytes for each 8192 pages and for each file.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::hash::Hasher;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::Space;
use crate::innodb::ids::{LogicalPageSize, PageSize, SpaceId};
use crate::stream::members::{Key, key};
use crate::stream::native::pages::{self, Digest, END, FIXED, Fault, Fixed, HEAD, Kind};

/// The digests of a base.
#[derive(Debug)]
pub(in crate::snap) struct BasePages {
    file: fs::File,
    place: String,
    /// By tablespace.
    files: Vec<Noted>,
    /// Sorted by the number of the file, runs before fixes, then by page number.
    records: Vec<Record>,
    /// Pages that were compared with the base, and those of them that differ although they are not newer.
    compared: AtomicU64,
    different: AtomicU64,
}

/// A file that the base has.
#[derive(Clone, Copy, Debug)]
struct Noted {
    space_id: SpaceId,
    flags: u32,
    page_size: PageSize,
    name: Key,
    /// As [`Record::file`].
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    file: u32,
    fix: bool,
    first: u32,
    last: u32,
    at: u64,
    len: u32,
}

/// A file whose records are being read.
#[derive(Clone, Copy, Debug)]
struct FileState {
    noted: Noted,
    /// The number of the next page.
    next: u32,
    ended: bool,
    /// The number of the last page that was fixed.
    fixed: Option<u32>,
}

/// The digests of one file.
#[derive(Debug)]
pub(in crate::snap) struct BaseDigests<'a> {
    base: &'a BasePages,
    runs: &'a [Record],
    fixes: &'a [Record],
    /// The first page of the digests in memory.
    first: u32,
    digests: Vec<Digest>,
}

impl BasePages {
    /// Reads and checks the whole file. It must belong to the backup with this id.
    pub(in crate::snap) fn open(file: fs::File, place: impl Display, backup_id: &str) -> Result<BasePages> {
        let place = place.to_string();
        let fault = |fault: Fault| Error::damaged(&place, fault);
        let mut input = Input { reader: BufReader::with_capacity(1 << 18, &file), place: &place, at: 0 };
        let mut sum = twox_hash::XxHash3_64::new();
        let head = input.take::<HEAD>()?;
        sum.write(&head);
        let id = pages::parse_head(&head).map_err(fault)?;
        if id != backup_id {
            return Err(Error::damaged(
                &place,
                format_args!("is of backup {id}, and stands beside backup {backup_id}"),
            ));
        }
        let (mut names, mut files): (HashMap<Key, usize>, Vec<FileState>) = (HashMap::new(), Vec::new());
        let (mut records, mut buffer) = (Vec::new(), Vec::new());
        loop {
            let at = input.at;
            let start = input.take::<END>()?;
            if pages::is_end(&start) {
                let end = pages::parse_end(&start).map_err(fault)?;
                if (end.records, end.digest) != (records.len() as u64, sum.finish()) {
                    return Err(fault(Fault::Sum));
                }
                break;
            }
            buffer.clear();
            buffer.extend_from_slice(&start);
            input.fill(&mut buffer, FIXED)?;
            let fixed = fixed(&buffer).map_err(fault)?;
            input.fill(&mut buffer, fixed.size())?;
            fixed.check(&buffer).map_err(fault)?;
            sum.write(&buffer);
            let name = key(fixed.name(&buffer).map_err(fault)?);
            let number = *names.entry(name).or_insert(files.len());
            if number == files.len() {
                files.push(FileState::new(&fixed, name, number));
            }
            let file = files.get_mut(number).ok_or_else(|| fault(Fault::Record))?;
            let last = fixed.last(&buffer);
            file.accept(&fixed, last).map_err(fault)?;
            if fixed.count > 0 {
                let len = u32::try_from(fixed.size()).map_err(|_| fault(Fault::Length))?;
                let fix = fixed.kind == Kind::Fix;
                records.push(Record { file: file.noted.number, fix, first: fixed.first, last, at, len });
            } else {
                // It counts as a record, and is not used.
                records.push(Record { file: u32::MAX, fix: true, first: 0, last: 0, at, len: 0 });
            }
        }
        input.ended()?;
        if !files.iter().all(FileState::is_whole) {
            return Err(fault(Fault::Order));
        }
        drop(names);
        records.retain(|record| record.len > 0);
        records.sort_unstable();
        records.shrink_to_fit();
        let mut files: Vec<Noted> = files.into_iter().map(|file| file.noted).collect();
        files.sort_unstable_by_key(|file| file.space_id);
        Ok(BasePages { file, place, files, records, compared: AtomicU64::new(0), different: AtomicU64::new(0) })
    }

    /// The digests of a tablespace, or of a file of the system tablespace. Tablespaces are found by id, whatever their
    /// name, as when increments are merged. `None` if the base does not have it, or has two files with this id: it is
    /// unknown which one is meant.
    pub(in crate::snap) fn of(&self, name: &[u8], space: &Space) -> Option<BaseDigests<'_>> {
        let begin = self.files.partition_point(|file| file.space_id < space.id);
        let same = self.files.split_at(begin).1.iter().take_while(|file| file.space_id == space.id);
        let mut found = same.filter(|file| space.id != SpaceId::SYSTEM || file.name == key(name));
        let file = found.next().filter(|_| found.next().is_none())?;
        if (file.flags, file.page_size) != (space.flags, space.page_size) {
            return None;
        }
        let begin = self.records.partition_point(|record| record.file < file.number);
        let end = self.records.partition_point(|record| record.file <= file.number);
        let records = self.records.split_at(end).0.split_at(begin).1;
        let (runs, fixes) = records.split_at(records.partition_point(|record| !record.fix));
        Some(BaseDigests { base: self, runs, fixes, first: 0, digests: Vec::new() })
    }

    /// The page size of the system tablespace, which is that of all tablespaces but compressed ones.
    pub(in crate::snap) fn page_size(&self) -> Option<LogicalPageSize> {
        let system = self.files.iter().find(|file| file.space_id == SpaceId::SYSTEM);
        system.and_then(|file| LogicalPageSize::new(file.page_size.get()))
    }

    /// Counts compared pages, and those of them that differ although they are not newer.
    pub(in crate::snap) fn count(&self, compared: u64, different: u64) {
        self.compared.fetch_add(compared, Relaxed);
        self.different.fetch_add(different, Relaxed);
    }

    /// The totals: compared pages and different pages.
    pub(in crate::snap) fn counts(&self) -> (u64, u64) {
        (self.compared.load(Relaxed), self.different.load(Relaxed))
    }

    fn read(&self, record: &Record) -> Result<(Fixed, Vec<u8>)> {
        let mut bytes = vec![0; record.len as usize];
        self.file
            .read_exact_at(&mut bytes, record.at)
            .map_err(|cause| Error::io(&self.place, "cannot read", &cause))?;
        let fixed = fixed(&bytes).and_then(|fixed| fixed.check(&bytes).map(|()| fixed));
        fixed.map(|fixed| (fixed, bytes)).map_err(|fault| Error::damaged(&self.place, fault))
    }
}

impl BaseDigests<'_> {
    /// The digest of this page; 0 if it is unknown.
    pub(in crate::snap) fn digest(&mut self, place: u32) -> Result<Digest> {
        let index = |first: u32| usize::try_from(place.checked_sub(first)?).ok();
        if let Some(digest) = index(self.first).and_then(|index| self.digests.get(index)) {
            return Ok(*digest);
        }
        let run = self.runs.partition_point(|run| run.last < place);
        let Some(run) = self.runs.get(run).filter(|run| run.first <= place) else { return Ok(0) };
        let (fixed, bytes) = self.base.read(run)?;
        self.first = run.first;
        self.digests.clear();
        self.digests.extend(fixed.pages(&bytes).map(|(_, digest)| digest));
        for fix in self.fixes.iter().filter(|fix| fix.first <= run.last && run.first <= fix.last) {
            let (fixed, bytes) = self.base.read(fix)?;
            for (place, digest) in fixed.pages(&bytes) {
                let index = place.checked_sub(run.first).and_then(|index| usize::try_from(index).ok());
                if let Some(slot) = index.and_then(|index| self.digests.get_mut(index)) {
                    *slot = digest;
                }
            }
        }
        Ok(index(self.first).and_then(|index| self.digests.get(index)).copied().unwrap_or(0))
    }
}

impl FileState {
    fn new(fixed: &Fixed, name: Key, number: usize) -> Self {
        let Fixed { space_id, flags, page_size, .. } = *fixed;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        FileState { noted: Noted { space_id, flags, page_size, name, number }, next: 0, ended: false, fixed: None }
    }

    /// Checks that a record follows those before it; its last page is `last`.
    fn accept(&mut self, record: &Fixed, last: u32) -> Result<(), Fault> {
        let Noted { space_id, flags, page_size, .. } = self.noted;
        if (space_id, flags, page_size) != (record.space_id, record.flags, record.page_size) {
            return Err(Fault::Order);
        }
        match record.kind {
            // A fixed page was in a run before, or is in the run that follows.
            Kind::Fix => self.fixed = self.fixed.max(Some(last)),
            Kind::Run | Kind::Last => {
                if self.ended || record.first != self.next {
                    return Err(Fault::Order);
                }
                self.next = record.first.saturating_add(u32::try_from(record.count).unwrap_or(u32::MAX));
                self.ended = record.kind == Kind::Last;
            }
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.ended && self.fixed.is_none_or(|last| last < self.next)
    }
}

fn fixed(bytes: &[u8]) -> Result<Fixed, Fault> {
    bytes.first_chunk().ok_or(Fault::Length).and_then(pages::parse_fixed)
}

/// The file, read from front to back.
struct Input<'a, R> {
    reader: R,
    place: &'a str,
    at: u64,
}

impl<R: Read> Input<'_, R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    /// Grows `buffer` to `len` bytes with the bytes that follow.
    fn fill(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<()> {
        let have = buffer.len();
        buffer.resize(len.max(have), 0);
        self.read(buffer.part_mut(have..)?)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.reader.read_exact(bytes).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::damaged(self.place, Fault::Length),
            _ => Error::io(self.place, "cannot read", &cause),
        })
    }

    fn ended(&mut self) -> Result<()> {
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::damaged(self.place, Fault::Length)),
            Err(cause) => Err(Error::io(self.place, "cannot read", &cause)),
        }
    }
}
