//! Takes a stream apart, chunk by chunk, with bounded memory whatever a chunk announces.

use std::io::{self, Read};

use bstr::ByteSlice;

use super::chunk::{self, Extent, PAYLOAD_HEAD, PREFIX, SPARSE_HEAD, Span, Type};
use super::{foreign, name};
use crate::bytes::Part as _;
use crate::error::{Error, Internal, Result};

/// Bytes read ahead for the heads; payloads go past it.
const AHEAD: usize = 64 << 10;

/// One chunk's head. The bytes of its payload, if it has one, are taken with [`Reader::payload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The member's clean name.
    pub path: Vec<u8>,
    /// [`chunk::REWRITE`] and others; 0 in streams of ours.
    pub flags: u8,
    /// Where in the stream the chunk begins.
    pub at: u64,
    /// What the chunk does.
    pub body: Body,
}

impl Head {
    /// MariaDB's rewrite flag: open by truncating.
    pub fn rewrite(&self) -> bool {
        self.flags & chunk::REWRITE != 0
    }
}

/// What a chunk does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `len` bytes of the file from `offset` on.
    Payload {
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Bytes with holes between them.
    Sparse {
        /// Where in the file the first hole or byte is.
        offset: u64,
        /// Bytes of payload, the sum of the spans' lengths.
        len: u64,
        /// By how much the file grows, holes included.
        grown: u64,
        /// Holes and data in turn.
        map: Vec<Span>,
    },
    /// The file is complete.
    End,
    /// The next payload goes to this offset.
    Seek(u64),
    /// The file gets this name.
    Rename(Vec<u8>),
    /// The file goes away.
    Remove,
    /// An ignorable chunk of a type that we do not know; whoever takes the stream apart leaves it to the next call.
    Skipped,
}

/// Reads chunks from a descriptor.
///
/// Call [`Reader::next`] for a head, then [`Reader::payload`] until it returns 0; what is left of a payload is
/// skipped, and checked, by the next call of `next`. Every CRC is verified on the way.
pub struct Reader<R> {
    input: R,
    place: String,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Stream byte of `buffer[start]`.
    at: u64,
    /// The current chunk up to its payload, as it came.
    raw: Vec<u8>,
    pending: Option<Pending>,
}

/// A payload that is being taken.
struct Pending {
    left: u64,
    crc: crc32fast::Hasher,
    want: u32,
    path: Vec<u8>,
    chunk: u64,
}

impl Reader<std::fs::File> {
    /// True if nothing has been read ahead and nothing can be read at once. What cannot tell is not idle.
    pub(super) fn is_idle(&self) -> bool {
        self.start == self.end && rustix::io::ioctl_fionread(&self.input).is_ok_and(|bytes| bytes == 0)
    }
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which messages call `place` (`stdin`).
    pub fn new(input: R, place: &str) -> Self {
        Reader {
            input,
            place: place.to_owned(),
            buffer: vec![0; AHEAD].into(),
            start: 0,
            end: 0,
            at: 0,
            raw: Vec::new(),
            pending: None,
        }
    }

