//! No tool accepts an incomplete stream as complete.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use xb::stream::native::{EntryKind, StreamKind};

use crate::support::fault::memory_limit;
use crate::support::tool::{Dice, bad, chunk, feed, good, member, payload, said, scratch, tool, tree, unpack};
use crate::support::{Pipeline, made};

const PAGES: (&str, EntryKind, &[u8]) = ("db/t.ibd", EntryKind::File, &[7; 5000]);
const LOG: (&str, EntryKind, &[u8]) = ("ib_logfile0", EntryKind::Redo, &[1; 5000]);

fn key() -> (tempfile::TempDir, String) {
    let dir = scratch();
    let key = dir.path().join("key");
    good(feed(tool("xb-crypt").arg("--generate-key").arg(&key), b""));
    let name = key.to_str().unwrap().to_owned();
    (dir, name)
}

/// Every tool that reads a stream to its end and says what it is.
fn judges(stream: &[u8]) -> [Output; 4] {
    let dir = scratch();
    [
        unpack(&dir.path().join("new"), &[], stream),
        feed(tool("xb-unpack").arg("--verify"), stream),
        feed(tool("xb-sum").args(["-q", "-o/dev/null"]), stream),
        feed(tool("xb-sum").args(["-q", "--members=only", "-o/dev/null"]), stream),
    ]
}

#[test]
fn a_snapshot_without_redo_log_is_no_backup() {
    let (_dir, key) = key();
    for kind in [StreamKind::Full, StreamKind::Incremental, StreamKind::Files] {
        for (what, log) in [("without", &[][..]), ("with", &[LOG][..])] {
            let plain = made::stream(kind, &[&[PAGES], log].concat());
            let zipped = good(feed(&mut tool("xb-zip"), &plain));
            let sealed = good(feed(tool("xb-crypt").args(["-k", &key]), &zipped));
            for (form, stream) in [("plain", &plain), ("zipped", &zipped), ("sealed", &sealed)] {
                for run in judges(stream) {
                    eprintln!("{kind:?} {what} log, {form}");
                    if kind == StreamKind::Files || what == "with" {
                        good(run);
                    } else {
                        bad(&run, 3, "not a backup: the snapshot was not piped through xb-redo");
                    }
                }
            }
        }
    }
}

/// A run that takes longer hangs, however busy the machine is.
const HANGS: Duration = Duration::from_secs(60);
/// Memory that a tool may write to.
const MEMORY: u64 = 64 << 20;

/// Runs a tool on a stream with little memory; returns its exit code and message. A panic, a signal or a hang is a
/// failure.
#[track_caller]
fn small(what: &str, name: &str, args: &[&str], stream: &[u8]) -> (i32, String) {
    within(MEMORY, what, name, args, stream)
}

fn within(memory: u64, what: &str, name: &str, args: &[&str], stream: &[u8]) -> (i32, String) {
    let limited = memory_limit(tool(name).args(args), memory);
    let run = Pipeline::new().stage(limited).stdin_bytes(stream).stdout_to(Path::new("/dev/null")).limit(HANGS).run();
    let code = run.codes()[0];
    assert!(!run.late && code <= 5, "{name} {args:?}, {what}: {}", run.story());
    (code, run.stderr(0).to_owned())
}

/// All tools that read foreign streams.
fn filters(key: &str) -> Vec<(&'static str, Vec<String>)> {
    let all = [
        ("xb-unpack", "--verify"),
        ("xb-unpack", "--verify --pages"),
        ("xb-unpack", "--list --json"),
        ("xb-zip", "-j2"),
        ("xb-zip", "-j2 -alz4"),
        ("xb-zip", "-j2 -d"),
        ("xb-crypt", "-q -j2 -k KEY"),
        ("xb-crypt", "-q -j2 --format=xbcrypt -k KEY"),
        ("xb-crypt", "-q -j2 -d --allow-plain -k KEY"),
        ("xb-sum", "-q -o/dev/null"),
        ("xb-sum", "-q --members -asha1,blake3 -o/dev/null"),
        ("xb-throttle", "-q"),
    ];
    all.map(|(name, args)| (name, args.split(' ').map(|word| word.replace("KEY", key)).collect())).to_vec()
}

fn seek(path: &str, offset: u64) -> Vec<u8> {
    chunk(b'S', 0, path.as_bytes(), &offset.to_le_bytes())
}

