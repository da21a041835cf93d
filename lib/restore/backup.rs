//! What a directory contains: a backup of ours or of another program, of which kind, complete or not, applied or not.
//!
//! Everything here only reads. A directory with a fault gives an error of kind *damaged* with the reason; so
//! [`Backup::read`] followed by [`Backup::check`] is all that `--status` does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::files::{self, fail};
use super::foreign_tables;
use super::state::{State, Step};
use super::waiting::Waiting;
use crate::bytes::Part as _;
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::redo::{mariadb, mysql};
use crate::io;
use crate::log::captured;
use crate::log::captured::mariadb::Captured;
use crate::metadata::{self, CHECKPOINTS, INFO};
use crate::server::Family;
use crate::stream::name;
use crate::stream::native::names::{APPLIED, BEGIN, INCOMPLETE, MANIFEST, MERGING};
use crate::stream::native::{self, Begin, Entry, EntryKind, Line, ManifestReader, StreamKind, Trailer};

/// The text of [`INCOMPLETE`] after the name of the program.
pub(super) const UNFINISHED: &str = " has not ended well in this directory: do not use what is in it.";
const OPTIONS: &str = "backup-my.cnf";

/// How far a backup has been restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Unpacked, not changed since.
    Unpacked,
    /// `--apply` was interrupted; another run continues.
    Half,
    /// Ready to be copied into a data directory.
    Applied,
}

/// A backup in a directory.
#[derive(Clone, Debug)]
pub(super) struct Backup {
    /// Its path.
    pub(super) path: PathBuf,
    /// The manifest; `None`: another program made it.
    pub(super) ours: Option<Box<Ours>>,
    /// The family of the server that was copied.
    pub(super) family: Family,
    /// The kind of the stream.
    pub(super) kind: StreamKind,
    /// How far it has been restored.
    pub(super) progress: Progress,
    /// The state that `--apply` has recorded.
    pub(super) state: Option<State>,
    /// Where its log begins: the checkpoint LSN. Backups of other programs do not record it.
    pub(super) start_lsn: Option<Lsn>,
    /// Where its log ends: the end LSN. In backups of other programs the log may go beyond it.
    pub(super) end_lsn: Option<Lsn>,
    /// The version that the server reported: `10.11.19-MariaDB`.
    pub(super) server_version: Option<String>,
    /// True if the operator left tables out.
    pub(super) partial: bool,
    /// Variables of that server that recovery needs.
    pub(super) options: BTreeMap<String, String>,
    /// How it waits for its log to be applied.
    pub(super) waiting: Option<Waiting>,
}

/// The parts that only our own backups have.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    /// `xb_begin`.
    pub(super) begin: Begin,
    /// The manifest's lines.
    pub(super) entries: Vec<Entry>,
    /// The manifest's last line.
    pub(super) trailer: Trailer,
}

impl Backup {
    /// Reads the metadata of a directory.
    pub(super) fn read(path: &Path) -> Result<Backup> {
        let data = std::fs::metadata(path).map_err(|cause| fail(path, "cannot open", &cause))?;
        if !data.is_dir() {
            return Err(Error::failed(path.display(), "is not a directory"));
        }
        if let Some(who) = io::small(&path.join(INCOMPLETE))? {
            let who = who.to_str_lossy();
            let who = who.lines().next().unwrap_or_default().trim().trim_end_matches(UNFINISHED);
            return Err(Error::damaged(path.display(), format_args!("incomplete: {who} has not ended well in it"))
                .hint("check its message and exit status, remove the directory, and run it again"));
        }
        if io::small(&path.join(MERGING))?.is_some() {
            return Err(Error::damaged(path.display(), "half merged: xb-redo --merge did not finish")
                .hint("run it again with the same increments; it continues"));
        }
        let has =
            |name: &str| path.join(name).try_exists().map_err(|cause| fail(&path.join(name), "cannot read", &cause));
        let state = State::read(path)?;
        match (has(BEGIN)?, has(MANIFEST)?) {
            (true, true) => Self::ours(path, state),
            (true, false) => Err(Error::damaged(path.display(), "truncated: it has xb_begin and no xb_manifest")
                .hint("the stream ended early, or was not unpacked by xb-unpack to its end")),
            (false, true) => Err(Error::damaged(path.display(), "damaged: it has xb_manifest and no xb_begin")),
            (false, false) => Self::foreign(path, state),
        }
    }

