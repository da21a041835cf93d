//! A part of a stream as a stream of its own: chosen members pass, and `xb_begin` and `xb_manifest` are made anew, so that
//! a reader can prove that nothing of the part is missing.
//!
//! The part of a backup is not a backup, for it lacks files or the redo log: its kind is `files`.

use std::collections::HashMap;
use std::io::{Read, Write};

use bstr::ByteSlice;

use super::index::Described;
use crate::error::{Error, OrInternal as _, Result};
use crate::io::BUFFER;
use crate::stream::native::{
    self, BEGIN, Begin, BeginReader, Line, MANIFEST, ManifestReader, StreamKind, Tally, Trailer, Verifier, begin_bytes,
    begin_digest, plain_name,
};
use crate::stream::{Body, Head, Members, Reader, Writer};

/// What `xb_begin` and the manifest of the whole stream said.
#[derive(Debug, Default)]
pub struct Told {
    /// `xb_begin`; `None` for a stream of another program.
    pub begin: Option<Begin>,
    /// Its bytes.
    pub begin_bytes: Vec<u8>,
    /// The last line of the manifest, whose digest was right.
    pub trailer: Option<Trailer>,
    /// What the manifest says of each member, by its name, if it was asked for.
    pub entries: HashMap<Vec<u8>, Described>,
    /// Number of members that the manifest lists, without `xb_begin`.
    pub members: u64,
}

/// Which members pass, by their names in the stream.
pub type Picks<'a> = &'a (dyn Fn(&[u8]) -> bool + Sync);

/// Options of [`pass`].
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Which members pass.
    pub picks: Picks<'a>,
    /// Keep what the manifest says of every member.
    pub entries: bool,
    /// The input is the whole stream: what the manifest lists and is not there is missing.
    pub complete: bool,
}

/// Passes members on. `input` has `xb_begin`, members, and the manifest of the whole stream, in the order of that.
///
/// # Errors
///
/// Damaged, if the input is; Pipe, if the reader of the output has gone.
pub fn pass(input: impl Read, place: &str, output: impl Write, options: Options<'_>) -> Result<Told> {
    let mut pass = Pass {
        reader: Reader::new(input, place),
        writer: Writer::new(output),
        members: Members::default(),
        begin: BeginReader::default(),
        id: native::backup_id()?,
        anew: Vec::new(),
        manifest: ManifestReader::default(),
        lines: Vec::new(),
        tally: Tally::default(),
        there: HashMap::new(),
        told: Told::default(),
        options,
    };
    // The rules of our streams; the content of xb_begin and of the manifest is read here.
    let mut rules = Verifier::default();
    while let Some(head) = pass.reader.next()? {
        rules.chunk(place, &head)?;
        let step = pass.members.accept(place, &head)?;
        pass.chunk(&head, step.opened)?;
    }
    pass.members.finish(place, pass.reader.position())?;
    if pass.told.begin.is_some() && pass.told.trailer.is_none() {
        return Err(Error::damaged(place, "truncated: the stream ends without xb_manifest"));
    }
    Ok(pass.told)
}

/// A member that has come.
#[derive(Clone, Copy, Debug)]
struct Seen {
    picked: bool,
    /// The manifest lists it.
    listed: bool,
}

struct Pass<'a, R, W> {
    reader: Reader<R>,
    writer: Writer<W>,
    members: Members,
    begin: BeginReader,
    /// The id of what is made anew.
    id: String,
    /// `xb_begin`, made anew.
    anew: Vec<u8>,
    manifest: ManifestReader,
    /// The lines of the members that have passed.
    lines: Vec<u8>,
    tally: Tally,
    /// The members that have come, by their plain names.
    there: HashMap<Vec<u8>, Seen>,
    told: Told,
    options: Options<'a>,
}

