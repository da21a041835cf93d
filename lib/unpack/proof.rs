//! Whether a stream is complete, as far as that can be proved.
//!
//! A stream that begins with `xb_begin` is one of ours, and the rules are strict: payloads and ends only, no flags,
//! `xb_begin` complete before anything else, a manifest last that agrees with every member. So no chunk can be lost
//! and no bit can flip unnoticed: payloads have their CRC and their sum, names and lengths are in the manifest, and
//! everything else has only one legal value. A stream of another program can only be checked for what the format
//! itself demands.

use std::sync::Mutex;

use bstr::ByteSlice;

use super::lock;
use crate::error::{Error, Result};
use crate::report::{Level, Report};
use crate::stream::profile::{
    self, BEGIN, Begin, EntryKind, INCOMPLETE, LINE_MAX, Line, MANIFEST, MARK, ManifestReader, Seen, StreamKind,
    plain_name,
};
use crate::stream::{Body, Head};

/// Advice when the end is missing.
const SENDER: &str = "the sender stopped early or failed; check its message and exit status (set -o pipefail)";

/// What has been learned so far.
#[derive(Default)]
pub(super) struct Proof {
    /// Before the first chunk: nothing. Then whose stream it is.
    origin: Option<Origin>,
    begin_bytes: Vec<u8>,
    begin: Option<Begin>,
    manifest: ManifestReader,
    /// Compared with the manifest, and present only in compressed or encrypted form.
    compared: u64,
    coded: u64,
    redo: bool,
    backup_id: Option<String>,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Ours,
    Foreign,
}

/// What is known of the end.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    Missing,
    /// The manifest is complete and right.
    Proved,
    /// The manifest is there, encrypted or compressed.
    Coded,
}

impl Proof {
    /// True before the first chunk.
    pub(super) fn is_unread(&self) -> bool {
        self.origin.is_none()
    }

    /// True if the stream begins with `xb_begin`.
    pub(super) fn is_ours(&self) -> bool {
        self.origin == Some(Origin::Ours)
    }

    /// True if a right manifest has come.
    pub(super) fn is_proved(&self) -> bool {
        self.end == End::Proved
    }

    /// True if this is the manifest's name, in a stream of ours.
    pub(super) fn is_manifest(&self, path: &[u8]) -> bool {
        self.is_ours() && path == MANIFEST
    }

    /// Checks a chunk against the rules of our own streams.
    pub(super) fn chunk(&mut self, place: &str, head: &Head) -> Result<()> {
        let fault = |what: &str| {
            let what = format_args!("{}: {what} (stream byte {})", head.path.as_bstr(), head.at);
            Err(Error::damaged(place, what))
        };
        let first = if head.path == BEGIN { Origin::Ours } else { Origin::Foreign };
        let origin = *self.origin.get_or_insert(first);
        let renamed = if let Body::Rename(new) = &head.body { new.as_slice() } else { b"" };
        if head.path == INCOMPLETE || renamed == INCOMPLETE {
            return fault("this name marks a directory that was not unpacked to its end; no stream may carry it");
        }
        if origin == Origin::Foreign {
            if [head.path.as_slice(), renamed].iter().any(|path| matches!(*path, BEGIN | MANIFEST)) {
                return fault("comes in a stream that does not begin with xb_begin: its beginning is missing");
            }
            return Ok(());
        }
        if head.flags != 0 || !matches!(head.body, Body::Payload { .. } | Body::End) {
            return fault("damaged: no program of xb-tools writes a chunk of this type or with these flags");
        }
        if self.begin.is_none() && head.path != BEGIN {
            return fault("comes before the end of xb_begin");
        }
        if self.end != End::Missing {
            return fault("comes after the end of the manifest");
        }
        Ok(())
    }

    /// Payload of a member, in order.
    pub(super) fn bytes(&mut self, path: &[u8], bytes: &[u8], seen: &Mutex<Seen>) -> Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        match path {
            BEGIN if self.begin_bytes.len() + bytes.len() > LINE_MAX => {
                Err(Error::damaged("xb_begin", "longer than any that xb-tools write"))
            }
            BEGIN => {
                self.begin_bytes.extend_from_slice(bytes);
                Ok(())
            }
            MANIFEST => self.lines(bytes, &mut lock(seen)),
            _ => Ok(()),
        }
    }

    fn lines(&mut self, bytes: &[u8], seen: &mut Seen) -> Result<()> {
        let Proof { manifest, compared, coded, redo, backup_id, .. } = self;
        manifest.feed(bytes, |line, _| {
            match line {
                Line::Entry(entry) if entry.path().as_deref() == Some(BEGIN) => {}
                Line::Entry(entry) => {
                    *redo |= entry.kind == EntryKind::Redo;
                    match seen.check(&entry)? {
                        true => *compared += 1,
                        false => *coded += 1,
                    }
                }
                Line::Trailer(trailer) => {
                    seen.finish()?;
                    *backup_id = Some(trailer.backup_id);
                }
            }
            Ok(())
        })
    }

    /// The end mark of a member.
    pub(super) fn end(&mut self, place: &str, head: &Head, report: &dyn Report) -> Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        match head.path.as_slice() {
            BEGIN => {
                let begin = profile::parse_begin(place, &self.begin_bytes)?;
                report.expect(begin.estimated_bytes);
                self.begin = Some(begin);
            }
            MANIFEST => {
                self.manifest.finish()?;
                if self.begin.as_ref().map(|begin| &begin.backup_id) != self.backup_id.as_ref() {
                    return Err(Error::damaged("xb_manifest", "belongs to another backup than xb_begin"));
                }
                self.end = End::Proved;
            }
            path if plain_name(path) == MANIFEST => self.end = End::Coded,
            _ => {}
        }
        Ok(())
    }

    /// The end of the input, `at` bytes into it.
    pub(super) fn finish(&self, at: u64, report: &dyn Report) -> Result<()> {
        let note = |level, text: &str| report.note(level, format_args!("stdin: {text}"));
        let Some(begin) = &self.begin else {
            if self.is_ours() {
                return Err(Error::damaged("stdin", "truncated: xb_begin has no end mark").hint(SENDER));
            }
            if at > 0 {
                note(Level::Info, "every member is whole; that none is missing cannot be proved: no xb_begin");
            }
            return Ok(());
        };
        if self.end == End::Missing {
            let what = format_args!("truncated: the stream ends without xb_manifest (stream byte {at})");
            return Err(Error::damaged("stdin", what).hint(SENDER));
        }
        if self.end == End::Coded {
            note(Level::Info, "the manifest is encrypted or compressed: members were checked chunk by chunk only");
            return Ok(());
        }
        if self.coded > 0 {
            let text = format!(
                "{} of {} members are compressed or encrypted: checked chunk by chunk, not against the manifest",
                self.coded,
                self.coded + self.compared
            );
            note(Level::Info, &text);
        }
        if begin.kind != StreamKind::Files && !self.redo {
            note(Level::Warning, "was not piped through xb-redo: a backup without redo log cannot be restored");
        }
        Ok(())
    }
}

/// True for members that the manifest does not list and that are no files.
pub(super) fn is_unlisted(path: &[u8]) -> bool {
    matches!(path, BEGIN | MANIFEST) || path.starts_with(MARK)
}
