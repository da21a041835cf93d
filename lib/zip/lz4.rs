//! lz4 frames: written one by one, parsed block by block.
//!
//! ```text
//! frame   4 magic 04 22 4d 18, head, blocks, 4 zero, 4 checksum of the content if the head says so (XXH32)
//! head    1 flags: 6-7 version 01, 5 blocks stand alone, 4 block checksums, 3 content size, 2 content checksum,
//!         0 dictionary; 1 block size: 4-6 of 64 KiB · 4^(n - 4); 8 content size; 4 dictionary id; 1 checksum of these
//! block   4 little-endian size, bit 31 stored; bytes; 4 checksum of them if the head says so
//! ```
//!
//! Percona's program announces blocks of 1 MiB for content of up to 1232896 bytes, and writes blocks that are longer
//! than their content (`ds_compress_lz4.cc`). Both are accepted: the content of a block may be as long as what its
//! frame still lacks, up to [`BLOCK_MAX`].

use std::hash::Hasher;

use twox_hash::XxHash32;

use super::{Job, shrinks, zstd};
use crate::bytes::Part as _;
use crate::codec::{Cut, Fault, Flow, PIECE};
use crate::error::OrInternal as _;

/// The first bytes of a frame.
pub const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The largest block of the format in bytes.
pub const BLOCK_MAX: usize = 4 << 20;
/// The content of our blocks in bytes: the compressor's table and the block fit into a core's cache.
const BLOCK: usize = 256 << 10;
/// Version 01, independent blocks, with content size and checksum. The same as in Percona's program.
const FLAGS: u8 = 0x6c;
/// Our block size in a head.
const BLOCK_CODE: u8 = 0x50;
const STORED: u32 = 1 << 31;
/// How far back a match can reach, in bytes.
const WINDOW: usize = 64 << 10;
/// The longest block in its stored form, with its size and checksum: one that is longer than its content.
const STORED_MAX: usize = BLOCK_MAX + (BLOCK_MAX >> 7) + 64;

/// Appends a frame to `out`, which is empty.
pub fn frame(content: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut scratch = Vec::new();
    let small = shrinks(content, |sample| {
        scratch.resize(lz4_flex::block::get_maximum_output_size(sample.len()), 0);
        lz4_flex::block::compress_into(sample, &mut scratch).unwrap_or(usize::MAX)
    });
    let worst = content.len() + 4 * (content.len() / BLOCK + 1) + 64;
    out.reserve(worst);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FLAGS, BLOCK_CODE]);
    out.extend_from_slice(&(content.len() as u64).to_le_bytes());
    out.push(head_sum(out.part(MAGIC.len()..)?));
    for block in content.chunks(BLOCK) {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        let packed = small.then(|| {
            out.resize(at + 4 + lz4_flex::block::get_maximum_output_size(block.len()), 0);
            lz4_flex::block::compress_into(block, out.split_at_mut(at + 4).1)
        });
        let head = match packed {
            Some(Ok(len)) if len < block.len() => {
                out.truncate(at + 4 + len);
                u32::try_from(len).or_internal(LONG)?
            }
            _ => {
                out.truncate(at + 4);
                out.extend_from_slice(block);
                u32::try_from(block.len()).or_internal(LONG)? | STORED
            }
        };
        out.part_mut(at..at + 4)?.copy_from_slice(&head.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sum(content).to_le_bytes());
    Ok(())
}

const LONG: &str = "an lz4 block is longer than it can be";

