//! Files into a stream.
//!
//! The names are gathered first (`plan`); then threads take one file each, read, sum and send it (`source`).
//! Unless told otherwise the stream begins with `xb_begin` and ends with `xb_manifest`, so that its reader can prove
//! it complete. A directory that xb-unpack made brings its own two and becomes the stream that it came from.

mod plan;
mod source;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bstr::ByteSlice;

use crate::bytes::Part as _;
use crate::codec::pool::{self, FirstError};
use crate::error::{Error, Result};
use crate::io::cache::{ALIGN, Aligned};
use crate::io::spool::Spool;
use crate::report::{Level, Report};
use crate::stream::Writer;
use crate::stream::native::{
    self, BEGIN, Begin, Entry, EntryKind, FORMAT, LINE_MAX, Line, MANIFEST, ManifestReader, Seen, StreamKind, Tally,
    Trailer,
};
use crate::stream::pick::Patterns;
pub use plan::List;
use plan::Plan;
use source::Source;

/// Least payload of a chunk that is not the last of its member.
pub const CHUNK_MIN: usize = 4 << 10;
/// Largest payload of a chunk, and what a thread reads at once.
pub const CHUNK_MAX: usize = 1 << 20;
/// Lines of the manifest that wait in memory; more go to an unlinked temporary file.
const LINES_IN_MEMORY: usize = 2 << 20;

/// What to pack, and how.
#[derive(Debug)]
pub struct Options {
    /// Names are relative to this directory.
    pub dir: PathBuf,
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// A list of more.
    pub list: Option<List>,
    /// What to leave out.
    pub exclude: Patterns,
    /// Whether the stream gets `xb_begin` and `xb_manifest`.
    pub manifest: bool,
    /// Files that are read at the same time, at least 1.
    pub threads: usize,
    /// Payload of a chunk, [`CHUNK_MIN`]..=[`CHUNK_MAX`]; each thread has a buffer of this size.
    pub chunk: usize,
    /// Where names and manifest lines wait that memory does not hold.
    pub spool_dir: PathBuf,
}

/// How the stream is framed.
enum Frame {
    /// By nothing: a plain stream.
    Plain,
    /// By members of our own; the manifest's lines wait in the spool.
    Own { backup_id: String, begin_blake3: String, tally: Box<Tally>, lines: Spool },
    /// By the files `xb_begin` and `xb_manifest` of the directory; the manifest must still be true.
    Kept { begin: Vec<u8>, seen: Seen },
    /// By its `xb_begin` and a manifest that is encrypted or compressed, which is held against the members when they are
    /// plain again.
    Coded { name: Vec<u8> },
}

struct Pack<'a, W> {
    dir: &'a Path,
    chunk: usize,
    frame: Mutex<Frame>,
    writer: Writer<W>,
    failure: FirstError,
    report: &'a dyn Report,
}

/// Writes the stream to `output`.
pub fn pack<W: Write + Send>(options: Options, output: W, report: &dyn Report) -> Result<()> {
    Spool::check(&options.spool_dir)?;
    let plan = Plan::gather(&options, report)?;
    report.expect(plan.bytes);
    let writer = Writer::new(output);
    let frame = begin(&options, &plan, &writer)?;
    let pack = Pack {
        dir: &options.dir,
        chunk: options.chunk.clamp(CHUNK_MIN, CHUNK_MAX),
        frame: Mutex::new(frame),
        writer,
        failure: FirstError::default(),
        report,
    };
    pack.members(plan, options.threads)?;
    pack.finish()
}

fn begin<W: Write>(options: &Options, plan: &Plan, writer: &Writer<W>) -> Result<Frame> {
    if let Some(manifest) = &plan.manifest {
        let path = options.dir.join("xb_begin");
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LINE_MAX as u64).read_to_end(&mut bytes));
        read.map_err(|cause| Error::io(path.display(), "cannot read", &cause))?;
        native::parse_begin(&path.display().to_string(), &bytes)?;
        writer.member(BEGIN, &bytes)?;
        return Ok(match manifest.as_slice() {
            MANIFEST => Frame::Kept { begin: bytes, seen: Seen::default() },
            name => Frame::Coded { name: name.to_vec() },
        });
    }
    if !options.manifest {
        return Ok(Frame::Plain);
    }
    let begin = Begin {
        filter: None,
        format: FORMAT,
        kind: StreamKind::Files,
        backup_id: native::backup_id()?,
        start_time: native::now(),
        program: concat!("xb-pack ", env!("CARGO_PKG_VERSION")).into(),
        estimated_bytes: plan.bytes,
        family: None,
        server_version: None,
        server_uuid: None,
        datadir: None,
        redo: None,
        without_innodb: false,
        base: None,
    };
    let bytes = native::begin_bytes(&begin)?;
    writer.member(BEGIN, &bytes)?;
    let lines = Spool::new(LINES_IN_MEMORY, &options.spool_dir, u64::MAX);
    Ok(Frame::Own {
        backup_id: begin.backup_id,
        begin_blake3: native::begin_digest(&bytes),
        tally: Box::default(),
        lines,
    })
}

