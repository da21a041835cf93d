//! Rewrites bytes in pieces: compression, encryption, and the reverse.
//!
//! A [`Codec`] is pure: it decides where bytes may be cut into independent pieces, and rewrites them.
//! [`crate::codec::members`] (members inside a stream) and [`crate::codec::whole_input`] (the whole input) keep the
//! bytes, run the threads and write the results.

pub mod members;
pub mod pool;
pub(crate) mod splitter;
pub mod whole_input;

use std::fmt::Display;

use crate::budget::Exceeded;
use crate::error::{Internal, Kind};

/// The usual size of a piece in bytes: large enough that frames cost nothing, small enough that a few dozen fit into
/// memory.
pub const PIECE: usize = 1 << 20;
/// How many bytes of a member [`Codec::choose`] gets, unless the member is shorter.
pub const START: usize = 16;

/// Rewrites members.
pub trait Codec: Sync {
    /// The state of an open member; stays in the reading thread.
    type Member;
    /// What a worker needs to know of a piece.
    type Job: Send;
    /// What a worker keeps between pieces: contexts, tables.
    type Worker;
    /// True if a piece can be cut anywhere, so that waiting members can release memory.
    const CUTS_ANYWHERE: bool;

    /// The name of a member after it has been rewritten.
    fn name(&self, path: &[u8]) -> Vec<u8>;
    /// Called if the stream begins with `xb_begin`: it has only what our own programs write.
    fn ours(&self) {}
    /// Decides on a member, by its name and its first bytes: [`START`] of them, fewer if it is shorter.
    fn choose(&self, path: &[u8], start: &[u8]) -> Result<Choice<Self::Member>, Fault>;
    /// Begins a rewrite of the whole input, which starts with these bytes.
    fn whole(&self, start: &[u8]) -> Result<Self::Member, Fault>;
    /// Looks at the waiting bytes of a member, and cuts a piece from their start. Called again with the rest, until it
    /// returns [`Cut::More`]. Bytes before a `More` have been seen when it is called with more bytes.
    fn cut(&self, member: &mut Self::Member, waiting: &[u8], flow: Flow) -> Result<Cut<Self::Job>, Fault>;
    /// Rewrites bytes that are not independent, cut as [`Cut::Serial`], in order, in the reading thread. Appends to
    /// `out`, not much more than [`PIECE`] bytes at a time.
    fn serial(&self, member: &mut Self::Member, bytes: &[u8], out: &mut Vec<u8>) -> Result<Serial, Fault>;
    /// Called once in each working thread.
    fn worker(&self) -> Self::Worker;
    /// Rewrites a piece; appends to `out`, which is empty.
    fn work(&self, worker: &mut Self::Worker, job: Self::Job, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault>;
}

/// The decision on a member.
#[derive(Debug)]
pub enum Choice<M> {
    /// Pass it on unchanged.
    Pass,
    /// Rewrite it, with the name [`Codec::name`].
    Code(M),
}

/// Whether bytes will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They may.
    Open,
    /// They may, but memory is short: cut now if [`Codec::CUTS_ANYWHERE`].
    Short,
    /// No: the member is complete.
    Last,
}

/// Where to cut.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<J> {
    /// Cut nothing; it makes no sense to keep more than this many bytes before the next call. When the member is
    /// complete: it is finished.
    More(usize),
    /// The first `len` bytes are an independent piece.
    Piece {
        /// At most the number of waiting bytes; may be 0.
        len: usize,
        /// For the worker.
        job: J,
    },
    /// The first bytes, of this number, go through [`Codec::serial`].
    Serial(usize),
}

/// The result of [`Codec::serial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// How many bytes are done. If not all are, and it must not be called `again`, the rest is cut anew.
    pub taken: usize,
    /// True if it must be called again, with the rest, because there is more to append.
    pub again: bool,
}

/// Why bytes cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Decides the exit code.
    pub kind: Kind,
    /// The message, without the place.
    pub what: String,
    /// The offset in the bytes that were passed.
    pub at: usize,
    /// What the operator can do.
    pub hint: Option<&'static str>,
}

impl Fault {
    /// Invalid bytes.
    pub fn damaged(at: usize, what: impl Display) -> Self {
        Fault { kind: Kind::Damaged, what: format!("damaged: {what}"), at, hint: None }
    }

    /// Bytes that end too early.
    pub fn truncated(at: usize, what: impl Display) -> Self {
        Fault { kind: Kind::Damaged, what: format!("truncated: {what}"), at, hint: None }
    }

    /// Valid bytes that this program does not support.
    pub fn refused(at: usize, what: impl Display) -> Self {
        Fault { kind: Kind::Failed, what: format!("refused: {what}"), at, hint: None }
    }

    /// The same fault, `by` bytes later.
    #[must_use]
    pub fn shifted(self, by: usize) -> Self {
        Fault { at: self.at + by, ..self }
    }
}

impl From<Internal> for Fault {
    fn from(internal: Internal) -> Self {
        Fault { kind: Kind::Failed, what: internal.to_string(), at: 0, hint: None }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Fault { kind: Kind::Failed, what: exceeded.to_string(), at: 0, hint: Some(exceeded.advice()) }
    }
}
