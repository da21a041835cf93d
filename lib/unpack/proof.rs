//! Checks that an unpacked stream is complete, as far as that can be proved: with the [`Verifier`], and by comparing
//! every member with the manifest.
//!
//! The rules for our streams are strict: payloads and ends only, no flags, `xb_begin` complete before anything else,
//! and at the end a manifest that agrees with every member. So no chunk can be lost, and no bit can change unnoticed:
//! payloads have a CRC and a digest, names and lengths are in the manifest, and everything else has only one valid
//! value. A stream of another program can only be checked by the rules of the format.

use std::sync::Mutex;

use bstr::ByteSlice;

use super::lock;
use crate::error::Result;
use crate::report::{Level, Report};
use crate::stream::Head;
use crate::stream::native::{
    BEGIN, Line, MANIFEST, MARK, SUFFIXES, Seen, StreamKind, Trailer, Verdict, Verifier, plain_name,
};

/// The state of the check.
#[derive(Default)]
pub(super) struct Proof {
    verifier: Verifier,
    /// Number of members that were compared with the manifest, and of those that are compressed or encrypted.
    compared: u64,
    coded: u64,
    /// The name of a compressed or encrypted member, in a stream of ours.
    coded_name: Option<Vec<u8>>,
}

impl Proof {
    /// True before the first chunk.
    pub(super) fn is_unread(&self) -> bool {
        self.verifier.is_unread()
    }

    /// True if the stream begins with `xb_begin`.
    pub(super) fn is_ours(&self) -> bool {
        self.verifier.is_ours()
    }

    /// True after a valid manifest.
    pub(super) fn is_proved(&self) -> bool {
        self.verifier.trailer().is_some()
    }

    /// The manifest's last line, if it is of a server's backup and every member agrees with it.
    pub(super) fn all(&self) -> Option<&Trailer> {
        let server = self.verifier.begin().is_some_and(|begin| begin.kind != StreamKind::Files);
        self.verifier.trailer().filter(|_| server && self.coded == 0)
    }

    /// True if this is the manifest's name, in a stream of ours.
    pub(super) fn is_manifest(&self, path: &[u8]) -> bool {
        self.is_ours() && path == MANIFEST
    }

    /// Checks a chunk by the rules for our own streams.
    pub(super) fn chunk(&mut self, place: &str, head: &Head) -> Result<()> {
        self.verifier.chunk(place, head)
    }

    /// Handles payload of a member, in order; `members` is the number of members so far.
    pub(super) fn bytes(&mut self, head: &Head, bytes: &[u8], members: usize, seen: &Mutex<Seen>) -> Result<()> {
        let Proof { verifier, compared, coded, .. } = self;
        verifier.payload("stdin", &head.path, bytes, members, |line, _| {
            let mut seen = lock(seen);
            match line {
                Line::Entry(entry) if entry.path().as_deref() == Some(BEGIN) => {}
                Line::Entry(entry) => match seen.check(entry)? {
                    true => *compared += 1,
                    false => *coded += 1,
                },
                Line::Trailer(_) => seen.finish()?,
            }
            Ok(())
        })
    }

    /// Handles the end mark of a member.
    pub(super) fn end(&mut self, place: &str, head: &Head, report: &dyn Report) -> Result<()> {
        if !self.is_ours() {
            return Ok(());
        }
        // A member that is both says more.
        let suffixes = |path: &[u8]| path.len() - plain_name(path).len();
        if suffixes(&head.path) > self.coded_name.as_deref().map_or(0, suffixes) {
            self.coded_name = Some(head.path.clone());
        }
        if let Some(begin) = self.verifier.end(place, &head.path)? {
            report.expect(begin.estimated_bytes);
        }
        Ok(())
    }

    /// Ends the input, whose length is `at`.
    pub(super) fn finish(&self, at: u64, written: bool, report: &dyn Report) -> Result<()> {
        let note = |level, text: &str| report.note(level, format_args!("stdin: {text}"));
        let verdict = self.verifier.finish("stdin", at)?;
        if let Some(name) = self.coded_name.as_ref().filter(|_| written) {
            let (name, how) = (name.as_bstr(), undo(name));
            let text = format!(
                "{name} and others are compressed or encrypted: no server can use them; put {how} before xb-unpack, or \
                 go on with xb-pack -C DIR . | {how} | xb-unpack -C NEWDIR"
            );
            note(Level::Warning, &text);
        }
        match verdict {
            Verdict::Foreign if at > 0 => {
                note(Level::Info, "every member is complete; without xb_begin nothing proves that none is missing");
            }
            Verdict::Coded(_) => {
                self.verifier.check_log("stdin")?;
                note(Level::Info, "the manifest is encrypted or compressed: members were checked chunk by chunk only");
            }
            Verdict::Complete(..) if self.coded > 0 => {
                let text = format!(
                    "{} of {} members are compressed or encrypted: checked chunk by chunk, not against the manifest",
                    self.coded,
                    self.coded + self.compared
                );
                note(Level::Info, &text);
            }
            Verdict::Foreign | Verdict::Complete(..) => {}
        }
        self.verifier.check_log("stdin")
    }
}

/// True for members that the manifest does not list and that are not files.
pub(super) fn is_unlisted(path: &[u8]) -> bool {
    matches!(path, BEGIN | MANIFEST) || path.starts_with(MARK)
}

/// The command that undoes compression or encryption of a member with this name.
fn undo(path: &[u8]) -> String {
    let mut programs: Vec<&str> = Vec::new();
    let mut rest = path;
    while let Some((suffix, shorter)) = SUFFIXES.iter().find_map(|suffix| Some((*suffix, rest.strip_suffix(*suffix)?)))
    {
        programs.push(if matches!(suffix, b".xbseal" | b".xbcrypt") { "xb-crypt -d" } else { "xb-zip -d" });
        rest = shorter;
    }
    programs.join(" | ")
}
