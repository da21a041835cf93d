//! `last-lsn`: from where a hand-made increment begins.

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::store::Use;

/// The LSN for `xb-snap --incremental-lsn`, of the newest backup or of this one.
///
/// # Errors
///
/// Usage, if there is no such backup; Failed, if its LSN is not known.
pub fn run(keep: &Keep, id: &str) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let meta = &catalog.find(id)?.meta;
    let lsn = meta.to_lsn.ok_or_else(|| Error::failed(&meta.id, "its LSN is not known"))?;
    Ok(lsn.to_string())
}