    /// Reads a backup of ours, whether a merge is unfinished or not.
    pub(super) fn ours(path: &Path, state: Option<State>) -> Result<Backup> {
        let bytes = io::small(&path.join(BEGIN))?.unwrap_or_default();
        let begin = native::parse_begin(&path.display().to_string(), &bytes)?;
        let (entries, trailer) = manifest(&path.join(MANIFEST))?;
        if trailer.backup_id != begin.backup_id {
            return Err(Error::damaged(path.display(), "damaged: xb_begin and xb_manifest are of different backups"));
        }
        if let Some(state) = &state
            && (state.backup_id.as_ref() != Some(&begin.backup_id) || state.end() != trailer.end_lsn)
        {
            return Err(of_another(&path.join(APPLIED)));
        }
        let family = match (begin.family, begin.kind) {
            (Some(family), _) => family,
            // The caller that needs a server refuses it: there is none.
            (None, StreamKind::Files) => Family::MariaDb,
            (None, _) => return Err(Error::damaged(path.display(), "damaged: xb_begin names no server")),
        };
        native::bind(&bytes, &trailer)?;
        Ok(Backup {
            path: path.to_owned(),
            family,
            kind: begin.kind,
            progress: progress(state.as_ref(), backup_type(path)?.as_deref()),
            state,
            start_lsn: begin.redo.as_ref().map(|redo| redo.checkpoint_lsn),
            end_lsn: trailer.end_lsn,
            server_version: begin.server_version.clone(),
            partial: trailer.partial,
            options: trailer.server_options.clone(),
            waiting: Waiting::read(path)?,
            ours: Some(Box::new(Ours { begin, entries, trailer })),
        })
    }

    fn foreign(path: &Path, state: Option<State>) -> Result<Backup> {
        let Some(text) = first_of(path, &CHECKPOINTS)? else {
            return Err(Error::damaged(
                path.display(),
                "is not a complete backup: it has neither xb_manifest nor xtrabackup_checkpoints",
            ));
        };
        if path.join(mysql::FILE).exists() || path.join(mysql::DIR).exists() {
            return Err(Error::failed(path.display(), "is a backup of MySQL by xtrabackup")
                .hint(format_args!("xtrabackup --prepare --target-dir={}", path.display())));
        }
        if state.as_ref().is_some_and(|state| state.backup_id.is_some()) {
            return Err(of_another(&path.join(APPLIED)));
        }
        let checkpoints = metadata::pairs(&text);
        let info = first_of(path, &INFO)?.map(|text| metadata::pairs(&text)).unwrap_or_default();
        let options = io::small(&path.join(OPTIONS))?;
        let Some(options) = options else {
            return Err(Error::damaged(path.display(), "incomplete: backup-my.cnf is missing"));
        };
        let backup_type = checkpoints.get("backup_type").map(String::as_str);
        let kind = match backup_type {
            Some("full-backuped" | "log-applied" | "full-prepared") => StreamKind::Full,
            Some("incremental") => StreamKind::Incremental,
            other => {
                let what = format!("damaged: backup_type is {:?} in xtrabackup_checkpoints", other.unwrap_or_default());
                return Err(Error::damaged(path.display(), what));
            }
        };
        let version = info.get("server_version").or_else(|| info.get("ibbackup_version"));
        Ok(Backup {
            path: path.to_owned(),
            ours: None,
            family: Family::MariaDb,
            kind,
            progress: progress(state.as_ref(), backup_type),
            start_lsn: state.as_ref().map(|state| state.start_lsn),
            end_lsn: checkpoints.get("last_lsn").and_then(|lsn| lsn.parse().ok()),
            state,
            server_version: version.cloned(),
            partial: info.get("partial").is_some_and(|partial| partial == "Y"),
            options: metadata::pairs(&options),
            waiting: None,
        })
    }

    /// True for a server without InnoDB, whose backup has no redo log.
    pub(super) fn without_innodb(&self) -> bool {
        self.ours.as_ref().is_some_and(|ours| ours.begin.without_innodb)
    }

    /// Ids of MySQL tablespaces that were left out.
    pub(super) fn left_out(&self) -> &[SpaceId] {
        self.ours.as_ref().map_or(&[], |ours| &ours.trailer.left_out)
    }

    /// The id of a backup of ours.
    pub(super) fn id(&self) -> Option<&str> {
        self.ours.as_ref().map(|ours| ours.begin.backup_id.as_str())
    }

    /// Identifies this backup among all others: its id, or the digest of another program's metadata.
    pub(super) fn identity(&self) -> Result<String> {
        match (self.id(), self.end_lsn) {
            (Some(id), Some(end)) => Ok(format!("backup {id} up to lsn {end}")),
            (Some(id), None) => Ok(format!("backup {id}")),
            (None, _) => {
                Ok(format!("backup {}", blake3::hash(&first_of(&self.path, &CHECKPOINTS)?.unwrap_or_default())))
            }
        }
    }

