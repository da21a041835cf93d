//! The guarantees of xb-unpack, above all where the original programs break them.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::tool::{
    Dice, bad, chunk, feed, good, member, pack, payload, peak_kib, peak_so_far, plain_tree, plant, said, scratch, tool,
    tree, unpack, within,
};

fn ours(files: &[(&str, &[u8])]) -> Vec<u8> {
    let dir = scratch();
    plant(dir.path(), files);
    good(pack(dir.path(), &["-j1"]))
}

// --- What the originals accept (`facts/xbstream#extraction`) ---

#[test]
fn a_member_without_end_mark_is_truncated_and_goes_away() {
    let dir = scratch();
    let stream = [member("whole", b"1"), payload("half", 0, b"22")].concat();
    bad(&unpack(dir.path(), &[], &stream), 3, "truncated: half has 2 bytes and no end mark");
    let files: Vec<_> = tree(dir.path()).into_keys().collect();
    assert_eq!(files, [Path::new("whole"), Path::new("xb_incomplete")]);
}

#[test]
fn an_empty_input_is_no_backup_unless_it_may_be() {
    let dir = scratch();
    bad(&unpack(dir.path(), &[], b""), 3, "empty");
    assert!(tree(dir.path()).is_empty());
    good(unpack(dir.path(), &["--allow-empty"], b""));
}

#[test]
fn the_same_path_twice_is_damage() {
    let stream = [member("a", b"1"), member("a", b"2")].concat();
    bad(&unpack(scratch().path(), &[], &stream), 3, "a: comes a second time");
    let cleaned = [member("d/a", b"1"), member("./d//a", b"2")].concat();
    bad(&unpack(scratch().path(), &[], &cleaned), 3, "second time");
}

#[test]
fn an_unwritable_file_is_named_and_ends_the_run() {
    let dir = scratch();
    let long = "n".repeat(300);
    bad(&unpack(dir.path(), &[], &member(&long, b"1")), 1, &long);

    let dir = scratch();
    std::fs::write(dir.path().join("t1"), "a file").unwrap();
    bad(&unpack(dir.path(), &["--overwrite"], &member("t1/x", b"1")), 1, "t1/x: cannot create");
    bad(&unpack(Path::new("/proc/xb-test"), &[], &member("t1", b"1")), 1, "/proc/xb-test");
}

#[test]
fn an_unprivileged_user_is_told_what_is_forbidden() {
    let dir = scratch();
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = tool("xb-unpack");
    if rustix::process::geteuid().is_root() {
        // Root is never refused; a copy of the program runs as somebody else.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(command.get_program(), dir.path().join("program")).unwrap();
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(dir.path().join("program"));
    }
    let run = feed(command.arg("-C").arg(&locked), &member("t1", b"1"));
    bad(&run, 1, "permission denied");
}

#[test]
fn an_existing_file_is_never_replaced_by_accident() {
    let dir = scratch();
    plant(dir.path(), &[("a", b"kept")]);
    bad(&unpack(dir.path(), &[], &member("b", b"new")), 1, "is not empty");
    assert_eq!(tree(dir.path()).len(), 1);
    good(unpack(dir.path(), &["--overwrite"], &member("a", b"new")));
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"new");

    let dir = scratch();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    good(unpack(dir.path(), &[], &member("a", b"1")));
}

#[test]
fn what_is_to_be_kept_is_neither_replaced_nor_removed() {
    let dir = scratch();
    let kept: &[(&str, &[u8])] = &[("a", b"kept"), ("db/t", b"kept")];
    plant(dir.path(), kept);
    good(unpack(dir.path(), &["--keep-existing"], &[member("b", b"1"), member("db/u", b"2")].concat()));
    // MariaDB's dialect has chunks that replace (flag 2), rename and remove.
    let rename = [&1u32.to_le_bytes()[..], b"a"].concat();
    let attacks =
        [member("a", b"new"), chunk(b'E', 2, b"a", &[]), [member("c", b"1"), chunk(b'R', 0, b"c", &rename)].concat()];
    for (number, attack) in attacks.iter().enumerate() {
        let run = unpack(dir.path(), &["--keep-existing"], attack);
        assert!(!run.status.success(), "{number}: {}", said(&run));
        let _ = std::fs::remove_file(dir.path().join("xb_incomplete"));
        let _ = std::fs::remove_file(dir.path().join("c"));
        let found = tree(dir.path());
        assert!(kept.iter().all(|(name, text)| found[Path::new(name)] == *text), "{number}");
    }
    good(unpack(dir.path(), &["--keep-existing"], &chunk(b'D', 0, b"a", &[])));
    assert_eq!(tree(dir.path()).len(), 4);
    plant(dir.path(), &[("xb_incomplete", b"")]);
    bad(&unpack(dir.path(), &["--keep-existing"], &member("d", b"1")), 1, "left unfinished");
}

