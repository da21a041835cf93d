//! What several targets have in common.
#![allow(dead_code, reason = "no target uses all of it")]

use std::io::{Error, ErrorKind, Result, Write};

use xb::codec::Codec;
use xb::codec::members;
use xb::codec::whole_input;
use xb::stream::Reader;
use xb::stream::chunk::{self, PAYLOAD_HEAD, PREFIX, Type};

/// Takes so many bytes, then fails: a bomb must not take all time.
pub struct Bounded(pub Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.0.len() + bytes.len() > 64 << 20 {
            return Err(Error::from(ErrorKind::StorageFull));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A member of a stream, in chunks of so many bytes.
pub fn member(name: &[u8], content: &[u8], most: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for (n, part) in content.chunks(most).enumerate() {
        chunk::put_payload(&mut stream, 0, name, (most * n) as u64, part);
        stream.extend_from_slice(part);
    }
    chunk::put_prefix(&mut stream, 0, b'E', name);
    stream
}

/// The last member of a stream, and its content, as far as it goes.
pub fn last_member(stream: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut reader = Reader::new(stream, "x");
    let (mut name, mut content) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 1 << 16];
    while let Ok(Some(head)) = reader.next() {
        while let Ok(got @ 1..) = reader.fill(&mut buffer) {
            content.extend_from_slice(&buffer[..got]);
        }
        name = head.path;
    }
    (name, content)
}

/// Decodes by the command's way, and as a member of a stream whose chunks are small: what goes well both ways is the
/// same. `name` has the suffix, `plain` is without it.
pub fn agree(codec: &impl Codec, name: &[u8], plain: &[u8], bytes: &[u8]) {
    let mut whole = Bounded(Vec::new());
    let first = whole_input::rewrite(codec, bytes, &mut whole, 1, &());
    let mut parts = Bounded(Vec::new());
    let stream = member(name, bytes, 7.max(bytes.len() / 50));
    let second = members::rewrite(codec, stream.as_slice(), &mut parts, &members::Options::new(1), &());
    if first.is_ok() && second.is_ok() && bytes.len() >= 16 {
        let (name, content) = last_member(&parts.0);
        assert!(name != plain || content == whole.0, "chunks change the content");
    }
}

/// Makes the checksums of all whole chunks right, so that what is behind them is reached.
pub fn mend(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = stream.get(at..).and_then(|rest| rest.first_chunk::<PREFIX>()) {
        let Ok(prefix) = chunk::prefix(head) else { return };
        at += PREFIX + prefix.path_len;
        let after = stream.get(at..).unwrap_or_default();
        let (head, len, map) = match prefix.kind {
            Type::Payload | Type::Unknown(_) => {
                let Some(Ok(extent)) = after.first_chunk().map(chunk::payload) else { return };
                (PAYLOAD_HEAD, extent.len, 0)
            }
            Type::SparseOrSeek if chunk::is_seek(after) => (0, 8, 0),
            Type::SparseOrSeek => {
                let Some(Ok(extent)) = after.first_chunk().map(chunk::sparse) else { return };
                (chunk::SPARSE_HEAD, extent.len, 8 * extent.entries as usize)
            }
            Type::Rename => (4, after.first_chunk().map_or(0, |len| u32::from_le_bytes(*len).into()), 0),
            Type::Remove | Type::End => (0, 0, 0),
        };
        let Some(end) = usize::try_from(len).ok().and_then(|len| (at + head + map).checked_add(len)) else { return };
        if head > 4 && end <= stream.len() {
            let sum = crc32fast::hash(&stream[at + head..end]);
            stream[at + head - 4..at + head].copy_from_slice(&sum.to_le_bytes());
        }
        at = end;
    }
}
