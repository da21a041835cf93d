//! Unpacks or verifies a stream.
//!
//! One reader parses the stream and checks it ([`crate::stream::Members`], `proof`). Threads (`workers`) hash and
//! write; each member belongs to one of them, so its order is preserved. Operations that concern several members are
//! done by the reader while all threads wait: rename, remove, rewrite, and reading the manifest.

mod list;
mod member;
mod pages;
mod proof;
mod target;
mod workers;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

use bstr::ByteSlice;

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::report::Report;
use crate::stream::members::Step;
use crate::stream::native::{MARK, Trailer, plain_name};
use crate::stream::pick::Patterns;
use crate::stream::{Body, Head, Members, Reader};
pub use list::{Format, Listing};
use member::Member;
pub use member::{Inspect, Inspector};
pub use pages::Pages;
use proof::Proof;
use target::Target;
use workers::{Shared, Task, Workers};

/// The smallest size of a buffer in bytes.
pub const BUFFER_MIN: usize = 64 << 10;
/// The largest size of a buffer in bytes.
pub const BUFFER_MAX: usize = 4 << 20;

/// Whether zeros become holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sparse {
    /// Blocks of 4 KiB that are all zero become holes.
    Auto,
    /// Everything is written.
    Never,
}

/// What a directory may hold before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing.
    Refuse,
    /// Anything but a file of the stream; all of it is kept.
    Keep,
    /// Anything; files of the stream take the place of others.
    Replace,
}

/// Options for writing files.
#[derive(Debug)]
pub struct Destination {
    /// Created if it is missing.
    pub dir: PathBuf,
    /// What it may hold before.
    pub existing: Existing,
    /// True if everything is synced to disk when the run ends.
    pub sync: bool,
    /// Whether zeros become holes.
    pub sparse: Sparse,
}

/// Options.
pub struct Options<'a> {
    /// Where files are written; `None` only verifies the stream.
    pub destination: Option<Destination>,
    /// Which members are written and listed; all are verified. Empty: every one.
    pub pick: Patterns,
    /// Lists each member when it ends.
    pub list: Option<Listing>,
    /// Inspects the bytes of members.
    pub inspect: Option<Inspector<'a>>,
    /// Whether an empty input counts as a stream without members.
    pub allow_empty: bool,
    /// Number of threads in addition to the reader, at least 1. With one, members are listed in the order in which they
    /// end.
    pub threads: usize,
    /// How many bytes are written at once, [`BUFFER_MIN`]..=[`BUFFER_MAX`].
    pub buffer: usize,
    /// Memory for names and open members.
    pub budget: Budget,
}

/// Memory of an open member in bytes: its hash, its file, its inspector.
const MEMBER: usize = 2304;
/// Memory for the check of its pages in bytes: two of the largest.
const INSPECTED: usize = 128 << 10;

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of members, including our own.
    pub members: usize,
    /// Size of the stream in bytes.
    pub bytes: u64,
    /// True if a manifest has proved that the stream is complete.
    pub proved: bool,
}

/// Reads the stream to its end.
///
/// # Errors
///
/// Damaged, if the stream is damaged or truncated, or a page is bad; Failed, if the directory is not empty or files
/// cannot be written. After an error, incomplete members have been removed, and the directory is marked by
/// `xb_incomplete`; `input` is closed before that.
pub fn unpack(input: impl Read, options: &Options<'_>, report: &dyn Report) -> Result<Summary> {
    let target = options.destination.as_ref().map(Target::check).transpose()?;
    let shared = Shared::new(target.as_ref(), options, report);
    let outcome = std::thread::scope(|scope| {
        let workers = Workers::start(scope, &shared, options);
        let each = MEMBER + if options.inspect.is_some() { INSPECTED } else { 0 };
        let members = Members::within(&options.budget, each);
        let mut run = Run { reader: Reader::new(input, "stdin"), members, shared: &shared, workers, options };
        let outcome = run.stream();
        // Dropped here, reader first, so that the sender gets SIGPIPE at once.
        let Run { reader, workers, .. } = run;
        drop(reader);
        workers.join(&shared);
        outcome
    });
    let listed = options.list.as_ref().map_or(Ok(()), Listing::flush);
    // An error of a thread comes first: the reader only stopped because of it.
    let (summary, end) = shared.check().and(outcome)?;
    listed?;
    let Summary { members, bytes, proved } = &summary;
    report.facts(serde_json::json!({ "members": members, "stream_bytes": bytes, "proved": proved }));
    if let Some(target) = &target {
        target.finish(end.as_ref().filter(|_| options.pick.is_empty()))?;
    }
    match options.pick.unused() {
        Some(pattern) => Err(Error::failed(pattern, "matches no member of the stream")),
        None => Ok(summary),
    }
}

