//! What streams of ours carry beside files: `xb_begin`, `xb_manifest`, marks; and what reads along in a stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::stream::native::{self, Line, ManifestReader, Seen, Tally, Trailer};
use xb::throttle::observer;

fuzz_target!(|bytes: &[u8]| {
    native::parse_mark(bytes);
    if let Ok(begin) = native::parse_begin("x", bytes) {
        assert_eq!(native::parse_begin("x", &native::begin_bytes(&begin).unwrap()).unwrap(), begin);
    }
    // In whatever portions it comes, a manifest says the same.
    let (whole, fault) = manifest(bytes, bytes.len().max(1));
    assert_eq!((whole.clone(), fault.clone()), manifest(bytes, 7));
    let mut seen = Seen::default();
    for line in &whole {
        if let Line::Entry(entry) = line {
            assert!(seen.check(entry).is_err());
        }
    }
    // With a last line that fits, it is good.
    if let (false, Some(trailer)) = (whole.is_empty(), last(bytes)) {
        let (mut tally, mut text) = (Tally::default(), String::new());
        for line in &whole {
            if let Line::Entry(entry) = line {
                text += &tally.line(entry).unwrap();
            }
        }
        text += &tally.finish(trailer).unwrap();
        let (_, fault) = manifest(text.as_bytes(), 100);
        assert_eq!(fault, None);
    }
    assert_eq!(names(bytes, usize::MAX), names(bytes, 1));
});

/// The lines that were read, and what ended the reading.
fn manifest(bytes: &[u8], most: usize) -> (Vec<Line>, Option<String>) {
    let (mut reader, mut lines) = (ManifestReader::default(), Vec::new());
    for part in bytes.chunks(most) {
        let fed = reader.feed(part, |line, _| {
            lines.push(line);
            Ok(())
        });
        if let Err(error) = fed {
            return (lines, Some(error.to_string()));
        }
    }
    (lines, reader.finish().err().map(|error| error.to_string()))
}

/// The last line as a trailer, whatever its counts and its digest.
fn last(bytes: &[u8]) -> Option<Trailer> {
    let trailer: Trailer =
        serde_json::from_slice(bytes.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?).ok()?;
    (trailer.manifest <= native::FORMAT).then_some(trailer)
}

/// What reading along tells, when at most so many bytes come at a time.
fn names(stream: &[u8], most: usize) -> Vec<observer::Seen> {
    let (mut observer, mut at, mut seen) = (observer::Observer::new(true), 0, Vec::new());
    while at < stream.len() {
        let left = stream.len() - at;
        let count = match observer.need() {
            0 => {
                let count = usize::try_from(observer.blind()).unwrap_or(usize::MAX).min(left).min(most);
                observer.skip(count as u64);
                count
            }
            need => {
                let count = need.min(left).min(most);
                seen.extend(observer.see(&stream[at..at + count]));
                count
            }
        };
        at += count;
    }
    seen
}
