//! Pieces of binary logs on their way into the archive and out of it: compressed and encrypted as the settings say.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{BINLOGS, END, Log, Piece};
use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::chain::{self, Ear};
use crate::keep::settings::Compress;
use crate::keep::store;

/// The largest piece, in bytes of the server's file.
const LARGEST: u64 = 8 << 20;
/// How many digits of the sum are in the name.
const SUM: usize = 32;

/// Stores the bytes of a file from `from` on; returns where they end. `last`: the file has no more.
///
/// # Errors
///
/// Failed, if they cannot be read or stored; the kind of the program that failed.
pub fn put(keep: &Keep, server: &str, name: &str, mut file: &File, from: u64, last: bool) -> Result<u64> {
    let fail = |cause: &std::io::Error| Error::io(name, "cannot read", cause);
    let end = file.metadata().map_err(|cause| fail(&cause))?.len();
    let mut at = from;
    loop {
        let to = end.min(at.saturating_add(LARGEST));
        let ends = last && to == end;
        if to <= at && !ends {
            return Ok(at);
        }
        file.seek(SeekFrom::Start(at)).map_err(|cause| fail(&cause))?;
        let mut bytes = Vec::new();
        file.take(to - at).read_to_end(&mut bytes).map_err(|cause| fail(&cause))?;
        if bytes.len() as u64 != to - at {
            return Err(Error::failed(name, "has become shorter while it was copied"));
        }
        let sum = sum(&bytes);
        let (programs, suffix) = coders(keep);
        let coded = if bytes.is_empty() || programs.is_empty() { bytes } else { through(keep, &programs, &bytes)? };
        let suffix = if at == to { String::new() } else { suffix };
        let end_mark = if ends { format!(".{END}") } else { String::new() };
        let object = format!("{BINLOGS}{server}/{name}/{at:012}-{to:012}.{sum}{end_mark}{suffix}");
        if let Err(first) = store::put(&*keep.store, &object, &coded) {
            // `prune` may have taken the temporary file for one that was left.
            store::put(&*keep.store, &object, &coded).map_err(|_| first)?;
        }
        at = to;
        if ends {
            return Ok(at);
        }
    }
}

/// Writes the first `upto` bytes of an archived file.
///
/// # Errors
///
/// Damaged, if a piece is missing or bad; Key, if the key is wrong; Failed, if they cannot be written.
pub fn get(keep: &Keep, log: &Log, upto: u64, mut to: impl Write) -> Result<()> {
    let mut at = 0;
    for piece in log.whole() {
        let left = upto.saturating_sub(at);
        if left == 0 {
            break;
        }
        let bytes = one(keep, piece)?;
        at = piece.to;
        let part = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&bytes);
        to.write_all(part).map_err(|cause| Error::io(&log.name, "cannot write", &cause))?;
    }
    if at < upto {
        return Err(Error::damaged(&log.name, format_args!("is archived up to byte {at}, and not to {upto}")));
    }
    Ok(())
}

/// The bytes of a piece.
///
/// # Errors
///
/// As [`get`].
pub fn one(keep: &Keep, piece: &Piece) -> Result<Vec<u8>> {
    let name = &piece.object.name;
    let stored = store::small(&*keep.store, name)?;
    let mut programs = Vec::new();
    for word in piece.coded.iter().rev() {
        programs.push(match word.as_str() {
            "zst" => words(&["xb-zip", "-d", "--raw"]),
            "xbseal" => {
                let key = keep.key.as_ref().or(keep.settings.backup.key_file.as_ref());
                let key = key.ok_or_else(|| Error::new(crate::error::Kind::Key, name, "is encrypted: --key-file"))?;
                words(&["xb-crypt", "-d", "--raw", "-k", &key.display().to_string()])
            }
            other => return Err(Error::damaged(name, format_args!("is coded in an unknown way: {other}"))),
        });
    }
    let named = |error: Error| Error::new(error.kind(), name, &error);
    let bytes = if programs.is_empty() { stored } else { through(keep, &programs, &stored).map_err(named)? };
    if bytes.len() as u64 != piece.to - piece.from || sum(&bytes) != piece.sum {
        return Err(Error::damaged(name, "damaged: its sum is wrong").hint("take it from another copy of the store"));
    }
    Ok(bytes)
}

fn sum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(SUM).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The programs for a new piece, and what they add to its name.
fn coders(keep: &Keep) -> (Vec<Vec<String>>, String) {
    let making = &keep.settings.backup;
    let (mut programs, mut suffix) = (Vec::new(), String::new());
    if making.compress != Compress::None {
        programs.push(words(&["xb-zip", "-q", "--raw"]));
        suffix.push_str(".zst");
    }
    if let Some(key) = &making.key_file {
        programs.push(words(&["xb-crypt", "--raw", "-k", &key.display().to_string()]));
        suffix.push_str(".xbseal");
    }
    (programs, suffix)
}

/// Passes bytes through programs.
fn through(keep: &Keep, programs: &[Vec<String>], bytes: &[u8]) -> Result<Vec<u8>> {
    let place = keep.temporary.display();
    let fail = |cause: &std::io::Error| Error::io(&place, "cannot write", cause);
    let mut input = tempfile::tempfile_in(&keep.temporary).map_err(|cause| fail(&cause))?;
    input.write_all(bytes).and_then(|()| input.rewind()).map_err(|cause| fail(&cause))?;
    let ear = Ear::default();
    let between = |_: usize, output: std::process::ChildStdout| Ok(output.into());
    let mut running = chain::start_with(programs, input.into(), std::process::Stdio::piped(), &ear, between)?;
    let mut coded = Vec::new();
    let read = running.output()?.read_to_end(&mut coded);
    running.wait()?;
    read.map_err(|cause| Error::io("pipe", "cannot read", &cause))?;
    Ok(coded)
}

/// True if the first bytes of a file are those that are archived.
///
/// # Errors
///
/// As [`get`]; Failed, if the file cannot be read.
pub fn agrees(log: &Log, path: &Path) -> Result<bool> {
    let fail = |cause: &std::io::Error| Error::io(path.display(), "cannot read", cause);
    let mut file = File::open(path).map_err(|cause| fail(&cause))?;
    for piece in log.whole() {
        let mut bytes = Vec::new();
        let want = piece.to - piece.from;
        Read::by_ref(&mut file).take(want).read_to_end(&mut bytes).map_err(|cause| fail(&cause))?;
        if bytes.len() as u64 != want || sum(&bytes) != piece.sum {
            return Ok(false);
        }
    }
    Ok(true)
}
