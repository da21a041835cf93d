//! What a stored stream says of itself: read back through the programs that undo its stages, which shows at the same time
//! that they can.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

use bstr::ByteSlice;

use super::chain::Ear;
use super::index::Index;
use super::meta::{BackupKind, Meta, Plain, Server};
use super::source::{Source, Wanted};
use super::subset::Told;
use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::ids::Lsn;
use crate::io::BUFFER;
use crate::metadata::{self, BINLOG_INFO, CHECKPOINTS, since_11_1};
use crate::report::Report;
use crate::stream::native::{Binlog, PAGES, StreamKind, plain_name};
use crate::stream::{Body, Reader};

const REPLICA: &str = "xtrabackup_slave_info";
const GALERA: &str = "xtrabackup_galera_info";
/// The longest of these members that is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// True for a small member that describes the backup.
fn describes(path: &[u8]) -> bool {
    let known = |name: &'static str| name.as_bytes() == path || since_11_1(name).as_bytes() == path;
    CHECKPOINTS.iter().any(|name| name.as_bytes() == path) || [BINLOG_INFO, REPLICA, GALERA].into_iter().any(known)
}

/// A stream in an unlinked file, from members of a stored one.
fn fetch(
    source: &Source<'_>,
    picks: &(dyn Fn(&[u8]) -> bool + Sync),
    entries: bool,
    dir: &Path,
) -> Result<(File, Told)> {
    let fail = |cause: &std::io::Error| Error::io(dir.display(), "cannot write", cause);
    let mut file = tempfile::tempfile_in(dir).map_err(|cause| fail(&cause))?;
    let output = file.try_clone().map_err(|cause| fail(&cause))?;
    let told = source.run(Wanted::Members { picks, entries }, &[], output, &Ear::default(), &())?;
    file.rewind().map_err(|cause| fail(&cause))?;
    Ok((file, told))
}

/// Completes what is known of a backup, and its index. `dir` is for a temporary file.
///
/// # Errors
///
/// Damaged, if the stream is, or is of another kind; Key, if it cannot be decrypted.
pub fn complete(
    source: &Source<'_>,
    meta: &mut Meta,
    index: Option<&mut Index>,
    dir: &Path,
    report: &dyn Report,
) -> Result<()> {
    report.stage("reading back");
    let (file, told) = fetch(source, &|path| describes(plain_name(path)), true, dir)?;
    let small = small(file)?;
    if let Some(index) = index {
        if told.begin.is_some() {
            agree(index, &told)?;
        }
        index.describe(&told.entries);
        let bytes = index.members.iter().try_fold(0u64, |sum, member| Some(sum.saturating_add(member.size?)));
        let members = index.members.len() as u64;
        meta.plain = bytes.map(|bytes| Plain { members, bytes });
    }
    if let Some(trailer) = &told.trailer {
        meta.plain = Some(Plain { members: trailer.members, bytes: trailer.bytes });
        meta.proved = true;
        meta.end_lsn = trailer.end_lsn;
        meta.binlog.clone_from(&trailer.binlog);
        meta.partial = trailer.partial;
    }
    let text = |name: &'static str| {
        let bytes = small.get(name.as_bytes()).or_else(|| small.get(since_11_1(name).as_bytes()));
        bytes.map(|bytes| bytes.to_str_lossy().trim().to_owned()).filter(|text| !text.is_empty())
    };
    meta.replica = text(REPLICA);
    meta.galera = text(GALERA);
    meta.binlog = meta.binlog.take().or_else(|| text(BINLOG_INFO).and_then(|text| binlog(&text)));
    let checkpoints = CHECKPOINTS.iter().find_map(|name| small.get(name.as_bytes()));
    let pairs = checkpoints.map(|text| metadata::pairs(text)).unwrap_or_default();
    let lsn = |key: &str| pairs.get(key).and_then(|lsn| lsn.parse().ok());
    let found = match &told.begin {
        Some(begin) => {
            meta.backup_id = Some(begin.backup_id.clone());
            meta.server = Server {
                family: begin.family,
                version: begin.server_version.clone(),
                uuid: begin.server_uuid.clone(),
                datadir: begin.datadir.clone(),
            };
            meta.to_lsn = begin.redo.as_ref().map(|redo| redo.checkpoint_lsn);
            meta.from_lsn = begin.base.as_ref().map(|base| base.lsn);
            Some(match begin.kind {
                StreamKind::Full => BackupKind::Full,
                StreamKind::Incremental => BackupKind::Incremental,
                StreamKind::Files => BackupKind::Files,
            })
        }
        None => {
            meta.to_lsn = lsn("to_lsn");
            meta.end_lsn = lsn("last_lsn");
            let from: Option<Lsn> = lsn("from_lsn");
            meta.from_lsn = from.filter(|from| *from != Lsn::ZERO);
            match pairs.get("backup_type").map(String::as_str) {
                Some("incremental") => Some(BackupKind::Incremental),
                Some(_) => Some(BackupKind::Full),
                None => Some(BackupKind::Files),
            }
        }
    };
    match found {
        Some(found) if found != meta.kind => {
            let what = format_args!("the stream is of the kind {}, not {}", found.short(), meta.kind.short());
            Err(Error::damaged("stream", what))
        }
        _ => Ok(()),
    }
}

