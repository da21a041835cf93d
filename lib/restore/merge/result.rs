//! Writes the metadata of the merged directory: a full backup with the last increment's id, LSNs and positions.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use bstr::ByteSlice;

use super::LOST;
use crate::error::{Error, OrInternal as _, Result};
use crate::io;
use crate::metadata;
use crate::restore::backup::Backup;
use crate::restore::files::fail;
use crate::stream::native::names::MERGED;
use crate::stream::native::{self, BEGIN, Entry, MANIFEST, StreamKind, Tally, Trailer};

/// Writes begin and manifest under temporary names, beside those of the base.
pub(super) fn write(dir: &Path, last: &Backup, lines: Vec<Entry>) -> Result<()> {
    let ours = last.ours.as_ref().or_internal(LOST)?;
    let mut begin = ours.begin.clone();
    (begin.kind, begin.base) = (StreamKind::Full, None);
    let bytes = native::begin_bytes(&begin)?;
    let trailer = Trailer { begin_blake3: Some(native::begin_digest(&bytes)), ..ours.trailer.clone() };
    put(dir, BEGIN, |file| file.write_all(&bytes))?;
    put(dir, MANIFEST, |file| {
        let mut tally = Tally::default();
        lines.iter().try_for_each(|entry| file.write_all(tally.line(entry)?.as_bytes()))?;
        file.write_all(tally.finish(trailer)?.as_bytes())
    })
}

/// Replaces begin and manifest of the base. Can be repeated.
pub(super) fn place(dir: &Path) -> Result<()> {
    for name in [BEGIN, MANIFEST] {
        let (new, path) = (dir.join(merged(name)), dir.join(name.to_str_lossy().as_ref()));
        if new.exists() {
            fs::rename(&new, &path).map_err(|cause| fail(&path, "cannot write", &cause))?;
        }
    }
    Ok(())
}

/// The new text of a file with the backup's type; `None` for any other file.
pub(super) fn rewritten(name: &[u8], path: &Path) -> Result<Option<Vec<u8>>> {
    if !metadata::has_kind(name) {
        return Ok(None);
    }
    let text = io::small(path)?.ok_or_else(|| Error::damaged(path.display(), "missing"))?;
    Ok(Some(metadata::as_full(&text)))
}

fn put(dir: &Path, name: &[u8], write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let path = dir.join(merged(name));
    let all = || {
        let mut file = BufWriter::new(File::create(&path)?);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    all().map_err(|cause| fail(&path, "cannot write", &cause))
}

fn merged(name: &[u8]) -> String {
    format!("{MERGED}{}", name.to_str_lossy())
}
