//! Cuts a member's bytes into pieces that any thread can encrypt or decrypt.
//!
//! [`Encoder`] and [`Decoder`] hold what has to be done in order: heads, numbers of chunks, what is left of a chunk
//! that is not complete yet. [`Piece::run`] does the work. No piece needs another.

use std::fmt;
use std::sync::Arc;

use super::key::{Key, SealKey};
use super::keyfile::random;
use super::seal::{self, Algorithm, Seal};
use super::xbcrypt::{self, Version};
use crate::error::{Error, Kind, Result};

/// How members are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own container.
    Seal(Algorithm),
    /// Percona's, version 3.
    Xbcrypt,
}

/// What the name of an encrypted member ends with.
pub const SEAL_SUFFIX: &[u8] = b".xbseal";
/// The same for xbcrypt.
pub const XBCRYPT_SUFFIX: &[u8] = b".xbcrypt";

impl Format {
    /// What the names of encrypted members end with.
    pub fn suffix(self) -> &'static [u8] {
        match self {
            Format::Seal(_) => SEAL_SUFFIX,
            Format::Xbcrypt => XBCRYPT_SUFFIX,
        }
    }

    /// Most bytes of plain text in a piece.
    pub fn piece(self) -> usize {
        match self {
            Format::Seal(_) => seal::CHUNK_MAX,
            Format::Xbcrypt => xbcrypt::CHUNK,
        }
    }
}

/// The operator's key, ready for both formats.
#[derive(Debug)]
pub struct Keys {
    key: Key,
    seal: Option<SealKey>,
}

impl Keys {
    /// Takes a key of any length.
    pub fn new(key: Key) -> Self {
        let seal = key.for_seal();
        Keys { key, seal }
    }

    fn seal(&self) -> Result<&SealKey, Fault> {
        self.seal.as_ref().ok_or(Fault::KeyLength(self.key.length()))
    }
}

/// Why a member cannot be encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The seal container.
    Seal(seal::Fault),
    /// An xbcrypt chunk.
    Xbcrypt(xbcrypt::Fault),
    /// seal wants 32 bytes of key; there are so many.
    KeyLength(usize),
    /// An xbcrypt chunk is larger than what may be held in memory.
    Large(usize),
    /// The member ends before its end.
    Truncated,
    /// Bytes follow the end mark.
    Trailing,
    /// Neither container.
    Plain,
}

impl Fault {
    /// What it means to the operator.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::KeyLength(_)
            | Fault::Seal(seal::Fault::Key | seal::Fault::Name | seal::Fault::Tag)
            | Fault::Xbcrypt(xbcrypt::Fault::Hash) => Kind::Key,
            Fault::Seal(seal::Fault::Counter | seal::Fault::Cipher) => Kind::Failed,
            _ => Kind::Damaged,
        }
    }

    /// The failure of the member that messages call `place`, at this byte of it.
    pub fn at(self, place: impl fmt::Display, at: u64) -> Error {
        let error = Error::new(self.kind(), place, format_args!("{self} (byte {at} of it)"));
        match self {
            Fault::KeyLength(_) => error.hint("xb-crypt --generate-key FILE makes a key of 32 bytes"),
            Fault::Seal(seal::Fault::Name) => {
                error.hint("the name that it was sealed under is part of its key; give it back, or with --raw --name NAME")
            }
            Fault::Seal(seal::Fault::Version(_)) => error.hint("use the xb-tools that sealed it, or newer ones"),
            Fault::Large(size) => error.hint(format_args!("if it is real: --buffer-size {size}")),
            Fault::Truncated => error.hint("the sender stopped early; check its exit status (set -o pipefail)"),
            _ => error,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Seal(fault) => fault.fmt(f),
            Fault::Xbcrypt(fault) => fault.fmt(f),
            Fault::KeyLength(length) => write!(f, "wrong key: sealed with 32 bytes, and this key has {length}"),
            Fault::Large(size) => write!(f, "damaged: xbcrypt chunk of {size} bytes, more than may be held in memory"),
            Fault::Truncated => f.write_str("truncated: it ends before the end of its encrypted data"),
            Fault::Trailing => f.write_str("damaged: bytes follow the end of the sealed data"),
            Fault::Plain => f.write_str("not encrypted"),
        }
    }
}

