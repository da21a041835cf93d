//! What most tests do with a backup.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::pipeline::Run;
use super::{Pipeline, Server, xb};

/// `xb-snap OPTIONS | xb-redo | xb-unpack -C DIRECTORY` of this server.
pub fn take(server: &Server, options: &[&str], directory: &Path) {
    Pipeline::new()
        .stage(xb("xb-snap").args(server.options()).args(options))
        .stage(xb("xb-redo"))
        .stage(xb("xb-unpack").arg("-C").arg(directory))
        .run()
        .assert_ok();
}

/// `xb-redo --apply`.
pub fn apply(directory: &Path) -> Command {
    let mut command = xb("xb-redo");
    command.arg("--apply").arg(directory);
    command
}

/// The same by the program of this server, with the plugins that it has.
pub fn apply_with(server: &Server, directory: &Path) -> Command {
    let mut command = apply(directory);
    command.arg("--server").arg(server.flavour().server()).args(server.plugins());
    command
}

/// The same to its end.
pub fn apply_by(server: &Server, directory: &Path) -> Run {
    Pipeline::new().stage(apply_with(server, directory)).limit(Duration::from_secs(300)).run()
}

/// `xb-redo --status`.
pub fn status(directory: &Path) -> Run {
    Pipeline::new().stage(xb("xb-redo").arg("--status").arg(directory)).run()
}
