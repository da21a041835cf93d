use super::*;
use crate::innodb::ids::Lsn;
use crate::stream::native::{Entry, EntryKind, FORMAT, Redo};

/// A backup with these members and its log.
fn stream(members: &[(&str, &[u8])]) -> Vec<u8> {
    let redo = Redo {
        format: "Phys".into(),
        dir: ".".into(),
        checkpoint_lsn: Lsn::new(7),
        checkpoint_end_lsn: None,
        log_uuid: None,
    };
    let begin = Begin {
        format: FORMAT,
        kind: StreamKind::Full,
        backup_id: "00".repeat(16),
        start_time: native::now(),
        program: "test".into(),
        estimated_bytes: 1000,
        family: None,
        server_version: None,
        server_uuid: None,
        datadir: None,
        redo: Some(redo),
        without_innodb: false,
        filter: None,
        base: None,
    };
    let begin_text = begin_bytes(&begin).unwrap();
    let writer = Writer::new(Vec::new());
    writer.member(BEGIN, &begin_text).unwrap();
    let (mut tally, mut lines) = (Tally::default(), String::new());
    for (name, bytes) in members {
        writer.member(name.as_bytes(), bytes).unwrap();
        let entry = Entry::new(name.as_bytes(), EntryKind::File, bytes.len() as u64, &blake3::hash(bytes));
        lines += &tally.line(&entry).unwrap();
    }
    let trailer = Trailer {
        manifest: FORMAT,
        backup_id: begin.backup_id.clone(),
        begin_blake3: Some(begin_digest(&begin_text)),
        members: 0,
        bytes: 0,
        end_lsn: Some(Lsn::new(9)),
        binlog: None,
        server_options: std::collections::BTreeMap::new(),
        locks_ms: std::collections::BTreeMap::new(),
        partial: false,
        left_out: Vec::new(),
        end_time: native::now(),
        blake3: String::new(),
    };
    lines += &tally.finish(trailer).unwrap();
    writer.member(MANIFEST, lines.as_bytes()).unwrap();
    writer.into_inner()
}

fn part(stream: &[u8], picks: Picks<'_>, complete: bool) -> Result<(Vec<u8>, Told)> {
    let mut out = Vec::new();
    let told = pass(stream, "s", &mut out, Options { picks, entries: true, complete })?;
    Ok((out, told))
}

/// Every member with its bytes, of a stream that `xb-unpack --verify` accepts.
fn proved(stream: &[u8]) -> Vec<String> {
    let options = crate::unpack::Options {
        destination: None,
        pick: crate::stream::pick::Patterns::default(),
        list: None,
        inspect: None,
        allow_empty: false,
        buffer: crate::unpack::BUFFER_MIN,
        budget: crate::budget::Budget::default(),
        threads: 1,
    };
    let summary = crate::unpack::unpack(stream, &options, &()).unwrap();
    assert!(summary.proved);
    let (mut reader, mut names) = (Reader::new(stream, "s"), Vec::new());
    while let Some(head) = reader.next().unwrap() {
        if head.body == Body::End {
            names.push(head.path.to_str_lossy().into_owned());
        }
    }
    names
}

#[test]
fn a_part_is_a_complete_stream_of_files() {
    let whole = stream(&[("a/t.ibd", b"table"), ("a/u.ibd", b"other"), ("ib_logfile0", b"log")]);
    let (out, told) = part(&whole, &|path| path == b"a/u.ibd", true).unwrap();
    assert_eq!(proved(&out), ["xb_begin", "a/u.ibd", "xb_manifest"]);
    assert_eq!((told.members, told.entries.len()), (3, 3));
    assert_eq!(told.trailer.unwrap().end_lsn, Some(Lsn::new(9)));
    assert_eq!(native::parse_begin("b", &told.begin_bytes).unwrap().kind, StreamKind::Full);
    // Of what was read by ranges, the rest is not there, and that is right.
    let (part_only, _) = part(&out, &|_| true, true).unwrap();
    assert_eq!(proved(&part_only), ["xb_begin", "a/u.ibd", "xb_manifest"]);
}

#[test]
fn what_is_missing_or_too_much_is_noticed() {
    let short = stream(&[("a/t.ibd", b"table")]);
    let full = stream(&[("a/t.ibd", b"table"), ("a/u.ibd", b"other")]);
    // The manifest of the full one behind the members of the short one, and the reverse.
    let at = |stream: &[u8]| {
        stream.windows(25).rposition(|bytes| bytes.ends_with(b"xb_manifest") && bytes[9] == b'P').unwrap()
    };
    let lacks = [&short[..at(&short)], &full[at(&full)..]].concat();
    let exceeds = [&full[..at(&full)], &short[at(&short)..]].concat();
    assert!(part(&lacks, &|_| true, true).unwrap_err().to_string().contains("missing"));
    part(&lacks, &|_| true, false).unwrap();
    assert!(part(&exceeds, &|_| true, false).unwrap_err().to_string().contains("does not list it"));
    let cut = &full[..at(&full)];
    assert!(part(cut, &|_| true, false).unwrap_err().to_string().contains("truncated"));
    for at in (0..full.len()).step_by(3) {
        let mut flipped = full.clone();
        flipped[at] ^= 1;
        if let Ok((out, _)) = part(&flipped, &|_| true, true) {
            assert!(out.is_empty() || at > full.len() - 5, "byte {at}");
        }
    }
}
