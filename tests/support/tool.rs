//! Runs one of our tools on bytes, and examines what it left.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub use super::{scratch, xb as tool};

/// A program of the system in a directory.
pub fn within(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    command
}

/// Runs a command on bytes.
pub fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A tool that has seen enough closes its end.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    })
}

/// The messages of a run.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts success, and returns stdout.
pub fn good(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}: {}", output.status, said(&output));
    output.stdout
}

/// Asserts the exit code and a word of the message.
pub fn bad(output: &Output, code: i32, word: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    assert!(said(output).contains(word), "{word:?} is not in: {}", said(output));
}

/// `xb-unpack ARGS -C DIR` on bytes.
pub fn unpack(dir: &Path, args: &[&str], stream: &[u8]) -> Output {
    feed(tool("xb-unpack").args(args).arg("-C").arg(dir), stream)
}

/// `xb-pack ARGS -C DIR .`
pub fn pack(dir: &Path, args: &[&str]) -> Output {
    feed(tool("xb-pack").args(args).arg("-C").arg(dir).arg("."), b"")
}

/// Every file below a directory, with its content.
pub fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// The same without the members that our own streams add.
pub fn plain_tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(dir);
    files.retain(|path, _| !path.to_str().is_some_and(|path| path.starts_with("xb_")));
    files
}

/// Writes files below a directory.
pub fn plant(dir: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Numbers that look random, the same in every run (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Most memory that a running process ever had, in KiB.
pub fn peak_kib(child: &Child) -> u64 {
    peak_so_far(child).unwrap()
}

/// The same, unless it has ended.
pub fn peak_so_far(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Verifies a plain stream of ours in this process: with success, its manifest has proved it.
pub fn proved(stream: &[u8]) -> xb::Result<()> {
    let options = xb::unpack::Options {
        destination: None,
        pick: xb::stream::pick::Patterns::default(),
        list: None,
        inspect: None,
        allow_empty: false,
        threads: 1,
        buffer: xb::unpack::BUFFER_MIN,
        budget: xb::budget::Budget::default(),
    };
    let summary = xb::unpack::unpack(stream, &options, &())?;
    assert!(summary.proved, "a stream of ours was taken for a foreign one");
    Ok(())
}

/// A chunk of a stream, by hand.
pub fn chunk(kind: u8, flags: u8, path: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"XBSTCK01".to_vec();
    bytes.extend([flags, kind]);
    bytes.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
    bytes.extend(path);
    bytes.extend(rest);
    bytes
}

/// A whole small member, by hand.
pub fn member(path: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = payload(path, 0, content);
    bytes.extend(chunk(b'E', 0, path.as_bytes(), &[]));
    bytes
}

/// A payload chunk, by hand.
pub fn payload(path: &str, offset: u64, content: &[u8]) -> Vec<u8> {
    let mut rest = (content.len() as u64).to_le_bytes().to_vec();
    rest.extend(offset.to_le_bytes());
    rest.extend(crc32fast::hash(content).to_le_bytes());
    rest.extend(content);
    chunk(b'P', 0, path.as_bytes(), &rest)
}
