//! Takes a stream apart, decides on its members, and feeds what becomes of them.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use bstr::ByteSlice;

use super::{Options, Target, Task, wrong};
use crate::budget::Share;
use crate::codec::pool::{Buffers, Feed};
use crate::codec::splitter::{Part, Splitter};
use crate::codec::{Choice, Codec, Flow, PIECE, START};
use crate::error::{Error, OrInternal as _, Result};
use crate::report::{Level, Report};
use crate::stream::chunk::{self, PATH_MAX};
use crate::stream::holes::Holes;
use crate::stream::members::{Step, key};
use crate::stream::native::{BEGIN, MANIFEST, Verifier, plain_name};
use crate::stream::table::Table;
use crate::stream::written::{Fault, Written};
use crate::stream::{Body, Head, Members, Reader};

/// The feeding side of [`super::rewrite`].
pub(crate) struct Source<'a, C: Codec, R> {
    reader: Reader<R>,
    members: Members,
    verifier: Verifier,
    codec: &'a C,
    options: &'a Options,
    report: &'a dyn Report,
    buffers: &'a Buffers,
    feed: Feed<'a, Task<C::Job>>,
    /// Open members, by their slots.
    slots: Vec<Slot<C::Member>>,
    /// Slots whose members hold bytes, the one that has waited longest first; some may hold none by now.
    waiting: VecDeque<usize>,
    /// Memory of all that is held.
    memory: usize,
    /// Names that have been written.
    names: Written,
    /// Complete members that stayed as they were, for a later rename, removal or rewriting of them.
    passed: Table<()>,
    /// What members hold that cannot be cut anywhere.
    share: Share,
    holes: Holes,
}

/// What an open member costs beside what it holds.
const SLOT: usize = 512;

struct Slot<M> {
    member: Option<Member<M>>,
    /// Whether it stands in `waiting`.
    waits: bool,
}

struct Member<M> {
    path: Vec<u8>,
    flags: u8,
    anew: bool,
    /// Bytes of content so far, holes included.
    size: u64,
    state: State<M>,
}

enum State<M> {
    /// Too short so far to say.
    Undecided(Vec<u8>),
    Pass,
    Code(Arc<Target>, Splitter<M>),
}

/// Where bytes of a member come from.
#[derive(Clone, Copy)]
enum From {
    Payload,
    Hole,
}

impl<'a, C: Codec, R: Read> Source<'a, C, R> {
    pub(crate) fn new(
        input: R,
        codec: &'a C,
        options: &'a Options,
        report: &'a dyn Report,
        buffers: &'a Buffers,
        feed: Feed<'a, Task<C::Job>>,
    ) -> Self {
        Source {
            reader: Reader::new(input, "stdin"),
            members: Members::within(&options.budget, SLOT),
            verifier: Verifier::default(),
            codec,
            options,
            report,
            buffers,
            feed,
            slots: Vec::new(),
            waiting: VecDeque::new(),
            memory: 0,
            names: Written::within(&options.budget),
            passed: Table::within(options.budget.share()),
            share: options.budget.share(),
            holes: Holes::new(options.holes),
        }
    }

    pub(crate) fn run(mut self) -> Result<()> {
        // The manifest's end goes out when all is known to be well.
        let mut last = None;
        while let Some(head) = self.reader.next()? {
            self.verifier.chunk("stdin", &head)?;
            let step = self.members.accept("stdin", &head)?;
            if step.opened {
                self.open(&head, step)?;
            }
            if self.verifier.is_ended() {
                last = Some(step.slot);
            } else {
                self.chunk(head, step.slot)?;
            }
        }
        let at = self.reader.position();
        if at == 0 && !self.options.allow_empty {
            return Err(Error::damaged("stdin", "empty: not one byte came").hint(
                "the sender failed before it began; see its message and exit status (--allow-empty takes this)",
            ));
        }
        self.members.finish("stdin", at)?;
        self.verifier.finish("stdin", at)?;
        last.map_or(Ok(()), |slot| self.end(slot))
    }

