//! Maps files into memory: only those that belong to us alone.
//!
//! If another program truncates a mapped file, the process ends by SIGBUS; if it writes the file, bytes of a slice
//! change. So no file of a live server is mapped. A captured log can be mapped: `xb-unpack` writes it once, in a
//! directory on which no server runs; `xb-redo` replaces it by rename and only lengthens it; the server that recovers
//! it has the directory's lock, which `xb-redo` takes before it changes anything. Any other program that truncates a
//! file of a backup destroys the backup; then the process ends, and nothing is changed or reported as good.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// How many bytes are mapped at a time, so that resident memory does not grow with the file.
pub const WINDOW: u64 = 64 << 20;

/// A part of a file, read-only.
#[derive(Debug)]
pub struct Window {
    map: memmap2::Mmap,
    /// True if the file continues after it.
    pub more: bool,
}

impl Window {
    /// Maps [`WINDOW`] bytes of a file from `offset` on, fewer at its end.
    ///
    /// # Errors
    ///
    /// The system's error; `UnexpectedEof` for a file that ends before `offset`.
    pub fn at(file: &File, offset: u64) -> io::Result<Window> {
        let rest = file.metadata()?.len().checked_sub(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = usize::try_from(rest.min(WINDOW)).map_err(io::Error::other)?;
        let map = map(file, offset, len)?;
        map.advise(memmap2::Advice::Sequential)?;
        Ok(Window { map, more: rest > WINDOW })
    }

    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    ///
    /// The system's error; `UnexpectedEof` for a file that is shorter.
    pub fn first(file: &File, len: u64) -> io::Result<Window> {
        let size = file.metadata()?.len();
        if size < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = map(file, 0, usize::try_from(len).map_err(io::Error::other)?)?;
        Ok(Window { map, more: size > len })
    }
}

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[expect(unsafe_code, reason = "the file is ours alone, as this module says; the length is within it")]
fn map(file: &File, offset: u64, len: usize) -> io::Result<memmap2::Mmap> {
    // SAFETY: no program truncates or writes these bytes while they are mapped, for the reasons in the module's
    // description.
    unsafe { memmap2::MmapOptions::new().offset(offset).len(len).map(file) }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};

    use super::*;

    #[test]
    fn windows_begin_anywhere_and_end_with_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        for at in [0, 3, 10] {
            let window = Window::at(&file, at).unwrap();
            assert_eq!((&*window, window.more), (&b"0123456789"[usize::try_from(at).unwrap()..], false));
        }
        assert_eq!(Window::at(&file, 11).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_len(WINDOW + 5).unwrap();
        let window = Window::at(&file, 4).unwrap();
        assert!(window.more && window.len() as u64 == WINDOW);
        assert!(!Window::at(&file, 5).unwrap().more);
    }
}
