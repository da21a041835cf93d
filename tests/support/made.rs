//! Streams of ours and a redo log, made by hand: of any kind, with or without what belongs to them.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use xb::innodb::redo::mariadb::{Checkpoint, FILE, Format, Header, START};
use xb::innodb::{Lsn, SpaceId};
use xb::stream::Writer;
use xb::stream::native::{
    BEGIN, Begin, Entry, EntryKind, FORMAT, MANIFEST, Redo, StreamKind, Tally, Trailer, begin_bytes, begin_digest,
    mark_bytes,
};

use super::tool::{member, payload};
use super::{Random, scratch};

/// The id that all of them have.
const ID: &str = "00112233445566778899aabbccddeeff";

/// `xb_begin` of a MariaDB server.
pub fn begin(kind: StreamKind) -> Begin {
    Begin {
        format: FORMAT,
        kind,
        backup_id: ID.to_owned(),
        start_time: "2026-01-01T00:00:00Z".to_owned(),
        program: "xb-snap 0".to_owned(),
        estimated_bytes: 1 << 20,
        family: Some(xb::server::Family::MariaDb),
        server_version: Some("10.11.19-MariaDB".to_owned()),
        server_uuid: None,
        datadir: Some("/nonexistent".to_owned()),
        without_innodb: false,
        redo: Some(Redo {
            format: "Phys".to_owned(),
            dir: "/nonexistent".to_owned(),
            checkpoint_lsn: Lsn::new(20_000),
            checkpoint_end_lsn: Some(Lsn::new(20_000)),
            log_uuid: None,
        }),
        base: None,
        filter: None,
    }
}

/// The last line of a manifest, before its counts and digests are known.
fn trailer() -> Trailer {
    Trailer {
        manifest: FORMAT,
        backup_id: ID.to_owned(),
        members: 0,
        bytes: 0,
        end_lsn: Some(Lsn::new(30_000)),
        binlog: None,
        server_options: Default::default(),
        locks_ms: Default::default(),
        partial: false,
        left_out: Vec::new(),
        end_time: "2026-01-01T00:00:01Z".to_owned(),
        begin_blake3: None,
        blake3: String::new(),
    }
}

/// The first member.
pub fn begun(kind: StreamKind) -> Vec<u8> {
    member("xb_begin", &begin_bytes(&begin(kind)).unwrap())
}

/// A manifest that is being made.
#[derive(Default)]
pub struct Manifest {
    tally: Tally,
    lines: String,
}

impl Manifest {
    pub fn add(&mut self, name: &str, kind: EntryKind, content: &[u8]) {
        self.entry(&Entry::new(name.as_bytes(), kind, content.len() as u64, &blake3::hash(content)));
    }

    pub fn entry(&mut self, entry: &Entry) {
        self.lines += &self.tally.line(entry).unwrap();
    }

    /// With its last line, for a stream of this kind.
    pub fn end(self, kind: StreamKind) -> Vec<u8> {
        self.close(Trailer { begin_blake3: Some(begin_digest(&begin_bytes(&begin(kind)).unwrap())), ..trailer() })
    }

    /// With this last line; counts and digest are filled in.
    pub fn close(mut self, trailer: Trailer) -> Vec<u8> {
        self.lines += &self.tally.finish(trailer).unwrap();
        self.lines.into_bytes()
    }
}

/// A whole stream of ours.
pub fn stream(kind: StreamKind, members: &[(&str, EntryKind, &[u8])]) -> Vec<u8> {
    let (mut stream, mut manifest) = (begun(kind), Manifest::default());
    for (name, kind, content) in members {
        stream.extend(whole(name, content));
        manifest.add(name, *kind, content);
    }
    stream.extend(member("xb_manifest", &manifest.end(kind)));
    stream
}

/// A member; without content it has no chunk but the end mark.
fn whole(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = member(name, content);
    if content.is_empty() {
        bytes.drain(..payload(name, 0, &[]).len());
    }
    bytes
}

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
            first_lsn: Lsn::new(C0),
            creator: *b"made by hand\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            encryption: [0; 28],
        };
        let mut bytes = vec![0; (START + self.content.len() + 1000).next_multiple_of(4096)];
        bytes[..512].copy_from_slice(&header.block());
        bytes[4096..4160].copy_from_slice(&Checkpoint { lsn: Lsn::new(lsn), end_lsn: Lsn::new(end_lsn) }.block());
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
    manifest: Manifest,
    marks: u64,
}

impl Stream {
    /// Of a backup of the server that has this log; nothing is written yet.
    pub fn of(log: &Log) -> Stream {
        let redo = Redo {
            format: "Phys".into(),
            dir: log.dir.path().to_str().unwrap().into(),
            checkpoint_lsn: Lsn::new(C0),
            checkpoint_end_lsn: Some(Lsn::new(C0)),
            log_uuid: None,
        };
        let begin = Begin { redo: Some(redo), ..begin(StreamKind::Full) };
        let trailer = Trailer { end_lsn: Some(Lsn::new(log.end())), ..trailer() };
        Stream { begin, trailer, writer: Writer::new(Vec::new()), manifest: Manifest::default(), marks: 0 }
    }

    pub fn begin(mut self) -> Self {
        let bytes = begin_bytes(&self.begin).unwrap();
        // Made apart, for a writer refuses a second one.
        let apart = Writer::new(Vec::new());
        apart.member(BEGIN, &bytes).unwrap();
        self.writer.put(&apart.into_inner(), &[]).unwrap();
        self.manifest.add("xb_begin", EntryKind::Meta, &bytes);
        self.trailer.begin_blake3 = Some(begin_digest(&bytes));
        self
    }

    /// A member in chunks of at most 1 MiB.
    pub fn member(mut self, path: &str, data: &[u8]) -> Self {
        self.send(path, data);
        self.manifest.add(path, EntryKind::File, data);
        self
    }

    /// A member with a line of its own in the manifest.
    pub fn listed(mut self, path: &str, kind: EntryKind, data: &[u8], line: impl FnOnce(&mut Entry)) -> Self {
        self.send(path, data);
        let mut entry = Entry::new(path.as_bytes(), kind, data.len() as u64, &blake3::hash(data));
        line(&mut entry);
        self.manifest.entry(&entry);
        self
    }

    /// A tablespace with this number.
    pub fn tablespace(self, path: &str, id: u32, data: &[u8]) -> Self {
        self.listed(path, EntryKind::Innodb, data, |line| line.space_id = Some(SpaceId::new(id)))
    }

    fn send(&mut self, path: &str, data: &[u8]) {
        for (n, chunk) in data.chunks(1 << 20).enumerate() {
            self.writer.payload(path.as_bytes(), (n << 20) as u64, chunk).unwrap();
        }
        self.writer.end(path.as_bytes()).unwrap();
    }

    pub fn mark(mut self, lsn: u64) -> Self {
        self.marks += 1;
        self.writer.member(format!("xb_mark.{}", self.marks).as_bytes(), &mark_bytes(Lsn::new(lsn))).unwrap();
        self
    }

    pub fn manifest(mut self) -> Self {
        let manifest = std::mem::take(&mut self.manifest).close(self.trailer.clone());
        self.writer.member(MANIFEST, &manifest).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.writer.into_inner()
    }
}
