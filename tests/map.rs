//! Members are rewritten inside a stream: in order, with any number of threads, in bounded memory, in every dialect.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xb::Kind;
use xb::codec::members::{Options, rewrite};
use xb::codec::{Choice, Codec, Cut, Fault, Flow, PIECE, Serial};
use xb::stream::{Body, Members, Reader, chunk};

use crate::support::tool::{Dice, good, member, pack, payload, plant, scratch};

/// A container for tests: `BOX1`, then boxes of a length and so many bytes, upside down. Long boxes are read serially.
struct Boxes {
    unbox: bool,
}

const SERIAL: usize = 3000;

#[derive(Default)]
struct Box1 {
    begun: bool,
    /// Bytes of a long box that are still to come.
    left: usize,
}

impl Codec for Boxes {
    type Member = Box1;
    type Job = bool;
    type Worker = ();
    const CUTS_ANYWHERE: bool = true;

    fn name(&self, path: &[u8]) -> Vec<u8> {
        match self.unbox {
            true => path.strip_suffix(b".box").unwrap_or(path).to_vec(),
            false => [path, b".box"].concat(),
        }
    }

    fn choose(&self, path: &[u8], start: &[u8]) -> Result<Choice<Box1>, Fault> {
        let boxed = path.ends_with(b".box") && start.starts_with(b"BOX1");
        let keep = path == b"xb_manifest" || path.ends_with(b".keep");
        Ok(if boxed == self.unbox && !keep { Choice::Code(Box1::default()) } else { Choice::Pass })
    }

    fn whole(&self, _: &[u8]) -> Result<Box1, Fault> {
        Ok(Box1::default())
    }

    fn cut(&self, member: &mut Box1, held: &[u8], flow: Flow) -> Result<Cut<bool>, Fault> {
        if !self.unbox {
            let whole = held.len() >= PIECE || flow != Flow::Open && !held.is_empty();
            let first = !member.begun && (whole || flow == Flow::Last);
            member.begun |= first;
            return Ok(match whole || first {
                true => Cut::Piece { len: held.len().min(PIECE), job: first },
                false => Cut::More(PIECE),
            });
        }
        if !member.begun && held.len() >= 4 {
            member.begun = true;
            return Ok(Cut::Piece { len: 4, job: true });
        }
        if member.left > 0 && !held.is_empty() {
            return Ok(Cut::Serial(held.len().min(member.left)));
        }
        let Some(head) = held.first_chunk::<4>() else {
            return match (flow, held) {
                (Flow::Last, []) if member.begun && member.left == 0 => Ok(Cut::More(1)),
                (Flow::Last, _) => Err(Fault::truncated(0, "the box ends early")),
                _ => Ok(Cut::More(4)),
            };
        };
        let len = u32::from_le_bytes(*head) as usize;
        if len == 0xdead {
            return Ok(Cut::Piece { len: 4, job: false });
        }
        if len > SERIAL {
            member.left = len;
            return Ok(Cut::Piece { len: 4, job: true });
        }
        match (held.len() >= len + 4, flow) {
            (true, _) => Ok(Cut::Piece { len: len + 4, job: false }),
            (false, Flow::Last) => Err(Fault::truncated(0, "the box ends early")),
            (false, _) => Ok(Cut::More(len + 4)),
        }
    }

    fn serial(&self, member: &mut Box1, bytes: &[u8], out: &mut Vec<u8>) -> Result<Serial, Fault> {
        // At most a thousand bytes at a time, to be called again.
        let take = bytes.len().min(1000);
        out.extend(bytes[..take].iter().map(|byte| !byte));
        member.left -= take;
        Ok(Serial { taken: take, again: take == 1000 && bytes.len().is_multiple_of(2) })
    }

    fn worker(&self) {}

