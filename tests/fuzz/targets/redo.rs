//! The redo log: its header and checkpoints, its mini-transactions, and the names in them; MySQL's blocks and key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::innodb::checksum::crc32c_of;
use xb::innodb::redo::mariadb::mtr::{self, Mtr, MtrFault};
use xb::innodb::redo::mariadb::{Checkpoint, Header, Ring};
use xb::innodb::redo::mysql::{self, BLOCK, Block, Locked, block};
use xb::innodb::{Lsn, SpaceId};

fuzz_target!(|bytes: &[u8]| {
    heads(bytes);
    mtrs(bytes);
    let mut mended = bytes.to_vec();
    mtrs(mend(&mut mended));
    blocks(bytes);
});

fn blocks(bytes: &[u8]) {
    if let Ok(header) = mysql::Header::parse(bytes) {
        mysql::checkpoint(bytes, &header, bytes.len() as u64);
        assert_eq!(mysql::Header::parse(&header.head(None, mysql::CLEAR)).unwrap(), header);
    }
    let Some((lsn, rest)) = bytes.split_first_chunk() else { return };
    let lsn = Lsn::new(u64::from_be_bytes(*lsn));
    let key = mysql::encryption(rest).and_then(|block| Locked::parse(block)).and_then(|locked| locked.open(&[7; 32]));
    for bytes in rest.chunks(BLOCK) {
        if let Block::Here { used } = block::check(bytes, lsn, key.as_ref()) {
            let mut cut = bytes.to_vec();
            let _ = block::cut(&mut cut, used, key.as_ref());
            assert_eq!(block::check(&cut, lsn, key.as_ref()), Block::Here { used });
        }
    }
}

fn heads(bytes: &[u8]) {
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(Header::parse(&header.block()).unwrap(), header);
        Checkpoint::newest(bytes, header.first_lsn);
    }
    let Some(numbers) = bytes.first_chunk::<24>() else { return };
    let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap());
    if let Ok(ring) = Ring::new(Lsn::new(number(0)), number(8)) {
        assert!(ring.offset(Lsn::new(number(16))) < number(8));
        ring.sequence(Lsn::new(number(16)));
    }
}

fn mtrs(bytes: &[u8]) {
    let ring = Ring::new(Lsn::new(12_288), 12_288 + (1 << 20)).unwrap();
    for encrypted in [false, true] {
        let (mut at, mut lsn) = (0, Lsn::new(12_288));
        while let Mtr::Complete { len } = mtr::mtr(&bytes[at..], lsn, &ring, encrypted) {
            assert!(len > 5 && at + len <= bytes.len());
            one(&bytes[at..at + len], encrypted);
            at += len;
            lsn = lsn.saturating_add(len as u64);
        }
    }
    // Whatever is not one must not do harm either.
    one(bytes, false);
}

fn one(bytes: &[u8], encrypted: bool) {
    assert!(mtr::first_bytes(bytes).count() <= bytes.len());
    if encrypted {
        return;
    }
    let spaces: Vec<SpaceId> = mtr::files(bytes).map(|record| record.space).collect();
    let mut local = bytes.to_vec();
    mtr::rewrite_names(&mut local);
    mtr::forget(&mut local, &spaces.iter().copied().filter(|space| space.get() % 2 == 0).collect());
    assert_eq!(mtr::files(&local).map(|record| record.space).collect::<Vec<_>>(), spaces);
    let _ = mtr::set_first_lap(&mut local, encrypted);
}

/// Makes the checksum of each mini-transaction right, as far as there are records.
fn mend(bytes: &mut [u8]) -> &[u8] {
    let ring = Ring::new(Lsn::new(12_288), 12_288 + (1 << 20)).unwrap();
    let (mut at, mut lsn) = (0, Lsn::new(12_288));
    loop {
        match mtr::mtr(&bytes[at..], lsn, &ring, false) {
            Mtr::Complete { len } => {
                at += len;
                lsn = lsn.saturating_add(len as u64);
            }
            // The sum stands behind the end-byte; where that is, only the sum over what comes before tells.
            Mtr::Bad(MtrFault::Checksum { computed, .. }) => {
                let rest = &bytes[at..];
                let end = (1..rest.len()).find(|end| rest[*end] < 2 && crc32c_of(&rest[..*end], &[]) == computed);
                let Some(sum) = end.and_then(|end| bytes.get_mut(at + end + 1..at + end + 5)) else { return bytes };
                sum.copy_from_slice(&computed.to_be_bytes());
            }
            _ => return bytes,
        }
    }
}
