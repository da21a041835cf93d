//! Injects faults: full disks, limits, closed descriptors, an ordinary user.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A small file system of its own, in memory. Dropped, it is unmounted.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// A disk of this many bytes; none without root, which is said.
    pub fn new(bytes: u64) -> Option<SmallDisk> {
        if !super::root() {
            super::skip("a small disk can be mounted only by root");
            return None;
        }
        let directory = super::scratch();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0777"), "xb-test"])
            .arg(directory.path())
            .output()
            .expect("cannot run mount");
        if !mounted.status.success() {
            super::skip(&format!("no mounts here: {}", String::from_utf8_lossy(&mounted.stderr)));
            return None;
        }
        Some(SmallDisk { directory })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.directory.path()).status();
    }
}

/// A directory in which there is little room: for root a disk of its own, for others a limit on every file.
pub struct LittleRoom {
    disk: Option<SmallDisk>,
    directory: TempDir,
    bytes: u64,
}

impl LittleRoom {
    pub fn new(bytes: u64) -> LittleRoom {
        let disk = if super::root() { SmallDisk::new(bytes) } else { None };
        LittleRoom { disk, directory: super::scratch(), bytes }
    }

    pub fn path(&self) -> &Path {
        self.disk.as_ref().map_or_else(|| self.directory.path(), SmallDisk::path)
    }

    /// The same command, with this little space.
    pub fn of(&self, command: &Command) -> Command {
        match self.disk {
            Some(_) => through("exec \"$@\"", command).build(),
            None => file_size_limit(command, self.bytes),
        }
    }

    /// The system's words when it is full.
    pub fn words(&self) -> &'static str {
        if self.disk.is_some() { "no space left on device" } else { "file too large" }
    }
}

/// The same command; no file that it writes can grow beyond `bytes`: `EFBIG`, not a signal.
pub fn file_size_limit(command: &Command, bytes: u64) -> Command {
    let mut limited = through("trap '' XFSZ; limit=$1; shift; exec prlimit --fsize=\"$limit\" -- \"$@\"", command);
    limited.args.insert(0, bytes.to_string().into());
    limited.build()
}

/// The same command, with one of the descriptors 0, 1, 2 closed. In a [`super::Pipeline`], that pipe does not exist for
/// it.
pub fn closed(command: &Command, descriptor: u8) -> Command {
    through(&format!("exec \"$@\" {descriptor}>&-"), command).build()
}

/// The same command, with a stdout that takes nothing.
pub fn full(command: &Command) -> Command {
    through("exec \"$@\" > /dev/full", command).build()
}

/// The same command as an ordinary user (nobody); as it is when we are one already.
pub fn ordinary_user(command: Command) -> Command {
    nobody(command, "--clear-groups")
}

/// The same, in root's group as well, to which the files of a server belong that root has started.
pub fn of_the_servers_group(command: Command) -> Command {
    nobody(command, "--groups=0")
}

fn nobody(command: Command, groups: &str) -> Command {
    if !super::root() {
        return command;
    }
    let mut dropped = Command::new("setpriv");
    dropped.args(["--reuid=65534", "--regid=65534", groups, "--"]);
    dropped.arg(command.get_program()).args(command.get_args());
    dropped
}

/// A command that a shell starts.
struct Through {
    script: String,
    args: Vec<std::ffi::OsString>,
    directory: Option<PathBuf>,
}

fn through(script: &str, command: &Command) -> Through {
    let args = std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    Through { script: script.to_owned(), args, directory: command.get_current_dir().map(Path::to_path_buf) }
}

impl Through {
    fn build(self) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &self.script, "sh"])
            .args(self.args)
            .current_dir(self.directory.unwrap_or_else(|| ".".into()));
        shell
    }
}

/// The same command, with at most `bytes` of writable memory in addition to program and libraries. A signal ends one
/// that needs more.
pub fn memory_limit(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.args([&format!("--data={bytes}"), "--"]).arg(command.get_program()).args(command.get_args());
    limited
}

/// The same; also limits its processor time in seconds, after which a signal ends it. Unlike elapsed time, that does
/// not depend on the load of the machine.
pub fn limits(command: &Command, bytes: u64, seconds: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.args([&format!("--data={bytes}"), &format!("--cpu={seconds}"), "--"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}
