//! Checks the order of our streams: `xb_begin` is complete before anything else, `xb_manifest` is last.
//!
//! A stream that begins with `xb_begin` is ours, and the rules are strict: payloads and ends only, no flags. So
//! everything has only one valid value except payloads, which have a CRC.

use bstr::ByteSlice;

use super::{BEGIN, INCOMPLETE, MANIFEST, plain_name};
use crate::error::{Error, Result};
use crate::innodb::redo::{mariadb, mysql};
use crate::stream::{Body, Head};

/// The hint if the end is missing.
const SENDER: &str = "the sender stopped early or failed; check its message and exit status (set -o pipefail)";

/// How far a stream has been read.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// `None` before the first chunk, then whether the stream is ours.
    origin: Option<Origin>,
    begun: bool,
    /// The manifest has begun: no other member may follow.
    closing: bool,
    ended: bool,
    /// The redo log, plain or coded, is complete.
    log: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Ours,
    Foreign,
}

impl Order {
    /// True before the first chunk.
    pub(super) fn is_unread(&self) -> bool {
        self.origin.is_none()
    }

    /// True if the stream begins with `xb_begin`.
    pub(super) fn is_ours(&self) -> bool {
        self.origin == Some(Origin::Ours)
    }

    /// Checks a chunk. `place` is the input's name in messages.
    pub(super) fn chunk(&mut self, place: &str, head: &Head) -> Result<()> {
        let fault = |what: &str| {
            let what = format_args!("{}: {what} (stream byte {})", head.path.as_bstr(), head.at);
            Err(Error::damaged(place, what))
        };
        let first = if head.path == BEGIN { Origin::Ours } else { Origin::Foreign };
        let origin = *self.origin.get_or_insert(first);
        let renamed = if let Body::Rename(new) = &head.body { new.as_slice() } else { b"" };
        if head.path == INCOMPLETE || renamed == INCOMPLETE {
            return fault("this name marks a directory whose unpacking did not finish; no stream may have it");
        }
        if origin == Origin::Foreign {
            if [head.path.as_slice(), renamed].iter().any(|path| matches!(plain_name(path), BEGIN | MANIFEST)) {
                return fault("comes in a stream that does not begin with xb_begin: its beginning is missing");
            }
            return Ok(());
        }
        if head.flags != 0 || !matches!(head.body, Body::Payload { .. } | Body::End) {
            return fault("damaged: no program of xb-tools writes a chunk of this type or with these flags");
        }
        if !self.begun && head.path != BEGIN {
            return fault("comes before the end of xb_begin");
        }
        if self.ended {
            return fault("comes after the end of the manifest");
        }
        let plain = plain_name(&head.path);
        if self.closing && plain != MANIFEST {
            return fault("comes after the beginning of the manifest, which is the last member");
        }
        self.closing = plain == MANIFEST;
        if head.body == Body::End {
            self.begun = true;
            self.ended = self.closing;
            self.log |= [mariadb::FILE, mysql::FILE].iter().any(|name| name.as_bytes() == plain);
        }
        Ok(())
    }

    /// True once the redo log, plain or coded, is complete.
    pub(super) fn has_log(&self) -> bool {
        self.log
    }

    /// True once the manifest, plain or coded, is complete, in a stream of ours.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Checks the end of the input, whose length is `at`.
    pub(super) fn finish(&self, place: &str, at: u64) -> Result<()> {
        match self {
            Order { origin: Some(Origin::Ours), begun: false, .. } => {
                Err(Error::damaged(place, "truncated: xb_begin has no end mark").hint(SENDER))
            }
            Order { origin: Some(Origin::Ours), ended: false, .. } => {
                let what = format_args!("truncated: the stream ends without xb_manifest (stream byte {at})");
                Err(Error::damaged(place, what).hint(SENDER))
            }
            _ => Ok(()),
        }
    }
}
