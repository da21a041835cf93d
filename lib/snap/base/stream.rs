//! A base that is a stream in a file: finds its page digests without reading the content of other members.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bstr::ByteSlice;

use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::stream::chunk::{self, PAYLOAD_HEAD, PREFIX, Type};
use crate::stream::native::{PAGES, plain_name};

/// The longest header of a chunk.
const HEAD: usize = PREFIX + chunk::PATH_MAX + PAYLOAD_HEAD;

/// `xb_pages` of a stream.
#[derive(Debug)]
pub(super) enum Found {
    /// A copy of it.
    Plain(File),
    /// It is compressed or encrypted, and has this name.
    Coded(String),
    Missing,
}

/// Goes from chunk to chunk, and copies the member into an unlinked file in `dir`.
pub(super) fn pages(file: &File, place: &str, dir: &Path) -> Result<Found> {
    let read = |cause: std::io::Error| Error::io(place, "cannot read", &cause);
    let spool = |cause: std::io::Error| Error::io(format_args!("spool in {}", dir.display()), "cannot write", &cause);
    let size = file.metadata().map_err(read)?.len();
    let (mut at, mut head, mut copy, mut copied) = (0u64, [0; HEAD], None::<File>, 0u64);
    while at < size {
        let got = fill(file, &mut head, at).map_err(read)?;
        let fault = |what: &dyn std::fmt::Display| Error::damaged(place, format_args!("{what} (stream byte {at})"));
        let bytes = head.part(..got)?;
        let cut = || fault(&"truncated: the file ends in a chunk's head");
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX>().ok_or_else(cut)?;
        let prefix = chunk::prefix(prefix).map_err(|what| fault(&what))?;
        let (path, rest) = rest.split_at_checked(prefix.path_len).ok_or_else(cut)?;
        let ours = plain_name(path) == PAGES;
        if ours && path != PAGES {
            return Ok(Found::Coded(path.to_str_lossy().into_owned()));
        }
        let start = at + (PREFIX + prefix.path_len) as u64;
        match prefix.kind {
            Type::End if ours => {
                let Some(mut copy) = copy else { return Err(fault(&"xb_pages: is empty")) };
                copy.rewind().map_err(spool)?;
                return Ok(Found::Plain(copy));
            }
            Type::End => at = start,
            Type::Payload => {
                let extent = rest.first_chunk().ok_or_else(cut)?;
                let extent = chunk::payload(extent).map_err(|what| fault(&what))?;
                let data = start + PAYLOAD_HEAD as u64;
                let end = data.checked_add(extent.len).filter(|end| *end <= size).ok_or_else(cut)?;
                if ours {
                    let copy = match &mut copy {
                        Some(copy) => copy,
                        None => copy.insert(tempfile::tempfile_in(dir).map_err(spool)?),
                    };
                    let mut crc = crc32fast::Hasher::new();
                    let (mut from, mut piece) = (data, vec![0; crate::io::BUFFER]);
                    while from < end {
                        let want = usize::try_from(end - from).unwrap_or(usize::MAX).min(piece.len());
                        let piece = piece.part_mut(..want)?;
                        file.read_exact_at(piece, from).map_err(read)?;
                        crc.update(piece);
                        copy.write_all(piece).map_err(spool)?;
                        from += want as u64;
                    }
                    if extent.offset != copied || crc.finalize() != extent.crc {
                        return Err(fault(&"xb_pages: damaged: a sum is wrong"));
                    }
                    copied += extent.len;
                }
                at = end;
            }
            _ => return Err(fault(&"no program of xb-tools writes a chunk of this type")),
        }
    }
    if copy.is_some() {
        return Err(Error::damaged(place, "truncated: xb_pages has no end mark"));
    }
    Ok(Found::Missing)
}

/// Fills the buffer as far as the file has bytes.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(filled)
}
