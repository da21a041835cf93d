//! xb-zip: others read what it writes, it reads what others write, no damage passes, memory is bounded.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use xb::Kind;
use xb::budget::Budget;
use xb::codec::Codec;
use xb::codec::members;
use xb::codec::whole_input;
use xb::zip::{Algorithm, Unzip, Zip};

use crate::map::{contents, interleaved};
use crate::memory::peak_of;
use crate::support::tool::{
    Dice, bad, chunk, feed, good, member, pack, payload, plain_tree, plant, proved, scratch, tool, tree, unpack,
};
use crate::vectors::{folder_path, sections, sha256, stream};

const ZSTD: Zip = Zip { algorithm: Algorithm::Zstd(1), frame: 1 << 20 };
const LZ4: Zip = Zip { algorithm: Algorithm::Lz4, frame: 1 << 20 };

fn through(codec: &impl Codec, threads: usize, stream: &[u8]) -> xb::Result<Vec<u8>> {
    let mut out = Vec::new();
    members::rewrite(codec, stream, &mut out, &members::Options::new(threads), &()).map(|()| out)
}

fn raw(codec: &impl Codec, threads: usize, bytes: &[u8]) -> xb::Result<Vec<u8>> {
    let mut out = Vec::new();
    whole_input::rewrite(codec, bytes, &mut out, threads, &()).map(|()| out)
}

