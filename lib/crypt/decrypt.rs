//! Decrypts members, as a [`Codec`].

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bstr::ByteSlice;

use super::Keys;
use super::seal::{self, Seal};
use super::xbcrypt::{self, Head, Version};
use crate::bytes::Part as _;
use crate::codec::{Choice, Codec, Cut, Fault, Flow, PIECE, Serial};
use crate::error::Kind;
use crate::stream::foreign;

/// The member that xtrabackup leaves unencrypted beside encrypted members.
const CLEAR: &[u8] = b"xtrabackup_checkpoints";

/// Decrypts what is sealed or encrypted by xbcrypt, in any version, which the first bytes show. Any other member is
/// refused, because an attacker could have put it there; unless the operator allows it, or xtrabackup leaves it
/// unencrypted in its own streams.
#[derive(Debug)]
pub struct Decrypt<'a> {
    keys: &'a Keys,
    /// The name with which the whole input was sealed.
    name: &'a [u8],
    /// The largest size of an xbcrypt chunk in bytes.
    limit: usize,
    /// Members that are not encrypted are passed on.
    allow_plain: bool,
    /// The stream begins with `xb_begin`.
    ours: AtomicBool,
    proved: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the input contained.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The oldest version of xbcrypt.
    pub oldest: Option<Version>,
    /// Number of members that were passed on because they were not encrypted, without `xb_begin`.
    pub plain: u64,
    /// The first of them.
    pub first_plain: Vec<u8>,
    /// The whole input was empty.
    pub empty: bool,
}

impl<'a> Decrypt<'a> {
    /// Decrypts with this key. `name` is bound to a whole input that is sealed; `limit` is the size up to which a chunk
    /// of xbcrypt is kept in memory.
    pub fn new(keys: &'a Keys, name: &'a [u8], limit: usize) -> Self {
        let (ours, proved) = (AtomicBool::new(false), AtomicBool::new(false));
        Decrypt { keys, name, limit, allow_plain: false, ours, proved, seen: Mutex::default() }
    }

    /// Also passes on members that are not encrypted.
    #[must_use]
    pub fn allow_plain(self, allow_plain: bool) -> Self {
        Decrypt { allow_plain, ..self }
    }

    /// True once encrypted data has been authenticated, which proves that the key is right.
    pub fn is_proved(&self) -> bool {
        self.proved.load(Relaxed)
    }

    /// What the input contained so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts as many whole chunks as there are.
    fn xbcrypt(&self, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        let mut len = 0;
        loop {
            let rest = waiting.part(len..)?;
            let want = match Chunk::read(rest) {
                // Complete chunks are written before the fault after them is reported.
                Err(_) if len > 0 => 0,
                Err(fault) => return Err(fault.into()),
                Ok(Chunk::Start) => XBCRYPT_MORE,
                Ok(Chunk::Head(head, end)) => {
                    self.check(&head)?;
                    if rest.len() >= end && (len == 0 || len + end <= PIECE) {
                        len += end;
                        continue;
                    }
                    end
                }
            };
            return match len {
                1.. => Ok(Cut::Piece { len, job: Job::Xbcrypt }),
                _ if flow == Flow::Last && !rest.is_empty() => Err(truncated(rest.len())),
                _ => Ok(Cut::More(want)),
            };
        }
    }

    fn check(&self, head: &Head) -> Result<(), Fault> {
        if head.size > self.limit {
            let what = format_args!("xbcrypt chunk of {} bytes, more than may be held in memory", head.size);
            let hint = Some("if it is real, --buffer-size raises the limit");
            return Err(Fault { hint, ..Fault::damaged(0, what) });
        }
        let mut seen = self.lock();
        seen.oldest = Some(seen.oldest.map_or(head.version, |oldest| oldest.min(head.version)));
        Ok(())
    }

