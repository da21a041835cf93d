//! Parses an xbstream that passes: its estimated size, and the name of the current member.
//!
//! Nothing is delayed or refused. Input that is not a stream, or no longer looks like one, is not parsed.

use bstr::ByteSlice;

use crate::stream::chunk::{self, PAYLOAD_HEAD, PREFIX, Type};
use crate::stream::native::{BEGIN, BeginReader, LINE_MAX, plain_name};
use crate::zip::stays_plain;

/// New information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Size of the content in bytes, as the stream's first member estimates it.
    Expected(u64),
    /// Members are compressed or encrypted, so the estimate is not the size of this stream.
    Coded,
    /// Another member begins.
    Member(String),
}

/// Follows the headers of a stream. Call [`Observer::need`]. If it is 0, pass up to [`Observer::blind`] bytes and
/// report them to [`Observer::skip`]; otherwise pass at most that many bytes to [`Observer::see`].
#[derive(Debug)]
pub struct Observer {
    part: Part,
    bytes: Vec<u8>,
    path: Vec<u8>,
    kind: Type,
    begin: BeginReader,
    /// It is not known yet whether the estimate is the size of this stream.
    announced: bool,
    names: bool,
}

/// The part of the stream that comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    Prefix,
    Path(usize),
    Extent,
    /// Of `xb_begin`.
    Content(u64),
    Blind(u64),
    /// Not an xbstream, or not relevant.
    Other,
}

impl Observer {
    /// Finds the estimated size; with `names` also the members' names.
    pub fn new(names: bool) -> Self {
        let (bytes, path, begin) = (Vec::new(), Vec::new(), BeginReader::default());
        Observer { part: Part::Prefix, bytes, path, kind: Type::End, begin, announced: false, names }
    }

    /// How many bytes must be shown next; 0 if some may pass unseen.
    pub fn need(&self) -> usize {
        let whole = match self.part {
            Part::Prefix => PREFIX,
            Part::Path(len) => len,
            Part::Extent => PAYLOAD_HEAD,
            Part::Content(left) => return usize::try_from(left).unwrap_or(usize::MAX).min(LINE_MAX),
            Part::Blind(_) | Part::Other => return 0,
        };
        whole.saturating_sub(self.bytes.len())
    }

    /// How many bytes may pass unseen.
    pub fn blind(&self) -> u64 {
        match self.part {
            Part::Blind(left) => left,
            Part::Other => u64::MAX,
            _ => 0,
        }
    }

    /// Skips bytes that have passed unseen.
    pub fn skip(&mut self, count: u64) {
        if let Part::Blind(left) = self.part {
            let left = left.saturating_sub(count);
            self.part = if left == 0 { Part::Prefix } else { Part::Blind(left) };
        }
    }

    /// Parses bytes, at most as many as needed.
    pub fn see(&mut self, bytes: &[u8]) -> Option<Seen> {
        if let Part::Content(left) = self.part {
            let left = left.saturating_sub(bytes.len() as u64);
            self.part = match self.begin.feed("stdin", bytes) {
                Ok(()) if left == 0 => Part::Prefix,
                Ok(()) => Part::Content(left),
                Err(_) => Part::Other,
            };
            return None;
        }
        self.bytes.extend_from_slice(bytes);
        if self.need() > 0 {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        match self.part {
            Part::Prefix => self.prefix(&bytes),
            Part::Path(_) => return self.path(bytes),
            Part::Extent => self.extent(&bytes),
            Part::Content(_) | Part::Blind(_) | Part::Other => {}
        }
        None
    }

    fn prefix(&mut self, bytes: &[u8]) {
        let prefix = bytes.first_chunk::<PREFIX>().and_then(|bytes| chunk::prefix(bytes).ok());
        self.part = match prefix {
            Some(prefix) if prefix.path_len > 0 => {
                self.kind = prefix.kind;
                Part::Path(prefix.path_len)
            }
            _ => Part::Other,
        };
    }

    fn path(&mut self, path: Vec<u8>) -> Option<Seen> {
        let another = self.path != path;
        self.path = path;
        let ours = self.path == BEGIN;
        if self.announced && self.kind == Type::Payload && !stays_plain(&self.path) {
            self.announced = false;
            if plain_name(&self.path).len() < self.path.len() {
                self.part = if self.names { Part::Extent } else { Part::Other };
                // Its name is reported with its next chunk.
                self.path.clear();
                return Some(Seen::Coded);
            }
        }
        match self.kind {
            Type::End => {
                let begin = ours.then(|| self.begin.finish("stdin").ok()).flatten();
                self.announced |= begin.is_some();
                self.part = if self.names || self.announced { Part::Prefix } else { Part::Other };
                return begin.map(|begin| Seen::Expected(begin.estimated_bytes));
            }
            Type::Payload if ours || self.names || self.announced => self.part = Part::Extent,
            // The end of a sparse chunk cannot be found without reading ahead (`chunk::is_seek`); the other types are
            // rare.
            _ => self.part = Part::Other,
        }
        (self.names && another).then(|| Seen::Member(self.path.as_bstr().to_string()))
    }

    fn extent(&mut self, bytes: &[u8]) {
        let extent = bytes.first_chunk::<PAYLOAD_HEAD>().and_then(|bytes| chunk::payload(bytes).ok());
        self.part = match extent {
            Some(extent) if extent.len == 0 => Part::Prefix,
            Some(extent) if self.path != BEGIN => Part::Blind(extent.len),
            Some(extent) => Part::Content(extent.len),
            None => Part::Other,
        };
    }
}
