//! Descriptors, pipes and files: everything below the formats.

pub mod beneath;
pub mod cache;
mod closed;
pub mod copy;
pub mod nice;
pub mod pipe;
pub mod spool;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Error, Result};

/// How many bytes one read or write moves; two of these fit into a core's second-level cache.
pub const BUFFER: usize = 256 << 10;

/// Standard input, unbuffered, its pipe enlarged. Taken over: descriptor 0 is /dev/null from then on, so the sender
/// has its SIGPIPE as soon as the file is dropped.
pub fn stdin() -> Result<File> {
    closed::check(closed::STDIN, "stdin")?;
    let input = open("stdin", std::io::stdin().as_fd())?;
    if let Ok(null) = File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    Ok(input)
}

/// Standard output, unbuffered, its pipe enlarged. (std's own would look for newlines.)
pub fn stdout() -> Result<File> {
    closed::check(closed::STDOUT, "stdout")?;
    open("stdout", std::io::stdout().as_fd())
}

fn open(name: &str, fd: BorrowedFd<'_>) -> Result<File> {
    pipe::enlarge(fd);
    Ok(File::from(fd.try_clone_to_owned().map_err(|cause| Error::io(name, "cannot use", &cause))?))
}
