//! Encryption of streams: our own container [`seal`], Percona's [`xbcrypt`], and [`key`]s.

mod decrypt;
mod deferred;
mod encrypt;
pub mod key;
pub mod keyfile;
pub mod keyring;
pub mod seal;
pub mod xbcrypt;

use std::io::{Read, Write};

use bstr::ByteSlice;

pub use decrypt::Decrypt;
use decrypt::Seen;
use deferred::Deferred;
pub use encrypt::{Encrypt, Format};
use key::{Key, SealKey};
use xbcrypt::Version;

use crate::codec::members;
use crate::codec::whole_input;
use crate::codec::{Codec, Fault};
use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};

/// The operator's key, ready for both formats.
#[derive(Debug)]
pub struct Keys {
    key: Key,
    seal: Option<SealKey>,
}

impl Keys {
    /// From a key of any length.
    pub fn new(key: Key) -> Self {
        let seal = key.for_seal();
        Keys { key, seal }
    }

    fn seal(&self) -> Result<&SealKey, Fault> {
        let what = || format!("wrong key: seal wants 32 bytes, and this key has {}", self.key.length());
        self.seal.as_ref().ok_or_else(|| Fault { kind: Kind::Key, what: what(), at: 0, hint: Some(MAKE_KEY) })
    }
}

/// The hint if a key is missing.
const MAKE_KEY: &str = "xb-crypt --generate-key FILE makes a key of 32 bytes";

/// What is encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each member of a stream separately.
    Members,
    /// The whole input, of any format.
    Whole,
}

/// Encrypts stdin to stdout.
///
/// # Errors
///
/// Damaged, if the stream is; Key, if the key does not fit the format; Pipe, if the reader of stdout ended; Failed
/// otherwise. After an error, a stream of ours lacks the end of its manifest.
pub fn encrypt(
    encrypt: &Encrypt<'_>,
    scope: Scope,
    input: impl Read,
    output: impl Write + Send,
    options: &members::Options,
    report: &dyn Report,
) -> Result<()> {
    run(encrypt, scope, input, output, options, report)
}

/// Decrypts stdin to stdout. Nothing is written before the key has proved right, unless more bytes precede that than
/// can be deferred.
///
/// # Errors
///
/// Key, if the key is wrong or authentication fails; Damaged, if the input is; Pipe, if the reader of stdout ended;
/// Failed otherwise. After an error, a stream of ours lacks the end of its manifest.
pub fn decrypt(
    decrypt: &Decrypt<'_>,
    scope: Scope,
    input: impl Read,
    output: impl Write + Send,
    options: &members::Options,
    report: &dyn Report,
) -> Result<()> {
    let mut output = Deferred::new(output, || decrypt.is_proved());
    let outcome = run(decrypt, scope, input, &mut output, options, report);
    warn(&decrypt.seen(), report);
    outcome?;
    output.finish().map_err(|cause| Error::io("stdout", "cannot write", &cause))
}

fn run<C: Codec>(
    codec: &C,
    scope: Scope,
    input: impl Read,
    output: impl Write + Send,
    options: &members::Options,
    report: &dyn Report,
) -> Result<()> {
    match scope {
        Scope::Members => members::rewrite(codec, input, output, options, report),
        Scope::Whole => whole_input::rewrite(codec, input, output, options.threads, report),
    }
}

/// Warns of what could not be authenticated.
fn warn(seen: &Seen, report: &dyn Report) {
    match seen.oldest {
        Some(Version::V3) => report.note(
            Level::Warning,
            format_args!(
                "stdin: xbcrypt data is not authenticated: changed, exchanged or missing chunks may go unnoticed"
            ),
        ),
        Some(Version::V1 | Version::V2) => report.note(
            Level::Warning,
            format_args!(
                "stdin: xbcrypt data of version 1 or 2: NOT SECRET (all of it under one keystream) and NOT \
                 AUTHENTICATED (a wrong key or changed data give garbage without a message); encrypt it anew"
            ),
        ),
        None => {}
    }
    if seen.empty {
        report.note(
            Level::Warning,
            format_args!("stdin: empty, as xbcrypt data without content is; a lost input looks the same"),
        );
    }
    if seen.plain > 0 {
        let more = if seen.plain > 1 { format!(" and {} more", seen.plain - 1) } else { String::new() };
        let first = seen.first_plain.as_bstr();
        report.note(Level::Warning, format_args!("stdin: not encrypted, passed on unchanged: {first}{more}"));
    }
}

/// Fills `bytes` with random bytes.
fn random(bytes: &mut [u8]) -> Result<(), Fault> {
    crate::io::random::fill(bytes).map_err(|error| Fault {
        kind: error.kind(),
        what: error.to_string(),
        at: 0,
        hint: None,
    })
}

impl From<seal::Fault> for Fault {
    fn from(fault: seal::Fault) -> Self {
        let kind = match fault {
            seal::Fault::Key | seal::Fault::Name | seal::Fault::Tag => Kind::Key,
            seal::Fault::Counter | seal::Fault::Cipher => Kind::Failed,
            _ => Kind::Damaged,
        };
        let hint = match fault {
            seal::Fault::Name => Some("the name is part of the key: give the old one back, or with --raw --name NAME"),
            seal::Fault::Version(_) => Some("use the xb-tools that sealed it, or newer ones"),
            _ => None,
        };
        Fault { kind, what: fault.to_string(), at: 0, hint }
    }
}

impl From<xbcrypt::Fault> for Fault {
    fn from(fault: xbcrypt::Fault) -> Self {
        let kind = if fault == xbcrypt::Fault::Hash { Kind::Key } else { Kind::Damaged };
        Fault { kind, what: fault.to_string(), at: 0, hint: None }
    }
}
