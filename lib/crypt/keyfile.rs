//! Reads keys from files, descriptors and systemd's credentials, and creates them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit};
use zeroize::Zeroizing;

use super::key::{self, Key};
use crate::error::{Error, Kind, Result};
use crate::io::random;

/// The environment variable with the path of the key file, if no option names one.
pub const VARIABLE: &str = "XB_KEY_FILE";
/// The systemd credential that is used if no option and no variable names a key: `LoadCredential=xb-key:/etc/xb/key`.
pub const CREDENTIAL: &str = "xb-key";

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file that no other user can read.
    File(PathBuf),
    /// A file that others may read, but not change: a mounted secret.
    Shared(PathBuf),
    /// A descriptor that the parent left open.
    Fd(RawFd),
    /// From the environment: [`VARIABLE`], then the credential [`CREDENTIAL`].
    Environment,
}

/// Bits of a mode that a key file must not have: for the owner only; and for a mounted secret, which is 0644 or 0440 by
/// default, and read-only.
const PRIVATE: u32 = 0o177;
const SHARED: u32 = 0o022;

impl Source {
    /// The path, if this is a file that other users can read.
    pub fn readable_by_others(&self) -> Option<&Path> {
        let Source::Shared(path) = self else { return None };
        fs::metadata(path).is_ok_and(|facts| facts.mode() & PRIVATE != 0).then_some(path)
    }

    /// Reads the key. Before that, it disables core files and tracing of the process by others.
    ///
    /// # Errors
    ///
    /// - Usage: the descriptor is not open or not allowed.
    /// - Key: the content is not a key.
    /// - Failed: there is no key, it cannot be read, or other users could read or change it.
    pub fn read(&self) -> Result<Key> {
        harden()?;
        match self {
            Source::File(path) => read_file(path, Some(PRIVATE)),
            Source::Shared(path) => read_file(path, Some(SHARED)),
            Source::Fd(fd) => read_fd(*fd),
            Source::Environment => {
                if let Some(path) = std::env::var_os(VARIABLE) {
                    return read_file(Path::new(&path), Some(PRIVATE));
                }
                let path = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| Path::new(&dir).join(CREDENTIAL));
                // systemd sets mode and owner of credentials by its own rules; no other user can reach them.
                path.filter(|path| path.exists()).map_or_else(|| Err(missing()), |path| read_file(&path, None))
            }
        }
    }
}

/// Creates a key of 32 random bytes, in base64, in a new file that only its owner can read.
///
/// # Errors
///
/// Failed, if the file exists or cannot be written. An incomplete file is removed.
pub fn generate(path: &Path) -> Result<()> {
    harden()?;
    let place = path.display();
    let mut bytes = Zeroizing::new([0; 32]);
    random::fill(&mut *bytes)?;
    let text = key::text(&bytes);
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => Error::failed(&place, "exists already; a key is never overwritten")
            .hint("what was encrypted under it could not be read any more; choose another name"),
        _ => Error::io(&place, "cannot create", &cause),
    })?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kept = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    kept.and_then(|()| File::open(directory)?.sync_all()).map_err(|cause| {
        // An incomplete key must not be used.
        let _ = fs::remove_file(path);
        Error::io(&place, "cannot write", &cause)
    })
}

/// Disables core files, tracing, and access to our memory by other processes of the same user.
pub(crate) fn harden() -> Result<()> {
    let fault = |cause: rustix::io::Errno| Error::io("core dumps", "cannot be turned off", &cause.into());
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(fault)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(fault)
}

fn missing() -> Error {
    Error::usage(
        "key",
        format_args!("none given: no --key-file, no --key-fd, no {VARIABLE}, no credential {CREDENTIAL}"),
    )
    .hint("xb-crypt --generate-key FILE makes one; then xb-crypt --key-file FILE")
}

fn read_file(path: &Path, forbidden: Option<u32>) -> Result<Key> {
    let place = path.display().to_string();
    let file = File::open(path).map_err(|cause| Error::io(&place, "cannot open", &cause))?;
    if let Some(forbidden) = forbidden {
        check(&place, &file, forbidden)?;
    }
    read(&place, file)
}

/// Refuses a file whose key other users could read or replace. A pipe (`<(pass show backup)`) is accepted: its mode is
/// 0600.
fn check(place: &str, file: &File, forbidden: u32) -> Result<()> {
    let meta = file.metadata().map_err(|cause| Error::io(place, "cannot look at", &cause))?;
    if !meta.is_file() && !meta.file_type().is_fifo() {
        return Err(Error::failed(place, "neither a file nor a pipe: no key can be in it"));
    }
    let (owner, user) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != user && owner != 0 {
        return Err(Error::failed(place, format_args!("refused: it belongs to user {owner}, and this is user {user}"))
            .hint(format_args!("chown {user} {place}, if you trust what is in it")));
    }
    if meta.mode() & forbidden != 0 {
        let mode = meta.mode() & 0o7777;
        let what = if forbidden == PRIVATE { "read or change" } else { "change" };
        return Err(Error::failed(place, format_args!("refused: its mode {mode:04o} lets others {what} the key"))
            .hint(format_args!(
                "chmod 600 {place}; --allow-readable-key accepts a mounted secret that others can only read"
            )));
    }
    Ok(())
}

fn read_fd(fd: RawFd) -> Result<Key> {
    let place = format!("--key-fd {fd}");
    if (0..3).contains(&fd) {
        return Err(Error::usage(&place, "0, 1 and 2 carry data and messages").hint("xb-crypt --key-fd 3 3< FILE"));
    }
    // Both ways return a descriptor of our own without unsafe code. The second is for kernels before 5.6 and sandboxes
    // that forbid the first; it opens files anew and cannot open sockets.
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .and_then(|process| rustix::process::pidfd_getfd(process, fd, PidfdGetfdFlags::empty()))
        .map(File::from)
        .or_else(|_| File::open(format!("/proc/self/fd/{fd}")));
    let file =
        own.map_err(|_| Error::usage(&place, "is not open").hint(format_args!("xb-crypt --key-fd {fd} {fd}< FILE")))?;
    read(&place, file)
}

fn read(place: &str, mut file: File) -> Result<Key> {
    // Has its final size, because growing would leave copies in memory.
    let mut bytes = Zeroizing::new([0; 4096]);
    let mut seen = 0;
    while let Some(rest) = bytes.get_mut(seen..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => seen += count,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(Error::io(place, "cannot read", &cause)),
        }
    }
    if seen == bytes.len() {
        return Err(Error::new(Kind::Key, place, "too long for a key: 4096 bytes and more"));
    }
    key::parse(bytes.split_at(seen).0)
        .map_err(|fault| Error::new(Kind::Key, place, fault).hint("xb-crypt --generate-key FILE makes a good one"))
}
