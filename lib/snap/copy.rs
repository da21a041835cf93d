//! Copies one file into a stream: a tablespace with its pages verified, or any other file as it is.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use bstr::ByteSlice;

use super::Job;
use super::base::pages::BasePages;
use super::manifest::Manifest;
use super::open::{AriaFile, Head, Open, Part, Seen, open};
use super::page_digests::Noted;
use super::unique_names::is_free;
use super::view::View;
use super::workers::{BATCH, Buffers};
use crate::bytes::Part as _;
use crate::codec::pool::FirstError;
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::ids::{Lsn, PageNo, SpaceId};
use crate::innodb::space::Tally;
use crate::io::cache::Policy;
use crate::report::{Level, Report};
use crate::server::dictionary::{self, Dictionary};
use crate::server::files::Identity;
use crate::stream::Writer;
use crate::stream::native::{Entry, EntryKind};

/// What all copying threads share.
#[derive(Clone, Copy)]
pub(super) struct Copier<'a> {
    pub(super) policy: Policy,
    /// The files as the server sees them.
    pub(super) view: &'a View,
    pub(super) report: &'a dyn Report,
    pub(super) manifest: &'a Manifest,
    /// The digests of all pages.
    pub(super) noted: &'a Noted,
    pub(super) abort: &'a FirstError,
    /// Counts of pages in all tablespaces.
    pub(super) pages: &'a Mutex<Tally>,
    /// The files that existed at the beginning, if the log cannot tell which did not.
    pub(super) listed: &'a OnceLock<Listed>,
    /// An increment; `None`: all pages are copied.
    pub(super) since: Option<Since<'a>>,
}

/// What a copy collects: the manifest, page digests, counts, the first error.
pub(super) struct Records {
    pub(super) abort: FirstError,
    manifest: Manifest,
    noted: Noted,
    pages: Mutex<Tally>,
    listed: OnceLock<Listed>,
}

impl Records {
    /// Empty records. An increment that cannot be compared with its base has no digests: the pages that it leaves out
    /// were not compared.
    pub(super) fn new(job: &Job, since: Option<Since<'_>>) -> Self {
        Records {
            abort: FirstError::default(),
            manifest: Manifest::new(&job.spool_dir),
            noted: Noted::new(&job.spool_dir, since.is_none_or(|since| since.pages.is_some())),
            pages: Mutex::default(),
            listed: OnceLock::new(),
        }
    }

    /// What the threads share.
    pub(super) fn copier<'a>(
        &'a self,
        job: &Job,
        view: &'a View,
        report: &'a dyn Report,
        since: Option<Since<'a>>,
    ) -> Copier<'a> {
        Copier {
            policy: job.policy,
            view,
            report,
            manifest: &self.manifest,
            noted: &self.noted,
            abort: &self.abort,
            pages: &self.pages,
            listed: &self.listed,
            since,
        }
    }
}

/// Files that existed at an LSN, by identity.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    pub(super) lsn: Lsn,
    pub(super) files: HashSet<Identity>,
}

/// What an increment has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since<'a> {
    /// Pages newer than this.
    pub(super) lsn: Lsn,
    /// Also write the tablespace's flags into `.meta`, which MySQL's programs require.
    pub(super) flags: bool,
    /// Also copy pages whose digest differs from that in the base, if the base has digests.
    pub(super) pages: Option<&'a BasePages>,
}

/// A file that consists of pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages<'a> {
    /// The member's name.
    pub(super) name: &'a [u8],
    /// The file.
    pub(super) path: &'a Path,
    /// True if the file is not below the data directory, or has a different name there.
    pub(super) external: bool,
    /// Set for a file of the system tablespace, whose tablespace is known beforehand.
    pub(super) part: Option<Part<'a>>,
    /// Copy a file whose page 0 is not initialized as it is.
    pub(super) unwritten: bool,
    /// The server's dictionary when the file was listed; `None` if the file is known to be the server's.
    pub(super) dictionary: Option<&'a Dictionary>,
}

impl Pages<'_> {
    /// True if the server has this tablespace in this file; without an id, if it has any tablespace in this file.
    fn is_of_server(&self, id: Option<SpaceId>) -> bool {
        let external = self.external.then_some(self.path);
        let file = dictionary::File { id, name: self.name, external };
        self.dictionary.is_none_or(|dictionary| dictionary.has(file))
    }
}

/// Result of the copy of a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the stream.
    Copied(Seen),
    /// Page 0 is not initialized; nothing was sent.
    Deferred(Identity),
    /// The server does not have this tablespace, or not in this file; nothing was sent.
    Foreign(Seen),
    /// The file was removed after it was listed.
    Gone,
}

