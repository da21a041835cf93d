//! `xb_prints`: unchanged files are not read again, and all others are.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::support::backup::{apply, take};
use crate::support::pipeline::Run;
use crate::support::tool::{bad, member, unpack};
use crate::support::{Pipeline, Server, output, program, scratch, xb};

const FILE: &str = "mysql/innodb_index_stats.ibd";

/// Inverts a byte and puts the time back at which the file was written.
fn touch(dir: &Path) {
    let file = File::options().read(true).write(true).open(dir.join(FILE)).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 40_000).unwrap();
    file.write_all_at(&[!byte[0]], 40_000).unwrap();
    file.set_times(FileTimes::new().set_modified(written)).unwrap();
    assert_eq!(file.metadata().unwrap().modified().unwrap(), written);
}

/// `--apply --verbose` with more options.
fn applied(dir: &Path, options: &[&str]) -> Run {
    let mut command = apply(dir);
    command.arg("--verbose").args(options);
    Pipeline::new().stage(command).run()
}

/// How many files were not read again, and of how many; `None` without the message.
fn unread(run: &Run) -> Option<(u64, u64)> {
    let line = run.stderr(0).lines().find(|line| line.contains("files are as xb-unpack left them"))?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Some((numbers[0], numbers[1]))
}

#[track_caller]
fn damaged(run: &Run) {
    run.assert_codes(&[3]);
    assert!(
        run.stderr(0).contains(&format!("{FILE}: its content differs from what the manifest says")),
        "{}",
        run.story()
    );
}

fn copy(from: &Path, to: &Path) {
    output({
        let mut cp = program("cp");
        cp.arg("-a").arg(from).arg(to);
        cp
    });
}

#[test]
fn what_changed_since_it_was_unpacked_is_read_again() {
    let server = Server::new().start();
    let home = scratch();
    let dir = home.path().join("backup");
    take(&server, &[], &dir);
    let [first, second, third] = ["first", "second", "third"].map(|name| home.path().join(name));
    copy(&dir, &first);
    copy(&dir, &second);

    touch(&dir);
    damaged(&applied(&dir, &[]));
    touch(&dir);
    let to = format!("--to={}", third.display());
    let run = applied(&dir, &[&to]);
    run.assert_ok();
    // A copy is no more as xb-unpack left it than one by another program is.
    assert_eq!(unread(&run).map(|(unread, _)| unread), Some(0), "{}", run.story());
    assert!(!third.join("xb_prints").exists());

    let run = applied(&dir, &[]);
    run.assert_ok();
    let (few, all) = unread(&run).unwrap();
    assert_eq!(few + 1, all, "{}", run.story());
    // They are true no more.
    assert!(!dir.join("xb_prints").exists());

    touch(&second);
    damaged(&applied(&second, &[]));
    let run = applied(&first, &[]);
    run.assert_ok();
    assert_eq!(unread(&run).map(|(unread, _)| unread), Some(0), "{}", run.story());
}

#[test]
fn a_backup_is_packed_with_its_pages_and_without_prints() {
    let server = Server::new().start();
    let home = scratch();
    let dir = home.path().join("backup");
    take(&server, &[], &dir);
    let again = home.path().join("again");
    Pipeline::new()
        .stage(xb("xb-pack").arg("-C").arg(&dir).arg("."))
        .stage(xb("xb-unpack").arg("-C").arg(&again))
        .run()
        .assert_ok();
    let [old, new] = [&dir, &again].map(|dir| fs::read(dir.join("xb_pages")).unwrap());
    assert!(old == new);
    let [old, new] = [&dir, &again].map(|dir| fs::read(dir.join("xb_prints")).unwrap());
    assert!(old != new);
}

/// The position in the binary log that InnoDB has stored is recorded as well, as by mariadb-backup.
#[test]
fn everything_is_read_on_request() {
    let server = Server::new().start();
    server.sql("CREATE DATABASE sb; CREATE TABLE sb.t (id INT PRIMARY KEY); INSERT INTO sb.t VALUES (1)");
    let home = scratch();
    let dir = home.path().join("backup");
    take(&server, &[], &dir);
    let status = &server.rows("SHOW MASTER STATUS")[0];
    let run = applied(&dir, &["--verify"]);
    run.assert_ok();
    assert_eq!(unread(&run), None, "{}", run.story());
    let noted = fs::read_to_string(dir.join("xtrabackup_binlog_pos_innodb")).unwrap();
    assert!(noted.ends_with(&format!("{}\t{}\n", status[0], status[1])), "{noted} {status:?}");
}

#[test]
fn no_stream_brings_prints() {
    for name in ["xb_prints", "./xb_prints", "xb_prints.new"] {
        let dir = scratch();
        let said = unpack(dir.path(), &[], &member(name, b"{}"));
        if name == "xb_prints.new" {
            assert!(!dir.path().join("xb_prints").exists());
        } else {
            bad(&said, 3, "xb_prints: a name that only xb-unpack gives");
        }
    }
}
