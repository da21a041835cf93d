//! Files of InnoDB and Aria: whatever a page says of itself, and however its bytes come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::innodb::aria::Aria;
use xb::innodb::checksum::full_crc32;
use xb::innodb::scan::{BadPage, Found};
use xb::innodb::{Doublewrite, PageNo, Scan, Space, page};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // With sums that are right, in pages of this size and the newest format.
    for power in 12..=16 {
        if bytes.len() >= 1 << power {
            check(&mended(bytes, power));
            break;
        }
    }
});

fn check(file: &[u8]) {
    page::number(file);
    page::lsn(file);
    page::kind(file);
    let _ = Space::of_system_page(file);
    if let Ok(Some(space)) = Space::parse(file) {
        for (number, page) in PageNo::new(0).onward().zip(file.chunks(space.page_size.bytes())) {
            let _ = space.check(number, page);
            Doublewrite::parse(page, space.page_size);
        }
    }
    for scan in [Scan::table, Scan::system] {
        assert_eq!(scanned(scan(), file, usize::MAX), scanned(scan(), file, 1000), "pieces change what is found");
    }
    if let Some(aria) = Aria::parse(file) {
        for (number, block) in (0..).zip(file.chunks(aria.block_size as usize)) {
            let _ = (aria.check_index(number, block), aria.check_data(number, block));
        }
    }
}

/// The file in pieces, and a hole behind it.
fn scanned(mut scan: Scan, file: &[u8], most: usize) -> Result<Found, BadPage> {
    file.chunks(most.min(file.len()).max(1)).try_for_each(|piece| scan.bytes(piece))?;
    scan.zeros(100_000)?;
    scan.end()
}

fn mended(file: &[u8], power: u32) -> Vec<u8> {
    let size = 1 << power;
    let mut file = file[..file.len() - file.len() % size].to_vec();
    for (number, page) in (0u32..).zip(file.chunks_exact_mut(size)) {
        if number == 0 {
            page[54..58].copy_from_slice(&(0x10 | (power - 9)).to_be_bytes());
        }
        page[4..8].copy_from_slice(&number.to_be_bytes());
        let lsn: [u8; 4] = page[20..24].try_into().unwrap();
        page[size - 8..size - 4].copy_from_slice(&lsn);
        let sum = full_crc32(&page[..size - 4]);
        page[size - 4..].copy_from_slice(&sum.to_be_bytes());
    }
    file
}
