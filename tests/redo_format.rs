//! The redo log of real servers that were killed: parsed, followed around the ring, cut and rewritten, and read by the
//! server itself, whose `End of log at LSN` must be the LSN that we found.

use std::fs;
use std::path::Path;
use std::process::Command;

use xb::innodb::Lsn;
use xb::innodb::redo::mariadb::mtr::{self, FileOp};
use xb::innodb::redo::mariadb::{Checkpoint, FILE, Header, Mtr, MtrFault, Ring, START};

use crate::support::{Flavour, Server, root, scratch, test_on};

/// A log file in memory, and what its head says.
struct Log {
    file: Vec<u8>,
    header: Header,
    checkpoint: Checkpoint,
    ring: Ring,
}

impl Log {
    fn read(data: &Path) -> Log {
        let file = fs::read(data.join(FILE)).unwrap();
        let header = Header::parse(&file).unwrap();
        let checkpoint = Checkpoint::newest(&file, header.first_lsn).expect("a checkpoint");
        let ring = Ring::new(header.first_lsn, file.len() as u64).unwrap();
        Log { file, header, checkpoint, ring }
    }

    /// Up to `len` bytes of the log from `lsn` on, joined where the file ends; never more than a lap.
    fn bytes(&self, lsn: Lsn, len: usize) -> Vec<u8> {
        let at = self.ring.offset(lsn) as usize;
        let len = len.min(self.file.len() - START);
        let mut bytes: Vec<u8> = self.file[at..].iter().take(len).copied().collect();
        bytes.extend(self.file[START..].iter().take(len - bytes.len()));
        bytes
    }

    /// All mini-transactions from the checkpoint on: start and bytes; and where and why there are no more.
    fn mtrs(&self) -> (Vec<(Lsn, Vec<u8>)>, Lsn, MtrFault) {
        let (mut found, mut lsn) = (Vec::new(), self.checkpoint.lsn);
        let mut buffer = (lsn, Vec::new());
        loop {
            if lsn.since(buffer.0) as usize + mtr::MAX + 13 > buffer.1.len() {
                buffer = (lsn, self.bytes(lsn, 4 << 20));
            }
            let bytes = &buffer.1[lsn.since(buffer.0) as usize..];
            match mtr::mtr(bytes, lsn, &self.ring, self.header.encrypted()) {
                Mtr::Complete { len } => {
                    found.push((lsn, bytes[..len].to_vec()));
                    lsn = lsn.saturating_add(len as u64);
                }
                Mtr::Bad(fault) => return (found, lsn, fault),
                Mtr::Incomplete => panic!("a mini-transaction of more than {} bytes at {lsn}", bytes.len()),
            }
        }
    }
}

/// Makes changes, and kills the server while they are only in the log.
fn killed(server: &mut Server, rounds: u32) {
    server.sql(
        "CREATE DATABASE r; CREATE TABLE r.t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT, KEY(v(20))) ENGINE=InnoDB;
         CREATE TABLE r.gone (id INT) ENGINE=InnoDB; RENAME TABLE r.gone TO r.renamed; DROP TABLE r.renamed;",
    );
    for _ in 0..rounds {
        server.sql("USE r; INSERT INTO r.t (v) SELECT REPEAT(MD5(seq), 8) FROM seq_1_to_2000; DELETE FROM r.t WHERE id % 7 = 0");
    }
    server.kill();
}

/// Recovers the directory with the server that made it and returns where it found the log's end.
fn end_of_log(server: &Server, data: &Path, options: &[String]) -> Lsn {
    let output = Command::new(server.flavour().path("mariadbd"))
        .args(["--no-defaults", "--bootstrap", "--innodb-buffer-pool-size=96M", "--innodb-log-file-size=64M"])
        .arg(format!("--datadir={}", data.display()))
        .args(root().then_some("--user=root"))
        .args(options)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("[ERROR]"), "{log}");
    let end = log.split("End of log at LSN=").nth(1).unwrap_or_else(|| panic!("no end of log:\n{log}"));
    end.split_whitespace().next().unwrap().parse().unwrap()
}

