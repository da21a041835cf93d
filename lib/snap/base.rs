//! The base of an increment: `--incremental-basedir`, `-lsn` or `-history`. Source:
//! `facts/mariadb-hot-backup#increments`.
//!
//! An increment copies the pages that are newer than the checkpoint LSN at which its base began; our own backups have
//! it as `to_lsn`. mariadb-backup and xtrabackup write the checkpoint at the end of the backup as `to_lsn`, because
//! they apply the log of the base before they apply an increment. An increment on such a base has the pages since that
//! checkpoint, and only the `--prepare` of that program can use it.

pub(super) mod pages;
mod stream;

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::ByteSlice;

use super::base::pages::BasePages;
use super::base::stream::Found;
use super::copy::Since;
use super::filter::Filter;
use super::history;
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::ids::{LogicalPageSize, Lsn};
use crate::innodb::redo::mysql;
use crate::io::small;
use crate::metadata::{self, CHECKPOINTS};
use crate::report::{Level, Report};
use crate::server::Family;
use crate::server::Session;
use crate::server::session::told;
use crate::stream::chunk;
use crate::stream::native::names::{APPLIED, MERGING};
use crate::stream::native::{
    self, BEGIN, INCOMPLETE, LINE_MAX, Line, MANIFEST, ManifestReader, PAGES, Redo, StreamKind,
};
use crate::stream::{Body, Reader};

/// This many pages may differ without a warning. A server changes far fewer pages without a new LSN.
const FEW: u64 = 64;
/// The last chunk of a stream is shorter than this.
const END_CHUNK_MAX: u64 = 128;
/// The server's options, in a backup of any program.
const OPTIONS: &str = "backup-my.cnf";
/// How many bytes of a manifest are read at a time.
const PIECE: u64 = 256 << 10;

/// What the operator asks for; at most one of these.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `--incremental-basedir`
    pub basedir: Option<PathBuf>,
    /// `--incremental-lsn`
    pub lsn: Option<Lsn>,
    /// `--incremental-history`, `--incremental-history-uuid`
    pub history: Option<Noted>,
}

/// A backup in the server's table of backups.
#[derive(Clone, Debug)]
pub enum Noted {
    /// The newest of this name.
    Name(String),
    /// The one with this UUID.
    Uuid(String),
}

/// The backup that an increment builds on.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its path or name, for messages.
    place: String,
    /// Its id; `None` if another program made it, or if only an LSN was given.
    id: Option<String>,
    /// Pages newer than this are copied.
    lsn: Lsn,
    /// Family of the server that was copied.
    family: Option<Family>,
    /// The UUID of that server.
    server: Option<String>,
    /// MySQL: the UUID of its redo log.
    log_uuid: Option<u32>,
    /// Which tables it has.
    filter: Option<String>,
    /// The server's page size in bytes, if known.
    page_size: Option<LogicalPageSize>,
    /// The digests of its pages, or why there are none.
    pages: Result<Arc<BasePages>, String>,
}

/// Why the page digests of a base are unknown: another program made it, or only its LSN was given.
const FOREIGN: &str = "only its lsn is known";
/// The same for a base of ours that an older program made, or that is an increment on a base without digests.
const UNKNOWN: &str = "it has no xb_pages";

impl Asked {
    /// Reads `xb_begin`, the metadata and the page digests of the base, or finds it in the server's history tables;
    /// `None` for a full backup. What is read from a stream is kept in an unlinked file in `dir`.
    pub fn base(
        &self,
        server: impl FnOnce() -> Result<Session>,
        dir: &Path,
        report: &dyn Report,
    ) -> Result<Option<Base>> {
        match (&self.basedir, self.lsn, &self.history) {
            (Some(path), ..) => Base::read(path, dir, report).map(Some),
            (_, Some(lsn), _) => Ok(Some(Base::foreign("--incremental-lsn".into(), lsn))),
            (.., Some(noted)) => of_history(&mut server()?, noted, report).map(Some),
            (None, None, None) => Ok(None),
        }
    }
}

