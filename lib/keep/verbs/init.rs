//! `init`: makes a store.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::keep::settings::{self, NAME, TEMPLATE};
use crate::keep::store::local::Local;

/// Makes a store in a directory, with the settings in `config`, or those that are usual.
///
/// # Errors
///
/// Failed, if the directory is not empty; Usage, if the settings cannot be understood.
pub fn run(place: &Path, config: Option<&Path>) -> Result<()> {
    let text = match config {
        Some(path) => fs::read_to_string(path).map_err(|cause| Error::io(path.display(), "cannot read", &cause))?,
        None => TEMPLATE.to_owned(),
    };
    settings::parse(&config.unwrap_or(Path::new(NAME)).display().to_string(), &text)?;
    Local::init(place)?;
    let path = place.join(NAME);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|cause| Error::io(path.display(), "cannot write", &cause))
}