impl From<seal::Fault> for Fault {
    fn from(fault: seal::Fault) -> Self {
        Fault::Seal(fault)
    }
}

impl From<xbcrypt::Fault> for Fault {
    fn from(fault: xbcrypt::Fault) -> Self {
        Fault::Xbcrypt(fault)
    }
}

/// Bytes, and what is to be done with them.
#[derive(Debug)]
pub struct Piece {
    work: Work,
    bytes: Vec<u8>,
    /// Where in the member it begins; in its encrypted form, when it is decrypted.
    pub at: u64,
}

#[derive(Debug)]
enum Work {
    Pass,
    Close(Arc<Seal>, u64),
    Open(Arc<Seal>, u64),
    Encrypt(Arc<Keys>),
    Decrypt(Arc<Keys>, xbcrypt::Head),
}

/// What has become of a piece.
#[derive(Debug, Default)]
pub struct Done {
    /// Goes before `bytes`: the head of a chunk.
    pub front: Vec<u8>,
    /// Encrypted, or plain.
    pub bytes: Vec<u8>,
    /// True if the key has proved right: there was something to decrypt, and it was authentic.
    pub proved: bool,
}

impl Piece {
    /// Bytes that go as they are.
    pub fn pass(bytes: Vec<u8>, at: u64) -> Self {
        Piece { work: Work::Pass, bytes, at }
    }

    /// Encrypts or decrypts.
    pub fn run(self) -> Result<Done, Fault> {
        let mut done = Done { bytes: self.bytes, ..Done::default() };
        match self.work {
            Work::Pass => {}
            Work::Close(seal, number) => done.front.extend_from_slice(&seal.close(number, &mut done.bytes)?),
            Work::Open(seal, number) => {
                seal.take(number, &mut done.bytes)?;
                done.proved = true;
            }
            Work::Encrypt(keys) => {
                let mut iv = [0; xbcrypt::IV];
                random(&mut iv).map_err(|_| Fault::Seal(seal::Fault::Cipher))?;
                done.front.extend_from_slice(&xbcrypt::encrypt(&keys.key, &iv, &mut done.bytes));
            }
            Work::Decrypt(keys, head) => {
                xbcrypt::decrypt(&keys.key, &head, &mut done.bytes)?;
                done.proved = head.version == Version::V3;
            }
        }
        Ok(done)
    }
}

/// A member that is being encrypted.
#[derive(Debug)]
pub struct Encoder {
    how: How,
    /// Plain bytes so far.
    at: u64,
}

#[derive(Debug)]
enum How {
    Seal { seal: Arc<Seal>, next: u64 },
    Xbcrypt(Arc<Keys>),
}

impl Encoder {
    /// Begins a member of this plain name. Also returns what its encrypted form begins with.
    pub fn new(keys: &Arc<Keys>, format: Format, name: &[u8]) -> Result<(Self, Vec<u8>)> {
        let (how, head) = match format {
            Format::Xbcrypt => (How::Xbcrypt(keys.clone()), Vec::new()),
            Format::Seal(algorithm) => {
                let mut salt = [0; seal::SALT];
                random(&mut salt)?;
                let key = keys.seal().map_err(|_| short(keys.key.length()))?;
                let made = Seal::new(key, name, algorithm, &salt);
                let (head, seal) = made.map_err(|fault| Fault::Seal(fault).at("key", 0))?;
                (How::Seal { seal: seal.into(), next: 0 }, head.to_vec())
            }
        };
        Ok((Encoder { how, at: 0 }, head))
    }

