//! Rewrites the members of a stream: compression, encryption, and the reverse.
//!
//! One thread parses the stream, collects the bytes of each member and cuts them into pieces; others rewrite the
//! pieces; one writes the results, in the order of the pieces, under the members' new names ([`crate::codec::pool`]).
//! The output depends on the input alone, not on time or threads.
//!
//! However many members are interleaved, at most [`Options::memory`] bytes wait to be cut, if the codec can cut
//! anywhere: without room, the members that have waited longest are cut. A codec that reads foreign frames must keep as
//! much as it needs.
//!
//! `xb_begin` is passed on unchanged and at once. The end of `xb_manifest` is written only after the input has ended
//! without error, so that a failed run leaves a truncated stream. MariaDB's chunks are passed on with the new names.
//! Holes and seeks of a rewritten member become zeros; a backward seek is refused.

mod source;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bstr::ByteSlice;

use crate::budget::Budget;
use crate::codec::pool::{self, Buffers};
use crate::codec::splitter::{self, Part};
use crate::codec::{Codec, Fault, PIECE};
use crate::error::{Error, Result};
use crate::report::Report;
use crate::stream::holes::Holes;
use crate::stream::{Writer, chunk};
use source::Source;

/// Options for rewriting a stream.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of threads that rewrite, at least 1; with 1 everything runs in the calling thread.
    pub threads: usize,
    /// How many bytes may wait in open members, if the codec can cut anywhere; at least two pieces.
    pub memory: usize,
    /// Whether an empty input counts as a stream without members.
    pub allow_empty: bool,
    /// Memory for names and open members, except what `memory` limits.
    pub budget: Budget,
    /// How many bytes of zeros holes may become, in addition to [`Holes::RATIO`] times the content.
    pub holes: u64,
}

impl Options {
    /// The smallest useful memory.
    pub fn new(threads: usize) -> Self {
        Options { threads, memory: 8 * PIECE, allow_empty: false, budget: Budget::default(), holes: Holes::LIMIT }
    }
}

/// Reads a stream to its end, and writes it with its members rewritten.
///
/// # Errors
///
/// Damaged, if the stream is; Pipe, if the reader of the output ended; Failed for other errors of input and output; and
/// the kinds of the codec's faults. After an error, a stream of ours lacks the end of its manifest.
pub fn rewrite<C: Codec>(
    codec: &C,
    input: impl Read,
    output: impl Write + Send,
    options: &Options,
    report: &dyn Report,
) -> Result<()> {
    let buffers = splitter::buffers(options.threads);
    let writer = Writer::new(output);
    pool::run(
        options.threads,
        |feed| Source::new(input, codec, options, report, &buffers, feed).run(),
        || {
            let mut worker = codec.worker();
            let buffers = &buffers;
            move |task| work(codec, &mut worker, buffers, task)
        },
        |done| put(&writer, &buffers, done),
    )
}

/// A member, for the workers and the sink.
struct Target {
    path: Vec<u8>,
    /// Its new name.
    name: Vec<u8>,
    /// MariaDB's rewrite flag, if the member begins again.
    flags: u8,
    /// The offset at which the sink writes the next bytes.
    next: AtomicU64,
}

/// What is fed to the pool.
enum Task<J> {
    Part(Arc<Target>, Part<J>),
    /// Is passed on unchanged: header and payload of a chunk.
    Chunk(Vec<u8>, Vec<u8>),
    End(Arc<Target>),
}

/// What is written.
enum Done {
    Data(Arc<Target>, Vec<u8>),
    Chunk(Vec<u8>, Vec<u8>),
    End(Arc<Target>),
}

fn work<C: Codec>(codec: &C, worker: &mut C::Worker, buffers: &Buffers, task: Task<C::Job>) -> Result<Done> {
    Ok(match task {
        Task::Part(target, Part::Piece { job, bytes, at }) => {
            let done = splitter::work(codec, worker, buffers, (job, bytes));
            let data = done.map_err(|fault| wrong(&target.path, &fault, at))?;
            Done::Data(target, data)
        }
        Task::Part(target, Part::Ready(data)) => Done::Data(target, data),
        Task::Chunk(head, data) => Done::Chunk(head, data),
        Task::End(target) => Done::End(target),
    })
}

/// The error for a fault in bytes that begin at `at`: `stdin: sb/t.ibd.zst: damaged: ... (byte 1048576 of the member)`.
fn wrong(path: &[u8], fault: &Fault, at: u64) -> Error {
    let what = format_args!("{}: {} (byte {} of the member)", path.as_bstr(), fault.what, at + fault.at as u64);
    let error = Error::new(fault.kind, "stdin", what);
    match fault.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Writes the results of the pool.
fn put<W: Write>(writer: &Writer<W>, buffers: &Buffers, done: Done) -> Result<()> {
    let mut head = Vec::with_capacity(chunk::PREFIX + chunk::PATH_MAX + chunk::PAYLOAD_HEAD);
    match done {
        Done::Data(target, data) => {
            if !data.is_empty() {
                let offset = target.next.fetch_add(data.len() as u64, Relaxed);
                chunk::put_payload(&mut head, target.flags, &target.name, offset, &data);
                writer.put(&head, &data)?;
            }
            buffers.give(data);
        }
        Done::Chunk(head, data) => {
            writer.put(&head, &data)?;
            buffers.give(data);
        }
        Done::End(target) => {
            chunk::put_prefix(&mut head, target.flags, b'E', &target.name);
            writer.put(&head, &[])?;
        }
    }
    Ok(())
}