impl<R: Read, W: Write> Pass<'_, R, W> {
    fn chunk(&mut self, head: &Head, opened: bool) -> Result<()> {
        let ours = self.told.begin.is_some();
        match head.path.as_slice() {
            BEGIN => self.begin(head),
            MANIFEST if ours => self.manifest(head),
            path => {
                let picked = (self.options.picks)(path);
                if opened && ours {
                    self.there.insert(plain_name(path).to_vec(), Seen { picked, listed: false });
                }
                // The next head skips what is not taken, and checks its sum.
                if picked { self.forward(head) } else { Ok(()) }
            }
        }
    }

    fn forward(&mut self, head: &Head) -> Result<()> {
        let len = match &head.body {
            Body::Payload { len, .. } | Body::Sparse { len, .. } => *len,
            Body::Skipped => return Ok(()),
            _ => 0,
        };
        let mut payload = vec![0; BUFFER];
        let raw = self.reader.raw().to_vec();
        self.writer.put(&raw, &[])?;
        let mut left = len;
        while left > 0 {
            let count = self.reader.payload(&mut payload)?;
            self.writer.put(&[], payload.get(..count).or_internal("a read beyond its buffer")?)?;
            left = left.checked_sub(count as u64).filter(|_| count > 0).or_internal("a payload of another length")?;
        }
        // The sum of the chunk.
        self.reader.payload(&mut payload)?;
        Ok(())
    }

    /// All bytes of the chunk's payload.
    fn payload(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while self.reader.append(&mut bytes, native::LINE_MAX)? > 0 {
            if bytes.len() > 2 * native::LINE_MAX {
                return Err(Error::damaged(
                    self.reader.place(),
                    "damaged: a chunk is larger than any that xb-tools write",
                ));
            }
        }
        Ok(bytes)
    }

    fn begin(&mut self, head: &Head) -> Result<()> {
        if head.body != Body::End {
            let bytes = self.payload()?;
            let place = self.reader.place().to_owned();
            return self.begin.feed(&place, &bytes);
        }
        let begin = self.begin.finish(self.reader.place())?;
        let part = Begin {
            kind: StreamKind::Files,
            backup_id: self.id.clone(),
            redo: None,
            without_innodb: false,
            filter: None,
            base: None,
            estimated_bytes: 0,
            ..begin.clone()
        };
        self.anew = begin_bytes(&part)?;
        self.told.begin = Some(begin);
        self.told.begin_bytes = self.begin.bytes().to_vec();
        self.writer.member(BEGIN, &self.anew)
    }

    fn manifest(&mut self, head: &Head) -> Result<()> {
        if head.body != Body::End {
            let bytes = self.payload()?;
            return self.lines(&bytes);
        }
        self.manifest.finish()?;
        let trailer = self.told.trailer.clone().or_internal("a manifest that is complete has no last line")?;
        if let Some((path, _)) = self.there.iter().find(|(_, seen)| !seen.listed) {
            return Err(Error::damaged(path.as_bstr(), "the manifest does not list it"));
        }
        let trailer = Trailer {
            backup_id: self.id.clone(),
            begin_blake3: Some(begin_digest(&self.anew)),
            partial: true,
            left_out: Vec::new(),
            ..trailer
        };
        let last = self.tally.finish(trailer)?;
        self.lines.extend_from_slice(last.as_bytes());
        let (mut offset, lines) = (0u64, std::mem::take(&mut self.lines));
        for piece in lines.chunks(BUFFER) {
            self.writer.payload(MANIFEST, offset, piece)?;
            offset = offset.saturating_add(piece.len() as u64);
        }
        self.writer.end(MANIFEST)
    }

    fn lines(&mut self, bytes: &[u8]) -> Result<()> {
        let Pass { manifest, there, tally, lines, told, options, begin, .. } = self;
        manifest.feed(bytes, |line, bytes| {
            match line {
                Line::Entry(entry) => {
                    let path = entry.path().unwrap_or_default();
                    if path == BEGIN {
                        return Ok(());
                    }
                    told.members = told.members.saturating_add(1);
                    if let Some(seen) = there.get_mut(&path) {
                        seen.listed = true;
                        if seen.picked {
                            tally.add(&entry, bytes);
                            lines.extend_from_slice(bytes);
                        }
                    } else if options.complete {
                        let what = "missing: the manifest lists it, the stream does not have it";
                        return Err(Error::damaged(path.as_bstr(), what));
                    }
                    if options.entries {
                        told.entries.insert(path, Described::from(&*entry));
                    }
                }
                Line::Trailer(trailer) => {
                    native::bind(begin.bytes(), &trailer)?;
                    told.trailer = Some(*trailer);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
