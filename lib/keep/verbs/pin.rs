//! `pin` and `unpin`: what `prune` must keep, and no longer must.

use crate::error::Result;
use crate::keep::Keep;
use crate::keep::catalog;
use crate::keep::meta::{Note, What};
use crate::keep::store::Use;

/// Pins a backup, or ends that. What is so already stays so.
///
/// # Errors
///
/// Usage, if there is no such backup; Failed, if the store cannot be written.
pub fn run(keep: &Keep, id: &str, pin: bool) -> Result<()> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(id)?;
    if backup.is_pinned() == pin {
        return Ok(());
    }
    let what = if pin { What::Pinned } else { What::Unpinned };
    catalog::note(&*keep.store, &backup.meta.id, &Note::new(what, true))
}