    /// Checks everything that does not need the data to be read: that it can be restored, that its files exist, and its
    /// log.
    pub(super) fn check(&self) -> Result<()> {
        let place = self.path.display();
        match self.kind {
            StreamKind::Full => {}
            StreamKind::Incremental if self.ours.is_some() => {}
            StreamKind::Incremental => {
                return Err(Error::damaged(place, "is an increment of mariadb-backup, which only that can merge")
                    .hint("mariadb-backup --prepare --target-dir=BASE --incremental-dir=DIR, on a prepared base"));
            }
            StreamKind::Files => {
                return Err(Error::damaged(place, "holds files of xb-pack, not the backup of a server"));
            }
        }
        match (self.progress, &self.state) {
            (Progress::Half, Some(State { step: Step::Moving, datadir, .. })) => {
                let datadir = datadir.as_deref().unwrap_or_default();
                let what = format!("some of its files were moved into a data directory, {datadir}");
                Err(Error::damaged(place, what).hint(format_args!(
                    "--copy-back --move --datadir {datadir} continues, if nothing was changed there"
                )))
            }
            (Progress::Half, Some(State { step: Step::Moved, datadir, .. })) => {
                let datadir = datadir.as_deref().unwrap_or_default();
                Err(Error::damaged(place, format!("its files were moved into a data directory, {datadir}")))
            }
            (Progress::Half, Some(State { step: Step::Astray, .. })) => {
                Err(Error::damaged(place, "half recovered: its log did not end where the backup's does")
                    .hint("unpack the backup again"))
            }
            (Progress::Half, Some(State { step: Step::Undecided, .. })) => {
                let what = "half recovered: it has prepared transactions, and what decides about them, the server's \
                    binary log, is not in the backup";
                Err(Error::new(Kind::Invalid, place, what).hint(
                    "take the backup again, with locks; or decide yourself: mariadbd --tc-heuristic-recover=ROLLBACK \
                     --datadir=… loses what was acknowledged, COMMIT may bring what was not",
                ))
            }
            (Progress::Half, _) => Err(Error::damaged(place, "half applied: xb-redo --apply did not finish")
                .hint("run xb-redo --apply on it again")),
            (Progress::Applied, Some(State { files: Some(then), .. })) => {
                let now = files::fingerprint(&self.path)?;
                if now == *then {
                    return Ok(());
                }
                let what = format!(
                    "changed since it was applied: {} files with {} bytes then, {} with {} now",
                    then.count, then.bytes, now.count, now.bytes
                );
                Err(Error::damaged(place, what).hint("files are missing or damaged, or a server has run on it"))
            }
            (Progress::Applied, _) => self.check_essentials(),
            (Progress::Unpacked, _) => {
                self.waiting.as_ref().map_or(Ok(()), |waiting| waiting.untouched(&self.path))?;
                self.check_unpacked()
            }
        }
    }

    /// Refuses an increment, which is not a backup by itself.
    pub(super) fn refuse_increment(&self) -> Result<()> {
        if self.kind != StreamKind::Incremental {
            return Ok(());
        }
        let place = self.path.display();
        Err(Error::damaged(place, "is an increment, which cannot be restored without its base")
            .hint(format_args!("xb-redo --apply BASE --incremental-dir {}", self.path.display())))
    }

    /// Checks that all files of a backup exist in their plain form, before `--apply` begins; does not read their
    /// content.
    pub(super) fn check_present(&self) -> Result<()> {
        match (&self.ours, self.kind, self.progress) {
            (Some(ours), StreamKind::Full, Progress::Unpacked) => {
                ours.entries.iter().try_for_each(|entry| self.check_size(entry))
            }
            _ => self.check(),
        }
    }

    fn check_unpacked(&self) -> Result<()> {
        let Some(ours) = &self.ours else {
            self.check_essentials()?;
            let end = Captured::open(&self.path)?.verify(None, None)?;
            return match self.end_lsn {
                Some(said) if end < said => {
                    let what = format!("truncated: ends at lsn {end}, the backup at {said}");
                    Err(Error::damaged(self.path.join(mariadb::FILE).display(), what))
                }
                Some(_) => Ok(()),
                None => Err(Error::damaged(self.path.display(), "damaged: xtrabackup_checkpoints has no last_lsn")),
            };
        };
        let has_log = ours.entries.iter().any(|entry| entry.kind == EntryKind::Redo);
        if has_log && ours.begin.without_innodb {
            let what = "damaged: has a redo log, although xb_begin says that the server has no InnoDB";
            return Err(Error::damaged(self.path.display(), what));
        }
        if !has_log && ours.begin.has_log() {
            return Err(Error::damaged(self.path.display(), "has no redo log: it was not piped through xb-redo")
                .hint("xb-snap … | xb-redo | xb-unpack -C DIR; without the log no server can use the copy"));
        }
        let lsns = match (self.start_lsn, self.end_lsn) {
            (Some(start), Some(end)) => Some((start, end)),
            (None, None) if ours.begin.without_innodb => None,
            _ => return Err(Error::damaged(self.path.display(), "damaged: xb_begin or xb_manifest has no lsn")),
        };
        ours.entries.iter().try_for_each(|entry| self.check_size(entry))?;
        let listed = ours.entries.iter().map(|entry| self.file(entry)).collect::<Result<_>>()?;
        foreign_tables::refuse(&self.path, &listed)?;
        lsns.map_or(Ok(()), |(start, end)| captured::verify(&self.path, self.family, start, end))
    }

