//! Writes whole chunks to a descriptor, from any thread.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::ByteSlice;

use super::chunk::{self, PATH_MAX};
use super::written::{Fault, Written};
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::io::spool::Spool;

/// The output of a stream, shared by the threads that write its members. A chunk is written as a whole, under one lock,
/// with one system call for header and payload. Nothing is buffered. A second member with the same name is refused.
#[derive(Debug)]
pub struct Writer<W = File> {
    output: Mutex<Output<W>>,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug)]
struct Output<W> {
    sink: W,
    written: u64,
    /// Set while a chunk is being written, and permanently after the first error: no chunk may follow an incomplete
    /// one.
    broken: bool,
}

impl Writer<File> {
    /// Waits until the reader has taken everything that was written. Fails if there is no reader any more.
    pub fn taken(&self) -> Result<()> {
        crate::io::pipe::taken(self.lock().sink.as_fd()).map_err(sink_error)
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `sink`, which is stdout in messages.
    pub fn new(sink: W) -> Self {
        Writer { output: Mutex::new(Output { sink, written: 0, broken: false }), written: Arc::default() }
    }

    /// A writer to `sink`, for chunks that will be added to this stream later, with [`Writer::put`].
    pub fn beside<V: Write>(&self, sink: V) -> Writer<V> {
        Writer { written: Arc::clone(&self.written), ..Writer::new(sink) }
    }

    /// True if there is a member with this name.
    pub fn has(&self, path: &[u8]) -> bool {
        self.names().has(path)
    }

    /// Writes bytes `offset..offset + data.len()` of a member as one chunk.
    pub fn payload(&self, path: &[u8], offset: u64, data: &[u8]) -> Result<()> {
        check(path, |path| self.names().payload(path, offset, data.len() as u64))?;
        let mut head = Vec::with_capacity(chunk::PREFIX + path.len() + chunk::PAYLOAD_HEAD);
        chunk::put_payload(&mut head, 0, path, offset, data);
        self.put(&head, data)
    }

    /// Writes the end mark of a member.
    pub fn end(&self, path: &[u8]) -> Result<()> {
        check(path, |path| self.names().end(path))?;
        let mut head = Vec::with_capacity(chunk::PREFIX + path.len());
        chunk::put_prefix(&mut head, 0, b'E', path);
        self.put(&head, &[])
    }

    /// Writes a small, complete member at once: no chunk of another member can come between.
    pub fn member(&self, path: &[u8], data: &[u8]) -> Result<()> {
        check(path, |path| {
            let mut names = self.names();
            names.payload(path, 0, data.len() as u64)?;
            names.end(path)
        })?;
        let mut bytes = Vec::with_capacity(2 * (chunk::PREFIX + path.len()) + chunk::PAYLOAD_HEAD + data.len());
        if !data.is_empty() {
            chunk::put_payload(&mut bytes, 0, path, 0, data);
            bytes.extend_from_slice(data);
        }
        chunk::put_prefix(&mut bytes, 0, b'E', path);
        self.put(&bytes, &[])
    }

    /// Writes a member with the content of a spool, in chunks of the size of `buffer`.
    pub fn spooled(&self, path: &[u8], spool: &mut Spool, buffer: &mut [u8]) -> Result<()> {
        let mut offset = 0;
        loop {
            let count = spool.pull(buffer)?;
            if count == 0 {
                return self.end(path);
            }
            self.payload(path, offset, buffer.part(..count)?)?;
            offset += count as u64;
        }
    }

    /// Writes bytes that are whole chunks already.
    pub fn put(&self, head: &[u8], data: &[u8]) -> Result<()> {
        let mut output = self.lock();
        if output.broken {
            return Err(Error::io("stdout", "cannot write", &io::ErrorKind::BrokenPipe.into()));
        }
        // Set before the write: if the sink panics, half a chunk may have been written.
        output.broken = true;
        write_both(&mut output.sink, head, data).map_err(sink_error)?;
        output.broken = false;
        output.written += (head.len() + data.len()) as u64;
        Ok(())
    }

    /// The number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// Ends writing and returns the sink.
    pub fn into_inner(self) -> W {
        self.output.into_inner().unwrap_or_else(PoisonError::into_inner).sink
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Output<W>> {
        // `broken` covers the state that a panicking thread has left.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names that a panicking thread has recorded are valid.
    fn names(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a bad name: callers must choose unique names of valid length, so this is a bug.
fn check(path: &[u8], note: impl FnOnce(&[u8]) -> Result<(), Fault>) -> Result<()> {
    let wrong = |what: &dyn std::fmt::Display| {
        let error = Error::failed(path.as_bstr(), format_args!("internal error: {what}"));
        Err(error.hint("the output is not a backup; please report this"))
    };
    if path.len() > PATH_MAX {
        return wrong(&format_args!("its name has {} bytes, {PATH_MAX} are possible", path.len()));
    }
    note(path).or_else(|fault| wrong(&fault))
}

/// A sink that is not a descriptor (a spool) has its own messages.
fn sink_error(cause: io::Error) -> Error {
    match cause.downcast::<Error>() {
        Ok(error) => error,
        Err(cause) => Error::io("stdout", "cannot write", &cause),
    }
}

fn write_both(sink: &mut impl Write, mut head: &[u8], mut data: &[u8]) -> io::Result<()> {
    while !head.is_empty() || !data.is_empty() {
        let slices = [IoSlice::new(head), IoSlice::new(data)];
        match sink.write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                let of_head = count.min(head.len());
                head = head.part(of_head..)?;
                data = data.part(count - of_head..)?;
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_member_of_a_name_is_refused_also_beside() {
        let out = Writer::new(Vec::new());
        out.member(b"d/t.ibd", b"one").unwrap();
        let beside = out.beside(Vec::new());
        for error in [
            out.member(b"d/t.ibd", b"two").unwrap_err(),
            beside.payload(b"d/t.ibd", 0, b"two").unwrap_err(),
            beside.member(b"d", b"").unwrap_err(),
            beside.member(&[b'x'; 512], b"").unwrap_err(),
        ] {
            assert!(error.to_string().contains(": internal error: "), "{error}");
        }
        beside.member(b"d/t.new", b"two").unwrap();
        assert!(out.has(b"d/t.new") && !out.has(b"d/u.ibd"));
        assert_eq!(out.written(), out.into_inner().len() as u64);
    }
}
