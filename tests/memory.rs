//! Filters need little memory, however many members are open; what decryption and decompression need depends on the
//! writer.
//!
//! The input stays open while memory is measured, so everything that can be kept is in memory. `--nocapture` prints the
//! numbers, which the man pages quote.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::map::contents;
use crate::support::tool::{Dice, chunk, feed, good, payload, peak_so_far, scratch, tool};
use crate::zip::pages;

/// The limit with up to 64 open members, and that with 10,000 when xb-zip and xb-crypt write, in KiB.
const FEW: u64 = 32 << 10;
const MANY: u64 = 64 << 10;

/// Runs a command on bytes; returns its peak memory in KiB, and whether it succeeded.
pub fn peak_of(command: &mut Command, input: &[u8]) -> (u64, bool) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A tool that has seen enough closes its end.
    let whole = stdin.write_all(input).is_ok();
    let mut peak = 0;
    let mut look = |child: &mut Child| {
        peak = peak_so_far(child).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(2));
        child.try_wait().unwrap().is_none()
    };
    while whole && look(&mut child) && rustix::io::ioctl_fionread(&stdin).unwrap() > 0 {}
    for _ in 0..20 {
        look(&mut child);
    }
    drop(stdin);
    while look(&mut child) {}
    (peak, child.wait().unwrap().success())
}

/// A stream in which all of so many members are open at once; each has `rounds` chunks of `size` bytes, in turn.
fn wide(open: usize, size: usize, rounds: usize) -> Vec<u8> {
    let content = pages(&mut Dice(30), size + 4096);
    let part = |n: usize, round: usize| &content[(n * 7 + round) % 4096..][..size];
    woven((0..open).map(|n| (format!("db{}/table{n}.ibd", n % 10), (0..rounds).map(|round| part(n, round)).collect())))
}

/// Members whose parts come in turn.
fn woven<'a>(members: impl Iterator<Item = (String, Vec<&'a [u8]>)>) -> Vec<u8> {
    let mut members: Vec<_> = members.map(|(name, parts)| (name, parts, 0u64)).collect();
    let mut stream = Vec::new();
    for round in 0..members.iter().map(|(_, parts, _)| parts.len()).max().unwrap() {
        for (name, parts, at) in &mut members {
            let part = parts.get(round).copied().unwrap_or_default();
            stream.extend(payload(name, *at, part));
            *at += part.len() as u64;
        }
    }
    members.iter().for_each(|(name, ..)| stream.extend(chunk(b'E', 0, name.as_bytes(), &[])));
    stream
}

/// The same members as another program may send them: in chunks of this size, which cut through frames.
fn cut_anew(stream: &[u8], size: usize) -> Vec<u8> {
    let members = contents(stream);
    woven(members.iter().map(|(name, content)| (name.clone(), content.chunks(size).collect())))
}

#[track_caller]
fn within(most: u64, command: &mut Command, input: &[u8], what: &str) {
    let (peak, good) = peak_of(command, input);
    eprintln!("{what}: {peak} KiB");
    assert!(good && peak <= most, "{what}: {peak} KiB, {most} allowed");
}

fn key() -> (tempfile::TempDir, String) {
    let dir = scratch();
    let key = dir.path().join("key");
    good(feed(tool("xb-crypt").arg("--generate-key").arg(&key), b""));
    (dir, key.to_str().unwrap().to_owned())
}

#[test]
fn filters_that_write_stay_within_their_bound() {
    let (_dir, key) = key();
    let [zip, crypt] = ["xb-zip", "xb-crypt"];
    let options: [(&str, &[&str]); 6] = [
        (zip, &["-j2"]),
        (zip, &["-j2", "-alz4"]),
        (crypt, &["-q", "-k", &key]),
        (crypt, &["-q", "-k", &key, "--format=xbcrypt"]),
        ("xb-sum", &["-q", "--members", "-asha1,sha256,blake3,xxh3", "-o/dev/null"]),
        ("xb-throttle", &["--progress=never", "-v"]),
    ];
    for (open, size, rounds, most) in [(64, 600_000, 3, FEW), (64, 7000, 60, FEW), (10_000, 4000, 4, MANY)] {
        let stream = wide(open, size, rounds);
        for (name, options) in options {
            let what = format!("{name} {options:?} with {open} members, {rounds} chunks of {size}");
            within(most, tool(name).args(options), &stream, &what);
        }
    }
}

/// Streams that the filters themselves have written consist of whole frames and chunks, and nothing has to wait.
#[test]
fn filters_that_read_what_they_wrote_need_no_more() {
    let (_dir, key) = key();
    let zips: [&[&str]; 2] = [&["-j2"], &["-j2", "-alz4"]];
    let crypts: [&[&str]; 2] = [&["-q", "-k", &key], &["-q", "-k", &key, "--format=xbcrypt"]];
    for (open, size, rounds, most) in [(64, 600_000, 3, FEW), (10_000, 4000, 4, MANY)] {
        let stream = wide(open, size, rounds);
        for (name, options) in
            zips.map(|options| ("xb-zip", options)).into_iter().chain(crypts.map(|o| ("xb-crypt", o)))
        {
            let coded = good(feed(tool(name).args(options), &stream));
            let mut back = tool(name);
            back.args(["-d", "-j2", "-q"]);
            if name == "xb-crypt" {
                back.args(["-k", &key]);
            }
            within(most, &mut back, &coded, &format!("{name} {options:?} -d with {open} members"));
        }
    }
}

/// If other programs cut the stream, each open member keeps its current frame or chunk.
#[test]
fn memory_is_one_piece_for_each_open_member() {
    let (_dir, key) = key();
    let content = Dice(31).bytes(3 << 20);
    let random = woven((0..64).map(|n| (format!("t{n}"), vec![&content[n..][..1 << 20]])));
    let ours = |name: &str, options: &[&str]| good(feed(tool(name).args(options), &random));
    let theirs = |suffix: &str, program: &str, options: &[&str]| {
        let packed = good(feed(Command::new(program).args(options).arg("-c"), &content));
        woven((0..64).map(|n| (format!("t{n}.{suffix}"), vec![&packed[..]])))
    };
    let unzip = || {
        let mut unzip = tool("xb-zip");
        unzip.args(["-d", "-j2", "--memory=300m"]);
        unzip
    };
    let decrypt = || {
        let mut decrypt = tool("xb-crypt");
        decrypt.args(["-d", "-j2", "-q", "-k", &key]);
        decrypt
    };
    for (what, mut command, stream, each) in [
        ("zstd of ours", unzip(), ours("xb-zip", &[]), 1100),
        ("lz4 of ours", unzip(), ours("xb-zip", &["-alz4"]), 1100),
        ("zstd without size", unzip(), theirs("zst", "zstd", &["-1", "--no-content-size"]), 2048),
        ("lz4 in blocks of 64 KiB", unzip(), theirs("lz4", "lz4", &["-1", "-B4", "-BI"]), 1100),
        ("lz4 in blocks of 4 MiB", unzip(), theirs("lz4", "lz4", &["-1", "-B7"]), 4200),
        ("seal", decrypt(), ours("xb-crypt", &["-k", &key]), 300),
        ("xbcrypt", decrypt(), ours("xb-crypt", &["-k", &key, "--format=xbcrypt"]), 300),
    ] {
        within((24 << 10) + 64 * each, &mut command, &cut_anew(&stream, 130_000), &format!("{what}, cut anew"));
    }
}