/// A chunk of Percona's programs with one byte of content behind holes.
fn sparse(path: &str, holes: usize) -> Vec<u8> {
    let mut map = [u32::MAX.to_le_bytes(), [0; 4]].concat().repeat(holes - 1);
    map.extend([u32::MAX.to_le_bytes(), 1u32.to_le_bytes()].concat());
    let sum = crc32fast::hash(&[&map[..], b"x"].concat());
    let head = [&u32::try_from(holes).unwrap().to_le_bytes()[..], &1u64.to_le_bytes(), &[0; 8], &sum.to_le_bytes()];
    chunk(b'S', 0, path.as_bytes(), &[&head.concat()[..], &map, b"x"].concat())
}

#[test]
fn a_hole_of_petabytes_ends_at_once_in_every_tool() {
    let (_dir, key) = key();
    let end = |path: &str| chunk(b'E', 0, path.as_bytes(), &[]);
    for name in ["t.ibd", "t.ibd.zst"] {
        for (what, body) in [
            ("seek", [seek(name, 1 << 52), payload(name, 1 << 52, b"x")].concat()),
            ("few holes", sparse(name, 100)),
            ("many holes", sparse(name, 1 << 20)),
        ] {
            let stream = [body, end(name)].concat();
            for (tool, args) in filters(&key) {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let (code, said) = small(&format!("{name}, {what}"), tool, &args, &stream);
                assert!(code != 1 || said.contains("--hole-limit SIZE raises the limit"), "{tool} {args:?}: {said}");
            }
            let dir = scratch();
            let into = dir.path().to_str().unwrap();
            small(&format!("{name}, {what}"), "xb-unpack", &["-C", into], &stream);
        }
    }
}

#[test]
fn a_hole_that_is_allowed_is_filled() {
    let stream = [seek("t", 3 << 30), payload("t", 3 << 30, b"x"), chunk(b'E', 0, b"t", &[])].concat();
    let (code, said) = small("3 GiB", "xb-zip", &["-alz4"], &stream);
    assert!(code == 1 && said.contains("t: refused: with a hole of 3221225472 bytes"), "{said}");
    assert_eq!(small("3 GiB", "xb-zip", &["-alz4", "--hole-limit=3g"], &stream).0, 0);
}

/// Names of this many members in several directories, each with a little content; in our format and in that of another
/// program.
fn crowd(count: usize) -> [Vec<u8>; 2] {
    let names = (0..count).map(|n| format!("db{}/table{n}.frm", n / 1000));
    let mut foreign = Vec::new();
    let mut ours = made::begun(StreamKind::Files);
    let mut manifest = made::Manifest::default();
    for (n, name) in names.enumerate() {
        let content = n.to_le_bytes();
        foreign.extend(member(&name, &content));
        manifest.add(&name, EntryKind::File, &content);
    }
    ours.extend_from_slice(&foreign);
    ours.extend(member("xb_manifest", &manifest.end(StreamKind::Files)));
    [ours, foreign]
}

/// Each tool accepts them, or names the option that raises the limit.
#[track_caller]
fn frugal(what: &str, stream: &[u8], sums: bool) {
    let (_dir, key) = key();
    for (tool, args) in filters(&key) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let start = std::time::Instant::now();
        let (code, said) = small(what, tool, &args, stream);
        eprintln!("{what}: {tool} {args:?}: {code}, {:?}", start.elapsed());
        let refused = sums && code == 1 && said.contains("--memory SIZE raises the limit");
        assert!(code == 0 || refused, "{what}: {tool} {args:?}: {said}");
    }
}

#[test]
fn many_members_need_little_memory() {
    for stream in crowd(30_000) {
        frugal("30,000 members", &stream, false);
    }
}

/// A snapshot with this many tablespaces, and the log for xb-redo.
fn tablespaces(count: u32) -> (made::Log, Vec<u8>) {
    let log = made::Log::new(1000);
    let stream = (0..count).fold(made::Stream::of(&log).begin(), |stream, n| {
        stream.tablespace(&format!("db{}/table{n}.ibd", n / 1000), n + 1, &n.to_le_bytes())
    });
    (log, stream.manifest().bytes())
}

#[test]
fn xb_redo_takes_many_tablespaces_or_names_the_option() {
    let (_log, stream) = tablespaces(100_000);
    assert_eq!(small("100,000 tablespaces", "xb-redo", &[], &stream).0, 0);
    let (code, said) = small("100,000 tablespaces", "xb-redo", &["--memory=2m"], &stream);
    assert!(code == 1 && said.contains("--memory SIZE raises the limit"), "{code}, {said}");
}

#[test]
#[ignore = "half a minute"]
fn xb_redo_takes_a_million_tablespaces_within_its_bound() {
    let (_log, stream) = tablespaces(1_000_000);
    assert_eq!(small("1,000,000 tablespaces", "xb-redo", &[], &stream).0, 0);
}

