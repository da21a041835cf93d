//! Tablespaces that DISCARD and IMPORT TABLESPACE have replaced under the same id: MariaDB's log only shows that the
//! file was deleted.

use std::fmt::Display;
use std::path::Path;

use crate::error::{Error, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::redo::mariadb::{Checkpoint, Deletions, FILE};
use crate::log::follow::mariadb::Follower;
use crate::log::follow::{Follow, POLL};
use crate::log::queue::Target;

/// Reads the live log in `dir` from a checkpoint to an LSN up to which it is durable.
pub(crate) fn between(dir: &Path, start: Checkpoint, until: Lsn) -> Result<Deletions> {
    let mut follower = Follower::begin(&dir.join(FILE), start)?;
    let target = Target { durable_lsn: until, end_lsn: Some(until), cancelled: false };
    loop {
        follower.poll(&target, &mut |_, _| Ok(()))?;
        if follower.reached(until) {
            return Ok(follower.into_deletions());
        }
        std::thread::sleep(POLL);
    }
}

/// The error for such a tablespace.
pub(crate) fn imported(name: impl Display, space: SpaceId, lsn: Lsn, deletions: &Deletions) -> Error {
    let since = "since the checkpoint that the backup begins with";
    let what = match deletions.is_sealed() {
        false => format!("tablespace {space} was discarded or imported {since}, at lsn {lsn}"),
        true => format!(
            "tablespace {space} may have been discarded or imported {since}: at lsn {lsn} a file was deleted with a name of \
             this length, and the redo log is encrypted"
        ),
    };
    Error::invalid(name, what)
        .hint("run it again after a newer checkpoint; SET GLOBAL innodb_log_checkpoint_now=ON makes one")
}
