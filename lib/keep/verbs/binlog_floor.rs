//! `binlog-floor`: the oldest binary log that is still needed.

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::binlog::parts;
use crate::keep::catalog::Catalog;
use crate::keep::meta::BackupKind;
use crate::keep::store::Use;

/// The oldest binary log in which the position of a backup is. Those before it are needed by no backup of the store.
///
/// # Errors
///
/// Failed, if no backup has a position, or they are of several series, for which one name is no answer; Damaged, if a
/// backup cannot be read.
pub fn run(keep: &Keep) -> Result<String> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    if let Some((_, error)) = catalog.damaged.first() {
        return Err(error.clone());
    }
    floor(&catalog)
}

fn floor(catalog: &Catalog) -> Result<String> {
    let mut oldest: Option<(&str, u64, &str)> = None;
    for backup in catalog.backups.iter().filter(|backup| backup.meta.kind != BackupKind::Files) {
        let Some(binlog) = &backup.meta.binlog else { continue };
        let parts = parts(&binlog.file);
        let (series, number) = parts.ok_or_else(|| Error::damaged(&backup.meta.id, "its binary log has no number"))?;
        match oldest {
            Some((other, ..)) if other != series => {
                let what = format_args!("backups have positions in binary logs of two names, {other} and {series}");
                return Err(Error::failed("binlog-floor", what).hint("xb-keep show STORE ID --field binlog tells each"));
            }
            Some((_, least, _)) if least <= number => {}
            _ => oldest = Some((series, number, &binlog.file)),
        }
    }
    oldest.map(|(.., file)| file.to_owned()).ok_or_else(|| Error::failed("binlog-floor", "no backup has a position"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_backups_has_none() {
        assert_eq!(floor(&Catalog::default()).unwrap_err().to_string(), "binlog-floor: no backup has a position");
    }
}
