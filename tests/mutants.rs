//! Streams that somebody changed on purpose, with the checksum of each chunk right again: nothing wrong is taken for good, no
//! tool panics, hangs, or needs much memory.
//!
//! What is changed: chunks (lost, doubled, reordered, spliced, cut, with other names, kinds, lengths and offsets), and
//! bytes inside of members. The sums inside of frames, seals and the manifest stay as they were.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use xb::stream::native::{EntryKind, StreamKind};

use crate::support::fault::memory_limit;
use crate::support::tool::{Dice, chunk, feed, good, plain_tree, scratch, tool};
use crate::support::{Pipeline, made};

/// Beyond this a run hangs, however busy the machine is; alone it takes milliseconds.
const HANGS: Duration = Duration::from_secs(60);
const MEMORY: u64 = 64 << 20;

/// A chunk as it is in a stream, but for its CRC.
#[derive(Clone, Debug)]
struct Chunk {
    flags: u8,
    kind: u8,
    path: Vec<u8>,
    offset: u64,
    payload: Vec<u8>,
}

fn take(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The chunks of a stream of ours.
fn chunks(mut stream: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while !stream.is_empty() {
        let (flags, kind) = (stream[8], stream[9]);
        let len = u32::from_le_bytes(stream[10..14].try_into().unwrap()) as usize;
        let path = stream[14..14 + len].to_vec();
        stream = &stream[14 + len..];
        let (mut offset, mut payload) = (0, Vec::new());
        if kind == b'P' {
            let size = take(stream, 0) as usize;
            offset = take(stream, 8);
            payload = stream[20..20 + size].to_vec();
            stream = &stream[20 + size..];
        }
        chunks.push(Chunk { flags, kind, path, offset, payload });
    }
    chunks
}

/// With CRCs that are right.
fn stream(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Chunk { flags, kind, path, offset, payload } in chunks {
        let mut rest = Vec::new();
        match kind {
            b'P' => {
                rest.extend((payload.len() as u64).to_le_bytes());
                rest.extend(offset.to_le_bytes());
                rest.extend(crc32fast::hash(payload).to_le_bytes());
                rest.extend(payload);
            }
            b'S' => rest.extend(offset.to_le_bytes()),
            b'R' => {
                rest.extend(u32::try_from(payload.len().min(500)).unwrap().to_le_bytes());
                rest.extend(&payload[..payload.len().min(500)]);
            }
            _ => {}
        }
        bytes.extend(chunk(*kind, *flags, path, &rest));
    }
    bytes
}

/// One change of what a stream consists of.
fn mutate(chunks: &mut Vec<Chunk>, other: &[Chunk], dice: &mut Dice) -> &'static str {
    let (count, at) = (chunks.len(), dice.below(chunks.len()));
    let name = |dice: &mut Dice, chunks: &[Chunk]| chunks[dice.below(chunks.len())].path.clone();
    match dice.below(16) {
        0 => {
            chunks.remove(at);
            "a chunk lost"
        }
        1 => {
            let twice = chunks[at].clone();
            chunks.insert(dice.below(count + 1), twice);
            "a chunk doubled"
        }
        2 => {
            chunks.swap(at, dice.below(count));
            "chunks reordered"
        }
        3 => {
            chunks.insert(at, other[dice.below(other.len())].clone());
            "a chunk of another backup"
        }
        4 => {
            let from = dice.below(other.len());
            chunks.truncate(at);
            chunks.extend_from_slice(&other[from..]);
            "the end of another backup"
        }
        5 => {
            chunks.truncate(at + 1);
            "cut"
        }
        6 => {
            let name = name(dice, chunks);
            chunks[at].path = name;
            "another name"
        }
        7 => {
            chunks[at].kind = b"PESRDx"[dice.below(6)];
            "another kind"
        }
        8 => {
            chunks[at].offset = [dice.next() >> dice.below(64), 0, 1, u64::MAX][dice.below(4)];
            "another offset"
        }
        9 => {
            chunks[at].flags ^= 1 << dice.below(8);
            "another flag"
        }
        10 => {
            let (one, two) = (dice.below(count), chunks[at].payload.clone());
            chunks[one].payload = two;
            "the content of another chunk"
        }
        _ => bytes(chunks, dice),
    }
}

