//! MariaDB: a ring file with valid mini-transactions, and stale ones after its end.
#![allow(clippy::cast_possible_truncation, reason = "a simulation with small numbers")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::Follow;
use super::super::mariadb::{Follower, take};
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::{CHECKPOINTS, Checkpoint, FILE, Format, Header, Ring, START, mtr};
use crate::log::queue::Target;

/// The redo log of a server.
struct Server {
    dir: TempDir,
    file: File,
    header: Header,
    ring: Ring,
    lsn: u64,
    checkpoint: Checkpoint,
    checkpoints: usize,
    seed: u64,
    /// What a captured log must contain from the first byte of the ring on.
    history: Vec<u8>,
}

impl Server {
    fn new(capacity: u64) -> Self {
        Self::start(capacity, Format::Phys)
    }

    fn start(capacity: u64, format: Format) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first_lsn = 50_000;
        let header = Header { format, first_lsn: Lsn::new(first_lsn), creator: [0; 32], encryption: [0; 28] };
        let checkpoint = Checkpoint { lsn: Lsn::new(first_lsn), end_lsn: Lsn::new(first_lsn) };
        let (file, ring) = create(&dir.path().join(FILE), &header, capacity, checkpoint);
        let (lsn, history) = (first_lsn, Vec::new());
        let mut server = Server { dir, file, header, ring, lsn, checkpoint, checkpoints: 0, seed: 7, history };
        server.checkpoint();
        server
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// A mini-transaction of page records for this LSN.
    fn mtr(&mut self, lsn: u64, records: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..records {
            if self.random(4) == 0 {
                let len = self.random(100);
                bytes.extend([0x30, u8::try_from(len).unwrap()]);
                bytes.extend((0..len + 14).map(|n| n as u8));
            } else {
                let len = 1 + self.random(15);
                bytes.push(0x30 | u8::try_from(len).unwrap());
                bytes.extend((0..len).map(|n| (n + lsn) as u8));
            }
        }
        self.seal(bytes, lsn)
    }

    fn seal(&self, mut bytes: Vec<u8>, lsn: u64) -> Vec<u8> {
        let mut sum = crc32c::crc32c(&bytes);
        bytes.push(self.ring.sequence(Lsn::new(lsn + bytes.len() as u64)));
        if self.header.encrypted() {
            let nonce = lsn.to_be_bytes();
            sum = crc32c::crc32c_append(sum, &nonce);
            bytes.extend(nonce);
        }
        bytes.extend(sum.to_be_bytes());
        bytes
    }

    fn put(&self, lsn: u64, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            self.file.write_all_at(&[*byte], self.ring.offset(Lsn::new(lsn + n as u64))).unwrap();
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.put(self.lsn, bytes);
        self.lsn += bytes.len() as u64;
        let mut kept = bytes.to_vec();
        mtr::set_first_lap(&mut kept, self.header.encrypted()).unwrap();
        self.history.extend(kept);
    }

    /// Writes this many mini-transactions, and after them what remains in a reused buffer: valid mini-transactions of
    /// this lap that were never written there.
    fn write(&mut self, count: u64) {
        for _ in 0..count {
            let records = 1 + self.random(4);
            let bytes = self.mtr(self.lsn, records);
            self.append(&bytes);
        }
        let mut lsn = self.lsn;
        for _ in 0..3 {
            let stale = self.mtr(lsn, 2);
            self.put(lsn, &stale);
            lsn += stale.len() as u64;
        }
    }

    /// Makes everything so far durable, as a checkpoint.
    fn checkpoint(&mut self) {
        self.checkpoint = Checkpoint { lsn: Lsn::new(self.lsn), end_lsn: Lsn::new(self.lsn) };
        let record = self.seal([&[0xfa, 0, 0][..], &self.lsn.to_be_bytes()].concat(), self.lsn);
        self.append(&record);
        self.checkpoints += 1;
        self.file.write_all_at(&self.checkpoint.block(), CHECKPOINTS[self.checkpoints % 2] as u64).unwrap();
    }

    /// Replaces the log by one of another size, whose first LSN is the current one.
    fn resize(&mut self, capacity: u64) {
        self.header.first_lsn = Lsn::new(self.lsn);
        self.checkpoint = Checkpoint { lsn: Lsn::new(self.lsn), end_lsn: Lsn::new(self.lsn) };
        let new = self.dir.path().join("ib_logfile101");
        let (file, ring) = create(&new, &self.header, capacity, self.checkpoint);
        (self.file, self.ring) = (file, ring);
        let record = self.seal([&[0xfa, 0, 0][..], &self.lsn.to_be_bytes()].concat(), self.lsn);
        self.append(&record);
        std::fs::rename(new, self.path()).unwrap();
    }