/// Page-like: runs, text and random bytes in turn, so that it shrinks and is not trivial.
pub fn pages(dice: &mut Dice, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4096);
    while bytes.len() < len {
        let size = 1 + dice.below(3000);
        match dice.below(3) {
            0 => bytes.resize(bytes.len() + size, 0),
            1 => bytes.extend((0..size).map(|n| b"row of a table; "[n % 16])),
            _ => bytes.extend(dice.bytes(size)),
        }
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn every_vector_decodes_to_its_digest() {
    let mut count = 0;
    for folder in ["zstd", "lz4", "qpress"] {
        for (name, lines) in sections(folder) {
            let Some(content) = lines.iter().find(|line| line.starts_with("content:")) else { continue };
            let want = content.rsplit(' ').next().unwrap();
            let bytes = std::fs::read(folder_path(folder).join(&name)).unwrap();
            for threads in [1, 3] {
                let out = through(&Unzip::default(), threads, &member(&name, &bytes))
                    .unwrap_or_else(|error| panic!("{error}"));
                let files = contents(&out);
                let plain = &name[..name.rfind('.').unwrap()];
                assert_eq!(sha256(&files[plain]), want, "{name}");
                if !bytes.is_empty() {
                    assert_eq!(sha256(&raw(&Unzip::default(), threads, &bytes).unwrap()), want, "{name} --raw");
                }
            }
            count += 1;
        }
    }
    assert_eq!(count, 14 + 16 + 34);
    let tree = std::fs::read(folder_path("qpress").join("tree-qpress.qp")).unwrap();
    let error = raw(&Unzip::default(), 1, &tree).unwrap_err();
    assert!(error.to_string().contains("archive of a directory"), "{error}");
}

#[test]
fn streams_of_the_originals_decode_to_their_digests() {
    for (name, lines) in sections("pipeline").into_iter().filter(|(name, _)| name.ends_with("-plain.xbs")) {
        let files = contents(&good(feed(tool("xb-zip").arg("-d"), &stream("pipeline", &name))));
        let mut count = 0;
        for line in lines.iter().filter_map(|line| line.split_once(" -> ")) {
            let mut words = line.1.split(' ');
            let (path, sum) = (words.next().unwrap(), words.next_back().unwrap());
            assert_eq!(sum, format!("sha256={}", sha256(&files[path])), "{name}: {path}");
            count += 1;
        }
        assert_eq!((count, files.len()), (3, 3), "{name}");
    }
    let files = contents(&good(feed(tool("xb-zip").arg("-d"), &stream("mariadb-backup", "quicklz.xbs.zst"))));
    let (_, lines) = sections("mariadb-backup").into_iter().find(|(name, _)| name == "quicklz.xbs.zst").unwrap();
    let packed: Vec<_> = lines.iter().filter(|line| line.contains("decompressed:")).collect();
    for line in &packed {
        let path = line.split(' ').nth(1).unwrap().strip_suffix(".qp").unwrap();
        assert_eq!(line.rsplit('=').next().unwrap(), sha256(&files[path]), "{path}");
    }
    assert_eq!((packed.len(), files.len()), (21, 22));
}

/// A directory with something of everything, and the stream of it.
fn sample() -> (tempfile::TempDir, Vec<u8>) {
    let dir = scratch();
    let mut dice = Dice(21);
    plant(
        dir.path(),
        &[
            ("db/t.ibd", &pages(&mut dice, 3_500_000)),
            ("db/random", &dice.bytes(2_300_000)),
            ("db/zeros", &vec![0; 3 << 20]),
            ("db/empty", b""),
            ("db/one", b"1"),
            ("xtrabackup_checkpoints", b"backup_type = full-backuped\n"),
            ("db/t.ibd.meta", b"page_size = 16384\n"),
        ],
    );
    let packed = good(pack(dir.path(), &[]));
    (dir, packed)
}

#[test]
fn the_programs_of_others_read_ours() {
    let (dir, packed) = sample();
    for (options, suffix, program) in
        [(["-a", "zstd"], "zst", "zstd"), (["-a", "lz4"], "lz4", "lz4"), (["-4", "-j3"], "zst", "zstd")]
    {
        let zipped = good(feed(tool("xb-zip").args(options), &packed));
        let target = scratch();
        good(feed(Command::new("mbstream").arg("-x").current_dir(target.path()), &zipped));
        for name in tree(target.path()).into_keys().filter(|name| name.extension().is_some_and(|end| end == suffix)) {
            let mut command = Command::new(program);
            command.args(["-d", "-q", "-f", "--rm"]).arg(&name).arg(name.with_extension("")).current_dir(target.path());
            if program == "zstd" {
                command = Command::new(program);
                command.args(["-d", "-q", "--rm"]).arg(&name).current_dir(target.path());
            }
            good(feed(&mut command, b""));
        }
        assert!(plain_tree(target.path()) == plain_tree(dir.path()), "{options:?}");

        let back = scratch();
        good(unpack(back.path(), &["--no-sync"], &good(feed(tool("xb-zip").arg("-d"), &zipped))));
        assert!(plain_tree(back.path()) == plain_tree(dir.path()), "{options:?}");
    }
}

#[test]
fn frames_have_size_and_checksum_at_every_level() {
    let dir = scratch();
    // Words, so that looking longer for matches pays.
    let mut dice = Dice(32);
    let words: Vec<Vec<u8>> = (0..700).map(|n| dice.bytes(3 + n % 9)).collect();
    let mut content: Vec<u8> = (0..400_000).flat_map(|_| words[dice.below(700)].clone()).collect();
    content.truncate(2_500_000);
    let zip = |options: &[String], name: &str| {
        let packed = good(feed(tool("xb-zip").args(options).arg("--raw"), &content));
        assert!(good(feed(tool("xb-zip").args(["-d", "--raw"]), &packed)) == content, "{options:?}");
        std::fs::write(dir.path().join(name), &packed).unwrap();
        packed.len()
    };
    let told = |program: &str, option: &str, name: &str| {
        let mut list = Command::new(program);
        let run = list.arg(option).arg("-v").arg(name).current_dir(dir.path()).output().unwrap();
        assert!(run.status.success());
        String::from_utf8([run.stdout, run.stderr].concat()).unwrap()
    };
    let mut sizes = Vec::new();
    for level in 1..=19 {
        sizes.push(zip(&[format!("-{level}")], "a.zst"));
        let told = told("zstd", "-l", "a.zst");
        for fact in ["Frames: 3", "(2500000 B)", "Check: XXH64"] {
            assert!(told.contains(fact), "-{level}: {told}");
        }
    }
    assert!(sizes[18] < sizes[8] && sizes[8] < sizes[0], "{sizes:?}");
    zip(&["-alz4".to_owned()], "a.lz4");
    let told = told("lz4", "--list", "a.lz4");
    let frames: Vec<_> = told.lines().filter(|line| line.contains("XXH32")).collect();
    assert_eq!(frames.len(), 3, "{told}");
    for (frame, size) in frames.iter().zip(["1048576", "1048576", "402848"]) {
        assert_eq!(frame.split_whitespace().nth(5), Some(size), "{told}");
    }
    for level in ["-0", "-20", "--19", "-1x"] {
        assert_eq!(feed(tool("xb-zip").arg(level), b"").status.code(), Some(2), "{level}");
    }
}

#[test]
fn the_start_of_a_member_is_passed_on_early() {
    let content = pages(&mut Dice(33), 3 << 20);
    let (first, rest) = (payload("t.ibd", 0, &content[..2 << 20]), payload("t.ibd", 2 << 20, &content[2 << 20..]));
    for options in [&["-j1"][..], &["-j3", "-alz4"]] {
        let mut child = tool("xb-zip").args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        stdin.write_all(&first).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut out = vec![0; 1];
            stdout.read_exact(&mut out).unwrap();
            tell.send(()).unwrap();
            stdout.read_to_end(&mut out).unwrap();
            out
        });
        told.recv_timeout(Duration::from_secs(60)).expect("nothing came out before the member was complete");
        stdin.write_all(&[&rest[..], &chunk(b'E', 0, b"t.ibd", &[])].concat()).unwrap();
        drop(stdin);
        assert!(contents(&through(&Unzip::default(), 1, &reader.join().unwrap()).unwrap())["t.ibd"] == content);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn frames_of_the_commands_are_read() {
    let unzip = || Unzip::within(&Budget::new(400 << 20));
    let content = pages(&mut Dice(22), 5_000_000);
    let long = [&content[..], &content].concat();
    for (program, options, content) in [
        ("zstd", &["-3", "-T2"][..], &content),
        ("zstd", &["--ultra", "-20", "--no-check"], &content[..1_000_000].to_vec()),
        ("zstd", &["-1", "--long=27"], &long),
        ("lz4", &["-1"], &content),
        ("lz4", &["-9", "-BD", "-B4"], &content),
        ("lz4", &["-BX", "-B5", "--content-size"], &content),
        ("lz4", &["-B7", "--no-frame-crc"], &content),
    ] {
        let packed = good(feed(Command::new(program).args(options).arg("-c"), content));
        // Skippable data before, and everything twice.
        let skip = [&[0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"skip!"].concat();
        let bytes = [&packed[..], &skip, &packed].concat();
        for threads in [1, 2] {
            let out = raw(&unzip(), threads, &bytes).unwrap_or_else(|error| panic!("{program} {options:?}: {error}"));
            assert!(out == [&content[..], content].concat(), "{program} {options:?}");
        }
        // In chunks of a stream, as awkward as can be.
        let name = if program == "zstd" { "f.zst" } else { "f.lz4" };
        let cut = interleaved(&[(name.into(), bytes)], &mut Dice(23));
        assert!(contents(&through(&unzip(), 2, &cut).unwrap())["f"].len() == 2 * content.len());
        let cut_short = member(name, &packed[..packed.len() - 1]);
        assert_eq!(through(&unzip(), 2, &cut_short).unwrap_err().kind(), Kind::Damaged);
    }
    let legacy = good(feed(Command::new("lz4").args(["-l", "-c"]), &content));
    assert!(raw(&Unzip::default(), 1, &legacy).is_err());
    let window = good(feed(Command::new("zstd").args(["--long=28", "-c"]), &vec![1; 1 << 20]));
    let error = raw(&Unzip::default(), 1, &window).unwrap_err();
    assert!(error.to_string().contains("134217728 is the limit"), "{error}");
}

#[test]
fn small_and_compressed_members_stay_as_they_are() {
    let (_dir, packed) = sample();
    let once = through(&ZSTD, 2, &packed).unwrap();
    let names: Vec<_> = contents(&once).into_keys().collect();
    let want = ["db/empty.zst", "db/one.zst", "db/random.zst", "db/t.ibd.meta", "db/t.ibd.zst", "db/zeros.zst"];
    assert_eq!(names, [&want[..], &["xb_begin", "xb_manifest", "xtrabackup_checkpoints"]].concat());
    let files = contents(&once);
    for (codec, what) in [(ZSTD, "zstd"), (LZ4, "lz4")] {
        assert!(contents(&through(&codec, 2, &once).unwrap()) == files, "{what}");
    }
    // A name alone does not make data compressed.
    let odd = [member("a.lz4", b"not lz4, whatever it is called"), member("b.zst", b"")].concat();
    assert_eq!(through(&Unzip::default(), 1, &odd).unwrap_err().kind(), Kind::Damaged);
    let back = through(&Unzip::default(), 1, &through(&ZSTD, 1, &odd).unwrap()).unwrap();
    assert!(contents(&back) == contents(&odd));
}

#[test]
fn what_shrinks_shrinks_as_much_as_with_the_commands() {
    let content = pages(&mut Dice(31), 3_000_000);
    for (codec, program) in [(ZSTD, "zstd"), (LZ4, "lz4")] {
        let peer = good(feed(Command::new(program).args(["-1", "-c"]), &content)).len();
        let ours = raw(&codec, 2, &content).unwrap().len();
        assert!(ours < peer + peer / 20, "{program}: {ours}, the command {peer}");
    }
}

#[test]
fn what_does_not_shrink_is_stored() {
    let random = Dice(24).bytes(4 << 20);
    for codec in [ZSTD, LZ4] {
        let out = raw(&codec, 2, &random).unwrap();
        assert!(out.len() < random.len() + 4 * 100, "{}", out.len());
        assert!(raw(&Unzip::default(), 2, &out).unwrap() == random);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: prop::test_runner::RngSeed::Fixed(6), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn members_come_back_at_any_chunking_threads_and_frame(
        sizes in prop::collection::vec(prop_oneof![0usize..40, 0usize..70_000, 900_000usize..1_200_000], 1..6),
        seed in 1u64..u64::MAX,
        lz4 in any::<bool>(),
        frame in prop_oneof![Just(1usize << 20), 4096usize..300_000],
        threads in 1usize..5,
    ) {
        let mut dice = Dice(seed);
        let files: Vec<_> = sizes.iter().enumerate().map(|(n, size)| (format!("f{n}"), pages(&mut dice, *size))).collect();
        let codec = Zip { algorithm: if lz4 { Algorithm::Lz4 } else { Algorithm::Zstd(1) }, frame };
        let stream = interleaved(&files, &mut dice);
        let zipped = through(&codec, threads, &stream).unwrap();
        prop_assert!(zipped == through(&codec, 1, &stream).unwrap(), "threads change the output");
        let coded: Vec<_> = contents(&zipped).into_iter().collect();
        let again = interleaved(&coded, &mut dice);
        prop_assert!(contents(&through(&Unzip::default(), threads, &again).unwrap()) == files.into_iter().collect());
    }
}

/// A small stream of ours, compressed.
fn small(codec: &Zip) -> Vec<u8> {
    let dir = scratch();
    let mut dice = Dice(25);
    plant(dir.path(), &[("db/t.ibd", &pages(&mut dice, 1500)), ("e", b""), ("r", &dice.bytes(200))]);
    through(codec, 1, &good(pack(dir.path(), &[]))).unwrap()
}

/// Decompresses and verifies; both have to be content.
fn verified(stream: &[u8], threads: usize) -> xb::Result<()> {
    proved(&through(&Unzip::default(), threads, stream)?)
}

#[test]
fn a_cut_of_a_stream_is_noticed_at_every_byte() {
    for codec in [ZSTD, LZ4] {
        let stream = small(&codec);
        verified(&stream, 1).unwrap();
        for at in 0..stream.len() {
            let error = through(&Unzip::default(), 1 + usize::from(at % 50 == 0), &stream[..at]).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "cut at {at}: {error}");
        }
    }
}

#[test]
fn any_flipped_bit_of_a_stream_is_found() {
    for codec in [ZSTD, LZ4] {
        let mut stream = small(&codec);
        for bit in 0..stream.len() * 8 {
            stream[bit / 8] ^= 1 << (bit % 8);
            let error = verified(&stream, 1).expect_err(&format!("bit {} of byte {}", bit % 8, bit / 8));
            assert!(matches!(error.kind(), Kind::Damaged | Kind::Failed), "{error}");
            stream[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// The inner layers by themselves, without the stream's own sums.
#[test]
fn damage_inside_a_member_is_noticed_or_harmless() {
    let content = pages(&mut Dice(26), 700);
    let of_others = |folder: &str, name: &str| std::fs::read(folder_path(folder).join(name)).unwrap();
    for (what, packed) in [
        ("zstd", raw(&ZSTD, 1, &content).unwrap()),
        ("zstd stored", raw(&ZSTD, 1, &Dice(27).bytes(600)).unwrap()),
        ("lz4", raw(&LZ4, 1, &content).unwrap()),
        ("zstd of percona", of_others("zstd", "short.zst")),
        ("lz4 of percona", of_others("lz4", "short.lz4")),
        ("qp", of_others("qpress", "short-qpress-L2.qp")),
        ("qp 3", of_others("qpress", "one-qpress-L3.qp")),
    ] {
        let whole = raw(&Unzip::default(), 1, &packed).unwrap();
        for at in 1..packed.len() {
            let error = raw(&Unzip::default(), 1, &packed[..at]).expect_err(&format!("{what}: cut at {at}"));
            assert_eq!(error.kind(), Kind::Damaged, "{what}: cut at {at}: {error}");
        }
        let mut damaged = packed.clone();
        for bit in 0..packed.len() * 8 {
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(out) = raw(&Unzip::default(), 1, &damaged) {
                assert!(out == whole, "{what}: bit {} of byte {} changes the content", bit % 8, bit / 8);
            }
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Position, Adler-32, size and trailer: what qpress and Percona's program do not look at.
#[test]
fn all_that_an_archive_of_qpress_says_is_checked() {
    let archive = std::fs::read(folder_path("qpress").join("chunk-size-4k-xtrabackup.qp")).unwrap();
    let blocks: Vec<usize> = (0..archive.len() - 8).filter(|at| archive[*at..].starts_with(b"NEWBNEWB")).collect();
    let (first, end) = (blocks[0], archive.len() - 16);
    let parts = |parts: &[&[u8]]| parts.concat();
    let with = |at: usize, bytes: &[u8]| parts(&[&archive[..at], bytes, &archive[at + bytes.len()..]]);
    let swapped =
        [&archive[..first], &archive[blocks[1]..blocks[2]], &archive[first..blocks[1]], &archive[blocks[2]..]];
    for (fault, word) in [
        (parts(&[&archive[..blocks[1]], &archive[blocks[2]..]]), "where 4096 is due"),
        (parts(&swapped), "where 0 is due"),
        (with(first + 8, &[1]), "qpress block for byte 1"),
        (with(first + 16, &[!archive[first + 16]]), "checksum of a qpress block is wrong"),
        (with(blocks[1] - 1, &[!archive[blocks[1] - 1]]), "checksum of a qpress block is wrong"),
        (with(8, &4095u64.to_le_bytes()), "4096 bytes; the archive allows 4095"),
        (with(first + 20 + 5, &4095u32.to_le_bytes()), "where 4095 is due"),
        (archive[..end].to_vec(), "truncated"),
        (archive[..archive.len() - 1].to_vec(), "truncated"),
        (with(end + 8, &[1]), "no block begins here"),
        (parts(&[&archive, b"x"]), "bytes follow the end"),
        (parts(&[&archive, &archive]), "bytes follow the end"),
    ] {
        let run = feed(tool("xb-zip").arg("-d"), &member("t.ibd.qp", &fault));
        bad(&run, 3, "stdin: t.ibd.qp: ");
        bad(&run, 3, word);
        assert!(String::from_utf8_lossy(&run.stderr).contains("(byte "), "{word}");
    }
}

/// The format cannot show that the last blocks are missing, or all of an empty member.
#[test]
fn what_the_formats_cannot_tell_the_manifest_does() {
    let archive = std::fs::read(folder_path("qpress").join("chunk-size-4k-xtrabackup.qp")).unwrap();
    let plain = raw(&Unzip::default(), 1, &archive).unwrap();
    let dir = scratch();
    plant(dir.path(), &[("t", &plain)]);
    let ours = contents(&good(pack(dir.path(), &[])));
    let verify = |name: &str, content: &[u8]| {
        let stream =
            [member("xb_begin", &ours["xb_begin"]), member(name, content), member("xb_manifest", &ours["xb_manifest"])];
        verified(&stream.concat(), 2)
    };
    verify("t.qp", &archive).unwrap();
    let blocks: Vec<usize> = (0..archive.len() - 8).filter(|at| archive[*at..].starts_with(b"NEWBNEWB")).collect();
    for at in blocks {
        let short = [&archive[..at], &archive[archive.len() - 16..]].concat();
        assert!(raw(&Unzip::default(), 1, &short).is_ok());
        assert_eq!(verify("t.qp", &short).unwrap_err().kind(), Kind::Damaged);
    }
    for (codec, name) in [(ZSTD, "t.zst"), (LZ4, "t.lz4")] {
        let halves = [raw(&codec, 1, &plain[..5000]).unwrap(), raw(&codec, 1, &plain[5000..]).unwrap()];
        verify(name, &halves.concat()).unwrap();
        for fault in [halves[0].clone(), [&halves[1][..], &halves[0]].concat(), Vec::new()] {
            assert_eq!(verify(name, &fault).unwrap_err().kind(), Kind::Damaged, "{name}");
        }
    }
}

#[test]
fn a_fault_names_member_and_byte() {
    let qpress = std::fs::read(folder_path("qpress").join("several-xtrabackup.qp")).unwrap();
    let second = (38..qpress.len()).find(|at| qpress[*at..].starts_with(b"NEWBNEWB")).unwrap();
    let frames = |codec: &Zip| [28, 29].map(|seed| raw(codec, 1, &pages(&mut Dice(seed), 9000)).unwrap());
    let (zstd, lz4) = (frames(&ZSTD), frames(&LZ4));
    for (name, mut bytes, from) in [
        ("db/t.ibd.zst", zstd.concat(), zstd[0].len()),
        ("db/t.ibd.lz4", lz4.concat(), lz4[0].len()),
        ("db/t.ibd.qp", qpress.clone(), second),
    ] {
        let place = |run: &std::process::Output| -> usize {
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            said.split("(byte ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
        };
        let whole = bytes.len();
        bytes[from + 500] ^= 4;
        let run = feed(tool("xb-zip").arg("-d"), &member(name, &bytes));
        bad(&run, 3, &format!("xb-zip: stdin: {name}: damaged: "));
        assert!((from..=whole).contains(&place(&run)), "{name}");
        let run = feed(tool("xb-zip").arg("-d"), &member(name, &bytes[..from + 400]));
        bad(&run, 3, &format!("xb-zip: stdin: {name}: truncated: "));
        assert!((from..=from + 400).contains(&place(&run)), "{name}: {}", place(&run));
    }
    bad(&feed(tool("xb-zip").arg("-d"), b""), 3, "empty: no bytes arrived");
    bad(&feed(tool("xb-zip").args(["-d", "--raw"]), &member("x", b"x")), 3, "leave --raw out");
    bad(&feed(tool("xb-zip").args(["-a", "lz4", "-7"]), b""), 2, "lz4 has no levels");
    bad(&feed(tool("xb-zip").args(["--chunk-size", "2m"]), b""), 2, "4k to 1m");
}

#[test]
fn sizes_that_lie_cost_nothing() {
    let huge = u64::MAX.to_le_bytes();
    let zstd = [&xb::zip::zstd::MAGIC[..], &[0b1110_0000], &huge[..7], &[0x0f], &[0xfd, 0xff, 0x0f]].concat();
    let mut lz4 = [&xb::zip::lz4::MAGIC[..], &[0x6c, 0x70], &(1u64 << 60).to_le_bytes()].concat();
    lz4.push((twox_hash::XxHash32::oneshot(0, &lz4[4..]) >> 8) as u8);
    lz4.extend((4u32 << 20).to_le_bytes());
    let qp = |block: u64, packet: &[u8]| {
        [&b"qpress10"[..], &block.to_le_bytes(), b"F\x01\0\0\0x\0NEWBNEWB", &[0; 12], packet].concat()
    };
    let packet = [&[0x47][..], &(60u32 << 20).to_le_bytes(), &(60u32 << 20).to_le_bytes()].concat();
    for (name, bytes) in [
        ("a.zst", zstd),
        ("a.lz4", lz4),
        ("a.qp", qp(1 << 60, &packet)),
        ("a.qp", qp(64 << 20, &packet)),
        ("a.zst", [&[0x50, 0x2a, 0x4d, 0x18][..], &[0xff; 4], &[0; 20]].concat()),
    ] {
        let (peak, good) = peak_of(tool("xb-zip").args(["-d", "-j2"]).stderr(Stdio::null()), &member(name, &bytes));
        assert!(!good, "{name}");
        assert!(peak < 24 << 10, "{name}: {peak} KiB");
    }
}

/// However many members a stream opens, their decoders have a fixed memory limit.
#[test]
fn windows_of_open_members_have_a_limit() {
    let frame = good(feed(Command::new("zstd").args(["--long=27", "-c"]), &vec![7; 3 << 20]));
    let (begin, end) = frame.split_at(frame.len() - 1);
    let names = ["a.zst", "b.zst", "c.zst", "d.zst", "e.zst"];
    let begun = |name: &&str| payload(name, 0, begin);
    let ended = |name: &&str| [payload(name, begin.len() as u64, end), chunk(b'E', 0, name.as_bytes(), &[])].concat();
    let four: Vec<u8> = names[..4].iter().flat_map(begun).chain(names[..4].iter().flat_map(ended)).collect();
    // Memory that members release is available for the next.
    let later = ["f.zst", "g.zst", "h.zst", "i.zst", "j.zst"];
    let later: Vec<u8> = later.iter().flat_map(|name| [begun(name), ended(name)].concat()).collect();
    let unzip = || Unzip::within(&Budget::new(520 << 20));
    assert_eq!(contents(&through(&unzip(), 2, &[four, later].concat()).unwrap()).len(), 9);
    let five: Vec<u8> = names.iter().flat_map(begun).chain(names.iter().flat_map(ended)).collect();
    let error = through(&unzip(), 2, &five).unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains("bytes of memory; 545259520 is the limit"), "{error}");
}
