//! What a command line comes to: programs of ours in a row, or words.

mod backup;
mod restore;
mod streams;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Program;
use super::line::Line;
use crate::error::{Error, Result};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Print the options.
    Help,
    /// Print which version this stands for.
    Version,
    /// Print what option files say.
    Defaults,
    /// Print what of the server's options a restore needs.
    Parameters,
    /// Run programs.
    Run(Pipeline),
    /// Take compression and encryption off the files of a directory.
    Decode(Decode),
}

/// Programs, the output of each the input of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pipeline {
    /// From left to right.
    pub(super) stages: Vec<Stage>,
    /// What the first one reads.
    pub(super) input: Input,
    /// Where the last one writes.
    pub(super) output: Output,
    /// What is said when all is well.
    pub(super) ending: Ending,
}

/// One of our programs with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// Its name.
    pub(super) tool: &'static str,
    /// Its arguments.
    pub(super) arguments: Vec<OsString>,
}

/// What a pipeline reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing; or the password, if there is one.
    Nothing,
    /// Our own standard input.
    Ours,
    /// A file.
    File(PathBuf),
    /// The names of these files, with a NUL byte after each.
    Names(Vec<Vec<u8>>),
}

/// Where a pipeline writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Nowhere: what it says there is for people.
    Nowhere,
    /// To our own standard output.
    Ours,
    /// Into a file.
    File(PathBuf),
}

/// What callers look for at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing is said, as of xbstream.
    Silent,
    /// `completed OK!`
    Done,
    /// The same after a backup, with its directory, position and LSNs.
    Backup {
        /// Where it is, or would be.
        dir: PathBuf,
        /// Whether it was asked what the server replicates.
        replica: bool,
    },
    /// The same after a directory was prepared.
    Prepared(PathBuf),
}

/// Files that are decoded beside themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decode {
    /// The backup.
    pub(super) dir: PathBuf,
    /// What decrypts, if that was asked for.
    pub(super) decrypt: Option<Stage>,
    /// What decompresses, if that was asked for.
    pub(super) decompress: Option<Stage>,
    /// Whether files that were decoded are removed.
    pub(super) remove: bool,
}

/// What a plan depends on beside the command line.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Now, as innobackupex names directories: `2011-12-25_00-00-09`.
    pub(super) now: String,
    /// The system's option file, if there is one.
    pub(super) option_file: Option<PathBuf>,
}

/// Makes a plan of a command line.
///
/// # Errors
///
/// Usage, when it asks for what is not possible, or for nothing.
pub(super) fn of(program: Program, line: &Line, around: &Surroundings) -> Result<Plan> {
    if line.has("help") {
        return Ok(Plan::Help);
    }
    if line.has("version") {
        return Ok(Plan::Version);
    }
    line.refuse()?;
    match program {
        Program::Mbstream | Program::Xbstream => streams::xbstream(line).map(Plan::Run),
        Program::Xbcrypt => streams::xbcrypt(line).map(Plan::Run),
        Program::MariadbBackup | Program::Xtrabackup => modes(program, line, around),
        Program::Innobackupex => innobackupex(line, around),
    }
}

/// What mariadb-backup and xtrabackup are told to do.
fn modes(program: Program, line: &Line, around: &Surroundings) -> Result<Plan> {
    if line.has("print-defaults") {
        return Ok(Plan::Defaults);
    }
    let operand = one_operand(line)?;
    let dir = || line.value("target-dir").or(operand).map_or_else(|| "./xtrabackup_backupfiles".into(), PathBuf::from);
    let known = ["backup", "prepare", "copy-back", "move-back", "decompress", "decrypt", "print-param"];
    match mode(line, &known)? {
        "backup" => backup::plan(program, line, dir()).map(Plan::Run),
        "prepare" => restore::prepare(line, dir(), line.has("apply-log-only")).map(Plan::Run),
        "copy-back" => restore::copy_back(line, dir(), false, around).map(Plan::Run),
        "move-back" => restore::copy_back(line, dir(), true, around).map(Plan::Run),
        "decompress" => restore::decode(line, dir()).map(Plan::Decode),
        "print-param" => Ok(Plan::Parameters),
        _ => Err(Error::usage(program.name(), "is not told what to do")
            .hint("--backup, --prepare, --copy-back, --move-back, --decompress, --decrypt=ALGORITHM")),
    }
}

/// The one of these that was asked for; an empty word if none was. Who decrypts may decompress, too: that is `decompress`.
fn mode<'m>(line: &Line, known: &[&'m str]) -> Result<&'m str> {
    let mut asked = known.iter().filter(|mode| line.has(mode));
    match (asked.next(), asked.next(), asked.next()) {
        (Some(&"decompress"), Some(&"decrypt"), None) => Ok("decompress"),
        (Some(&"decrypt"), None, _) => Ok("decompress"),
        (Some(one), Some(other), _) => {
            Err(Error::usage(format_args!("--{one}"), format_args!("is one thing, --{other} another")))
        }
        (one, ..) => Ok(one.copied().unwrap_or_default()),
    }
}

