//! Preparing, copying back, decoding.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Decode, Ending, Input, Output, Pipeline, Stage, Surroundings, decompress, decrypt};
use crate::error::{Error, Result};
use crate::front::line::Line;

fn alone(stage: Stage, ending: Ending) -> Pipeline {
    Pipeline { stages: vec![stage], input: Input::Nothing, output: Output::Nowhere, ending }
}

/// What says where files of a server are to be.
const PLACES: [&str; 7] = [
    "aria-log-dir-path",
    "innodb-data-file-path",
    "innodb-data-home-dir",
    "innodb-directories",
    "innodb-log-group-home-dir",
    "innodb-undo-directory",
    "log-bin",
];

/// Makes a backup a data directory; `merge`: makes an increment part of it only.
///
/// The stock program applies a full backup's log before it merges increments. Here that is done once, at the end: after
/// `--apply-log-only` the directory is only looked at, and of MariaDB the log waits in any case, for increments are merged
/// into what has been prepared there without a word before.
pub(super) fn prepare(line: &Line, dir: PathBuf, merge: bool) -> Result<Pipeline> {
    let stage = Stage::new("xb-redo").told(line);
    let stage = match (merge, line.value("incremental-dir")) {
        (false, None) => stage.option("--apply", dir.as_os_str()),
        (false, Some(more)) => stage.option("--apply", dir.as_os_str()).option("--incremental-dir", more),
        (true, Some(more)) => stage.option("--merge", dir.as_os_str()).option("--incremental-dir", more),
        (true, None) => stage.option("--status", dir.as_os_str()),
    };
    if merge {
        return Ok(alone(stage, Ending::Done));
    }
    // With its log alone nothing is rolled back: above.
    let stage = stage.switched(line, "--rollback-prepared", "rollback-prepared-trx");
    let stage = if forced(line)? { stage.with(["--force-recovery"]) } else { stage };
    let stage = stage.with(["--wait"]).valued(line, "--use-memory", "use-memory");
    let stage = server_option(stage, line, "plugin-dir").valued(line, "--threads", "parallel");
    Ok(alone(stage, Ending::Prepared(dir)))
}

/// Whether damaged pages are passed over. The stock program knows more levels, and makes 1 of each.
pub(super) fn forced(line: &Line) -> Result<bool> {
    match line.number::<u32>("innodb-force-recovery")? {
        Some(level) => Ok(level > 0),
        None => Ok(line.has("innodb-force-recovery")),
    }
}

/// Adds an option of the server, if it was given.
fn server_option(stage: Stage, line: &Line, name: &str) -> Stage {
    match line.value(name) {
        Some(value) => {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            stage.option("--server-option", &word)
        }
        None => stage,
    }
}

/// Puts a prepared backup into the data directory. Tables that had a directory of their own go back there, as the stock
/// program has it.
pub(super) fn copy_back(line: &Line, dir: PathBuf, take: bool, around: &Surroundings) -> Result<Pipeline> {
    let mut stage = Stage::new("xb-redo").told(line).option("--copy-back", dir.as_os_str());
    let file = line.value("defaults-file").or_else(|| line.value("defaults-extra-file"));
    let system = || around.option_file.as_deref().filter(|_| !line.has("no-defaults"));
    let file = file.or_else(|| system().map(Path::as_os_str));
    if file.is_none() && line.value("datadir").is_none() {
        return Err(Error::usage("--copy-back", "the data directory is not told")
            .hint("--datadir=DIR, or --defaults-file=FILE of the server"));
    }
    stage = stage.valued(line, "--datadir", "datadir");
    if let Some(file) = file {
        stage = stage.option("--defaults-file", file);
        stage = stage.valued(line, "--defaults-group-suffix", "defaults-group-suffix");
    }
    stage = PLACES.iter().fold(stage, |stage, name| server_option(stage, line, name));
    if line.value("innodb-directories").is_none() {
        stage = stage.with(["--innodb-directories=/"]);
    }
    if take {
        stage = stage.with(["--move"]);
    }
    let stage =
        stage.switched(line, "--keep-existing", "force-non-empty-directories").valued(line, "--threads", "parallel");
    Ok(alone(stage, Ending::Done))
}

/// Decrypts and decompresses in place.
pub(super) fn decode(line: &Line, dir: PathBuf) -> Result<Decode> {
    let told = |stage: Stage| stage.told(line);
    Ok(Decode {
        dir,
        decrypt: decrypt(line)?.map(told),
        decompress: decompress(line).map(told),
        remove: line.has("remove-original"),
    })
}
