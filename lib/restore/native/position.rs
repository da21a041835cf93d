//! The binary log position of the last transaction that InnoDB has: the last one in the headers of rollback segments. Source:
//! `trx0sys.h`, `trx0rseg.h`, `trx0rseg.cc` (`trx_rseg_mem_restore`).

use bstr::ByteSlice;

use super::page::{self, Last};
use super::tablespaces::Tablespaces;
use crate::error::{Error, Result};
use crate::innodb::{PageNo, SpaceId};

/// The page that says where the rollback segments are, from this offset on: tablespace and page, four bytes each.
const TRX_SYS: PageNo = PageNo::new(5);
const SEGMENTS: usize = 56;
const COUNT: usize = 128;
/// In the page of a segment: slots of four bytes, one for 16 bytes of page; then the largest transaction id, the
/// position, and the name of the file.
const SLOTS: usize = 72;
const NAME: usize = 512;

/// File, tab, position, as `mariadb-backup --prepare` writes them; `None` if there is no binary log.
pub(super) fn of(spaces: &Tablespaces) -> Result<Option<Vec<u8>>> {
    let mut open = Last::default();
    let mut read = |space: SpaceId, number: PageNo| {
        let here = spaces.get(space).ok_or_else(|| Error::internal("a rollback segment is in no tablespace"))?;
        page::whole(here, number, &mut open)
    };
    let directory = read(SpaceId::SYSTEM, TRX_SYS)?;
    let entries = directory.get(SEGMENTS..).unwrap_or_default().chunks_exact(8).take(COUNT);
    let mut last: Option<Position> = None;
    for entry in entries {
        let Some([space, number]) = halves(entry).filter(|[_, number]| *number != u32::MAX) else { continue };
        let segment = read(SpaceId::new(space), PageNo::new(number))?;
        last = last.max(position(&segment));
    }
    Ok(last.map(|last| [&last.file[..], format!("\t{}\n", last.offset).as_bytes()].concat()))
}

/// A position; the names of files are ordered like the files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    file: Vec<u8>,
    offset: u64,
}

fn halves(entry: &[u8]) -> Option<[u32; 2]> {
    let (space, number) = entry.split_first_chunk::<4>()?;
    Some([u32::from_be_bytes(*space), u32::from_be_bytes(*number.first_chunk()?)])
}

/// The position in a segment's page.
fn position(segment: &[u8]) -> Option<Position> {
    let at = SLOTS + segment.len() / 16 * 4 + 8;
    let offset = u64::from_be_bytes(*segment.get(at..)?.first_chunk()?);
    let name = segment.get(at + 8..at + 8 + NAME)?;
    let name = name.get(..name.find_byte(0).unwrap_or(NAME)).filter(|name| !name.is_empty())?;
    Some(Position { file: name.to_vec(), offset })
}
