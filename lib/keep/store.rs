//! Where backups are kept: named objects that are written once and never changed.
//!
//! This is the only thing that `keep` knows of storage. An object exists when it is complete, never before; nothing is
//! overwritten or appended to. So another kind of storage needs these few operations and no more.

pub mod local;

use std::io::{Read, Write};

use crate::error::{Error, Result};

/// An object, as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its name: parts of letters, digits, `-`, `_` and `.`, separated by slashes.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An object on its way into the store. If it is dropped before [`Upload::publish`], nothing is left of it.
pub trait Upload: Write + Send {
    /// Makes the object exist: once this returns, it survives a power cut.
    ///
    /// # Errors
    ///
    /// Failed, if it cannot be written, or an object has this name already.
    fn publish(self: Box<Self>) -> Result<()>;
}

/// How a verb uses the store while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reads backups, which must not be pruned meanwhile. Any number at a time.
    Read,
    /// Adds a backup. One at a time.
    Add,
    /// Adds binary logs, also while others add and remove backups. One at a time.
    Follow,
    /// Removes backups: alone.
    Prune,
}

/// Held as long as a verb uses the store. The kernel releases it with the process.
pub trait Held: Send {}

/// Space in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this user.
    pub free: u64,
    /// Used and free, as `df` has it: without what is reserved for root.
    pub total: u64,
}

/// A store of immutable objects.
pub trait Store: Send + Sync {
    /// What messages call it.
    fn place(&self) -> String;

    /// Begins a new object.
    ///
    /// # Errors
    ///
    /// Failed, if nothing can be written here.
    fn create(&self, name: &str) -> Result<Box<dyn Upload>>;

    /// Reads `len` bytes from `from` on, or all up to the end. Fewer bytes are an error of the read.
    ///
    /// # Errors
    ///
    /// Damaged, if the object is missing or shorter; Failed, if it cannot be read.
    fn read(&self, name: &str, from: u64, len: Option<u64>) -> Result<Box<dyn Read + Send>>;

    /// All objects whose names begin with `prefix`, sorted by name.
    ///
    /// # Errors
    ///
    /// Failed, if the store cannot be read.
    fn list(&self, prefix: &str) -> Result<Vec<Object>>;

    /// Removes an object, which need not exist.
    ///
    /// # Errors
    ///
    /// Failed, if it exists and cannot be removed.
    fn remove(&self, name: &str) -> Result<()>;

    /// Removes what uploads left behind that were cut off; returns how many bytes. Only under [`Use::Prune`].
    ///
    /// # Errors
    ///
    /// Failed, if something cannot be removed.
    fn sweep(&self) -> Result<u64>;

    /// The space of the storage, if it has a limit that is known.
    ///
    /// # Errors
    ///
    /// Failed, if it cannot be found out.
    fn space(&self) -> Result<Option<Space>>;

    /// Announces a use, and fails at once if another use excludes it.
    ///
    /// # Errors
    ///
    /// Failed, if the store is in use.
    fn hold(&self, how: Use) -> Result<Box<dyn Held>>;
}

/// The largest small object, in bytes. An index of a large backup may be larger, and is read as a stream.
const SMALL: u64 = 16 << 20;

/// The content of a small object.
///
/// # Errors
///
/// As [`Store::read`]; Damaged, if it is far too large.
pub fn small(store: &dyn Store, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = store.read(name, 0, None)?.take(SMALL + 1).read_to_end(&mut bytes);
    read.map_err(|cause| Error::io(name, "cannot read", &cause))?;
    if bytes.len() as u64 > SMALL {
        return Err(Error::damaged(name, "far too large for what its name says"));
    }
    Ok(bytes)
}

/// Writes a small object.
///
/// # Errors
///
/// As [`Upload::publish`].
pub fn put(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<()> {
    let mut upload = store.create(name)?;
    upload.write_all(bytes).map_err(|cause| Error::io(name, "cannot write", &cause))?;
    upload.publish()
}

/// True for a name that an object may have.
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let known = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    name.len() <= 255 && name.split('/').all(part)
}
