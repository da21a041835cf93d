//! MariaDB: runs the server in bootstrap mode, with the (empty) lock file as its standard input, so that it executes no
//! statement.
//!
//! If the source server had crashed, its binary log, if copied, decides about prepared transactions. Bootstrap mode
//! does not read it, so the server is started normally, with an init file that shuts it down. A copy made without locks
//! may have prepared transactions that had not been acknowledged when it ended: these are rolled back.
//!
//! A backup differs from a crashed data directory in three ways, and each is settled before the first run: the log gets
//! its final length and names (see `layout`); it is read to its end, which must be the end LSN; and
//! `--innodb-log-file-size` is set to the length of the file, so that the server does not replace the file and its
//! creator `Backup …`. So the first run must report exactly the end LSN as the end of the log, and a later one the end
//! LSN or beyond: LSNs only grow, and the end LSN was reached before anything was added.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::options::loaded;
use super::{Pass, Run};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::restore::files::{self, fail};
use crate::stream::native::names::{INIT, SERVER_FILES};

const TABLES: &str = "innodb_encrypt_tables";
const LOG: &str = "innodb_encrypt_log";
const LOG_BIN: &str = "log_bin";
/// The option for prepared transactions about which no binary log decides.
const HEURISTIC: &str = "tc_heuristic_recover";

/// Sets the arguments of the server.
pub(super) fn arguments(command: &mut Command, run: &Run<'_>, socket: &Path) -> Result<()> {
    clean(run.dir)?;
    match super::binlog(run)? {
        // What the binary log decides, it has decided.
        _ if run.pass == Pass::Prepared => {
            command.args([super::prefixed("--socket=", socket), "--pid-file=xb_server.pid".into()]);
            command.args(["--skip-grant-tables", "--secure-file-priv=/dev/null", "--skip-log-bin"]);
        }
        Some(binlog) => {
            let init = run.dir.join(INIT);
            fs::write(&init, "SHUTDOWN;\n").map_err(|cause| fail(&init, "cannot write", &cause))?;
            // Names without a directory are below the data directory. An empty name means no socket.
            command.args([&format!("--init-file={INIT}"), "--socket=", "--pid-file=xb_server.pid"]);
            command.args(["--skip-grant-tables", "--secure-file-priv=/dev/null"]);
            command.args(binlog);
        }
        None => {
            command.args(["--bootstrap", "--skip-log-bin"]);
            if run.pass == Pass::Heuristic {
                command.arg("--tc-heuristic-recover=ROLLBACK");
            }
        }
    }
    command.args(["--skip-networking", "--skip-slave-start", "--skip-log-error", "--event-scheduler=OFF"]);
    command.args(["--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"]);
    command.arg(format!("--innodb-log-file-size={}", run.log_size));
    // Do not rotate keys or encrypt pages: whether data is encrypted is not changed by a restore.
    command.arg("--loose-innodb-encryption-threads=0");
    command.args(passed(run.options));
    Ok(())
}

/// Removes files that a run has left.
pub(super) fn clean(dir: &Path) -> Result<()> {
    SERVER_FILES.iter().try_for_each(|name| files::remove(&dir.join(name)))
}

/// True if prepared transactions may be rolled back.
pub(super) fn rolls_back(run: &Run<'_>) -> bool {
    run.options.get(HEURISTIC).is_some_and(|value| value == "ROLLBACK")
}

/// True for the message of a server that has prepared transactions and no binary log to decide about them. It repeats
/// the message at each start.
pub(super) fn is_undecided(error: &str) -> bool {
    error.starts_with("Found ") && error.contains(" prepared transactions!")
}

/// Treats as encrypted what the backup does not describe. A server that does not encrypt by default would write the
/// pages of such a table in clear; one that does leaves tables that never were encrypted as they are.
pub(super) fn keep_secret(options: &mut BTreeMap<String, String>, log_is_encrypted: bool) {
    if loaded(options).any(|plugin| plugin.ends_with("key_management")) {
        options.entry(TABLES.into()).or_insert_with(|| "ON".into());
    }
    if log_is_encrypted {
        options.insert(LOG.into(), "ON".into());
    }
}

/// The source's options that recovery needs, as arguments.
fn passed(options: &BTreeMap<String, String>) -> Vec<String> {
    // [`arguments`] handles these two.
    let passed = options.iter().filter(|(key, _)| !matches!(key.as_str(), LOG_BIN | HEURISTIC));
    passed
        .map(|(key, value)| {
            // The server must start even if it does not know a checksum algorithm or a plugin's option.
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

/// Compares the end of the log, as the server reports it, with the end LSN.
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
