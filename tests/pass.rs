//! A stream that is passed on does not change, in any dialect.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use xb::stream::{Pass, Reader};

/// Hands a stream on from a file, or through a pipe where the kernel can splice.
fn pass(input: File) -> (Vec<u8>, Result<(), xb::Error>) {
    let mut output = tempfile::tempfile().unwrap();
    let mut pass = Pass::new(input, "stdin", output.try_clone().unwrap());
    let outcome = loop {
        match pass.next().and_then(|head| Ok(head.is_some().then_some(pass.forward(|_| ())?))) {
            Ok(Some(())) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut bytes = Vec::new();
    output.seek(SeekFrom::Start(0)).unwrap();
    output.read_to_end(&mut bytes).unwrap();
    (bytes, outcome)
}

fn piped(bytes: &[u8]) -> File {
    let (read, mut write) = std::io::pipe().unwrap();
    let bytes = bytes.to_vec();
    std::thread::spawn(move || std::io::Write::write_all(&mut write, &bytes));
    File::from(std::os::fd::OwnedFd::from(read))
}

fn filed(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// The golden streams of a directory of `tests/vectors`.
fn vectors(directory: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(directory);
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let streams = files.filter_map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        match path.extension()?.to_str()? {
            "xbs" => Some((name, bytes)),
            "zst" => Some((name, zstd::stream::decode_all(bytes.as_slice()).unwrap())),
            _ => None,
        }
    });
    let streams: Vec<_> = streams.collect();
    assert!(!streams.is_empty());
    streams
}

#[test]
fn good_streams_of_all_programs_pass_bit_for_bit() {
    for directory in ["xbstream", "xbstream-mariadb", "mariadb-backup", "pipeline"] {
        for (name, bytes) in vectors(directory) {
            for input in [filed(&bytes), piped(&bytes)] {
                let (passed, outcome) = pass(input);
                outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(passed == bytes, "{name}");
            }
        }
    }
}

/// A fault in a header is refused with the reader's message; payloads are not checked.
#[test]
fn bad_heads_and_early_ends_are_refused() {
    let mut refused = 0;
    for (name, bytes) in vectors("xbstream-bad") {
        let mut reader = Reader::new(bytes.as_slice(), "stdin");
        let read = loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        let (passed, outcome) = pass(piped(&bytes));
        assert!(bytes.starts_with(&passed), "{name}");
        let outcome = outcome.err().map(|error| error.to_string());
        if read.as_ref().is_some_and(|error| error.contains("CRC")) {
            assert_eq!(outcome, None, "{name}");
        } else {
            assert_eq!(outcome, read, "{name}");
            refused += usize::from(read.is_some());
        }
    }
    assert!(refused >= 10, "{refused}");
}
