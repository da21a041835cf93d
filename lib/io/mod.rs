//! Descriptors, pipes and files: everything below the formats.

pub mod accounts;
pub mod beneath;
pub mod cache;
mod closed;
pub mod confine;
pub mod copy;
pub(crate) mod files;
pub mod map;
pub mod nice;
pub mod pipe;
pub mod random;
pub mod spool;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::error::{Error, Result};

/// How many bytes one read or write moves; two such buffers fit into a core's second-level cache.
pub const BUFFER: usize = 256 << 10;

/// The longest file that [`small`] reads, in bytes.
const SMALL: u64 = 16 << 20;

/// The content of a small file; `None` if it does not exist. A large file is an error.
pub fn small(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(Error::io(path.display(), "cannot open", &cause)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL + 1).read_to_end(&mut bytes).map_err(|cause| Error::io(path.display(), "cannot read", &cause))?;
    if bytes.len() as u64 > SMALL {
        return Err(Error::damaged(path.display(), "far too large for what its name says"));
    }
    Ok(Some(bytes))
}

/// Standard input, unbuffered, with its pipe enlarged. Takes it over: descriptor 0 becomes /dev/null, so the sender
/// gets SIGPIPE as soon as the file is dropped.
pub fn stdin() -> Result<File> {
    closed::check(closed::STDIN, "stdin")?;
    let input = open("stdin", std::io::stdin().as_fd())?;
    if let Ok(null) = File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    Ok(input)
}

/// Standard output, unbuffered, with its pipe enlarged. (That of std is line-buffered.)
pub fn stdout() -> Result<File> {
    closed::check(closed::STDOUT, "stdout")?;
    open("stdout", std::io::stdout().as_fd())
}

fn open(name: &str, fd: BorrowedFd<'_>) -> Result<File> {
    pipe::enlarge(fd);
    Ok(File::from(fd.try_clone_to_owned().map_err(|cause| Error::io(name, "cannot use", &cause))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("xb_begin");
        assert_eq!(small(&path).unwrap(), None);
        let file = File::create(&path).unwrap();
        file.set_len(SMALL).unwrap();
        assert_eq!(small(&path).unwrap().unwrap().len() as u64, SMALL);
        file.set_len(SMALL + 1).unwrap();
        assert!(small(&path).unwrap_err().to_string().ends_with("xb_begin: far too large for what its name says"));
        assert!(small(dir.path()).unwrap_err().to_string().contains("cannot read"));
    }
}
