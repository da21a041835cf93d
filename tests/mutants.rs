//! Backups that were modified on purpose: no wrong data is accepted, no tool panics, hangs, or needs much memory.
//!
//! Modified are chunks of a stream (lost, doubled, reordered, spliced, cut, with other names, kinds, lengths and
//! offsets); bytes inside of members, frames and encrypted chunks, with valid checksums; and the content of the
//! manifest and `xb_begin`, with valid digests. Modifications that need no key are made at every layer of a stream that
//! was compressed and encrypted; our own tools make the layers around it. [`directories`] does the same for what
//! `--merge` and `--apply` read.
//!
//! An attacker who writes a new manifest makes a new backup, which is as valid as any other: only encryption
//! authenticates the sender (xb-crypt(1)). So the result of a forged manifest must be what that manifest says.

mod directories;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use xb::stream::native::{Entry, EntryKind, StreamKind};

use crate::support::fault::limits;
use crate::support::made::{self, Log};
use crate::support::mutate::{self, Chunk, chunks, stream};
use crate::support::tool::{Dice, feed, good, scratch, tool, tree};
use crate::support::{Pipeline, pipeline::Run};

/// A run that takes longer waits forever.
const HANGS: Duration = Duration::from_secs(60);
/// What each program may take, in bytes and in seconds of the processor.
const MEMORY: u64 = 64 << 20;
const SECONDS: u64 = 2;

/// Files by their names.
type Tree = BTreeMap<PathBuf, Vec<u8>>;

fn limited(command: &Command) -> Command {
    limits(command, MEMORY, SECONDS)
}

/// No panic (101), no abort (134), no kill by the limits or because of a hang.
#[track_caller]
fn assert_decent(what: &str, run: &Run) {
    let decent = |code: &i32| *code <= 5 || *code == 141;
    assert!(!run.late && run.codes().iter().all(decent), "{what}: {}", run.story());
}

/// The streams for the tools, in every form.
struct Sample {
    what: &'static str,
    /// As it begins, and behind each of the tools.
    layers: Vec<Vec<Chunk>>,
    /// The same of another backup.
    others: Vec<Vec<Chunk>>,
    forward: Vec<Vec<String>>,
    back: Vec<Vec<String>>,
}

impl Sample {
    fn new(what: &'static str, streams: [&[u8]; 2], forward: &[Vec<String>], back: &[Vec<String>]) -> Self {
        let [layers, others] = streams.map(|stream| {
            let mut layers = vec![chunks(stream)];
            for words in forward {
                let before = mutate::stream(&layers[layers.len() - 1]);
                layers.push(chunks(&good(feed(tool(&words[0]).args(&words[1..]), &before))));
            }
            layers
        });
        Sample { what, layers, others, forward: forward.to_vec(), back: back.to_vec() }
    }
}

