//! Bigger pipes, and moving bytes from descriptor to descriptor without looking at them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::SpliceFlags;

use super::BUFFER;
use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _};

/// What we ask pipes to hold: the kernel's default ceiling for ordinary users (`fs.pipe-max-size`).
pub const PIPE_SIZE: usize = 1 << 20;

/// How often a pipe is looked at that is to become empty.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Enlarges a pipe to [`PIPE_SIZE`]. Anything that is not a pipe, and every refusal, is left as it is; a pipe that
/// somebody made larger is never made smaller.
pub fn enlarge(fd: BorrowedFd<'_>) {
    if rustix::pipe::fcntl_getpipe_size(fd).is_ok_and(|size| size < PIPE_SIZE) {
        let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_SIZE);
    }
}

/// Waits until the reader of a pipe has taken everything; fails if it goes away without. What is no pipe has taken it
/// already.
pub fn taken(fd: BorrowedFd<'_>) -> io::Result<()> {
    if rustix::pipe::fcntl_getpipe_size(fd).is_err() {
        return Ok(());
    }
    loop {
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        match poll(&mut polled, Some(&TICK)) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        if polled.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP)) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if rustix::io::ioctl_fionread(fd)? == 0 {
            return Ok(());
        }
    }
}

/// Moves bytes between two descriptors, in the kernel where it can.
///
/// The first refusal of splice (neither side is a pipe, an append-only target, an old file system) selects reading
/// and writing from then on; later errors are real ones.
#[derive(Debug, Default)]
pub struct Mover {
    plain: Option<Box<[u8]>>,
}

impl Mover {
    /// Moves up to `limit` bytes and returns how many went; 0 means end of input.
    pub fn some(&mut self, from: &File, to: &File, limit: u64) -> io::Result<usize> {
        let want = usize::try_from(limit).unwrap_or(usize::MAX).min(PIPE_SIZE);
        if want == 0 {
            return Ok(0);
        }
        if self.plain.is_none() {
            match rustix::pipe::splice(from, None, to, None, want, SpliceFlags::MOVE | SpliceFlags::MORE) {
                Ok(moved) => return Ok(moved),
                Err(rustix::io::Errno::INTR) => return self.some(from, to, limit),
                Err(rustix::io::Errno::INVAL) => self.plain = Some(vec![0; BUFFER].into_boxed_slice()),
                Err(errno) => return Err(errno.into()),
            }
        }
        let buffer = self.plain.as_mut().or_internal("a buffer is not there")?.part_mut(..want.min(BUFFER))?;
        let mut from = from;
        let read = loop {
            match from.read(buffer) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let mut to = to;
        to.write_all(buffer.part(..read)?)?;
        Ok(read)
    }

    /// Moves exactly `len` bytes; an early end of input is [`io::ErrorKind::UnexpectedEof`].
    pub fn exactly(&mut self, from: &File, to: &File, mut len: u64) -> io::Result<()> {
        while len > 0 {
            match self.some(from, to, len)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                moved => len = len.saturating_sub(moved as u64),
            }
        }
        Ok(())
    }
}

/// What a [`Mover`] between stdin and stdout failed at. The kernel does not say on which side, but a pipe breaks on the
/// far side only.
pub fn lost(cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::StorageFull => Error::io("stdout", "cannot write", cause),
        _ => Error::io("stdin", "cannot be moved to stdout", cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn a_pipe_has_taken_all_once_its_reader_has() {
        use std::os::fd::AsFd;
        taken(tempfile::tempfile().unwrap().as_fd()).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (mut read, mut write) = (File::from(read), File::from(write));
        taken(write.as_fd()).unwrap();
        write.write_all(&[1; 1000]).unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            read.read_exact(&mut [0; 1000]).unwrap();
            read
        });
        taken(write.as_fd()).unwrap();
        write.write_all(&[1]).unwrap();
        drop(reader.join().unwrap());
        assert_eq!(taken(write.as_fd()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    /// File to file cannot be spliced: the fallback must give the same bytes.
    #[test]
    fn moves_with_and_without_splice() {
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&data).unwrap();
        source.seek(SeekFrom::Start(0)).unwrap();
        let mut target = tempfile::tempfile().unwrap();
        let mut mover = Mover::default();
        mover.exactly(&source, &target, data.len() as u64).unwrap();
        assert!(mover.plain.is_some());
        assert_eq!(mover.some(&source, &target, 1).unwrap(), 0);
        let mut got = Vec::new();
        target.seek(SeekFrom::Start(0)).unwrap();
        target.read_to_end(&mut got).unwrap();
        assert_eq!(got, data);

        source.seek(SeekFrom::Start(0)).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (mut read, write) = (File::from(read), File::from(write));
        enlarge(std::os::fd::AsFd::as_fd(&write));
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            read.read_to_end(&mut got).map(|_| got)
        });
        let mut mover = Mover::default();
        mover.exactly(&source, &write, data.len() as u64).unwrap();
        assert!(mover.plain.is_none());
        drop(write);
        assert_eq!(reader.join().unwrap().unwrap(), data);
        let cut = mover.exactly(&source, &target, 1).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
