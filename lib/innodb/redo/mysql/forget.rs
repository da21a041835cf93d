//! Adds records of deleted files to the end of a log, for a backup without these files. Recovery then skips all records
//! of such a tablespace; without them it would not start without the file. Source: `fil0fil.cc`
//! (`fil_tablespace_redo_delete`, `Fil_system::check_missing_tablespaces`); the record format is in
//! [`ddl_events`](super::ddl_events).

use super::block::{BLOCK, HEADER, TRAILER, begin, header, used};
use super::ddl_events::{DELETE, SINGLE};
use crate::bytes::{Fields as _, Part as _};
use crate::error::{Internal, OrInternal as _};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::redo::seal;

/// Offset of the field with the offset of a block's first mini-transaction; 0 if none begins in the block.
const FIRST: usize = 6;
/// A valid name, with its length. Recovery uses the id only.
const NAME: &[u8] = b"\0\x08./x.ibd\0";

/// The blocks from that of `end` on, where the log ended, and its new end. `last` is the block in which it ended.
pub fn forget(last: &[u8], end: Lsn, spaces: &[SpaceId]) -> Result<(Vec<u8>, Lsn), Internal> {
    let mut block = [0; BLOCK];
    let (mut lsn, mut at) = (begin(end), used(end).max(HEADER));
    match last.first_chunk() {
        Some(last) if used(end) > HEADER => block = *last,
        _ => header(&mut block, lsn),
    }
    let mut blocks = Vec::new();
    for space in spaces {
        for (index, byte) in record(*space).into_iter().enumerate() {
            if at == TRAILER {
                close(&mut block, BLOCK, &mut blocks)?;
                lsn = lsn.saturating_add(BLOCK as u64);
                header(&mut block, lsn);
                at = HEADER;
            }
            if index == 0 && block.be_u16::<FIRST>() == 0 {
                block.set::<FIRST, 2>(&short(at)?);
            }
            *block.part_mut(at)? = byte;
            at += 1;
        }
    }
    Ok(match at {
        // The end of a mini-transaction is never inside a trailer.
        TRAILER => {
            close(&mut block, BLOCK, &mut blocks)?;
            (blocks, lsn.saturating_add((BLOCK + HEADER) as u64))
        }
        HEADER => (blocks, lsn.saturating_add(HEADER as u64)),
        _ => {
            close(&mut block, at, &mut blocks)?;
            (blocks, lsn.saturating_add(at as u64))
        }
    })
}

fn close(block: &mut [u8; BLOCK], used: usize, blocks: &mut Vec<u8>) -> Result<(), Internal> {
    block.set::<4, 2>(&short(used)?);
    seal(block);
    blocks.extend_from_slice(block);
    block.fill(0);
    Ok(())
}

fn record(space: SpaceId) -> Vec<u8> {
    let mut record = vec![SINGLE | DELETE];
    // The longest encoding fits every number.
    record.push(0xf0);
    record.extend(space.get().to_be_bytes());
    record.push(0);
    record.extend(NAME);
    record
}

fn short(number: usize) -> Result<[u8; 2], Internal> {
    u16::try_from(number).map(u16::to_be_bytes).or_internal("a block has more bytes than it can")
}

#[cfg(test)]
mod tests {
    use super::super::block::{Block, check, until};
    use super::super::ddl_events::DdlEvents;
    use super::*;

    #[test]
    fn they_follow_the_log_whatever_its_last_block_is() {
        let lsn = 5_000_192;
        for used in [HEADER, HEADER + 1, 300, 492, 493, 500, TRAILER] {
            for count in [1, 2, 33, 34, 1000] {
                let mut last = [0; BLOCK];
                header(&mut last, Lsn::new(lsn));
                last[HEADER..used].fill(0x5a);
                let mut full = Vec::new();
                close(&mut last.clone(), used, &mut full).unwrap();
                let spaces: Vec<SpaceId> = (7..7 + count).map(SpaceId::new).collect();
                let (blocks, end) = forget(&full, Lsn::new(lsn + used as u64), &spaces).unwrap();
                assert_eq!(until(end), Lsn::new(lsn + blocks.len() as u64), "{used} {count}");
                let (mut events, mut data) = (DdlEvents::default(), 0);
                for (block, at) in blocks.chunks(BLOCK).zip((lsn..).step_by(BLOCK)) {
                    let Block::Here { used } = check(block, Lsn::new(at), None) else { panic!("block of {at}") };
                    assert!(used == BLOCK || Lsn::new(at) == begin(end));
                    let first = usize::from(block.first_chunk::<BLOCK>().unwrap().be_u16::<FIRST>());
                    assert!(first == 0 || block[first] == SINGLE | DELETE);
                    data += used.min(TRAILER) - HEADER;
                }
                assert_eq!(data, used - HEADER + spaces.len() * record(SpaceId::SYSTEM).len());
                events.feed(&blocks);
                assert!(events.deleted().iter().eq(&spaces));
                assert!(blocks[HEADER..used].iter().all(|byte| *byte == 0x5a));
            }
        }
        assert_eq!(forget(&[], Lsn::new(lsn + 12), &[]).unwrap(), (Vec::new(), Lsn::new(lsn + 12)));
    }
}
