//! Streams of ours, made by hand: of any kind, with or without what belongs to them.

use xb::stream::native::{
    Begin, Entry, EntryKind, FORMAT, Redo, StreamKind, Tally, Trailer, begin_bytes, begin_digest,
};

use super::tool::{member, payload};

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
        flavour: Some("mariadb".to_owned()),
        server_version: Some("10.11.19-MariaDB".to_owned()),
        server_uuid: None,
        datadir: Some("/nonexistent".to_owned()),
        redo: Some(Redo {
            format: "Phys".to_owned(),
            dir: "/nonexistent".to_owned(),
            checkpoint_lsn: 20_000,
            checkpoint_end_lsn: Some(20_000),
            log_uuid: None,
        }),
        base: None,
        filter: None,
    }
}

/// The first member.
pub fn begun(kind: StreamKind) -> Vec<u8> {
    member("xb_begin", &begin_bytes(&begin(kind)))
}

/// A manifest that is being made.
#[derive(Default)]
pub struct Manifest {
    tally: Tally,
    lines: String,
}

impl Manifest {
    pub fn add(&mut self, name: &str, kind: EntryKind, content: &[u8]) {
        let entry = Entry::new(name.as_bytes(), kind, content.len() as u64, &blake3::hash(content));
        self.lines += &self.tally.line(&entry);
    }

    /// With its last line, for a stream of this kind.
    pub fn end(mut self, kind: StreamKind) -> Vec<u8> {
        self.lines += &self.tally.finish(Trailer {
            manifest: FORMAT,
            backup_id: ID.to_owned(),
            members: 0,
            bytes: 0,
            end_lsn: Some(30_000),
            binlog: None,
            server_options: Default::default(),
            locks_ms: Default::default(),
            partial: false,
            left_out: Vec::new(),
            end_time: "2026-01-01T00:00:01Z".to_owned(),
            begin_blake3: Some(begin_digest(&begin_bytes(&begin(kind)))),
            blake3: String::new(),
        });
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
