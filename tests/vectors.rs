//! Streams of the original programs are read correctly, or refused with the right exit code.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::tool::{bad, feed, good, scratch, tool, tree, unpack, within};

/// A section of a MANIFEST.txt: the stream's file, and its lines.
pub fn sections(folder: &str) -> Vec<(String, Vec<String>)> {
    let dir = folder_path(folder);
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in std::fs::read_to_string(dir.join("MANIFEST.txt")).unwrap().lines() {
        if let Some(name) = line.strip_prefix("== ") {
            sections.push((name.into(), Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line.trim().into());
        }
    }
    sections
}

pub fn folder_path(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder)
}

pub fn stream(folder: &str, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(folder_path(folder).join(name)).unwrap();
    if name.ends_with(".zst") { zstd::decode_all(bytes.as_slice()).unwrap() } else { bytes }
}

/// `file PATH size=N sha256=H`, with `\xNN` for a raw byte of the path.
fn wanted(line: &str) -> Option<(PathBuf, usize, String)> {
    let (path, facts) = line.strip_prefix("file ")?.split_once(" size=").unwrap();
    let (size, rest) = facts.split_once(" sha256=").unwrap();
    let sum = rest.split(' ').next().unwrap();
    let mut name = Vec::new();
    let mut parts = path.split("\\x");
    name.extend(parts.next().unwrap().as_bytes());
    for part in parts {
        name.push(u8::from_str_radix(&part[..2], 16).unwrap());
        name.extend(&part.as_bytes()[2..]);
    }
    Some((PathBuf::from(std::ffi::OsString::from_vec(name)), size.parse().unwrap(), sum.into()))
}

pub fn sha256(bytes: &[u8]) -> String {
    let out = good(feed(&mut Command::new("sha256sum"), bytes));
    String::from_utf8(out).unwrap().split(' ').next().unwrap().into()
}

fn reads_right(folder: &str) {
    let mut files = 0;
    for (name, lines) in sections(folder) {
        let dir = scratch();
        good(unpack(dir.path(), &["--no-sync"], &stream(folder, &name)));
        let mut got = tree(dir.path());
        for (path, size, sum) in lines.iter().filter_map(|line| wanted(line)) {
            let content = got.remove(&path).unwrap_or_else(|| panic!("{name}: {} is missing", path.display()));
            assert_eq!((content.len(), sha256(&content)), (size, sum), "{name}: {}", path.display());
            files += 1;
        }
        assert!(got.is_empty(), "{name}: more than was wanted: {:?}", got.keys());
    }
    assert!(files > 0);
}

#[test]
fn well_formed_streams_of_both_families() {
    reads_right("xbstream");
}

#[test]
fn rename_remove_seek_and_rewrite_of_mariadb() {
    reads_right("xbstream-mariadb");
}

#[test]
fn real_backups_with_interleaved_and_compressed_members() {
    reads_right("mariadb-backup");
}

/// Compressed and encrypted members are files like others here; mbstream must make the same of them.
#[test]
fn members_of_whole_pipelines_come_out_as_they_are() {
    for (name, lines) in sections("pipeline") {
        let (ours, theirs) = (scratch(), scratch());
        let bytes = stream("pipeline", &name);
        good(unpack(ours.path(), &["--no-sync"], &bytes));
        good(feed(within("mbstream", theirs.path()).arg("-x"), &bytes));
        let got = tree(ours.path());
        assert_eq!(got, tree(theirs.path()), "{name}");
        let members = lines.iter().filter_map(|line| line.strip_prefix("member "));
        for (path, rest) in members.map(|line| line.split_once(" (").unwrap()) {
            let size: usize = rest.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(got[Path::new(path)].len(), size, "{name}: {path}");
        }
    }
}

#[test]
fn damaged_and_hostile_streams_leave_no_half_file() {
    // In these the first member is complete before the fault.
    let whole = [
        "cut-at-chunk-boundary.xbs",
        "cut-in-payload.xbs",
        "cut-in-header.xbs",
        "trailing-garbage.xbs",
        "duplicate-file.xbs",
        "payload-after-eof.xbs",
        "file-then-dir.xbs",
    ];
    for (name, _) in sections("xbstream-bad").iter().filter(|(name, _)| name != "unknown-type-ignorable.xbs") {
        let dir = scratch();
        let bytes = stream("xbstream-bad", name);
        let run = unpack(&dir.path().join("deep/target"), &["--no-sync"], &bytes);
        bad(&run, 3, "stdin: ");
        let verify = feed(tool("xb-unpack").arg("--verify"), &bytes);
        assert_eq!(verify.status.code(), Some(3), "{name}");
        for (path, content) in tree(dir.path()) {
            assert!(path.starts_with("deep/target"), "{name}: {} is outside", path.display());
            let kept = path.ends_with("xb_incomplete") || path.ends_with("t1") && whole.contains(&name.as_str());
            assert!(kept, "{name}: {} of {} bytes was left", path.display(), content.len());
        }
    }
    assert!(!Path::new("/nonexistent-dir").exists());
}

#[test]
fn an_ignorable_chunk_of_an_unknown_type_is_skipped() {
    let dir = scratch();
    good(unpack(dir.path(), &["--no-sync"], &stream("xbstream-bad", "unknown-type-ignorable.xbs")));
    let files: Vec<_> = tree(dir.path()).into_keys().collect();
    assert_eq!(files, [Path::new("t1")]);
}
