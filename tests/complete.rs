//! What is not complete is never called so, by any tool.

use std::process::Output;

use xb::stream::profile::{EntryKind, StreamKind};

use crate::support::made;
use crate::support::tool::{bad, feed, good, scratch, tool, unpack};

const PAGES: (&str, EntryKind, &[u8]) = ("db/t.ibd", EntryKind::File, &[7; 5000]);
const LOG: (&str, EntryKind, &[u8]) = ("ib_logfile0", EntryKind::Redo, &[1; 5000]);

fn key() -> (tempfile::TempDir, String) {
    let dir = scratch();
    let key = dir.path().join("key");
    good(feed(tool("xb-crypt").arg("--generate-key").arg(&key), b""));
    let name = key.to_str().unwrap().to_owned();
    (dir, name)
}

/// Every tool that reads a stream to its end and says what it is.
fn judges(stream: &[u8]) -> [Output; 4] {
    let dir = scratch();
    [
        unpack(&dir.path().join("new"), &[], stream),
        feed(tool("xb-unpack").arg("--verify"), stream),
        feed(tool("xb-sum").args(["-q", "-o/dev/null"]), stream),
        feed(tool("xb-sum").args(["-q", "--members=only", "-o/dev/null"]), stream),
    ]
}

#[test]
fn a_snapshot_without_redo_log_is_no_backup() {
    let (_dir, key) = key();
    for kind in [StreamKind::Full, StreamKind::Incremental, StreamKind::Files] {
        for (what, log) in [("without", &[][..]), ("with", &[LOG][..])] {
            let plain = made::stream(kind, &[&[PAGES], log].concat());
            let zipped = good(feed(&mut tool("xb-zip"), &plain));
            let sealed = good(feed(tool("xb-crypt").args(["-k", &key]), &zipped));
            for (form, stream) in [("plain", &plain), ("zipped", &zipped), ("sealed", &sealed)] {
                for run in judges(stream) {
                    eprintln!("{kind:?} {what} log, {form}");
                    if kind == StreamKind::Files || what == "with" {
                        good(run);
                    } else {
                        bad(&run, 3, "not a backup: the snapshot was not piped through xb-redo");
                    }
                }
            }
        }
    }
}
