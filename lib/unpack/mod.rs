//! A stream into files, or only looked at.
//!
//! One reader takes the stream apart and holds it against the rules ([`crate::stream::Members`], `proof`). Threads
//! (`workers`) sum and write; a member belongs to one of them, which keeps its order. What cannot be shared is done
//! by the reader while all of them stand still: rename, remove, rewrite, and reading the manifest.

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

/// Least bytes of a buffer.
pub const BUFFER_MIN: usize = 64 << 10;
/// Most bytes of a buffer.
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

/// Where files go, and how.
#[derive(Debug)]
pub struct Destination {
    /// Created if it is missing.
    pub dir: PathBuf,
    /// What it may hold before.
    pub existing: Existing,
    /// Whether everything is on disk when the run ends.
    pub sync: bool,
    /// Whether zeros become holes.
    pub sparse: Sparse,
}

/// What to do with a stream.
pub struct Options<'a> {
    /// Where files go; `None` only looks at the stream.
    pub destination: Option<Destination>,
    /// Which members are written and listed; all are verified. None: every one.
    pub pick: Patterns,
    /// Each member is told here as it ends.
    pub list: Option<Listing>,
    /// Sees the bytes of members that it is interested in.
    pub inspect: Option<Inspector<'a>>,
    /// Whether an input without a single byte is a stream without members.
    pub allow_empty: bool,
    /// Threads beside the reader, at least 1. With one, members are listed in the order in which they end.
    pub threads: usize,
    /// Bytes written at once, [`BUFFER_MIN`]..=[`BUFFER_MAX`].
    pub buffer: usize,
    /// Memory for names and open members.
    pub budget: Budget,
}

/// What an open member costs: its sum, its file, what looks at it.
const MEMBER: usize = 2304;
/// What it costs to look at its pages: the largest, twice.
const INSPECTED: usize = 128 << 10;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Members, those of our own included.
    pub members: usize,
    /// Bytes of the stream.
    pub bytes: u64,
    /// True if a manifest proved that nothing is missing.
    pub proved: bool,
}

/// Reads the stream to its end. When this fails, members that were not complete have been removed, and the directory
/// is marked by `xb_incomplete`; `input` is closed before that cleaning.
pub fn unpack(input: impl Read, options: &Options<'_>, report: &dyn Report) -> Result<Summary> {
    let target = options.destination.as_ref().map(Target::check).transpose()?;
    let shared = Shared::new(target.as_ref(), options, report);
    let outcome = std::thread::scope(|scope| {
        let workers = Workers::start(scope, &shared, options);
        let each = MEMBER + if options.inspect.is_some() { INSPECTED } else { 0 };
        let members = Members::within(&options.budget, each);
        let mut run = Run { reader: Reader::new(input, "stdin"), members, shared: &shared, workers, options };
        let outcome = run.stream();
        // Dropped here, reader first: the sender learns at once that nobody listens.
        let Run { reader, workers, .. } = run;
        drop(reader);
        workers.join(&shared);
        outcome
    });
    let listed = options.list.as_ref().map_or(Ok(()), Listing::flush);
    // A thread's failure comes first: the reader only stopped because of it.
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
    /// With the manifest's end, if every member agrees with it.
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
            return Err(Error::damaged("stdin", "empty: not one byte came").hint(
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
            // What stands under this name must be whole before it is replaced.
            self.workers.settle()?;
        }
        if proof.is_manifest(path) {
            // It is held against all that came before it.
            self.workers.settle()?;
        }
        if plain_name(path).len() < path.len() {
            // What xb_begin announces is the size of something else.
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

    /// Payload on its way to a thread, a buffer at a time.
    fn bytes(&mut self, head: &Head, slot: usize, mut offset: u64, len: u64, proof: &mut Proof) -> Result<()> {
        let end = offset.saturating_add(len);
        loop {
            self.shared.check()?;
            let mut buffer = self.workers.buffer()?;
            let want = usize::try_from(end - offset).unwrap_or(usize::MAX);
            // An empty read at the end of a chunk is what checks its CRC; the reader does that before the next head.
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

/// What a thread leaves half-done when it panics is never used: the panic fails the run.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
