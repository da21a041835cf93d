//! xb-redo as a filter: the guarantees of its output, with logs made by hand and with real servers.

mod live;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use xb::innodb::Lsn;
use xb::innodb::redo::mariadb::{Checkpoint, FILE, Header, START};
use xb::stream::{Body, Reader};

use crate::support::made::{C0, Log, Stream};
use crate::support::pipeline::{Relay, Run};
use crate::support::{Pipeline, Random, scratch, wait_until, xb};

/// Runs the filter on a stream.
fn filter(stream: impl Into<Vec<u8>>) -> Run {
    Pipeline::new().stage(xb("xb-redo").arg("--spool-dir").arg(std::env::temp_dir())).stdin_bytes(stream).run()
}

/// The members of a stream with their content, in the order of their ends.
fn members(stream: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut reader, mut open, mut done) = (Reader::new(stream, "stdin"), Vec::<(String, Vec<u8>)>::new(), Vec::new());
    while let Some(head) = reader.next().unwrap() {
        let path = String::from_utf8(head.path).unwrap();
        let at = open.iter().position(|(name, _)| *name == path).unwrap_or_else(|| {
            open.push((path, Vec::new()));
            open.len() - 1
        });
        match head.body {
            Body::Payload { offset, len } => {
                assert_eq!(offset, open[at].1.len() as u64);
                let mut payload = vec![0; usize::try_from(len).unwrap()];
                assert_eq!(reader.fill(&mut payload).unwrap(), payload.len());
                open[at].1.extend(payload);
            }
            Body::End => done.push(open.remove(at)),
            other => panic!("{other:?}"),
        }
    }
    assert!(open.is_empty(), "no end mark: {:?}", open[0].0);
    done
}

/// It failed with this code and message, and its output cannot be mistaken for a backup.
#[track_caller]
fn assert_refused(run: &Run, code: i32, about: &str) {
    run.assert_codes(&[code]);
    assert!(run.stderr(0).contains(about), "{about:?} is not in: {}", run.stderr(0));
    assert!(!contains(&run.stdout, b"xb_manifest"), "a manifest was sent");
    // An end mark is the name without anything behind it: after it the next chunk begins, or nothing.
    assert!(!contains(&run.stdout, b"E\x0b\0\0\0ib_logfile0"), "the log was ended");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn members_pass_unchanged_marks_vanish_and_the_log_is_added() {
    let log = Log::new(3_000_000);
    let big = Random::new(1).bytes(3_333_333);
    let stream = Stream::of(&log)
        .begin()
        .member("db/a.ibd", &big)
        .mark(log.near(2_000_000))
        .member("db/empty", b"")
        .member("db/b.frm", b"x")
        .manifest()
        .bytes();
    let before = members(&stream);
    let run = filter(stream);
    run.assert_ok();
    let after = members(&run.stdout);
    let names = |members: &[(String, Vec<u8>)]| members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), ["xb_begin", "db/a.ibd", "db/empty", "db/b.frm", FILE, "xb_manifest"]);
    for (name, content) in before.iter().filter(|(name, _)| !name.starts_with("xb_m")) {
        assert!(after.contains(&(name.clone(), content.clone())), "{name}");
    }
    let captured = &after[4].1;
    assert_eq!(captured.len() % 4096, 0);
    let header = Header::parse(captured).unwrap();
    assert!(header.first_lsn == Lsn::new(C0) && header.creator.starts_with(b"Backup "));
    assert_eq!(
        Checkpoint::newest(captured, Lsn::new(C0)),
        Some(Checkpoint { lsn: Lsn::new(C0), end_lsn: Lsn::new(C0) })
    );
    assert_eq!(captured[START..][..log.content.len()], log.content);
    let padding = &captured[START + log.content.len()..];
    assert!((1..=4096).contains(&padding.len()) && padding.iter().all(|byte| *byte == 0));
    assert!(run.stderr(0).contains(&format!("from lsn {C0} to lsn {}", log.end())), "{}", run.stderr(0));
}

#[test]
fn what_comes_out_verifies_and_unpacks() {
    let log = Log::new(100_000);
    let directory = scratch();
    Pipeline::new()
        .stage(xb("xb-redo").arg("-q"))
        .stage(xb("xb-unpack").arg("-C").arg(directory.path()))
        .stdin_bytes(Stream::of(&log).begin().member("ibdata1", &[7; 70_000]).manifest().bytes())
        .run()
        .assert_ok();
    assert_eq!(fs::read(directory.path().join(FILE)).unwrap()[START..][..log.content.len()], log.content);
    assert!(fs::read_to_string(directory.path().join("xb_manifest")).unwrap().contains(FILE));
}

