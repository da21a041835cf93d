//! Backups: `xb-snap | xb-redo | xb-throttle | xb-zip | xb-crypt | xb-unpack`, as far as they are asked for.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Ending, Input, Output, Pipeline, Stage, cipher, keyed};
use crate::error::{Error, Result};
use crate::front::Program;
use crate::front::line::Line;

/// Switches of theirs, and ours.
const SWITCHES: [(&str, &str); 6] = [
    ("no-defaults", "--no-defaults"),
    ("slave-info", "--replica-info"),
    ("safe-slave-backup", "--safe-replica"),
    ("galera-info", "--galera-info"),
    ("no-lock", "--no-lock"),
    ("innodb-log-checkpoint-now", "--checkpoint-now"),
];
/// Switches that may be turned off, too; ours have the same names.
const TURNED: [&str; 2] = ["ssl", "ssl-verify-server-cert"];
/// Options of theirs, and ours with the same values.
const OPTIONS: [(&str, &str); 26] = [
    ("defaults-file", "--defaults-file"),
    ("defaults-extra-file", "--defaults-extra-file"),
    ("defaults-group-suffix", "--defaults-group-suffix"),
    ("login-path", "--login-path"),
    ("user", "--user"),
    ("host", "--host"),
    ("socket", "--socket"),
    ("protocol", "--protocol"),
    ("ssl-mode", "--ssl-mode"),
    ("ssl-ca", "--ssl-ca"),
    ("ssl-capath", "--ssl-capath"),
    ("ssl-cert", "--ssl-cert"),
    ("ssl-key", "--ssl-key"),
    ("datadir", "--datadir"),
    ("parallel", "--threads"),
    ("extra-lsndir", "--extra-lsndir"),
    ("incremental-basedir", "--incremental-basedir"),
    ("incremental-history-name", "--incremental-history"),
    ("incremental-history-uuid", "--incremental-history-uuid"),
    ("include", "--tables"),
    ("tables", "--tables"),
    ("tables-exclude", "--tables-exclude"),
    ("tables-file", "--tables-file"),
    ("databases", "--databases"),
    ("databases-exclude", "--databases-exclude"),
    ("databases-file", "--databases-file"),
];

/// A backup, into `dir` or to standard output.
pub(super) fn plan(program: Program, line: &Line, dir: PathBuf) -> Result<Pipeline> {
    if super::restore::forced(line)? {
        let mode = if program == Program::Innobackupex { "--apply-log" } else { "--prepare" };
        let what = format_args!("should only be used with \"{mode}\"");
        return Err(Error::usage("--innodb-force-recovery", what));
    }
    let streamed = streamed(line)?;
    write_ahead(line)?;
    let stages = [
        Some(noted(snap(line)?, program, line, streamed)),
        Some(spooled(Stage::new("xb-redo"), line)),
        throttle(program, line)?,
        zip(line)?,
        crypt(line)?,
        (!streamed).then(|| Stage::new("xb-unpack").option("--directory", dir.as_os_str())),
    ];
    Ok(Pipeline {
        stages: stages.into_iter().flatten().map(|stage| stage.told(line)).collect(),
        input: Input::Nothing,
        output: if streamed { Output::Ours } else { Output::Nowhere },
        ending: Ending::Backup { dir, replica: line.has("slave-info") },
    })
}

/// Notes the backup in the server, with what the whole pipeline makes of it.
fn noted(stage: Stage, program: Program, line: &Line, streamed: bool) -> Stage {
    if !line.has("history") {
        return stage;
    }
    let tool = if program == Program::MariadbBackup { "mariabackup" } else { program.name() };
    let format = match (streamed, program) {
        (false, _) => "file",
        (true, Program::MariadbBackup) => "mbstream",
        (true, _) => "xbstream",
    };
    let yes = |option: &str| if line.has(option) { "Y" } else { "N" };
    let fields = [
        format!("tool_name={tool}"),
        format!("format={format}"),
        format!("compressed={}", yes("compress")),
        format!("encrypted={}", yes("encrypt")),
    ];
    let stage = stage.option("--history", line.value("history").unwrap_or_default());
    fields.iter().fold(stage, |stage, field| stage.option("--history-field", OsStr::new(field)))
}

/// The stock program refuses a number that is no power of two. It cuts it to what the option can be before.
fn write_ahead(line: &Line) -> Result<()> {
    const BLOCK: u64 = 512;
    let size =
        line.number::<u64>("innodb-log-write-ahead-size")?.map(|size| size.clamp(BLOCK, 8 * BLOCK) & !(BLOCK - 1));
    match size {
        Some(size) if !size.is_power_of_two() => {
            Err(Error::usage("--innodb-log-write-ahead-size", format_args!("{size} is not a power of two")))
        }
        _ => Ok(()),
    }
}

