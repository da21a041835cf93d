//! xb-crypt as a program: streams and whole inputs in both formats, keys from all sources, and detection of every
//! mistake.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aes::cipher::{KeyIvInit, StreamCipher};
use bstr::ByteSlice;
use proptest::prelude::*;
use xb::Kind;
use xb::codec::members;
use xb::crypt::{self, Decrypt, Scope, xbcrypt};

use crate::seal::drive;
use crate::support::tool::{
    Dice, bad, chunk, feed, good, member, pack, payload, plain_tree, plant, proved, said, scratch, tool, tree, unpack,
};

const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
const PERCONA: &str = "percona_xtrabackup_is_awesome___";

/// A directory with key files.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Keys { dir: scratch() };
        keys.file("key", KEY.as_bytes(), 0o600);
        keys.file("other", b"another key of thirty-two bytes!", 0o600);
        keys.file("percona", PERCONA.as_bytes(), 0o600);
        keys
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// `xb-crypt -k NAME ARGS`.
    fn crypt(&self, name: &str, args: &[&str]) -> Command {
        let mut command = tool("xb-crypt");
        command.arg("-k").arg(self.dir.path().join(name)).args(args);
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        feed(&mut self.crypt("key", args), input)
    }
}

/// A stream of ours with a few files, small enough to be cut at every byte. Its members do not interleave, so that a
/// rewritten copy can be identical.
fn small_stream() -> Vec<u8> {
    let dir = scratch();
    plant(dir.path(), &[("a", b"first"), ("db/t.ibd", &Dice(3).bytes(300)), ("empty", b"")]);
    good(pack(dir.path(), &["-j1"]))
}

/// Directories with the files of both streams, without the framing.
fn content(stream: &[u8]) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let dir = scratch();
    good(unpack(dir.path(), &["--no-sync"], stream));
    plain_tree(dir.path())
}

fn vectors(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder)
}

fn sha256(bytes: &[u8]) -> String {
    let sum = good(feed(&mut Command::new("sha256sum"), bytes));
    String::from_utf8(sum).unwrap().split(' ').next().unwrap().into()
}

