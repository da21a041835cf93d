//! zstd frames (RFC 8878): written one by one, parsed without being decoded.
//!
//! ```text
//! frame   4 magic 28 b5 2f fd, head, blocks, 4 checksum if the head says so (low half of XXH64)
//! head    1 descriptor: 6-7 size of the content size, 5 single segment, 3 reserved, 2 checksum, 0-1 size of the
//!         dictionary id; window byte unless single segment; dictionary id; content size
//! block   3 little-endian: bit 0 last, 1-2 type (raw, run, compressed), 3-23 size; a run has one byte
//! skipped 4 magic 5x 2a 4d 18, 4 length, bytes
//! ```

use std::fmt;
use std::hash::Hasher;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use super::{Job, lower, shrinks};
use crate::budget::{Budget, Share};
use crate::bytes::Fields as _;
use crate::bytes::Part as _;
use crate::codec::{Cut, Fault, Flow, PIECE, Serial};
use crate::error::{Internal, OrInternal as _};

/// The first bytes of a frame.
pub const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest window that is decoded, as a power of two: 128 MiB, the limit of the zstd command.
pub const WINDOW_LOG_MAX: u32 = 27;
/// Memory of a decoder in addition to its window: its tables, and a block on either side.
const DECODER: u64 = 600 << 10;
/// The largest block in bytes.
const BLOCK: usize = 128 << 10;
/// The longest head of a frame, and of a skippable frame.
const HEAD_MAX: usize = 18;
/// How many bytes it makes sense to keep: a frame of [`PIECE`] incompressible bytes.
const FRAME_MAX: usize = PIECE + (PIECE >> 10) + 64;

/// True for a skippable frame; zstd and lz4 share the format.
pub fn is_skippable(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Writes frames.
pub struct Compressor {
    context: Option<CCtx<'static>>,
    level: i32,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compressor({})", self.level)
    }
}

impl Compressor {
    /// Level 1..=19.
    pub fn new(level: i32) -> Self {
        Compressor { context: Some(CCtx::create()), level }
    }

    /// A compressor that is never used.
    pub(super) fn idle() -> Self {
        Compressor { context: None, level: 0 }
    }

    /// Appends a frame, with content size and checksum, to `out`, which is empty.
    pub fn frame(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let context = self.context.as_mut().or_internal("a zstd context is not there")?;
        let mut compress = |content: &[u8], level, checksum, out: &mut Vec<u8>| {
            context.set_parameter(CParameter::CompressionLevel(level))?;
            context.set_parameter(CParameter::ChecksumFlag(checksum))?;
            out.clear();
            out.reserve(zstd_safe::compress_bound(content.len()));
            context.compress2(out, content)
        };
        if shrinks(content, |sample| compress(sample, 1, false, out).unwrap_or(0)) {
            compress(content, self.level, true, out)
                .map_err(|code| Fault::refused(0, lower(zstd_safe::get_error_name(code))))?;
        } else {
            stored(content, out)?;
        }
        Ok(())
    }
}

/// A frame of raw blocks, as a single segment, so that no window is needed.
fn stored(content: &[u8], out: &mut Vec<u8>) -> Result<(), Internal> {
    const LONG: &str = "a piece is longer than a frame can be";
    out.clear();
    out.reserve(content.len() + HEAD_MAX + 3 * (content.len() / BLOCK + 1) + 4);
    out.extend_from_slice(&MAGIC);
    // Content size of four bytes, single segment, checksum.
    out.push(0b1010_0100);
    out.extend_from_slice(&u32::try_from(content.len()).or_internal(LONG)?.to_le_bytes());
    let mut blocks = content.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let head = u32::try_from(block.len()).or_internal(LONG)? << 3 | u32::from(blocks.peek().is_none());
        out.extend_from_slice(&head.to_le_bytes().field::<0, 3>());
        out.extend_from_slice(block);
    }
    let mut sum = twox_hash::XxHash64::with_seed(0);
    sum.write(content);
    out.extend_from_slice(&sum.finish().to_le_bytes().field::<0, 4>());
    Ok(())
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Length of the head in bytes, including the magic.
    len: usize,
    content: Option<u64>,
    window: u64,
    checksum: bool,
}