    fn follow(&self) -> Reader {
        Reader { follower: Follower::begin(&self.path(), self.checkpoint).unwrap(), got: Vec::new() }
    }

    /// What a log captured from this LSN on must contain.
    fn since(&self, lsn: u64) -> &[u8] {
        &self.history[(lsn - 50_000) as usize..]
    }
}

fn create(path: &std::path::Path, header: &Header, capacity: u64, checkpoint: Checkpoint) -> (File, Ring) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(START as u64 + capacity).unwrap();
    file.write_all_at(&header.block(), 0).unwrap();
    file.write_all_at(&checkpoint.block(), CHECKPOINTS[0] as u64).unwrap();
    (file, Ring::new(header.first_lsn, START as u64 + capacity).unwrap())
}

/// A follower and what it has captured.
struct Reader {
    follower: Follower,
    got: Vec<u8>,
}

impl Reader {
    fn poll(&mut self, mark: u64) -> Result<()> {
        self.reach(Target { durable_lsn: Lsn::new(mark), ..Target::default() })
    }

    fn reach(&mut self, target: Target) -> Result<()> {
        let got = &mut self.got;
        self.follower.poll(&target, &mut |bytes, _| {
            got.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// Polls until it fails.
    fn fail(&mut self, mark: u64) -> Error {
        loop {
            match self.poll(mark) {
                Err(error) => return error,
                Ok(()) => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
    }
}

/// Capacities are odd numbers, so that the end of the ring falls on every part of a mini-transaction.
#[test]
fn many_laps_lose_nothing_and_repeat_nothing() {
    for format in [Format::Phys, Format::Encrypted] {
        let mut server = Server::start(30_011, format);
        let mut reader = server.follow();
        let start = server.checkpoint.lsn;
        for round in 0..600 {
            let count = server.random(40);
            server.write(count);
            let mark = if round % 3 == 0 { server.lsn } else { 0 };
            if round % 5 == 0 {
                server.checkpoint();
            }
            reader.poll(mark).unwrap();
            assert!(server.since(start.get()).starts_with(&reader.got), "round {round}");
        }
        reader.poll(server.lsn).unwrap();
        assert_eq!(reader.got, server.since(start.get()));
        assert!((server.lsn - start.get()) / server.ring.capacity() > 10);
    }
}

/// Why there is a bound: what follows it cannot be distinguished from valid log.
#[test]
fn without_the_bound_stale_log_would_be_taken() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    server.write(20);
    let durable = server.lsn;
    let mut bytes = vec![0; 4096];
    reader.follower.live().read(Lsn::new(durable), &mut bytes).unwrap();
    assert!(take(&mut bytes, Lsn::new(durable), &server.ring, false, Lsn::MAX, |_, _| Ok(())).unwrap() > 0);

    reader.poll(durable).unwrap();
    reader.poll(durable).unwrap();
    assert_eq!(reader.got, server.since(50_000));
}

#[test]
fn an_overrun_says_what_would_have_been_enough() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    while server.lsn < 50_000 + 40_000 {
        server.write(10);
        server.checkpoint();
    }
    let error = reader.fail(0);
    assert_eq!(error.kind(), Kind::Invalid);
    let text = error.to_string();
    let ahead = server.checkpoint.end_lsn.since(Lsn::new(50_000));
    assert!(text.contains("overrun: lsn 50000 was overwritten"), "{text}");
    assert!(text.ends_with(&format!("{ahead} bytes ahead")), "{text}");
    assert!(error.advice().unwrap().contains("innodb_log_file_size=1048576"), "{:?}", error.advice());
}

/// Two laps later the sequence bit is the same again, and a mini-transaction begins exactly where ours began.
#[test]
fn an_overrun_by_two_laps_is_noticed() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    let there = 50_000 + 2 * server.ring.capacity();
    while there - server.lsn > 600 {
        server.write(1);
        server.checkpoint();
    }
    let fit = usize::try_from(there - server.lsn).unwrap() - 3 - 5 - 14;
    let mut bytes = vec![0x30, 0x80 | ((fit - 128) >> 8) as u8, (fit - 128) as u8];
    bytes.extend(vec![7; fit + 14]);
    let bytes = server.seal(bytes, server.lsn);
    server.append(&bytes);
    assert_eq!(server.lsn, there);
    server.write(5);
    server.checkpoint();
    let mut bytes = vec![0; 600];
    reader.follower.live().read(Lsn::new(50_000), &mut bytes).unwrap();
    assert!(
        take(&mut bytes, Lsn::new(50_000), &server.ring, false, Lsn::MAX, |_, _| Ok(())).unwrap() > 0,
        "looks right"
    );
    assert!(reader.fail(0).to_string().contains("overrun"));
    assert!(reader.got.is_empty());
}

#[test]
fn a_resized_log_is_followed_from_the_right_byte() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    for (round, capacity) in [60_013, 20_021, 90_001, 25_000].into_iter().enumerate() {
        server.write(50);
        if round % 2 == 0 {
            // Otherwise the reader is still in the old log when the new one replaces it.
            reader.poll(server.lsn).unwrap();
        }
        server.resize(capacity);
        server.write(30);
        reader.poll(server.lsn).unwrap();
        assert_eq!(reader.got, server.since(50_000), "round {round}");
    }
    server.header.encryption[3] = 1;
    server.resize(30_000);
    let error = reader.fail(0);
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("encryption"), "{error}");
}

