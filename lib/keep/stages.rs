//! The programs of a pipeline, and those that undo it. Pure: argument vectors in, argument vectors out.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::settings::{Compress, Making};
use crate::error::{Error, Result};
use crate::stream::chunk::MAGIC;
use crate::stream::native::SUFFIXES;

/// A program of the settings: `["xb-zip", "-3"]`, or with its reverse.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Program {
    /// One that xb-keep knows.
    Known(Vec<String>),
    /// One that it does not.
    Other {
        /// The program.
        run: Vec<String>,
        /// The program that turns its output into its input.
        undo: Vec<String>,
    },
}

impl Program {
    /// Its argument vector.
    pub fn run(&self) -> &[String] {
        match self {
            Program::Known(run) | Program::Other { run, .. } => run,
        }
    }
}

/// What an increment tells the program that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// A directory with `xb_begin`, `xb_pages` and `xtrabackup_checkpoints` of the base, if they are ours.
    pub dir: Option<PathBuf>,
    /// The LSN from which the changes begin.
    pub lsn: u64,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Programs that do not change what passes, or that begin the stream.
const NEUTRAL: &[&str] = &[
    "xb-snap",
    "xb-redo",
    "xb-pack",
    "xb-throttle",
    "xb-sum",
    "mariadb-backup",
    "mariabackup",
    "xtrabackup",
    "innobackupex",
    "mbstream",
    "xbstream",
    "pv",
    "mbuffer",
    "cat",
    "tee",
    "buffer",
];
/// Programs that code a stream as a whole, and their reverse.
const WHOLE: &[(&str, &[&str])] = &[
    ("gzip", &["gzip", "-dc"]),
    ("pigz", &["gzip", "-dc"]),
    ("zstd", &["zstd", "-dcq"]),
    ("zstdmt", &["zstd", "-dcq"]),
    ("lz4", &["lz4", "-dcq"]),
    ("xz", &["xz", "-dc"]),
    ("bzip2", &["bzip2", "-dc"]),
];
/// What a stream is that is coded as a whole, by its first bytes, and its reverse; empty for one that needs a key.
const MAGICS: &[(&[u8], &[&str])] = &[
    (b"\x1f\x8b", &["gzip", "-dc"]),
    (b"\x28\xb5\x2f\xfd", &["xb-zip", "-d", "--raw"]),
    (b"\x04\x22\x4d\x18", &["xb-zip", "-d", "--raw"]),
    (b"\xfd7zXZ\0", &["xz", "-dc"]),
    (b"BZh", &["bzip2", "-dc"]),
    (b"qpress10", &["xb-zip", "-d", "--raw"]),
    (b"XBCRYP", &[]),
    (b"XBSEAL", &[]),
];

/// The name of a program without directories.
pub fn name(run: &[String]) -> &str {
    run.first().and_then(|program| Path::new(program).file_name()?.to_str()).unwrap_or_default()
}

/// The programs that make a backup.
pub fn pipeline(making: &Making) -> Vec<Vec<String>> {
    if !making.stages.is_empty() {
        return making.stages.iter().map(|stage| stage.run().to_vec()).collect();
    }
    let mut snap = words(&["xb-snap"]);
    snap.extend(making.defaults_file.iter().map(|file| format!("--defaults-file={}", file.display())));
    snap.extend_from_slice(&making.snap_options);
    let mut stages = vec![snap, words(&["xb-redo"])];
    let level = making.level.map(|level| format!("-{level}"));
    match making.compress {
        Compress::Zstd => stages.push(words(&["xb-zip"]).into_iter().chain(level).collect()),
        Compress::Lz4 => stages.push(words(&["xb-zip", "-a", "lz4"])),
        Compress::None => {}
    }
    if let Some(key) = &making.key_file {
        stages.push(vec!["xb-crypt".to_owned(), "-k".to_owned(), key.display().to_string()]);
    }
    stages.extend(making.rate.iter().map(|rate| words(&["xb-throttle", "-q", "-L", rate])));
    stages
}

/// The same for an increment.
///
/// # Errors
///
/// Usage, if the first program is not known to make increments.
pub fn incremental(mut stages: Vec<Vec<String>>, since: &Since) -> Result<Vec<Vec<String>>> {
    let Some(first) = stages.first_mut() else { return Ok(stages) };
    match (name(first), &since.dir) {
        ("xb-snap", Some(dir)) => first.push(format!("--incremental-basedir={}", dir.display())),
        ("xb-snap" | "mariadb-backup" | "mariabackup" | "xtrabackup", _) => {
            first.push(format!("--incremental-lsn={}", since.lsn));
        }
        (other, _) => {
            return Err(Error::usage(other, "is not known to make increments")
                .hint("let the first stage be xb-snap, mariadb-backup or xtrabackup"));
        }
    }
    Ok(stages)
}

