//! `cat`: a backup, or some of its members, as a stream again.

use std::fs::File;

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::chain::Ear;
use crate::keep::source::Wanted;
use crate::keep::store::Use;
use crate::report::Report;
use crate::stream::native::plain_name;
use crate::stream::pick::Patterns;

/// Writes a stream to `output`: as it is stored with `raw`, otherwise plain. With patterns only the members that match,
/// which are read from where they are.
///
/// # Errors
///
/// Damaged, if what is stored is; Failed, if a pattern matches nothing; Usage, if there is no such backup.
pub fn run(keep: &Keep, id: &str, patterns: &[String], raw: bool, output: File, report: &dyn Report) -> Result<()> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(id)?;
    let ear = Ear::default();
    let outcome = keep.with_source(backup, |source| {
        if raw {
            return source.raw(&output, report);
        }
        if patterns.is_empty() {
            return source.run(Wanted::Whole, &[], output, &ear, report).map(drop);
        }
        let patterns = Patterns::new(patterns)?;
        let picks = |path: &[u8]| patterns.picks(plain_name(path));
        source.run(Wanted::Members { picks: &picks, entries: false }, &[], output, &ear, report)?;
        match patterns.unused() {
            Some(pattern) => Err(Error::failed(pattern, "matches no member of the backup")
                .hint("xb-keep list STORE ID shows its members")),
            None => Ok(()),
        }
    });
    ear.tell(report);
    outcome
}