struct Run<'a, R> {
    reader: Reader<R>,
    members: Members,
    shared: &'a Shared<'a>,
    workers: Workers<'a>,
    options: &'a Options<'a>,
}

impl<R: Read> Run<'_, R> {
    /// Also returns the manifest's last line, if every member agrees with the manifest.
    fn stream(&mut self) -> Result<(Summary, Option<Trailer>)> {
        let mut proof = Proof::default();
        while let Some(head) = self.reader.next()? {
            if proof.is_unread() {
                self.shared.prepare()?;
            }
            proof.chunk(self.reader.place(), &head)?;
            let step = self.members.accept(self.reader.place(), &head)?;
            if step.opened {
                self.open(&head, step, &proof)?;
            }
            self.chunk(&head, step, &mut proof)?;
        }
        let at = self.reader.position();
        if at == 0 && !self.options.allow_empty {
            return Err(Error::damaged("stdin", "empty: no bytes arrived").hint(
                "the sender failed before it began; see its message and exit status (--allow-empty takes this)",
            ));
        }
        self.members.finish(self.reader.place(), at)?;
        self.workers.settle()?;
        proof.finish(at, self.options.destination.is_some(), self.shared.report)?;
        let summary = Summary { members: self.members.count(), bytes: at, proved: proof.is_proved() };
        Ok((summary, proof.all().cloned()))
    }

    fn open(&mut self, head: &Head, step: Step, proof: &Proof) -> Result<()> {
        let path = &head.path;
        let own = proof.is_ours();
        let mark = own && path.starts_with(MARK);
        let picked = !mark && (self.options.pick.is_empty() || self.options.pick.picks(path));
        if head.rewrite() {
            // The member with this name must be complete before it is replaced.
            self.workers.settle()?;
        }
        if proof.is_manifest(path) {
            // The manifest is compared with all members before it.
            self.workers.settle()?;
        }
        if plain_name(path).len() < path.len() {
            // The estimate in xb_begin is not the size of this stream.
            self.shared.report.expect(0);
        }
        self.shared.report.stage(&path.as_bstr().to_string());
        let inspect = self.options.inspect.and_then(|inspector| inspector(path));
        let member = Member::new(path.clone(), head.at, picked).summed(own || self.shared.wants_sums());
        let member = member.inspected(inspect).rewritten(head.rewrite() && (step.anew || !self.keeps()));
        self.workers.send_to_idlest(step.slot, Task::Open { slot: step.slot, member: Box::new(member) })
    }

    /// True if nothing may be touched that the stream has not brought.
    fn keeps(&self) -> bool {
        self.options.destination.as_ref().is_some_and(|destination| destination.existing == Existing::Keep)
    }

    fn chunk(&mut self, head: &Head, step: Step, proof: &mut Proof) -> Result<()> {
        let slot = step.slot;
        match &head.body {
            Body::Payload { offset, len } => self.bytes(head, slot, *offset, *len, proof),
            Body::Sparse { offset, map, .. } => {
                let mut at = *offset;
                for span in map {
                    at = at.saturating_add(span.skip.into());
                    self.workers.send(slot, Task::Hole { slot, end: at })?;
                    self.bytes(head, slot, at, span.len.into(), proof)?;
                    at = at.saturating_add(span.len.into());
                }
                Ok(())
            }
            Body::End => {
                proof.end(self.reader.place(), head, self.shared.report)?;
                self.workers.send(slot, Task::End { slot })
            }
            Body::Rename(new) => {
                self.workers.settle()?;
                self.shared.rename(&head.path, new, step.known || !self.keeps())
            }
            Body::Remove if !step.known && self.keeps() => Ok(()),
            Body::Remove => {
                self.workers.settle()?;
                self.shared.remove(&head.path)
            }
            Body::Seek(_) | Body::Skipped => Ok(()),
        }
    }

    /// Sends payload to a thread, one buffer at a time.
    fn bytes(&mut self, head: &Head, slot: usize, mut offset: u64, len: u64, proof: &mut Proof) -> Result<()> {
        let end = offset.saturating_add(len);
        loop {
            self.shared.check()?;
            let mut buffer = self.workers.buffer()?;
            let want = usize::try_from(end - offset).unwrap_or(usize::MAX);
            // An empty read at the end of a chunk verifies its CRC; the reader does that before the next header.
            let count = self.reader.fill(buffer.room(want))?;
            buffer.set_len(count);
            if count == 0 {
                if offset < end {
                    return Err(Error::internal("a payload ended before its length"));
                }
                return Ok(());
            }
            proof.bytes(head, buffer.bytes(), self.members.count(), &self.shared.seen)?;
            self.shared.report.advance(count as u64);
            self.workers.send(slot, Task::Data { slot, offset, buffer })?;
            offset += count as u64;
            if offset >= end {
                return Ok(());
            }
        }
    }
}

/// The state that a panicking thread leaves is never used: the panic fails the run.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
