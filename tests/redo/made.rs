//! A redo log and the stream of a backup, made by hand, for what no server does on demand.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use xb::innodb::redo::mariadb::{Checkpoint, FILE, Format, Header, START};
use xb::stream::Writer;
use xb::stream::native::{
    self, BEGIN, Begin, Entry, EntryKind, FORMAT, MANIFEST, Redo, StreamKind, Tally, Trailer, mark_bytes,
};

use crate::support::{Random, scratch};

/// c0, and the first LSN of the log.
pub const C0: u64 = 70_000;

/// A stopped server's redo log.
pub struct Log {
    pub dir: TempDir,
    /// What a captured log must hold after its head.
    pub content: Vec<u8>,
    /// Where its mini-transactions end.
    ends: Vec<u64>,
}

/// A mini-transaction of these records, of the first lap.
fn mtr(records: &[u8]) -> Vec<u8> {
    [records, &[1], &crc32c::crc32c(records).to_be_bytes()].concat()
}

impl Log {
    /// A log with about so many bytes in it. The server's newest checkpoint proves nothing but its beginning durable.
    pub fn new(size: usize) -> Log {
        let dir = scratch();
        // FILE_CHECKPOINT stands at the end of every checkpoint.
        let mut content = mtr(&[&[0xfa, 0, 0][..], &C0.to_be_bytes()].concat());
        let mut ends = Vec::new();
        let mut random = Random::new(5);
        while content.len() < size {
            let length = 1 + random.below(15);
            let mut bytes = vec![0x30 | u8::try_from(length).unwrap()];
            bytes.extend(random.bytes(usize::try_from(length).unwrap()));
            content.extend(mtr(&bytes));
            ends.push(C0 + content.len() as u64);
        }
        let log = Log { dir, content, ends };
        log.write(C0, C0);
        log
    }

    /// Writes the file; its newest checkpoint is this one.
    pub fn write(&self, lsn: u64, end_lsn: u64) {
        let header = Header {
            format: Format::Phys,
            first_lsn: C0,
            creator: *b"made by hand\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            encryption: [0; 28],
        };
        let mut bytes = vec![0; (START + self.content.len() + 1000).next_multiple_of(4096)];
        bytes[..512].copy_from_slice(&header.block());
        bytes[4096..4160].copy_from_slice(&Checkpoint { lsn, end_lsn }.block());
        bytes[START..START + self.content.len()].copy_from_slice(&self.content);
        fs::write(self.path(), bytes).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    /// The first LSN between two mini-transactions that is so far in.
    pub fn near(&self, bytes: u64) -> u64 {
        *self.ends.iter().find(|end| **end >= C0 + bytes).unwrap()
    }

    pub fn end(&self) -> u64 {
        C0 + self.content.len() as u64
    }
}

/// A stream as xb-snap writes it.
pub struct Stream {
    pub begin: Begin,
    pub trailer: Trailer,
    writer: Writer<Vec<u8>>,
    tally: Tally,
    lines: String,
    marks: u64,
}

impl Stream {
    /// Of a backup of the server that has this log; nothing is written yet.
    pub fn of(log: &Log) -> Stream {
        let redo = Redo {
            format: "Phys".into(),
            dir: log.dir.path().to_str().unwrap().into(),
            checkpoint_lsn: C0,
            checkpoint_end_lsn: Some(C0),
            log_uuid: None,
        };
        let backup_id = "00112233445566778899aabbccddeeff".to_owned();
        let begin = Begin {
            filter: None,
            format: FORMAT,
            kind: StreamKind::Full,
            backup_id: backup_id.clone(),
            start_time: native::now(),
            program: "test".into(),
            estimated_bytes: 0,
            flavour: Some("mariadb".into()),
            server_version: None,
            server_uuid: None,
            datadir: None,
            redo: Some(redo),
            base: None,
        };
        let trailer = Trailer {
            manifest: FORMAT,
            backup_id,
            begin_blake3: None,
            members: 0,
            bytes: 0,
            end_lsn: Some(log.end()),
            binlog: None,
            server_options: Default::default(),
            locks_ms: Default::default(),
            partial: false,
            left_out: Vec::new(),
            end_time: native::now(),
            blake3: String::new(),
        };
        let writer = Writer::new(Vec::new());
        Stream { begin, trailer, writer, tally: Tally::default(), lines: String::new(), marks: 0 }
    }

    pub fn begin(mut self) -> Self {
        // Made apart, for a writer refuses a second one.
        let apart = Writer::new(Vec::new());
        apart.member(BEGIN, &native::begin_bytes(&self.begin)).unwrap();
        self.writer.put(&apart.into_inner(), &[]).unwrap();
        self.list(BEGIN, EntryKind::Meta, &native::begin_bytes(&self.begin));
        self.trailer.begin_blake3 = Some(native::begin_digest(&native::begin_bytes(&self.begin)));
        self
    }

    /// A member in chunks of at most 1 MiB.
    pub fn member(mut self, path: &str, data: &[u8]) -> Self {
        for (n, chunk) in data.chunks(1 << 20).enumerate() {
            self.writer.payload(path.as_bytes(), (n << 20) as u64, chunk).unwrap();
        }
        self.writer.end(path.as_bytes()).unwrap();
        self.list(path.as_bytes(), EntryKind::File, data);
        self
    }

    pub fn mark(mut self, lsn: u64) -> Self {
        self.marks += 1;
        self.writer.member(format!("xb_mark.{}", self.marks).as_bytes(), &mark_bytes(lsn)).unwrap();
        self
    }

    pub fn manifest(self) -> Self {
        let bytes = self.lines.clone() + &self.tally.finish(self.trailer.clone());
        self.writer.member(MANIFEST, bytes.as_bytes()).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.writer.into_inner()
    }

    fn list(&mut self, path: &[u8], kind: EntryKind, data: &[u8]) {
        let entry = Entry::new(path, kind, data.len() as u64, &blake3::hash(data));
        self.lines += &self.tally.line(&entry);
    }
}