/// The snapshot ends and releases its locks, however fast the log grows.
#[test]
fn data_gets_half_of_the_stream_however_much_log_waits() {
    let log = Log::new(24 << 20);
    log.write(C0, log.end());
    let dir = scratch();
    let input = dir.path().join("stream");
    let stream = Stream::of(&log).begin().mark(log.end()).member("ibdata1", &vec![7; 16 << 20]).manifest();
    fs::write(&input, stream.bytes()).unwrap();
    // While the reader stops, the whole log is captured.
    let still = Relay::default().stall(1 << 20, Duration::from_secs(3));
    let run = Pipeline::new().stage(xb("xb-redo")).relay(still).stage(Command::new("cat")).stdin_from(&input).run();
    run.assert_ok();
    let mut reader = Reader::new(run.stdout.as_slice(), "stdout");
    let (mut data, mut captured, mut ahead) = (0u64, 0u64, 0u64);
    while let Some(head) = reader.next().unwrap() {
        match head.body {
            Body::Payload { len, .. } if head.path == FILE.as_bytes() => captured += len,
            Body::Payload { len, .. } if head.path == b"ibdata1" => data += len,
            _ => {}
        }
        if data < 16 << 20 {
            ahead = ahead.max(captured.saturating_sub(data));
        }
    }
    assert!(captured > 24 << 20 && ahead < 5 << 20, "{captured} bytes of log, {ahead} more than data at one time");
}

/// The log is sent between the members, but never beyond a durable LSN mark: it may be captured beyond the end of the
/// backup.
#[test]
fn the_log_is_sent_up_to_the_newest_mark() {
    let log = Log::new(2_000_000);
    // Durable to its end, as a checkpoint proves.
    log.write(C0, log.end());
    let mark = log.near(1_000_000);
    let mut child = xb("xb-redo").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut reader = Reader::new(output, "stdout");
        let mut sent = 0;
        while let Some(head) = reader.next().unwrap() {
            if let (Body::Payload { len, .. }, true) = (&head.body, head.path == FILE.as_bytes()) {
                sent += len;
                tell.send(sent).unwrap();
            }
        }
    });
    let member = |n: u32| Stream::of(&log).member(&format!("m{n}"), b"x").bytes();
    input.write_all(&Stream::of(&log).begin().bytes()).unwrap();
    for n in 0..50 {
        input.write_all(&member(n)).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(told.try_recv().is_err(), "nothing is sent before the first mark");
    input.write_all(&Stream::of(&log).mark(mark).bytes()).unwrap();
    let (mut n, mut sent) = (50, 0);
    wait_until("the log up to the mark", Duration::from_secs(30), || {
        n += 1;
        input.write_all(&member(n)).unwrap();
        sent = told.try_iter().last().unwrap_or(sent);
        // What is less than a chunk is kept for the next.
        sent > START as u64 + (mark - C0) - (256 << 10)
    });
    drop(input);
    reader.join().unwrap();
    sent = told.try_iter().last().unwrap_or(sent);
    assert!(sent <= START as u64 + (mark - C0));
    assert_eq!(child.wait().unwrap().code(), Some(3), "there was no manifest");
}

#[test]
fn a_stream_cut_anywhere_is_truncated() {
    let log = Log::new(50_000);
    let stream = Stream::of(&log).begin().member("ibdata1", &[7; 1000]).mark(log.end()).manifest().bytes();
    let mut random = Random::new(3);
    let cuts = (0..30).map(|_| random.below(stream.len() as u64)).chain([0, 1, stream.len() as u64 - 1]);
    for cut in cuts {
        let run = filter(&stream[..usize::try_from(cut).unwrap()]);
        assert_refused(&run, 3, "truncated");
    }
    assert_refused(&filter(Stream::of(&log).begin().member("ibdata1", b"x").bytes()), 3, "without xb_manifest");
}

#[test]
fn what_is_no_stream_of_xb_snap_is_named() {
    let log = Log::new(1000);
    assert_refused(&filter(b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice()), 3, "this is gzip data");
    assert_refused(&filter(Stream::of(&log).member("ibdata1", b"x").bytes()), 3, "not a stream of xb-snap: ibdata1");
    let mut files = Stream::of(&log);
    (files.begin.kind, files.begin.redo) = (xb::stream::native::StreamKind::Files, None);
    assert_refused(&filter(files.begin().manifest().bytes()), 3, "xb-pack");
    let mut mysql = Stream::of(&log);
    mysql.begin.family = Some(xb::server::Family::MySql);
    assert_refused(&filter(mysql.begin().manifest().bytes()), 1, "MySQL, format \"Phys\", is not one");
}

#[test]
fn members_that_make_no_sense_are_refused() {
    let log = Log::new(1000);
    let begun = || Stream::of(&log).begin();
    let cases = [
        (begun().member(FILE, b"x").manifest(), "ib_logfile0 is in the stream already"),
        (begun().begin().manifest(), "xb_begin comes a second time"),
        (begun().member("xb_mark.1", b"soon\n").manifest(), "xb_mark.1 holds no lsn"),
        (begun().member("xb_manifest", b"{}\n"), "line 1 cannot be read"),
    ];
    for (stream, about) in cases {
        assert_refused(&filter(stream.bytes()), 3, about);
    }
    let run = filter(begun().manifest().member("late", b"x").bytes());
    assert_refused(&run, 3, "late: comes after the end of the manifest");
}

