//! The binary logs by which a MariaDB server decides, after a crash, which prepared transactions were committed: from
//! the log that the newest one names as its checkpoint, to the newest. Sources: `log.cc` (`TC_LOG_BINLOG::open`,
//! `recover`), `log_event.h`. Integers are little-endian.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use crate::error::{Error, Result};
use crate::io::small;
use crate::server::Variables;

/// The first bytes of a binary log.
const MAGIC: [u8; 4] = *b"\xfebin";
/// Length of an event's header in bytes.
const HEADER: usize = 19;
/// Events: the first of each log; the one that names a checkpoint; the one after which all is encrypted.
const FORMAT: u8 = 15;
const CHECKPOINT: u8 = 161;
const ENCRYPTED: u8 = 164;
/// Flags of the first event: the log was not closed; it is a relay log.
const IN_USE: u16 = 0x1;
const RELAY: u16 = 0x40;
/// The longest name of a log.
const NAME_MAX: u64 = 512;

/// Binary logs of a stopped server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binlogs {
    /// Their base name, without the number.
    pub base: String,
    /// The relevant logs, the newest last.
    pub files: Vec<PathBuf>,
}

impl Binlogs {
    /// Finds them: by the options of the server or, without them, by an index in the data directory whose newest log
    /// was not closed. `None` if there are none, or if they cannot be read.
    pub fn find(variables: &Variables, datadir: &Path) -> Result<Option<Binlogs>> {
        let indexes = match named(variables, datadir) {
            Some(index) => vec![index],
            None => crate::server::files::matching(datadir, |name| name.ends_with(b".index"))?
                .iter()
                .map(|name| crate::server::files::path_of(datadir, name))
                .collect(),
        };
        let mut found = Vec::new();
        for index in indexes {
            found.extend(decisive(&index, datadir)?);
        }
        // If two were not closed, nothing tells which one is the server's.
        Ok(if found.len() == 1 { found.pop() } else { None })
    }
}

/// The index, by the options. The server removes the suffix, and adds one to the index if it has none.
fn named(variables: &Variables, datadir: &Path) -> Option<PathBuf> {
    let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let index = given("log_bin_index").map(PathBuf::from);
    let index = index.or_else(|| given("log_bin").map(|base| PathBuf::from(base).with_extension("")))?;
    let index = datadir.join(index);
    Some(if index.extension().is_some() { index } else { index.with_extension("index") })
}

fn decisive(index: &Path, datadir: &Path) -> Result<Option<Binlogs>> {
    let Some(list) = small(index)? else { return Ok(None) };
    let lines = list.lines().filter(|line| !line.is_empty()).filter_map(|line| line.to_path().ok());
    let mut files: Vec<PathBuf> = lines.map(|line| datadir.join(line)).collect();
    let Some(newest) = files.last() else { return Ok(None) };
    let Some(checkpoint) = checkpoint(newest)? else { return Ok(None) };
    let first = files.iter().position(|file| file.file_name().is_some_and(|name| name.as_bytes() == checkpoint));
    let Some(first) = first else {
        let what = format!("names {} as its checkpoint, which {} does not have", checkpoint.as_bstr(), index.display());
        return Err(Error::failed(newest.display(), what));
    };
    let base = newest.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
    Ok(base.map(|base| Binlogs { base, files: files.split_off(first) }))
}

/// The name of the log in which recovery begins, by the last checkpoint event of a log; `None` if it was closed, is not
/// a binary log, or is encrypted. Its end may be torn: recovery reads it in the same way.
fn checkpoint(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail = |cause: io::Error| Error::io(path.display(), "cannot read the binary log", &cause);
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(fail(cause)),
    };
    let mut magic = [0; MAGIC.len()];
    if !fill(&mut file, &mut magic).map_err(fail)? || magic != MAGIC {
        return Ok(None);
    }
    let (mut found, mut is_first) = (None, true);
    let mut head = [0; HEADER];
    while fill(&mut file, &mut head).map_err(fail)? {
        let [_, _, _, _, kind, _, _, _, _, l0, l1, l2, l3, _, _, _, _, f0, f1] = head;
        let (flags, len) = (u16::from_le_bytes([f0, f1]), u32::from_le_bytes([l0, l1, l2, l3]));
        if is_first && (kind != FORMAT || flags & (IN_USE | RELAY) != IN_USE) {
            return Ok(None);
        }
        is_first = false;
        let Some(body) = u64::from(len).checked_sub(HEADER as u64) else { break };
        match kind {
            ENCRYPTED => return Ok(None),
            CHECKPOINT => {
                let mut bytes = Vec::new();
                let read = (&mut file).take(body.min(NAME_MAX)).read_to_end(&mut bytes).map_err(fail)?;
                let Some(name) = name(&bytes).filter(|_| read as u64 == body) else { break };
                found = Some(name.to_vec());
            }
            _ => file.seek_relative(i64::from(len) - HEADER as i64).map_err(fail)?,
        }
    }
    Ok(found)
}

/// Parses a length of four bytes, and the name.
fn name(body: &[u8]) -> Option<&[u8]> {
    let (len, rest) = body.split_first_chunk()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?).filter(|name| !name.is_empty())
}

/// False at the end of the file, even in the middle of an event.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + body.len()).unwrap().to_le_bytes();
        [&[0; 4][..], &[kind], &[0; 4], &len, &[0; 4], &flags.to_le_bytes(), body].concat()
    }

    fn named(name: &str) -> Vec<u8> {
        event(CHECKPOINT, 0, &[&u32::try_from(name.len()).unwrap().to_le_bytes(), name.as_bytes(), &[9; 4]].concat())
    }

    #[test]
    fn recovery_begins_in_the_log_that_was_named_last() {
        let dir = tempfile::tempdir().unwrap();
        let first = |flags| [&MAGIC[..], &event(FORMAT, flags, &[0; 200])].concat();
        let log = |content: &[u8]| {
            std::fs::write(dir.path().join("mb.000003"), content).unwrap();
            std::fs::write(dir.path().join("mb.index"), "./mb.000001\n./mb.000002\n./mb.000003\n").unwrap();
            Binlogs::find(&Variables::default(), dir.path())
        };
        let all = [first(IN_USE), named("mb.000001"), named("mb.000002"), event(2, 0, &[1; 30])].concat();
        let found = log(&all).unwrap().unwrap();
        assert_eq!((found.base.as_str(), found.files.len()), ("mb", 2));
        // Followed by a torn checkpoint, and a torn event.
        assert_eq!(log(&[&all[..], &named("mb.000003")[..25]].concat()).unwrap().unwrap(), found);
        assert_eq!(log(&[&all[..], &[0; 40]].concat()).unwrap().unwrap(), found);
        for closed in [first(0), first(IN_USE | RELAY), b"rubbish".to_vec(), Vec::new()] {
            assert_eq!(log(&[&closed[..], &named("mb.000001")].concat()).unwrap(), None);
        }
        let hidden = [first(IN_USE), named("mb.000001"), event(ENCRYPTED, 0, &[0; 20])].concat();
        assert_eq!(log(&hidden).unwrap(), None);
        assert!(log(&[first(IN_USE), named("mb.000009")].concat()).unwrap_err().to_string().contains("mb.000009"));
    }
}
