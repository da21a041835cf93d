//! A stream of ours with a missing byte or a flipped bit is never accepted.

use std::sync::OnceLock;

use xb::Kind;

use crate::support::tool::{Dice, feed, good, member, pack, plant, proved, scratch, tool};
use crate::support::{Load, Pipeline, Server, xb};

/// `xb-snap | xb-redo` of a small server that is written to. Without the system's tables, so that a thousand readings take
/// seconds.
fn backup() -> &'static [u8] {
    static STREAM: OnceLock<Vec<u8>> = OnceLock::new();
    STREAM.get_or_init(|| {
        let small = Server::new().layout("innodb-page-size", "4k").layout("innodb-autoextend-increment", "1");
        let server = small.layout("innodb-data-file-path", "ibdata1:5M:autoextend").start();
        let load = Load::on(&server).bank(1).engines(1).start();
        let mut snap = xb("xb-snap");
        snap.args(server.options()).arg("--databases=bank engines.aria engines.csv engines.m1");
        let run = Pipeline::new().stage(snap).stage(xb("xb-redo")).run();
        run.assert_ok();
        load.stop();
        run.stdout
    })
}

/// Small, but with everything that a stream of ours can have: chunks in directories, an empty member, a mark for
/// xb-redo, two members that are open at once.
fn stream() -> Vec<u8> {
    let dir = scratch();
    let mut dice = Dice(11);
    plant(
        dir.path(),
        &[("db/t.ibd", &dice.bytes(9000)), ("db/empty", b""), ("c.cnf", b"[mysqld]\n"), ("z", &[0; 5000])],
    );
    let packed = good(pack(dir.path(), &["-j1", "--buffer-size=4k"]));
    let second = boundaries(&packed)[2];
    let mark = member("xb_mark.1", b"{\"lsn\":12345}\n");
    [&packed[..second], &mark, &packed[second..]].concat()
}

/// Where chunks begin.
fn boundaries(stream: &[u8]) -> Vec<usize> {
    (0..stream.len() - 7).filter(|at| stream[*at..].starts_with(b"XBSTCK01")).collect()
}

fn refused(stream: &[u8], fault: std::fmt::Arguments<'_>) {
    match proved(stream) {
        Ok(()) => panic!("not noticed: {fault}"),
        Err(error) => assert_eq!(error.kind(), Kind::Damaged, "{fault}: {error}"),
    }
}

#[test]
fn a_cut_of_a_backup_is_noticed_wherever_it_is() {
    let stream = backup();
    proved(stream).unwrap();
    let boundaries = boundaries(stream);
    let members = ["xb_begin", "ibdata1", "engines/aria.MAD", "engines/m1.TRG", "ib_logfile0", "xb_manifest"];
    for member in members {
        assert!(stream.windows(member.len()).any(|bytes| bytes == member.as_bytes()), "{member} is not in the stream");
    }
    let mut dice = Dice(12);
    let anywhere = (0..1000).map(|_| dice.below(stream.len()));
    for at in boundaries.into_iter().chain(anywhere) {
        refused(&stream[..at], format_args!("cut at {at} of {}", stream.len()));
    }
}

#[test]
fn any_flipped_bit_of_a_backup_is_found() {
    let mut stream = backup().to_vec();
    let mut dice = Dice(13);
    let bits = stream.len() * 8;
    flipped(&mut stream, (0..1000).map(|_| dice.below(bits)));
}

/// There are too many of them for a backup.
#[test]
fn any_flipped_bit_of_a_head_is_found() {
    let mut stream = stream();
    let bits = stream.len() * 8;
    let heads: Vec<usize> = boundaries(&stream).into_iter().flat_map(|at| (at * 8)..((at + 50) * 8)).collect();
    flipped(&mut stream, heads.into_iter().filter(|bit| *bit < bits));
}

fn flipped(stream: &mut [u8], bits: impl Iterator<Item = usize>) {
    for bit in bits {
        stream[bit / 8] ^= 1 << (bit % 8);
        refused(stream, format_args!("bit {} of byte {} of {}", bit % 8, bit / 8, stream.len()));
        stream[bit / 8] ^= 1 << (bit % 8);
    }
    proved(stream).unwrap();
}

#[test]
fn a_lost_doubled_or_swapped_chunk_is_noticed() {
    let stream = stream();
    let mut starts = boundaries(&stream);
    starts.push(stream.len());
    let chunks: Vec<&[u8]> = starts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
    let is_mark = |chunk: &[u8]| chunk.windows(8).any(|bytes| bytes == b"xb_mark.");
    for index in 0..chunks.len() {
        let mut lost = chunks.clone();
        lost.remove(index);
        // An empty mark is a mark: it tells xb-unpack nothing in any case.
        refused_unless(is_mark(chunks[index]) && chunks[index][9] == b'P', &lost, index, "lost");
        let mut doubled = chunks.clone();
        doubled.insert(index, chunks[index]);
        refused_unless(false, &doubled, index, "doubled");
    }
}

fn refused_unless(fine: bool, chunks: &[&[u8]], index: usize, what: &str) {
    if !fine {
        refused(&chunks.concat(), format_args!("chunk {index} {what}"));
    }
}

#[test]
fn the_program_says_3_for_all_of_them() {
    let stream = stream();
    let mut dice = Dice(14);
    good(feed(tool("xb-unpack").arg("--verify"), &stream));
    for _ in 0..50 {
        let cut = feed(tool("xb-unpack").arg("--verify"), &stream[..dice.below(stream.len())]);
        assert_eq!(cut.status.code(), Some(3));
        let mut flipped = stream.clone();
        let bit = dice.below(stream.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        let run = feed(tool("xb-unpack").arg("--verify"), &flipped);
        assert_eq!(run.status.code(), Some(3), "bit {bit}");
    }
}
