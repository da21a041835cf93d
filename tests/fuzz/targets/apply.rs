//! Records of the redo log, applied to any page: an error, or a page that is as long as before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::innodb::redo::mariadb::apply::Target;
use xb::innodb::redo::mariadb::records::{Body, PageId, PageOp, Records};
use xb::innodb::{PageNo, SpaceId};

const SIZE: usize = 4096;
const ID: PageId = PageId { space: SpaceId::new(7), number: PageNo::new(3) };

// First byte: which page there is. Two bytes: how much of what follows is written to it. The rest: records.
fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, high, low], rest)) = bytes.split_first_chunk::<3>() else { return };
    let mut page = vec![0; SIZE];
    Target::new(&mut page, ID, false).apply(&PageOp::Init).unwrap();
    if kind & 3 < 2 {
        Target::new(&mut page, ID, false).apply(&PageOp::InitIndex { compact: kind & 1 == 1 }).unwrap();
    } else if kind & 3 == 2 {
        Target::new(&mut page, ID, false).apply(&PageOp::UndoInit).unwrap();
    }
    let noise = usize::from(u16::from_be_bytes([*high, *low])) % SIZE;
    let (noise, records) = rest.split_at(noise.min(rest.len()));
    let body = noise.len().min(SIZE - 38);
    page[38..38 + body].copy_from_slice(&noise[..body]);
    let mut target = Target::new(&mut page, ID, kind & 4 != 0);
    for record in Records::of(records) {
        let Ok(record) = record else { break };
        if let Body::Page(_, op) = record.body
            && target.apply(&op).is_err()
        {
            break;
        }
    }
});
