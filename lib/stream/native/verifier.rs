//! Checks that a stream is complete: compares what arrived with our own members.

use super::begin::{Begin, BeginReader};
use super::manifest::{EntryKind, Line, ManifestReader, Trailer, bind, check_begin};
use super::order::Order;
use super::{BEGIN, MANIFEST};
use crate::error::{Error, Result};
use crate::stream::Head;

/// Follows a stream chunk by chunk. For a stream of another program it can only say that.
#[derive(Debug, Default)]
pub struct Verifier {
    order: Order,
    begin_bytes: BeginReader,
    begin: Option<Begin>,
    manifest: ManifestReader,
    /// The manifest has a line for `xb_begin`.
    begin_listed: bool,
    /// The manifest lists the redo log.
    log: bool,
    trailer: Option<Trailer>,
    /// The manifest is complete and valid.
    proved: bool,
}

/// The result at the end of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// A stream of another program: it cannot be checked for missing members.
    Foreign,
    /// Complete, according to its manifest.
    Complete(&'a Begin, &'a Trailer),
    /// The manifest is there, compressed or encrypted.
    Coded(&'a Begin),
}

impl Verifier {
    /// True before the first chunk.
    pub fn is_unread(&self) -> bool {
        self.order.is_unread()
    }

    /// True if the stream begins with `xb_begin`.
    pub fn is_ours(&self) -> bool {
        self.order.is_ours()
    }

    /// True once the manifest, plain or coded, is complete.
    pub fn is_ended(&self) -> bool {
        self.order.is_ended()
    }

    /// `xb_begin`, once it is complete.
    pub fn begin(&self) -> Option<&Begin> {
        self.begin.as_ref()
    }

    /// The bytes of `xb_begin`.
    pub fn begin_bytes(&self) -> &[u8] {
        self.begin_bytes.bytes()
    }

    /// The manifest's last line, once the manifest is complete and valid.
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref().filter(|_| self.proved)
    }

    /// Adds the head of a chunk. `place` is the input's name in messages.
    ///
    /// # Errors
    ///
    /// Damaged, if our streams cannot have this chunk here.
    pub fn chunk(&mut self, place: &str, head: &Head) -> Result<()> {
        self.order.chunk(place, head)
    }

    /// Adds payload of the plain member `path`, in order; `members` is the number of members so far. Lines of the
    /// manifest go to `each`, with their bytes.
    ///
    /// # Errors
    ///
    /// Damaged, if `xb_begin` or the manifest is; and the errors of `each`.
    pub fn payload(
        &mut self,
        place: &str,
        path: &[u8],
        bytes: &[u8],
        members: usize,
        mut each: impl FnMut(&Line, &[u8]) -> Result<()>,
    ) -> Result<()> {
        match path {
            _ if !self.is_ours() => Ok(()),
            BEGIN => self.begin_bytes.feed(place, bytes),
            MANIFEST => {
                let Verifier { manifest, trailer, log, begin_bytes, begin_listed, .. } = self;
                manifest.expect(members);
                manifest.feed(bytes, |line, bytes| {
                    each(&line, bytes)?;
                    match line {
                        Line::Entry(entry) if entry.path().as_deref() == Some(BEGIN) => {
                            check_begin(begin_bytes.bytes(), &entry)?;
                            if std::mem::replace(begin_listed, true) {
                                return Err(Error::damaged("xb_manifest", "it lists xb_begin twice"));
                            }
                        }
                        Line::Entry(entry) => *log |= entry.kind == EntryKind::Redo,
                        Line::Trailer(last) => *trailer = Some(*last),
                    }
                    Ok(())
                })
            }
            _ => Ok(()),
        }
    }

    /// Adds the end mark of the plain member `path`. Returns `xb_begin`, if this was its end.
    ///
    /// # Errors
    ///
    /// Damaged, if `xb_begin` or the manifest is, or if they belong to different backups.
    pub fn end(&mut self, place: &str, path: &[u8]) -> Result<Option<&Begin>> {
        match path {
            BEGIN if self.is_ours() => {
                self.begin = Some(self.begin_bytes.finish(place)?);
                return Ok(self.begin.as_ref());
            }
            MANIFEST if self.is_ours() => {
                self.manifest.finish()?;
                self.trailer.as_ref().map_or(Ok(()), |trailer| bind(self.begin_bytes.bytes(), trailer))?;
                self.proved = true;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Ends the input, whose length is `at`.
    ///
    /// # Errors
    ///
    /// Damaged, if a stream of ours is truncated.
    pub fn finish(&self, place: &str, at: u64) -> Result<Verdict<'_>> {
        self.order.finish(place, at)?;
        Ok(match (&self.begin, self.trailer()) {
            (Some(begin), Some(trailer)) => Verdict::Complete(begin, trailer),
            (Some(begin), None) => Verdict::Coded(begin),
            (None, _) => Verdict::Foreign,
        })
    }

    /// Checks that the snapshot of a server has a redo log, without which it is not a backup. If the manifest is coded,
    /// a member must have the log's name.
    ///
    /// # Errors
    ///
    /// Damaged, if it has none.
    pub fn check_log(&self, place: &str) -> Result<()> {
        let log = if self.proved { self.log } else { self.order.has_log() };
        match &self.begin {
            Some(begin) if begin.without_innodb && log => {
                Err(Error::damaged(place, "has a redo log, although xb_begin says that the server has no InnoDB"))
            }
            Some(begin) if begin.has_log() && !log => {
                let what = "not a backup: the snapshot was not piped through xb-redo, and without redo log no server can use it";
                Err(Error::damaged(place, what)
                    .hint("xb-snap | xb-redo | …: take it again; the log of that time cannot be added now"))
            }
            _ => Ok(()),
        }
    }
}