impl Base {
    /// A base of which only the LSN is known.
    fn foreign(place: String, lsn: Lsn) -> Base {
        let pages = Err(FOREIGN.to_owned());
        Base { place, id: None, lsn, family: None, server: None, log_uuid: None, filter: None, page_size: None, pages }
    }

    fn read(path: &Path, dir: &Path, report: &dyn Report) -> Result<Base> {
        let data = path.metadata().map_err(|cause| Error::io(path.display(), "cannot open", &cause))?;
        if !data.is_dir() {
            let (file, begin) = of_stream(path)?;
            let base = of_begin(path, &begin)?;
            let place = format!("{}: xb_pages", path.display());
            return match stream::pages(&file, &base.place, dir)? {
                Found::Plain(file) => base.with(file, &place),
                Found::Coded(name) => Ok(Base { pages: Err(format!("its digests are coded, as {name}")), ..base }),
                Found::Missing => Ok(base),
            };
        }
        if small(&path.join(file_name(INCOMPLETE)))?.is_some() {
            return Err(Error::damaged(path.display(), "incomplete: the program that wrote it failed, or still runs"));
        }
        if small(&path.join(MERGING))?.is_some() {
            return Err(Error::damaged(path.display(), "half merged: xb-redo --merge did not finish")
                .hint("run it again with the same increments; it continues"));
        }
        if small(&path.join(APPLIED))?.is_some() {
            let what = "is applied: the increment will fit an unapplied copy of it, and not this one";
            report.note(Level::Warning, format_args!("{}: {what}", path.display()));
        }
        let checkpoints = CHECKPOINTS.iter().find_map(|name| small(&path.join(name)).transpose()).transpose()?;
        match (small(&path.join(file_name(BEGIN)))?, checkpoints) {
            (Some(begin), Some(_)) => {
                bound(&path.join(file_name(MANIFEST)), &begin)?;
                let base = of_begin(path, &begin)?;
                let path = path.join(file_name(PAGES));
                match File::open(&path) {
                    Ok(file) => base.with(file, &path.display()),
                    Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(base),
                    Err(cause) => Err(Error::io(path.display(), "cannot open", &cause)),
                }
            }
            (Some(_), None) => Err(Error::damaged(path.display(), "truncated: xtrabackup_checkpoints is missing")),
            (None, Some(text)) => {
                let maker = if path.join(mysql::FILE).exists() { "xtrabackup" } else { "mariadb-backup" };
                made_by(maker, &path.display(), report);
                let options = small(&path.join(OPTIONS))?.unwrap_or_default();
                Ok(Base { page_size: page_size(path, &options)?, ..of_checkpoints(path, &text)? })
            }
            (None, None) => Err(Error::failed(
                path.display(),
                "is not a backup: it has neither xb_begin nor xtrabackup_checkpoints",
            )),
        }
    }

    /// The base as `xb_begin` of the increment names it.
    pub(super) fn profile(&self) -> native::Base {
        native::Base { id: self.id.clone(), lsn: self.lsn, proved: self.pages.is_ok() }
    }

    /// Adds the page digests.
    fn with(self, file: File, place: &dyn Display) -> Result<Base> {
        let pages = BasePages::open(file, place, self.id.as_deref().unwrap_or_default())?;
        Ok(Base { page_size: pages.page_size(), pages: Ok(Arc::new(pages)), ..self })
    }

