//! Encrypts members, as a [`Codec`].

use std::sync::Arc;

use super::seal::{self, Algorithm, Seal};
use super::{Keys, MAKE_KEY, xbcrypt};
use crate::codec::{Choice, Codec, Cut, Fault, Flow, PIECE, Serial};
use crate::error::{Error, Result};
use crate::stream::native::BEGIN;

/// The container format for encrypted members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own container.
    Seal(Algorithm),
    /// Percona's, version 3.
    Xbcrypt,
}

impl Format {
    /// The suffix of encrypted members.
    pub fn suffix(self) -> &'static [u8] {
        match self {
            Format::Seal(_) => seal::SUFFIX,
            Format::Xbcrypt => xbcrypt::SUFFIX,
        }
    }
}

/// Encrypts every member except `xb_begin`.
#[derive(Debug)]
pub struct Encrypt<'a> {
    keys: &'a Keys,
    format: Format,
}

impl<'a> Encrypt<'a> {
    /// Encrypts with this key, if this format can use it.
    pub fn new(keys: &'a Keys, format: Format) -> Result<Self> {
        if let Format::Seal(_) = format {
            keys.seal().map_err(|fault| Error::new(fault.kind, "key", fault.what).hint(MAKE_KEY))?;
        }
        Ok(Encrypt { keys, format })
    }

    fn begin(&self, name: &[u8]) -> Result<Member, Fault> {
        let Format::Seal(algorithm) = self.format else { return Ok(Member::Xbcrypt) };
        let mut salt = [0; seal::SALT];
        super::random(&mut salt)?;
        let (head, seal) = Seal::new(self.keys.seal()?, name, algorithm, &salt)?;
        Ok(Member::Seal { seal: seal.into(), next: 0, head: Some(head.into()), ended: false })
    }
}

/// A member that is being encrypted.
#[derive(Debug)]
pub enum Member {
    /// Its key, the number of the next chunk, its head until that is written, and whether the end mark is written.
    Seal {
        /// The member's own key.
        seal: Arc<Seal>,
        /// Number of the next chunk.
        next: u64,
        /// Written before the first chunk.
        head: Option<Box<[u8; seal::HEAD]>>,
        /// The end mark is written.
        ended: bool,
    },
    /// No state.
    Xbcrypt,
}

/// A piece of a member.
#[derive(Debug)]
pub enum Job {
    /// Chunks of a seal.
    Seal {
        /// The member's own key.
        seal: Arc<Seal>,
        /// Number of the first chunk.
        first: u64,
        /// Written before it.
        head: Option<Box<[u8; seal::HEAD]>>,
        /// The end mark follows.
        end: bool,
    },
    /// Chunks of xbcrypt.
    Xbcrypt,
}

impl Codec for Encrypt<'_> {
    type Member = Member;
    type Job = Job;
    type Worker = ();
    const CUTS_ANYWHERE: bool = true;

    fn name(&self, path: &[u8]) -> Vec<u8> {
        [path, self.format.suffix()].concat()
    }

    fn choose(&self, path: &[u8], _: &[u8]) -> Result<Choice<Member>, Fault> {
        if path == BEGIN { Ok(Choice::Pass) } else { self.begin(path).map(Choice::Code) }
    }

    fn whole(&self, _: &[u8]) -> Result<Member, Fault> {
        self.begin(b"")
    }

    /// Cuts all that is there: chunks may have any length, and waiting costs memory and time.
    fn cut(&self, member: &mut Member, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        let len = waiting.len().min(PIECE);
        match member {
            Member::Xbcrypt if len > 0 => Ok(Cut::Piece { len, job: Job::Xbcrypt }),
            Member::Seal { seal, next, head, ended } if len > 0 || (flow == Flow::Last && !*ended) => {
                let first = *next;
                let chunks = len.div_ceil(seal::CHUNK_MAX) as u64;
                *next = first.checked_add(chunks).ok_or(seal::Fault::Counter)?;
                *ended = flow == Flow::Last && len == waiting.len();
                let job = Job::Seal { seal: seal.clone(), first, head: head.take(), end: *ended };
                Ok(Cut::Piece { len, job })
            }
            _ => Ok(Cut::More(PIECE)),
        }
    }

    fn serial(&self, _: &mut Member, bytes: &[u8], _: &mut Vec<u8>) -> Result<Serial, Fault> {
        Ok(Serial { taken: bytes.len(), again: false })
    }

    fn worker(&self) {}

    fn work(&self, (): &mut (), job: Job, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match job {
            Job::Xbcrypt => {
                for text in piece.chunks(xbcrypt::CHUNK) {
                    let mut iv = [0; xbcrypt::IV];
                    super::random(&mut iv)?;
                    xbcrypt::encrypt(&self.keys.key, &iv, text, out);
                }
            }
            Job::Seal { seal, first, head, end } => {
                out.extend_from_slice(head.as_ref().map_or(&[], |head| &head[..]));
                let mut number = first;
                for text in piece.chunks(seal::CHUNK_MAX) {
                    seal.put(number, text, out)?;
                    number += 1;
                }
                if end {
                    seal.put(number, &[], out)?;
                }
            }
        }
        Ok(())
    }
}