/// A full backup, an increment, and a snapshot on its way through xb-redo. `log` is that of the snapshot.
fn samples(key: &str, log: &Log) -> Vec<Sample> {
    let mut dice = Dice(3);
    let random = dice.bytes(5000);
    let text = "the quick brown fox\n".repeat(900);
    let mut delta = b"xtra".to_vec();
    delta.extend([0; 16380]);
    let meta = b"page_size = 16384\nzip_size = 0\nspace_id = 5\nspace_flags = 21\n";
    let backup = |kind, random: &[u8]| {
        let members: [(&str, EntryKind, &[u8]); 7] = [
            ("db/t.ibd", EntryKind::File, random),
            ("db/z.ibd", EntryKind::File, &[0; 20_000]),
            ("db/t.txt", EntryKind::File, text.as_bytes()),
            ("db/t.ibd.delta", EntryKind::File, &delta),
            ("db/t.ibd.meta", EntryKind::Meta, meta),
            ("xtrabackup_checkpoints", EntryKind::Meta, b"backup_type = full-backuped\n"),
            ("ib_logfile0", EntryKind::Redo, &[3; 3000]),
        ];
        made::stream(kind, &members)
    };
    let snapshot = |random: &[u8]| {
        let stream = made::Stream::of(log).begin().tablespace("db/t.ibd", 5, random).mark(log.end());
        stream.member("db/t.frm", b"x").manifest().bytes()
    };
    let another = dice.bytes(5000);
    let full = [backup(StreamKind::Full, &random), backup(StreamKind::Full, &another)];
    let increment = backup(StreamKind::Incremental, &random);
    let snapshots = [snapshot(&random), snapshot(&another)];
    let words = |text: &str| text.split(' ').map(|word| word.replace("KEY", key)).collect::<Vec<String>>();
    let [zstd, lz4, unzip, seal, xbcrypt, open] = [
        "xb-zip -j2",
        "xb-zip -j2 -alz4",
        "xb-zip -j2 -d",
        "xb-crypt -q -j2 -k KEY",
        "xb-crypt -q -j2 -k KEY --format=xbcrypt",
        "xb-crypt -q -j2 -d -k KEY",
    ]
    .map(words);
    let add = |what, forward: &[Vec<String>], back: &[Vec<String>]| {
        Sample::new(what, full.each_ref().map(Vec::as_slice), forward, back)
    };
    vec![
        add("plain", &[], &[]),
        add("zstd", std::slice::from_ref(&zstd), std::slice::from_ref(&unzip)),
        add("lz4", &[lz4], std::slice::from_ref(&unzip)),
        add("sealed", std::slice::from_ref(&seal), std::slice::from_ref(&open)),
        add("xbcrypt", &[xbcrypt], std::slice::from_ref(&open)),
        add("zstd, sealed", &[zstd, seal], &[open, unzip]),
        Sample::new("increment", [&increment, &full[0]], &[], &[]),
        Sample::new("snapshot", snapshots.each_ref().map(Vec::as_slice), &[], &[words("xb-redo --spool-memory=1m")]),
    ]
}

/// A stream after a restore; nothing if any stage refuses it.
fn restored(what: &str, sample: &Sample, stream: &[u8]) -> Option<Tree> {
    let dir = scratch();
    let into = dir.path().join("new");
    let mut pipeline = Pipeline::new().stdin_bytes(stream).limit(HANGS);
    for words in &sample.back {
        pipeline = pipeline.stage(limited(tool(&words[0]).args(&words[1..])));
    }
    let mut unpack = tool("xb-unpack");
    unpack.args(["-q", "--no-sync", "-j2", "-C"]).arg(&into);
    let run = pipeline.stage(limited(&unpack)).run();
    assert_decent(what, &run);
    run.codes().iter().all(|code| *code == 0).then(|| {
        let mut files = tree(&into);
        // True of one directory only.
        files.remove(Path::new("xb_prints"));
        files
    })
}

/// True if all files are as the manifest says, and there are no others. Parsed by the test itself.
fn is_as_listed(files: &Tree) -> Result<(), String> {
    let mut left = files.clone();
    let manifest = left.remove(Path::new("xb_manifest")).ok_or("no manifest")?;
    let manifest = String::from_utf8(manifest).map_err(|_| "no text")?;
    for line in manifest.lines().filter(|line| !line.starts_with("{\"manifest\"")) {
        let entry: Entry = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let name = String::from_utf8(entry.path().ok_or("no name")?).map_err(|_| "no text")?;
        let content = left.remove(Path::new(&name)).ok_or_else(|| format!("{name} is missing"))?;
        if content.len() as u64 != entry.size || blake3::hash(&content).to_hex().as_str() != entry.blake3 {
            return Err(format!("{name} is not what the manifest says"));
        }
    }
    left.remove(Path::new("xb_begin"));
    left.keys().next().map_or(Ok(()), |name| Err(format!("{} is not listed", name.display())))
}

