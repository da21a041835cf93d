//! Keeps `xb_manifest` until the redo log is complete, then sends it with the line of the log.

use std::path::Path;

use bstr::ByteSlice;

use super::tablespaces::{self, Present};
use crate::budget::Budget;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::Deletions;
use crate::io::spool::Spool;
use crate::log::ddl_watch::mariadb;
use crate::stream::native::{Entry, EntryKind, Line, MANIFEST, ManifestReader, Tally, Trailer, Verifier};
use crate::stream::{Pass, Writer};

/// How much of a manifest is kept in memory, in bytes; that of 100,000 members has 20 MB.
const MEMORY: usize = 1 << 20;
/// Size of its chunks in bytes.
const CHUNK: usize = 256 << 10;

/// The manifest received so far.
pub(super) struct ManifestBuffer {
    /// Its lines except the last.
    lines: Spool,
    tally: Tally,
    present: Present,
    buffer: Vec<u8>,
}

impl ManifestBuffer {
    /// Lines that do not fit into memory go to a file in `dir`; the list of its tablespaces counts against the budget.
    pub(super) fn new(dir: &Path, budget: &Budget) -> Self {
        ManifestBuffer {
            lines: Spool::new(MEMORY, dir, u64::MAX),
            tally: Tally::default(),
            present: Present::within(budget),
            buffer: vec![0; 64 << 10],
        }
    }

    /// Takes the payload of the current chunk; `members` is the number of members so far.
    pub(super) fn take(&mut self, pass: &mut Pass, members: usize, verifier: &mut Verifier) -> Result<()> {
        let ManifestBuffer { lines, tally, present, buffer } = self;
        loop {
            let got = pass.payload(buffer)?;
            if got == 0 {
                return Ok(());
            }
            let bytes = buffer.part(..got)?;
            verifier.payload(pass.place(), MANIFEST, bytes, members, |line, bytes| match line {
                Line::Entry(entry) if entry.kind == EntryKind::Redo => {
                    Err(Error::damaged("xb_manifest", "a redo log is in it already"))
                }
                Line::Entry(entry) => {
                    tally.add(entry, bytes);
                    present.add(entry)?;
                    lines.push(bytes)
                }
                Line::Trailer(_) => Ok(()),
            })?;
        }
    }

    /// Fails if the log deletes a tablespace of the backup before `end`: a server that recovers would skip all its log
    /// records. The manifest must not be sent then.
    pub(super) fn check(&mut self, deletions: &Deletions, end: Lsn) -> Result<()> {
        let Some(conflict) = self.present.conflict(deletions, end) else { return Ok(()) };
        let (mut reader, mut name) = (ManifestReader::default(), Vec::new());
        loop {
            let got = self.lines.pull(&mut self.buffer)?;
            if got == 0 {
                break;
            }
            reader.feed(self.buffer.part(..got)?, |line, _| {
                if let Line::Entry(entry) = line
                    && self.present.is(conflict, &entry)
                {
                    name = tablespaces::file(&entry.path().unwrap_or_default()).0;
                }
                Ok(())
            })?;
        }
        Err(mariadb::imported(name.as_bstr(), conflict.id, conflict.lsn, deletions))
    }

    /// Sends it with the line of the redo log, and with new counts and digest.
    pub(super) fn send(mut self, redo: &Entry, trailer: &Trailer, begin_blake3: String, writer: &Writer) -> Result<()> {
        let trailer = Trailer { begin_blake3: Some(begin_blake3), ..trailer.clone() };
        self.lines.push(self.tally.line(redo)?.as_bytes())?;
        self.lines.push(self.tally.finish(trailer)?.as_bytes())?;
        writer.spooled(MANIFEST, &mut self.lines, &mut vec![0; CHUNK])
    }
}