#[test]
fn notes_about_what_was_there_before_go_with_it() {
    let dir = scratch();
    let notes = ["xb_applied", "xb_merging", "xb_aside.0", "xb_merged.xb_begin", "xb_new.xb_applied", "xb_server.log"];
    for name in notes.iter().chain(&["xb_ts.ibd", "kept"]) {
        plant(dir.path(), &[(name, b"of before")]);
    }
    std::fs::write(dir.path().join("xb_lock"), "").unwrap();
    // xb-redo is running.
    let mut locked = Command::new("flock");
    locked.arg(dir.path().join("xb_lock")).arg(tool("xb-unpack").get_program()).arg("--overwrite");
    bad(&feed(locked.arg("-C").arg(dir.path()), &member("a", b"new")), 1, "is running in it");
    assert!(!dir.path().join("a").exists() && !dir.path().join("xb_incomplete").exists());
    good(unpack(dir.path(), &["--overwrite"], &member("a", b"new")));
    assert_eq!(
        tree(dir.path()).keys().map(|name| name.to_str().unwrap()).collect::<Vec<_>>(),
        ["a", "kept", "xb_ts.ibd"]
    );
}

#[test]
fn names_that_begin_with_a_dot_are_taken() {
    let dir = scratch();
    plant(dir.path(), &[("src/a", b"1"), ("src/.hidden", b"2")]);
    let stream = good(feed(within("mbstream", &dir.path().join("src")).args(["-c", "./a", ".hidden"]), b""));
    let out = dir.path().join("out");
    good(unpack(&out, &[], &stream));
    assert_eq!(tree(&out), tree(&dir.path().join("src")));
}

#[test]
fn the_names_of_renames_and_removes_are_checked() {
    let dir = scratch();
    let target = dir.path().join("target");
    plant(dir.path(), &[("victim", b"kept")]);
    let rename = |from: &str, to: &str| {
        let mut rest = u32::try_from(to.len()).unwrap().to_le_bytes().to_vec();
        rest.extend(to.as_bytes());
        chunk(b'R', 0, from.as_bytes(), &rest)
    };
    let absolute = dir.path().join("victim").to_str().unwrap().to_owned();
    for attack in [
        rename("a", "../victim"),
        rename("a", &absolute),
        rename("../victim", "a"),
        chunk(b'D', 0, b"../victim", &[]),
        chunk(b'D', 0, absolute.as_bytes(), &[]),
        chunk(b'D', 0, b"xb_incomplete", &[]),
        rename("a", "xb_manifest"),
        rename("missing", "b"),
    ] {
        let run = unpack(&target, &["--overwrite"], &[member("a", b"1"), attack].concat());
        assert_eq!(run.status.code(), Some(3), "{}", said(&run));
        assert!(target.join("xb_incomplete").exists());
        assert_eq!(std::fs::read(dir.path().join("victim")).unwrap(), b"kept");
    }
}

#[test]
fn no_symlink_in_the_target_leads_out_of_it() {
    let dir = scratch();
    let target = dir.path().join("target");
    plant(dir.path(), &[("outside/kept", b"kept"), ("target/x", b"")]);
    symlink("../outside", target.join("db")).unwrap();
    symlink("../outside/new", target.join("link")).unwrap();
    bad(&unpack(&target, &["--overwrite"], &member("db/new", b"1")), 1, "symlink");
    good(unpack(&target, &["--overwrite"], &member("link", b"1")));
    assert_eq!(tree(&dir.path().join("outside")).len(), 1);
}

