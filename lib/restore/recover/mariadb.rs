//! MariaDB: bootstrap mode, whose standard input, the (empty) lock file, has no statement.
//!
//! After a crash of the source, a binary log that came along decides about prepared transactions, of which bootstrap mode
//! knows nothing: then it is an ordinary start with an init file that shuts down. A copy made without locks has
//! transactions prepared that were not acknowledged when it ended: these are rolled back.
//!
//! Three things are particular to a backup, and each is settled before the first run: the log has its final length and
//! names (see `layout`), it was walked and ends at the end LSN, and `--innodb-log-file-size` is the length that the
//! file has, so that the server does not replace the file and its creator `Backup …` with it. So the first run must say
//! that the log ends at exactly the end LSN, and a later one that it ends at the end LSN or beyond: LSNs only grow, and
//! the end LSN was reached before anything was added.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Run;
use super::options::loaded;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::restore::files::{self, fail};
use crate::stream::native::names::{INIT, SERVER_FILES};

const TABLES: &str = "innodb_encrypt_tables";
const LOG: &str = "innodb_encrypt_log";
const LOG_BIN: &str = "log_bin";
/// What may be done with prepared transactions that no binary log decides about.
const HEURISTIC: &str = "tc_heuristic_recover";

/// The arguments of the server.
pub(super) fn arguments(command: &mut Command, run: &Run<'_>) -> Result<()> {
    clean(run.dir)?;
    match super::binlog(run)? {
        Some(binlog) => {
            let init = run.dir.join(INIT);
            fs::write(&init, "SHUTDOWN;\n").map_err(|cause| fail(&init, "cannot write", &cause))?;
            // Names without a directory are below the data directory. Without a name there is no socket.
            command.args([&format!("--init-file={INIT}"), "--socket=", "--pid-file=xb_server.pid"]);
            command.args(["--skip-grant-tables", "--secure-file-priv=/dev/null"]);
            command.args(binlog);
        }
        None => {
            command.args(["--bootstrap", "--skip-log-bin"]);
            if run.roll_back {
                command.arg("--tc-heuristic-recover=ROLLBACK");
            }
        }
    }
    command.args(["--skip-networking", "--skip-slave-start", "--skip-log-error", "--event-scheduler=OFF"]);
    command.args(["--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"]);
    command.arg(format!("--innodb-log-file-size={}", run.log_size));
    // Nothing is to be rotated or encrypted anew: what the source has in clear is its own affair.
    command.arg("--loose-innodb-encryption-threads=0");
    command.args(passed(run.options));
    Ok(())
}

/// Takes away what a run has left.
pub(super) fn clean(dir: &Path) -> Result<()> {
    SERVER_FILES.iter().try_for_each(|name| files::remove(&dir.join(name)))
}

/// True if what is prepared may be rolled back.
pub(super) fn rolls_back(run: &Run<'_>) -> bool {
    run.options.get(HEURISTIC).is_some_and(|value| value == "ROLLBACK")
}

/// True for what a server says that has prepared transactions and nothing that decides about them. It says so each time.
pub(super) fn is_undecided(error: &str) -> bool {
    error.starts_with("Found ") && error.contains(" prepared transactions!")
}

/// What the backup does not say is taken for secret. A server that does not encrypt by default writes each page of a table
/// that was encrypted by default in clear; one that does leaves what never was encrypted as it is.
pub(super) fn keep_secret(options: &mut BTreeMap<String, String>, log_is_encrypted: bool) {
    if loaded(options).any(|plugin| plugin.ends_with("key_management")) {
        options.entry(TABLES.into()).or_insert_with(|| "ON".into());
    }
    if log_is_encrypted {
        options.insert(LOG.into(), "ON".into());
    }
}

/// The options of the source that recovery needs, as arguments.
fn passed(options: &BTreeMap<String, String>) -> Vec<String> {
    // Those two are for [`arguments`].
    let passed = options.iter().filter(|(key, _)| !matches!(key.as_str(), LOG_BIN | HEURISTIC));
    passed
        .map(|(key, value)| {
            // A checksum algorithm or a plugin's option that this server does not know must not stop it.
            let loose =
                if matches!(key.as_str(), "innodb_page_size" | "innodb_data_file_path") || key.starts_with("plugin") {
                    ""
                } else {
                    "loose-"
                };
            format!("--{loose}{}={value}", key.replace('_', "-"))
        })
        .collect()
}

/// Holds where the log ends, by the server, against the end LSN.
pub(super) fn agree(run: &Run<'_>, lsn: Lsn) -> Result<()> {
    let end = run.end_lsn;
    if lsn == end || (!run.first && lsn > end) {
        return Ok(());
    }
    let what = format!("the server found the end of the log at lsn {lsn}, the backup ends at {end}");
    Err(Error::damaged(run.dir.display(), what).hint("the directory is half recovered now; unpack the backup again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backup_does_not_say_is_secret() {
        let keys = ("plugin_load_add".to_owned(), "provider_lz4;file_key_management".to_owned());
        let mut options = BTreeMap::from([keys.clone()]);
        keep_secret(&mut options, true);
        let expect = [
            "--loose-innodb-encrypt-log=ON",
            "--loose-innodb-encrypt-tables=ON",
            "--plugin-load-add=provider_lz4;file_key_management",
        ];
        assert_eq!(passed(&options), expect);
        let mut options = BTreeMap::from([keys, (TABLES.into(), "OFF".into())]);
        keep_secret(&mut options, false);
        assert_eq!(options.get(TABLES).unwrap(), "OFF");
        let mut options = BTreeMap::new();
        keep_secret(&mut options, false);
        assert!(options.is_empty());
    }
}
