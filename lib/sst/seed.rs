//! `wsrep_sst_xb --seed DIR`: tells a restored data directory which state of the cluster it has, so that the node asks
//! for what it lacks, and not for everything.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::protocol::Position;
use crate::error::{Error, Result};
use crate::stream::native::names::INCOMPLETE;

/// What a backup with `--galera-info` has, under the names of both generations.
const INFO: [&str; 2] = ["xtrabackup_galera_info", "mariadb_backup_galera_info"];
/// What tells how far a backup is; it is not copied back.
const CHECKPOINTS: [&str; 2] = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];
/// Where Galera reads it.
const STATE: &str = "grastate.dat";

/// Writes `grastate.dat` into a data directory from the position of the backup that it was restored from; returns that
/// position.
///
/// # Errors
///
/// - Failed: the directory is not restored to its end, has a state already, or its backup has no position.
/// - Damaged: the position is none.
pub fn run(dir: &Path) -> Result<Position> {
    let fail = |path: &Path, what: &str, cause: &std::io::Error| Error::io(path.display(), what, cause);
    if present(&dir.join(INCOMPLETE))? {
        return Err(Error::damaged(dir.display(), "incomplete: a program has not ended well in it"));
    }
    for name in CHECKPOINTS {
        let path = dir.join(name);
        if present(&path)? {
            let text = fs::read_to_string(&path).map_err(|cause| fail(&path, "cannot read", &cause))?;
            if !["log-applied", "full-prepared"].iter().any(|kind| text.contains(kind)) {
                return Err(Error::failed(dir.display(), "is not applied yet: no server would start on it")
                    .hint(format_args!("xb-redo --apply {}", dir.display())));
            }
        }
    }
    let info = INFO.iter().map(|name| dir.join(name)).find_map(|path| match present(&path) {
        Ok(false) => None,
        Ok(true) => Some(Ok(path)),
        Err(error) => Some(Err(error)),
    });
    let info: PathBuf = info.transpose()?.ok_or_else(|| {
        Error::failed(dir.display(), format_args!("has no {}", INFO[0]))
            .hint("the backup has to be made with xb-snap --galera-info")
    })?;
    let text = fs::read_to_string(&info).map_err(|cause| fail(&info, "cannot read", &cause))?;
    let position = Position::parse(text.lines().next().unwrap_or_default())?;
    if position.seqno() < 0 {
        return Err(Error::damaged(info.display(), "the server was not a node of a cluster"));
    }
    let path = dir.join(STATE);
    let failed = |cause: std::io::Error| fail(&path, "cannot write", &cause);
    let facts = fs::metadata(dir).map_err(|cause| fail(dir, "cannot read", &cause))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o660).open(&path).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        fchown(&file, Some(facts.uid()), Some(facts.gid())).map_err(failed)?;
    }
    file.write_all(state(&position).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(position)
}

fn present(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|cause| Error::io(path.display(), "cannot read", &cause))
}

/// As Galera 4 writes it.
fn state(position: &Position) -> String {
    format!(
        "# GALERA saved state\nversion: 2.1\nuuid:    {}\nseqno:   {}\nsafe_to_bootstrap: 0\n",
        position.uuid(),
        position.seqno()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "9e6d297b-ea46-11f1-aaef-13470fd074e5";

    #[test]
    fn a_state_is_written_once_and_only_where_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let refused = |words: &str| {
            let error = run(dir.path()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(!at(STATE).exists());
        };
        refused("has no xtrabackup_galera_info");
        fs::write(at("mariadb_backup_galera_info"), "nonsense\n").unwrap();
        refused("is not UUID:SEQNO");
        fs::write(at("mariadb_backup_galera_info"), "00000000-0000-0000-0000-000000000000:-1 0\n").unwrap();
        refused("not a node");
        fs::write(at("mariadb_backup_galera_info"), format!("{UUID}:7 3\n")).unwrap();
        fs::write(at("mariadb_backup_checkpoints"), "backup_type = full-backuped\n").unwrap();
        refused("is not applied yet");
        fs::write(at("mariadb_backup_checkpoints"), "backup_type = log-applied\n").unwrap();
        fs::write(at(INCOMPLETE), "x").unwrap();
        refused("incomplete");
        fs::remove_file(at(INCOMPLETE)).unwrap();
        assert_eq!(run(dir.path()).unwrap().bare(), format!("{UUID}:7"));
        let text = fs::read_to_string(at(STATE)).unwrap();
        assert!(text.contains(&format!("uuid:    {UUID}\nseqno:   7\n")) && text.contains("safe_to_bootstrap: 0"));
        assert!(run(dir.path()).unwrap_err().to_string().contains("file exists"));
    }
}
