//! What the targets of compressed formats have in common.

use std::io::{Error, ErrorKind, Result, Write};

use xb::opaque::rewrite;
use xb::zip::Unzip;

/// Takes so many bytes, then fails: a bomb must not take all time.
struct Bounded(Vec<u8>);

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

/// Decodes by the command's way, and as a member of a stream whose chunks are small.
pub fn agree(bytes: &[u8]) {
    let mut whole = Bounded(Vec::new());
    let first = rewrite(&Unzip, bytes, &mut whole, 1, &());
    let mut stream = Vec::new();
    for (n, part) in bytes.chunks(7).enumerate() {
        xb::stream::chunk::put_payload(&mut stream, 0, b"x.zst", 7 * n as u64, part);
        stream.extend_from_slice(part);
    }
    xb::stream::chunk::put_prefix(&mut stream, 0, b'E', b"x.zst");
    let mut parts = Bounded(Vec::new());
    let second = xb::stream::map::rewrite(&Unzip, stream.as_slice(), &mut parts, &xb::stream::map::Options::new(1), &());
    if let (Ok(()), Ok(()), false) = (first, second, bytes.len() < 16) {
        let mut reader = xb::stream::Reader::new(parts.0.as_slice(), "x");
        let mut content = Vec::new();
        let mut name = Vec::new();
        while let Ok(Some(head)) = reader.next() {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(got @ 1..) = reader.fill(&mut buffer) {
                content.extend_from_slice(&buffer[..got]);
            }
            name = head.path;
        }
        if name == b"x" {
            assert!(content == whole.0, "chunks change the content");
        }
    }
}

