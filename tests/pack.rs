//! The guarantees of xb-pack.

use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::tool::{
    Dice, bad, feed, good, pack, peak_kib, plain_tree, plant, said, scratch, tool, tree, unpack, within,
};
use crate::support::{Server, backup};

fn names(stream: &[u8]) -> Vec<String> {
    let list = good(feed(tool("xb-unpack").arg("-t"), stream));
    let list = String::from_utf8(list).unwrap();
    let mut names: Vec<String> = list.lines().map(|line| line.trim_start().split_once(' ').unwrap().1.into()).collect();
    names.retain(|name| name != "xb_begin" && name != "xb_manifest");
    names.sort();
    names
}

#[test]
fn mbstream_unpacks_what_we_pack_byte_for_byte() {
    let dir = scratch();
    let src = dir.path().join("src");
    let mut dice = Dice(1);
    plant(&src, &[("a.ibd", &dice.bytes(5 << 20)), ("d/b.frm", &dice.bytes(700)), ("d/empty", b""), ("x.zst", b"zst")]);
    for args in [&["-j3"][..], &["--no-manifest"], &["--buffer-size=4k"], &["--buffer-size=1m"]] {
        let stream = good(pack(&src, args));
        let (theirs, ours) = (scratch(), scratch());
        good(feed(within("mbstream", theirs.path()).arg("-x"), &stream));
        good(unpack(ours.path(), &["--no-sync"], &stream));
        assert_eq!(plain_tree(theirs.path()), tree(&src));
        assert_eq!(tree(ours.path()), tree(theirs.path()));
        assert_eq!(tree(ours.path()).contains_key(Path::new("xb_manifest")), !args.contains(&"--no-manifest"));
    }
}

#[test]
fn names_are_clean_and_relative_however_they_are_given() {
    let dir = scratch();
    plant(dir.path(), &[("d/a", b"1"), ("d/e/b", b"2"), ("c", b"3")]);
    let packed = |paths: &[&str]| {
        let run = feed(tool("xb-pack").arg("-C").arg(dir.path()).args(paths), b"");
        names(&good(run))
    };
    assert_eq!(packed(&["."]), ["c", "d/a", "d/e/b"]);
    assert_eq!(packed(&["./d//", "./c"]), ["c", "d/a", "d/e/b"]);
    assert_eq!(packed(&["d/./e"]), ["d/e/b"]);
    assert_eq!(packed(&["d", "d/a", "c", "c"]), ["c", "d/a", "d/e/b"], "named twice, packed once");
    for path in ["/etc/passwd", "../x", "d/../c"] {
        bad(&feed(tool("xb-pack").arg("-C").arg(dir.path()).arg(path), b""), 2, "relative");
    }
    bad(&feed(&mut tool("xb-pack"), b""), 2, "PATH");
}

#[test]
fn lists_name_files_by_line_or_by_nul() {
    let dir = scratch();
    plant(dir.path(), &[("a", b"1"), ("b c", b"2"), ("new\nline", b"3"), ("left", b"4")]);
    let pack = |args: &[&str], list: &[u8]| feed(tool("xb-pack").arg("-C").arg(dir.path()).args(args), list);
    assert_eq!(names(&good(pack(&["-T", "-"], b"a\n./b c\n"))), ["a", "b c"]);
    assert_eq!(names(&good(pack(&["-0", "-T-"], b"new\nline\0a"))), ["a", "new\\x0aline"]);
    bad(&pack(&["-T", "-"], b"a\nmissing\n"), 1, "missing: cannot read: no such file");
}

#[test]
fn excludes_leave_out_files_and_whole_directories() {
    let dir = scratch();
    plant(dir.path(), &[("a.ibd", b"1"), ("d/b.tmp", b"2"), ("d/c", b"3"), ("tmp/x", b"4")]);
    assert_eq!(names(&good(pack(dir.path(), &["--exclude=*.tmp", "--exclude=tmp"]))), ["a.ibd", "d/c"]);
    assert_eq!(names(&good(pack(dir.path(), &["--exclude", "d/*"]))), ["a.ibd", "tmp/x"]);
}

