//! Sums are those of the usual programs, available in time, and never printed for a truncated stream.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::tool::{bad, feed, good, pack, said, scratch, tool, unpack};
use crate::support::{Pipeline, Random, fault, output, program, xb};

fn sum(args: &[&str], input: &[u8]) -> Output {
    let run = feed(tool("xb-sum").args(args), input);
    assert!(run.stdout == input, "{args:?}: the bytes passed are not those that came");
    run
}

/// What the usual program says of these bytes.
fn theirs(name: &str, input: &[u8]) -> String {
    String::from_utf8(good(feed(&mut program(name), input))).unwrap()
}

/// A stream of ours with some members.
fn stream(dir: &Path) -> Vec<u8> {
    fs::create_dir(dir.join("db")).unwrap();
    for (number, size) in [0, 1, 70_000, 3_000_000].into_iter().enumerate() {
        fs::write(dir.join(format!("db/t{number}.ibd")), Random::new(number as u64).bytes(size)).unwrap();
    }
    good(pack(dir, &["-j", "4", "--buffer-size", "16k"]))
}

fn vector(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)).unwrap()
}

#[test]
fn sums_are_those_of_coreutils() {
    let noise = Random::new(1).bytes(5_000_000);
    for input in [&b""[..], b"x", &noise] {
        for (name, program) in
            [("sha1", "sha1sum"), ("sha256", "sha256sum"), ("sha512", "sha512sum"), ("md5", "md5sum")]
        {
            assert!(
                said(&sum(&["-q", "--allow-empty", "-a", name], input)).ends_with(&theirs(program, input)),
                "{name}"
            );
        }
    }
    assert_eq!(said(&sum(&[], &noise)), theirs("sha1sum", &noise), "sha1 is what is meant without -a");
}

/// Vectors of the algorithms' own documents: zlib's check value, BLAKE3 and XXH3 of nothing.
#[test]
fn sums_without_a_program_are_those_of_their_documents() {
    assert_eq!(said(&sum(&["-a", "crc32"], b"123456789")), "cbf43926  -\n");
    let empty = said(&sum(&["-q", "--allow-empty", "-a", "blake3,xxh3"], b""));
    assert!(empty.contains("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262  -\n"), "{empty}");
    assert!(empty.ends_with("2d06800538d394c2  -\n"), "{empty}");
}

#[test]
fn several_sums_in_one_file_are_checked() {
    let (dir, input) = (scratch(), Random::new(2).bytes(300_000));
    let file = dir.path().join("sums");
    let name = file.to_str().unwrap();
    let all = ["-a", "sha1,sha256,sha512", "-a", "blake3", "-a", "crc32", "-a", "md5", "-a", "xxh3", "-o", name];
    assert_eq!(said(&sum(&all, &input)), "");
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 7);
    for program_name in ["sha1sum", "sha256sum", "sha512sum", "md5sum"] {
        good(feed(program(program_name).arg("-c").arg(&file), &input));
    }
    for args in [&["-c", name][..], &["-c", name, "-a", "blake3"], &["-c", name, "-a", "md5"]] {
        good(sum(args, &input));
        let mut other = input.clone();
        other[299_999] ^= 1;
        bad(&sum(args, &other), 3, "the stream differs");
        bad(&sum(args, b""), 3, "the stream differs");
    }
    fs::write(&file, theirs("sha256sum", &input).replace('-', "backup.xbs")).unwrap();
    good(sum(&["-c", name], &input));
    bad(&sum(&["-c", name, "-a", "sha1"], &input), 3, "different kinds");
}

#[test]
fn every_member_has_the_sum_of_its_file() {
    let dir = scratch();
    let stream = stream(dir.path());
    let lines = said(&sum(&["--members=only", "-a", "sha256"], &stream));
    for number in 0..4 {
        let name = format!("db/t{number}.ibd");
        let bytes = fs::read(dir.path().join(&name)).unwrap();
        let digits = theirs("sha256sum", &bytes).replace("  -\n", "");
        assert!(lines.contains(&format!("{digits} {} {name}\n", bytes.len())), "{name}: {lines}");
    }
    assert_eq!(lines.lines().count(), 6);
    let both = said(&sum(&["--members"], &stream));
    assert!(both.starts_with(&theirs("sha1sum", &stream)) && both.lines().count() == 7, "{both}");
}

