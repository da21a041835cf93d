//! The password: in one place for all connections, and only until the last of them is made.
//!
//! The client library copies it for each connection, keeps the copy while that is open, and cannot delete it. Rust does
//! not allow a second writer to that memory, but the kernel does: zeros of the same length are written to
//! `/proc/self/mem` at the address of the copy, which is not used after the login. Freed copies are overwritten by the
//! program's allocator (`tools/xb-snap.rs`).

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

/// Clones share the password, so all of them forget it at once.
#[derive(Clone, Default)]
pub struct Password {
    text: Arc<Mutex<Option<Zeroizing<String>>>>,
    memory: Option<Arc<File>>,
}

/// The address of a copy that the library owns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at: u64,
    len: usize,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    /// No password yet. Must be created before the process is made undumpable, because then only root can open its
    /// files in /proc.
    pub fn none() -> Self {
        let memory = File::options().write(true).open("/proc/self/mem");
        Password { memory: memory.ok().map(Arc::new), ..Password::default() }
    }

    /// True if copies can be overwritten.
    pub fn leaves_no_copy(&self) -> bool {
        self.memory.is_some()
    }

    /// Sets the password, unless there is one.
    pub fn or(&self, text: impl FnOnce() -> Option<Zeroizing<String>>) {
        let mut known = self.lock();
        if known.is_none() {
            *known = text();
        }
    }

    /// Deletes the password.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// A copy, for the library.
    pub(super) fn copy(&self) -> Option<String> {
        self.lock().as_deref().cloned()
    }

    /// The address of that copy in the library.
    pub(super) fn place(copy: Option<&str>) -> Option<Place> {
        copy.map(|text| Place { at: text.as_ptr().addr() as u64, len: text.len() })
    }

    /// Overwrites it. The library must still own it, and must not read it meanwhile.
    pub(super) fn wipe(&self, place: Option<Place>) {
        if let (Some(memory), Some(Place { at, len })) = (&self.memory, place) {
            // The file is open for writing, so this can succeed.
            let _ = memory.write_all_at(&vec![0; len], at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Zeroizing<String>>> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_forget_together_and_a_copy_is_wiped() {
        let password = Password::none();
        let clone = password.clone();
        password.or(|| Some(Zeroizing::new("correct horse".to_owned())));
        password.or(|| panic!("there is one already"));
        let copy = clone.copy().unwrap();
        assert_eq!(copy, "correct horse");
        if password.leaves_no_copy() {
            let opts: mysql::Opts = mysql::OptsBuilder::new().pass(Some(copy)).into();
            clone.wipe(Password::place(opts.get_pass()));
            assert_eq!(opts.get_pass(), Some("\0".repeat(13).as_str()));
        }
        clone.forget();
        assert_eq!(password.copy(), None);
    }
}