#[test]
fn directories_of_any_depth_are_made_with_tight_modes() {
    let dir = scratch();
    good(feed(
        Command::new("sh")
            .args(["-c", "umask 0; exec \"$@\"", "sh"])
            .arg(tool("xb-unpack").get_program())
            .arg("-C")
            .arg(dir.path().join("new/target")),
        &member("d/e/f/g", b"1"),
    ));
    let mode = |path: &str| dir.path().join("new/target").join(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("d/e/f/g"), mode("d/e"), mode("")), (0o640, 0o750, 0o750));
}

// --- Targets that are never accepted ---

#[test]
fn a_target_is_marked_until_its_manifest_is_in_place() {
    let stream = ours(&[("a", b"1"), ("d/b", b"2")]);
    let dir = scratch();
    bad(&unpack(dir.path(), &[], &stream[..stream.len() - 30]), 3, "truncated");
    assert!(dir.path().join("xb_incomplete").exists() && !dir.path().join("xb_manifest").exists());
    bad(&unpack(dir.path(), &[], &stream), 1, "an earlier run left unfinished");
    good(unpack(dir.path(), &["--overwrite"], &stream));
    let files: Vec<_> = tree(dir.path()).into_keys().collect();
    assert_eq!(files, ["a", "d/b", "xb_begin", "xb_manifest"].map(Path::new));

    // A complete directory must not look complete after a bad stream has been unpacked into it.
    bad(&unpack(dir.path(), &["--overwrite"], &stream[..300]), 3, "truncated");
    assert!(dir.path().join("xb_incomplete").exists() && !dir.path().join("xb_manifest").exists());
}

#[test]
fn a_killed_run_leaves_a_marked_directory() {
    let dir = scratch();
    let stream = ours(&[("a", &[7; 3_000_000]), ("b", b"2")]);
    let mut child = tool("xb-unpack").arg("-C").arg(dir.path()).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&stream[..2_500_000]).unwrap();
    wait_for(|| dir.path().join("a").metadata().is_ok_and(|facts| facts.len() > 1_000_000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dir.path().join("xb_incomplete").exists() && !dir.path().join("xb_manifest").exists());
}

#[test]
fn a_full_disk_fails_and_the_sender_gets_sigpipe() {
    let dir = scratch();
    // More than the pipe and the reader's buffers hold.
    plant(dir.path(), &[("src/a", &Dice(1).bytes(3 << 20)), ("src/b", &Dice(2).bytes(60 << 20))]);
    std::fs::create_dir(dir.path().join("full")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=1m none full || exit 77
        "$1" -C src . | "$2" -C full
        echo ${PIPESTATUS[@]}; ls full"#;
    let run = feed(
        within("unshare", dir.path())
            .args(["-rm", "bash", "-c", script, "bash"])
            .arg(tool("xb-pack").get_program())
            .arg(tool("xb-unpack").get_program()),
        b"",
    );
    if run.status.code() != Some(0) {
        eprintln!("skipped: no tmpfs of our own can be mounted here: {}", said(&run));
        return;
    }
    assert!(said(&run).contains("cannot write: no space left on device"), "{}", said(&run));
    let out = String::from_utf8(run.stdout).unwrap();
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("141 1"));
    let left: Vec<_> = lines.filter(|name| *name != "xb_begin").collect();
    assert_eq!(left, ["xb_incomplete"]);
}

// --- Streams of our own ---

#[test]
fn a_manifest_of_other_content_is_damage() {
    let one = ours(&[("a", b"1111"), ("b", b"2")]);
    let other = one.windows(4).position(|bytes| bytes == b"1111").unwrap();
    let head = payload("a", 0, b"1111").len() - 4;
    // The payload differs and has a valid CRC: only the manifest can tell.
    let forged = [&one[..other - head], &payload("a", 0, b"1112"), &one[other + 4..]].concat();
    bad(&unpack(scratch().path(), &[], &forged), 3, "a: its content differs");

    let b = member("b", b"2");
    let at = one.windows(b.len()).position(|bytes| bytes == b).unwrap();
    let lost = [&one[..at], &one[at + b.len()..]].concat();
    bad(&unpack(scratch().path(), &[], &lost), 3, "b: missing");
    let more = [&one[..at], &member("c", b"3"), &one[at..]].concat();
    bad(&unpack(scratch().path(), &[], &more), 3, "not in it");
    bad(&unpack(scratch().path(), &[], &[one.clone(), member("c", b"3")].concat()), 3, "after the end of the manifest");
    let begin = one.windows(8).skip(8).position(|bytes| bytes == b"XBSTCK01").unwrap() + 8;
    bad(&unpack(scratch().path(), &[], &one[begin..]), 3, "xb_begin");
}