#[test]
#[ignore = "minutes"]
fn a_million_members_need_little_memory() {
    for stream in crowd(1_000_000) {
        frugal("1,000,000 members", &stream, true);
    }
}

/// The tools that read and write directories.
#[test]
#[ignore = "minutes"]
fn a_million_files_need_little_memory() {
    let (_log, stream) = tablespaces(1_000_000);
    let whole = good(feed(&mut tool("xb-redo"), &stream));
    drop(stream);
    let dir = scratch();
    let into = dir.path().to_str().unwrap();
    for (memory, name, args, stream) in [
        (MEMORY, "xb-unpack", &["--no-sync", "-C", into][..], whole.as_slice()),
        // Its manifest and the directory's files are in memory: 0.6 KB for each.
        (MEMORY + (600 << 20), "xb-redo", &["--status", into], b""),
        (MEMORY, "xb-pack", &["-C", into, "."], b""),
    ] {
        let start = std::time::Instant::now();
        let (code, said) = within(memory, "1,000,000 files", name, args, stream);
        eprintln!("{name} {args:?}: {code}, {:?}", start.elapsed());
        assert!(code == 0 || code == 1 && said.contains("--memory SIZE raises the limit"), "{name}: {said}");
    }
}

/// This many members without an end mark, whose content needs much memory in the reader.
fn half_open(count: usize) -> Vec<(String, Vec<u8>)> {
    let random = Dice(20).bytes(40_000);
    let each = |name: &str, start: &[u8]| {
        let start = [start, &random].concat();
        let begun = (0..count).flat_map(|n| payload(&name.replace('N', &n.to_string()), 0, &start));
        let begun: Vec<u8> = begun.collect();
        (name.to_owned(), begun)
    };
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
    // A megabyte of content in raw blocks, of which the first is not all here.
    frame.extend((1u32 << 20).to_le_bytes());
    frame.extend((100_000u32 << 3).to_le_bytes()[..3].to_vec());
    let large: Vec<u8> = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x60][..], &(100_000u32 << 3).to_le_bytes()[..3]].concat();
    let mut sealed = b"XBCRYP03".to_vec();
    sealed.extend([0; 8]);
    sealed.extend((1u64 << 20).to_le_bytes().repeat(2));
    sealed.extend([0; 4]);
    sealed.extend(16u64.to_le_bytes());
    sealed.extend([0; 16]);
    vec![each("tN.frm", b""), each("tN.zst", &frame), each("tN.zst", &large), each("tN.xbcrypt", &sealed)]
}

#[test]
fn thousands_of_half_open_members_need_little_memory() {
    let (_dir, key) = key();
    for (what, stream) in half_open(4000) {
        for (tool, args) in filters(&key) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (code, said) = small(&what, tool, &args, &stream);
            let refused = code == 1 && said.contains("--memory SIZE raises the limit");
            let truncated = code == 3 && said.contains("no end mark");
            // xb-throttle checks nothing; without --members xb-sum does not parse foreign streams.
            assert!(refused || truncated || code == 0, "{what}: {tool} {args:?}: {code}, {said}");
        }
    }
}

#[test]
fn more_members_than_can_be_open_are_refused() {
    let (_dir, key) = key();
    let stream: Vec<u8> = (0..16_400).flat_map(|n| payload(&format!("t{n}"), 0, b"x")).collect();
    for (tool, args) in filters(&key) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (code, said) = small("open", tool, &args, &stream);
        let passes = tool == "xb-throttle" || args == ["-q", "-o/dev/null"];
        assert!(
            passes || code == 3 || said.contains("--memory SIZE raises the limit"),
            "{tool} {args:?}: {code}, {said}"
        );
    }
}

#[test]
fn a_large_window_is_refused_unless_it_is_allowed() {
    let content = vec![7; 3 << 20];
    let frame = good(feed(std::process::Command::new("zstd").args(["--long=27", "-c"]), &content));
    let (code, said) = small("window", "xb-zip", &["-d"], &member("t.zst", &frame));
    assert!(code == 1 && said.contains("--memory SIZE raises the limit"), "{said}");
    let (code, said) = small("window", "xb-zip", &["-d", "--raw"], &frame);
    assert!(code == 1 && said.contains("--memory SIZE raises the limit"), "{said}");
    assert!(good(feed(tool("xb-zip").args(["-d", "--raw", "--memory=200m"]), &frame)) == content);
}