    fn work(&self, (): &mut (), first: bool, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.unbox {
            if !first {
                let body = piece.get(4..).filter(|_| piece[..4] != 0xdeadu32.to_le_bytes());
                out.extend(body.ok_or(Fault::damaged(2, "a dead box"))?.iter().map(|byte| !byte));
            }
            return Ok(());
        }
        if first {
            out.extend(b"BOX1");
        }
        if !piece.is_empty() {
            out.extend((piece.len() as u32).to_le_bytes());
            out.extend(piece.iter().map(|byte| !byte));
        }
        Ok(())
    }
}

fn run(unbox: bool, threads: usize, stream: &[u8]) -> xb::Result<Vec<u8>> {
    let options = Options { memory: 2 * PIECE, ..Options::new(threads) };
    let mut out = Vec::new();
    rewrite(&Boxes { unbox }, stream, &mut out, &options, &()).map(|()| out)
}

fn boxed(stream: &[u8]) -> Vec<u8> {
    let out = run(false, 1, stream).unwrap();
    assert!(run(false, 3, stream).unwrap() == out, "threads change the output");
    out
}

fn unboxed(stream: &[u8]) -> Vec<u8> {
    let out = run(true, 1, stream).unwrap();
    assert!(run(true, 3, stream).unwrap() == out, "threads change the output");
    out
}

/// The content that a reader gets from a stream, with holes filled.
pub fn contents(stream: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut reader = Reader::new(stream, "x");
    let (mut members, mut files) = (Members::default(), BTreeMap::<String, Vec<u8>>::new());
    while let Some(head) = reader.next().unwrap() {
        let step = members.accept("x", &head).unwrap();
        let name = String::from_utf8(head.path.clone()).unwrap();
        if step.opened {
            files.insert(name.clone(), Vec::new());
        }
        let mut read = |file: &mut Vec<u8>, at: u64, len: u64| {
            let at = at as usize;
            file.resize(file.len().max(at + len as usize), 0);
            assert_eq!(reader.fill(&mut file[at..at + len as usize]).unwrap(), len as usize);
        };
        match head.body {
            Body::Payload { offset, len } => read(files.get_mut(&name).unwrap(), offset, len),
            Body::Sparse { offset, map, .. } => {
                let mut at = offset;
                for span in map {
                    at += u64::from(span.skip);
                    read(files.get_mut(&name).unwrap(), at, span.len.into());
                    at += u64::from(span.len);
                }
            }
            Body::Rename(new) => {
                let file = files.remove(&name).unwrap();
                files.insert(String::from_utf8(new).unwrap(), file);
            }
            Body::Remove => drop(files.remove(&name)),
            Body::Seek(_) | Body::End | Body::Skipped => {}
        }
    }
    members.finish("x", 0).unwrap();
    files
}

/// Members with this content, cut into chunks and mixed at random.
pub fn interleaved(files: &[(String, Vec<u8>)], dice: &mut Dice) -> Vec<u8> {
    let mut open: Vec<(&str, &[u8], usize)> = files.iter().map(|(name, content)| (&**name, &**content, 0)).collect();
    let mut stream = Vec::new();
    while !open.is_empty() {
        let index = dice.below(open.len());
        let (name, content, at) = &mut open[index];
        if *at == content.len() {
            stream.extend(chunk_end(name));
            open.swap_remove(index);
        } else {
            let most = [10, 5000, 2_000_000][dice.below(3)];
            let len = (1 + dice.below(most)).min(content.len() - *at);
            stream.extend(payload(name, *at as u64, &content[*at..*at + len]));
            *at += len;
        }
    }
    stream
}