/// Parses a head; `None` if more bytes are needed.
fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    if *magic != MAGIC {
        return Err(Fault::damaged(0, "no zstd frame begins here"));
    }
    let Some(descriptor) = rest.first() else { return Ok(None) };
    if descriptor & 0x08 != 0 {
        return Err(Fault::damaged(4, "zstd frame with a reserved bit set"));
    }
    let single = descriptor & 0x20 != 0;
    let window_len = usize::from(!single);
    let dictionary_len = match descriptor & 3 {
        3 => 4,
        len => usize::from(len),
    };
    let content_len = match (descriptor >> 6, single) {
        (0, false) => 0,
        (power, _) => 1usize << power,
    };
    let len = 5 + window_len + dictionary_len + content_len;
    let Some(fields) = bytes.get(5..len) else { return Ok(None) };
    let (window_byte, fields) = fields.split_at(window_len);
    let (dictionary, content) = fields.split_at(dictionary_len);
    if dictionary.iter().any(|byte| *byte != 0) {
        return Err(Fault::refused(5, "zstd frame that needs a dictionary"));
    }
    let mut eight = [0; 8];
    eight.iter_mut().zip(content).for_each(|(to, from)| *to = *from);
    // A size of two bytes counts from 256.
    let size = u64::from_le_bytes(eight) + if content_len == 2 { 256 } else { 0 };
    let content = (content_len > 0).then_some(size);
    let window = match window_byte.first() {
        Some(byte) => {
            let base = 1u64 << (10 + (byte >> 3));
            base + base / 8 * u64::from(byte & 7)
        }
        None => size,
    };
    if !single && window > 1 << WINDOW_LOG_MAX {
        let what = format_args!("zstd frame with a window of {window} bytes; {} is the limit", 1u64 << WINDOW_LOG_MAX);
        return Err(Fault::refused(5, what));
    }
    Ok(Some(Head { len, content, window, checksum: descriptor & 0x04 != 0 }))
}

/// Finds the frames of a member.
pub struct Frames {
    budget: Budget,
    /// How many of the waiting bytes have been parsed.
    seen: usize,
    /// How many of them are whole frames, and the largest size of their content.
    whole: usize,
    content: usize,
    /// The frame at `seen`.
    frame: Option<Frame>,
    /// How many bytes are still to be skipped.
    skip: u64,
    /// Decodes a frame that is too large to be kept in memory.
    decoder: Option<Decoder>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    head: Head,
    /// The largest content of its blocks.
    content: usize,
}

struct Decoder {
    context: DCtx<'static>,
    memory: Share,
    /// In the middle of a frame.
    busy: bool,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({} of {})", self.whole, self.seen)
    }
}

impl Frames {
    /// For a new member. The decoder's memory is taken from the budget.
    pub fn new(budget: &Budget) -> Self {
        Frames { budget: budget.clone(), seen: 0, whole: 0, content: 0, frame: None, skip: 0, decoder: None }
    }

    /// See [`crate::codec::Codec::cut`].
    pub fn cut(&mut self, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        if self.skip > 0 || self.decoder.as_ref().is_some_and(|decoder| decoder.busy) {
            return match (waiting.is_empty(), flow) {
                (false, _) => Ok(Cut::Serial(waiting.len())),
                (true, Flow::Last) => Err(Fault::truncated(0, "the member ends in a zstd frame")),
                (true, _) => Ok(Cut::More(PIECE)),
            };
        }
        let fits = self.walk(waiting)?;
        if self.whole > 0 {
            let len = std::mem::take(&mut self.whole);
            self.seen -= len;
            return Ok(Cut::Piece { len, job: Job::Zstd(std::mem::take(&mut self.content)) });
        }
        if !fits {
            // From its start; the decoder finds the end.
            self.frame = None;
            self.seen = 0;
            if self.skip == 0 {
                let window = head(waiting)?.map_or(0, |head| head.window.min(1 << WINDOW_LOG_MAX));
                self.decoder(window)?.busy = true;
            }
            return Ok(Cut::Serial(waiting.len()));
        }
        match flow {
            Flow::Last if !waiting.is_empty() => Err(Fault::truncated(0, "the member ends in a zstd frame")),
            _ => Ok(Cut::More(FRAME_MAX)),
        }
    }

