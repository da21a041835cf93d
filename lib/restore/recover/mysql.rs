//! MySQL: a normal start with an init file that shuts the server down. `facts/mysql-hot-backup#recovery`.
//!
//! Before that, the log was checked block by block and cut at the end LSN. The server reports which blocks it has
//! scanned: the first run must report exactly these, and each run must continue from the end LSN or beyond.
//!
//! The server must do only what the init file says, whatever else is in the directory. So it does not read tables of
//! grants, plugins and functions (`--skip-grant-tables`) or persisted options, and listens nowhere, not even on a
//! socket. It would load the components in `mysql.component` in any case, so its plugin directory contains none but the
//! keyring's, if the operator has configured one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use bstr::ByteSlice;

use super::options::PLUGIN_DIR;
use super::{Pass, Run};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mysql::block;
use crate::restore::backup::Backup;
use crate::restore::files::{self, fail};
use crate::stream::native::names::{INIT, SERVER_FILES};

/// The server's UUID, which it generates: every copy must get its own.
const UUID: &str = "auto.cnf";

/// In the data directory and beside the program: the components that the server loads first.
const COMPONENTS: &str = "mysqld.my";
/// The keyring components. The settings of a component are in a file of its name with the suffix `.cnf`.
const KEYRINGS: [&str; 7] = [
    "component_keyring_file",
    "component_keyring_encrypted_file",
    "component_keyring_vault",
    "component_keyring_kms",
    "component_keyring_kmip",
    "component_keyring_aws",
    "component_keyring_oci",
];
const REDO: &str = "innodb_redo_log_encrypt";
const UNDO: &str = "innodb_undo_log_encrypt";

/// Treats as encrypted what the backup does not describe, if its log has a key.
pub(super) fn keep_secret(options: &mut BTreeMap<String, String>, log_has_key: bool) {
    if log_has_key {
        for name in [REDO, UNDO] {
            options.entry(name.into()).or_insert_with(|| "ON".into());
        }
    }
}

/// Only the operator may say which components a server loads and where they keep their data: a backup that contains
/// such a file could have any file read or created.
pub(super) fn refuse_components(backup: &Backup) -> Result<()> {
    let brought = backup.ours.iter().flat_map(|ours| &ours.entries).filter_map(|entry| entry.path()).find(|path| {
        let settings = path.strip_suffix(b".cnf").is_some_and(|name| name.starts_with(b"component_"));
        path == COMPONENTS.as_bytes() || settings
    });
    let Some(path) = brought else { return Ok(()) };
    let what = "is part of the backup; a backup must not choose the components that a server loads";
    Err(Error::damaged(backup.path.join(path.to_str_lossy().as_ref()).display(), what)
        .hint("look at it, and take it out of the source's data directory before the next backup"))
}

/// Links only keyring components into the plugin directory.
fn link_keyrings(run: &Run<'_>, plugins: &Path) -> Result<()> {
    let program = run.program.path.canonicalize().unwrap_or_else(|_| run.program.path.clone());
    let own = run.options.get(PLUGIN_DIR).map(PathBuf::from).or_else(|| run.program.plugins());
    let Some(own) = own.filter(|_| run.dir.join(COMPONENTS).exists() || program.with_file_name(COMPONENTS).exists())
    else {
        return Ok(());
    };
    for file in KEYRINGS.iter().flat_map(|name| [format!("{name}.so"), format!("{name}.cnf")]) {
        if own.join(&file).is_file() {
            symlink(own.join(&file), plugins.join(&file))
                .map_err(|cause| fail(plugins, "cannot make a link", &cause))?;
        }
    }
    Ok(())
}

/// The key file in the operator's settings of `component_keyring_file`: the server may have to write a key of its own
/// into it.
pub(super) fn keys(dir: &Path) -> Result<Option<PathBuf>> {
    let Some(text) = crate::io::small(&dir.join("component_keyring_file.cnf"))? else { return Ok(None) };
    let settings = serde_json::from_slice::<serde_json::Value>(&text).ok();
    Ok(settings.and_then(|settings| settings.get("path")?.as_str().map(PathBuf::from)))
}

/// True for the message about a component that is not in our plugin directory.
pub(super) fn is_component(plugins: &Path, text: &str) -> bool {
    text.contains("Cannot load component from specified URN: 'file://")
        || text.contains(&format!("Can't open shared library '{}", plugins.display()))
}

/// Writes the init file and sets the arguments of the server.
pub(super) fn prepare(command: &mut Command, run: &Run<'_>, plugins: &Path, socket: &Path) -> Result<()> {
    clean(run.dir)?;
    link_keyrings(run, plugins)?;
    if run.pass == Pass::Prepared {
        command.arg(super::prefixed("--socket=", socket));
    } else {
        let init = run.dir.join(INIT);
        fs::write(&init, "SHUTDOWN;\n").map_err(|cause| fail(&init, "cannot write", &cause))?;
        // Names without a directory are below the data directory. An empty name means no socket.
        command.args([&format!("--init-file={INIT}"), "--socket="]);
    }
    command.args(["--pid-file=xb_server.pid", "--skip-grant-tables"]);
    command.arg(super::prefixed("--plugin-dir=", plugins));
    command.args(["--log-error-verbosity=3", "--skip-networking", "--mysqlx=OFF", "--event-scheduler=OFF"]);
    command.args(["--skip-replica-start", "--upgrade=NONE", "--performance-schema=OFF", "--secure-file-priv=NULL"]);
    command.args(["--auto-generate-certs=OFF", "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF"]);
    command.args(["--loose-sha256-password-auto-generate-rsa-keys=OFF", "--persisted-globals-load=OFF"]);
    command.args(["--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"]);
    // A server without an id does not look for relay logs, which the backup of a replica lacks.
    command.args(["--server-id=0", "--binlog-expire-logs-seconds=0"]);
    command.args(binlog(run)?);
    command.args(passed(run));
    Ok(())
}

/// Removes files that a run has left.
pub(super) fn clean(dir: &Path) -> Result<()> {
    SERVER_FILES.iter().chain(&[UUID]).try_for_each(|name| files::remove(&dir.join(name)))
}

/// If the backup has no binary log, the server must not create one.
fn binlog(run: &Run<'_>) -> Result<Vec<String>> {
    let Some(mut arguments) = super::binlog(run)? else { return Ok(vec!["--skip-log-bin".into()]) };
    arguments.extend(run.options.get("binlog_encryption").map(|value| format!("--binlog-encryption={value}")));
    Ok(arguments)
}

/// The source's options on which the files depend. A server with another `innodb_data_file_path` would add a file.
fn passed(run: &Run<'_>) -> Vec<String> {
    let plain =
        ["innodb_page_size", "lower_case_table_names", "innodb_data_file_path", "default_table_encryption", REDO, UNDO];
    let value = |name: &&str| run.options.get(*name).map(|value| format!("--{}={value}", name.replace('_', "-")));
    plain.iter().filter_map(value).collect()
}

/// Compares the last LSN that the server scanned with the end LSN. It is the end LSN or, if the log continues, the end
/// of that block.
pub(super) fn agree(run: &Run<'_>, scanned: Lsn) -> Result<()> {
    let (scanned_blocks, until) = (block::until(scanned), block::until(run.end_lsn));
    if scanned_blocks == until || (!run.first && scanned_blocks > until) {
        return Ok(());
    }
    let what = format!("the server scanned the log up to lsn {scanned}, the backup ends at {}", run.end_lsn);
    Err(Error::damaged(run.dir.display(), what).hint("the directory is half recovered now; unpack the backup again"))
}