    fn open(&mut self, head: &Head, step: Step) -> Result<()> {
        self.report.stage(&head.path.as_bstr().to_string());
        let member = Member {
            path: head.path.clone(),
            flags: head.flags & chunk::REWRITE,
            anew: step.anew,
            size: 0,
            state: State::Undecided(Vec::new()),
        };
        if self.slots.len() <= step.slot {
            self.slots.resize_with(step.slot + 1, || Slot { member: None, waits: false });
        }
        self.slots.get_mut(step.slot).or_internal(LOST)?.member = Some(member);
        Ok(())
    }

    fn chunk(&mut self, head: Head, slot: usize) -> Result<()> {
        match head.body {
            Body::Payload { offset, len } => {
                self.gap(slot, offset)?;
                self.bytes(slot, len, From::Payload)
            }
            Body::Sparse { map, .. } => map.iter().try_for_each(|span| {
                self.hole(slot, span.skip)?;
                self.bytes(slot, span.len.into(), From::Payload)
            }),
            Body::Seek(offset) => self.seek(slot, offset),
            Body::End => self.end(slot),
            Body::Rename(new) => self.rename(&head.path, &new),
            Body::Remove => {
                let (name, _) = self.name_of(&head.path);
                self.names.remove(&name);
                self.passed.remove(key(&head.path));
                self.remove(&name)
            }
            Body::Skipped => {
                self.report.note(Level::Detail, format_args!("{}: unknown chunk left out", head.path.as_bstr()));
                Ok(())
            }
        }
    }

    /// `len` bytes of content.
    fn bytes(&mut self, slot: usize, mut len: u64, from: From) -> Result<()> {
        while len > 0 {
            self.make_room(slot, len)?;
            let Source { slots, reader, buffers, report, .. } = self;
            let member = member(slots, slot)?;
            let mut read = |out: &mut Vec<u8>, most: usize| match from {
                From::Payload => reader.append(out, most),
                From::Hole => {
                    out.resize(out.len() + most, 0);
                    Ok(most)
                }
            };
            let piece = usize::try_from(len).map_or(PIECE, |len| len.min(PIECE));
            let (got, passing) = match &mut member.state {
                State::Undecided(start) => (read(start, piece)?, None),
                State::Pass => {
                    let mut buffer = buffers.take();
                    (read(&mut buffer, piece)?, Some(buffer))
                }
                State::Code(_, splitter) => {
                    let before = splitter.capacity();
                    let got = splitter.fill(len, buffers, read)?;
                    self.memory = self.memory + splitter.capacity() - before;
                    if !C::CUTS_ANYWHERE {
                        self.share.set(self.memory as u64)?;
                    }
                    (got, None)
                }
            };
            if got == 0 {
                // The reader has more of a payload or fails.
                return Err(Error::internal("a payload ended before its length"));
            }
            let offset = member.size;
            member.size += got as u64;
            len -= got as u64;
            if matches!(from, From::Payload) {
                self.holes.content(got as u64);
                report.advance(got as u64);
            }
            match passing {
                Some(buffer) => self.pass(slot, offset, buffer)?,
                None => self.progress(slot)?,
            }
        }
        Ok(())
    }

    /// Decides on a member when enough of it has come, and cuts what can be cut.
    fn progress(&mut self, slot: usize) -> Result<()> {
        match &member(&mut self.slots, slot)?.state {
            State::Undecided(start) if start.len() >= START => {
                self.decide(slot)?;
                self.cut(slot, Flow::Open)
            }
            State::Code(..) => self.cut(slot, Flow::Open),
            State::Undecided(_) | State::Pass => Ok(()),
        }
    }

