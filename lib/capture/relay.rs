//! Moves the stream through the filter: passes members on, removes durable LSN marks, inserts the log, and keeps the
//! manifest for the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bstr::ByteSlice;

use super::log_member::LogMember;
use super::manifest_buffer::ManifestBuffer;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::log::queue::{FollowStats, Queue};
use crate::stream::native::{self, BEGIN, Begin, MANIFEST, MARK, Trailer, Verdict, Verifier};
use crate::stream::{Body, Head, Members, Pass, SENDER, Writer};

/// The results.
pub(super) struct Summary {
    /// The end LSN.
    pub(super) end: Lsn,
    /// Statistics of the follower.
    pub(super) stats: FollowStats,
}

/// The stream after `xb_begin`.
pub(super) struct Relay {
    pub(super) pass: Pass,
    pub(super) writer: Writer,
    pub(super) log_member: LogMember,
    pub(super) manifest: ManifestBuffer,
    pub(super) members: Members,
    pub(super) queue: Arc<Queue>,
    /// Bytes passed on that have not been reported yet.
    pub(super) moved: Arc<AtomicU64>,
    /// Bytes by which data is ahead of the log.
    pub(super) credit: i64,
}

/// How many bytes data may be ahead for the log to catch up later.
const CREDIT: i64 = 4 << 20;

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The received beginning of a stream.
pub(super) struct Begun {
    /// Its chunks, unchanged.
    pub(super) raw: Vec<u8>,
    pub(super) verifier: Verifier,
}

/// Reads `xb_begin`, which must come first.
pub(super) fn begin(pass: &mut Pass) -> Result<(Begin, Begun)> {
    let place = pass.place().to_owned();
    let (mut raw, mut verifier) = (Vec::new(), Verifier::default());
    loop {
        let Some(head) = pass.next()? else {
            let what =
                if raw.is_empty() { "truncated: the input is empty" } else { "truncated: the input ends in xb_begin" };
            return Err(Error::damaged(place, what).hint(SENDER));
        };
        if verifier.is_unread() && head.path != BEGIN {
            let name = head.path.as_bstr();
            let what = format!("this is not a stream of xb-snap: {name} comes first, not xb_begin");
            return Err(Error::damaged(place, what)
                .hint("streams of mariadb-backup and xtrabackup have their redo log already; xb-redo adds it to those of xb-snap"));
        }
        verifier.chunk(&place, &head)?;
        raw.extend_from_slice(pass.raw());
        match head.body {
            Body::End => {
                let begin = verifier.end(&place, BEGIN)?.cloned();
                return Ok((
                    begin.ok_or_else(|| Error::internal("xb_begin has ended and cannot be read"))?,
                    Begun { raw, verifier },
                ));
            }
            _ => {
                let mut buffer = [0; 4096];
                loop {
                    let got = pass.payload(&mut buffer)?;
                    if got == 0 {
                        break;
                    }
                    let bytes = buffer.part(..got)?;
                    verifier.payload(&place, BEGIN, bytes, 0, |_, _| Ok(()))?;
                    raw.extend_from_slice(bytes);
                }
            }
        }
    }
}

impl Relay {
    /// Moves everything from input to output.
    pub(super) fn run(mut self, begun: Begun) -> Result<Summary> {
        let Begun { raw, mut verifier } = begun;
        self.writer.put(&raw, &[])?;
        self.moved.fetch_add(raw.len() as u64, Relaxed);
        let log = self.log_member.format().name();
        while let Some(head) = self.pass.next()? {
            verifier.chunk(self.pass.place(), &head)?;
            // A member that cannot be unpacked must be reported now, not at the restore.
            self.members.accept(self.pass.place(), &head)?;
            match (head.path.as_slice(), &head.body) {
                (MANIFEST, Body::Payload { .. }) => {
                    self.manifest.take(&mut self.pass, self.members.count() + 1, &mut verifier)?
                }
                (MANIFEST, _) => {
                    verifier.end(self.pass.place(), MANIFEST)?;
                }
                (BEGIN, _) => return Err(self.refuse(&head, "comes a second time; are these two streams?")),
                (path, _) if path.starts_with(MARK) => self.mark(&head)?,
                (path, _) if path.strip_prefix(log.as_bytes()).is_some_and(|rest| rest.starts_with(b"/")) => {
                    return Err(self.refuse(&head, "is below a directory with the name of the log"));
                }
                (path, body) if path == log.as_bytes() || *body == Body::Rename(log.into()) => {
                    let error = self.refuse(&head, "is in the stream already");
                    return Err(error.hint("one xb-redo is enough; it follows xb-snap directly"));
                }
                _ => {
                    let mut sent = 0;
                    self.pass.forward(|bytes| {
                        sent += bytes;
                        self.moved.fetch_add(bytes, Relaxed);
                    })?;
                    self.credit = self.credit.saturating_add(signed(sent)).min(CREDIT);
                }
            }
            self.share()?;
        }
        let (place, at) = (self.pass.place(), self.pass.position());
        self.members.finish(place, at)?;
        match verifier.finish(place, at)? {
            Verdict::Complete(_, trailer) => self.finish(verifier.begin_bytes(), trailer),
            Verdict::Coded(_) | Verdict::Foreign => {
                Err(Error::damaged(place, "xb_manifest is compressed or encrypted")
                    .hint("xb-redo must follow xb-snap directly"))
            }
        }
    }

    /// Sends log, but at most half of all bytes as long as data waits: xb-snap must finish and release its locks,
    /// however fast the log grows. Log that cannot be sent yet waits in the spool.
    fn share(&mut self) -> Result<()> {
        while let Some(until) = self.log_member.due(&self.queue) {
            if self.credit <= 0 && !self.pass.is_idle() {
                return Ok(());
            }
            let sent = self.log_member.part(until, &self.queue, &self.writer)?;
            // A part may be larger than the lead of the data; then the log has to wait for as many bytes of data.
            self.credit = if self.pass.is_idle() { 0 } else { self.credit.saturating_sub(signed(sent)) };
        }
        Ok(())
    }

    /// Sends the log up to the end LSN, then the manifest.
    fn finish(mut self, begin: &[u8], trailer: &Trailer) -> Result<Summary> {
        let fault = |what: String| Error::damaged("xb_manifest", what);
        let Some(end) = trailer.end_lsn else { return Err(fault("it has no end lsn".into())) };
        let (mark, _) = self.queue.reached();
        let least = self.log_member.format().least().max(mark);
        if end < least {
            return Err(fault(format!("the end lsn {end} is before lsn {least}, which the log had reached earlier")));
        }
        let (entry, stats) = self.log_member.complete(end, &self.queue, &self.writer)?;
        self.manifest.check(&stats.deletions, end)?;
        self.manifest.send(&entry, trailer, native::begin_digest(begin), &self.writer)?;
        Ok(Summary { end, stats })
    }

    /// Handles a durable LSN mark: the server's log is durable up to the LSN in this member.
    fn mark(&mut self, head: &Head) -> Result<()> {
        let Body::Payload { .. } = head.body else { return Ok(()) };
        let mut text = [0; 32];
        let len = self.pass.fill(&mut text)?;
        match native::parse_mark(text.part(..len)?) {
            Some(lsn) => self.queue.mark(lsn),
            None => return Err(self.refuse(head, "holds no lsn")),
        }
        Ok(())
    }

    fn refuse(&self, head: &Head, what: &str) -> Error {
        let Head { path, at, .. } = head;
        Error::damaged(self.pass.place(), format_args!("{} {what} (stream byte {at})", path.as_bstr()))
    }
}