    /// The stream byte up to which everything has been taken.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// What messages call the input.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The next chunk's head; `None` at the end of the input, which is legal between chunks only.
    #[expect(
        clippy::should_implement_trait,
        reason = "a payload must be taken between two heads, which no iterator tells"
    )]
    pub fn next(&mut self) -> Result<Option<Head>> {
        self.skip_payload()?;
        self.raw.clear();
        let at = self.at;
        let Some(fixed) = self.take::<PREFIX>()? else { return Ok(None) };
        let prefix = chunk::prefix(&fixed).map_err(|fault| self.fault(at, &fault, &fixed))?;
        let raw = self.bytes(prefix.path_len, at)?;
        let path = self.clean(&raw, at)?;
        let body = match prefix.kind {
            Type::End => Body::End,
            Type::Remove => Body::Remove,
            Type::Rename => {
                let len = self.need::<4>(at, &path)?;
                let len = chunk::path_len(len).map_err(|fault| self.at_member(at, &path, &fault))?;
                let new = self.bytes(len, at)?;
                Body::Rename(self.clean(&new, at)?)
            }
            Type::Payload | Type::Unknown(_) => {
                let bytes = self.need::<PAYLOAD_HEAD>(at, &path)?;
                let extent = chunk::payload(&bytes).map_err(|fault| self.at_member(at, &path, &fault))?;
                self.pending = Some(Pending::new(&extent, crc32fast::Hasher::new(), &path, at));
                match prefix.kind {
                    Type::Payload => Body::Payload { offset: extent.offset, len: extent.len },
                    _ => Body::Skipped,
                }
            }
            Type::SparseOrSeek => self.sparse_or_seek(at, &path)?,
        };
        Ok(Some(Head { path, flags: prefix.flags, at, body }))
    }

    /// The current chunk up to its payload, bit for bit.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Bytes of the current chunk's payload; 0 when it is complete and its CRC was right.
    pub fn payload(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(mut pending) = self.pending.take() else { return Ok(0) };
        if pending.left == 0 {
            let got = pending.crc.finalize();
            if got != pending.want {
                let what = format!("damaged: CRC-32 is {got:08x}, the chunk says {:08x}", pending.want);
                return Err(self.at_member(pending.chunk, &pending.path, &what));
            }
            return Ok(0);
        }
        let want = usize::try_from(pending.left).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.part_mut(..want)?;
        let got = self.read(part)?;
        if got == 0 && want > 0 {
            return Err(self.cut_payload(&pending));
        }
        pending.crc.update(part.part(..got)?);
        pending.left = pending.left.saturating_sub(got as u64);
        self.pending = Some(pending);
        Ok(got)
    }

    /// Fills `buffer` with payload; a short count means that the payload is complete and its CRC was right.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.payload(rest)? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }

    /// Appends up to `most` bytes of payload to `out`; fewer mean that the payload is complete. Its CRC is checked with
    /// its last byte, so of a payload of up to `most` bytes nothing wrong is ever given.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, most: usize) -> Result<usize> {
        let Some(mut pending) = self.pending.take() else { return Ok(0) };
        let want = usize::try_from(pending.left).unwrap_or(usize::MAX).min(most);
        let before = out.len();
        out.reserve(want);
        let ahead = want.min(self.end - self.start);
        out.extend_from_slice(self.ahead()?.part(..ahead)?);
        self.start += ahead;
        let rest = (&mut self.input).take((want - ahead) as u64).read_to_end(out);
        rest.map_err(|cause| Error::io(&self.place, "cannot read", &cause))?;
        let part = out.part(before..)?;
        self.at += part.len() as u64;
        pending.left = pending.left.saturating_sub(part.len() as u64);
        if part.len() < want {
            return Err(self.cut_payload(&pending));
        }
        pending.crc.update(part);
        let ended = pending.left == 0;
        self.pending = Some(pending);
        if ended {
            self.payload(&mut [])?;
        }
        Ok(want)
    }

    /// The current chunk so far: its head and what has been read of its payload, of which none must have been taken.
    pub(super) fn begun(&mut self) -> Result<Vec<u8>, Internal> {
        let mut bytes = self.raw.clone();
        let have = self.end - self.start;
        if let Some(pending) = &mut self.pending {
            let count = usize::try_from(pending.left).map_or(have, |left| left.min(have));
            bytes.extend_from_slice(self.buffer.part(self.start..self.start + count)?);
            self.start += count;
            self.at += count as u64;
            pending.left -= count as u64;
        }
        Ok(bytes)
    }

    /// The rest of a chunk after [`Reader::begun`], not looked at and so without its CRC: `take` is called with the
    /// input and how many bytes are still to come, and says how many it took, 0 at the end of the input.
    pub(super) fn rest(&mut self, mut take: impl FnMut(&R, u64) -> Result<u64>) -> Result<()> {
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        while pending.left > 0 {
            let taken = take(&self.input, pending.left)?.min(pending.left);
            if taken == 0 {
                return Err(self.cut_payload(&pending));
            }
            self.at += taken;
            pending.left -= taken;
        }
        Ok(())
    }

    fn sparse_or_seek(&mut self, at: u64, path: &[u8]) -> Result<Body> {
        let ahead = self.peek(SPARSE_HEAD)?;
        if chunk::is_seek(ahead) {
            return Ok(Body::Seek(u64::from_le_bytes(self.need::<8>(at, path)?)));
        }
        let bytes = self.need::<SPARSE_HEAD>(at, path)?;
        let extent = chunk::sparse(&bytes).map_err(|fault| self.at_member(at, path, &fault))?;
        let map = self.bytes(extent.entries as usize * 8, at)?;
        let (spans, grown) = chunk::map(&map, &extent).map_err(|fault| self.at_member(at, path, &fault))?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&map);
        self.pending = Some(Pending::new(&extent, crc, path, at));
        Ok(Body::Sparse { offset: extent.offset, len: extent.len, grown, map: spans })
    }

    fn skip_payload(&mut self) -> Result<()> {
        if let Some(pending) = &self.pending {
            // Usually all has been taken, and only the CRC is left to check.
            let mut scratch = vec![0; if pending.left == 0 { 0 } else { AHEAD }];
            while self.payload(&mut scratch)? > 0 {}
        }
        Ok(())
    }

    /// Looks at up to `count` bytes without taking them; fewer at the end of the input.
    fn peek(&mut self, count: usize) -> Result<&[u8]> {
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            while self.end < count {
                let free = self.buffer.part_mut(self.end..)?;
                match retry(|| self.input.read(free)).map_err(|cause| Error::io(&self.place, "cannot read", &cause))? {
                    0 => break,
                    got => self.end += got,
                }
            }
        }
        let have = (self.end - self.start).min(count);
        Ok(self.ahead()?.part(..have)?)
    }

    /// Takes bytes of a head.
    fn consume(&mut self, count: usize) -> Result<(), Internal> {
        self.raw.extend_from_slice(self.buffer.part(self.start..self.end)?.part(..count)?);
        self.start += count;
        self.at += count as u64;
        Ok(())
    }

    /// What was read ahead and not taken.
    fn ahead(&self) -> Result<&[u8], Internal> {
        self.buffer.part(self.start..self.end)
    }

    /// `N` bytes, or `None` if the input has ended right here.
    fn take<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        let at = self.at;
        let ahead = self.peek(N)?;
        match ahead.first_chunk::<N>().copied() {
            Some(bytes) => {
                self.consume(N)?;
                Ok(Some(bytes))
            }
            None if ahead.is_empty() => Ok(None),
            None if chunk::MAGIC.iter().zip(ahead).any(|(magic, byte)| magic != byte) => {
                let bytes = ahead.to_vec();
                Err(self.fault(at, &chunk::Fault::Magic, &bytes))
            }
            None => Err(self.cut(at)),
        }
    }

    fn need<const N: usize>(&mut self, at: u64, path: &[u8]) -> Result<[u8; N]> {
        let bytes = self.peek(N)?.first_chunk::<N>().copied();
        let bytes = bytes
            .ok_or_else(|| self.at_member(at, path, &"truncated: the input ends in a chunk's head").hint(SENDER))?;
        self.consume(N)?;
        Ok(bytes)
    }

    /// `len` bytes of a head, checked by the caller to be few.
    fn bytes(&mut self, len: usize, at: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read(rest)? {
                0 => return Err(self.cut(at)),
                got => filled += got,
            }
        }
        self.raw.extend_from_slice(&bytes);
        Ok(bytes)
    }

    /// Bytes from what was read ahead, or straight from the input.
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let ahead = self.ahead()?;
        let got = if ahead.is_empty() {
            retry(|| self.input.read(into)).map_err(|cause| Error::io(&self.place, "cannot read", &cause))?
        } else {
            let count = ahead.len().min(into.len());
            into.part_mut(..count)?.copy_from_slice(ahead.part(..count)?);
            self.start += count;
            count
        };
        self.at += got as u64;
        Ok(got)
    }

    fn clean(&self, path: &[u8], at: u64) -> Result<Vec<u8>> {
        match name::clean(path) {
            Ok(clean) => Ok(clean.into_owned()),
            Err(fault) => Err(self.at_member(at, path, &format_args!("refused: {fault}"))),
        }
    }

    fn cut(&self, at: u64) -> Error {
        Error::damaged(&self.place, format_args!("truncated: the input ends in a chunk's head (stream byte {at})"))
            .hint(SENDER)
    }

    fn cut_payload(&self, pending: &Pending) -> Error {
        let what = format!("truncated: the input ends {} bytes before the end of a chunk", pending.left);
        self.at_member(pending.chunk, &pending.path, &what).hint(SENDER)
    }

    fn at_member(&self, at: u64, path: &[u8], what: &dyn std::fmt::Display) -> Error {
        Error::damaged(&self.place, format_args!("{}: {what} (stream byte {at})", path.as_bstr()))
    }

    /// A head that is none: at the very start of the input it may be another kind of file altogether.
    fn fault(&mut self, at: u64, fault: &chunk::Fault, bytes: &[u8]) -> Error {
        if at == 0 && *fault == chunk::Fault::Magic {
            let mut start = bytes.to_vec();
            start.extend_from_slice(self.peek(512).unwrap_or_default());
            let error = |what: &str| Error::damaged(&self.place, format_args!("not an xbstream: {what}"));
            return match foreign::recognise(&start) {
                Some(("text", how)) => error(&format!("it begins with text: {:?}", first_line(&start))).hint(how),
                Some((what, how)) => error(&format!("this is {what}")).hint(how),
                None => error("its first bytes are no chunk")
                    .hint("is this the whole file, in binary mode, and the right one?"),
            };
        }
        Error::damaged(&self.place, format_args!("damaged: {fault} (stream byte {at})"))
    }
}

impl Pending {
    fn new(extent: &Extent, crc: crc32fast::Hasher, path: &[u8], chunk: u64) -> Self {
        Pending { left: extent.len, crc, want: extent.crc, path: path.to_vec(), chunk }
    }
}

/// Advice for every kind of early end.
pub(crate) const SENDER: &str = "the sender stopped early; check its exit status (set -o pipefail)";

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.get(..line.len().min(60)).unwrap_or_default().as_bstr().to_string()
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
