//! The binary log file of a snapshot, read up to the position of the snapshot. Source: `facts/mysql-hot-backup#binlog`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::binlog::{ENCRYPTED, ENCRYPTION_HEADER, HEADER, Head, MAGIC};
use super::gtid::GtidSet;
use crate::error::{Error, Result};

/// The longest event that is parsed; sets of a million intervals have sixteen million bytes.
const EVENT_MAX: u64 = 1 << 30;

/// Length of the file in bytes up to a position.
pub fn size(path: &Path, position: u64) -> Result<u64> {
    let encrypted = magic(path, &mut open(path)?)? == ENCRYPTED;
    Ok(position.saturating_add(if encrypted { ENCRYPTION_HEADER } else { 0 }))
}

/// The GTIDs before the file, and those in it up to a position; `None` if the file is encrypted.
pub fn gtids(path: &Path, position: u64) -> Result<Option<GtidSet>> {
    let mut file = BufReader::new(open(path)?);
    let magic = magic(path, &mut file)?;
    if magic == ENCRYPTED {
        return Ok(None);
    }
    if magic != MAGIC {
        return Err(Error::damaged(path.display(), "is no binary log"));
    }
    let (mut at, mut set) = (MAGIC.len() as u64, GtidSet::default());
    while at < position {
        let bad =
            |what: &dyn std::fmt::Display| Error::damaged(path.display(), format_args!("event at byte {at} {what}"));
        let fail = |cause: io::Error| Error::io(path.display(), format_args!("cannot read at byte {at}"), &cause);
        let mut head = [0; HEADER];
        file.read_exact(&mut head).map_err(fail)?;
        let head = Head::parse(&head).map_err(|fault| bad(&fault))?;
        if head.has_gtids() {
            let mut body = Vec::new();
            let read = (&mut file).take(head.body().min(EVENT_MAX)).read_to_end(&mut body).map_err(fail)?;
            if read as u64 != head.body() {
                return Err(bad(&"is cut short"));
            }
            head.read(&body, &mut set).map_err(|fault| bad(&fault))?;
        } else {
            file.seek_relative(i64::try_from(head.body()).unwrap_or(i64::MAX)).map_err(fail)?;
        }
        at = at.saturating_add(HEADER as u64 + head.body());
    }
    match at == position {
        true => Ok(Some(set)),
        false => Err(Error::damaged(path.display(), format_args!("no event ends at byte {position}"))),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|cause| {
        Error::io(path.display(), "cannot open the binary log", &cause)
            .hint("xb-snap reads the newest binary log as well; run it as the server's user, or as root")
    })
}

fn magic(path: &Path, file: &mut impl Read) -> Result<[u8; 4]> {
    let mut magic = [0; 4];
    let read = file.read_exact(&mut magic);
    read.map_err(|cause| Error::io(path.display(), "cannot read the binary log", &cause))?;
    Ok(magic)
}
