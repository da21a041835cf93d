//! The password: in one place for all who connect, and only until the last of them has.
//!
//! The client library takes a copy into each connection, keeps it as long as that is open, and has no way to be rid of it. A
//! second writer cannot be given to it in Rust; the system can: what is written to `/proc/self/mem` at the place of that copy
//! is zeros, as long a string, of which nobody makes use once the server has let us in. Copies that were freed on the way are
//! overwritten by the program's allocator (`tools/xb-snap.rs`).

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

/// Clones share what there is, so that it is forgotten by all at once.
#[derive(Clone, Default)]
pub struct Password {
    text: Arc<Mutex<Option<Zeroizing<String>>>>,
    memory: Option<Arc<File>>,
}

/// Where a copy is that somebody else owns.
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
    /// None yet. To be made before the process cannot be dumped any more, for then only root can open what belongs to it.
    pub fn none() -> Self {
        let memory = File::options().write(true).open("/proc/self/mem");
        Password { memory: memory.ok().map(Arc::new), ..Password::default() }
    }

    /// True if copies can be overwritten.
    pub fn leaves_no_copy(&self) -> bool {
        self.memory.is_some()
    }

    /// Takes a password, unless there is one.
    pub fn or(&self, text: impl FnOnce() -> Option<Zeroizing<String>>) {
        let mut known = self.lock();
        if known.is_none() {
            *known = text();
        }
    }

    /// From now on there is none.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// A copy, for the library.
    pub(super) fn copy(&self) -> Option<String> {
        self.lock().as_deref().cloned()
    }

    /// Where that copy is, as the library has it.
    pub(super) fn place(copy: Option<&str>) -> Option<Place> {
        copy.map(|text| Place { at: text.as_ptr().addr() as u64, len: text.len() })
    }

    /// Overwrites it. It must still belong to somebody, who does not look at it meanwhile.
    pub(super) fn wipe(&self, place: Option<Place>) {
        if let (Some(memory), Some(Place { at, len })) = (&self.memory, place) {
            // That it can be done was seen when the file was opened.
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
