//! Lines for people: the error log, syslog, log files and their archive.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::args::Role;
use crate::error::{Error, Result};

/// A line of the server's error log, as the stock scripts write it.
pub(super) fn line(level: &str, text: &str) -> String {
    format!("WSREP_SST: [{level}] {text} ({})", jiff::Zoned::now().strftime("%Y%m%d %H:%M:%S.%3f"))
}

/// Messages to syslog, by logger(1).
pub(super) struct Syslog(Mutex<ChildStdin>);

impl Syslog {
    /// Starts it; `prefix` stands before the tag.
    pub(super) fn start(prefix: &str, role: Role) -> Result<Syslog> {
        let prefix =
            if prefix.is_empty() { std::env::var("SST_SYSLOG_TAG").unwrap_or_default() } else { prefix.to_owned() };
        let dash = if prefix.is_empty() { "" } else { "-" };
        let role = if role == Role::Donor { "donor" } else { "joiner" };
        let mut logger = Command::new("logger");
        logger.args(["-p", "daemon.info", "-t", &format!("{prefix}{dash}wsrep-sst-{role}")]);
        logger.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = logger.spawn().map_err(|cause| Error::io("logger", "cannot start", &cause))?;
        let input = child.stdin.take().ok_or_else(|| Error::failed("logger", "has no input"))?;
        Ok(Syslog(Mutex::new(input)))
    }

    /// False if nobody takes it.
    pub(super) fn say(&self, text: &str) -> bool {
        let text = format!("{text}\n");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes()).is_ok()
    }
}

/// Moves a log of an earlier transfer into the archive, compressed. True if a new one may begin; false: what is there is
/// added to.
pub(super) fn archive(log: &Path, dir: Option<&Path>, say: impl Fn(&str)) -> bool {
    let Some(dir) = dir else { return true };
    if !fs::symlink_metadata(log).is_ok_and(|facts| facts.is_file() && facts.len() > 0) {
        return true;
    }
    store(log, dir).inspect_err(|error| say(&format!("{error}; the old log is kept, and added to"))).is_ok()
}

fn store(log: &Path, dir: &Path) -> Result<()> {
    let fail = |cause: &std::io::Error| Error::io(dir.display(), "cannot keep an old log there", cause);
    match DirBuilder::new().recursive(true).mode(0o750).create(dir) {
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => return Err(fail(&cause)),
        _ => {}
    }
    let facts = fs::symlink_metadata(dir).map_err(|cause| fail(&cause))?;
    let own = rustix::process::geteuid().as_raw();
    if !facts.is_dir() || facts.mode() & 0o002 != 0 || (facts.uid() != own && facts.uid() != 0) {
        return Err(Error::failed(dir.display(), "others can write there, so no log is kept there"));
    }
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let time = jiff::Zoned::now().strftime("%Y.%m.%d-%H.%M.%S.%9f").to_string();
    let path = dir.join(format!("{name}.{time}.gz"));
    let from = File::open(log).map_err(|cause| fail(&cause))?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path).map_err(|cause| fail(&cause))?;
    let status = Command::new("gzip").arg("-c").stdin(from).stdout(to).stderr(Stdio::null()).status();
    if status.map_err(|cause| Error::io("gzip", "cannot start", &cause))?.success() {
        return fs::remove_file(log).map_err(|cause| fail(&cause));
    }
    let _ = fs::remove_file(&path);
    Err(Error::failed(dir.display(), "an old log could not be compressed"))
}

/// A file or FIFO for progress. A FIFO that nobody reads is an error, not a wait.
pub(super) fn progress(path: &Path) -> Result<Mutex<File>> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file =
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags.bits().cast_signed()).open(path);
    file.map(Mutex::new).map_err(|cause| Error::io(path.display(), "cannot write progress there", &cause))
}

/// Adds a line.
pub(super) fn append(file: &Mutex<File>, text: &[u8]) {
    // Progress that cannot be shown is no reason to fail.
    let line = [text, b"\n"].concat();
    let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_log_goes_to_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let (log, old) = (dir.path().join("innobackup.backup.log"), dir.path().join("old"));
        assert!(archive(&log, Some(&old), |_| panic!("nothing to say")), "there is none");
        fs::write(&log, "hello\n").unwrap();
        assert!(archive(&log, Some(&old), |text| panic!("{text}")));
        let kept = fs::read_dir(&old).unwrap().next().unwrap().unwrap().path();
        let text = Command::new("gzip").arg("-dc").arg(&kept).output().unwrap().stdout;
        assert_eq!(text, b"hello\n");
        let name = kept.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("innobackup.backup.log.2") && name.ends_with(".gz"), "{name}");
        fs::write(&log, "again\n").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        assert!(!archive(&log, Some(&dir.path().join("link")), |_| {}), "not through a link of others");
        assert!(log.exists());
    }
}