/// Streams of the originals: interleaved, sparse, with members renamed and removed.
#[test]
fn members_of_every_dialect_have_the_sums_of_their_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut members = 0;
    for directory in ["xbstream", "xbstream-mariadb", "pipeline"] {
        for path in fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path()) {
            if path.extension().is_none_or(|kind| kind != "xbs") {
                continue;
            }
            let (dir, stream) = (scratch(), fs::read(&path).unwrap());
            let run = sum(&["--members=only"], &stream);
            if path.ends_with("seek-back.xbs") {
                bad(&run, 1, "out of order");
                continue;
            }
            if !unpack(dir.path(), &["--no-sync", "--allow-empty"], &stream).status.success() {
                assert!(!run.status.success(), "{}", path.display());
                continue;
            }
            assert!(run.status.success(), "{}: {}", path.display(), said(&run));
            let files = crate::support::tool::tree(dir.path());
            assert_eq!(said(&run).lines().count(), files.len(), "{}: {}", path.display(), said(&run));
            for (name, bytes) in files {
                let digits = theirs("sha1sum", &bytes).replace("  -\n", "");
                let line = format!("{digits} {} {}\n", bytes.len(), name.display());
                assert!(said(&run).contains(&line), "{}: {line}", path.display());
                members += 1;
            }
        }
    }
    assert!(members > 20, "{members}");
}

#[test]
fn members_are_checked_and_compared_too() {
    let dir = scratch();
    stream(dir.path());
    let stream = good(pack(dir.path(), &["--no-manifest"]));
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (name, other) = (a.to_str().unwrap(), b.to_str().unwrap());
    sum(&["--members", "-a", "sha1,md5", "-o", name], &stream);
    good(sum(&["-c", name], &stream));
    fs::remove_file(dir.path().join("db/t1.ibd")).unwrap();
    fs::remove_file(&a).unwrap();
    let fewer = good(pack(dir.path(), &["--no-manifest"]));
    sum(&["--members=only", "-o", name], &stream);
    bad(&sum(&["-c", name, "--members=only"], &fewer), 3, "db/t1.ibd is missing");
    sum(&["--members=only", "-o", other], &fewer);
    for pair in [[name, other], [other, name]] {
        bad(&feed(tool("xb-sum").arg("--compare").args(pair), b""), 3, "db/t1.ibd is");
    }
}

#[test]
fn two_files_are_compared() {
    let dir = scratch();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let near = write("near", &theirs("sha1sum", b"backup"));
    let compare = |other: &Path| feed(tool("xb-sum").arg("--compare").arg(&near).arg(other), b"");
    good(compare(&write("far", &theirs("sha1sum", b"backup").replace('-', "backup.xbs"))));
    bad(&compare(&write("half", &theirs("sha1sum", b"back"))), 3, "the stream differs");
    bad(&compare(&write("kind", &theirs("md5sum", b"backup"))), 3, "different kinds");
    bad(&compare(&write("empty", "")), 3, "has no sum");
    bad(&compare(&write("text", "hello\n")), 3, "line 1");
    bad(&compare(&dir.path().join("missing")), 1, "cannot read");
    let nothing = write("nothing", &theirs("sha1sum", b""));
    let run = feed(tool("xb-sum").arg("--compare").arg(&nothing).arg(&nothing), b"");
    bad(&run, 3, "no bytes at all");
    bad(&feed(tool("xb-sum").arg("--compare").arg(&near), b""), 2, "--compare");
}

#[test]
fn half_a_stream_of_ours_passes_and_has_no_sum() {
    let dir = scratch();
    fs::write(dir.path().join("t.ibd"), Random::new(3).bytes(200)).unwrap();
    let stream = good(pack(dir.path(), &[]));
    let file = dir.path().join("sums");
    good(sum(&["-o", file.to_str().unwrap()], &stream));
    for end in (22..stream.len()).step_by(7).chain([stream.len() - 1]) {
        // The file of an earlier run must not look like that of this run.
        bad(&sum(&["-o", file.to_str().unwrap()], &stream[..end]), 3, "trunc");
        assert!(!file.exists(), "{end}");
        fs::write(&file, "stale\n").unwrap();
    }
    let mut damaged = stream.clone();
    damaged[400] ^= 1;
    assert_eq!(sum(&[], &damaged).status.code(), Some(3));
    assert_eq!(sum(&[], &[stream.as_slice(), &stream].concat()).status.code(), Some(3));
}