    /// The same for a seal; also returns whether its end is there. `next` is the number of the first chunk, and then of
    /// the one after the last.
    fn seal(waiting: &[u8], flow: Flow, seal: &Arc<Seal>, next: &mut u64) -> Result<(Cut<Job>, bool), Fault> {
        let (first, mut len) = (*next, 0);
        loop {
            let rest = waiting.part(len..)?;
            let want = match rest.first_chunk().map(|length| seal::chunk_length(*length)) {
                Some(Err(_)) if len > 0 => 0,
                Some(Err(fault)) => return Err(fault.into()),
                None => SEAL_MORE,
                Some(Ok(length)) => {
                    let end = seal::LENGTH + length + seal::TAG;
                    if rest.len() >= end && (len == 0 || len + end <= PIECE) {
                        len += end;
                        if length > 0 {
                            *next = next.checked_add(1).ok_or(seal::Fault::Counter)?;
                            continue;
                        }
                        return Ok((Cut::Piece { len, job: Job::Seal(seal.clone(), first) }, true));
                    }
                    end
                }
            };
            return match len {
                1.. => Ok((Cut::Piece { len, job: Job::Seal(seal.clone(), first) }, false)),
                _ if flow == Flow::Last => Err(truncated(rest.len())),
                _ => Ok((Cut::More(want), false)),
            };
        }
    }
}

/// How many bytes of a sealed member are collected before the next chunk's length is known: those of the largest one.
const SEAL_MORE: usize = seal::LENGTH + seal::CHUNK_MAX + seal::TAG;
/// The same for xbcrypt: four chunks of the usual size.
const XBCRYPT_MORE: usize = 4 * (xbcrypt::HEAD_MAX + xbcrypt::CHUNK + xbcrypt::HASH);

/// A member that is being decrypted.
#[derive(Debug)]
pub enum Member {
    /// Its head is expected; the plain name.
    SealHead(Vec<u8>),
    /// Its key, and the number of the next chunk.
    Seal(Arc<Seal>, u64),
    /// Its end mark has been read.
    SealEnd,
    /// Every chunk is independent.
    Xbcrypt,
}

/// A piece of whole chunks.
#[derive(Debug)]
pub enum Job {
    /// Of a seal, from this number on.
    Seal(Arc<Seal>, u64),
    /// Of xbcrypt.
    Xbcrypt,
}

