//! Deferred output: it waits until the key has proved right.

use std::io::{self, IoSlice, Write};

/// How many bytes are deferred at most: far more than `xb_begin` and the small members that may come before the first
/// encrypted one.
const MOST: usize = 1 << 20;

/// Defers what is written until `open` is true, so that a run with a wrong key writes nothing. After [`MOST`] bytes,
/// output is not deferred any longer.
pub(super) struct Deferred<W, F> {
    sink: W,
    open: F,
    deferred: Option<Vec<u8>>,
}

impl<W: Write, F: Fn() -> bool> Deferred<W, F> {
    pub(super) fn new(sink: W, open: F) -> Self {
        Deferred { sink, open, deferred: Some(Vec::new()) }
    }

    /// Writes what is still deferred. Only called after success.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.release()?;
        self.sink.flush()
    }

    fn release(&mut self) -> io::Result<()> {
        self.deferred.take().map_or(Ok(()), |deferred| self.sink.write_all(&deferred))
    }
}

impl<W: Write, F: Fn() -> bool> Write for Deferred<W, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(deferred) = &mut self.deferred {
            let more: usize = slices.iter().map(|slice| slice.len()).sum();
            if !(self.open)() && deferred.len() + more <= MOST {
                slices.iter().for_each(|slice| deferred.extend_from_slice(slice));
                return Ok(more);
            }
            self.release()?;
        }
        self.sink.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.deferred.is_some() { Ok(()) } else { self.sink.flush() }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn nothing_goes_before_it_may() {
        let (open, mut sink) = (Cell::new(false), Vec::new());
        let mut output = Deferred::new(&mut sink, || open.get());
        output.write_all(b"ab").unwrap();
        assert!(output.sink.is_empty());
        open.set(true);
        output.write_all(b"cd").unwrap();
        assert_eq!(*output.sink, b"abcd");
        open.set(false);
        output.write_all(b"e").unwrap();
        assert_eq!(*output.sink, b"abcde");
    }

    #[test]
    fn the_end_lets_go_and_so_does_too_much() {
        let mut sink = Vec::new();
        let mut output = Deferred::new(&mut sink, || false);
        output.write_all(b"few").unwrap();
        output.finish().unwrap();
        assert_eq!(sink, b"few");
        let mut sink = Vec::new();
        let mut output = Deferred::new(&mut sink, || false);
        output.write_all(b"first").unwrap();
        output.write_all(&[0; MOST]).unwrap();
        assert_eq!(output.sink.len(), MOST + 5);
    }
}