#[test]
fn any_other_input_is_just_summed() {
    let cut = vector("xbstream-bad/cut-in-payload.xbs");
    for input in [&cut[..], b"hello\n", b"XBSTCK01\0P\x09\0\0\0xb_begin2", b"XBSTCK01\0"] {
        assert_eq!(said(&sum(&[], input)), theirs("sha1sum", input));
    }
    bad(&sum(&["--members"], &cut), 3, "truncated");
    bad(&sum(&["--members"], b"hello, world, hello\n"), 3, "not an xbstream");
}

/// The sums of empty input are equal on both ends: the result of a sender that failed at once must not look good.
#[test]
fn an_empty_input_is_an_error_without_sums() {
    let dir = scratch();
    let sums = dir.path().join("sums");
    let file = sums.to_str().unwrap();
    bad(&sum(&["-o", file], b""), 3, "empty: no bytes arrived");
    assert!(!sums.exists());
    bad(&sum(&["--members=only"], b""), 3, "empty: no bytes arrived");
    good(sum(&["-o", file, "--allow-empty"], b""));
    bad(&sum(&["-c", file], b""), 3, "empty: no bytes arrived");
}

/// What `tee >(sha1sum > FILE)` does not give: after the last byte, the file is there.
#[test]
fn the_file_is_whole_when_the_end_is_read() {
    let dir = scratch();
    let file = dir.path().join("sums");
    let input = Random::new(4).bytes(100_000);
    let data = dir.path().join("data");
    fs::write(&data, &input).unwrap();
    let want = theirs("sha1sum", &input);
    for turn in 0..1000 {
        let _ = fs::remove_file(&file);
        let mut command = tool("xb-sum");
        command.arg("-o").arg(&file).stdin(fs::File::open(&data).unwrap()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut passed = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut passed).unwrap();
        let there = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(there, want, "turn {turn}");
        assert!(child.wait().unwrap().success() && passed.len() == input.len());
    }
}

#[test]
fn an_unwritable_file_is_reported_before_anything_is_read() {
    let dir = scratch();
    let nowhere = dir.path().join("no/sums");
    let run = feed(tool("xb-sum").arg("-o").arg(&nowhere), b"hello");
    bad(&run, 1, "no such file or directory");
    assert!(run.stdout.is_empty());
    bad(&feed(tool("xb-sum").arg("-o").arg(dir.path()), b"hello"), 2, "is a directory");
    // A device is written, not replaced; a link leads to the file.
    good(sum(&["-o", "/dev/null"], b"hello"));
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let (link, real) = (dir.path().join("link"), dir.path().join("real"));
    fs::write(&real, "old").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    good(sum(&["-o", link.to_str().unwrap()], b"hello"));
    assert_eq!(fs::read_to_string(&real).unwrap(), theirs("sha1sum", b"hello"));
}

#[test]
fn a_lost_reader_or_full_disk_leaves_no_file() {
    let dir = scratch();
    let file = dir.path().join("sums");
    let mut ours = xb("xb-sum");
    ours.arg("-o").arg(&file);
    let mut head = program("head");
    head.args(["-c", "1000000"]);
    let run = Pipeline::new().stage(program("yes")).stage(&mut ours).stage(head).run();
    run.assert_codes(&[141, 141, 0]);
    assert!(!file.exists());
    let limited = fault::file_size_limit(&ours, 5000);
    let run = Pipeline::new().stage(limited).stdin_bytes(vec![1; 10_000]).stdout_to(&dir.path().join("out")).run();
    run.assert_codes(&[1]);
    assert!(!file.exists());
}

#[test]
fn both_ends_of_a_pipe_agree() {
    let dir = scratch();
    let (near, far) = (dir.path().join("near"), dir.path().join("far"));
    let noise = Random::new(5).bytes(20_000_000);
    let (mut first, mut second, mut slow) = (xb("xb-sum"), xb("xb-sum"), xb("xb-throttle"));
    first.arg("-o").arg(&near);
    second.arg("-o").arg(&far).args(["-a", "sha1", "-a", "xxh3"]);
    slow.args(["-q", "-L", "500m"]);
    let out = dir.path().join("out");
    let pipe = Pipeline::new().stage(first).stdin_bytes(noise.clone()).stage(slow).stage(second).stdout_to(&out);
    pipe.run().assert_ok();
    assert!(fs::read(&out).unwrap() == noise);
    let mut compare = xb("xb-sum");
    compare.arg("--compare").arg(&near).arg(&far);
    output(compare);
}