impl<W: Write + Send> Pack<'_, W> {
    /// All files, in `threads` threads.
    fn members(&self, mut plan: Plan, threads: usize) -> Result<()> {
        let names = std::iter::from_fn(|| plan.next().transpose());
        pool::for_each(threads, &self.failure, names, || self.buffer(), |buffer, name| self.member(&name, buffer))
    }

    /// Room for a chunk.
    fn buffer(&self) -> Aligned {
        Aligned::new(self.chunk.next_multiple_of(ALIGN))
    }

    /// One file, from its first byte to its end mark.
    fn member(&self, name: &[u8], buffer: &mut Aligned) -> Result<()> {
        let framed = !matches!(*lock(&self.frame), Frame::Plain);
        let mut digest = blake3::Hasher::new();
        let mut source = Source::open(self.dir, name)?;
        self.report.stage(&name.as_bstr().to_string());
        while let Some((offset, data)) = source.next(buffer, self.chunk)? {
            if self.failure.is_set() {
                return Ok(());
            }
            if framed {
                digest.update(data);
            }
            self.writer.payload(name, offset, data)?;
            self.report.advance(data.len() as u64);
        }
        self.writer.end(name)?;
        self.report.note(Level::Detail, format_args!("{}", name.as_bstr()));
        match &mut *lock(&self.frame) {
            Frame::Plain | Frame::Coded { .. } => Ok(()),
            Frame::Own { tally, lines, .. } => {
                let entry = Entry::new(name, EntryKind::File, source.size(), &digest.finalize());
                lines.push(tally.line(&entry)?.as_bytes())
            }
            Frame::Kept { seen, .. } => seen.add(name, source.size(), &digest.finalize()),
        }
    }

    /// The manifest.
    fn finish(self) -> Result<()> {
        let mut buffer = self.buffer();
        let (writer, chunk) = (self.writer, self.chunk);
        match self.frame.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Frame::Plain => Ok(()),
            Frame::Own { backup_id, begin_blake3, tally, mut lines } => {
                lines.push(tally.finish(trailer(backup_id, begin_blake3))?.as_bytes())?;
                let buffer = buffer.as_mut().part_mut(..chunk)?;
                writer.spooled(MANIFEST, &mut lines, buffer)
            }
            Frame::Coded { name } => {
                let mut source = Source::open(self.dir, &name)?;
                while let Some((offset, data)) = source.next(&mut buffer, chunk)? {
                    writer.payload(&name, offset, data)?;
                }
                writer.end(&name)
            }
            Frame::Kept { begin, mut seen } => {
                let mut source = Source::open(self.dir, MANIFEST)?;
                let mut manifest = ManifestReader::default();
                let changed = |error: Error| {
                    error.hint("changed since it was unpacked? --exclude 'xb_*' packs it as plain files")
                };
                while let Some((offset, data)) = source.next(&mut buffer, chunk)? {
                    manifest.feed(data, |line, _| match line {
                        Line::Entry(entry) if entry.path().as_deref() != Some(BEGIN) => {
                            seen.check(&entry).map(drop).map_err(changed)
                        }
                        Line::Trailer(trailer) => native::bind(&begin, &trailer).map_err(changed),
                        Line::Entry(entry) => native::check_begin(&begin, &entry).map_err(changed),
                    })?;
                    writer.payload(MANIFEST, offset, data)?;
                }
                manifest.finish()?;
                seen.finish().map_err(changed)?;
                writer.end(MANIFEST)
            }
        }
    }
}

fn trailer(backup_id: String, begin_blake3: String) -> Trailer {
    Trailer {
        manifest: FORMAT,
        backup_id,
        begin_blake3: Some(begin_blake3),
        members: 0,
        bytes: 0,
        end_lsn: None,
        binlog: None,
        server_options: Default::default(),
        locks_ms: Default::default(),
        partial: false,
        left_out: Vec::new(),
        end_time: native::now(),
        blake3: String::new(),
    }
}

/// The path of a member below the directory that names are relative to.
fn below(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(std::ffi::OsStr::from_bytes(name))
}

/// What a thread leaves half-done when it panics is never finished: the panic fails the run.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