    /// Parses the waiting bytes, up to a piece of whole frames. False if a frame is too large to be kept in memory.
    fn walk(&mut self, waiting: &[u8]) -> Result<bool, Fault> {
        loop {
            let rest = waiting.part(self.seen..)?;
            let Some(frame) = &mut self.frame else {
                if rest.is_empty() || self.content >= PIECE {
                    return Ok(true);
                }
                if is_skippable(rest) {
                    let Some(len) = rest.get(4..8).and_then(|len| len.first_chunk()) else { return Ok(true) };
                    if self.whole == 0 {
                        self.skip = 8 + u64::from(u32::from_le_bytes(*len));
                        return Ok(false);
                    }
                    return Ok(true);
                }
                let Some(head) = head(rest).map_err(|fault| fault.shifted(self.seen))? else { return Ok(true) };
                if head.content.is_some_and(|content| content > PIECE as u64) {
                    return Ok(false);
                }
                self.seen += head.len;
                self.frame = Some(Frame { head, content: 0 });
                continue;
            };
            let Some([b0, b1, b2]) = rest.first_chunk::<3>() else { return Ok(true) };
            let block = u32::from_le_bytes([*b0, *b1, *b2, 0]);
            let (last, kind, size) = (block & 1 != 0, block >> 1 & 3, (block >> 3) as usize);
            if kind == 3 || size > BLOCK {
                return Err(Fault::damaged(self.seen, "no zstd block begins here"));
            }
            let content = if kind == 2 { usize::try_from(frame.head.window).unwrap_or(BLOCK).min(BLOCK) } else { size };
            let end =
                self.seen + 3 + if kind == 1 { 1 } else { size } + if last && frame.head.checksum { 4 } else { 0 };
            frame.content += content;
            if frame.head.content.is_none() && frame.content > PIECE || end - self.whole > FRAME_MAX {
                return Ok(false);
            }
            if waiting.len() < end {
                // This block will be parsed again.
                frame.content -= content;
                return Ok(true);
            }
            self.seen = end;
            if last {
                let declared = frame.head.content.map(|content| usize::try_from(content).unwrap_or(usize::MAX));
                self.content = self.content.saturating_add(declared.unwrap_or(frame.content));
                self.whole = end;
                self.frame = None;
            }
        }
    }

    /// A decoder for frames with this window.
    fn decoder(&mut self, window: u64) -> Result<&mut Decoder, Fault> {
        if self.decoder.is_none() {
            let mut memory = self.budget.share();
            memory.set(DECODER)?;
            self.decoder = Some(Decoder { context: context()?, memory, busy: false });
        }
        let decoder = self.decoder.as_mut().ok_or_else(|| Fault::refused(0, "no memory for a zstd decoder"))?;
        decoder.memory.grow(DECODER.saturating_add(window))?;
        Ok(decoder)
    }

    /// See [`crate::codec::Codec::serial`].
    pub fn serial(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Serial, Fault> {
        if self.skip > 0 {
            let taken = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= taken as u64;
            return Ok(Serial { taken, again: false });
        }
        let decoder = self.decoder(0)?;
        out.reserve(PIECE);
        let (ended, taken, filled) = step(&mut decoder.context, bytes, out)?;
        decoder.busy = !ended;
        Ok(Serial { taken, again: filled && !ended })
    }
}

/// Decodes into the free space of `out`; returns whether a frame ended, how many bytes were taken, and whether `out` is
/// full.
fn step(context: &mut DCtx<'static>, bytes: &[u8], out: &mut Vec<u8>) -> Result<(bool, usize, bool), Fault> {
    let mut input = InBuffer::around(bytes);
    let at = out.len();
    let mut output = OutBuffer::around_pos(out, at);
    loop {
        let before = (input.pos(), output.pos());
        let left = context
            .decompress_stream(&mut output, &mut input)
            .map_err(|code| Fault::damaged(input.pos(), lower(zstd_safe::get_error_name(code))))?;
        let full = output.pos() == output.capacity();
        if left == 0 || full || input.pos() == bytes.len() || (input.pos(), output.pos()) == before {
            return Ok((left == 0, input.pos(), full));
        }
    }
}

fn context() -> Result<DCtx<'static>, Fault> {
    let mut context = DCtx::create();
    let limited = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX));
    limited.map_err(|code| Fault::refused(0, lower(zstd_safe::get_error_name(code))))?;
    Ok(context)
}

/// Decodes whole frames.
#[derive(Default)]
pub struct Decompressor {
    context: Option<DCtx<'static>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Decompressor {
    /// Appends the content of whole frames, at most `content` bytes.
    pub(super) fn frames(&mut self, bytes: &[u8], content: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut context = match self.context.take() {
            Some(context) => context,
            None => context()?,
        };
        // One more byte, so that an excess is noticed.
        out.reserve(content + 1);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (ended, taken, _) = step(&mut context, rest, out).map_err(|fault| fault.shifted(at))?;
            if !ended {
                return Err(Fault::damaged(at, "zstd frame with more content than it says"));
            }
            at += taken;
        }
        self.context = Some(context);
        Ok(())
    }
}