fn sum(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

fn head_sum(fields: &[u8]) -> u8 {
    let [_, second, ..] = sum(fields).to_le_bytes();
    second
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Length of the head in bytes, including the magic.
    len: usize,
    linked: bool,
    block_sums: bool,
    content_sum: bool,
    content: Option<u64>,
    block_max: usize,
}

/// Parses a head; `None` if more bytes are needed.
fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let Some((magic, [flags, code, ..])) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    match magic {
        _ if *magic == MAGIC => {}
        [0x02, 0x21, 0x4c, 0x18] => return Err(Fault::refused(0, "lz4 frame of the legacy format")),
        _ => return Err(Fault::damaged(0, "no lz4 frame begins here")),
    }
    if flags >> 6 != 1 || flags & 0x02 != 0 || code & 0x8f != 0 || code >> 4 < 4 {
        return Err(Fault::damaged(4, "lz4 frame with a head that has no meaning"));
    }
    if flags & 0x01 != 0 {
        return Err(Fault::refused(4, "lz4 frame that needs a dictionary"));
    }
    let content_len = if flags & 0x08 != 0 { 8 } else { 0 };
    let len = 7 + content_len;
    let Some((fields, [check])) = bytes.get(4..len).and_then(|fields| fields.split_last_chunk::<1>()) else {
        return Ok(None);
    };
    if head_sum(fields) != *check {
        return Err(Fault::damaged(4, "checksum of an lz4 frame's head is wrong"));
    }
    Ok(Some(Head {
        len,
        linked: flags & 0x20 == 0,
        block_sums: flags & 0x10 != 0,
        content_sum: flags & 0x04 != 0,
        content: fields.get(2..10).and_then(|size| size.first_chunk()).map(|size| u64::from_le_bytes(*size)),
        block_max: (64 << 10) << (2 * (code >> 4 & 3)),
    }))
}

/// A block, or the end of a frame.
enum Block<'a> {
    Data {
        stored: bool,
        bytes: &'a [u8],
        len: usize,
    },
    /// The end of the frame, with its checksum; `len` is its length.
    End {
        sum: Option<u32>,
        len: usize,
    },
}

impl Head {
    /// Parses a block and verifies its checksum; the inner error is the number of bytes needed.
    fn block<'a>(&self, bytes: &'a [u8]) -> Result<Result<Block<'a>, usize>, Fault> {
        let Some(word) = bytes.first_chunk::<4>().map(|word| u32::from_le_bytes(*word)) else { return Ok(Err(4)) };
        let word_at = |at: usize| bytes.get(at..).and_then(|word| word.first_chunk()).map(|w| u32::from_le_bytes(*w));
        if word == 0 {
            let len = if self.content_sum { 8 } else { 4 };
            let sum = if self.content_sum { word_at(4) } else { None };
            return Ok(if bytes.len() < len { Err(len) } else { Ok(Block::End { sum, len }) });
        }
        let size = (word & !STORED) as usize;
        if size > STORED_MAX {
            return Err(Fault::damaged(0, "no lz4 block begins here"));
        }
        let len = 4 + size + if self.block_sums { 4 } else { 0 };
        let Some(data) = bytes.get(4..4 + size).filter(|_| bytes.len() >= len) else { return Ok(Err(len)) };
        if self.block_sums && word_at(4 + size) != Some(sum(data)) {
            return Err(Fault::damaged(0, "checksum of an lz4 block is wrong"));
        }
        Ok(Ok(Block::Data { stored: word & STORED != 0, bytes: data, len }))
    }

    /// The largest content of the next block, after `done` bytes of the frame: by the head, and the largest that is
    /// accepted.
    fn room(&self, done: u64) -> (usize, usize) {
        let Some(content) = self.content else { return (self.block_max, self.block_max) };
        let left = usize::try_from(content.saturating_sub(done)).map_or(BLOCK_MAX, |left| left.min(BLOCK_MAX));
        (left.min(self.block_max), left)
    }

    /// Appends a block's content.
    fn decode(&self, stored: bool, bytes: &[u8], done: u64, window: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let (announced, room) = self.room(done);
        if stored {
            if bytes.len() > room {
                return Err(Fault::damaged(0, "lz4 block with more content than its frame says"));
            }
            out.extend_from_slice(bytes);
            return Ok(());
        }
        let at = out.len();
        let mut unpack = |room: usize| {
            // No block expands more than 255 times.
            out.resize(at + room.min(bytes.len().saturating_mul(256)), 0);
            let into = out.split_at_mut(at).1;
            let got = match window {
                [] => lz4_flex::block::decompress_into(bytes, into),
                _ => lz4_flex::block::decompress_into_with_dict(bytes, into, window),
            };
            out.truncate(at + *got.as_ref().unwrap_or(&0));
            got
        };
        let got = unpack(announced).or_else(|fault| if room > announced { unpack(room) } else { Err(fault) });
        got.map(drop).map_err(|_| Fault::damaged(0, "lz4 block that cannot be decoded"))
    }

    /// Checks the end of a frame with `done` bytes of content.
    fn end(&self, done: u64, sum: Option<u32>, got: u32) -> Result<(), Fault> {
        if self.content.is_some_and(|content| content != done) {
            return Err(Fault::damaged(0, "lz4 frame with less content than it says"));
        }
        if sum.is_some_and(|sum| sum != got) {
            return Err(Fault::damaged(0, "checksum of an lz4 frame's content is wrong"));
        }
        Ok(())
    }
}

