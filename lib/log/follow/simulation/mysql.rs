//! MySQL: a directory of files that are filled, kept, reused or deleted.
#![allow(clippy::cast_possible_truncation, reason = "a simulation with small numbers")]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::super::Follow;
use super::super::mysql::Follower;
use crate::crypt::keyring::Keyring;
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mysql::{BLOCK, CLEAR, HEAD, Header, Locked, LogKey, creator, encryption, name};
use crate::log::queue::Target;

/// LSN of the first file.
const FIRST: u64 = 8192;
/// Blocks of a file.
const BLOCKS: u64 = 32;
const SIZE: u64 = HEAD as u64 + BLOCKS * BLOCK as u64;
const UUID: u32 = 4711;
/// A key, encrypted by a real server, and the keyring that decrypts it.
const LOCKED: &[u8] = include_bytes!("../../../../tests/vectors/mysql-redo/encrypted-9.7.4");
const RING: &[u8] = include_bytes!("../../../../tests/vectors/mysql-redo/keyring");

/// The redo log of a server.
struct Server {
    dir: TempDir,
    /// Files in use, the oldest first: number and start.
    files: VecDeque<(u64, u64)>,
    /// LSN of the block that is being written; everything before is full.
    lsn: u64,
    /// What a captured log must contain from [`FIRST`] on.
    history: Vec<u8>,
    /// Encrypts from now on.
    key: Option<LogKey>,
}

fn keyring() -> Keyring {
    Keyring::parse(RING).unwrap()
}

fn key() -> LogKey {
    let locked = Locked::parse(encryption(LOCKED).unwrap()).unwrap();
    locked.open(keyring().key(locked.master()).unwrap()).unwrap()
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server { dir, files: VecDeque::new(), lsn: FIRST, history: Vec::new(), key: None };
        server.new_file(None);
        server
    }

    /// A server whose log has a key. The newest checkpoint is at its current LSN.
    fn encrypted() -> Self {
        let mut server = Server::new();
        server.key = Some(key());
        let head = File::options().write(true).open(server.path(7)).unwrap();
        head.write_all_at(encryption(LOCKED).unwrap(), 1024).unwrap();
        server
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.path().join(name(number))
    }

    /// A file in use: a new or a reused one.
    fn new_file(&mut self, again: Option<u64>) {
        let number = self.files.back().map_or(7, |(number, _)| number + 1);
        let spare = self.dir.path().join(name(number) + "_tmp");
        match again {
            Some(old) => fs::rename(self.path(old), &spare).unwrap(),
            None => File::create(&spare).unwrap().set_len(SIZE).unwrap(),
        }
        let header = Header { uuid: UUID, start_lsn: Lsn::new(self.lsn), creator: creator("MySQL 9.9.9"), flags: 0 };
        let head = header.head(self.files.is_empty().then_some(Lsn::new(FIRST + 100)), CLEAR);
        File::options().write(true).open(&spare).unwrap().write_all_at(&head, 0).unwrap();
        fs::rename(&spare, self.path(number)).unwrap();
        self.files.push_back((number, self.lsn));
    }

    fn block(&self, used: u16) -> Vec<u8> {
        let index = self.lsn / BLOCK as u64;
        let mut block: Vec<u8> = (0..BLOCK as u64).map(|n| (n * 7 + index) as u8).collect();
        block[..4].copy_from_slice(&(index as u32 + 1).to_be_bytes());
        block[4..6].copy_from_slice(&used.to_be_bytes());
        block[6..8].copy_from_slice(&12u16.to_be_bytes());
        block[8..12].copy_from_slice(&1u32.to_be_bytes());
        let sum = crc32c::crc32c(&block[..508]);
        block[508..].copy_from_slice(&sum.to_be_bytes());
        match &self.key {
            Some(key) => key.encrypt(block.first_chunk().unwrap()).to_vec(),
            None => block,
        }
    }

    fn put(&self, block: &[u8]) {
        let (number, start) = *self.files.back().unwrap();
        let file = File::options().write(true).open(self.path(number)).unwrap();
        file.write_all_at(block, HEAD as u64 + self.lsn - start).unwrap();
    }

    /// Fills this many blocks. `keep` files stay; older ones are reused.
    fn write(&mut self, blocks: u64, keep: usize) {
        for _ in 0..blocks {
            let block = self.block(512);
            self.put(&block);
            self.history.extend(block);
            self.lsn += BLOCK as u64;
            if self.lsn == self.files.back().unwrap().1 + BLOCKS * BLOCK as u64 {
                let again = (self.files.len() >= keep).then(|| self.files.pop_front().unwrap().0);
                self.new_file(again);
            }
        }
    }

    fn follow(&self) -> Reader {
        self.follow_with(None)
    }

    fn follow_with(&self, keyring: Option<&Keyring>) -> Reader {
        Reader {
            follower: Follower::begin(self.dir.path(), Lsn::new(FIRST + 100), UUID, keyring).unwrap(),
            got: Vec::new(),
        }
    }
}

