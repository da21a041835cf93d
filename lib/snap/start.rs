//! Where the copy begins: c0, read from the redo log before the first page. Source: spec section 8.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::innodb::redo::mariadb::{Checkpoint, FILE, Fault, Format, Header, START};

/// Head of the log: header and newest checkpoint. A block that is being written is read again.
pub(super) fn read(dir: &Path) -> Result<(Header, Checkpoint)> {
    let path = dir.join(FILE);
    let fail = |cause| {
        let hint = "run xb-snap as the server's user, or as root; it must run on the server's host";
        Error::io(path.display(), "cannot read", &cause).hint(hint)
    };
    let file = std::fs::File::open(&path).map_err(fail)?;
    let mut head = vec![0; START];
    let begun = Instant::now();
    loop {
        file.read_exact_at(&mut head, 0).map_err(fail)?;
        let fault = match Header::parse(&head) {
            Ok(header) => match Checkpoint::newest(&head, header.first_lsn) {
                Some(checkpoint) => return Ok((header, checkpoint)),
                None => "neither checkpoint can be read".to_owned(),
            },
            Err(fault @ Fault::Checksum { .. }) => fault.to_string(),
            Err(fault) => return Err(Error::failed(path.display(), fault)),
        };
        if begun.elapsed() > Duration::from_secs(5) {
            return Err(Error::damaged(path.display(), fault));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The format word as `xb_begin` carries it.
pub(super) fn format_name(header: &Header) -> &'static str {
    match header.format {
        Format::Phys if !header.encrypted() => "Phys",
        Format::Phys | Format::Encrypted => "encrypted",
    }
}