/// The index and the manifest have the same members.
fn agree(index: &Index, told: &Told) -> Result<()> {
    let ours = |path: &[u8]| matches!(path, crate::stream::native::BEGIN | crate::stream::native::MANIFEST);
    let names: Vec<Vec<u8>> = index.members.iter().map(|member| plain_name(&member.path()).to_vec()).collect();
    let names: Vec<&Vec<u8>> = names.iter().filter(|name| !ours(name)).collect();
    for name in &names {
        if !told.entries.contains_key(*name) {
            return Err(Error::damaged(name.as_bstr(), "the manifest does not list it"));
        }
    }
    let there: std::collections::HashSet<&[u8]> = names.iter().map(|name| name.as_slice()).collect();
    match told.entries.keys().find(|name| !there.contains(name.as_slice())) {
        Some(name) => {
            Err(Error::damaged(name.as_bstr(), "missing: the manifest lists it, the stream does not have it"))
        }
        None => Ok(()),
    }
}

/// File, position and GTID, separated by tabs.
fn binlog(text: &str) -> Option<Binlog> {
    let mut fields = text.split(['\t', '\n']);
    let (file, position) = (fields.next()?.to_owned(), fields.next()?.trim().parse().ok()?);
    Some(Binlog { file, position, gtid: fields.collect::<String>().trim().to_owned() })
}

/// The small members of a stream.
fn small(input: File) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (mut reader, mut small): (_, BTreeMap<Vec<u8>, Vec<u8>>) = (Reader::new(input, "stream"), BTreeMap::new());
    while let Some(head) = reader.next()? {
        if matches!(head.body, Body::Payload { .. }) && describes(&head.path) {
            let bytes = small.entry(head.path).or_default();
            reader.append(bytes, LONGEST.saturating_sub(bytes.len()))?;
        }
    }
    Ok(small)
}

/// The id of the base in `xb_begin` of an increment, if it is ours and its base was known.
///
/// # Errors
///
/// As [`Source::run`].
pub fn base_id(source: &Source<'_>, dir: &Path) -> Result<Option<String>> {
    let (_, told) = fetch(source, &|_| false, false, dir)?;
    Ok(told.begin.and_then(|begin| begin.base).and_then(|base| base.id))
}

/// Writes what an increment needs to know of its base to a directory: `xb_begin`, `xb_pages`, `xtrabackup_checkpoints`.
///
/// # Errors
///
/// Damaged, if the stored stream is.
pub fn base(source: &Source<'_>, dir: &Path) -> Result<()> {
    let needed = |path: &[u8]| {
        let path = plain_name(path);
        path == PAGES || CHECKPOINTS.iter().any(|name| name.as_bytes() == path)
    };
    let (file, told) = fetch(source, &needed, false, dir)?;
    let fail = |cause: &std::io::Error| Error::io(dir.display(), "cannot write", cause);
    let create = |name: &[u8]| -> Result<File> {
        let name =
            name.to_str().ok().filter(|name| !name.contains('/')).or_internal("a member of the base has no name")?;
        File::create_new(dir.join(name)).map_err(|cause| fail(&cause))
    };
    create(crate::stream::native::BEGIN)?.write_all(&told.begin_bytes).map_err(|cause| fail(&cause))?;
    let (mut reader, mut files, mut buffer) = (Reader::new(file, "stream"), HashMap::new(), vec![0; BUFFER]);
    while let Some(head) = reader.next()? {
        if !needed(&head.path) || head.body == Body::End {
            continue;
        }
        let file = match files.get_mut(&head.path) {
            Some(file) => file,
            None => files.entry(head.path.clone()).or_insert(create(&head.path)?),
        };
        loop {
            let count = reader.payload(&mut buffer)?;
            if count == 0 {
                break;
            }
            file.write_all(buffer.part(..count)?).map_err(|cause| fail(&cause))?;
        }
    }
    Ok(())
}
