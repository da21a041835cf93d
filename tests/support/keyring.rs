//! MySQL's keys in a file, by the component `component_keyring_file`.

use std::fs;
use std::path::Path;

use super::server::Builder;
use super::{Flavour, Server};

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
    tell(server.data(), &server.home().join("keyring"));
    server.start_again();
    server
}

/// Gives a backup a copy of the keys as they are now, as an operator would: they do not come with what they lock.
pub fn give(source: &Server, backup: &Path, keys: &Path) {
    fs::copy(source.home().join("keyring"), keys).unwrap();
    tell(backup, keys);
}

fn tell(data: &Path, keys: &Path) {
    fs::write(data.join(MANIFEST), r#"{"components": "file://component_keyring_file"}"#).unwrap();
    let config = format!(r#"{{"path": "{}", "read_only": false}}"#, keys.display());
    fs::write(data.join(CONFIG), config).unwrap();
}