#[test]
fn an_unreadable_file_fails_before_the_first_byte() {
    let dir = scratch();
    plant(dir.path(), &[("a", b"1")]);
    let run = feed(tool("xb-pack").arg("-C").arg(dir.path()).args(["a", "missing"]), b"");
    bad(&run, 1, "missing: cannot read");
    assert!(run.stdout.is_empty());
    // What was sent before must not look like a complete stream.
    plant(dir.path(), &[("b", &[1; 100_000])]);
    let stream = good(pack(dir.path(), &[]));
    assert_eq!(feed(tool("xb-unpack").arg("--verify"), &stream[..stream.len() / 2]).status.code(), Some(3));
}

#[test]
fn a_file_that_shrinks_fails_and_gets_no_end_mark() {
    let dir = scratch();
    plant(dir.path(), &[("a", &Dice(2).bytes(16 << 20))]);
    let mut child = tool("xb-pack")
        .args(["-j1", "-C"])
        .arg(dir.path())
        .arg("a")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // So much is more than `xb_begin`: the file has been opened. The pipe holds a megabyte at most: the rest of it has
    // not been read.
    let mut stream = vec![0; 64 << 10];
    child.stdout.as_mut().unwrap().read_exact(&mut stream).unwrap();
    std::fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap().set_len(8 << 20).unwrap();
    let rest = child.wait_with_output().unwrap();
    bad(&rest, 1, "a: became shorter while it was read");
    stream.extend(&rest.stdout);
    assert_eq!(feed(tool("xb-unpack").arg("--verify"), &stream).status.code(), Some(3));
}

#[test]
fn holes_survive() {
    let dir = scratch();
    let src = dir.path().join("src");
    plant(&src, &[("late", b""), ("all", b"")]);
    let file = std::fs::OpenOptions::new().write(true).open(src.join("late")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"island", 40 << 20).unwrap();
    std::fs::OpenOptions::new().write(true).open(src.join("all")).unwrap().set_len(9_000_000).unwrap();
    let out = dir.path().join("out");
    good(unpack(&out, &["--no-sync"], &good(pack(&src, &[]))));
    assert!(plain_tree(&out) == tree(&src));
    for name in ["late", "all"] {
        assert!(
            out.join(name).metadata().unwrap().blocks() <= src.join(name).metadata().unwrap().blocks() + 8,
            "{name}"
        );
    }
}

#[test]
fn symlinks_are_followed_and_loops_are_found() {
    let dir = scratch();
    plant(dir.path(), &[("data/x", b"1"), ("elsewhere/y", b"2")]);
    symlink("../elsewhere", dir.path().join("data/link")).unwrap();
    symlink("x", dir.path().join("data/file")).unwrap();
    assert_eq!(names(&good(pack(&dir.path().join("data"), &[]))), ["file", "link/y", "x"]);
    symlink("..", dir.path().join("data/loop")).unwrap();
    bad(&pack(&dir.path().join("data"), &[]), 1, "leads back");
}

#[test]
fn what_a_stream_cannot_hold_is_said() {
    let dir = scratch();
    plant(dir.path(), &[("a", b"1"), (".my.cnf", b"2")]);
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
    let run = pack(dir.path(), &[]);
    drop(socket);
    for word in ["empty: empty directory", "sock: left out: not a regular file", ".my.cnf: mbstream refuses names"] {
        assert!(said(&run).contains(word), "{word}: {}", said(&run));
    }
    assert_eq!(names(&good(run)), [".my.cnf", "a"]);
    plant(dir.path(), &[("xb_manifest/t.ibd", b"1")]);
    bad(&pack(dir.path(), &[]), 1, "xb_manifest/t.ibd: is in a directory with the name of a member of our own");
    good(pack(dir.path(), &["--no-manifest"]));
}