#[test]
fn marks_for_xb_redo_are_no_files() {
    let one = ours(&[("a", b"1")]);
    let a = member("a", b"1");
    let at = one.windows(a.len()).position(|bytes| bytes == a).unwrap();
    let marked = [&one[..at], &member("xb_mark.1", b"{}"), &one[at..], &[]].concat();
    let dir = scratch();
    good(unpack(dir.path(), &[], &marked));
    assert!(!dir.path().join("xb_mark.1").exists() && dir.path().join("a").exists());
}

#[test]
fn completeness_of_a_foreign_stream_is_not_claimed() {
    let run = feed(tool("xb-unpack").arg("--verify"), &member("a", b"1"));
    assert!(said(&run).contains("nothing proves that"), "{}", said(&run));
    assert!(said(&run).contains("whole: 1 members"), "{}", said(&run));
    good(run);
}

#[test]
fn other_formats_are_named() {
    for (input, word) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd\0\0\0\0\0\0\0\0\0\0\0\0", "zstd"),
        (b"mariadb-backup: command not found\n", "text"),
        (b"XBCRYP03\0\0\0\0\0\0\0\0\0\0\0\0", "xbcrypt"),
    ] {
        let dir = scratch();
        bad(&unpack(&dir.path().join("new"), &[], input), 3, word);
        assert!(!dir.path().join("new").exists(), "nothing was to be written");
    }
}

// --- Listing and selecting ---

#[test]
fn members_are_listed_in_the_order_in_which_they_end() {
    let stream = [payload("a", 0, b"1"), member("d/b\n", b"22"), chunk(b'E', 0, b"a", &[])].concat();
    let text = good(feed(tool("xb-unpack").arg("-t"), &stream));
    assert_eq!(String::from_utf8(text).unwrap(), format!("{:>15} d/b\\x0a\n{:>15} a\n", 2, 1));
    let json = good(feed(tool("xb-unpack").args(["-t", "--json"]), &stream));
    let lines: Vec<serde_json::Value> =
        String::from_utf8(json).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["name"].as_str(), lines[1]["size"].as_u64()), (Some("d/b\n"), Some(1)));
    assert_eq!(lines[1]["blake3"].as_str().unwrap(), blake3::hash(b"1").to_string());
    bad(&feed(tool("xb-unpack").arg("-t"), &stream[..stream.len() - 5]), 3, "truncated");
}

#[test]
fn picked_members_are_written_and_all_are_verified() {
    let stream = ours(&[("db/a.ibd", b"1"), ("db2/a.ibd", b"2"), ("x.cnf", b"3")]);
    let dir = scratch();
    good(unpack(dir.path(), &["db", "*.cnf"], &stream));
    let files: Vec<_> = tree(dir.path()).into_keys().collect();
    assert_eq!(files, ["db/a.ibd", "x.cnf"].map(Path::new));
    bad(&unpack(scratch().path(), &["db"], &stream[..stream.len() - 40]), 3, "truncated");
    bad(&unpack(scratch().path(), &["nothing*"], &stream), 1, "nothing*: matches no member");
}

// --- Size ---

#[test]
fn many_members_open_at_once_need_few_descriptors() {
    let mut stream = Vec::new();
    for round in 0..3u64 {
        for number in 0..1500 {
            stream.extend(payload(&format!("f{number}"), round, &[b'0' + round as u8]));
        }
    }
    for number in 0..1500 {
        stream.extend(chunk(b'E', 0, format!("f{number}").as_bytes(), &[]));
    }
    let dir = scratch();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 300; exec \"$@\"", "sh"]).arg(tool("xb-unpack").get_program());
    good(feed(limited.arg("--no-sync").arg("-C").arg(dir.path()), &stream));
    let files = tree(dir.path());
    assert_eq!(files.len(), 1500);
    assert!(files.values().all(|content| content == b"012"));
}