#[test]
fn a_manifest_must_fit_the_log() {
    let log = Log::new(50_000);
    for (end_lsn, about) in [
        (None, "it has no end lsn"),
        (Some(log.end() - 1), "lies inside a mini-transaction"),
        (Some(C0 - 1), "is before lsn 70000"),
    ] {
        // The server has made everything durable, so that nothing has to be waited for.
        log.write(C0, log.end());
        let mut stream = Stream::of(&log).begin();
        stream.trailer.end_lsn = end_lsn.map(Lsn::new);
        assert_refused(&filter(stream.manifest().bytes()), 3, about);
    }
    let mut stream = Stream::of(&log).begin().mark(log.end());
    stream.trailer.end_lsn = Some(Lsn::new(C0 + 16));
    assert_refused(&filter(stream.manifest().bytes()), 3, "which the log had reached earlier");
    let mut stream = Stream::of(&log).begin();
    stream.trailer.backup_id = "ff".repeat(16);
    assert_refused(&filter(stream.manifest().bytes()), 3, "belongs to another backup");
}

#[test]
fn an_unusable_log_is_refused_before_anything_is_sent() {
    let log = Log::new(1000);
    let stream = || Stream::of(&log).begin().manifest().bytes();
    fs::write(log.path(), b"PHYS".repeat(100_000)).unwrap();
    let run = filter(stream());
    assert_refused(&run, 1, "10.5 to 10.7");
    assert!(run.stdout.is_empty());
    fs::remove_file(log.path()).unwrap();
    let run = filter(stream());
    assert_refused(&run, 1, "no such file");
    assert!(run.stdout.is_empty());
}

#[test]
fn a_keyring_is_refused_for_a_log_that_needs_none() {
    let log = Log::new(1000);
    let stream = Stream::of(&log).begin().manifest().bytes();
    let run = Pipeline::new().stage(xb("xb-redo").arg("--keyring=/nonexistent")).stdin_bytes(stream).run();
    assert_refused(&run, 2, "--keyring: is for MySQL; ");
    assert!(run.stdout.is_empty());
}

#[test]
fn the_log_is_found_where_datadir_says() {
    let log = Log::new(1000);
    let mut elsewhere = Stream::of(&log);
    elsewhere.begin.redo.as_mut().unwrap().dir = "/nonexistent".into();
    let run = Pipeline::new()
        .stage(xb("xb-redo").arg("--datadir").arg(log.dir.path()))
        .stdin_bytes(elsewhere.begin().manifest().bytes())
        .run();
    run.assert_ok();
    let mut relative = Stream::of(&log);
    let (above, name) = (log.dir.path().parent().unwrap(), log.dir.path().file_name().unwrap());
    relative.begin.redo.as_mut().unwrap().dir = name.to_str().unwrap().into();
    relative.begin.datadir = Some(above.to_str().unwrap().into());
    filter(relative.begin().manifest().bytes()).assert_ok();
}

/// The log has to wait here until a mark or the manifest frees it.
#[test]
fn the_spool_has_a_limit_and_a_place() {
    let log = Log::new(3_000_000);
    log.write(C0, log.end());
    let stream = || Stream::of(&log).begin().manifest().bytes();
    let run = |arguments: &[&str]| Pipeline::new().stage(xb("xb-redo").args(arguments)).stdin_bytes(stream()).run();
    assert_refused(&run(&["--spool-limit=1M"]), 1, "limit of 1048576 bytes reached");
    assert_refused(&run(&["--spool-memory=1M", "--spool-dir=/nonexistent"]), 1, "spool in /nonexistent: cannot write");
    run(&["--spool-memory=1M", "--spool-dir=/tmp", "--spool-limit=4M"]).assert_ok();
}

/// A backup that cannot become valid ends at once, even while the filter is blocked in its output.
#[test]
fn a_failure_of_the_log_ends_a_blocked_filter() {
    let log = Log::new(1000);
    let stream = Stream::of(&log).begin().member("ibdata1", &vec![7; 8 << 20]).bytes();
    let mut child = xb("xb-redo").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let feed = std::thread::spawn(move || input.write_all(&stream));
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "nobody reads its output, so it waits");
    let mut bytes = fs::read(log.path()).unwrap();
    let mut header = Header::parse(&bytes).unwrap();
    header.first_lsn = header.first_lsn.saturating_add(4096);
    bytes[..512].copy_from_slice(&header.block());
    // Written over, not replaced: as a server does that is started again.
    fs::File::options().write(true).open(log.path()).unwrap().write_all(&bytes).unwrap();
    wait_until("xb-redo to end", Duration::from_secs(20), || child.try_wait().unwrap().is_some());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(5), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(feed.join().unwrap().is_err(), "the sender has its SIGPIPE");
}

#[test]
fn a_reader_that_goes_away_is_a_broken_pipe() {
    let log = Log::new(1000);
    let stream = Stream::of(&log).begin().member("ibdata1", &vec![7; 8 << 20]).manifest().bytes();
    let run = Pipeline::new()
        .stage(xb("xb-redo"))
        .stage(crate::support::program("head").args(["-c", "100000"]))
        .stdin_bytes(stream)
        .run();
    run.assert_codes(&[141, 0]);
    assert!(run.stderr(0).contains("broken pipe"), "{}", run.stderr(0));
}
