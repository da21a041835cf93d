//! The tablespaces of a directory, by id, and their files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use bstr::ByteSlice;

use super::page::{Image, Last};
use super::survey::{Run, Survey};
use super::{damaged, images, needs_server};
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::redo::mariadb::apply::Target;
use crate::innodb::redo::mariadb::records::{Body, Records};
use crate::innodb::space::{self, HEAD};
use crate::innodb::squeeze::Squeezer;
use crate::innodb::{PageNo, Space, SpaceId};
use crate::restore::files::{self, fail};

/// How `fil_space_crypt_t` begins in page 0.
const CRYPT: &[u8] = b"s\x0e\x0cREt";
/// The length of a file is a multiple of this.
const BLOCK: u64 = 4 << 10;

/// A file of a tablespace.
#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    /// The number of its first page.
    first: u32,
}

/// A tablespace.
#[derive(Clone, Debug)]
pub(super) struct Tablespace {
    /// Its format.
    pub(super) space: Space,
    parts: Vec<Part>,
    undo: bool,
}

impl Tablespace {
    /// The file that has a page, and the offset there.
    pub(super) fn place(&self, number: PageNo) -> Result<(&Path, u64)> {
        let part = self.parts.iter().rev().find(|part| part.first <= number.get());
        let part = part.ok_or_else(|| Error::internal("a tablespace without a file"))?;
        Ok((&part.path, self.space.page_size.offset(number.get() - part.first)))
    }

