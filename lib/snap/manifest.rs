//! The manifest while the backup runs: one line per member, outside of memory.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::io::spool::Spool;
use crate::stream::Writer;
use crate::stream::native::{Entry, MANIFEST, Tally, Trailer};

/// How many bytes of lines are kept in memory; a hundred thousand tables have thirty million.
const MEMORY: usize = 1 << 20;
/// Size of a chunk of the manifest in bytes.
const CHUNK: usize = 256 << 10;

/// The lines so far.
#[derive(Debug)]
pub(super) struct Manifest {
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    spool: Spool,
    tally: Tally,
    bytes: u64,
}

impl Manifest {
    /// Lines that do not fit into memory go to an unlinked file in `dir`.
    pub(super) fn new(dir: &Path) -> Self {
        let spool = Spool::new(MEMORY, dir, u64::MAX);
        Manifest { lines: Mutex::new(Lines { spool, tally: Tally::default(), bytes: 0 }) }
    }

    /// Adds the line of a complete member.
    pub(super) fn add(&self, entry: &Entry) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.tally.line(entry)?;
        lines.bytes = lines.bytes.saturating_add(entry.size);
        lines.spool.push(line.as_bytes())
    }

    /// The total size of all members in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// Writes the manifest, which is the last member.
    pub(super) fn send(&self, trailer: Trailer, out: &Writer<impl Write>) -> Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lines.tally.finish(trailer)?;
        lines.spool.push(last.as_bytes())?;
        out.spooled(MANIFEST, &mut lines.spool, &mut vec![0; CHUNK])
    }
}