/// One change of bytes in a member.
fn bytes(chunks: &mut [Chunk], dice: &mut Dice) -> &'static str {
    let full: Vec<usize> = (0..chunks.len()).filter(|at| !chunks[*at].payload.is_empty()).collect();
    if full.is_empty() {
        return "nothing";
    }
    let at = full[dice.below(full.len())];
    let payload = &mut chunks[at].payload;
    // Heads and ends are where lengths and sums are.
    let len = payload.len();
    let near = dice.below(len.min(64));
    let place = [near, len - 1 - near, dice.below(len)][dice.below(3)];
    match dice.below(5) {
        0 => {
            payload[place] ^= 1 << dice.below(8);
            "a bit flipped"
        }
        1 => {
            payload[place] = [0, 0xff, 0x7f, b'9', b'"', b'\n'][dice.below(6)];
            "another byte"
        }
        2 => {
            payload.truncate(place);
            "content cut"
        }
        3 => {
            let piece = payload[place..len.min(place + 1 + dice.below(100))].to_vec();
            drop(payload.splice(place..place, piece));
            "content repeated"
        }
        _ => {
            let value = [u64::MAX, 1 << 62, 1 << 32, 0][dice.below(4)].to_le_bytes();
            let end = len.min(place + 8);
            payload[place..end].copy_from_slice(&value[..end - place]);
            "another number"
        }
    }
}

/// What the tools are tried on: a full backup and an increment, in every form, with the content that each has.
struct Sample {
    what: &'static str,
    chunks: Vec<Chunk>,
    other: Vec<Chunk>,
    back: Vec<Vec<String>>,
}

fn samples(key: &str) -> Vec<Sample> {
    let mut dice = Dice(3);
    let random = dice.bytes(5000);
    let mut delta = b"xtra".to_vec();
    delta.extend([0; 16380]);
    let meta = b"page_size = 16384\nzip_size = 0\nspace_id = 5\nspace_flags = 21\n";
    let backup = |kind, random: &[u8]| {
        let members: [(&str, EntryKind, &[u8]); 6] = [
            ("db/t.ibd", EntryKind::File, random),
            ("db/z.ibd", EntryKind::File, &[0; 20_000]),
            ("db/t.ibd.delta", EntryKind::File, &delta),
            ("db/t.ibd.meta", EntryKind::Meta, meta),
            ("xtrabackup_checkpoints", EntryKind::Meta, b"backup_type = full-backuped\n"),
            ("ib_logfile0", EntryKind::Redo, &[3; 3000]),
        ];
        made::stream(kind, &members)
    };
    let (one, two) = (backup(StreamKind::Full, &random), backup(StreamKind::Full, &dice.bytes(5000)));
    let increment = backup(StreamKind::Incremental, &random);
    let pass = |name: &str, args: &[&str], stream: &[u8]| good(feed(tool(name).args(args), stream));
    let words = |text: &str| text.split(' ').map(|word| word.replace("KEY", key)).collect::<Vec<String>>();
    let (zip, crypt) = (words("xb-zip -j2 -d"), words("xb-crypt -q -j2 -d -k KEY"));
    let mut samples = Vec::new();
    let mut add = |what, back: Vec<Vec<String>>, code: &dyn Fn(&[u8]) -> Vec<u8>| {
        samples.push(Sample { what, chunks: chunks(&code(&one)), other: chunks(&code(&two)), back });
    };
    add("plain", vec![], &|stream| stream.to_vec());
    add("zstd", vec![zip.clone()], &|stream| pass("xb-zip", &[], stream));
    add("lz4", vec![zip.clone()], &|stream| pass("xb-zip", &["-alz4"], stream));
    add("sealed", vec![crypt.clone()], &|stream| pass("xb-crypt", &["-k", key], stream));
    add("xbcrypt", vec![crypt.clone()], &|stream| pass("xb-crypt", &["-q", "-k", key, "--format=xbcrypt"], stream));
    add("zstd, sealed", vec![crypt, zip], &|stream| pass("xb-crypt", &["-k", key], &pass("xb-zip", &[], stream)));
    samples.push(Sample { what: "increment", chunks: chunks(&increment), other: chunks(&one), back: vec![] });
    samples
}