    /// The next plain bytes: some, and at most [`Format::piece`].
    pub fn piece(&mut self, bytes: Vec<u8>) -> Result<Piece, Fault> {
        let at = self.at;
        self.at = at.saturating_add(bytes.len() as u64);
        let work = match &mut self.how {
            How::Xbcrypt(keys) => Work::Encrypt(keys.clone()),
            How::Seal { seal, next } => {
                let number = *next;
                *next = number.checked_add(1).ok_or(seal::Fault::Counter)?;
                Work::Close(seal.clone(), number)
            }
        };
        Ok(Piece { work, bytes, at })
    }

    /// The end mark, in a format that has one.
    pub fn end(self) -> Option<Piece> {
        match self.how {
            How::Xbcrypt(_) => None,
            How::Seal { seal, next } => Some(Piece { work: Work::Close(seal, next), bytes: Vec::new(), at: self.at }),
        }
    }
}

fn short(length: usize) -> Error {
    Error::new(Kind::Key, "key", format_args!("has {length} bytes; seal wants 32"))
        .hint("xb-crypt --generate-key FILE makes one; --format xbcrypt takes 16, 24 and 32 bytes")
}

/// A member that is being decrypted. Which container it is in, if any, is decided by its first bytes.
#[derive(Debug)]
pub struct Decoder {
    keys: Arc<Keys>,
    /// The plain name, bound to a seal's keys.
    name: Vec<u8>,
    state: State,
    /// What the name or the caller promises; anything else is a fault.
    wanted: Wanted,
    /// Most bytes of an xbcrypt chunk.
    limit: usize,
    held: Vec<u8>,
    /// Where `held` begins in the member.
    at: u64,
    oldest: Option<Version>,
}

/// What a member has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Sealed: its name says so.
    Seal,
    /// Encrypted by xbcrypt: its name says so.
    Xbcrypt,
    /// Encrypted, in either format.
    Encrypted,
    /// Anything; what is not encrypted passes.
    Any,
}

#[derive(Debug)]
enum State {
    Start,
    SealHead,
    Length(Arc<Seal>, u64),
    Body(Arc<Seal>, u64, usize),
    Ended,
    XbcryptMagic,
    XbcryptHead(usize),
    XbcryptBody(xbcrypt::Head),
    Plain,
}

impl Decoder {
    /// Begins a member. `limit` is the size up to which a chunk of xbcrypt is held in memory.
    pub fn new(keys: &Arc<Keys>, name: &[u8], wanted: Wanted, limit: usize) -> Self {
        Decoder {
            keys: keys.clone(),
            name: name.to_vec(),
            state: State::Start,
            wanted,
            limit,
            held: Vec::new(),
            at: 0,
            oldest: None,
        }
    }

    /// Where in the member it is: the byte that a fault is about.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The oldest version of xbcrypt chunks so far, if there were any.
    pub fn oldest(&self) -> Option<Version> {
        self.oldest
    }

    /// True if the member turned out to be neither sealed nor of xbcrypt.
    pub fn is_plain(&self) -> bool {
        matches!(self.state, State::Plain)
    }