/// Other commands for a stream.
fn look(what: &str, dice: &mut Dice, key: &str, stream: &[u8]) {
    let all = [
        "xb-unpack --verify --pages",
        "xb-unpack --list --json",
        "xb-zip -j2",
        "xb-zip -j2 -d",
        "xb-crypt -q -k KEY",
        "xb-crypt -q -d -k KEY",
        "xb-sum -q --members",
        "xb-redo --spool-memory=1m",
    ];
    let words: Vec<String> = all[dice.below(all.len())].split(' ').map(|word| word.replace("KEY", key)).collect();
    let stage = limited(tool(&words[0]).args(&words[1..]));
    let run = Pipeline::new().stage(stage).stdin_bytes(stream).stdout_to(Path::new("/dev/null")).limit(HANGS).run();
    assert_decent(&format!("{what}: {words:?}"), &run);
}

/// The tools after a layer, on a stream that was modified there.
fn forward(what: &str, words: &[Vec<String>], stream: Vec<u8>) -> Option<Vec<u8>> {
    if words.is_empty() {
        return Some(stream);
    }
    let mut pipeline = Pipeline::new().stdin_bytes(stream).limit(HANGS);
    for words in words {
        pipeline = pipeline.stage(limited(tool(&words[0]).args(&words[1..])));
    }
    let run = pipeline.run();
    assert_decent(what, &run);
    run.codes().iter().all(|code| *code == 0).then_some(run.stdout)
}

/// Some hundred mutants, or some thousand; the same ones in each run.
fn hunt(seed: u64, count: usize) {
    let dir = scratch();
    let key = dir.path().join("key");
    good(feed(tool("xb-crypt").arg("--generate-key").arg(&key), b""));
    let key = key.to_str().unwrap();
    let log = Log::new(3000);
    let samples = samples(key, &log);
    let truth: Vec<_> = samples
        .iter()
        .map(|sample| {
            let last = |layers: &[Vec<Chunk>]| stream(&layers[layers.len() - 1]);
            let plain = restored(sample.what, sample, &last(&sample.layers)).expect("the sample is good");
            let other = restored(sample.what, sample, &last(&sample.others)).expect("the other sample is good");
            [plain, other]
        })
        .collect();
    let mut dice = Dice(seed);
    let (mut refused, mut forgeries, mut taken) = (0, 0, 0);
    for round in 0..count {
        let index = round % samples.len();
        let sample = &samples[index];
        let layer = dice.below(sample.layers.len());
        let mut chunks = sample.layers[layer].clone();
        let forged = layer == 0 && dice.below(3) == 0;
        let changes = 1 + dice.below(2);
        let done: Vec<&str> = (0..changes)
            .map(|_| {
                if chunks.is_empty() {
                    "nothing"
                } else if forged {
                    mutate::forge(&mut chunks, &mut dice)
                } else if layer > 0 && dice.below(2) == 0 {
                    mutate::inner(&mut chunks, &mut dice)
                } else {
                    mutate::mutate(&mut chunks, &sample.others[layer], &mut dice)
                }
            })
            .collect();
        let what = format!("seed {seed}, mutant {round} of {}, layer {layer}: {done:?}", sample.what);
        let bytes = stream(&chunks);
        let sent = forward(&what, &sample.forward[layer..], bytes.clone());
        forgeries += usize::from(forged);
        match sent.and_then(|sent| restored(&what, sample, &sent)) {
            None => refused += 1,
            // Whole, it is what was sent: this backup or the other.
            Some(content) if !forged => {
                assert!(truth[index].contains(&content), "{what}: taken for good, with other content");
            }
            Some(content) => {
                taken += 1;
                is_as_listed(&content).unwrap_or_else(|wrong| panic!("{what}: taken for good: {wrong}"));
            }
        }
        look(&what, &mut dice, key, &bytes);
    }
    eprintln!("{count} mutants, {refused} refused; {forgeries} forged manifests, {taken} taken for what they say");
    assert!(refused > count / 2, "only {refused} of {count} were refused: are they mutants?");
}

#[test]
fn hundreds_of_mutants_are_refused_or_the_same() {
    hunt(41, 320);
}

#[test]
#[ignore = "minutes"]
fn thousands_of_mutants_are_refused_or_the_same() {
    for seed in 1..11 {
        hunt(seed * 1009, 1000);
    }
}
