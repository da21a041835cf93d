//! The metadata members: what both families have in common.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::server::{Session, Variables};

/// Names and contents.
pub(super) type Members = Vec<(&'static str, String)>;

/// Asks for variables again: one that was switched on since counts as on.
pub(super) fn switched_on(options: &mut BTreeMap<String, String>, names: &[&str], session: &mut Session) -> Result<()> {
    let now = Variables::of(session)?;
    for name in names {
        if let (Some(value), Some(then)) = (now.get(name), options.get_mut(*name))
            && matches!(then.as_str(), "OFF" | "0")
        {
            value.clone_into(then);
        }
    }
    Ok(())
}