    fn decide(&mut self, slot: usize) -> Result<()> {
        let member = member(&mut self.slots, slot)?;
        let State::Undecided(start) = &mut member.state else { return Ok(()) };
        let start = std::mem::take(start);
        let path = member.path.clone();
        let choice = match path.as_slice() {
            BEGIN => {
                self.codec.ours();
                Choice::Pass
            }
            _ => self.codec.choose(&path, &start).map_err(|fault| wrong(&path, &fault, 0))?,
        };
        if plain_name(&path).len() < path.len() {
            // What xb_begin announces is the size of something else.
            self.report.expect(0);
        }
        let passes = matches!(choice, Choice::Pass);
        let name = if passes { path.clone() } else { self.codec.name(&path) };
        let (flags, anew) = (member.flags, member.anew);
        member.state = match choice {
            Choice::Pass => State::Pass,
            Choice::Code(code) => {
                self.report.note(Level::Detail, format_args!("{} becomes {}", path.as_bstr(), name.as_bstr()));
                let target = Target { path: path.clone(), name: name.clone(), flags, next: 0.into() };
                let splitter = Splitter::new(code, start.clone());
                self.memory += splitter.capacity();
                State::Code(Arc::new(target), splitter)
            }
        };
        if anew {
            let (old, _) = self.name_of(&path);
            self.names.remove(&old);
            if old != name {
                self.remove(&old)?;
            }
        }
        self.claim(&path, &name)?;
        self.passed.remove(key(&path));
        if passes {
            if !self.verifier.is_ours() {
                self.passed.insert(key(&path), ())?;
            }
            self.pass(slot, 0, start)?;
        }
        Ok(())
    }

    /// A name is written once.
    fn claim(&mut self, path: &[u8], name: &[u8]) -> Result<()> {
        let (path, short) = (path.as_bstr(), name.as_bstr());
        if name.len() > PATH_MAX {
            let what = format_args!("its new name would have {} bytes; {PATH_MAX} is the limit", name.len());
            return Err(
                Error::failed(path, what).hint("with --raw a stream is coded as a whole, and names stay as they are")
            );
        }
        match self.names.end(name) {
            Ok(()) => Ok(()),
            Err(Fault::Twice) => {
                Err(Error::failed(path, format_args!("would become {short}, which the stream has already")))
            }
            Err(Fault::Directory) => {
                Err(Error::failed(path, format_args!("would become {short}, which is both a file and a directory")))
            }
            Err(Fault::Exceeded(exceeded)) => Err(exceeded.into()),
        }
    }

    /// What a complete member is called in the output, and whether it stayed as it was.
    fn name_of(&self, path: &[u8]) -> (Vec<u8>, bool) {
        match self.passed.contains(key(path)) {
            true => (path.to_vec(), true),
            false => (self.codec.name(path), false),
        }
    }

    /// Has memory for what comes next: members that have waited longest give up what they hold.
    fn make_room(&mut self, slot: usize, len: u64) -> Result<()> {
        if !C::CUTS_ANYWHERE {
            return Ok(());
        }
        loop {
            let more = match &member(&mut self.slots, slot)?.state {
                State::Code(_, splitter) => splitter.needs(len).saturating_sub(splitter.capacity()),
                State::Undecided(_) => usize::try_from(len).map_or(PIECE, |len| len.min(PIECE)),
                State::Pass => break,
            };
            if self.memory + more <= self.options.memory {
                break;
            }
            let Some(longest) = self.waiting.pop_front() else { break };
            let waiting = self.slots.get_mut(longest).or_internal(LOST)?;
            waiting.waits = false;
            if waiting.member.is_some() {
                self.cut(longest, Flow::Short)?;
            }
        }
        Ok(())
    }

    fn cut(&mut self, slot: usize, flow: Flow) -> Result<()> {
        let Source { slots, feed, codec, buffers, memory, share, waiting, .. } = self;
        let Slot { member, waits } = slots.get_mut(slot).or_internal(LOST)?;
        let member = member.as_mut().or_internal(LOST)?;
        let State::Code(target, splitter) = &mut member.state else { return Ok(()) };
        let before = splitter.capacity();
        let fed = |part: Part<C::Job>| feed(Task::Part(target.clone(), part));
        splitter.cut(*codec, flow, buffers, |fault, at| wrong(&member.path, &fault, at), fed)?;
        *memory = *memory + splitter.capacity() - before;
        if !C::CUTS_ANYWHERE {
            share.set(*memory as u64)?;
        }
        if !splitter.is_empty() && !*waits {
            *waits = true;
            waiting.push_back(slot);
        }
        Ok(())
    }