#[test]
fn a_manifest_without_end_is_not_read_for_ever() {
    let (_dir, key) = key();
    // More lines than members; and a member behind the manifest's beginning.
    let mut lines = made::Manifest::default();
    (0..100_000).for_each(|n| lines.add(&format!("t{n}"), EntryKind::File, b""));
    let begun = [made::begun(StreamKind::Files), member("t0", b"x")].concat();
    let endless = [&begun[..], &payload("xb_manifest", 0, &lines.end(StreamKind::Files))].concat();
    let interrupted = [&begun[..], &payload("xb_manifest", 0, b"{"), &member("t1", b"x")].concat();
    for (stream, word) in [(endless, "more members than the stream has"), (interrupted, "the last member")] {
        for (tool, args) in filters(&key).into_iter().filter(|(tool, _)| *tool != "xb-throttle") {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let (code, said) = small(word, tool, &args, &stream);
            // xb-unpack misses a member; encrypted content cannot be read; a compressed manifest does not count.
            let other = said.contains("the manifest says")
                || said.contains("the stream does not have it")
                || said.contains("xb_manifest has");
            assert!(code == 3 && (said.contains(word) || other), "{tool} {args:?}: {code}, {said}");
        }
    }
}

#[test]
fn what_is_named_compressed_and_is_not_is_damage() {
    for (name, content, words) in [
        (
            "t.ibd.zst",
            &b"\x29\xb5\x2f\xfd and more than sixteen bytes"[..],
            "neither zstd nor lz4 nor a qpress archive",
        ),
        ("t.ibd.lz4", b"what is this, in more than sixteen bytes", "neither zstd nor lz4 nor a qpress archive"),
        ("t.ibd.zst", b"\x28\xb5", "ends in its first bytes"),
        ("t.ibd.zst", b"XBSEAL01 and more than sixteen bytes", "put xb-crypt -d before xb-zip -d"),
        ("t.ibd.zst.xbseal", b"XBSEAL01 and more than sixteen bytes", "put xb-crypt -d before xb-zip -d"),
    ] {
        bad(&feed(tool("xb-zip").arg("-d"), &member(name, content)), 3, words);
    }
}

#[test]
fn a_directory_unpacked_too_early_is_packed_again_and_finished() {
    let (_dir, key) = key();
    let plain = made::stream(StreamKind::Full, &[PAGES, LOG]);
    let zipped = good(feed(&mut tool("xb-zip"), &plain));
    let sealed = good(feed(tool("xb-crypt").args(["-k", &key]), &zipped));
    let crypt = || {
        let mut crypt = tool("xb-crypt");
        crypt.args(["-q", "-d", "-k", &key]);
        crypt
    };
    for (stream, hint, encrypted) in [
        (&zipped, "put xb-zip -d before xb-unpack", false),
        (&sealed, "put xb-crypt -d | xb-zip -d before xb-unpack", true),
    ] {
        let dir = scratch();
        let (early, late) = (dir.path().join("early"), dir.path().join("late"));
        let run = unpack(&early, &[], stream);
        assert!(run.status.success() && said(&run).contains(hint), "{}", said(&run));
        // As xb-redo leaves it when it is asked what this is.
        std::fs::write(early.join("xb_lock"), b"").unwrap();
        let mut pack = tool("xb-pack");
        pack.arg("-C").arg(&early).arg(".");
        let mut pipeline = Pipeline::new().stage(pack);
        if encrypted {
            pipeline = pipeline.stage(crypt());
        }
        pipeline.stage(tool("xb-zip").arg("-d")).stage(tool("xb-unpack").arg("-C").arg(&late)).run().assert_ok();
        let files = tree(&late);
        assert_eq!(files[Path::new("db/t.ibd")], PAGES.2);
        assert_eq!(files[Path::new("ib_logfile0")], LOG.2);
        let names: Vec<String> = files.keys().map(|name| name.display().to_string()).collect();
        assert_eq!(names, ["db/t.ibd", "ib_logfile0", "xb_begin", "xb_manifest", "xb_prints"]);
    }
}

#[test]
fn an_unusable_spool_is_found_before_the_first_byte() {
    let dir = scratch();
    let begin = made::begun(StreamKind::Full);
    for (name, args) in [
        ("xb-redo", &["--spool-dir=/nonexistent"][..]),
        ("xb-snap", &["--spool-dir=/nonexistent", "--no-defaults", "--socket=/nonexistent"]),
        ("xb-pack", &["."]),
    ] {
        let run = feed(tool(name).args(args).current_dir(dir.path()).env("TMPDIR", "/nonexistent"), &begin);
        bad(&run, 1, "spool in /nonexistent: cannot write: no such file or directory");
        assert!(run.stdout.is_empty());
    }
}