/// Appends the content of whole frames with independent blocks.
pub(super) fn frames(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut at = 0;
    let short = |at| Fault::truncated(at, "lz4 frame");
    while at < bytes.len() {
        let head = head(bytes.part(at..)?).map_err(|fault| fault.shifted(at))?.ok_or(short(at))?;
        let begin = out.len();
        at += head.len;
        loop {
            let rest = bytes.part(at..)?;
            let done = (out.len() - begin) as u64;
            match head.block(rest).map_err(|fault| fault.shifted(at))?.map_err(|_| short(at))? {
                Block::Data { stored, bytes, len } => {
                    head.decode(stored, bytes, done, &[], out).map_err(|fault| fault.shifted(at))?;
                    at += len;
                }
                Block::End { sum: want, len } => {
                    let got = want.map_or(0, |_| sum(out.split_at(begin).1));
                    head.end(done, want, got).map_err(|fault| fault.shifted(at))?;
                    at += len;
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Finds the frames of a member.
#[derive(Debug, Default)]
pub struct Frames {
    /// How many of the waiting bytes have been parsed.
    seen: usize,
    /// How many of them are whole frames, and the largest size of their content.
    whole: usize,
    content: usize,
    /// The frame at `seen`, and the largest size of its blocks' content.
    frame: Option<(Head, usize)>,
    skip: u64,
    /// A frame that is too large to be kept in memory.
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    head: Head,
    /// The head has been taken.
    begun: bool,
    /// Size of the content so far.
    done: u64,
    sum: XxHash32,
    /// The end of the content, if blocks depend on it.
    window: Vec<u8>,
}

/// The result of parsing the waiting bytes.
enum Look {
    Needs(usize),
    TooLarge,
}

impl Frames {
    /// See [`crate::codec::Codec::cut`].
    pub fn cut(&mut self, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        let truncated = || Fault::truncated(waiting.len(), "the member ends in an lz4 frame");
        if self.skip > 0 {
            return match (waiting.is_empty(), flow) {
                (false, _) => Ok(Cut::Serial(self.skipped(waiting))),
                (true, Flow::Last) => Err(truncated()),
                (true, _) => Ok(Cut::More(PIECE)),
            };
        }
        if let Some(large) = &self.large {
            return match large.head.block(waiting)? {
                Ok(Block::Data { len, .. } | Block::End { len, .. }) => Ok(Cut::Serial(len)),
                Err(_) if flow == Flow::Last => Err(truncated()),
                Err(needs) => Ok(Cut::More(needs.max(PIECE))),
            };
        }
        let look = self.walk(waiting)?;
        if self.whole > 0 {
            let len = std::mem::take(&mut self.whole);
            self.seen -= len;
            self.content = 0;
            return Ok(Cut::Piece { len, job: Job::Lz4 });
        }
        match look {
            Look::TooLarge => {
                self.seen = 0;
                let head = self.frame.take().map(|(head, _)| head);
                let len = head.map_or_else(|| self.skipped(waiting), |head| head.len);
                self.large = head.map(|head| Large {
                    head,
                    begun: false,
                    done: 0,
                    sum: XxHash32::with_seed(0),
                    window: Vec::new(),
                });
                Ok(Cut::Serial(len))
            }
            Look::Needs(_) if flow == Flow::Last && !waiting.is_empty() => Err(truncated()),
            Look::Needs(needs) => Ok(Cut::More(needs.max(PIECE + (PIECE >> 7)))),
        }
    }

    fn skipped(&self, waiting: &[u8]) -> usize {
        usize::try_from(self.skip).unwrap_or(usize::MAX).min(waiting.len())
    }

    /// Parses the waiting bytes, up to a piece of whole frames.
    fn walk(&mut self, waiting: &[u8]) -> Result<Look, Fault> {
        loop {
            let rest = waiting.part(self.seen..)?;
            let Some((head, content)) = &mut self.frame else {
                if rest.is_empty() || self.content >= PIECE {
                    return Ok(Look::Needs(1));
                }
                if zstd::is_skippable(rest) {
                    let Some(len) = rest.get(4..8).and_then(|len| len.first_chunk()) else {
                        return Ok(Look::Needs(8));
                    };
                    if self.whole > 0 {
                        return Ok(Look::Needs(1));
                    }
                    self.skip = 8 + u64::from(u32::from_le_bytes(*len));
                    return Ok(Look::TooLarge);
                }
                let Some(head) = head(rest).map_err(|fault| fault.shifted(self.seen))? else {
                    return Ok(Look::Needs(19));
                };
                self.seen += head.len;
                self.frame = Some((head, 0));
                continue;
            };
            if head.linked || head.content.is_some_and(|content| content > PIECE as u64) {
                return Ok(Look::TooLarge);
            }
            match head.block(rest).map_err(|fault| fault.shifted(self.seen))? {
                Ok(Block::Data { len, .. }) => {
                    *content += head.block_max;
                    self.seen += len;
                    if head.content.is_none() && *content > PIECE || self.seen - self.whole > 2 * PIECE {
                        return Ok(Look::TooLarge);
                    }
                }
                Ok(Block::End { len, .. }) => {
                    self.content += head.content.map_or(*content, |size| usize::try_from(size).unwrap_or(PIECE));
                    self.seen += len;
                    self.whole = self.seen;
                    self.frame = None;
                }
                Err(needs) if head.content.is_none() && *content + head.block_max > PIECE => {
                    return Ok(if self.whole > 0 { Look::Needs(needs) } else { Look::TooLarge });
                }
                Err(needs) => return Ok(Look::Needs(self.seen + needs)),
            }
        }
    }

    /// See [`crate::codec::Codec::serial`]. Takes all bytes: skipped ones, a head or one block.
    pub fn serial(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.skip > 0 {
            self.skip = self.skip.saturating_sub(bytes.len() as u64);
            return Ok(());
        }
        let large = self.large.as_mut().or_internal("an lz4 frame is lost")?;
        if !std::mem::replace(&mut large.begun, true) {
            return Ok(());
        }
        match large.head.block(bytes)? {
            Ok(Block::Data { stored, bytes, .. }) => {
                let at = out.len();
                large.head.decode(stored, bytes, large.done, &large.window, out)?;
                let content = out.part(at..)?;
                large.done += content.len() as u64;
                large.sum.write(content);
                if large.head.linked {
                    large.window.extend_from_slice(content);
                    large.window.drain(..large.window.len().saturating_sub(WINDOW));
                }
                Ok(())
            }
            Ok(Block::End { sum, .. }) => {
                let got = u32::try_from(large.sum.finish()).or_internal("a sum of 32 bits has more")?;
                large.head.end(large.done, sum, got)?;
                self.large = None;
                Ok(())
            }
            Err(_) => Err(Fault::truncated(0, "lz4 block")),
        }
    }
}
