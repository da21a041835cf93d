//! `xb_manifest`, held back until the redo log is complete, and sent with one line more.

use std::path::Path;

use crate::error::{Error, Result};
use crate::io::spool::Spool;
use crate::stream::profile::{Entry, EntryKind, Line, MANIFEST, ManifestReader, Tally, Trailer};
use crate::stream::{Pass, Writer};

/// Of a manifest so much stays in memory; that of 100,000 members has 20 MB.
const MEMORY: usize = 1 << 20;
/// Bytes of a chunk of it.
const CHUNK: usize = 256 << 10;

/// The manifest as far as it has come.
pub(super) struct Held {
    reader: ManifestReader,
    /// Its lines but for the last.
    lines: Spool,
    tally: Tally,
    trailer: Option<Trailer>,
    buffer: Vec<u8>,
}

impl Held {
    pub(super) fn new(dir: &Path) -> Self {
        Held {
            reader: ManifestReader::default(),
            lines: Spool::new(MEMORY, dir, u64::MAX),
            tally: Tally::default(),
            trailer: None,
            buffer: vec![0; 64 << 10],
        }
    }

    /// Takes the payload of the current chunk; so many members have come.
    pub(super) fn take(&mut self, pass: &mut Pass, members: usize) -> Result<()> {
        let Held { reader, lines, tally, trailer, buffer } = self;
        reader.expect(members);
        loop {
            let got = pass.payload(buffer)?;
            if got == 0 {
                return Ok(());
            }
            reader.feed(buffer.get(..got).unwrap_or_default(), |line, bytes| match line {
                Line::Entry(entry) if entry.kind == EntryKind::Redo => {
                    Err(Error::damaged("xb_manifest", "a redo log is in it already"))
                }
                Line::Entry(entry) => {
                    tally.add(&entry, bytes);
                    lines.push(bytes)
                }
                Line::Trailer(last) => {
                    *trailer = Some(*last);
                    Ok(())
                }
            })?;
        }
    }

    /// The last line, when the manifest is complete and right.
    pub(super) fn trailer(&self) -> Result<&Trailer> {
        self.reader.finish()?;
        self.trailer.as_ref().ok_or_else(|| Error::damaged("xb_manifest", "its last line is missing"))
    }

    /// Sends it with the line of the redo log, counts and digest made anew.
    pub(super) fn send(mut self, redo: &Entry, writer: &Writer) -> Result<()> {
        let trailer = self.trailer()?.clone();
        self.lines.push(self.tally.line(redo).as_bytes())?;
        self.lines.push(self.tally.finish(trailer).as_bytes())?;
        writer.spooled(MANIFEST, &mut self.lines, &mut vec![0; CHUNK])
    }
}