/// What innobackupex is told to do: a backup, unless it is something else.
fn innobackupex(line: &Line, around: &Surroundings) -> Result<Plan> {
    if line.has("print-defaults") {
        return Ok(Plan::Defaults);
    }
    let operand = one_operand(line)?;
    let dir = operand
        .map(PathBuf::from)
        .ok_or_else(|| Error::usage("innobackupex", "no directory is named").hint("innobackupex [OPTIONS] DIR"))?;
    match mode(line, &["apply-log", "copy-back", "move-back", "decompress", "decrypt"])? {
        "apply-log" => restore::prepare(line, dir, line.has("redo-only")).map(Plan::Run),
        "copy-back" => restore::copy_back(line, dir, false, around).map(Plan::Run),
        "move-back" => restore::copy_back(line, dir, true, around).map(Plan::Run),
        "decompress" => restore::decode(line, dir).map(Plan::Decode),
        _ => {
            let based = ["incremental-basedir", "incremental-lsn", "incremental-history-name"];
            if line.has("incremental") && !based.iter().any(|name| line.has(name)) {
                return Err(Error::usage("--incremental", "the base is not told")
                    .hint("--incremental-basedir=DIR, or --incremental-lsn=LSN"));
            }
            let below = !line.has("no-timestamp") && !line.has("stream");
            let dir = if below { dir.join(&around.now) } else { dir };
            backup::plan(Program::Innobackupex, line, dir).map(Plan::Run)
        }
    }
}

/// The directory that the older programs take without an option.
fn one_operand(line: &Line) -> Result<Option<&OsStr>> {
    match line.operands.as_slice() {
        [] => Ok(None),
        [one] if line.value("target-dir").is_none() => Ok(Some(one)),
        [.., last] => Err(Error::usage(Path::new(last).display(), "is no option, and no file is named here")
            .hint("does a | stand before it?")),
    }
}

impl Stage {
    fn new(tool: &'static str) -> Stage {
        Stage { tool, arguments: Vec::new() }
    }

    /// Adds arguments.
    fn with<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Stage {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds `--ours=value`, in one word, so that no value is taken for an option.
    fn option(self, ours: &str, value: &OsStr) -> Stage {
        let mut word = OsString::from(ours);
        word.push("=");
        word.push(value);
        self.with([word])
    }

    /// Adds an option of ours with the value of theirs, if it was given.
    fn valued(self, line: &Line, ours: &str, theirs: &str) -> Stage {
        match line.value(theirs) {
            Some(value) => self.option(ours, value),
            None => self,
        }
    }

    /// Adds a switch of ours for theirs.
    fn switched(self, line: &Line, ours: &str, theirs: &str) -> Stage {
        if line.has(theirs) { self.with([ours]) } else { self }
    }

    /// What every tool gets whose lines are read.
    fn told(self, line: &Line) -> Stage {
        self.with(["--log=json"]).switched(line, "--verbose", "verbose")
    }
}

/// Refuses a cipher that is none.
fn cipher(option: &str, name: Option<String>) -> Result<()> {
    let known = ["AES128", "AES192", "AES256"];
    match name {
        Some(name) if !known.contains(&name.to_ascii_uppercase().as_str()) => {
            Err(Error::usage(option, format_args!("{name} is no cipher of it; AES128, AES192 and AES256 are")))
        }
        _ => Ok(()),
    }
}

/// `xb-crypt -d`, if it was asked for.
fn decrypt(line: &Line) -> Result<Option<Stage>> {
    if !line.has("decrypt") {
        return Ok(None);
    }
    cipher("--decrypt", line.text("decrypt"))?;
    let stage = Stage::new("xb-crypt").with(["--decrypt"]);
    let stage = keyed(stage, line, "--decrypt")?;
    Ok(Some(stage.valued(line, "--threads", "encrypt-threads")))
}

/// Adds the key. The stock programs read one that others can read, too, and secrets of Kubernetes are mounted so: callers
/// have no way to say more.
fn keyed(stage: Stage, line: &Line, option: &str) -> Result<Stage> {
    let file = line
        .value("encrypt-key-file")
        .ok_or_else(|| Error::usage(option, "no key is named").hint("--encrypt-key-file=FILE"))?;
    Ok(stage.option("--key-file", file).with(["--allow-readable-key"]))
}

/// `xb-zip -d`, if it was asked for.
fn decompress(line: &Line) -> Option<Stage> {
    let stage = || Stage::new("xb-zip").with(["--decompress"]);
    line.has("decompress").then(|| stage().valued(line, "--threads", "decompress-threads"))
}