/// A follower and what it has captured.
struct Reader {
    follower: Follower,
    got: Vec<u8>,
}

impl Reader {
    fn reach(&mut self, target: Target) -> Result<()> {
        let got = &mut self.got;
        self.follower.poll(&target, &mut |bytes, _| {
            got.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn poll(&mut self) -> Result<()> {
        self.reach(Target::default())
    }

    /// Polls until it fails.
    fn fail(&mut self, target: Target) -> Error {
        loop {
            match self.reach(target) {
                Err(error) => return error,
                Ok(()) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

#[test]
fn every_full_block_is_taken_once_from_file_to_file() {
    let mut server = Server::new();
    let mut reader = server.follow();
    for round in 0..300 {
        server.write(round * 13 % 40, 4);
        reader.poll().unwrap();
        assert!(reader.got == server.history, "round {round}");
    }
    assert!(server.files.back().unwrap().0 > 100);
}

/// Old files have no name any more, but were opened when they appeared; nothing in them has been overwritten yet.
#[test]
fn a_deleted_or_renamed_file_is_read_to_its_end() {
    let mut server = Server::new();
    let mut reader = server.follow();
    server.write(BLOCKS + 5, 99);
    // Opens both, and does not read them: the target is reached already.
    reader.reach(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(FIRST + 12)), cancelled: false }).unwrap();
    assert!(reader.got.is_empty());
    fs::remove_file(server.path(7)).unwrap();
    fs::rename(server.path(8), server.dir.path().join("#ib_redo99_tmp")).unwrap();
    reader.poll().unwrap();
    assert!(reader.got == server.history);
}

/// When a file of a larger log is reused in a smaller one, its content is gone at once.
#[test]
fn a_file_that_is_cut_off_is_an_overrun() {
    let mut server = Server::new();
    let mut reader = server.follow();
    server.write(BLOCKS + 5, 99);
    reader.reach(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(FIRST + 12)), cancelled: false }).unwrap();
    let kept = 10 * BLOCK as u64;
    File::options().write(true).open(server.path(7)).unwrap().set_len(HEAD as u64 + kept).unwrap();
    let error =
        reader.fail(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(server.lsn + 12)), cancelled: false });
    assert!(error.to_string().contains(&format!("redo overrun: lsn {} was", FIRST + kept)), "{error}");
    assert!(server.history.starts_with(&reader.got) && reader.got.len() as u64 == kept);
}

#[test]
fn an_unfinished_block_waits_unless_it_is_last() {
    let mut server = Server::new();
    let mut reader = server.follow();
    server.write(3, 4);
    server.put(&server.block(100));
    reader.poll().unwrap();
    assert!(reader.got == server.history);
    // Half of it.
    let whole = server.block(400);
    server.put(&[&whole[..200], &[0; 312]].concat());
    reader
        .reach(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(server.lsn + 300)), cancelled: false })
        .unwrap();
    assert!(reader.got == server.history && !reader.follower.reached(Lsn::new(server.lsn + 300)));
    server.put(&whole);
    reader
        .reach(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(server.lsn + 401)), cancelled: false })
        .unwrap();
    assert!(!reader.follower.reached(Lsn::new(server.lsn + 401)));
    reader
        .reach(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(server.lsn + 400)), cancelled: false })
        .unwrap();
    assert!(reader.follower.reached(Lsn::new(server.lsn + 400)));
    assert_eq!(reader.got, [&server.history[..], &whole].concat());
}

#[test]
fn an_end_between_two_blocks_needs_only_the_first() {
    let mut server = Server::new();
    let mut reader = server.follow();
    server.write(5, 4);
    reader
        .reach(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(server.lsn + 12)), cancelled: false })
        .unwrap();
    assert!(reader.follower.reached(Lsn::new(server.lsn + 12)) && reader.got == server.history);
}