impl Codec for Decrypt<'_> {
    type Member = Member;
    type Job = Job;
    type Worker = ();
    const CUTS_ANYWHERE: bool = false;

    fn name(&self, path: &[u8]) -> Vec<u8> {
        plain(path).to_vec()
    }

    fn ours(&self) {
        self.ours.store(true, Relaxed);
    }

    fn choose(&self, path: &[u8], start: &[u8]) -> Result<Choice<Member>, Fault> {
        let container = container(plain(path), start);
        let suffix = path.part(plain(path).len()..)?;
        match (suffix, container) {
            (seal::SUFFIX, member @ Some(Member::SealHead(_))) | (xbcrypt::SUFFIX, member @ Some(Member::Xbcrypt)) => {
                Ok(member.map_or(Choice::Pass, Choice::Code))
            }
            // xbcrypt writes no bytes for an empty input.
            (xbcrypt::SUFFIX, None) if start.is_empty() => Ok(Choice::Code(Member::Xbcrypt)),
            (b"", Some(member)) => Ok(Choice::Code(member)),
            (b"", None) if self.allow_plain || (path == CLEAR && !self.ours.load(Relaxed)) => {
                let mut seen = self.lock();
                seen.plain += 1;
                if seen.plain == 1 {
                    path.clone_into(&mut seen.first_plain);
                }
                Ok(Choice::Pass)
            }
            (b"", None) => {
                let what = "not encrypted: anybody could have put it into the stream".to_owned();
                let hint = Some("if it is meant to be so, --allow-plain lets such members pass");
                Err(Fault { kind: Kind::Key, what, at: 0, hint })
            }
            _ if start.len() < 8 => Err(truncated(start.len())),
            _ => Err(Fault::damaged(0, format_args!("named {}, but is something else", suffix.as_bstr()))),
        }
    }

    fn whole(&self, start: &[u8]) -> Result<Member, Fault> {
        if let Some(member) = container(self.name, start) {
            return Ok(member);
        }
        if start.is_empty() {
            self.lock().empty = true;
            return Ok(Member::Xbcrypt);
        }
        let (what, hint) = match foreign::recognise(start) {
            _ if start.starts_with(b"XBSTCK01") => {
                ("an xbstream", Some("leave out --raw: its members are encrypted, or nothing is"))
            }
            Some((what, how)) => (what, Some(how)),
            None => ("something else", None),
        };
        Err(Fault { hint, ..Fault::damaged(0, format_args!("not encrypted: this is {what}")) })
    }

    fn cut(&self, member: &mut Member, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        match member {
            Member::Xbcrypt => self.xbcrypt(waiting, flow),
            Member::SealHead(name) => match waiting.first_chunk() {
                Some(head) => {
                    *member = Member::Seal(Seal::open(self.keys.seal()?, name, head)?.into(), 0);
                    Ok(Cut::Serial(seal::HEAD))
                }
                None if flow == Flow::Last => Err(truncated(waiting.len())),
                None => Ok(Cut::More(seal::HEAD)),
            },
            Member::Seal(seal, next) => {
                let (cut, ended) = Self::seal(waiting, flow, seal, next)?;
                if ended {
                    *member = Member::SealEnd;
                }
                Ok(cut)
            }
            Member::SealEnd if waiting.is_empty() => Ok(Cut::More(1)),
            Member::SealEnd => Err(Fault::damaged(0, "bytes follow the end of the sealed data")),
        }
    }

    fn serial(&self, _: &mut Member, bytes: &[u8], _: &mut Vec<u8>) -> Result<Serial, Fault> {
        // The head of a seal, which has been parsed.
        Ok(Serial { taken: bytes.len(), again: false })
    }

    fn worker(&self) {}

    fn work(&self, (): &mut (), job: Job, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut rest = piece;
        let mut proved = false;
        match job {
            Job::Seal(seal, first) => {
                let mut number = first;
                while let Some((length, body)) = rest.split_first_chunk() {
                    let at = piece.len() - rest.len();
                    let wrong = |fault: seal::Fault| Fault::from(fault).shifted(at);
                    let length = seal::chunk_length(*length).map_err(wrong)?;
                    let (sealed, later) =
                        body.split_at_checked(length + seal::TAG).ok_or_else(|| truncated(piece.len()))?;
                    seal.take(number, sealed, out).map_err(wrong)?;
                    (rest, number, proved) = (later, number.saturating_add(1), true);
                }
            }
            Job::Xbcrypt => {
                while let Chunk::Head(head, end) = Chunk::read(rest)? {
                    let at = piece.len() - rest.len();
                    let (chunk, later) = rest.split_at_checked(end).ok_or_else(|| truncated(piece.len()))?;
                    let encrypted = chunk.part(end - head.size..)?;
                    let plain = xbcrypt::decrypt(&self.keys.key, &head, encrypted, out);
                    plain.map_err(|fault| Fault::from(fault).shifted(at))?;
                    (rest, proved) = (later, proved || head.version == Version::V3);
                }
            }
        }
        if proved {
            self.proved.store(true, Relaxed);
        }
        Ok(())
    }
}

/// The start of some bytes, parsed as an xbcrypt chunk.
enum Chunk {
    /// Its head is incomplete.
    Start,
    /// Its head, and the length of the whole chunk.
    Head(Head, usize),
}

impl Chunk {
    fn read(bytes: &[u8]) -> Result<Chunk, xbcrypt::Fault> {
        let Some(magic) = bytes.first_chunk() else { return Ok(Chunk::Start) };
        let length = xbcrypt::head_length(magic)?;
        let Some(head) = bytes.get(..length) else { return Ok(Chunk::Start) };
        xbcrypt::head(head).map(|head| Chunk::Head(head, length + head.size))
    }
}

/// A member's name before it was encrypted.
fn plain(path: &[u8]) -> &[u8] {
    path.strip_suffix(seal::SUFFIX).or_else(|| path.strip_suffix(xbcrypt::SUFFIX)).unwrap_or(path)
}

/// The container that begins with these bytes.
fn container(name: &[u8], start: &[u8]) -> Option<Member> {
    match start {
        [b'X', b'B', b'S', b'E', b'A', b'L', ..] => Some(Member::SealHead(name.to_vec())),
        [b'X', b'B', b'C', b'R', b'Y', b'P', ..] => Some(Member::Xbcrypt),
        _ => None,
    }
}

fn truncated(at: usize) -> Fault {
    Fault { hint: Some(crate::stream::SENDER), ..Fault::truncated(at, "it ends before the end of its encrypted data") }
}
