//! Records whether the descriptors 0 and 1 were closed when the program started.
//!
//! Before `main`, Rust's runtime opens such a descriptor on `/dev/null`, so that no other file gets its number. From
//! then on it accepts every byte, and a stream that is lost looks sent. Only code that runs earlier can tell the
//! difference.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Bits in [`CLOSED`].
pub(super) const STDIN: u8 = 1;
pub(super) const STDOUT: u8 = 2;

static CLOSED: AtomicU8 = AtomicU8::new(0);

ctor::declarative::ctor! {
    #[ctor(unsafe)]
    fn look() {
        for (bit, descriptor) in [(STDIN, rustix::stdio::stdin()), (STDOUT, rustix::stdio::stdout())] {
            if rustix::io::fcntl_getfd(descriptor).is_err() {
                CLOSED.fetch_or(bit, Relaxed);
            }
        }
    }
}

/// Fails if the descriptor was closed.
pub(super) fn check(bit: u8, name: &str) -> Result<()> {
    match CLOSED.load(Relaxed) & bit {
        0 => Ok(()),
        _ => Err(Error::failed(name, "is closed")
            .hint(format_args!("the caller closed {name}; use /dev/null for unwanted data"))),
    }
}