#[test]
fn a_torn_tail_is_read_again_and_is_no_overrun() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    server.write(20);
    let whole = server.lsn;
    let bytes = server.mtr(whole, 4);
    server.append(&bytes);
    server.put(whole + 3, &vec![0xee; bytes.len() - 3]);
    reader.poll(server.lsn).unwrap();
    assert_eq!(reader.got.len() as u64, whole - 50_000);
    server.put(whole, &bytes);
    reader.poll(server.lsn).unwrap();
    assert_eq!(reader.got, server.since(50_000));
}

/// The follower waits for the end LSN, because the server may not have written it out yet; but not forever.
#[test]
fn the_log_must_reach_the_end_of_the_backup() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    server.write(20);
    let end = server.lsn + 1000;
    let target = Target { durable_lsn: Lsn::new(server.lsn), end_lsn: Some(Lsn::new(end)), cancelled: false };
    server.put(server.lsn, &[0; 1000]);
    reader.reach(target).unwrap();
    assert_eq!(reader.got, server.since(50_000));
    let error = loop {
        if let Err(error) = reader.reach(target) {
            break error;
        }
    };
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().ends_with(&format!("the log ends at lsn {}, the backup at {end}", server.lsn)),
        "{error}"
    );
}

/// Recovery looks for FILE_CHECKPOINT at the checkpoint's end LSN; a log without it cannot be recovered.
#[test]
fn the_checkpoint_record_must_be_where_recovery_looks() {
    let mut server = Server::new(30_011);
    let checkpoint = server.checkpoint;
    server.write(20);
    let middle = server.lsn;
    server.write(20);
    for end_lsn in [middle, middle + 1] {
        let mut reader = Reader {
            follower: Follower::begin(&server.path(), Checkpoint { end_lsn: Lsn::new(end_lsn), ..checkpoint }).unwrap(),
            got: Vec::new(),
        };
        let error = reader.fail(server.lsn);
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("record of checkpoint 50000"), "{error}");
    }
}

/// External tables are below the data directory in a backup; recovery must not find the originals.
#[test]
fn names_outside_the_data_directory_are_made_local() {
    let mut server = Server::new(30_011);
    let mut reader = server.follow();
    let name = b"/elsewhere/db/t.ibd";
    let record = [&[0xb0, (name.len() + 3 - 15) as u8, 5, 0][..], name].concat();
    let record = server.seal(record, server.lsn);
    server.append(&record);
    reader.poll(server.lsn).unwrap();
    let text = reader.got.iter().map(|byte| char::from(*byte)).collect::<String>();
    assert!(text.contains(".//////////db/t.ibd") && !text.contains("elsewhere"));
}

#[test]
fn foreign_logs_are_refused_before_anything_is_read() {
    let server = Server::new(30_011);
    let later = Checkpoint { lsn: Lsn::new(60_000), end_lsn: Lsn::new(60_000) };
    let error = Follower::begin(&server.path(), later).unwrap_err();
    assert!(error.to_string().contains("older than the backup's 60000"), "{error}");
    server.file.write_all_at(b"PHYS", 0).unwrap();
    let error = Follower::begin(&server.path(), server.checkpoint).unwrap_err();
    assert!(error.to_string().contains("10.5 to 10.7"), "{error}");
    let error = Follower::begin(&server.path().with_file_name("none"), server.checkpoint).unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
}