fn chunk_end(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    chunk::put_prefix(&mut bytes, 0, b'E', name.as_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, rng_seed: prop::test_runner::RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn members_come_back_however_they_were_cut_and_mixed(
        sizes in prop::collection::vec(prop_oneof![0usize..40, 0usize..9000, 1_000_000usize..1_100_000], 1..7),
        seed in 1u64..u64::MAX,
    ) {
        let mut dice = Dice(seed);
        let files: Vec<_> = sizes.iter().enumerate().map(|(n, size)| (format!("d{}/f{n}", n % 3), dice.bytes(*size))).collect();
        let stream = interleaved(&files, &mut dice);
        let coded = boxed(&stream);
        prop_assert!(contents(&coded).keys().all(|name| name.ends_with(".box")));
        prop_assert!(contents(&unboxed(&coded)) == files.into_iter().collect());
    }
}

#[test]
fn our_stream_keeps_its_first_and_last_member() {
    let dir = scratch();
    plant(dir.path(), &[("db/t.ibd", &Dice(3).bytes(300_000)), ("db/u.keep", b"as it is"), ("empty", b"")]);
    let packed = good(pack(dir.path(), &[]));
    let coded = boxed(&packed);
    let begin = contents(&packed).remove("xb_begin").unwrap();
    assert!(coded.starts_with(&member("xb_begin", &begin)));
    assert!(coded.ends_with(&chunk_end("xb_manifest")));
    let names: Vec<_> = contents(&coded).into_keys().collect();
    assert_eq!(names, ["db/t.ibd.box", "db/u.keep", "empty.box", "xb_begin", "xb_manifest"]);
    assert!(contents(&unboxed(&coded)) == contents(&packed));
}

#[test]
fn what_fails_never_looks_complete() {
    let dir = scratch();
    plant(dir.path(), &[("t.ibd", &Dice(4).bytes(5_000)), ("u", b"u")]);
    let packed = good(pack(dir.path(), &["--buffer-size=4k", "-j1"]));
    let ends = chunk_end("xb_manifest");
    for at in 0..packed.len() {
        let mut out = Vec::new();
        let error =
            rewrite(&Boxes { unbox: false }, &packed[..at], &mut out, &Options::new(1 + at % 2), &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "cut at {at}: {error}");
        assert!(!out.ends_with(&ends), "cut at {at}");
    }
    // Something behind the end.
    let more = [&packed[..], &member("late", b"x")].concat();
    let mut out = Vec::new();
    let error = rewrite(&Boxes { unbox: false }, &more[..], &mut out, &Options::new(2), &()).unwrap_err();
    assert!(error.to_string().contains("late: comes after the end"), "{error}");
    assert!(!out.ends_with(&ends));
}

#[test]
fn faults_tell_the_member_and_the_byte() {
    let content = [b"BOX1".as_slice(), &5u32.to_le_bytes(), b"12345", &0xdeadu32.to_le_bytes(), &[0; 40]].concat();
    for threads in [1, 2] {
        let error = run(true, threads, &member("db/t.box", &content)).unwrap_err();
        assert_eq!(error.to_string(), "stdin: db/t.box: damaged: a dead box (byte 15 of the member)");
        assert_eq!(error.kind(), Kind::Damaged);
        let error = run(true, threads, &member("db/t.box", &content[..12])).unwrap_err();
        assert!(error.to_string().contains("db/t.box: truncated"), "{error}");
    }
}

#[test]
fn holes_become_zeros_only_in_rewritten_members() {
    for name in ["t.ibd", "t.keep"] {
        let mut stream = payload(name, 0, b"head");
        // Two holes with data behind, then a hole at the end.
        let map: Vec<u8> = [12, 3, 5, 4, 100_000, 0u32].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut rest = 3u32.to_le_bytes().to_vec();
        rest.extend(7u64.to_le_bytes());
        rest.extend(4u64.to_le_bytes());
        rest.extend(crc32fast::hash(&[&map[..], b"abcdefg"].concat()).to_le_bytes());
        rest.extend(&map);
        rest.extend(b"abcdefg");
        stream.extend(crate::support::tool::chunk(b'S', 0, name.as_bytes(), &rest));
        stream.extend(chunk_end(name));
        let want = [b"head", &[0; 12][..], b"abc", &[0; 5], b"defg", &[0; 100_000]].concat();
        let coded = boxed(&stream);
        let plain = unboxed(&coded);
        assert!(contents(&plain)[name] == want);
        assert_eq!(plain.len() < 1000, name == "t.keep");
    }
}

#[test]
fn the_chunks_of_mariadb_go_on_under_the_new_names() {
    let rewritten = |name: &str, content: &[u8]| {
        let mut chunk = payload(name, 0, content);
        chunk[8] = chunk::REWRITE;
        [chunk, chunk_end(name)].concat()
    };
    let mut stream =
        [member("a", b"first content"), member("b", b"b"), member("c.keep", b"c"), member("gone", b"g")].concat();
    chunk::put_rename(&mut stream, b"b", b"d/b2");
    chunk::put_rename(&mut stream, b"c.keep", b"d/c2");
    chunk::put_prefix(&mut stream, 0, b'D', b"gone");
    stream.extend(rewritten("a", b"second content"));
    chunk::put_seek(&mut stream, 0, b"seek", 5);
    stream.extend(payload("seek", 5, b"five"));
    stream.extend(chunk_end("seek"));
    let coded = boxed(&stream);
    let names: Vec<_> = contents(&coded).into_keys().collect();
    assert_eq!(names, ["a.box", "d/b2.box", "d/c2", "seek.box"]);
    let plain = contents(&unboxed(&coded));
    assert_eq!(plain, contents(&stream));
    assert_eq!(
        (plain["a"].as_slice(), plain["seek"].as_slice()),
        (b"second content".as_slice(), b"\0\0\0\0\0five".as_slice())
    );

    let mut back = payload("seek", 0, b"0123456789 0123456789");
    chunk::put_seek(&mut back, 0, b"seek", 2);
    back.extend(payload("seek", 2, b"two"));
    back.extend(chunk_end("seek"));
    let error = run(false, 1, &back).unwrap_err();
    assert!(error.to_string().contains("goes back from byte 21 to 2"), "{error}");
}

#[test]
fn a_name_is_never_written_twice() {
    let content = [b"BOX1".as_slice(), &[0; 20]].concat();
    let error = run(false, 1, &[member("a.box", &content), member("a", b"a")].concat()).unwrap_err();
    assert!(error.to_string().contains("a: would become a.box, which the stream has already"), "{error}");
    let long = "n".repeat(510);
    let error = run(false, 1, &member(&long, b"a")).unwrap_err();
    assert!(error.to_string().contains("its new name would have 514 bytes"), "{error}");
    // `a` becomes a file where the other has a directory.
    let error = run(false, 1, &[member("a", b"x"), member("a.box/b", b"y")].concat()).unwrap_err();
    assert!(error.to_string().contains("would become a.box/b"), "{error}");
    let error = run(false, 1, &member(&format!("d/{}", "x".repeat(506)), b"x")).unwrap_err();
    assert!(error.to_string().contains("its new name would have 512 bytes; 511 is the limit"), "{error}");
}

#[test]
fn an_empty_input_is_an_error_unless_allowed() {
    assert_eq!(run(false, 2, b"").unwrap_err().kind(), Kind::Damaged);
    let options = Options { allow_empty: true, ..Options::new(2) };
    rewrite(&Boxes { unbox: false }, &b""[..], Vec::new(), &options, &()).unwrap();
}

#[test]
fn bytes_that_wait_are_bounded_and_still_come_back() {
    // 300 open members, far more bytes than may wait.
    let mut dice = Dice(9);
    let files: Vec<_> = (0..300).map(|n| (format!("f{n}"), dice.bytes(30_000))).collect();
    let stream: Vec<u8> = (0..3)
        .flat_map(|part| {
            files.iter().flat_map(move |(name, content)| {
                payload(name, part * 10_000, &content[part as usize * 10_000..][..10_000])
            })
        })
        .chain(files.iter().flat_map(|(name, _)| chunk_end(name)))
        .collect();
    let coded = boxed(&stream);
    assert!(contents(&unboxed(&coded)) == files.into_iter().collect());
}
