//! Passes on the stream of a server without InnoDB: it has no redo log, so it is only checked for completeness.

use bstr::ByteSlice;

use super::relay::Begun;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::report::Report;
use crate::stream::native::{BEGIN, EntryKind, Line, MANIFEST, Verdict, Verifier};
use crate::stream::{Body, Head, Members, Pass, Writer};

/// How many bytes of the manifest are read at a time.
const PIECE: usize = 64 << 10;

/// Moves everything from input to output.
pub(super) fn run(
    mut pass: Pass,
    writer: &Writer,
    begun: Begun,
    mut members: Members,
    report: &dyn Report,
) -> Result<()> {
    let Begun { raw, mut verifier } = begun;
    writer.put(&raw, &[])?;
    report.advance(raw.len() as u64);
    let mut size = 0;
    while let Some(head) = pass.next()? {
        verifier.chunk(pass.place(), &head)?;
        members.accept(pass.place(), &head)?;
        match (head.path.as_slice(), &head.body) {
            (MANIFEST, Body::Payload { .. }) => {
                size = manifest(&mut pass, writer, &mut verifier, members.count() + 1, size)?;
            }
            // It is passed on once everything is checked: without it the stream has no manifest.
            (MANIFEST, _) => drop(verifier.end(pass.place(), MANIFEST)?),
            (BEGIN, _) => return Err(twice(&pass, &head)),
            _ => pass.forward(|bytes| report.advance(bytes))?,
        }
    }
    members.finish(pass.place(), pass.position())?;
    match verifier.finish(pass.place(), pass.position())? {
        Verdict::Complete(..) => writer.end(MANIFEST),
        Verdict::Coded(_) | Verdict::Foreign => {
            Err(Error::damaged(pass.place(), "xb_manifest is compressed or encrypted")
                .hint("xb-redo stands right behind xb-snap"))
        }
    }
}

/// Reads the payload of the current chunk of the manifest and passes it on; `members` is the number of members so far,
/// `size` that of the manifest.
fn manifest(pass: &mut Pass, writer: &Writer, verifier: &mut Verifier, members: usize, mut size: u64) -> Result<u64> {
    let mut piece = vec![0; PIECE];
    loop {
        let got = pass.payload(&mut piece)?;
        if got == 0 {
            return Ok(size);
        }
        let bytes = piece.part(..got)?;
        verifier.payload(pass.place(), MANIFEST, bytes, members, |line, _| match line {
            Line::Entry(entry) if !matches!(entry.kind, EntryKind::File | EntryKind::Meta) => {
                let name = entry.path().unwrap_or_default();
                Err(Error::damaged(name.as_bstr(), "is of InnoDB, which the server does not have by xb_begin"))
            }
            Line::Entry(_) | Line::Trailer(_) => Ok(()),
        })?;
        writer.payload(MANIFEST, size, bytes)?;
        size += got as u64;
    }
}

fn twice(pass: &Pass, head: &Head) -> Error {
    let Head { path, at, .. } = head;
    let what = format_args!("{} comes a second time; are these two streams? (stream byte {at})", path.as_bstr());
    Error::damaged(pass.place(), what)
}