    /// Without a manifest: checks the files that every server needs.
    fn check_essentials(&self) -> Result<()> {
        let system = self.options.get("innodb_data_file_path").map_or("ibdata1", String::as_str);
        let system = system.split([':', ';']).next().unwrap_or("ibdata1");
        for name in [system.rsplit('/').next().unwrap_or(system), mariadb::FILE, "aria_log_control"] {
            if !self.path.join(name).is_file() {
                return Err(Error::damaged(self.path.join(name).display(), "missing"));
            }
        }
        Ok(())
    }

    fn check_size(&self, entry: &Entry) -> Result<()> {
        let path = self.file(entry)?;
        match std::fs::symlink_metadata(&path) {
            Ok(data) if data.is_file() && self.plain_size(entry, data.len()) == entry.size => Ok(()),
            Ok(data) if data.is_file() => Err(Error::damaged(
                path.display(),
                format_args!("{} bytes, the manifest says {}", data.len(), entry.size),
            )),
            Ok(_) => Err(Error::damaged(path.display(), "not a file, which the manifest says it is")),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let coded = native::SUFFIXES.iter().find(|suffix| {
                    let mut name = path.as_os_str().to_owned();
                    name.push(OsStr::from_bytes(suffix));
                    Path::new(&name).exists()
                });
                let error = Error::damaged(path.display(), "missing: the manifest lists it");
                Err(match coded {
                    Some(_) => error.hint(
                        "it is there compressed or encrypted; xb-crypt -d or xb-zip -d the stream before xb-unpack",
                    ),
                    None => error,
                })
            }
            Err(cause) => Err(fail(&path, "cannot read", &cause)),
        }
    }

    /// Size of an entry's file without the room that its log has while the directory waits.
    fn plain_size(&self, entry: &Entry, size: u64) -> u64 {
        let path = entry.path().unwrap_or_default();
        self.waiting.as_ref().map_or(size, |waiting| waiting.size(Path::new(OsStr::from_bytes(&path)), size))
    }

    /// The path of an entry's file. A name that leads out of the directory means damage.
    pub(super) fn file(&self, entry: &Entry) -> Result<PathBuf> {
        let path = entry.path().unwrap_or_default();
        match name::clean(&path) {
            Ok(clean) => {
                let path = Path::new(OsStr::from_bytes(&clean));
                Ok(self.path.join(self.waiting.as_ref().map_or(path, |waiting| waiting.place(path))))
            }
            Err(fault) => Err(Error::damaged("xb_manifest", format_args!("{}: refused: {fault}", path.as_bstr()))),
        }
    }
}

/// The error for a state file of ours that belongs to another backup than the one in the directory.
pub(super) fn of_another(note: &Path) -> Error {
    Error::damaged(note.display(), "belongs to another backup than the one in this directory")
        .hint("unpack the backup again, into a new directory")
}

/// The lines of a manifest, if it is complete.
fn manifest(path: &Path) -> Result<(Vec<Entry>, Trailer)> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(|cause| fail(path, "cannot open", &cause))?;
    let (mut reader, mut entries, mut trailer) = (ManifestReader::default(), Vec::new(), None);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(fail(path, "cannot read", &cause)),
        };
        reader.feed(buffer.part(..got)?, |line, _| {
            match line {
                Line::Entry(entry) => entries.push(*entry),
                Line::Trailer(last) => trailer = Some(*last),
            }
            Ok(())
        })?;
    }
    reader.finish()?;
    let trailer = trailer.ok_or_else(|| Error::damaged(path.display(), "its last line is missing"))?;
    Ok((entries, trailer))
}

fn progress(state: Option<&State>, backup_type: Option<&str>) -> Progress {
    match (state.map(|state| state.step), backup_type) {
        (Some(Step::Applied), _) | (None, Some("log-applied" | "full-prepared")) => Progress::Applied,
        (Some(_), _) => Progress::Half,
        (None, _) => Progress::Unpacked,
    }
}

fn backup_type(path: &Path) -> Result<Option<String>> {
    Ok(first_of(path, &CHECKPOINTS)?.and_then(|text| metadata::pairs(&text).remove("backup_type")))
}

/// The content of the first file that exists.
fn first_of(dir: &Path, names: &[&str]) -> Result<Option<Vec<u8>>> {
    for name in names {
        if let Some(bytes) = io::small(&dir.join(name))? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