#[test]
fn an_unpacked_directory_becomes_the_stream_that_it_came_from() {
    let dir = scratch();
    plant(&dir.path().join("src"), &[("a", b"1"), ("d/b", b"2")]);
    let out = dir.path().join("out");
    let first = good(pack(&dir.path().join("src"), &["-j1"]));
    good(unpack(&out, &[], &first));
    assert!(good(pack(&out, &["-j1"])) == first);

    plant(&out, &[("a", b"changed")]);
    bad(&pack(&out, &[]), 3, "a: 7 bytes, the manifest says 1");
    good(feed(tool("xb-unpack").arg("--verify"), &good(pack(&out, &["--exclude=xb_*"]))));
    bad(&pack(&out, &["--exclude=xb_manifest"]), 1, "packed without xb_manifest");
    plant(&out, &[("xb_incomplete", b"")]);
    bad(&pack(&out, &[]), 1, "whose unpacking did not finish");
}

/// Its digests of pages are a member that the manifest lists, not a mark of the directory.
#[test]
fn an_unpacked_backup_is_packed_whole() {
    let (server, dir) = (Server::new().start(), scratch());
    backup::take(&server, &[], dir.path());
    let stream = good(pack(dir.path(), &[]));
    assert!(names(&stream).iter().any(|name| name == "xb_pages"));
    good(feed(tool("xb-unpack").arg("--verify"), &stream));
}

#[test]
fn a_reader_that_goes_away_ends_it_by_sigpipe() {
    let dir = scratch();
    plant(dir.path(), &[("a", &Dice(3).bytes(8 << 20))]);
    let script = r#""$1" -C "$2" a | head -c 1000 >/dev/null; echo ${PIPESTATUS[0]}"#;
    let mut bash = Command::new("bash");
    let run = feed(bash.args(["-c", script, "bash"]).arg(tool("xb-pack").get_program()).arg(dir.path()), b"");
    assert_eq!(run.stdout, b"141\n");
    assert!(said(&run).contains("stdout: cannot write: broken pipe"), "{}", said(&run));
}

#[test]
fn memory_does_not_follow_the_size_of_files() {
    let dir = scratch();
    plant(dir.path(), &[("b", &Dice(4).bytes(1 << 20))]);
    std::fs::OpenOptions::new().write(true).open(dir.path().join("b")).unwrap().set_len(256 << 20).unwrap();
    let mut child =
        tool("xb-pack").args(["-j4", "-C"]).arg(dir.path()).arg(".").stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::io::copy(&mut (&mut stdout).take(250 << 20), &mut std::io::sink()).unwrap();
    let peak = peak_kib(&child);
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(peak < 32 << 10, "{peak} KiB");
}

#[test]
fn large_queues_are_spooled_to_disk_and_removed() {
    let (dir, spool) = (scratch(), scratch());
    let (files, list) = (dir.path().join("files"), dir.path().join("list"));
    let long = "d".repeat(240);
    // More than 2 MiB of names, and more content than a pipe takes.
    let names: Vec<String> = (0..5000).map(|n| format!("{long}/{n:0240}")).collect();
    std::fs::create_dir_all(files.join(&long)).unwrap();
    std::fs::write(files.join("first"), vec![1; 3 << 20]).unwrap();
    names.iter().for_each(|name| drop(std::fs::File::create(files.join(name)).unwrap()));
    std::fs::write(&list, format!("first\n{}", names.join("\n"))).unwrap();
    let pack = || {
        let mut command = tool("xb-pack");
        command.arg("-C").arg(&files).arg("-T").arg(&list).args(["-j1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    for (asked, place) in [(Some(spool.path()), spool.path()), (None, Path::new("/var/tmp"))] {
        let mut child = pack().env_remove("TMPDIR").envs(asked.map(|dir| ("TMPDIR", dir))).spawn().unwrap();
        // The first bytes are out when all names are gathered; the rest waits for us.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 100]).unwrap();
        let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        let open: Vec<_> = open.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()).collect();
        let spooled =
            |path: &&std::path::PathBuf| path.starts_with(place) && path.to_string_lossy().ends_with("(deleted)");
        assert_eq!(open.iter().filter(spooled).count(), 1, "{open:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "something was left");
    let run = pack().env("TMPDIR", "/nonexistent").output().unwrap();
    bad(&run, 1, "spool in /nonexistent: cannot write: no such file or directory");
}