fn copy(data: &Path) -> tempfile::TempDir {
    let to = scratch();
    assert!(Command::new("cp").arg("-a").arg(data.join(".")).arg(to.path()).status().unwrap().success());
    to
}

/// The head of a captured log and the mini-transactions, all in the first lap.
fn captured(log: &Log, mtrs: &[(Lsn, Vec<u8>)]) -> Vec<u8> {
    let mut file = log.header.captured(log.checkpoint, "xb-tools test");
    for (_, bytes) in mtrs {
        let start = file.len();
        file.extend_from_slice(bytes);
        mtr::set_first_lap(&mut file[start..], log.header.encrypted()).unwrap();
    }
    file.resize(file.len().next_multiple_of(4096) + 4096, 0);
    file
}

test_on!(a_log_is_framed_up_to_the_servers_end: mariadb, mariadb118);

fn a_log_is_framed_up_to_the_servers_end(flavour: Flavour) {
    let mut server = Server::new().flag("skip-log-bin").flavour(flavour).start();
    killed(&mut server, 3);
    let log = Log::read(server.data());
    let (mtrs, end, _) = log.mtrs();
    assert!(mtrs.len() > 1000, "only {} mini-transactions", mtrs.len());
    assert!(log.header.creator.starts_with(b"MariaDB 1") && !log.header.encrypted());

    // Recovery insists on this one.
    let last_checkpoint = mtrs.iter().filter(|(lsn, _)| *lsn >= log.checkpoint.end_lsn);
    let mut checkpoints = last_checkpoint.flat_map(|(_, bytes)| mtr::files(bytes)).filter_map(|file| match file.op {
        FileOp::Checkpoint(lsn) => Some(lsn),
        _ => None,
    });
    assert_eq!(checkpoints.next(), Some(log.checkpoint.lsn));

    let files: Vec<String> = mtrs.iter().flat_map(|(_, bytes)| mtr::files(bytes)).map(|file| words(file.op)).collect();
    for want in
        ["create ./r/t.ibd", "create ./r/gone.ibd", "rename ./r/gone.ibd ./r/renamed.ibd", "delete ./r/renamed.ibd"]
    {
        assert!(files.iter().any(|file| file == want), "no {want} in {files:?}");
    }
    assert_eq!(end_of_log(&server, server.data(), &[]), end);
}

fn words(op: FileOp) -> String {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    match op {
        FileOp::Create(name) => format!("create {}", text(name)),
        FileOp::Delete(name) => format!("delete {}", text(name)),
        FileOp::Modify(name) => format!("modify {}", text(name)),
        FileOp::Rename(from, to) => format!("rename {} {}", text(from), text(to)),
        FileOp::Checkpoint(lsn) => format!("checkpoint {lsn}"),
    }
}

#[test]
fn a_log_is_followed_around_the_ring() {
    let mut server =
        Server::new().flag("skip-log-bin").log_size("4M").option("innodb-max-dirty-pages-pct-lwm", "0").start();
    // From any checkpoint there is at most a lap of log; stop when it crosses the end of the file.
    for round in 0..20 {
        if round == 0 {
            killed(&mut server, 8);
        } else {
            server.start_again();
            server.sql("USE r; INSERT INTO r.t (v) SELECT REPEAT(MD5(seq), 8) FROM seq_1_to_1500");
            server.kill();
        }
        let log = Log::read(server.data());
        let (mtrs, end, _) = log.mtrs();
        let lap = |lsn: Lsn| lsn.since(log.header.first_lsn) / log.ring.capacity();
        if lap(log.checkpoint.lsn) == lap(end) {
            continue;
        }
        assert!(
            mtrs.iter().any(|(lsn, bytes)| lap(*lsn) < lap(lsn.saturating_add(bytes.len() as u64))),
            "none crosses the end of the file"
        );
        // The same mini-transactions as a captured log: in the first lap, from offset 12288 on.
        let copy = copy(server.data());
        fs::write(copy.path().join(FILE), captured(&log, &mtrs)).unwrap();
        assert_eq!(end_of_log(&server, copy.path(), &[]), end);
        return;
    }
    panic!("the log never crossed the end of the file");
}

