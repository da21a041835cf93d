//! Rewrites the whole input as one (`--raw`): for streams that are compressed or encrypted as a whole.

use std::io::{Read, Write};

use crate::codec::pool;
use crate::codec::splitter::{self, Part, Splitter};
use crate::codec::{Codec, Fault, Flow, PIECE};
use crate::error::{Error, Result};
use crate::report::Report;

/// Reads the input to its end, and writes it rewritten. With one thread everything runs in this thread.
///
/// # Errors
///
/// The kind of the codec's fault; Pipe, if the reader of the output ended; Failed for other errors of input and output.
/// After an error the output may be incomplete.
pub fn rewrite<C: Codec>(
    codec: &C,
    mut input: impl Read,
    mut output: impl Write + Send,
    threads: usize,
    report: &dyn Report,
) -> Result<()> {
    let buffers = &splitter::buffers(threads);
    pool::run(
        threads,
        |feed| {
            let mut read = |out: &mut Vec<u8>, most: usize| {
                let got = input.by_ref().take(most as u64).read_to_end(out);
                let got = got.map_err(|cause| Error::io("stdin", "cannot read", &cause))?;
                report.advance(got as u64);
                Ok(got)
            };
            let mut start = buffers.take();
            read(&mut start, PIECE)?;
            let member = codec.whole(&start).map_err(|fault| wrong(&fault, 0))?;
            let mut splitter = Splitter::new(member, start);
            loop {
                splitter.cut(codec, Flow::Open, buffers, |fault, at| wrong(&fault, at), &mut *feed)?;
                if splitter.fill(u64::MAX, buffers, &mut read)? == 0 {
                    break;
                }
            }
            splitter.cut(codec, Flow::Last, buffers, |fault, at| wrong(&fault, at), feed)
        },
        || {
            let mut worker = codec.worker();
            move |part| match part {
                Part::Ready(data) => Ok(data),
                Part::Piece { job, bytes, at } => {
                    splitter::work(codec, &mut worker, buffers, (job, bytes)).map_err(|fault| wrong(&fault, at))
                }
            }
        },
        |data: Vec<u8>| {
            output.write_all(&data).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
            buffers.give(data);
            Ok(())
        },
    )
}

fn wrong(fault: &Fault, at: u64) -> Error {
    let error = Error::new(fault.kind, "stdin", format_args!("{} (byte {})", fault.what, at + fault.at as u64));
    match fault.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
