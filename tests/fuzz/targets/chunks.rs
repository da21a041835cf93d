//! A stream of anybody's: handed on, rewritten both ways, verified with its pages. What is rewritten and read back has
//! not changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::budget::Budget;
use xb::codec::members::{Options, rewrite};
use xb::stream::pick::Patterns;
use xb::stream::{Body, Members, Reader};
use xb::unpack::{self, Inspector, Pages};
use xb::zip::{Algorithm, Unzip, Zip};

mod common;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut mended = bytes.to_vec();
    common::mend(&mut mended);
    check(&mended);
});

fn check(stream: &[u8]) {
    // Holes become zeros; petabytes of them are a matter of time, not of faults.
    if grown(stream) > 1 << 24 {
        return;
    }
    let good = verify(stream, None);
    let pages = Pages::default();
    verify(stream, Some(&|path: &[u8]| pages.inspect(path)));
    let _ = pages.finish(&());
    let options = Options::new(1);
    let mut out = Vec::new();
    let _ = rewrite(&Unzip::default(), stream, &mut out, &options, &());
    out.clear();
    if rewrite(&Zip { algorithm: Algorithm::Lz4, frame: 4096 }, stream, &mut out, &options, &()).is_ok() {
        assert!(good || unproved(stream), "rewritten, and not good");
        let mut back = Vec::new();
        rewrite(&Unzip::default(), out.as_slice(), &mut back, &options, &()).expect("what we wrote is read");
    }
}

/// Whether `xb-unpack --verify` would like it.
fn verify(stream: &[u8], inspect: Option<Inspector<'_>>) -> bool {
    let options = unpack::Options {
        destination: None,
        pick: Patterns::default(),
        list: None,
        inspect,
        allow_empty: false,
        threads: 1,
        buffer: unpack::BUFFER_MIN,
        budget: Budget::default(),
    };
    unpack::unpack(stream, &options, &()).is_ok()
}

/// How much the members would grow, holes included.
fn grown(stream: &[u8]) -> u64 {
    let mut reader = Reader::new(stream, "x");
    let mut members = Members::default();
    let mut grown = 0u64;
    while let Ok(Some(head)) = reader.next() {
        if members.accept("x", &head).is_err() {
            break;
        }
        match &head.body {
            Body::Sparse { grown: more, .. } | Body::Seek(more) => grown = grown.saturating_add(*more),
            _ => {}
        }
    }
    grown
}

/// A stream of ours is held against its manifest by xb-unpack only.
fn unproved(stream: &[u8]) -> bool {
    stream.get(14..22) == Some(b"xb_begin")
}
