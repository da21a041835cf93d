//! `status`: for monitoring.

use jiff::Timestamp;

use crate::error::Result;
use crate::keep::Keep;
use crate::keep::binlog::Archive;
use crate::keep::status::{self, Status};

/// Judges the store. It takes no lock: monitoring must not wait, nor keep others waiting.
///
/// # Errors
///
/// Failed, if the store cannot be read.
pub fn run(keep: &Keep) -> Result<Status> {
    let catalog = keep.catalog()?;
    let archives = Archive::all(&*keep.store)?;
    let space = keep.store.space()?;
    Ok(status::judge(&catalog, &archives, &keep.settings.status, space, Timestamp::now()))
}
