//! Compression of members, and decompression of all formats that backup programs write.
//!
//! [`Zip`] writes independent frames with at most [`PIECE`] bytes of content, so that both directions can work in
//! parallel and any other program can read them. [`Unzip`] recognizes a member's format by its first bytes: zstd, lz4
//! and qpress archives of quicklz. Foreign frames may be too large to be kept in memory; those go through one decoder
//! as they arrive.

pub mod lz4;
pub mod qpress;
pub mod zstd;

use bstr::ByteSlice;

use crate::budget::Budget;
use crate::codec::{Choice, Codec, Cut, Fault, Flow, PIECE, Serial};
use crate::crypt::{seal, xbcrypt};
use crate::io::nice;
use crate::metadata::CHECKPOINTS;
use crate::stream::native::{MANIFEST, MARK, PAGES, SUFFIXES};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Level 1..=19.
    Zstd(i32),
    /// Has no levels.
    Lz4,
}

/// Compresses.
#[derive(Clone, Copy, Debug)]
pub struct Zip {
    /// The output format.
    pub algorithm: Algorithm,
    /// The largest content of a frame in bytes, at most [`PIECE`].
    pub frame: usize,
}

/// Decompresses.
#[derive(Clone, Debug, Default)]
pub struct Unzip {
    budget: Budget,
}

impl Unzip {
    /// Takes the memory of decoders from a budget.
    pub fn within(budget: &Budget) -> Self {
        Unzip { budget: budget.clone() }
    }

    fn zstd(&self) -> Packed {
        Packed::Zstd(Box::new(zstd::Frames::new(&self.budget)))
    }

    fn recognise(&self, start: &[u8]) -> Option<Packed> {
        Some(match start {
            _ if start.starts_with(&zstd::MAGIC) => self.zstd(),
            _ if start.starts_with(&lz4::MAGIC) => Packed::Lz4(Box::default()),
            _ if start.starts_with(&qpress::MAGIC) => Packed::Qpress(Box::default()),
            _ => return None,
        })
    }
}

/// True for members that stay uncompressed, as in the original programs (`xtrabackup.cc`), and for marks, which xb-redo
/// reads.
pub(crate) fn stays_plain(path: &[u8]) -> bool {
    // Digests cannot be compressed, and this stream may be the base of the next increment.
    let named = CHECKPOINTS.iter().any(|name| name.as_bytes() == path);
    named || [MANIFEST, PAGES].contains(&path) || path.ends_with(b".meta") || path.starts_with(MARK)
}

/// True if a member is compressed or encrypted already, by its name and by its first bytes.
fn is_coded(path: &[u8], start: &[u8]) -> bool {
    let magics: [&[u8]; 5] = [&zstd::MAGIC, &lz4::MAGIC, &qpress::MAGIC, b"XBSEAL", b"XBCRYP"];
    SUFFIXES.iter().any(|suffix| path.ends_with(suffix)) && magics.iter().any(|magic| start.starts_with(magic))
}

impl Codec for Zip {
    /// True once a piece has been cut.
    type Member = bool;
    type Job = ();
    type Worker = zstd::Compressor;
    const CUTS_ANYWHERE: bool = true;

    fn name(&self, path: &[u8]) -> Vec<u8> {
        let suffix: &[u8] = match self.algorithm {
            Algorithm::Zstd(_) => b".zst",
            Algorithm::Lz4 => b".lz4",
        };
        [path, suffix].concat()
    }

    fn choose(&self, path: &[u8], start: &[u8]) -> Result<Choice<bool>, Fault> {
        Ok(if stays_plain(path) || is_coded(path, start) { Choice::Pass } else { Choice::Code(false) })
    }

    fn whole(&self, _: &[u8]) -> Result<bool, Fault> {
        Ok(false)
    }