impl Copier<'_> {
    /// Opens a file of the server; `None` if it was removed after it was listed.
    fn open<'p>(&self, path: &'p Path) -> Result<Option<Open<'p>>> {
        let file = open(path, self.policy)?;
        self.view.check(path)?;
        Ok(file)
    }

    /// Copies a tablespace. A page that stays bad ends the backup.
    pub(super) fn tablespace(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        file: Pages<'_>,
    ) -> Result<Outcome> {
        is_free(file.name)?;
        let Some(mut open) = self.open(file.path)? else { return Ok(Outcome::Gone) };
        let Some(mut read) = open.batch(&mut buffers.batch, 0)? else { return Ok(Outcome::Deferred(open.identity)) };
        let own;
        let head = Head::of(buffers.batch.as_ref());
        // A bad page 0 is an error only in a file where the server has a tablespace.
        if !file.is_of_server(head.id()) && !file.is_of_server(None) {
            return Ok(Outcome::Foreign(open.seen(head)));
        }
        let part = match file.part {
            Some(part) => part,
            None => match open.space(&mut buffers.batch, read)? {
                Some(space) => {
                    own = space;
                    Part { space: &own, first: PageNo::new(0), doublewrite: None }
                }
                None if file.unwritten => return self.raw(out, buffers, file, open),
                None => return Ok(Outcome::Deferred(open.identity)),
            },
        };
        let seen = open.seen(Head::of(buffers.batch.as_ref()));
        if !file.is_of_server(seen.head.id()) {
            return Ok(Outcome::Foreign(seen));
        }
        if let Some(since) = self.since {
            return self.delta(out, buffers, file, open, part, since).map(|()| Outcome::Copied(seen));
        }
        let page = part.space.page_size.bytes();
        let (mut digest, mut tally, mut offset) = (blake3::Hasher::new(), Tally::default(), 0u64);
        let mut notes = self.noted.file(file.name, part.space);
        loop {
            self.abort.check()?;
            // An incomplete page at the end is being added to the file; the log has it.
            let whole = read - read % page;
            if whole == 0 {
                break;
            }
            let pages = buffers.batch.as_mut().part_mut(..whole)?;
            let first = u32::try_from(part.space.page_size.pages_in(offset)).ok();
            let first = first.and_then(|first| part.first.checked_add(first));
            let first = first.or_internal("a page beyond the last that there can be")?;
            let good = open.verify(pages, first, offset, part, &mut tally, &mut buffers.again)?;
            let pages = pages.part(..good)?;
            digest.update(pages);
            notes.pages(pages)?;
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
        notes.end()?;
        let mut entry = Entry::new(file.name, EntryKind::Innodb, offset, &digest.finalize());
        entry.space_id = Some(part.space.id);
        entry.flags = Some(part.space.flags);
        entry.page_size = Some(part.space.page_size.get());
        entry.there_since = self.there_since(open.identity);
        entry.location = file.external.then(|| file.path.display().to_string());
        self.done(&entry, file.name, offset)?;
        self.count(tally);
        Ok(Outcome::Copied(seen))
    }

    /// The LSN at which this file already existed.
    pub(super) fn there_since(&self, file: Identity) -> Option<Lsn> {
        let listed = self.listed.get().filter(|listed| file.is_unique() && listed.files.contains(&file))?;
        Some(listed.lsn)
    }

    /// Adds the counts of a tablespace to the totals.
    pub(super) fn count(&self, tally: Tally) {
        *self.pages.lock().unwrap_or_else(PoisonError::into_inner) += tally;
    }

    /// Copies a tablespace whose page 0 is not initialized: the log has its whole content
    /// (`facts/mariadb-hot-backup#ddl`).
    fn raw(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        file: Pages<'_>,
        mut open: Open<'_>,
    ) -> Result<Outcome> {
        let (size, digest) = self.stream(out, buffers, file.name, &mut open, None)?;
        let mut entry = Entry::new(file.name, EntryKind::File, size, &digest);
        entry.location = file.external.then(|| file.path.display().to_string());
        self.done(&entry, file.name, size)?;
        Ok(Outcome::Copied(open.seen(Head::default())))
    }

    /// Copies any other file as it is. False if it no longer exists.
    pub(super) fn file(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        name: &[u8],
        path: &Path,
    ) -> Result<bool> {
        is_free(name)?;
        let Some(mut open) = self.open(path)? else { return Ok(false) };
        let aria = AriaFile::of(path);
        let (size, digest) = self.stream(out, buffers, name, &mut open, aria.as_ref())?;
        self.done(&Entry::new(name, EntryKind::File, size, &digest), name, size)?;
        Ok(true)
    }

    /// Copies the first `size` bytes of a file that grows.
    pub(super) fn beginning(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        name: &[u8],
        path: &Path,
        size: u64,
    ) -> Result<()> {
        let gone = || Error::failed(path.display(), "was removed, or is shorter than the server reports");
        is_free(name)?;
        let mut open = self.open(path)?.ok_or_else(gone)?;
        open.limit(size);
        let (copied, digest) = self.stream(out, buffers, name, &mut open, None)?;
        if copied < size {
            return Err(gone());
        }
        self.done(&Entry::new(name, EntryKind::File, size, &digest), name, size)
    }

    /// Writes a member whose content the caller has built.
    pub(super) fn made(&self, out: &Writer<impl Write>, name: &[u8], kind: EntryKind, content: &[u8]) -> Result<()> {
        is_free(name)?;
        out.member(name, content)?;
        let entry = Entry::new(name, kind, content.len() as u64, &blake3::hash(content));
        self.done(&entry, name, content.len() as u64)
    }

    fn stream(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        name: &[u8],
        open: &mut Open<'_>,
        aria: Option<&AriaFile>,
    ) -> Result<(u64, blake3::Hash)> {
        let (mut digest, mut offset) = (blake3::Hasher::new(), 0u64);
        while let Some(count) = open.batch(&mut buffers.batch, offset)? {
            self.abort.check()?;
            if let Some(aria) = aria {
                open.verify_aria(buffers.batch.as_mut().part_mut(..count)?, offset, aria, &mut buffers.again)?;
            }
            let bytes = buffers.batch.as_ref().part(..count)?;
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

    /// Records a complete member.
    pub(super) fn done(&self, entry: &Entry, name: &[u8], size: u64) -> Result<()> {
        self.noted.member(name);
        self.manifest.add(entry)?;
        self.report.note(Level::Detail, format_args!("{}: {size} bytes", name.as_bstr()));
        Ok(())
    }
}
