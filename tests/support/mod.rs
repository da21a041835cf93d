//! The parts of tests: private servers, write loads, pipelines, checks of restored servers, and faults.
//!
//! A hot-backup test in ten lines:
//!
//! ```ignore
//! let server = Server::new().start();
//! let load = Load::on(&server).everything().start();
//! load.wait_for(500);
//! let restored = scratch();
//! Pipeline::new()
//!     .stage(xb("xb-snap").args(server.options()))
//!     .stage(xb("xb-redo"))
//!     .stage(xb("xb-unpack").arg("-C").arg(restored.path()))
//!     .run()
//!     .assert_ok();
//! load.stop();
//! Pipeline::new().stage(xb("xb-redo").arg("--apply").arg(restored.path())).run().assert_ok();
//! check::restored(&server, restored.path()).assert_good();
//! ```
//!
//! Everything that is started here is killed and removed when its value is dropped, even by a panic. Every wait has a
//! time limit. `XB_KEEP=1` keeps the directories of servers.

pub mod accounts;
pub mod backup;
pub mod check;
pub mod disk;
pub mod documents;
pub mod fault;
pub mod flavour;
pub mod galera;
pub mod import;
pub mod keyring;
pub mod load;
pub mod made;
pub mod mutate;
pub mod pipeline;
pub mod random;
pub mod sandbox;
pub mod server;
mod template;
pub mod terminal;
pub mod tool;
pub mod vault;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use flavour::test_on;
pub use flavour::{Family, Flavour};
pub use load::Load;
pub use pipeline::Pipeline;
pub use random::Random;
pub use server::Server;

/// One of our binaries, by name.
pub fn xb(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_xb-unpack")).with_file_name(name);
    assert!(path.exists(), "{} is not built; run cargo test for the whole package", path.display());
    Command::new(path)
}

/// Rounds of a long test: as many, or those that `XB_ROUNDS` asks for, `5` or `5..8`.
pub fn rounds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("XB_ROUNDS").ok();
    let asked = asked.as_deref().map(|text| text.split_once("..").unwrap_or(("0", text)));
    asked.map_or(0..count, |(first, end)| first.parse().unwrap()..end.parse().unwrap())
}

/// The names of our binaries.
pub fn tools() -> Vec<String> {
    let manifest = std::fs::read_to_string(root_of_package().join("Cargo.toml")).unwrap();
    let tables = manifest.split("[[bin]]").skip(1);
    tables.map(|table| table.split('"').nth(1).unwrap().to_owned()).collect()
}

/// Where `README.md` and `man/` are.
pub fn root_of_package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes a script.
pub fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program of the system, by name.
pub fn program(name: &str) -> Command {
    Command::new(name)
}

/// A directory that is removed when the value is dropped.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("xb-test-").tempdir().expect("cannot make a scratch directory")
}

/// Where things are kept from one test run to the next.
pub fn cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Runs a program to its end; its stdout. Panics with its stderr when it fails.
pub fn output(command: Command) -> String {
    let run = Pipeline::new().stage(command).run();
    run.assert_ok();
    String::from_utf8(run.stdout).expect("output is not text")
}

/// Are we root? Then servers run as root too, and mounts are possible.
pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is CI, where a missing part is a failure; elsewhere a test may be skipped with a message.
pub fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Says why a test does less here than it could. In CI it fails instead.
pub fn skip(why: &str) {
    assert!(!ci(), "{why}; CI must have it (tests/setup)");
    cannot(why);
}

/// Says why a test does less here than it could, for a reason that no setup can change. It is printed even if the test
/// passes, because only the output of macros is captured.
pub fn cannot(why: &str) {
    use std::io::Write;
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// Asks every 20 ms until `done`; panics after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
