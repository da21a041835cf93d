//! What rewrites bytes piece by piece: compression, encryption, and both ways back.
//!
//! A [`Codec`] is pure: it says where bytes may be cut into pieces that stand alone, and works on them. Who holds the
//! bytes, which thread works, and where results go is the affair of [`crate::codec::members`] (members inside a stream)
//! and [`crate::codec::whole_input`] (the whole input).

pub mod members;
pub mod pool;
pub(crate) mod splitter;
pub mod whole_input;

use std::fmt::Display;

use crate::budget::Exceeded;
use crate::error::{Internal, Kind};

/// Bytes of content in a piece, usually. Large enough that frames cost nothing, small enough that a few dozen of them
/// are no burden.
pub const PIECE: usize = 1 << 20;
/// So many bytes of a member are there when [`Codec::choose`] is asked, unless it is shorter.
pub const START: usize = 16;

/// Rewrites members.
pub trait Codec: Sync {
    /// What is known of a member that is open; stays in the thread that reads.
    type Member;
    /// What a worker must know of a piece.
    type Job: Send;
    /// What a worker keeps between pieces: contexts, tables.
    type Worker;
    /// Whether a piece can be cut anywhere, so that memory can be had back from members that wait.
    const CUTS_ANYWHERE: bool;

    /// The name that a member has when it has been rewritten.
    fn name(&self, path: &[u8]) -> Vec<u8>;
    /// The stream begins with `xb_begin`: what our own programs write can be expected of it.
    fn ours(&self) {}
    /// What to do with a member, by its name and its first bytes: [`START`] of them, fewer if it has no more.
    fn choose(&self, path: &[u8], start: &[u8]) -> Result<Choice<Self::Member>, Fault>;
    /// The whole input is to be rewritten; it begins so.
    fn whole(&self, start: &[u8]) -> Result<Self::Member, Fault>;
    /// Looks at the bytes of a member that are held, and cuts a piece from their start. Called again with the rest,
    /// until it says [`Cut::More`]. What comes before a `More` has been seen when it is called with more bytes.
    fn cut(&self, member: &mut Self::Member, splitter: &[u8], flow: Flow) -> Result<Cut<Self::Job>, Fault>;
    /// Rewrites bytes that cannot stand alone, cut as [`Cut::Serial`], in the thread that reads and in order. Appends
    /// to `out`, not much more than [`PIECE`] bytes at a time.
    fn serial(&self, member: &mut Self::Member, bytes: &[u8], out: &mut Vec<u8>) -> Result<Serial, Fault>;
    /// Called once in each thread that works.
    fn worker(&self) -> Self::Worker;
    /// Rewrites a piece; appends to `out`, which is empty.
    fn work(&self, worker: &mut Self::Worker, job: Self::Job, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault>;
}

/// What becomes of a member.
#[derive(Debug)]
pub enum Choice<M> {
    /// It stays as it is.
    Pass,
    /// It is rewritten, and gets its [`Codec::name`].
    Code(M),
}

/// Whether bytes will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Perhaps.
    Open,
    /// Perhaps, but memory is short: cut now if [`Codec::CUTS_ANYWHERE`].
    Short,
    /// No: the member is complete.
    Last,
}

/// Where to cut.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<J> {
    /// Nothing to cut. It is of no use to hold more than so many bytes without asking again. When the member is
    /// complete: all is said.
    More(usize),
    /// The first `len` bytes stand alone.
    Piece {
        /// At most as many as are held; 0 is allowed.
        len: usize,
        /// For the worker.
        job: J,
    },
    /// The first so many bytes go through [`Codec::serial`].
    Serial(usize),
}

/// How far [`Codec::serial`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// So many bytes are done with. If not all are, and it is not to be called `again`, the rest is cut anew.
    pub taken: usize,
    /// Whether it must be called again, with the rest, because there is more to append.
    pub again: bool,
}

/// Why bytes cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Decides the exit code.
    pub kind: Kind,
    /// In the grammar of messages, without the place.
    pub what: String,
    /// Where, counted from the start of the bytes that were given.
    pub at: usize,
    /// What the operator can do.
    pub hint: Option<&'static str>,
}

impl Fault {
    /// Bytes that are not what they should be.
    pub fn damaged(at: usize, what: impl Display) -> Self {
        Fault { kind: Kind::Damaged, what: format!("damaged: {what}"), at, hint: None }
    }

    /// Bytes that end too early.
    pub fn truncated(at: usize, what: impl Display) -> Self {
        Fault { kind: Kind::Damaged, what: format!("truncated: {what}"), at, hint: None }
    }

    /// Something that is legal, and that we do not do.
    pub fn refused(at: usize, what: impl Display) -> Self {
        Fault { kind: Kind::Failed, what: format!("refused: {what}"), at, hint: None }
    }

    /// The same, `by` bytes further on.
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