    fn cut(&self, begun: &mut bool, waiting: &[u8], flow: Flow) -> Result<Cut<()>, Fault> {
        let full = waiting.len() >= self.frame;
        let rest = flow != Flow::Open && !waiting.is_empty();
        // An empty member becomes an empty frame: zstd -d accepts no file without a frame.
        let empty = flow == Flow::Last && !*begun;
        if !(full || rest || empty) {
            return Ok(Cut::More(self.frame));
        }
        *begun = true;
        Ok(Cut::Piece { len: waiting.len().min(self.frame), job: () })
    }

    fn serial(&self, _: &mut bool, bytes: &[u8], _: &mut Vec<u8>) -> Result<Serial, Fault> {
        Ok(Serial { taken: bytes.len(), again: false })
    }

    fn worker(&self) -> zstd::Compressor {
        nice::step_back();
        match self.algorithm {
            Algorithm::Zstd(level) => zstd::Compressor::new(level),
            Algorithm::Lz4 => zstd::Compressor::idle(),
        }
    }

    fn work(&self, worker: &mut zstd::Compressor, (): (), piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.algorithm {
            Algorithm::Zstd(_) => worker.frame(piece, out),
            Algorithm::Lz4 => lz4::frame(piece, out),
        }
    }
}

/// The state of a member that is being decompressed.
#[derive(Debug)]
pub enum Packed {
    /// An empty member with the name of a compressed one: the original programs write this for an empty file.
    Empty,
    /// Frames of zstd.
    Zstd(Box<zstd::Frames>),
    /// Frames of lz4.
    Lz4(Box<lz4::Frames>),
    /// An archive with one file.
    Qpress(Box<qpress::Archive>),
}

/// What a worker needs to know of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Whole frames with at most this many bytes of content.
    Zstd(usize),
    /// Whole frames.
    Lz4,
    /// Whole blocks.
    Qpress,
}

/// The hint for encrypted input.
const DECRYPT: &str = "put xb-crypt -d before xb-zip -d";

/// The error for a member that has the name of a compressed one and is not.
fn not_compressed(path: &[u8], start: &[u8]) -> Fault {
    if start.starts_with(b"XBSEAL") || start.starts_with(xbcrypt::MAGIC) {
        return Fault { hint: Some(DECRYPT), ..Fault::damaged(0, "encrypted, though its name does not say so") };
    }
    let suffix = NAMES.iter().find(|suffix| path.ends_with(suffix)).copied().unwrap_or_default();
    if start.len() < 4 {
        return Fault::truncated(start.len(), format_args!("named {}, and ends in its first bytes", suffix.as_bstr()));
    }
    Fault::damaged(
        0,
        format_args!("named {}, and neither zstd nor lz4 nor a qpress archive begins here", suffix.as_bstr()),
    )
}

const NAMES: [&[u8]; 3] = [b".zst", b".lz4", b".qp"];

impl Codec for Unzip {
    type Member = Packed;
    type Job = Job;
    type Worker = zstd::Decompressor;
    const CUTS_ANYWHERE: bool = false;

    fn name(&self, path: &[u8]) -> Vec<u8> {
        NAMES.iter().find_map(|suffix| path.strip_suffix(*suffix)).unwrap_or(path).to_vec()
    }

    fn choose(&self, path: &[u8], start: &[u8]) -> Result<Choice<Packed>, Fault> {
        if let Some(name) = path.strip_suffix(seal::SUFFIX).or_else(|| path.strip_suffix(xbcrypt::SUFFIX))
            && NAMES.iter().any(|suffix| name.ends_with(suffix))
        {
            return Err(Fault { hint: Some(DECRYPT), ..Fault::damaged(0, "encrypted after it was compressed") });
        }
        if self.name(path).len() == path.len() || self.name(path).ends_with(b"/") || self.name(path).is_empty() {
            return Ok(Choice::Pass);
        }
        let packed = match start {
            [] if path.ends_with(b".zst") || path.ends_with(b".lz4") => Some(Packed::Empty),
            _ if zstd::is_skippable(start) && path.ends_with(b".zst") => Some(self.zstd()),
            _ if zstd::is_skippable(start) && path.ends_with(b".lz4") => Some(Packed::Lz4(Box::default())),
            _ => self.recognise(start),
        };
        packed.map(Choice::Code).ok_or_else(|| not_compressed(path, start))
    }