/// The sections of a MANIFEST.txt.
fn sections(folder: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(vectors(folder).join("MANIFEST.txt")).unwrap();
    let sections = text.split("\n== ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(name, lines)| (name.trim().to_owned(), lines.to_owned())).collect()
}

#[test]
fn every_golden_file_of_xbcrypt_decrypts() {
    let keys = Keys::new();
    keys.file("key128", b"0123456789abcdef", 0o600);
    keys.file("key192", b"key-of-twenty-four-bytes", 0o600);
    let mut count = 0;
    for (file, lines) in sections("xbcrypt") {
        let words = format!("{file} {lines}");
        let key = if words.contains("<key128>") {
            "key128"
        } else if words.contains("<key192>") {
            "key192"
        } else {
            "percona"
        };
        let line = lines.lines().find_map(|line| line.strip_prefix("plaintext: ")).unwrap();
        let want = line.split("sha256 ").nth(1).unwrap().trim();
        let bytes = fs::read(vectors("xbcrypt").join(&file)).unwrap();
        let plain = feed(&mut keys.crypt(key, &["-d", "--raw"]), &bytes);
        assert_eq!(sha256(&good(plain)), want, "{file}");
        // The same as a member, in a stream of another program.
        let stream = feed(&mut keys.crypt(key, &["-d"]), &member("t.xbcrypt", &bytes));
        let plain = good(stream);
        let dir = scratch();
        good(unpack(dir.path(), &[], &plain));
        assert_eq!(sha256(&fs::read(dir.path().join("t")).unwrap()), want, "{file} as a member");
        count += 1;
    }
    assert!(count > 60, "{count} vectors");
}

#[test]
fn every_bad_file_of_xbcrypt_gets_what_its_manifest_wants() {
    let keys = Keys::new();
    let plain = {
        let whole = fs::read(vectors("xbcrypt-bad").join("reserved-nonzero.xbcrypt")).unwrap();
        good(feed(&mut keys.crypt("percona", &["-d", "--raw"]), &whole))
    };
    let none = fs::read(vectors("xbcrypt-bad").join("ivlen-zero.xbcrypt")).unwrap();
    bad(&feed(&mut keys.crypt("percona", &["-d", "--raw"]), &none), 3, "not encrypted (algorithm NONE)");
    for (file, lines) in sections("xbcrypt-bad") {
        let bytes = fs::read(vectors("xbcrypt-bad").join(&file)).unwrap();
        let wanted = lines.lines().find_map(|line| line.strip_prefix("wanted: ")).unwrap();
        for raw in [true, false] {
            let run = match raw {
                true => feed(&mut keys.crypt("percona", &["-d", "--raw"]), &bytes),
                false => feed(&mut keys.crypt("percona", &["-d"]), &member("t.xbcrypt", &bytes)),
            };
            let code = run.status.code();
            if wanted.starts_with("error") {
                assert!(matches!(code, Some(3 | 4)), "{file}: {code:?} {}", said(&run));
                assert!(!raw || plain.starts_with(&run.stdout), "{file}: wrong bytes were released");
            } else {
                assert_eq!(code, Some(0), "{file}: {}", said(&run));
                assert!(said(&run).to_lowercase().contains("not authenticated"), "{file}: {}", said(&run));
            }
        }
    }
}

/// A file of xbcrypt through the codec: the output, and the result.
fn opened(bytes: &[u8]) -> (Vec<u8>, Result<(), Kind>) {
    let keys = crypt::Keys::new(crypt::key::parse(PERCONA.as_bytes()).unwrap());
    let (released, outcome) = drive(&Decrypt::new(&keys, b"", 1 << 20), b"t.xbcrypt", &[bytes]);
    (released, outcome.map_err(|fault| fault.kind))
}

#[test]
fn a_cut_of_xbcrypt_data_is_noticed_but_between_chunks() {
    let bytes = fs::read(vectors("xbcrypt").join("v3-aes256-len-1025.xbcrypt")).unwrap();
    let (plain, outcome) = opened(&bytes);
    assert_eq!((plain.len(), outcome), (1025, Ok(())));
    for at in 0..bytes.len() {
        let (released, outcome) = opened(&bytes[..at]);
        assert!(plain.starts_with(&released));
        let wanted = if at == 0 || at == 1024 + 92 { Ok(()) } else { Err(Kind::Damaged) };
        assert_eq!(outcome, wanted, "cut at {at}");
    }
}

#[test]
fn a_flipped_bit_of_xbcrypt_is_found_where_possible() {
    let mut bytes = fs::read(vectors("xbcrypt").join("v3-aes256-len-1.xbcrypt")).unwrap();
    let (plain, _) = opened(&bytes);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (released, outcome) = opened(&bytes);
        // The reserved field has no meaning, and another version is another chunk without a hash.
        if !(7..16).contains(&(bit / 8)) {
            assert!(released.is_empty() && outcome.is_err(), "bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(opened(&bytes), (plain, Ok(())));
}

#[test]
fn what_xbcrypt_cannot_tell_the_manifest_does() {
    let keys = Keys::new();
    let dir = scratch();
    plant(dir.path(), &[("t", &Dice(8).bytes(200_000))]);
    let encrypted = parse(&good(keys.run(&["--format", "xbcrypt"], &good(pack(dir.path(), &[])))));
    let whole = &encrypted[&b"t.xbcrypt"[..]];
    let stream = |t: &[u8]| {
        let part = |name: &str, content: &[u8]| member(name, content);
        let rest = |name: &str| part(name, &encrypted[name.as_bytes()]);
        [rest("xb_begin"), part("t.xbcrypt", t), rest("xb_manifest.xbcrypt")].concat()
    };
    let verify = |t: &[u8]| {
        let plain = good(keys.run(&["-d", "-q"], &stream(t)));
        feed(tool("xb-unpack").arg("--verify"), &plain)
    };
    good(verify(whole));
    let (first, later) = whole.split_at(65_536 + 92);
    bad(&verify(first), 3, "the manifest says");
    bad(&verify(&[later, first].concat()), 3, "the manifest says");
    bad(&verify(b""), 3, "the manifest says");
}

#[test]
fn versions_without_a_hash_are_warned_of_louder() {
    let keys = Keys::new();
    for (file, loud) in [
        ("percona-fixture-v1", true),
        ("percona-fixture-v2", true),
        ("mixed-versions", true),
        ("v3-aes256-len-1", false),
    ] {
        let bytes = fs::read(vectors("xbcrypt").join(format!("{file}.xbcrypt"))).unwrap();
        let run = feed(&mut keys.crypt("percona", &["-d", "--raw", "-q"]), &bytes);
        assert_eq!(said(&run).contains("NOT SECRET"), loud, "{}", said(&run));
        assert!(said(&run).to_lowercase().contains("not authenticated"), "{}", said(&run));
    }
}

#[test]
fn encrypted_streams_of_xtrabackup_come_out_with_their_plain_names() {
    let keys = Keys::new();
    for (file, lines) in sections("pipeline") {
        let stream = fs::read(vectors("pipeline").join(&file)).unwrap();
        let plain_too = lines.lines().filter_map(|line| line.trim().strip_prefix("member ")).any(|line| {
            let name = line.split(' ').next().unwrap();
            !name.ends_with(".xbcrypt") && name != "xtrabackup_checkpoints"
        });
        let mut args = vec!["-d"];
        if plain_too {
            bad(&feed(&mut keys.crypt("percona", &args), &stream), 4, "--allow-plain");
            args.push("--allow-plain");
        }
        let plain = good(feed(&mut keys.crypt("percona", &args), &stream));
        let dir = scratch();
        good(unpack(dir.path(), &[], &plain));
        let got = tree(dir.path());
        let members = lines.lines().filter_map(|line| line.trim().strip_prefix("member "));
        let names: Vec<_> = members.map(|line| line.split(' ').next().unwrap().trim_end_matches(".xbcrypt")).collect();
        assert_eq!(got.len(), names.len());
        assert!(names.iter().all(|name| got.contains_key(Path::new(name))), "{file}: {:?}", got.keys());
        // And decompressed, with their content.
        let dir = scratch();
        good(unpack(dir.path(), &[], &good(feed(tool("xb-zip").arg("-d"), &plain))));
        let sum = |(path, content): (&PathBuf, &Vec<u8>)| format!("{} {}", path.display(), sha256(content));
        let sums: Vec<String> = tree(dir.path()).iter().map(sum).collect();
        let facts = lines.lines().filter_map(|line| line.split_once(" -> ")?.1.split_once(" size="));
        let wanted = facts.map(|(path, rest)| format!("{path} {}", rest.split("sha256=").nth(1).unwrap()));
        let mut wanted: Vec<String> = wanted.collect();
        wanted.sort();
        assert_eq!(sums, wanted, "{file}");
    }
}

#[test]
fn a_stream_is_compressed_then_encrypted_and_back() {
    let keys = Keys::new();
    let stream = small_stream();
    let zipped = good(feed(&mut tool("xb-zip"), &stream));
    let sealed = good(keys.run(&[], &zipped));
    // xb-zip does not change encrypted members, and the manifest stays last; the order of the reverse steps matters.
    assert!(good(feed(&mut tool("xb-zip"), &sealed)) == sealed);
    bad(&feed(tool("xb-zip").arg("-d"), &sealed), 3, "put xb-crypt -d before xb-zip -d");
    good(feed(tool("xb-unpack").arg("--verify"), &sealed));
    let plain = good(feed(tool("xb-zip").arg("-d"), &good(keys.run(&["-d"], &sealed))));
    let verified = feed(tool("xb-unpack").arg("--verify"), &plain);
    assert!(said(&verified).contains("complete"), "{}", said(&verified));
    assert_eq!(content(&plain), content(&stream));
}

#[test]
fn all_members_but_xb_begin_are_encrypted() {
    let keys = Keys::new();
    let stream = small_stream();
    for (args, suffix) in [
        (&["--format", "seal"][..], ".xbseal"),
        (&["-a", "chacha20-poly1305"], ".xbseal"),
        (&["--format", "xbcrypt"], ".xbcrypt"),
    ] {
        let encrypted = good(keys.run(args, &stream));
        let list = String::from_utf8(good(feed(tool("xb-unpack").arg("-t"), &encrypted))).unwrap();
        let names: Vec<&str> = list.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
        assert_eq!(names[0], "xb_begin");
        assert!(names[1..].iter().all(|name| name.ends_with(suffix)), "{names:?}");
        assert_eq!(*names.last().unwrap(), format!("xb_manifest{suffix}"));
        assert!(!encrypted.windows(5).any(|bytes| bytes == b"first"), "plain text is left");
        // The manifest proves it again.
        let plain = good(keys.run(&["-d"], &encrypted));
        good(feed(tool("xb-unpack").arg("--verify"), &plain));
        assert_eq!(content(&plain), content(&stream));
        // Other programs split the stream into chunks anew.
        let dir = scratch();
        good(unpack(dir.path(), &[], &encrypted));
        let again = good(pack(dir.path(), &["--no-manifest", "--exclude", "xb_begin", "--exclude", "xb_manifest*"]));
        assert_eq!(content(&good(keys.run(&["-d"], &again))), content(&stream));
    }
}

#[test]
fn a_member_can_be_encrypted_twice() {
    let keys = Keys::new();
    let stream = member("t", b"text");
    let once = good(keys.run(&[], &stream));
    let twice = good(keys.run(&["--format", "xbcrypt"], &once));
    assert!(twice.windows(16).any(|bytes| bytes == b"t.xbseal.xbcrypt"));
    assert_eq!(content(&good(keys.run(&["-d"], &good(keys.run(&["-d"], &twice))))), content(&stream));
}

#[test]
fn whole_inputs_of_any_length_go_both_ways() {
    let keys = Keys::new();
    let mut dice = Dice(9);
    for length in [0, 1, 15, 16, 17, 65_536, 262_143, 262_144, 262_145, 1 << 20, (1 << 20) + 1, 3_333_333] {
        let plain = dice.bytes(length);
        for args in [&["--raw"][..], &["--raw", "--format=xbcrypt"], &["--raw", "-j1", "-a", "chacha20-poly1305"]] {
            let encrypted = good(keys.run(args, &plain));
            assert!(good(keys.run(&["--raw", "-d"], &encrypted)) == plain, "{length} bytes, {args:?}");
        }
    }
}

#[test]
fn openssl_decrypts_what_is_written_as_xbcrypt() {
    let keys = Keys::new();
    for (file, key) in [("k16", "sixteen bytes, 1"), ("k24", "twenty-four bytes of key"), ("key", KEY)] {
        keys.file(file, key.as_bytes(), 0o600);
        let plain = Dice(4).bytes(100_000);
        let encrypted = good(feed(&mut keys.crypt(file, &["--raw", "--format", "xbcrypt"]), &plain));
        let (mut rest, mut text) = (encrypted.as_slice(), Vec::new());
        while !rest.is_empty() {
            assert_eq!(&rest[..16], b"XBCRYP03\0\0\0\0\0\0\0\0");
            let size = u64::from_le_bytes(rest[16..24].try_into().unwrap()) as usize;
            assert_eq!(rest[24..32], rest[16..24]);
            assert_eq!(rest[32..36], crc32fast::hash(&rest[60..60 + size]).to_le_bytes());
            assert_eq!(rest[36..44], 16u64.to_le_bytes());
            let cipher = format!("-aes-{}-ctr", key.len() * 8);
            let mut openssl = Command::new("openssl");
            openssl.args(["enc", "-d", &cipher, "-K", &hex(key.as_bytes()), "-iv", &hex(&rest[44..60])]);
            let decrypted = good(feed(&mut openssl, &rest[60..60 + size]));
            let (chunk, hash) = decrypted.split_at(size - 32);
            assert_eq!(hex(hash), sha256(chunk));
            text.extend_from_slice(chunk);
            rest = &rest[60 + size..];
        }
        assert!(text == plain);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Members with their content, interleaved in chunks of any size.
fn interleaved(dice: &mut Dice, members: &[(String, Vec<u8>)], largest: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut open: Vec<(usize, usize)> = (0..members.len()).map(|index| (index, 0)).collect();
    while !open.is_empty() {
        let turn = dice.below(open.len());
        let (index, at) = open[turn];
        let (name, content) = &members[index];
        if at == content.len() {
            stream.extend(chunk(b'E', 0, name.as_bytes(), &[]));
            open.swap_remove(turn);
        } else {
            let end = content.len().min(at + 1 + dice.below(largest));
            stream.extend(payload(name, at as u64, &content[at..end]));
            open[turn].1 = end;
        }
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_comes_back_whatever_the_chunks_threads_and_format(
        seed in any::<u64>(),
        lengths in prop::collection::vec(prop_oneof![0usize..40, 0usize..300_000], 1..7),
        largest in prop_oneof![Just(7usize), 1usize..400_000],
        threads in (1u8..6, 1u8..6),
        format in prop::sample::select(vec!["--format=seal", "--format=xbcrypt", "-achacha20-poly1305"]),
    ) {
        let keys = Keys::new();
        let mut dice = Dice(seed | 1);
        // Seven bytes at a time are enough for small members.
        let members: Vec<_> = lengths.iter().enumerate()
            .map(|(index, length)| (format!("d{}/m{index}", index % 2), dice.bytes(if largest < 100 { length % 2000 } else { *length })))
            .collect();
        let stream = interleaved(&mut dice, &members, largest);
        let encrypted = good(keys.run(&[format, &format!("-j{}", threads.0)], &stream));
        let plain = good(keys.run(&["-d", &format!("-j{}", threads.1)], &encrypted));
        prop_assert!(content(&plain) == content(&stream));
    }
}

/// The output for a damaged stream is the start of the correct content, member by member.
#[track_caller]
fn nothing_false(out: &[u8], truth: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>, fault: impl std::fmt::Display) {
    for (name, content) in parse(out) {
        // A member may have lost its name.
        let known = truth.get(&name).is_some_and(|whole| whole.starts_with(&content));
        let renamed = !truth.contains_key(&name) && truth.values().any(|whole| whole.starts_with(&content));
        assert!(known || renamed, "{fault}: wrong bytes of {} were released", name.escape_ascii());
    }
}

/// Members of a stream that may end anywhere between chunks.
fn parse(mut rest: &[u8]) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let mut members: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = Default::default();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[10..14].try_into().unwrap()) as usize;
        let member = members.entry(rest[14..14 + length].to_vec()).or_default();
        let body = &rest[14 + length..];
        rest = match rest[9] {
            b'E' => body,
            _ => {
                let size = u64::from_le_bytes(body[..8].try_into().unwrap()) as usize;
                member.extend_from_slice(&body[20..20 + size]);
                &body[20 + size..]
            }
        };
    }
    members
}

/// Bounds of the chunks of a stream.
fn chunks(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = (0..stream.len() - 7).filter(|at| stream[*at..].starts_with(b"XBSTCK01")).collect();
    starts.push(stream.len());
    starts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect()
}

/// Through the codec, in this process: the output, and the result.
fn decrypted(key: &str, stream: &[u8], threads: usize) -> (Vec<u8>, xb::Result<()>) {
    let keys = crypt::Keys::new(crypt::key::parse(key.as_bytes()).unwrap());
    let (mut out, options) = (Vec::new(), members::Options::new(threads));
    let outcome = crypt::decrypt(&Decrypt::new(&keys, b"", 1 << 20), Scope::Members, stream, &mut out, &options, &());
    (out, outcome)
}

/// Decrypts, and compares with the manifest.
fn verified(key: &str, stream: &[u8]) -> xb::Result<()> {
    let (plain, outcome) = decrypted(key, stream, 1);
    outcome?;
    proved(&plain)
}

#[test]
fn an_encrypted_stream_cut_anywhere_is_refused() {
    let keys = Keys::new();
    let stream = small_stream();
    let truth = parse(&stream);
    for format in ["--format=seal", "--format=xbcrypt"] {
        let encrypted = good(keys.run(&["-j1", format], &stream));
        verified(KEY, &encrypted).unwrap();
        for at in 0..encrypted.len() {
            let (out, outcome) = decrypted(KEY, &encrypted[..at], 1 + usize::from(at % 50 == 0));
            assert_eq!(outcome.unwrap_err().kind(), Kind::Damaged, "{format}: cut at {at}");
            nothing_false(&out, &truth, format!("{format}: cut at {at}"));
        }
    }
}

#[test]
fn an_encrypted_stream_with_any_bit_flipped_is_refused() {
    let keys = Keys::new();
    let stream = small_stream();
    let truth = parse(&stream);
    for format in ["--format=seal", "--format=xbcrypt"] {
        let mut encrypted = good(keys.run(&["-j1", format], &stream));
        for bit in 0..encrypted.len() * 8 {
            encrypted[bit / 8] ^= 1 << (bit % 8);
            let fault = format!("{format}: bit {bit}");
            let (out, outcome) = decrypted(KEY, &encrypted, 1);
            nothing_false(&out, &truth, &fault);
            // Decryption cannot detect a changed name, but the manifest can.
            let error = outcome.and_then(|()| verified(KEY, &encrypted)).expect_err(&fault);
            assert!(matches!(error.kind(), Kind::Damaged | Kind::Key | Kind::Failed), "{fault}: {error}");
            encrypted[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn lost_or_doubled_chunks_of_seal_are_found() {
    let keys = Keys::new();
    let stream = small_stream();
    let truth = parse(&stream);
    let sealed = good(keys.run(&["-j1"], &stream));
    let parts = chunks(&sealed);
    for index in 0..parts.len() {
        let (mut lost, mut doubled) = (parts.clone(), parts.clone());
        lost.remove(index);
        doubled.insert(index, parts[index]);
        for (stream, what) in [(lost, "lost"), (doubled, "doubled")] {
            let (out, outcome) = decrypted(KEY, &stream.concat(), 1);
            nothing_false(&out, &truth, format!("chunk {index} {what}"));
            assert!(outcome.is_err(), "chunk {index} {what}");
        }
    }
}

/// A file of xbcrypt by hand, in chunks of so many bytes; version 1, 2 or 3.
fn file_of(version: u8, key: &[u8; 32], text: &[u8], chunk: usize) -> Vec<u8> {
    let mut file = Vec::new();
    for (number, text) in (0u8..).zip(text.chunks(chunk)) {
        let iv = [number + 1; 16];
        if version == 3 {
            xbcrypt::encrypt(&crypt::key::parse(key).unwrap(), &iv, text, &mut file);
            continue;
        }
        let mut body = text.to_vec();
        ctr::Ctr128BE::<aes::Aes256>::new(key.into(), &[0; 16].into()).apply_keystream(&mut body);
        let size = (body.len() as u64).to_le_bytes();
        let iv: &[u8] = if version == 1 { &[] } else { &[&16u64.to_le_bytes()[..], &iv].concat() };
        let crc = crc32fast::hash(&body).to_le_bytes();
        file.extend([b"XBCRYP0", &[b'0' + version][..], &[0; 8], &size, &size, &crc, iv, &body].concat());
    }
    file
}

/// Faults inside a member whose stream is sound: each version of xbcrypt, each bit and each length of its file. What
/// decryption cannot detect, the manifest does, unless it has no meaning.
#[test]
fn damage_inside_xbcrypt_is_found() {
    let key: &[u8; 32] = KEY.as_bytes().try_into().unwrap();
    let (dir, text) = (scratch(), Dice(12).bytes(90));
    plant(dir.path(), &[("t", &text)]);
    let ours = parse(&good(pack(dir.path(), &[])));
    let begin = member("xb_begin", &ours[&b"xb_begin"[..]]);
    let manifest = member("xb_manifest.xbcrypt", &file_of(3, key, &ours[&b"xb_manifest"[..]], 65_536));
    for version in 1..=3 {
        let whole = file_of(version, key, &text, 40);
        let check = |file: &[u8]| verified(KEY, &[&begin, &member("t.xbcrypt", file), &manifest[..]].concat());
        check(&whole).unwrap();
        for at in 0..whole.len() {
            let error = check(&whole[..at]).expect_err(&format!("version {version}: cut at {at}"));
            assert_eq!(error.kind(), Kind::Damaged, "version {version}: cut at {at}: {error}");
        }
        let mut flipped = whole.clone();
        let mut harmless = 0;
        for bit in 0..whole.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            harmless += usize::from(check(&flipped).is_ok());
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
        // Three chunks; in each the reserved field, and the IV that version 2 does not use.
        assert_eq!(harmless, 3 * 8 * if version == 2 { 8 + 16 } else { 8 }, "version {version}");
        // One file in place of another, with the same length and key.
        assert!(check(&file_of(version, key, &Dice(13).bytes(90), 40)).is_err());
    }
}

#[test]
fn decrypted_streams_are_the_same_whatever_the_threads() {
    let keys = Keys::new();
    let mut dice = Dice(14);
    let members: Vec<_> = (0..9).map(|n| (format!("m{n}"), dice.bytes(n * 200_000))).collect();
    let stream = interleaved(&mut dice, &members, 500_000);
    for format in ["--format=seal", "--format=xbcrypt"] {
        let encrypted = good(keys.run(&[format, "-j3"], &stream));
        let (one, outcome) = decrypted(KEY, &encrypted, 1);
        outcome.unwrap();
        for threads in [2, 3, 8] {
            assert!(decrypted(KEY, &encrypted, threads).0 == one, "{format}: {threads} threads");
        }
    }
}

#[test]
fn members_that_are_renamed_or_exchanged_are_refused() {
    let keys = Keys::new();
    let stream = [member("db/a", b"text of a"), member("db/b", b"text of b")].concat();
    let sealed = parse(&good(keys.run(&[], &stream)));
    let (a, b) = (&sealed[&b"db/a.xbseal"[..]], &sealed[&b"db/b.xbseal"[..]]);
    let renamed = keys.run(&["-d"], &member("db/c.xbseal", a));
    bad(&renamed, 4, "another name");
    assert!(renamed.stdout.is_empty());
    bad(&keys.run(&["-d"], &[member("db/a.xbseal", b), member("db/b.xbseal", a)].concat()), 4, "another name");
    bad(&keys.run(&["-d"], &member("a.xbseal", a)), 4, "another name");
    // Without its suffix it is still recognized.
    assert_eq!(parse(&good(keys.run(&["-d"], &member("db/a", a))))[&b"db/a"[..]], b"text of a");
    // A whole input has no name, unless one is given.
    bad(&keys.run(&["-d", "--raw"], a), 4, "--name NAME");
    assert_eq!(good(keys.run(&["-d", "--raw", "--name", "db/a"], a)), b"text of a");
}

#[test]
fn what_its_name_promises_it_must_be() {
    let keys = Keys::new();
    for name in ["t.xbseal", "t.xbcrypt"] {
        bad(&keys.run(&["-d"], &member(name, b"something else altogether")), 3, "something else");
        bad(&keys.run(&["-d"], &member(name, b"XBS")), 3, "truncated");
    }
    bad(&keys.run(&["-d"], &member("t.xbseal", b"")), 3, "truncated");
    let plain = keys.run(&["-d", "--allow-plain"], &[member("plain", b"text"), member("more", b"")].concat());
    assert!(said(&plain).contains("not encrypted, passed on unchanged: plain and 1 more"), "{}", said(&plain));
    assert_eq!(parse(&good(plain))[&b"plain"[..]], b"text");
}

/// Without the key an attacker cannot replace encrypted content.
#[test]
fn members_that_are_not_encrypted_are_refused_unless_asked_for() {
    let keys = Keys::new();
    let stream = small_stream();
    let sealed = good(keys.run(&[], &stream));
    let (head, rest) = sealed.split_at(first_end(&sealed));
    let more = [head, &member("more", b"text"), rest].concat();
    let foreign = [member("more", b"text"), member("a.xbcrypt", b"")].concat();
    for (what, stream) in [
        ("a plain stream of ours", stream.clone()),
        ("one member more", more),
        ("one of xtrabackup's names", [head, &member("xtrabackup_checkpoints", b"text"), rest].concat()),
        ("a plain stream of another program", member("more", b"text")),
        ("the same with something encrypted", foreign),
    ] {
        let run = keys.run(&["-d"], &stream);
        assert_eq!(run.status.code(), Some(4), "{what}: {}", said(&run));
        assert!(said(&run).contains("not encrypted: anybody could have put it"), "{what}: {}", said(&run));
        assert!(run.stdout.is_empty(), "{what}");
    }
    assert_eq!(good(keys.run(&["-d", "--allow-plain"], &stream)), stream);
    assert_eq!(good(keys.run(&["-d"], &sealed)), stream);
}

/// Where the first member ends: behind its end mark.
fn first_end(stream: &[u8]) -> usize {
    let mark = chunk(b'E', 0, b"xb_begin", &[]);
    stream.find(&mark).unwrap() + mark.len()
}

/// It is not encrypted, and says what kind of backup this is, and on which base.
#[test]
fn xb_begin_is_bound_into_the_manifest() {
    let keys = Keys::new();
    let sealed = good(keys.run(&[], &small_stream()));
    let end = first_end(&sealed);
    let begin = String::from_utf8(parse(&sealed)[&b"xb_begin"[..]].clone()).unwrap();
    let changed = begin.replace("xb-pack ", "xb-pock ");
    assert_ne!(changed, begin);
    let forged = good(keys.run(&["-d"], &[member("xb_begin", changed.as_bytes()), sealed[end..].to_vec()].concat()));
    let dir = scratch();
    bad(&unpack(dir.path(), &[], &forged), 3, "xb_begin: its content differs");
    bad(&feed(tool("xb-unpack").arg("--verify"), &forged), 3, "xb_begin: its content differs");
    bad(&feed(tool("xb-sum").arg("--members"), &forged), 3, "xb_begin: its content differs");
    bad(&feed(tool("xb-zip").arg("-d"), &forged), 3, "xb_begin: its content differs");
}

#[test]
fn nothing_follows_the_manifests_last_line() {
    let stream = small_stream();
    let manifest = parse(&stream)[&b"xb_manifest"[..]].clone();
    let whole = member("xb_manifest", &manifest);
    let before = stream.strip_suffix(&whole[..]).unwrap();
    let (lines, end) = whole.split_at(whole.len() - chunk(b'E', 0, b"xb_manifest", &[]).len());
    assert_eq!([before, lines, end].concat(), stream);
    let at = manifest.len() as u64;
    for (what, between, behind) in [
        ("another member", member("more", b"text"), vec![]),
        ("a mark", member("xb_mark.1", b"1\n"), vec![]),
        ("bytes", payload("xb_manifest", at, b" "), vec![]),
        ("a line", payload("xb_manifest", at, b"{}\n"), vec![]),
        ("a member behind", vec![], member("more", b"text")),
        ("the manifest again", vec![], whole.clone()),
        ("zeros behind", vec![], vec![0; 7]),
        ("text behind", vec![], b"a long line of text behind the end".to_vec()),
    ] {
        let forged = [before, lines, &between, end, &behind].concat();
        let dir = scratch();
        for mut reader in [tool("xb-unpack"), tool("xb-sum"), tool("xb-zip")] {
            match reader.get_program().to_str().unwrap().rsplit('/').next() {
                Some("xb-unpack") => reader.arg("--verify"),
                Some("xb-sum") => reader.arg("--members"),
                _ => reader.arg("-d"),
            };
            let run = feed(&mut reader, &forged);
            assert_eq!(run.status.code(), Some(3), "{what}: {reader:?}: {}", said(&run));
        }
        assert_eq!(unpack(dir.path(), &[], &forged).status.code(), Some(3), "{what}");
        assert!(dir.path().join("xb_incomplete").exists() || !dir.path().join("xb_manifest").exists(), "{what}");
    }
}

#[test]
fn other_input_is_named_with_the_command_for_it() {
    let keys = Keys::new();
    bad(&keys.run(&["-d", "--raw"], &small_stream()), 3, "leave out --raw");
    bad(&keys.run(&["-d", "--raw"], b"\x1f\x8b123456789012345678"), 3, "gzip");
    bad(&keys.run(&["-d", "--raw"], &[7; 100]), 3, "not encrypted");
    let sealed = good(keys.run(&["--raw"], b"text"));
    bad(&keys.run(&["-d"], &sealed), 3, "xb-crypt -d --raw");
    bad(&keys.run(&[], b""), 3, "empty");
    good(keys.run(&["--allow-empty"], b""));
    let empty = keys.run(&["-d", "--raw"], b"");
    assert!(empty.status.success() && said(&empty).contains("empty"), "{}", said(&empty));
}

#[test]
fn a_wrong_key_is_exit_4_without_output() {
    let keys = Keys::new();
    let stream = small_stream();
    for (args, decrypt) in [
        (&[][..], &["-d"][..]),
        (&["--format=xbcrypt"], &["-d"]),
        (&["--raw"], &["-d", "--raw"]),
        (&["--raw", "--format=xbcrypt"], &["-d", "--raw"]),
    ] {
        let encrypted = good(keys.run(args, &stream));
        for key in ["other", "percona"] {
            let run = feed(&mut keys.crypt(key, decrypt), &encrypted);
            bad(&run, 4, "wrong key");
            assert!(run.stdout.is_empty(), "{args:?}: {} bytes came out", run.stdout.len());
        }
    }
}

#[test]
fn keys_come_from_files_descriptors_and_credentials() {
    let keys = Keys::new();
    let sealed = good(keys.run(&["--raw"], b"text"));
    let path = |name: &str| keys.dir.path().join(name);
    let plain = |command: &mut Command| assert_eq!(good(feed(command.args(["-d", "--raw"]), &sealed)), b"text");
    let shell = |script: &str| {
        let mut shell = Command::new("bash");
        let exe = tool("xb-crypt").get_program().to_owned();
        shell.args(["-c", script]).env("KEY", path("key")).env("XB", exe);
        good(feed(&mut shell, &sealed))
    };
    assert_eq!(shell("\"$XB\" -d --raw --key-fd 7 7< \"$KEY\""), b"text");
    assert_eq!(shell("\"$XB\" -d --raw --key-fd 3 3< <(cat \"$KEY\")"), b"text");
    assert_eq!(shell("\"$XB\" -d --raw -k <(cat \"$KEY\")"), b"text");
    plain(tool("xb-crypt").env("XB_KEY_FILE", path("key")));
    // As systemd makes them: readable by the group.
    let credentials = scratch();
    fs::write(credentials.path().join("xb-key"), KEY).unwrap();
    fs::set_permissions(credentials.path().join("xb-key"), Permissions::from_mode(0o440)).unwrap();
    plain(tool("xb-crypt").env("CREDENTIALS_DIRECTORY", credentials.path()));
    // An option has priority over the environment.
    plain(keys.crypt("key", &[]).env("XB_KEY_FILE", path("other")));
    let none = |command: &mut Command, word: &str| bad(&feed(command.args(["-d", "--raw"]), &sealed), 2, word);
    none(&mut tool("xb-crypt"), "--generate-key FILE");
    none(tool("xb-crypt").env("CREDENTIALS_DIRECTORY", "/nowhere"), "none given");
    none(tool("xb-crypt").args(["--key-fd", "77"]), "is not open");
    none(tool("xb-crypt").args(["--key-fd", "0"]), "carry data");
    none(keys.crypt("key", &["--key-fd", "5"]).arg("-q"), "cannot be used with");
}

#[test]
fn key_files_that_others_can_read_are_refused() {
    let keys = Keys::new();
    for mode in [0o600, 0o400] {
        keys.file("fine", KEY.as_bytes(), mode);
        good(feed(&mut keys.crypt("fine", &["--raw"]), b"text"));
    }
    for mode in [0o640, 0o644, 0o604, 0o620, 0o602, 0o610, 0o601, 0o700, 0o666, 0o777] {
        let path = keys.file("open", KEY.as_bytes(), mode);
        let run = feed(&mut keys.crypt("open", &["--raw"]), b"text");
        bad(&run, 1, &format!("chmod 600 {}", path.display()));
        assert!(run.stdout.is_empty());
        bad(&feed(tool("xb-crypt").arg("--raw").env("XB_KEY_FILE", path), b"text"), 1, "refused");
    }
    bad(&feed(&mut keys.crypt("missing", &["--raw"]), b"text"), 1, "no such file");
    bad(&feed(&mut keys.crypt(".", &["--raw"]), b"text"), 1, "neither a file nor a pipe");
    if crate::support::root() {
        let path = keys.file("theirs", KEY.as_bytes(), 0o600);
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        bad(&feed(&mut keys.crypt("theirs", &["--raw"]), b"text"), 1, "belongs to user 65534");
    }
}

#[test]
fn a_key_of_wrong_length_is_refused_and_not_shown() {
    let keys = Keys::new();
    for (text, word) in
        [("short-secret", "12 bytes"), ("a secret key of forty-five bytes, not base64!", "45 bytes"), ("", "0 bytes")]
    {
        keys.file("bad", text.as_bytes(), 0o600);
        let run = feed(&mut keys.crypt("bad", &["--raw", "-v"]), b"text");
        bad(&run, 4, word);
        assert!(text.is_empty() || !said(&run).contains("secret"), "{}", said(&run));
    }
    keys.file("long", &[b'x'; 5000], 0o600);
    bad(&feed(&mut keys.crypt("long", &["--raw"]), b"text"), 4, "too long");
    // Sixteen bytes are a key of xbcrypt, and none of seal.
    keys.file("k16", b"sixteen bytes, 1", 0o600);
    bad(&feed(&mut keys.crypt("k16", &[]), &small_stream()), 4, "seal wants 32 bytes, and this key has 16");
    good(feed(&mut keys.crypt("k16", &["--format", "xbcrypt"]), &small_stream()));
}

#[test]
fn a_generated_key_is_private_works_and_is_never_overwritten() {
    let keys = Keys::new();
    let path = keys.dir.path().join("new");
    let generate = |path: &Path| feed(tool("xb-crypt").arg("--generate-key").arg(path), b"");
    good(generate(&path));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let text = fs::read(&path).unwrap();
    bad(&generate(&path), 1, "never overwritten");
    assert_eq!(fs::read(&path).unwrap(), text);
    let sealed = good(feed(&mut keys.crypt("new", &[]), &small_stream()));
    good(feed(&mut keys.crypt("new", &["-d"]), &sealed));
    // Neither the target of a link, nor a link to nothing, nor an empty file.
    let link = |name: &str, to: &Path| {
        let link = keys.dir.path().join(name);
        std::os::unix::fs::symlink(to, &link).unwrap();
        link
    };
    let nowhere = keys.dir.path().join("nowhere");
    for other in [link("to-key", &path), link("to-nowhere", &nowhere), keys.file("empty", b"", 0o600)] {
        bad(&generate(&other), 1, "never overwritten");
    }
    assert!(fs::read(&path).unwrap() == text && !nowhere.exists());
    let second = keys.dir.path().join("second");
    good(generate(&second));
    assert_ne!(fs::read(&second).unwrap(), text);
    bad(&generate(Path::new("/nowhere/key")), 1, "cannot create");
}

/// Runs with its input held open, so that it can be looked at.
fn running(command: &mut Command, input: &[u8], look: impl FnOnce(&std::process::Child)) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let drain = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    stdin.write_all(input).unwrap();
    look(&child);
    drop(stdin);
    drain.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_process_with_a_key_leaves_no_core() {
    let keys = Keys::new();
    // More than a pipe can contain, so that the program is running.
    running(&mut keys.crypt("key", &["--raw"]), &vec![1; 4 << 20], |child| {
        let proc = |name: &str| {
            let mut bytes = Vec::new();
            fs::File::open(format!("/proc/{}/{name}", child.id())).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let limits = String::from_utf8(proc("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
        // It is not dumpable: its files in /proc belong to root.
        if !crate::support::root() {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(fs::metadata(format!("/proc/{}/mem", child.id())).unwrap().uid(), 0);
        }
        for place in ["cmdline", "environ"] {
            assert!(!proc(place).windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()), "{place}");
        }
    });
}
