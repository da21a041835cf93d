//! Which of the descriptors 0 and 1 were closed when the program began.
//!
//! Before `main`, Rust's runtime opens such a descriptor on `/dev/null`, so that no other file takes its place. From then
//! on it takes every byte, and a stream that nobody will ever see looks sent. Only what runs earlier can tell the two apart.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Bits of [`CLOSED`].
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

/// Refuses to use a descriptor that was closed.
pub(super) fn check(bit: u8, name: &str) -> Result<()> {
    match CLOSED.load(Relaxed) & bit {
        0 => Ok(()),
        _ => Err(Error::failed(name, "is closed")
            .hint(format_args!("whoever started this closed {name}; /dev/null is there for what nobody wants"))),
    }
}
