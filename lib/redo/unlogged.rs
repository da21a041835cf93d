//! The stream of a server without InnoDB on its way through the filter: no log belongs to it, so it passes as it is, once it
//! is seen that it is whole.

use bstr::ByteSlice;

use super::relay::Begun;
use crate::error::{Error, Result};
use crate::report::Report;
use crate::stream::profile::{self, BEGIN, EntryKind, Line, MANIFEST, ManifestReader, Trailer};
use crate::stream::{Body, Head, Members, Pass, SENDER, Writer};

/// Bytes of the manifest that are read at a time.
const PIECE: usize = 64 << 10;

/// Moves everything from input to output.
pub(super) fn run(mut pass: Pass, writer: &Writer, begun: &Begun, report: &dyn Report) -> Result<()> {
    writer.put(&begun.raw, &[])?;
    report.advance(begun.raw.len() as u64);
    let mut manifest = Manifest { reader: ManifestReader::default(), trailer: None, size: 0 };
    let (mut closing, mut complete, mut members) = (false, false, Members::default());
    while let Some(head) = pass.next()? {
        if complete || closing && head.path != MANIFEST {
            return Err(refuse(&pass, &head, "stands behind xb_manifest, which is the last member"));
        }
        closing = head.path == MANIFEST;
        members.accept(pass.place(), &head)?;
        match (head.path.as_slice(), &head.body) {
            (MANIFEST, Body::Payload { .. }) => manifest.take(&mut pass, writer, members.count() + 1)?,
            (MANIFEST, Body::End) => complete = true,
            (MANIFEST, _) => return Err(refuse(&pass, &head, "is no plain member")),
            (BEGIN, _) => return Err(refuse(&pass, &head, "comes a second time; are these two streams?")),
            _ => pass.forward(|bytes| report.advance(bytes))?,
        }
    }
    if !complete {
        let what = format!("truncated: the stream ends without xb_manifest (stream byte {})", pass.position());
        return Err(Error::damaged(pass.place(), what).hint(SENDER));
    }
    members.finish(pass.place(), pass.position())?;
    manifest.finish(&begun.content)?;
    // Without its end mark it is no manifest.
    writer.end(MANIFEST)
}

struct Manifest {
    reader: ManifestReader,
    trailer: Option<Trailer>,
    size: u64,
}

impl Manifest {
    /// Reads the payload of the current chunk and hands it on; so many members have come.
    fn take(&mut self, pass: &mut Pass, writer: &Writer, members: usize) -> Result<()> {
        let Manifest { reader, trailer, size } = self;
        reader.expect(members);
        let mut piece = vec![0; PIECE];
        loop {
            let got = pass.payload(&mut piece)?;
            let bytes = piece.get(..got).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            reader.feed(bytes, |line, _| match line {
                Line::Entry(entry) if matches!(entry.kind, EntryKind::File | EntryKind::Meta) => Ok(()),
                Line::Entry(entry) => {
                    let name = entry.path().unwrap_or_default();
                    Err(Error::damaged(name.as_bstr(), "is of InnoDB, which the server does not have by xb_begin"))
                }
                Line::Trailer(last) => {
                    *trailer = Some(*last);
                    Ok(())
                }
            })?;
            writer.payload(MANIFEST, *size, bytes)?;
            *size += got as u64;
        }
    }

    fn finish(&self, begin: &[u8]) -> Result<()> {
        self.reader.finish()?;
        let missing = || Error::damaged("xb_manifest", "its last line is missing");
        profile::bind(begin, self.trailer.as_ref().ok_or_else(missing)?)
    }
}

fn refuse(pass: &Pass, head: &Head, what: &str) -> Error {
    let Head { path, at, .. } = head;
    Error::damaged(pass.place(), format_args!("{} {what} (stream byte {at})", path.as_bstr()))
}