    /// Its first file, for messages.
    pub(super) fn path(&self) -> &Path {
        self.parts.first().map_or(Path::new(""), |part| &part.path)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Tablespaces {
    dir: PathBuf,
    by_id: BTreeMap<SpaceId, Tablespace>,
    /// Files whose page 0 is not initialized, relative.
    blank: BTreeSet<PathBuf>,
}

impl Tablespaces {
    /// Finds the files in a directory.
    pub(super) fn open(dir: &Path, system: &[String]) -> Result<Tablespaces> {
        let mut spaces = Tablespaces { dir: dir.to_owned(), by_id: BTreeMap::new(), blank: BTreeSet::new() };
        for item in files::list(dir)?.iter().filter(|item| !item.is_dir) {
            let depth = item.path.components().count();
            let name = item.path.file_name().unwrap_or_default().as_bytes();
            let undo = depth == 1 && is_undo(name);
            if depth == 2 && name.ends_with(b".ibd") || undo {
                spaces.add(&item.path, undo)?;
            }
        }
        spaces.add_system(system)?;
        Ok(spaces)
    }

    fn add(&mut self, relative: &Path, undo: bool) -> Result<()> {
        let path = self.dir.join(relative);
        let Some(space) = parse(&path)? else {
            self.blank.insert(relative.to_owned());
            return Ok(());
        };
        let id = space.id;
        let part = Part { path: path.clone(), first: 0 };
        if let Some(other) = self.by_id.insert(id, Tablespace { space, parts: vec![part], undo }) {
            let what = format_args!("has tablespace {id}, as {}", other.path().display());
            return Err(Error::damaged(path.display(), what));
        }
        Ok(())
    }

    fn add_system(&mut self, names: &[String]) -> Result<()> {
        let (mut parts, mut first, mut format) = (Vec::new(), 0u32, None);
        for name in names {
            let path = self.dir.join(name);
            if format.is_none() {
                format = parse(&path)?;
            }
            let space = format.as_ref().ok_or_else(|| Error::damaged(path.display(), "is empty"))?;
            let pages = u32::try_from(space.page_size.pages_in(super::len(&path)?));
            parts.push(Part { path, first });
            first = first.saturating_add(pages.unwrap_or(u32::MAX));
        }
        let space = format.ok_or_else(|| Error::damaged(self.dir.display(), "has no system tablespace"))?;
        if space.id != SpaceId::SYSTEM {
            let what = format_args!("has tablespace {}, not the system tablespace", space.id);
            return Err(Error::damaged(self.dir.display(), what));
        }
        self.by_id.insert(SpaceId::SYSTEM, Tablespace { space, parts, undo: false });
        Ok(())
    }

    /// The tablespace with this id.
    pub(super) fn get(&self, id: SpaceId) -> Option<&Tablespace> {
        self.by_id.get(&id)
    }

    /// Checks that the log is of these tablespaces, and has nothing for them that is not understood.
    pub(super) fn agree(&self, survey: &Survey) -> Result<()> {
        for (id, named) in &survey.named {
            let Some(here) = self.by_id.get(id) else { continue };
            if let Some(lsn) = named.deleted {
                let what = format_args!("tablespace {id}, which the log deletes at lsn {lsn}, is here");
                return Err(needs_server(here.path(), what));
            }
            let name = relative(&named.name);
            if !named.name.is_empty() && name.as_deref().map(|name| self.dir.join(name)).as_deref() != Some(here.path())
            {
                let what = format_args!("tablespace {id} has another name in the log: {}", named.name.as_bstr());
                return Err(needs_server(here.path(), what));
            }
        }
        for (id, cut) in &survey.cuts {
            if !self.by_id.get(id).is_some_and(|here| here.undo) || cut.pages == 0 {
                let what = format_args!("the log cuts tablespace {id} at lsn {}, to {} pages", cut.lsn, cut.pages);
                return Err(needs_server(&self.dir, what));
            }
        }
        for id in survey.used.keys() {
            let Some(here) = self.by_id.get(id) else { continue };
            if here.space.is_of_mysql() {
                return Err(needs_server(here.path(), "is a tablespace of MySQL"));
            }
            refuse_squeezer(here.path(), &here.space)?;
            refuse_encrypted(here.path())?;
        }
        Ok(())
    }

    /// Creates the files of which only the log knows; what the log has of deleted ones is passed over.
    pub(super) fn create(&mut self, survey: &Survey, log: &[u8]) -> Result<()> {
        for (id, (page, lsn)) in &survey.used {
            let named = survey.named.get(id);
            if self.by_id.contains_key(id) || named.is_some_and(|named| named.deleted.is_some()) {
                continue;
            }
            let Some(name) = named.and_then(|named| relative(&named.name)) else {
                let what = format_args!("the log has {page} at lsn {lsn}, and there is no file of it");
                return Err(needs_server(&self.dir, what));
            };
            let path = self.dir.join(&name);
            let blank = self.blank.remove(&name);
            if !blank && path.symlink_metadata().is_ok() {
                let what = format_args!("is another tablespace than {id}, which has this name in the log at lsn {lsn}");
                return Err(needs_server(&path, what));
            }
            let runs = survey.heads.get(id).map(Vec::as_slice).unwrap_or_default();
            let space = head(&path, *id, runs, survey, log)?;
            refuse_squeezer(&path, &space)?;
            if !blank {
                let options = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path);
                options.map_err(|cause| fail(&path, "cannot create", &cause))?;
                files::give(&path, files::owner(&self.dir)?)?;
            }
            self.by_id.insert(*id, Tablespace { space, parts: vec![Part { path, first: 0 }], undo: false });
        }
        Ok(())
    }

    /// Cuts files. All that they have after that is in the log, from the first mention of a page on.
    pub(super) fn cut(&self, survey: &Survey) -> Result<()> {
        for (id, cut) in &survey.cuts {
            let Some(here) = self.by_id.get(id) else { continue };
            let (path, size) = (here.path(), here.space.page_size.offset(cut.pages));
            if super::len(path)? > size {
                let file = OpenOptions::new().write(true).open(path);
                let cut = file.and_then(|file| file.set_len(size));
                cut.map_err(|cause| fail(path, "cannot cut", &cause))?;
            }
        }
        Ok(())
    }

    /// Gives back the room of pages of page_compressed tables that were freed, as the server does when it writes.
    pub(super) fn release(&self, survey: &Survey) -> Result<()> {
        let mut last = Last::default();
        for page in survey.voids.iter().filter(|(_, void)| void.freed).map(|(page, _)| page) {
            let cut = survey.cuts.contains_key(&page.space);
            let Some(here) = self.by_id.get(&page.space).filter(|here| !cut && here.space.squeezer() != Squeezer::None)
            else {
                continue;
            };
            let (path, at) = here.place(page.number)?;
            let unused = here.space.page_size.bytes();
            if at.saturating_add(unused as u64) <= super::len(path)? {
                let image = Image { path: path.to_owned(), at, bytes: Vec::new(), unused, precious: false };
                images::write(&mut last, &image)?;
            }
        }
        Ok(())
    }

    /// Gives files the size that page 0 says, if the log has written it.
    pub(super) fn resize(&self, survey: &Survey) -> Result<()> {
        for id in survey.sized.iter().chain(survey.cuts.keys()) {
            let Some(here) = self.by_id.get(id) else { continue };
            let Some(space) = parse(here.path())? else {
                return Err(Error::damaged(here.path().display(), "its first page is empty, although it has records"));
            };
            let Some(last) = here.parts.last() else { continue };
            let pages = space.pages.checked_sub(last.first).ok_or_else(|| {
                Error::damaged(last.path.display(), "is beyond the size in the first page of its tablespace")
            })?;
            let size = space.page_size.offset(pages) / BLOCK * BLOCK;
            let file = OpenOptions::new().write(true).open(&last.path);
            let file = file.map_err(|cause| fail(&last.path, "cannot open", &cause))?;
            let len = super::len(&last.path)?;
            if len < size || len > size && survey.cuts.contains_key(id) {
                file.set_len(size).map_err(|cause| fail(&last.path, "cannot resize", &cause))?;
            }
        }
        Ok(())
    }
}

/// The first page of a tablespace of which only the log knows: for its format.
fn head(path: &Path, id: SpaceId, runs: &[Run], survey: &Survey, log: &[u8]) -> Result<Space> {
    let mut page = vec![0; HEAD];
    let mut known = false;
    for run in runs.iter().filter(|run| !survey.passes_over(run)) {
        let mut target = Target::new(&mut page, run.page, false);
        let from = usize::try_from(run.at).unwrap_or(usize::MAX);
        for record in Records::of(log.part(from..from.saturating_add(run.len as usize))?) {
            let record = record.map_err(|fault| damaged(path, run.page, run.start_lsn, fault))?;
            let Body::Page(_, op) = record.body else { continue };
            target.apply(&op).map_err(|misfit| damaged(path, run.page, run.start_lsn, misfit))?;
        }
        known = true;
    }
    if page.windows(CRYPT.len()).any(|part| part == CRYPT) {
        return Err(needs_server(path, "is encrypted, or was"));
    }
    let space = Space::of_flags(id, space::flags(&page), 0).filter(|_| known);
    space
        .ok_or_else(|| needs_server(path, format_args!("is missing, and the log does not have all of tablespace {id}")))
}

/// Page 0 of a file; `None` if it is not initialized.
fn parse(path: &Path) -> Result<Option<Space>> {
    let start = start(path)?;
    Space::parse(&start).map_err(|fault| Error::damaged(path.display(), format_args!("page 0: {fault}")))
}

fn start(path: &Path) -> Result<Vec<u8>> {
    let mut start = vec![0; HEAD];
    let mut read = || {
        let file = File::open(path)?;
        let mut len = 0;
        while let Some(rest) = start.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, len as u64) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        start.truncate(len);
        Ok::<_, io::Error>(())
    };
    read().map_err(|cause| fail(path, "cannot read", &cause))?;
    Ok(start)
}

fn refuse_squeezer(path: &Path, space: &Space) -> Result<()> {
    match space.squeezer() {
        Squeezer::None | Squeezer::Zlib => Ok(()),
        Squeezer::Other(number) => {
            Err(needs_server(path, format_args!("is page_compressed by algorithm {number}, not by zlib")))
        }
    }
}

fn refuse_encrypted(path: &Path) -> Result<()> {
    match start(path)?.windows(CRYPT.len()).any(|part| part == CRYPT) {
        true => Err(needs_server(path, "is encrypted, or was")),
        false => Ok(()),
    }
}

/// `undo001`.
fn is_undo(name: &[u8]) -> bool {
    name.strip_prefix(b"undo").is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// The path below the directory of a name in the log: `./db/t.ibd`; `None` if it leads elsewhere.
fn relative(name: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(name));
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (clean.components().count() == 2).then_some(clean)
}
