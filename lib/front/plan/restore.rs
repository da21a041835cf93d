//! Preparing, copying back, decoding.

use std::path::PathBuf;

use super::{Decode, Ending, Input, Output, Pipeline, Stage, Surroundings, decompress, decrypt};
use crate::error::{Error, Result};
use crate::front::line::Line;

fn alone(stage: Stage, ending: Ending) -> Pipeline {
    Pipeline { stages: vec![stage], input: Input::Nothing, output: Output::Nowhere, ending }
}

/// Makes a backup a data directory; `merge`: makes an increment part of it only.
///
/// The stock program applies a full backup's log before it merges increments. Here that is done once, at the end; until then
/// the directory is only looked at.
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
    let stage = stage.valued(line, "--use-memory", "use-memory").valued(line, "--threads", "parallel");
    Ok(alone(stage, Ending::Prepared(dir)))
}

/// Puts a prepared backup into the data directory.
pub(super) fn copy_back(line: &Line, dir: PathBuf, take: bool, around: &Surroundings) -> Result<Pipeline> {
    let mut stage = Stage::new("xb-redo").told(line).option("--copy-back", dir.as_os_str());
    let file = line.value("defaults-file").or_else(|| line.value("defaults-extra-file"));
    let system = || around.option_file.as_deref().filter(|_| !line.has("no-defaults"));
    stage = match (line.value("datadir"), file.or_else(|| system().map(|file| file.as_os_str()))) {
        (Some(datadir), _) if file.is_none() => stage.option("--datadir", datadir),
        (Some(datadir), Some(file)) => stage.option("--datadir", datadir).option("--defaults-file", file),
        (None, Some(file)) => stage.option("--defaults-file", file),
        (_, None) => {
            return Err(Error::usage("--copy-back", "the data directory is not told")
                .hint("--datadir=DIR, or --defaults-file=FILE of the server"));
        }
    };
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