    /// What an increment on this base copies.
    pub(super) fn since(&self, family: Family) -> Since<'_> {
        let pages = self.pages.as_ref().ok().map(|pages| &**pages);
        Since { lsn: self.lsn, flags: family == Family::MySql, pages }
    }

    /// Warns that this increment is right only if the server has the same history as the base.
    pub(super) fn warn(&self, report: &dyn Report) {
        if let Err(reason) = &self.pages {
            let what = "cannot prove that pages which are not newer are unchanged since the base";
            let advice = "a server that was restored or cloned since needs a full backup; keep --extra-lsndir as base";
            report.note(Level::Warning, format_args!("{}: {what}: {reason}; {advice}", self.place));
        }
    }

    /// Reports which backup the increment needs, and how many pages differ from the base although they are not newer.
    pub(super) fn tell(&self, report: &dyn Report) {
        if let Some(id) = &self.id {
            report
                .note(Level::Info, format_args!("{}: the increment can be merged into backup {id} alone", self.place));
        }
        let Ok(pages) = &self.pages else { return };
        let (compared, different) = pages.counts();
        let what = format_args!(
            "{}: {different} of {compared} pages are not newer than this base and not the same as in it{}",
            self.place,
            if different == 0 { "" } else { "; they were sent" }
        );
        report.note(Level::Info, what);
        if different > FEW && different.saturating_mul(100) > compared {
            let what = "has another history than the server, which was restored, cloned or created again since";
            report.note(
                Level::Warning,
                format_args!(
                    "{}: {what}: {different} of {compared} pages differ without being newer; the increment is right, \
                     and a full backup is due",
                    self.place
                ),
            );
        }
    }

    /// Checks that the page size of the server is that of the base.
    pub(super) fn check_pages(&self, server: u64) -> Result<()> {
        match self.page_size {
            Some(then) if u64::from(then.get()) != server => {
                let what = format!("is of another server: its pages have {then} bytes, those of this server {server}");
                Err(Error::invalid(&self.place, what).hint("take a full backup of this server"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the server can be a later state of the base, as far as its identity, LSN and log show.
    pub(super) fn check(&self, family: Family, server: Option<&str>, redo: &Redo, filter: &Filter) -> Result<()> {
        let checkpoint_lsn = redo.checkpoint_lsn;
        if let Some(then) = self.family.filter(|then| *then != family) {
            let what = format!("is of another kind of server: {then}, this is {family}");
            return Err(Error::invalid(&self.place, what).hint("take a full backup of this server"));
        }
        if let (Some(then), Some(now)) = (self.server.as_deref(), server)
            && then != now
        {
            return Err(Error::invalid(&self.place, format_args!("is of server {then}, this is server {now}"))
                .hint("take a full backup of this server"));
        }
        if checkpoint_lsn < self.lsn {
            let what = format!("begins at lsn {}, the server is only at lsn {}", self.lsn, checkpoint_lsn);
            return Err(Error::invalid(&self.place, what)
                .hint("is it of another server, or was this one restored since? take a full backup"));
        }
        // A restore creates a new log, and sometimes the same server does. The page digests decide.
        if let (Err(reason), Some(then), Some(now)) = (&self.pages, self.log_uuid, redo.log_uuid)
            && then != now
        {
            let what = format!("was made with another redo log ({then:08x}, now {now:08x}), and {reason}");
            return Err(Error::invalid(&self.place, what).hint("was the server restored since? take a full backup"));
        }
        if self.id.is_some() && self.filter != filter.identity() {
            let what = match (&self.filter, filter.is_partial()) {
                (None, _) => "has all tables, and some are to be left out now",
                (_, false) => "has only some tables, and none is to be left out now",
                _ => "was made with other options for tables or databases",
            };
            return Err(Error::invalid(&self.place, what)
                .hint("an increment has the options of its base; with others take a full backup"));
        }
        Ok(())
    }
}

/// The page size in a `backup-my.cnf`; `None` if it has none.
fn page_size(path: &Path, options: &[u8]) -> Result<Option<LogicalPageSize>> {
    let pairs = options.lines().filter_map(|line| line.split_once_str("="));
    let value = pairs.into_iter().find(|(key, _)| key.trim() == b"innodb_page_size").map(|(_, value)| value.trim());
    let fault = |value: &[u8], why: &str| {
        let what = format!("innodb_page_size is {:?}, which {why}", value.as_bstr());
        Error::damaged(path.join(OPTIONS).display(), what)
    };
    value
        .map(|value| {
            let number = value.to_str().ok().and_then(|text| text.parse().ok());
            let number = number.ok_or_else(|| fault(value, "is not a number"))?;
            LogicalPageSize::new(number).ok_or_else(|| fault(value, "no server has"))
        })
        .transpose()
}

/// Checks that `xb_begin` belongs to the manifest, if there is one: a directory of `--extra-lsndir` has none.
fn bound(path: &Path, begin: &[u8]) -> Result<()> {
    let fail = |cause: &std::io::Error| Error::io(path.display(), "cannot read", cause);
    let mut file = match File::open(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(|cause| fail(&cause))?,
    };
    let (mut reader, mut piece) = (ManifestReader::default(), Vec::new());
    loop {
        piece.clear();
        if Read::by_ref(&mut file).take(PIECE).read_to_end(&mut piece).map_err(|cause| fail(&cause))? == 0 {
            return reader.finish();
        }
        reader.feed(&piece, |line, _| match line {
            Line::Trailer(trailer) => native::bind(begin, &trailer),
            Line::Entry(_) => Ok(()),
        })?;
    }
}

fn of_begin(path: &Path, begin: &[u8]) -> Result<Base> {
    let begin = native::parse_begin(&path.display().to_string(), begin)?;
    match begin.redo {
        Some(redo) if begin.kind != StreamKind::Files => Ok(Base {
            place: path.display().to_string(),
            id: Some(begin.backup_id),
            lsn: redo.checkpoint_lsn,
            family: begin.family,
            server: begin.server_uuid,
            log_uuid: redo.log_uuid,
            filter: begin.filter,
            page_size: None,
            pages: Err(UNKNOWN.to_owned()),
        }),
        None if begin.without_innodb => {
            Err(Error::failed(path.display(), "is of a server without InnoDB, which increments need")
                .hint("take a full backup"))
        }
        _ => Err(Error::failed(path.display(), "holds files of xb-pack, not the backup of a server")),
    }
}

/// A backup in the server's history table. Source: `backup_mysql.cc` (`select_incremental_lsn_from_history`).
fn of_history(session: &mut Session, noted: &Noted, report: &dyn Report) -> Result<Base> {
    let (option, column, key) = match noted {
        Noted::Name(name) => ("--incremental-history", "name", name),
        Noted::Uuid(uuid) => ("--incremental-history-uuid", "uuid", uuid),
    };
    let place = format!("{option} {key}");
    for (maker, table) in [("mariadb-backup", &history::MARIADB), ("xtrabackup", &history::MYSQL)] {
        let history::Table { database, name, .. } = table;
        let sql =
            format!("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA='{database}' AND TABLE_NAME='{name}'");
        if session.value(&sql)?.is_none() {
            continue;
        }
        let sql = format!(
            "SELECT innodb_to_lsn, tool_version, uuid FROM {database}.{name} WHERE {column} = {} AND innodb_to_lsn IS \
             NOT NULL ORDER BY innodb_to_lsn DESC, start_time DESC LIMIT 1",
            history::quoted(key)
        );
        let Some(record) = session.record(&sql)? else { continue };
        let lsn = told(&record, table.name, "innodb_to_lsn")?;
        if !record.get("tool_version").is_some_and(|version| version.starts_with(history::OURS)) {
            made_by(maker, &place, report);
            return Ok(Base::foreign(place, lsn));
        }
        let id = record.get("uuid").map(|uuid| uuid.replace('-', ""));
        return Ok(Base { id, ..Base::foreign(place, lsn) });
    }
    Err(Error::failed(place, "the server's history tables have no backup of this name").hint(
        "xb-snap --history=NAME writes to them, GRANT SELECT ON mysql.mariadb_backup_history lets xb-snap see them",
    ))
}

fn made_by(maker: &str, place: &dyn Display, report: &dyn Report) {
    let what = format_args!("a backup of {maker}: {maker} --prepare can use the increment, xb-redo cannot");
    report.note(Level::Info, format_args!("{place}: {what}"));
}

fn of_checkpoints(path: &Path, text: &[u8]) -> Result<Base> {
    let lsn = metadata::pairs(text).get("to_lsn").and_then(|lsn| lsn.parse().ok());
    let lsn = lsn.ok_or_else(|| Error::damaged(path.display(), "xtrabackup_checkpoints has no to_lsn"))?;
    Ok(Base::foreign(path.display().to_string(), lsn))
}

/// `xb_begin` of a stream in a file. It must be a stream of xb-snap, and end with a manifest.
fn of_stream(path: &Path) -> Result<(File, Vec<u8>)> {
    let place = path.display().to_string();
    let mut file = File::open(path).map_err(|cause| Error::io(&place, "cannot open", &cause))?;
    let complete = ends_with_manifest(&mut file).map_err(|cause| Error::io(&place, "cannot read", &cause))?;
    let again = file.try_clone().map_err(|cause| Error::io(&place, "cannot open", &cause))?;
    let mut reader = Reader::new(file, &place);
    let mut content = Vec::new();
    while let Some(head) = reader.next()? {
        match head.body {
            _ if head.path != BEGIN => break,
            Body::Payload { len, .. } if content.len() as u64 + len <= LINE_MAX as u64 => {
                reader.append(&mut content, usize::try_from(len).or_internal("a line larger than memory")?)?;
            }
            Body::End if complete => return Ok((again, content)),
            Body::End => return Err(Error::damaged(place, "truncated: it does not end with xb_manifest")),
            _ => break,
        }
    }
    Err(Error::failed(place, "is neither a directory nor a stream of xb-snap")
        .hint("of another stream, unpack it, or keep what --extra-lsndir writes"))
}

/// True if the last chunk is the end mark of the manifest, encrypted or not. Leaves the file at its start.
fn ends_with_manifest(file: &mut File) -> std::io::Result<bool> {
    let len = file.seek(SeekFrom::End(0))?;
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(len.saturating_sub(END_CHUNK_MAX)))?;
    Read::by_ref(file).take(END_CHUNK_MAX).read_to_end(&mut last)?;
    file.rewind()?;
    let chunk = last.rfind(chunk::MAGIC).and_then(|at| last.get(at..)).unwrap_or_default();
    let Some((head, path)) = chunk.split_first_chunk() else { return Ok(false) };
    let end = chunk::prefix(head).is_ok_and(|head| head.kind == chunk::Type::End && head.path_len == path.len());
    Ok(end && native::plain_name(path) == MANIFEST)
}

fn file_name(member: &[u8]) -> &str {
    member.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_with_pages_of_another_size_is_refused() {
        let base = |page_size| Base { page_size, ..Base::foreign("/full".into(), Lsn::new(1)) };
        let size = LogicalPageSize::new(16384);
        base(size).check_pages(16384).unwrap();
        base(None).check_pages(16384).unwrap();
        let error = base(size).check_pages(8192).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Invalid);
        let words = "/full: is of another server: its pages have 16384 bytes, those of this server 8192";
        assert!(error.to_string().starts_with(words), "{error}");
    }

    #[test]
    fn options_of_other_programs_say_the_page_size() {
        let of = |text: &str| page_size(Path::new("/full"), text.as_bytes());
        assert_eq!(of("[mysqld]\ninnodb_page_size=8192\n").unwrap(), LogicalPageSize::new(8192));
        assert_eq!(of("[mysqld]\ninnodb = OFF\n").unwrap(), None);
        let error = of("innodb_page_size = 8k\n").unwrap_err().to_string();
        assert_eq!(error, r#"/full/backup-my.cnf: innodb_page_size is "8k", which is not a number"#);
    }
}
