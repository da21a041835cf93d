//! MySQL's keys in a file, by the component `component_keyring_file`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::Builder;
use super::{Flavour, Server, xb};

/// Which components a server loads.
const MANIFEST: &str = "mysqld.my";
/// Where the component finds the keys.
const CONFIG: &str = "component_keyring_file.cnf";

/// Starts a server with the keyring of a file: it must be told beside its program, beside its plugins, and in its data.
pub fn start(builder: Builder) -> Server {
    let program = Flavour::Mysql97.server();
    let root = program.parent().unwrap().parent().unwrap().join("root");
    fs::write(root.join("usr/sbin").join(MANIFEST), r#"{"read_local_manifest": true}"#).unwrap();
    fs::write(root.join("usr/lib/mysql/plugin").join(CONFIG), r#"{"read_local_config": true}"#).unwrap();
    let mut server = builder.start();
    server.stop();
    tell(server.data(), &of(&server));
    server.start_again();
    server
}

/// The same, and it encrypts what it can: tables, undo and redo, also after a restart.
pub fn start_encrypting(builder: Builder) -> Server {
    let server = start(builder);
    server.sql(
        "SET PERSIST innodb_redo_log_encrypt=ON; SET PERSIST innodb_undo_log_encrypt=ON; \
         SET PERSIST default_table_encryption=ON",
    );
    server
}

/// Where a server that was started here has its keys; others have no such file.
pub fn of(server: &Server) -> PathBuf {
    server.home().join("keyring")
}

/// `xb-redo` as a filter for a backup of the server, with its keys if it has some.
pub fn filter(server: &Server) -> Command {
    let mut filter = xb("xb-redo");
    let keys = of(server);
    if keys.exists() {
        filter.arg("--keyring").arg(keys);
    }
    filter
}

/// Gives a backup a copy of the keys as they are now, as an operator would: they do not come with what they lock.
pub fn give(source: &Server, backup: &Path, keys: &Path) {
    fs::copy(of(source), keys).unwrap();
    tell(backup, keys);
}

fn tell(data: &Path, keys: &Path) {
    fs::write(data.join(MANIFEST), r#"{"components": "file://component_keyring_file"}"#).unwrap();
    let config = format!(r#"{{"path": "{}", "read_only": false}}"#, keys.display());
    fs::write(data.join(CONFIG), config).unwrap();
}