/// True if the backup is a stream.
fn streamed(line: &Line) -> Result<bool> {
    match line.text("stream").as_deref() {
        None => Ok(false),
        Some("xbstream" | "mbstream") => Ok(true),
        Some(other) => Err(Error::usage("--stream", format_args!("{other} is not written")).hint("--stream=xbstream")),
    }
}

fn snap(line: &Line) -> Result<Stage> {
    let mut stage = Stage::new("xb-snap");
    for (theirs, ours) in SWITCHES {
        stage = stage.switched(line, ours, theirs);
    }
    // The stock programs do not look at the directory if they are told the LSN.
    let passed_over = |theirs: &str| theirs == "incremental-basedir" && line.value("incremental-lsn").is_some();
    for (theirs, ours) in OPTIONS.iter().filter(|(theirs, _)| !passed_over(theirs)) {
        stage = stage.valued(line, ours, theirs);
    }
    if let Some(port) = line.number::<u16>("port")?.filter(|port| *port > 0) {
        stage = stage.with([format!("--port={port}")]);
    }
    if line.any_value("password").is_some() {
        // What comes there is nobody's data.
        stage = stage.with(["--password-file=/dev/stdin"]);
    }
    for name in TURNED {
        let word = line.turned(name).map(|on| if on { format!("--{name}") } else { format!("--skip-{name}") });
        stage = stage.with(word);
    }
    if let Some(lsn) = line.text("incremental-lsn") {
        stage = stage.with([format!("--incremental-lsn={}", self::lsn(&lsn)?)]);
    }
    let seconds = ["ftwrl-wait-timeout", "lock-wait-timeout", "backup-lock-timeout", "lock-ddl-timeout"];
    for option in seconds {
        if let Some(seconds) = line.number::<u64>(option)?.filter(|seconds| *seconds > 0) {
            stage = stage.with([format!("--lock-timeout={seconds}")]);
            break;
        }
    }
    if line.has("lock-ddl") && !line.has("no-lock") {
        stage = match line.text("lock-ddl").unwrap_or_else(|| "on".into()).to_ascii_lowercase().as_str() {
            "on" | "1" | "true" => stage.with(["--lock-ddl=early"]),
            "reduced" => stage.with(["--lock-ddl=end"]),
            "off" | "0" | "false" => stage,
            other => return Err(Error::usage("--lock-ddl", format_args!("{other}: ON, OFF or REDUCED"))),
        };
    }
    Ok(spooled(stage, line))
}

/// An LSN; as the oldest programs write it, too: its upper and its lower half.
fn lsn(text: &str) -> Result<u64> {
    let wrong = || Error::usage("--incremental-lsn", format_args!("{text:?} is no LSN"));
    match text.split_once(':') {
        Some((high, low)) => {
            let (high, low): (u32, u32) = (high.parse().map_err(|_| wrong())?, low.parse().map_err(|_| wrong())?);
            Ok(u64::from(high) << 32 | u64::from(low))
        }
        None => text.parse().map_err(|_| wrong()),
    }
}

/// Where log and files wait that cannot be sent yet.
fn spooled(stage: Stage, line: &Line) -> Stage {
    match line.text("tmpdir") {
        Some(dirs) => stage.option("--spool-dir", OsStr::new(dirs.split(':').next().unwrap_or_default())),
        None => stage,
    }
}

/// One operation of the stock program reads so many MiB.
fn throttle(program: Program, line: &Line) -> Result<Option<Stage>> {
    let Some(operations) = line.number::<u64>("throttle")?.filter(|operations| *operations > 0) else {
        return Ok(None);
    };
    let each = if program == Program::MariadbBackup { 1 } else { 10 };
    let rate = format!("--rate-limit={}m", operations.saturating_mul(each));
    Ok(Some(Stage::new("xb-throttle").with([rate])))
}

fn zip(line: &Line) -> Result<Option<Stage>> {
    if !line.has("compress") {
        return Ok(None);
    }
    let algorithm = match line.text("compress").map(|name| name.to_ascii_lowercase()).as_deref() {
        None | Some("quicklz" | "qpress" | "zstd") => "zstd",
        Some("lz4") => "lz4",
        Some(other) => {
            return Err(Error::usage("--compress", format_args!("{other} is not written")).hint("zstd or lz4"));
        }
    };
    let stage = Stage::new("xb-zip")
        .with([format!("--algorithm={algorithm}")])
        .valued(line, "--threads", "compress-threads")
        .valued(line, "--chunk-size", "compress-chunk-size");
    let level = line.number::<u32>("compress-zstd-level")?.filter(|_| algorithm == "zstd");
    Ok(Some(stage.with(level.map(|level| format!("-{level}")))))
}

fn crypt(line: &Line) -> Result<Option<Stage>> {
    if !line.has("encrypt") {
        return Ok(None);
    }
    cipher("--encrypt", line.text("encrypt"))?;
    let stage = keyed(Stage::new("xb-crypt").with(["--format=xbcrypt"]), line, "--encrypt")?;
    Ok(Some(stage.valued(line, "--threads", "encrypt-threads")))
}