    /// Takes bytes from the front of `bytes`, until a piece is complete or no byte is left.
    pub fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<Piece>, Fault> {
        loop {
            let piece = match self.needs() {
                // Plain bytes, as many as there are.
                None if bytes.is_empty() && self.held.is_empty() => return Ok(None),
                None => self.pass(std::mem::take(bytes)),
                Some(need) => {
                    let missing = need.saturating_sub(self.held.len());
                    let (now, later) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
                    if self.held.capacity() < need && need <= seal::CHUNK_MAX + seal::TAG {
                        self.held.reserve_exact(need - self.held.len());
                    }
                    self.held.extend_from_slice(now);
                    *bytes = later;
                    if self.held.len() < need {
                        return Ok(None);
                    }
                    self.step()?
                }
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    /// The end of the member. A short plain member is decided upon only here.
    pub fn finish(&mut self) -> Result<Option<Piece>, Fault> {
        match self.state {
            State::Ended => Ok(None),
            State::Plain | State::XbcryptMagic if self.held.is_empty() => Ok(None),
            // xbcrypt writes nothing for nothing.
            State::Start if self.held.is_empty() && self.wanted != Wanted::Seal => Ok(None),
            State::Start if self.wanted == Wanted::Any => {
                self.state = State::Plain;
                Ok(self.pass(&[]))
            }
            _ => Err(Fault::Truncated),
        }
    }

    /// How many bytes make the next step; `None` if any do.
    fn needs(&self) -> Option<usize> {
        match &self.state {
            State::Start | State::XbcryptMagic => Some(8),
            State::SealHead => Some(seal::HEAD),
            State::Length(..) => Some(seal::LENGTH),
            State::Body(_, _, length) => Some(length + seal::TAG),
            State::Ended => Some(1),
            State::XbcryptHead(length) => Some(*length),
            State::XbcryptBody(head) => Some(head.size),
            State::Plain => None,
        }
    }

    /// Takes what [`Decoder::needs`] has asked for.
    fn step(&mut self) -> Result<Option<Piece>, Fault> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Start => self.state = self.container()?,
            State::SealHead => {
                let head = self.held.first_chunk().ok_or(Fault::Truncated)?;
                let seal = Seal::open(self.keys.seal()?, &self.name, head)?;
                self.pass_over();
                self.state = State::Length(seal.into(), 0);
            }
            State::Length(seal, number) => {
                let length = seal::chunk_length(self.held.first_chunk().copied().ok_or(Fault::Truncated)?)?;
                self.pass_over();
                self.state = State::Body(seal, number, length);
            }
            State::Body(seal, number, length) => {
                if length > 0 {
                    let next = number.checked_add(1).ok_or(seal::Fault::Counter)?;
                    self.state = State::Length(seal.clone(), next);
                }
                return Ok(Some(self.cut(Work::Open(seal, number))));
            }
            State::Ended => return Err(Fault::Trailing),
            State::XbcryptMagic => {
                self.state = State::XbcryptHead(xbcrypt::head_length(self.held.first_chunk().ok_or(Fault::Truncated)?)?);
            }
            State::XbcryptHead(_) => {
                let head = xbcrypt::head(&self.held)?;
                if head.size > self.limit {
                    return Err(Fault::Large(head.size));
                }
                self.oldest = Some(self.oldest.map_or(head.version, |oldest| oldest.min(head.version)));
                self.pass_over();
                self.state = State::XbcryptBody(head);
            }
            State::XbcryptBody(head) => {
                self.state = State::XbcryptMagic;
                return Ok(Some(self.cut(Work::Decrypt(self.keys.clone(), head))));
            }
            State::Plain => self.state = State::Plain,
        }
        Ok(None)
    }

    /// Decides by the first eight bytes.
    fn container(&self) -> Result<State, Fault> {
        let is = |magic: &[u8; 6]| self.held.starts_with(magic);
        match self.wanted {
            Wanted::Seal | Wanted::Encrypted | Wanted::Any if is(b"XBSEAL") => Ok(State::SealHead),
            Wanted::Xbcrypt | Wanted::Encrypted | Wanted::Any if is(xbcrypt::MAGIC) => Ok(State::XbcryptMagic),
            Wanted::Seal => Err(seal::Fault::Magic.into()),
            Wanted::Xbcrypt => Err(xbcrypt::Fault::Magic.into()),
            Wanted::Encrypted => Err(Fault::Plain),
            Wanted::Any => Ok(State::Plain),
        }
    }

    fn pass(&mut self, bytes: &[u8]) -> Option<Piece> {
        self.held.extend_from_slice(bytes);
        Some(self.cut(Work::Pass))
    }

    fn cut(&mut self, work: Work) -> Piece {
        let bytes = std::mem::take(&mut self.held);
        let at = self.at;
        self.at = at.saturating_add(bytes.len() as u64);
        Piece { work, bytes, at }
    }

    fn pass_over(&mut self) {
        self.at = self.at.saturating_add(self.held.len() as u64);
        self.held.clear();
    }
}