#[test]
fn memory_does_not_follow_what_a_chunk_announces() {
    let dir = scratch();
    let mut child =
        tool("xb-unpack").arg("-C").arg(dir.path()).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut rest = (1u64 << 40).to_le_bytes().to_vec();
    rest.extend([0; 12]);
    stdin.write_all(&chunk(b'P', 0, b"huge", &rest)).unwrap();
    let piece = Dice(3).bytes(1 << 20);
    for _ in 0..128 {
        stdin.write_all(&piece).unwrap();
    }
    let peak = peak_kib(&child);
    drop(stdin);
    bad(&child.wait_with_output().unwrap(), 3, "huge");
    assert!(peak < 32 << 10, "{peak} KiB");
}

#[test]
fn zeros_become_holes_unless_they_must_not() {
    let mut content = Dice(4).bytes(8 << 20);
    content[1 << 20..7 << 20].fill(0);
    let stream = ours(&[("a", &content), ("zero", &[0; 1 << 20])]);
    let blocks = |args: &[&str]| {
        let dir = scratch();
        good(unpack(dir.path(), args, &stream));
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), content);
        assert_eq!(std::fs::read(dir.path().join("zero")).unwrap(), vec![0; 1 << 20]);
        dir.path().join("a").metadata().unwrap().blocks() * 512
            + dir.path().join("zero").metadata().unwrap().blocks() * 512
    };
    assert!(blocks(&[]) <= (2 << 20) + 65536);
    assert!(blocks(&["--sparse=never"]) >= 9 << 20);
}

#[test]
fn what_mbstream_packs_is_unpacked_byte_for_byte() {
    let dir = scratch();
    let src = dir.path().join("src");
    let mut dice = Dice(5);
    plant(&src, &[("a.ibd", &dice.bytes(11 << 20)), ("d/e.frm", &dice.bytes(700)), ("d/empty", b"")]);
    let stream = good(feed(within("mbstream", &src).args(["-c", "a.ibd", "d/e.frm", "d/empty"]), b""));
    let out = dir.path().join("out");
    good(unpack(&out, &[], &stream));
    assert_eq!(tree(&out), tree(&src));
}

/// As many as a server with very many tables has; memory does not follow their number.
#[test]
fn a_hundred_thousand_small_files_go_through() {
    const FILES: usize = 100_000;
    let dir = scratch();
    let src = dir.path().join("src");
    for number in 0..FILES {
        let path = src.join(format!("db{}/t{number}.frm", number % 10));
        if number < 10 {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        std::fs::write(path, format!("table {number}")).unwrap();
    }
    let mut packing = tool("xb-pack").arg("-C").arg(&src).arg(".").stdout(Stdio::piped()).spawn().unwrap();
    let (mut out, mut bytes) = (packing.stdout.take().unwrap(), Vec::new());
    let mut buffer = vec![0; 1 << 20];
    let mut packed = 0;
    loop {
        packed = packed.max(peak_so_far(&packing).unwrap_or(0));
        match out.read(&mut buffer).unwrap() {
            0 => break,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    assert!(packing.wait().unwrap().success());
    assert!((1..32 << 10).contains(&packed), "xb-pack took {packed} KiB");

    let mut verifying = tool("xb-unpack").arg("--verify").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut into = verifying.stdin.take().unwrap();
    // It waits for the last bytes while it is asked how much memory it took.
    let (most, rest) = bytes.split_at(bytes.len() - 100);
    into.write_all(most).unwrap();
    let verified = peak_kib(&verifying);
    into.write_all(rest).unwrap();
    drop(into);
    let run = verifying.wait_with_output().unwrap();
    assert!(said(&run).contains(&format!("{} members", FILES + 2)), "{}", said(&run));
    good(run);
    assert!(verified < 32 << 10, "xb-unpack --verify took {verified} KiB");

    let out = dir.path().join("out");
    good(unpack(&out, &["--no-sync"], &bytes));
    assert!(plain_tree(&out) == plain_tree(&src));
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}
