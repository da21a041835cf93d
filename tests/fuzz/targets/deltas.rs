//! Deltas of increments and what stands beside them: whole and in pieces the same is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::innodb::PageSize;
use xb::innodb::delta::{Cluster, Meta, Scan};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(meta) = Meta::parse(bytes) {
        assert_eq!(Meta::parse(meta.text().as_bytes()), Ok(meta));
    }
    for size in [1 << 10, 4 << 10, 16 << 10] {
        if let Some(Ok(cluster)) = bytes.get(..size).map(Cluster::parse) {
            let head = Cluster::head(PageSize::new(size as u32).unwrap(), &cluster.pages, cluster.last).unwrap();
            assert_eq!(Cluster::parse(&head), Ok(cluster));
        }
    }
    let scan = |piece: usize| {
        let mut scan = Scan::default();
        bytes.chunks(piece).try_for_each(|piece| scan.bytes(piece))?;
        scan.end()
    };
    assert_eq!(scan(bytes.len().max(1)), scan(1000));
});