    fn whole(&self, start: &[u8]) -> Result<Packed, Fault> {
        let what = "neither zstd nor lz4 nor a qpress archive";
        match self.recognise(start) {
            Some(packed) => Ok(packed),
            None if zstd::is_skippable(start) => Ok(self.zstd()),
            None if start.is_empty() => Err(Fault::truncated(0, "no bytes arrived")),
            None if start.starts_with(b"XBSTCK01") => Err(Fault {
                hint: Some("this is an xbstream: leave --raw out"),
                ..Fault::damaged(0, format_args!("not compressed as a whole: {what}"))
            }),
            None => Err(Fault::damaged(0, format_args!("not compressed: {what}"))),
        }
    }

    fn cut(&self, member: &mut Packed, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        match member {
            Packed::Empty => Ok(Cut::More(1)),
            Packed::Zstd(frames) => frames.cut(waiting, flow),
            Packed::Lz4(frames) => frames.cut(waiting, flow),
            Packed::Qpress(archive) => archive.cut(waiting, flow),
        }
    }

    fn serial(&self, member: &mut Packed, bytes: &[u8], out: &mut Vec<u8>) -> Result<Serial, Fault> {
        let done = Ok(Serial { taken: bytes.len(), again: false });
        match member {
            Packed::Empty => done,
            Packed::Zstd(frames) => frames.serial(bytes, out),
            Packed::Lz4(frames) => frames.serial(bytes, out).and(done),
            Packed::Qpress(archive) => archive.serial(bytes, out).and(done),
        }
    }

    fn worker(&self) -> zstd::Decompressor {
        zstd::Decompressor::default()
    }

    fn work(&self, worker: &mut zstd::Decompressor, job: Job, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match job {
            Job::Zstd(content) => worker.frames(piece, content, out),
            Job::Lz4 => lz4::frames(piece, out),
            Job::Qpress => qpress::blocks(piece, out),
        }
    }
}

/// Decides from a few samples whether content is worth compressing; short content always is.
///
/// If the bytes are not equally frequent, it can be compressed; this check costs next to nothing. Otherwise whole pages
/// of the usual size are compressed as a test: the free space at their ends may be all that shrinks.
fn shrinks(content: &[u8], mut compressed: impl FnMut(&[u8]) -> usize) -> bool {
    if content.len() < 256 << 10 {
        return true;
    }
    let sample = places(content, 8, 4 << 10);
    let mut counts = [0usize; 256];
    for byte in &sample {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    // For random bytes the sum of squares is n^2 / 256 + n, a little less than 1.01 n^2 / 256.
    let squares: usize = counts.iter().map(|count| count * count).sum();
    if squares * 256 > sample.len() * sample.len() / 4 * 5 {
        return true;
    }
    let sample = places(content, 4, 16 << 10);
    compressed(&sample) < sample.len() - sample.len() / 64
}

/// `count` samples of `len` bytes, the first one at the start and the last one at the end.
fn places(content: &[u8], count: usize, len: usize) -> Vec<u8> {
    let step = content.len().saturating_sub(len) / (count - 1).max(1);
    (0..count).filter_map(|place| content.get(place * step..)?.get(..len)).flatten().copied().collect()
}

/// The text of a library's error in lower case: `Data corruption detected` becomes `data corruption detected`.
fn lower(text: &str) -> String {
    let mut letters = text.as_bytes().to_vec();
    if let Some(first) = letters.first_mut() {
        first.make_ascii_lowercase();
    }
    letters.as_bstr().to_string()
}

const _: () = assert!(PIECE <= 1 << 20, "lz4::frame announces blocks that are no larger");
