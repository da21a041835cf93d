//! Bytes that wait to be cut into pieces, and the buffers of pieces.

use crate::bytes::Part as _;
use crate::codec::pool::Buffers;
use crate::codec::{Codec, Cut, Fault, Flow, PIECE, Serial};
use crate::error::{Error, Result};

/// Size of a buffer for a piece and for its result, with any codec: a frame around [`PIECE`] bytes is little larger.
const BUFFER: usize = PIECE + (16 << 10);

/// Buffers for this many threads.
pub(crate) fn buffers(threads: usize) -> Buffers {
    Buffers::new(BUFFER, 2 * threads + 2)
}

/// A part of a member that has left [`Splitter`].
pub(crate) enum Part<J> {
    /// For a worker; `at` is its offset in the member.
    Piece { job: J, bytes: Vec<u8>, at: u64 },
    /// Already rewritten.
    Ready(Vec<u8>),
}

/// Rewrites a piece; reuses its buffer.
pub(crate) fn work<C: Codec>(
    codec: &C,
    worker: &mut C::Worker,
    buffers: &Buffers,
    (job, bytes): (C::Job, Vec<u8>),
) -> Result<Vec<u8>, Fault> {
    let mut out = buffers.take();
    codec.work(worker, job, &bytes, &mut out)?;
    buffers.give(bytes);
    Ok(out)
}

/// The bytes of a member that have arrived and have not been cut yet.
pub(crate) struct Splitter<M> {
    member: M,
    bytes: Vec<u8>,
    /// How many bytes it makes sense to keep.
    want: usize,
    /// Their offset in the member.
    at: u64,
}

impl<M> Splitter<M> {
    /// For a member that begins with `start`.
    pub(crate) fn new(member: M, start: Vec<u8>) -> Self {
        Splitter { member, bytes: start, want: PIECE, at: 0 }
    }

    /// Memory in use.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// True if no bytes wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Memory that will be in use after `left` more bytes of a chunk, as far as they are needed.
    pub(crate) fn needs(&self, left: u64) -> usize {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        if len < capacity {
            return capacity;
        }
        let want = self.want.max(len + 1);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let need = len.saturating_add(left).min(want);
        // For many small chunks, double the memory each time. For nearly a whole piece, use one of the reusable
        // buffers.
        match need.max(len.saturating_mul(2)).min(want) {
            most if (PIECE / 2..=BUFFER).contains(&most) => BUFFER,
            some => some,
        }
    }

    /// Takes up to `left` more bytes from `read`, which appends as many as requested unless there are no more; returns
    /// the number.
    pub(crate) fn fill(
        &mut self,
        left: u64,
        buffers: &Buffers,
        read: impl FnOnce(&mut Vec<u8>, usize) -> Result<usize>,
    ) -> Result<usize> {
        let need = self.needs(left);
        if need == BUFFER && self.bytes.capacity() < need {
            let mut buffer = buffers.take();
            buffer.extend_from_slice(&self.bytes);
            self.bytes = buffer;
        }
        let len = self.bytes.len();
        self.bytes.reserve_exact(need.saturating_sub(len));
        let room = need.min(self.want.max(len + 1)) - len;
        let room = usize::try_from(left).map_or(room, |left| left.min(room));
        read(&mut self.bytes, room)
    }

    /// Cuts what can be cut. `part` gets the parts in order; `wrong` makes an error of a fault in bytes at an offset of
    /// the member.
    pub(crate) fn cut<C: Codec<Member = M>>(
        &mut self,
        codec: &C,
        flow: Flow,
        buffers: &Buffers,
        wrong: impl Fn(Fault, u64) -> Error,
        mut part: impl FnMut(Part<C::Job>) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        loop {
            let waiting = self.bytes.part(start..)?;
            let at = self.at;
            match codec.cut(&mut self.member, waiting, flow).map_err(|fault| wrong(fault, at))? {
                Cut::More(want) => {
                    self.want = want.max(1);
                    break;
                }
                Cut::Piece { len, job } => {
                    let piece = waiting.part(..len)?;
                    let bytes = match (start, waiting.len() == len) {
                        (0, true) => std::mem::take(&mut self.bytes),
                        _ => piece.to_vec(),
                    };
                    start = if self.bytes.is_empty() { 0 } else { start + len };
                    self.at += len as u64;
                    part(Part::Piece { job, bytes, at })?;
                }
                Cut::Serial(len) => {
                    let end = start + len;
                    loop {
                        let mut out = buffers.take();
                        let rest = self.bytes.part(start..end)?;
                        let done = codec.serial(&mut self.member, rest, &mut out);
                        let Serial { taken, again } = done.map_err(|fault| wrong(fault, self.at))?;
                        start += taken;
                        self.at += taken as u64;
                        if out.is_empty() {
                            buffers.give(out)
                        } else {
                            part(Part::Ready(out))?
                        }
                        if !again {
                            break;
                        }
                    }
                }
            }
        }
        if flow == Flow::Last && start < self.bytes.len() {
            return Err(wrong(Fault::damaged(0, "bytes follow the end"), self.at));
        }
        if start == self.bytes.len() {
            buffers.give(std::mem::take(&mut self.bytes));
        } else {
            self.bytes.drain(..start);
        }
        Ok(())
    }
}
