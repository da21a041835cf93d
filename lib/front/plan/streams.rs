//! xbstream, mbstream and xbcrypt.

use std::path::PathBuf;

use super::{Ending, Input, Output, Pipeline, Stage, cipher, decompress, decrypt, keyed};
use crate::error::{Error, Result};
use crate::front::line::Line;

/// Files to a stream, or a stream to files.
pub(super) fn xbstream(line: &Line) -> Result<Pipeline> {
    let all = |stage: Stage| stage.switched(line, "--verbose", "verbose");
    match (line.has("create"), line.has("extract")) {
        (true, false) => {
            if let Some(option) = ["decompress", "decrypt"].iter().find(|option| line.has(option)) {
                return Err(Error::usage(format_args!("--{option}"), "goes with --extract"));
            }
            if line.operands.is_empty() {
                return Err(Error::usage("--create", "no file is named"));
            }
            // Readers of old do not expect members that the sender has not named.
            let pack = all(Stage::new("xb-pack").with(["--no-manifest"]))
                .valued(line, "--directory", "directory")
                .valued(line, "--threads", "parallel")
                .with(["--"])
                .with(line.operands.iter());
            Ok(Pipeline { stages: vec![pack], input: Input::Nothing, output: Output::Ours, ending: Ending::Silent })
        }
        (false, true) => {
            let unpack = Stage::new("xb-unpack")
                .with(["--keep-existing"])
                .valued(line, "--directory", "directory")
                .valued(line, "--threads", "parallel")
                .with(["--"])
                .with(line.operands.iter());
            let stages = [decrypt(line)?, decompress(line), Some(unpack)].into_iter().flatten();
            let stages = stages.map(all_before_operands(line)).collect();
            Ok(Pipeline { stages, input: Input::Ours, output: Output::Nowhere, ending: Ending::Silent })
        }
        (true, true) => Err(Error::usage("--create", "is one thing, --extract another")),
        (false, false) => Err(Error::usage("xbstream", "is not told what to do").hint("-c FILE… or -x")),
    }
}

/// Puts `--verbose` first: what stands behind `--` is a name.
fn all_before_operands(line: &Line) -> impl Fn(Stage) -> Stage {
    let verbose = line.has("verbose");
    move |mut stage| {
        if verbose {
            stage.arguments.insert(0, "--verbose".into());
        }
        stage
    }
}

/// One file.
pub(super) fn xbcrypt(line: &Line) -> Result<Pipeline> {
    cipher("--encrypt-algo", line.text("encrypt-algo"))?;
    if let Some(operand) = line.operands.first() {
        let what = "is no option, and no file is named here";
        return Err(Error::usage(PathBuf::from(operand).display(), what).hint("--input=FILE, --output=FILE"));
    }
    let way: &[&str] = if line.has("decrypt") { &["--decrypt"] } else { &["--format=xbcrypt"] };
    let stage = keyed(Stage::new("xb-crypt").with(["--raw"]).with(way), line, "xbcrypt")?
        .valued(line, "--threads", "encrypt-threads")
        .switched(line, "--verbose", "verbose");
    let file = |name: &str| line.value(name).filter(|name| *name != "-").map(PathBuf::from);
    Ok(Pipeline {
        stages: vec![stage],
        input: file("input").map_or(Input::Ours, Input::File),
        output: file("output").map_or(Output::Ours, Output::File),
        ending: Ending::Silent,
    })
}
