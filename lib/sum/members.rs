//! Parses the stream while its bytes pass: computes sums of members, and checks that a stream of ours is complete.

use std::collections::HashMap;
use std::io::{self, Read};

use bstr::ByteSlice;

use super::Options;
use super::algorithm::{Algorithm, Sum};
use super::list::Member;
use crate::budget::Share;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::io::BUFFER;
use crate::stream::chunk::{self, PREFIX};
use crate::stream::holes::Holes;
use crate::stream::native::{BEGIN, Verifier};
use crate::stream::{Body, Head, Members, Reader};

/// The sums of members, by name, in the order in which members ended.
pub(super) type Sums = Vec<(Vec<u8>, Member)>;

/// Follows the stream `input` to its end.
///
/// With `wanted`, every member is summed, and anything but an xbstream is an error. Without it, only a stream that
/// begins with `xb_begin` is followed: it must be complete and end with a valid manifest.
pub(super) fn follow(input: impl Read, wanted: Option<&[Algorithm]>, options: &Options) -> Result<Sums> {
    let mut input = input;
    let mut start = Vec::new();
    let head = PREFIX + BEGIN.len();
    input.by_ref().take(head as u64).read_to_end(&mut start).map_err(|cause| Error::io("stdin", "lost", &cause))?;
    let prefix = start.first_chunk().and_then(|bytes| chunk::prefix(bytes).ok());
    let ours = prefix.is_some_and(|prefix| prefix.path_len == BEGIN.len()) && start.ends_with(BEGIN);
    if wanted.is_none() && !ours {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(start.as_slice().chain(input), "stdin");
    let wanted = wanted.unwrap_or_default();
    let mut reading = Reading {
        wanted,
        members: Members::within(&options.budget, wanted.iter().map(|algorithm| algorithm.memory()).sum()),
        open: HashMap::new(),
        done: Vec::new(),
        memory: options.budget.share(),
        used: 0,
        holes: Holes::new(options.holes),
        verifier: Verifier::default(),
    };
    let mut buffer = vec![0; BUFFER];
    while let Some(head) = reader.next()? {
        reading.chunk(&head, &mut reader, &mut buffer)?;
    }
    reading.members.finish("stdin", reader.position())?;
    reading.verifier.finish("stdin", reader.position())?;
    reading.verifier.check_log("stdin")?;
    Ok(reading.done)
}

/// Memory of a complete member in addition to its name, and of a sum in addition to its digits: allocations and
/// pointers.
const DONE: usize = 144;
const SUM: usize = 64;

struct Reading<'a> {
    wanted: &'a [Algorithm],
    members: Members,
    open: HashMap<Vec<u8>, Open>,
    done: Sums,
    /// Memory of `done`.
    memory: Share,
    used: usize,
    holes: Holes,
    verifier: Verifier,
}

/// A member that has begun.
struct Open {
    size: u64,
    sums: Vec<Sum>,
}

impl Reading<'_> {
    fn chunk(&mut self, head: &Head, reader: &mut Reader<impl Read>, buffer: &mut [u8]) -> Result<()> {
        let step = self.members.accept(reader.place(), head)?;
        self.verifier.chunk(reader.place(), head)?;
        if step.anew {
            self.done.retain(|(name, _)| *name != head.path);
        }
        if step.opened && !self.wanted.is_empty() {
            let sums = self.wanted.iter().map(|algorithm| algorithm.begin()).collect();
            self.open.insert(head.path.clone(), Open { size: 0, sums });
        }
        let mut open = self.open.get_mut(&head.path);
        match &head.body {
            Body::Payload { .. } => loop {
                let got = reader.fill(buffer)?;
                let bytes = buffer.part(..got)?;
                self.holes.content(got as u64);
                if let Some(open) = &mut open {
                    open.add(bytes);
                }
                self.verifier.payload("stdin", &head.path, bytes, self.members.count(), |_, _| Ok(()))?;
                if got < buffer.len() {
                    return Ok(());
                }
            },
            Body::Sparse { map, .. } => {
                for span in map {
                    let Some(open) = &mut open else { break };
                    self.holes.zeros(&head.path, u64::from(span.skip))?;
                    open.zeros(u64::from(span.skip));
                    self.holes.content(u64::from(span.len));
                    for part in parts(u64::from(span.len), buffer.len()) {
                        let into = buffer.part_mut(..part)?;
                        if reader.fill(into)? < part {
                            return Err(Error::internal("a payload ended before its map"));
                        }
                        open.add(into);
                    }
                }
            }
            Body::Seek(to) => {
                if let Some(open) = &mut open {
                    let hole = to.checked_sub(open.size).ok_or_else(|| {
                        let what = "is written out of order and cannot be summed in one pass";
                        Error::failed(
                            "stdin",
                            format_args!("{}: {what} (stream byte {})", head.path.as_bstr(), head.at),
                        )
                    })?;
                    self.holes.zeros(&head.path, hole)?;
                    open.zeros(hole);
                }
            }
            Body::End => {
                if let Some(Open { size, sums }) = self.open.remove(&head.path) {
                    let sums: Vec<String> = sums.into_iter().map(Sum::finish).collect();
                    // Digits and name are also in a line that is made at the end.
                    let lines = sums.iter().map(|sum| SUM + 3 * sum.len() + 2 * head.path.len());
                    self.used += DONE + head.path.len() + lines.sum::<usize>();
                    self.memory.grow(self.used as u64)?;
                    self.done.push((head.path.clone(), Member { size, sums }));
                }
                self.verifier.end("stdin", &head.path)?;
            }
            Body::Rename(new) => {
                self.done.retain(|(name, _)| name != new);
                if let Some((name, _)) = self.done.iter_mut().find(|(name, _)| *name == head.path) {
                    name.clone_from(new);
                }
            }
            Body::Remove => self.done.retain(|(name, _)| *name != head.path),
            Body::Skipped => {}
        }
        Ok(())
    }
}

impl Open {
    fn add(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.sums.iter_mut().for_each(|sum| sum.update(bytes));
    }

    /// Holes count as zeros.
    fn zeros(&mut self, count: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        for part in parts(count, ZEROS.len()) {
            self.add(ZEROS.split_at(part).0);
        }
    }
}

/// Splits `total` into parts of at most `most`.
fn parts(total: u64, most: usize) -> impl Iterator<Item = usize> {
    let mut left = total;
    std::iter::from_fn(move || {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        left = left.saturating_sub(part as u64);
        (part > 0).then_some(part)
    })
}

/// Bytes that another thread sends, as a reader.
pub(super) struct Sent<I, B> {
    pub(super) buffers: I,
    pub(super) current: Option<B>,
    pub(super) taken: usize,
}

impl<I: Iterator<Item = B>, B: AsRef<[u8]>> Read for Sent<I, B> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(buffer) = &self.current {
                let rest = buffer.as_ref().part(self.taken..)?;
                if !rest.is_empty() {
                    let count = rest.len().min(into.len());
                    into.part_mut(..count)?.copy_from_slice(rest.part(..count)?);
                    self.taken += count;
                    return Ok(count);
                }
            }
            // Return the old buffer before waiting for the next.
            (self.current, self.taken) = (None, 0);
            self.current = self.buffers.next();
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}