/// What is known of a stored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form<'a> {
    /// Its first bytes.
    pub start: &'a [u8],
    /// The suffixes that compression and encryption gave to members, each once for each order.
    pub suffixes: &'a [Vec<u8>],
}

/// The programs that turn a stored stream into a plain one. A stream whose members are coded tells by itself what was
/// done; of others the stages tell, and of one that was added its first bytes.
///
/// # Errors
///
/// Usage, if the reverse of a program is not known, or a key is.
pub fn undo(form: &Form<'_>, stages: &[Program], key: Option<&Path>) -> Result<Vec<Vec<String>>> {
    let key = stages.iter().find_map(|stage| key_of(stage.run())).or_else(|| key.map(|key| key.display().to_string()));
    if form.start.starts_with(&MAGIC) {
        return of_members(form.suffixes, key.as_deref());
    }
    if !stages.is_empty() {
        let reverse = stages.iter().rev().map(|stage| reverse(stage, key.as_deref()));
        return Ok(reverse.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect());
    }
    let Some((_, program)) = MAGICS.iter().find(|(magic, _)| form.start.starts_with(magic)) else {
        return Err(Error::damaged("stdin", "is neither an xbstream nor in a form that is known")
            .hint("--undo PROGRAM says how to turn it into an xbstream"));
    };
    if program.is_empty() {
        // xbcrypt around qpress, as xtrabackup 2.2 wrote it: what is inside is not visible from outside.
        return Ok(vec![decrypt(key.as_deref())?.into_iter().chain(words(&["--raw"])).collect()]);
    }
    Ok(vec![words(program)])
}

/// Refuses stages that cannot be undone, before a backup is made.
///
/// # Errors
///
/// As [`undo`].
pub fn check(stages: &[Program], key: Option<&Path>) -> Result<()> {
    let key = key.map(|key| key.display().to_string());
    stages.iter().try_for_each(|stage| reverse(stage, key.as_deref()).map(drop))
}

fn reverse(stage: &Program, key: Option<&str>) -> Result<Option<Vec<String>>> {
    let run = match stage {
        Program::Other { undo, .. } => return Ok(Some(undo.clone())),
        Program::Known(run) => run,
    };
    let raw = run.iter().any(|word| word == "--raw");
    match name(run) {
        name if NEUTRAL.contains(&name) => Ok(None),
        "xb-zip" if raw => Ok(Some(words(&["xb-zip", "-d", "--raw"]))),
        "xb-zip" => Ok(Some(words(&["xb-zip", "-d"]))),
        "xb-crypt" => {
            let own = key_of(run);
            let raw = raw.then(|| "--raw".to_owned());
            Ok(Some(decrypt(own.as_deref().or(key))?.into_iter().chain(raw).collect()))
        }
        name => match WHOLE.iter().find(|(known, _)| *known == name) {
            Some((_, reverse)) => Ok(Some(words(reverse))),
            None => Err(Error::usage(name, "xb-keep does not know how to undo this program")
                .hint("say it beside: { run = [\"PROGRAM\"], undo = [\"PROGRAM\", \"-d\"] }")),
        },
    }
}

/// For a stream with these suffixes of members: the last suffix is undone first.
fn of_members(suffixes: &[Vec<u8>], key: Option<&str>) -> Result<Vec<Vec<String>>> {
    let longest = suffixes.iter().max_by_key(|suffixes| suffixes.len()).cloned().unwrap_or_default();
    let mut programs: Vec<Vec<String>> = Vec::new();
    let mut rest = longest.as_slice();
    while let Some((suffix, shorter)) = SUFFIXES.iter().find_map(|suffix| Some((*suffix, rest.strip_suffix(*suffix)?)))
    {
        programs.push(match suffix {
            b".xbseal" | b".xbcrypt" => decrypt(key)?,
            _ => words(&["xb-zip", "-d"]),
        });
        rest = shorter;
    }
    Ok(programs)
}

fn decrypt(key: Option<&str>) -> Result<Vec<String>> {
    let key = key.ok_or_else(|| {
        Error::usage("key_file", "the stream is encrypted, and no key is set")
            .hint("key_file in [backup] of the settings")
    })?;
    Ok(words(&["xb-crypt", "-d", "-k", key]))
}