#[test]
fn an_overrun_says_what_would_have_been_enough() {
    // The next file was reused before it was opened, or an open file was overwritten.
    for read_first in [false, true] {
        let mut server = Server::new();
        let mut reader = server.follow();
        server.write(3, 4);
        if read_first {
            reader.poll().unwrap();
        }
        server.write(BLOCKS * 9, 4);
        let error = reader.fail(Target::default());
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("redo overrun: lsn "), "{error}");
        assert!(error.advice().unwrap().contains("innodb_redo_log_capacity=1048576; 1 MiB"), "{:?}", error.advice());
        assert!(server.history.starts_with(&reader.got), "nothing wrong was taken");
    }
}

#[test]
fn the_log_must_reach_the_end_of_the_backup() {
    let mut server = Server::new();
    let mut reader = server.follow();
    server.write(2, 4);
    let error =
        reader.fail(Target { durable_lsn: Lsn::new(0), end_lsn: Some(Lsn::new(server.lsn + 1000)), cancelled: false });
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains(&format!("the log ends at lsn {}", server.lsn)), "{error}");
}

#[test]
fn encrypted_blocks_are_verified_with_their_key() {
    let mut server = Server::encrypted();
    let mut reader = server.follow_with(Some(&keyring()));
    for round in 0..20 {
        // As if innodb_redo_log_encrypt were switched off and on.
        server.key = (round % 3 > 0).then(key);
        server.write(11, 4);
        reader.poll().unwrap();
    }
    server.key = Some(key());
    // Half of it: its number is right, and nothing else can tell.
    let whole = server.block(512);
    server.put(&[&whole[..200], &[0; 312]].concat());
    reader.poll().unwrap();
    assert!(reader.got == server.history);
    server.write(1, 4);
    reader.poll().unwrap();
    assert!(reader.got == server.history);
}

#[test]
fn encrypted_blocks_without_their_key_end_the_backup_at_once() {
    let server = Server::encrypted();
    // The last block, which is not full.
    server.put(&server.block(100));
    let error = server.follow().poll().unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.advice().unwrap().starts_with("xb-redo --keyring FILE"), "{:?}", error.advice());
    // Another keyring is not enough.
    let other = Keyring::parse(b"").unwrap();
    let error = server.follow_with(Some(&other)).poll().unwrap_err();
    assert_eq!(error.kind(), Kind::Key);
    assert!(error.to_string().contains("INNODBKey-"), "{error}");
    // It is enough if the log was encrypted once and is not any more.
    let mut server = Server::encrypted();
    server.key = None;
    let mut reader = server.follow_with(Some(&other));
    server.write(3, 4);
    reader.poll().unwrap();
    assert!(reader.got == server.history);
    // A key that is not in the head of the captured log, which was sent, cannot be used in it.
    let mut server = Server::new();
    let mut reader = server.follow_with(Some(&keyring()));
    server.key = Some(key());
    server.write(1, 4);
    assert_eq!(reader.poll().unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn blocks_without_a_checksum_are_refused_unless_they_get_one() {
    let mut server = Server::new();
    let mut reader = server.follow();
    server.write(2, 4);
    let whole = server.block(512);
    server.put(&[&whole[..508], &[0xde, 0xad, 0xbe, 0xef]].concat());
    // This may be the rest of an older one.
    reader.poll().unwrap();
    server.write(1, 4);
    reader.poll().unwrap();
    assert!(reader.got == server.history);
    server.put(&[&server.block(512)[..508], &[0xde, 0xad, 0xbe, 0xef]].concat());
    let error = reader.fail(Target::default());
    assert!(error.to_string().contains("the redo log has no checksums"), "{error}");
}

#[test]
fn the_log_of_another_server_is_refused() {
    let mut server = Server::new();
    server.write(3, 4);
    for (checkpoint_lsn, uuid) in [(FIRST + 100, UUID + 1), (FIRST + 5000, UUID)] {
        let error = Follower::begin(server.dir.path(), Lsn::new(checkpoint_lsn), uuid, None).unwrap_err();
        assert!(error.to_string().contains("is not the log of the backup"), "{error}");
    }
    let mut reader = server.follow();
    // A new log under the same names.
    let header = Header { uuid: 1, start_lsn: Lsn::new(server.lsn), creator: [0; 32], flags: 0 };
    fs::write(server.path(8), header.head(None, CLEAR)).unwrap();
    assert!(reader.poll().unwrap_err().to_string().contains("made anew"));
}