#[test]
fn an_encrypted_log_is_framed_and_cut_without_its_key() {
    let mut server = Server::new().flag("skip-log-bin").encrypted().start();
    killed(&mut server, 3);
    let log = Log::read(server.data());
    assert!(log.header.encrypted());
    let (mtrs, end, _) = log.mtrs();
    assert!(mtrs.len() > 1000);
    let options = [
        "--plugin-load-add=file_key_management".to_owned(),
        format!("--plugin-dir={}", server.flavour().plugins().display()),
        format!("--file-key-management-filename={}", server.home().join("keys").display()),
        "--innodb-encrypt-log=ON".to_owned(),
        "--innodb-encrypt-tables=ON".to_owned(),
    ];
    let copy = copy(server.data());
    fs::write(copy.path().join(FILE), captured(&log, &mtrs)).unwrap();
    assert_eq!(end_of_log(&server, copy.path(), &options), end);
    assert_eq!(end_of_log(&server, server.data(), &options), end);
}

#[test]
fn a_captured_log_may_be_cut_after_any_mini_transaction() {
    let mut server = Server::new().flag("skip-log-bin").start();
    killed(&mut server, 1);
    let log = Log::read(server.data());
    let (mtrs, _, _) = log.mtrs();
    let first = mtrs.iter().position(|(lsn, _)| *lsn > log.checkpoint.end_lsn).unwrap();
    for part in [first + 1, (first + mtrs.len()) / 2] {
        let (last, bytes) = &mtrs[part - 1];
        let copy = copy(server.data());
        fs::write(copy.path().join(FILE), captured(&log, &mtrs[..part])).unwrap();
        let log = Log::read(copy.path());
        assert_eq!(log.header.first_lsn, log.checkpoint.lsn);
        assert_eq!(log.mtrs().1, last.saturating_add(bytes.len() as u64));
        // Tables may be newer than this log, which a server refuses; only the reading is compared here.
    }
}

#[test]
fn recovery_does_not_open_an_original_with_data_directory() {
    let mut server = Server::new().flag("skip-log-bin").start();
    let outside = server.home().join("outside").display().to_string();
    server.sql(&format!(
        "CREATE DATABASE o; CREATE TABLE o.far (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB DATA DIRECTORY='{outside}';
         USE o; INSERT INTO o.far SELECT seq, REPEAT('x', 200) FROM seq_1_to_3000;"
    ));
    server.kill();
    let log = Log::read(server.data());
    let (mut mtrs, end, _) = log.mtrs();
    let mut rewritten = 0;
    for (_, bytes) in &mut mtrs {
        rewritten += usize::from(mtr::rewrite_names(bytes));
        assert!(!mtr::rewrite_names(bytes));
    }
    assert!(rewritten > 0, "the log does not name the table");

    let original = Path::new(&outside).join("o/far.ibd");
    let copy = copy(server.data());
    fs::copy(&original, copy.path().join("o/far.ibd")).unwrap();
    fs::remove_file(copy.path().join("o/far.isl")).unwrap();
    fs::write(copy.path().join(FILE), captured(&log, &mtrs)).unwrap();
    let before = fs::read(&original).unwrap();
    assert_eq!(end_of_log(&server, copy.path(), &[]), end);
    assert!(fs::read(&original).unwrap() == before, "the original was written to");
    let restored = server.twin(copy.path()).start();
    assert_eq!(restored.value("SELECT COUNT(*) FROM o.far"), "3000");
    let open = fs::read_dir(format!("/proc/{}/fd", restored.pid())).unwrap();
    let open: Vec<_> = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).collect();
    assert!(open.iter().any(|path| path.ends_with("o/far.ibd") && path.starts_with(copy.path())), "{open:?}");
    assert!(!open.iter().any(|path| path.starts_with(&outside)), "a restored server has the original open");
}