    /// Content of a member that stays as it is.
    fn pass(&mut self, slot: usize, offset: u64, data: Vec<u8>) -> Result<()> {
        let member = member(&mut self.slots, slot)?;
        if data.is_empty() {
            return Ok(());
        }
        self.verifier.payload("stdin", &member.path, &data, self.members.count(), |_, _| Ok(()))?;
        let mut head = Vec::new();
        chunk::put_payload(&mut head, member.flags, &member.path, offset, &data);
        (self.feed)(Task::Chunk(head, data))
    }

    /// A hole of Percona's streams.
    fn hole(&mut self, slot: usize, skip: u32) -> Result<()> {
        let Member { state: State::Pass, path, flags, size, .. } = member(&mut self.slots, slot)? else {
            self.zeros(slot, skip.into())?;
            return self.bytes(slot, skip.into(), From::Hole);
        };
        let mut head = Vec::new();
        chunk::put_sparse(&mut head, *flags, path, *size, skip, &[]);
        *size += u64::from(skip);
        if skip > 0 { (self.feed)(Task::Chunk(head, Vec::new())) } else { Ok(()) }
    }

    /// Zeros up to where the next bytes belong, if a seek went forward; it does not lengthen the file by itself.
    fn gap(&mut self, slot: usize, offset: u64) -> Result<()> {
        let member = member(&mut self.slots, slot)?;
        match offset.checked_sub(member.size) {
            Some(0) => Ok(()),
            Some(gap) => {
                self.zeros(slot, gap)?;
                self.bytes(slot, gap, From::Hole)
            }
            None => Err(Error::failed(
                member.path.as_bstr(),
                format_args!("its stream goes back from byte {} to {offset}; this cannot be rewritten", member.size),
            )
            .hint("unpack the stream first, and pack the files again")),
        }
    }

    /// A hole is about to become zeros.
    fn zeros(&mut self, slot: usize, count: u64) -> Result<()> {
        self.holes.zeros(&member(&mut self.slots, slot)?.path, count)
    }

    /// A seek of MariaDB's streams.
    fn seek(&mut self, slot: usize, offset: u64) -> Result<()> {
        let Member { state: State::Pass, path, flags, size, .. } = member(&mut self.slots, slot)? else {
            return Ok(());
        };
        *size = offset;
        let mut head = Vec::new();
        chunk::put_seek(&mut head, *flags, path, offset);
        (self.feed)(Task::Chunk(head, Vec::new()))
    }

    fn end(&mut self, slot: usize) -> Result<()> {
        self.decide(slot)?;
        self.cut(slot, Flow::Last)?;
        let member = self.slots.get_mut(slot).and_then(|slot| slot.member.take());
        let Member { path, flags, state, .. } = member.or_internal(LOST)?;
        // What was compressed or encrypted has no manifest to be read.
        if (path != MANIFEST || matches!(state, State::Pass))
            && let Some(begin) = self.verifier.end("stdin", &path)?
        {
            self.report.expect(begin.estimated_bytes);
        }
        let target = match state {
            State::Code(target, splitter) => {
                self.memory -= splitter.capacity();
                target
            }
            _ => Arc::new(Target { name: path.clone(), path, flags, next: 0.into() }),
        };
        (self.feed)(Task::End(target))
    }

    fn rename(&mut self, path: &[u8], new: &[u8]) -> Result<()> {
        let (old, passes) = self.name_of(path);
        let name = if passes { new.to_vec() } else { self.codec.name(new) };
        self.names.remove(&old);
        self.claim(path, &name)?;
        if passes {
            self.passed.remove(key(path));
            self.passed.insert(key(new), ())?;
        }
        let mut head = Vec::new();
        chunk::put_rename(&mut head, &old, &name);
        (self.feed)(Task::Chunk(head, Vec::new()))
    }

    fn remove(&mut self, name: &[u8]) -> Result<()> {
        let mut head = Vec::new();
        chunk::put_prefix(&mut head, 0, b'D', name);
        (self.feed)(Task::Chunk(head, Vec::new()))
    }
}

const LOST: &str = "a member that is open has no slot";

fn member<M>(slots: &mut [Slot<M>], slot: usize) -> Result<&mut Member<M>> {
    Ok(slots.get_mut(slot).and_then(|slot| slot.member.as_mut()).or_internal(LOST)?)
}
