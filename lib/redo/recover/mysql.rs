//! MySQL: an ordinary start with an init file that shuts down. MySQL's spec section 7.3.
//!
//! The log was checked block by block and cut at E before. The server says which blocks it has scanned: on the first run
//! exactly those, and each run must go on from E or beyond.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Run, base_names};
use crate::error::{Error, Result};
use crate::innodb::redo::mysql::block;
use crate::names::{INIT, SERVER_FILES};
use crate::redo::files::{self, fail};

/// The server's uuid, which it makes for itself: every copy shall get its own.
const UUID: &str = "auto.cnf";

/// Writes the init file and gives the server its arguments.
pub(super) fn prepare(command: &mut Command, run: &Run<'_>) -> Result<()> {
    clean(run.dir)?;
    let init = run.dir.join(INIT);
    fs::write(&init, "SHUTDOWN;\n").map_err(|cause| fail(&init, "cannot write", &cause))?;
    // Names without a directory are below the data directory: the path of a socket must not be long.
    command.args([&format!("--init-file={INIT}"), "--socket=xb_server.sock", "--pid-file=xb_server.pid"]);
    command.args(["--log-error-verbosity=3", "--skip-networking", "--mysqlx=OFF", "--event-scheduler=OFF"]);
    command.args(["--skip-replica-start", "--upgrade=NONE", "--performance-schema=OFF", "--secure-file-priv=NULL"]);
    command.args(["--auto-generate-certs=OFF", "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF"]);
    command.args(["--loose-sha256-password-auto-generate-rsa-keys=OFF", "--persisted-globals-load=OFF"]);
    command.args(["--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"]);
    // A server without an id looks for no relay logs, which a replica's backup does not have.
    command.args(["--server-id=0", "--binlog-expire-logs-seconds=0"]);
    command.args(binlog(run));
    command.args(passed(run));
    Ok(())
}

/// Takes away what a run has left.
pub(super) fn clean(dir: &Path) -> Result<()> {
    SERVER_FILES.iter().chain(&[UUID]).try_for_each(|name| files::remove(&dir.join(name)))
}

/// The binary log's tail decides about transactions that were prepared; without one the server must not make one.
fn binlog(run: &Run<'_>) -> Vec<String> {
    let name = run.options.get("log_bin").filter(|name| !name.is_empty() && !name.contains('/'));
    match name.filter(|name| run.dir.join(format!("{name}.index")).is_file()) {
        Some(name) => vec![format!("--log-bin={name}"), format!("--log-bin-index={name}.index")],
        None => vec!["--skip-log-bin".into()],
    }
}

/// Options of the source that the files depend on. A server with another `innodb_data_file_path` would add a file.
fn passed(run: &Run<'_>) -> Vec<String> {
    let value = |key: &str| run.options.get(key).filter(|value| !value.is_empty());
    let plain = ["innodb_page_size", "lower_case_table_names"];
    let mut passed: Vec<String> =
        plain.iter().filter_map(|key| value(key).map(|value| format!("--{}={value}", key.replace('_', "-")))).collect();
    passed.extend(value("innodb_data_file_path").map(|path| format!("--innodb-data-file-path={}", base_names(path))));
    passed
}

/// Holds the last LSN that the server scanned against E. It is E or, in a log that goes on, the end of that block.
pub(super) fn agree(run: &Run<'_>, scanned: u64) -> Result<()> {
    let (scanned_blocks, until) = (block::until(scanned), block::until(run.end_lsn));
    if scanned_blocks == until || (!run.first && scanned_blocks > until) {
        return Ok(());
    }
    let what = format!("the server scanned the log up to lsn {scanned}, the backup ends at {}", run.end_lsn);
    Err(Error::damaged(run.dir.display(), what).hint("the directory is half recovered now; unpack the backup again"))
}