/// The file of `-k` of xb-crypt.
fn key_of(run: &[String]) -> Option<String> {
    if name(run) != "xb-crypt" {
        return None;
    }
    let mut words = run.iter();
    while let Some(word) = words.next() {
        if word == "-k" || word == "--key-file" {
            return words.next().cloned();
        }
        if let Some(file) = word.strip_prefix("--key-file=") {
            return Some(file.to_owned());
        }
    }
    None
}

/// The suffix of a stored stream's name that says how it is coded as a whole; for people.
pub fn suffix(start: &[u8]) -> &'static str {
    match start {
        [b'X', b'B', b'S', ..] if start.starts_with(&MAGIC) => "",
        [0x1f, 0x8b, ..] => ".gz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ".zst",
        [0x04, 0x22, 0x4d, 0x18, ..] => ".lz4",
        _ if start.starts_with(b"qpress10") => ".qp",
        _ if start.starts_with(b"XBCRYP") => ".xbcrypt",
        _ if start.starts_with(b"XBSEAL") => ".xbseal",
        _ => ".coded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stages: &[Vec<String>]) -> String {
        stages.iter().map(|stage| stage.join(" ")).collect::<Vec<_>>().join(" | ")
    }

    fn known(text: &str) -> Vec<Program> {
        let stage = |stage: &str| Program::Known(stage.split_whitespace().map(str::to_owned).collect());
        text.split('|').map(stage).collect()
    }

    #[test]
    fn settings_become_a_pipeline() {
        let mut making = Making::default();
        assert_eq!(line(&pipeline(&making)), "xb-snap | xb-redo | xb-zip");
        making.key_file = Some("/k".into());
        making.level = Some(9);
        making.rate = Some("50m".into());
        making.defaults_file = Some("/c".into());
        let expect = "xb-snap --defaults-file=/c | xb-redo | xb-zip -9 | xb-crypt -k /k | xb-throttle -q -L 50m";
        assert_eq!(line(&pipeline(&making)), expect);
        let since = Since { dir: Some("/base".into()), lsn: 7 };
        let stages = incremental(pipeline(&making), &since).unwrap();
        assert!(line(&stages).starts_with("xb-snap --defaults-file=/c --incremental-basedir=/base | "));
        assert!(incremental(vec![words(&["tar", "-c"])], &since).is_err());
    }

    #[test]
    fn members_tell_what_was_done_to_them() {
        let undo = |suffixes: &[&str], key: Option<&str>| {
            let suffixes: Vec<Vec<u8>> = suffixes.iter().map(|suffix| suffix.as_bytes().to_vec()).collect();
            undo(&Form { start: &MAGIC, suffixes: &suffixes }, &[], key.map(Path::new)).map(|undo| line(&undo))
        };
        assert_eq!(undo(&[""], None).unwrap(), "");
        assert_eq!(undo(&["", ".zst"], None).unwrap(), "xb-zip -d");
        assert_eq!(undo(&[".xbseal", ".zst.xbseal", ""], Some("/k")).unwrap(), "xb-crypt -d -k /k | xb-zip -d");
        assert_eq!(undo(&[".qp.xbcrypt"], Some("/k")).unwrap(), "xb-crypt -d -k /k | xb-zip -d");
        assert!(undo(&[".xbseal"], None).unwrap_err().to_string().contains("no key is set"));
    }

    #[test]
    fn of_other_streams_the_stages_tell() {
        let of = |stages: &str| {
            undo(&Form { start: b"\x1f\x8b", suffixes: &[] }, &known(stages), None).map(|undo| line(&undo))
        };
        assert_eq!(of("xb-snap | xb-redo | gzip -1").unwrap(), "gzip -dc");
        assert_eq!(
            of("xb-snap | xb-redo | xb-zip --raw | xb-crypt --raw -k /k").unwrap(),
            "xb-crypt -d -k /k --raw | xb-zip -d --raw"
        );
        assert!(of("xb-snap | xb-redo | openssl enc").unwrap_err().to_string().starts_with("openssl: "));
        let other = Program::Other { run: words(&["age", "-r", "x"]), undo: words(&["age", "-d"]) };
        let form = Form { start: b"age-", suffixes: &[] };
        assert_eq!(line(&undo(&form, &[known("xb-snap").remove(0), other], None).unwrap()), "age -d");
    }

    #[test]
    fn of_what_is_added_the_first_bytes_tell() {
        let of =
            |start: &[u8]| undo(&Form { start, suffixes: &[] }, &[], Some(Path::new("/k"))).map(|undo| line(&undo));
        assert_eq!(of(b"\x1f\x8b\x08").unwrap(), "gzip -dc");
        assert_eq!(of(b"XBCRYP03").unwrap(), "xb-crypt -d -k /k --raw");
        assert!(of(b"what?").is_err());
    }
}
