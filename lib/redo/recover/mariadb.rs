//! MariaDB: bootstrap mode, whose standard input, the (empty) lock file, has no statement.
//!
//! After a crash of the source, a binary log that came along decides about prepared transactions, of which bootstrap mode
//! knows nothing: then it is an ordinary start with an init file that shuts down. A copy made without locks has
//! transactions prepared that were not acknowledged when it ended: these are rolled back.
//!
//! Three things are particular to a backup, and each is settled before the first run: the log has its final length and
//! names (see `layout`), it was walked and ends at E, and `--innodb-log-file-size` is the length that the file has, so that
//! the server does not replace the file and its creator `Backup …` with it. So the first run must say that the log ends at
//! exactly E, and a later one that it ends at E or beyond: LSNs only grow, and E was reached before anything was added.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Run, base_names};
use crate::error::{Error, Result};
use crate::names::{INIT, SERVER_FILES};
use crate::redo::files::{self, fail};

/// Options of a source server that a backup may set on the server that recovers it. Anything else in a manifest or in a
/// backup-my.cnf is left alone: neither may make the server load or write what it likes.
const PASSED: [&str; 9] = [
    "lower_case_table_names",
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "innodb_compression_algorithm",
    "innodb_encrypt_tables",
    "innodb_encrypt_log",
    "innodb_encrypt_temporary_tables",
];
/// The same for key management and compression providers.
const PASSED_PREFIXES: [&str; 6] = [
    "plugin_load",
    "plugin_dir",
    "plugin_maturity",
    "file_key_management",
    "aws_key_management",
    "hashicorp_key_management",
];

/// The arguments of the server.
pub(super) fn arguments(command: &mut Command, run: &Run<'_>) -> Result<()> {
    clean(run.dir)?;
    match binlog(run) {
        Some(name) => {
            let init = run.dir.join(INIT);
            fs::write(&init, "SHUTDOWN;\n").map_err(|cause| fail(&init, "cannot write", &cause))?;
            // Names without a directory are below the data directory: the path of a socket must not be long.
            command.args([&format!("--init-file={INIT}"), "--socket=xb_server.sock", "--pid-file=xb_server.pid"]);
            command.args(["--skip-grant-tables", "--event-scheduler=OFF", "--secure-file-priv=/dev/null"]);
            command.args([format!("--log-bin={name}"), format!("--log-bin-index={name}.index")]);
        }
        None => {
            command.args(["--bootstrap", "--skip-log-bin"]);
            if run.roll_back {
                command.arg("--tc-heuristic-recover=ROLLBACK");
            }
        }
    }
    command.args(["--skip-networking", "--skip-slave-start", "--skip-log-error"]);
    command.args(["--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"]);
    command.arg(format!("--innodb-log-file-size={}", run.log_size));
    command.args(passed(run.dir, run.options));
    Ok(())
}

/// Takes away what a run has left.
pub(super) fn clean(dir: &Path) -> Result<()> {
    SERVER_FILES.iter().try_for_each(|name| files::remove(&dir.join(name)))
}

/// True if what is prepared may be rolled back.
pub(super) fn rolls_back(run: &Run<'_>) -> bool {
    run.options.get("tc_heuristic_recover").is_some_and(|value| value == "ROLLBACK")
}

/// The name of the binary log that came along.
fn binlog<'a>(run: &'a Run<'_>) -> Option<&'a str> {
    let name = run.options.get("log_bin").filter(|name| !name.is_empty() && !name.contains('/'))?;
    run.dir.join(format!("{name}.index")).is_file().then_some(name)
}

/// True for what a server says that has prepared transactions and nothing that decides about them. It says so each time.
pub(super) fn is_undecided(error: &str) -> bool {
    error.starts_with("Found ") && error.contains(" prepared transactions!")
}

/// The options of the source that recovery needs, as arguments.
fn passed(dir: &Path, options: &BTreeMap<String, String>) -> Vec<String> {
    let known = options.iter().filter(|(key, value)| {
        !value.is_empty()
            && (*key != "plugin_dir" || plugins_elsewhere(dir, value))
            && (PASSED.contains(&key.as_str()) || PASSED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
    });
    known
        .map(|(key, value)| {
            // A checksum algorithm or a plugin's option that this server does not know must not stop it.
            let loose =
                if matches!(key.as_str(), "innodb_page_size" | "innodb_data_file_path") || key.starts_with("plugin") {
                    ""
                } else {
                    "loose-"
                };
            let value = if key == "innodb_data_file_path" { base_names(value) } else { value.clone() };
            format!("--{loose}{}={value}", key.replace('_', "-"))
        })
        .collect()
}

/// The source's directory of plugins, if this host has it. A backup does not bring its own plugins.
fn plugins_elsewhere(dir: &Path, plugins: &str) -> bool {
    Path::new(plugins).canonicalize().is_ok_and(|plugins| plugins.is_dir() && !plugins.starts_with(dir))
}

/// Holds where the log ends, by the server, against E.
pub(super) fn agree(run: &Run<'_>, lsn: u64) -> Result<()> {
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
    fn a_backup_sets_only_what_recovery_needs() {
        let options = [
            ("innodb_page_size", "4096"),
            ("innodb_data_file_path", "/a/ibdata1:12M;/b/ibdata2:1G:autoextend"),
            ("innodb_log_group_home_dir", "/var/lib/mysql"),
            ("init_file", "/tmp/evil.sql"),
            ("datadir", "/var/lib/mysql"),
            ("plugin_dir", "/backup/plugins"),
            ("file_key_management_filename", "/etc/keys"),
            ("innodb_undo_tablespaces", "3"),
            ("innodb_encrypt_log", ""),
        ];
        let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(
            passed(Path::new("/backup"), &options),
            [
                "--loose-file-key-management-filename=/etc/keys",
                "--innodb-data-file-path=ibdata1:12M;ibdata2:1G:autoextend",
                "--innodb-page-size=4096",
                "--loose-innodb-undo-tablespaces=3",
            ]
        );
    }
}
