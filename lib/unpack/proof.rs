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
    self, BEGIN, Begin, EntryKind, LINE_MAX, Line, MANIFEST, MARK, ManifestReader, SUFFIXES, Seen, StreamKind, Trailer,
    plain_name,
};
use crate::stream::{Course, Head, check_log};

/// What has been learned so far.
#[derive(Default)]
pub(super) struct Proof {
    course: Course,
    begin_bytes: Vec<u8>,
    /// The manifest has a line about it.
    begin_listed: bool,
    begin: Option<Begin>,
    manifest: ManifestReader,
    /// Compared with the manifest, and present only in compressed or encrypted form.
    compared: u64,
    coded: u64,
    /// A member whose name says that it is compressed or encrypted, in a stream of ours.
    coded_name: Option<Vec<u8>>,
    redo: bool,
    trailer: Option<Trailer>,
    end: End,
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
        self.course.is_unread()
    }

    /// True if the stream begins with `xb_begin`.
    pub(super) fn is_ours(&self) -> bool {
        self.course.is_ours()
    }

    /// True if a right manifest has come.
    pub(super) fn is_proved(&self) -> bool {
        self.end == End::Proved
    }

    /// The end of that manifest, if it is of a server's backup, and every member came as it says.
    pub(super) fn all(&self) -> Option<&Trailer> {
        let server = self.begin.as_ref().is_some_and(|begin| begin.kind != StreamKind::Files);
        self.trailer.as_ref().filter(|_| server && self.is_proved() && self.coded == 0)
    }

    /// True if this is the manifest's name, in a stream of ours.
    pub(super) fn is_manifest(&self, path: &[u8]) -> bool {
        self.is_ours() && path == MANIFEST
    }

    /// Checks a chunk against the rules of our own streams.
    pub(super) fn chunk(&mut self, place: &str, head: &Head) -> Result<()> {
        self.course.chunk(place, head)
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
        let Proof { manifest, compared, coded, redo, trailer, begin_bytes, begin_listed, .. } = self;
        manifest.feed(bytes, |line, _| {
            match line {
                Line::Entry(entry) if entry.path().as_deref() == Some(BEGIN) => {
                    profile::check_begin(begin_bytes, &entry)?;
                    if std::mem::replace(begin_listed, true) {
                        return Err(Error::damaged("xb_manifest", "it lists xb_begin twice"));
                    }
                }
                Line::Entry(entry) => {
                    *redo |= entry.kind == EntryKind::Redo;
                    match seen.check(&entry)? {
                        true => *compared += 1,
                        false => *coded += 1,
                    }
                }
                Line::Trailer(last) => {
                    seen.finish()?;
                    *trailer = Some(*last);
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
        // One that is both tells more.
        let suffixes = |path: &[u8]| path.len() - plain_name(path).len();
        if suffixes(&head.path) > self.coded_name.as_deref().map_or(0, suffixes) {
            self.coded_name = Some(head.path.clone());
        }
        match head.path.as_slice() {
            BEGIN => {
                let begin = profile::parse_begin(place, &self.begin_bytes)?;
                report.expect(begin.estimated_bytes);
                self.begin = Some(begin);
            }
            MANIFEST => {
                self.manifest.finish()?;
                self.trailer.as_ref().map_or(Ok(()), |trailer| profile::bind(&self.begin_bytes, trailer))?;
                self.end = End::Proved;
            }
            path if plain_name(path) == MANIFEST => self.end = End::Coded,
            _ => {}
        }
        Ok(())
    }

    /// The end of the input, `at` bytes into it.
    pub(super) fn finish(&self, at: u64, written: bool, report: &dyn Report) -> Result<()> {
        let note = |level, text: &str| report.note(level, format_args!("stdin: {text}"));
        self.course.finish("stdin", at)?;
        if let Some(name) = self.coded_name.as_ref().filter(|_| written) {
            let (name, how) = (name.as_bstr(), undo(name));
            let text = format!(
                "{name} and others are compressed or encrypted: no server can use them; put {how} before xb-unpack, or \
                 go on with xb-pack -C DIR . | {how} | xb-unpack -C NEWDIR"
            );
            note(Level::Warning, &text);
        }
        let Some(begin) = &self.begin else {
            if at > 0 {
                note(Level::Info, "every member is whole; that none is missing cannot be proved: no xb_begin");
            }
            return Ok(());
        };
        if self.end == End::Coded {
            self.course.check_log(begin)?;
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
        check_log(begin, self.redo)
    }
}

/// True for members that the manifest does not list and that are no files.
pub(super) fn is_unlisted(path: &[u8]) -> bool {
    matches!(path, BEGIN | MANIFEST) || path.starts_with(MARK)
}

/// What makes a member of this name plain.
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