/// The plain content of a stream as it is restored; nothing if any stage refuses it.
fn restored(what: &str, sample: &Sample, stream: &[u8]) -> Option<BTreeMap<std::path::PathBuf, Vec<u8>>> {
    let dir = scratch();
    let into = dir.path().join("new");
    let mut pipeline = Pipeline::new().stdin_bytes(stream).limit(HANGS);
    let limited = |words: &[String]| memory_limit(tool(&words[0]).args(&words[1..]), MEMORY);
    for words in &sample.back {
        pipeline = pipeline.stage(limited(words));
    }
    let mut unpack = tool("xb-unpack");
    unpack.args(["-q", "--no-sync", "-j2", "-C"]).arg(&into);
    let run = pipeline.stage(memory_limit(&unpack, MEMORY)).run();
    // No panic (101), no abort (134), nothing killed.
    let fine = |code: i32| code <= 5 || code == 141;
    assert!(!run.late && run.codes().iter().all(|code| fine(*code)), "{what}: {}", run.story());
    run.codes().iter().all(|code| *code == 0).then(|| plain_tree(&into))
}

/// What else may be done with any stream.
fn look(what: &str, dice: &mut Dice, key: &str, stream: &[u8]) {
    let all: [(&str, &str); 8] = [
        ("xb-unpack", "--verify --pages"),
        ("xb-unpack", "--list --json"),
        ("xb-zip", "-j2"),
        ("xb-zip", "-j2 -d"),
        ("xb-crypt", "-q -k KEY"),
        ("xb-crypt", "-q -d -k KEY"),
        ("xb-sum", "-q --members"),
        ("xb-redo", "--spool-memory=1m"),
    ];
    let (name, args) = all[dice.below(all.len())];
    let args: Vec<String> = args.split(' ').map(|word| word.replace("KEY", key)).collect();
    let stage = memory_limit(tool(name).args(&args), MEMORY);
    let run = Pipeline::new().stage(stage).stdin_bytes(stream).stdout_to(Path::new("/dev/null")).limit(HANGS).run();
    assert!(!run.late && run.codes()[0] <= 5, "{what}: {name} {args:?}: {}", run.story());
}

/// Some hundred mutants, or some thousand; the same ones in each run.
fn hunt(seed: u64, count: usize) {
    let dir = scratch();
    let key = dir.path().join("key");
    good(feed(tool("xb-crypt").arg("--generate-key").arg(&key), b""));
    let key = key.to_str().unwrap();
    let samples = samples(key);
    let truth: Vec<_> = samples
        .iter()
        .map(|sample| {
            let plain = restored(sample.what, sample, &stream(&sample.chunks)).expect("the sample is good");
            let other = restored(sample.what, sample, &stream(&sample.other)).expect("the other sample is good");
            [plain, other]
        })
        .collect();
    let mut dice = Dice(seed);
    let mut refused = 0;
    for round in 0..count {
        let index = round % samples.len();
        let sample = &samples[index];
        let mut chunks = sample.chunks.clone();
        let changes = 1 + dice.below(2);
        let done: Vec<&str> = (0..changes)
            .map(|_| if chunks.is_empty() { "nothing" } else { mutate(&mut chunks, &sample.other, &mut dice) })
            .collect();
        let what = format!("seed {seed}, mutant {round} of {}: {done:?}", sample.what);
        let bytes = stream(&chunks);
        match restored(&what, sample, &bytes) {
            None => refused += 1,
            // Whole, it is what was sent: this backup or the other.
            Some(content) => assert!(truth[index].contains(&content), "{what}: taken for good, with other content"),
        }
        look(&what, &mut dice, key, &bytes);
    }
    eprintln!("{count} mutants, {refused} refused");
    assert!(refused > count / 2, "only {refused} of {count} were refused: are they mutants?");
}

#[test]
fn hundreds_of_mutants_are_refused_or_the_same() {
    hunt(41, 210);
}

#[test]
#[ignore = "minutes"]
fn thousands_of_mutants_are_refused_or_the_same() {
    for seed in 1..11 {
        hunt(seed * 1009, 700);
    }
}
