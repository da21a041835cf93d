//! `show`: all that is known of one backup, or one field of it.

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::store::{self, Use};
use crate::keep::verbs::list;

/// The backup as JSON; one field with dots between names: `binlog.file`. Text without quotes.
///
/// # Errors
///
/// Usage, if there is no such backup or field.
pub fn run(keep: &Keep, id: &str, field: Option<&str>) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let value = list::value(catalog.find(id)?);
    let Some(field) = field else {
        return serde_json::to_string_pretty(&value).map_err(|_| Error::internal("a backup cannot be written as JSON"));
    };
    let found = field.split('.').try_fold(&value, |value, name| value.get(name));
    match found {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(Error::usage(field, "is not known of this backup").hint("xb-keep show STORE ID shows all fields")),
    }
}

/// What the programs said that made it.
///
/// # Errors
///
/// Usage, if there is no such backup; Failed, if it has no log.
pub fn log(keep: &Keep, id: &str) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(id)?;
    let log = backup.meta.log.as_ref().ok_or_else(|| Error::failed(&backup.meta.id, "has no log, for it was added"))?;
    let bytes = store::small(&*keep.store, &backup.object(&log.object))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
