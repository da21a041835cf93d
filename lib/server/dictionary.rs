//! The tablespaces that the server has, and whether a file is one of them: the id on page 0 of the file is looked up in
//! this list. A name proves nothing, because a copy can have any name.
//!
//! MariaDB: `INNODB_SYS_TABLES` has all tables, `INNODB_SYS_TABLESPACES` the files that were opened since the server
//! started. A table without a file (after DISCARD TABLESPACE, or because it is lost) looks like one that was not opened
//! yet, until `INNODB_SYS_TABLESTATS` has opened all tables that can be opened. MySQL: `FILES`. All need `PROCESS`.
//! More is in `facts/mariadb-hot-backup#dictionary` and `facts/mysql-hot-backup#dictionary`.

use std::collections::HashMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::files::{self, Layout};
use super::mysql::files as mysql;
use super::session::Session;
use crate::error::{Error, Result};
use crate::innodb::ids::SpaceId;
use crate::innodb::{is_undo, lasting_id};

/// The files that InnoDB of MariaDB has open.
const OPEN: &str = "SELECT SPACE, NAME, FILENAME FROM information_schema.INNODB_SYS_TABLESPACES";
/// The tablespaces of its tables. Tables without one of their own are in the system tablespace.
const TABLES: &str = "SELECT SPACE, NAME, '' FROM information_schema.INNODB_SYS_TABLES WHERE SPACE<>0";
/// Opens all tables that can be opened.
const OPEN_ALL: &str = "SELECT COUNT(*) FROM information_schema.INNODB_SYS_TABLESTATS";
/// All tablespaces of MySQL. A discarded tablespace has no id there.
const FILES: &str = "SELECT FILE_ID, TABLESPACE_NAME, FILE_NAME FROM information_schema.FILES \
    WHERE ENGINE='InnoDB' AND (FILE_TYPE IS NULL OR FILE_TYPE<>'TEMPORARY')";
/// The tablespace of temporary tables.
const MARIADB_TEMPORARY: SpaceId = SpaceId::new(0xFFFF_FFFE);
const SYSTEM: SpaceId = SpaceId::SYSTEM;

/// The tables of MariaDB that list tablespaces and are plugins, which an option can disable.
const PLUGINS: [&str; 3] = ["INNODB_SYS_TABLESPACES", "INNODB_SYS_TABLES", "INNODB_SYS_TABLESTATS"];

/// The reason why the list of tablespaces cannot be read, if one of [`PLUGINS`] is disabled.
fn switched_off(session: &mut Session) -> Option<Error> {
    let names = PLUGINS.map(|name| format!("'{name}'")).join(", ");
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME IN ({names}) AND PLUGIN_STATUS='ACTIVE'"
    );
    let active = session.value(&sql).ok().flatten()?;
    (active != PLUGINS.len().to_string()).then(|| {
        Error::failed("server", format_args!("information_schema does not have all of {names}, which list tablespaces"))
            .hint("start the server without --innodb-sys-tablespaces=OFF, --innodb-sys-tables=OFF and the like")
    })
}

/// A tablespace of the server. There may be a hundred thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id; for an undo tablespace of MySQL the first id that it had, because a truncation changes it.
    pub id: SpaceId,
    /// True if the server has its file open, and has reported the path.
    open: bool,
    name: (u32, u32),
}

/// All tablespaces of a server at one moment.
#[derive(Debug, Default)]
pub struct Dictionary {
    datadir: PathBuf,
    /// Sorted by id.
    rows: Vec<Row>,
    /// Indexes of `rows`, sorted by name.
    by_name: Vec<u32>,
    /// All names, concatenated.
    names: Vec<u8>,
    /// Files that are not below the data directory.
    external: HashMap<SpaceId, PathBuf>,
}

/// A file that may be a tablespace.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// The id on its page 0; `None` if that is uninitialized.
    pub id: Option<SpaceId>,
    /// Its name in the stream.
    pub name: &'a [u8],
    /// Its path, if that is not the one of its name.
    pub external: Option<&'a Path>,
}

/// The owner of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The server has this tablespace, in this file.
    Server(Row),
    /// The server has a tablespace with this id, in another file.
    Copy(Row),
    /// The server has no such tablespace.
    Nobody,
}

impl Row {
    /// True if the server has opened it, and has reported the path of its file.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// True for a table that an ALTER is building; a server that recovers drops it.
    pub fn is_temporary(&self, dictionary: &Dictionary) -> bool {
        dictionary.name(self).contains_str("/#sql")
    }
}

impl Dictionary {
    /// Asks a MariaDB server.
    pub fn of_mariadb(session: &mut Session, datadir: &Path) -> Result<Self> {
        let mut dictionary = Dictionary::new(datadir);
        let listed = session.each(OPEN, &mut |row| {
            let fields = Fields::of(row);
            let id = fields.id()?;
            if [SYSTEM, MARIADB_TEMPORARY].contains(&id) {
                return Ok(());
            }
            // `d/t`, or `innodb_undo001`, which has the name of its file.
            let (name, file) = (fields.name()?, fields.file()?);
            dictionary.open(id, name, file, name.contains(&b'/'))
        });
        listed.map_err(|error| switched_off(session).unwrap_or(error))?;
        dictionary.sort();
        let mut more = Vec::new();
        session.each(TABLES, &mut |row| {
            let fields = Fields::of(row);
            let id = fields.id()?;
            if dictionary.find(id).is_none() {
                more.push((id, [fields.name()?, b".ibd"].concat()));
            }
            Ok(())
        })?;
        for (id, name) in more {
            dictionary.add(id, false, &name)?;
        }
        dictionary.sort();
        Ok(dictionary)
    }

    /// Makes a MariaDB server open all tables that have a file. That takes seconds if there are many.
    pub fn open_all(session: &mut Session) -> Result<()> {
        Ok(session.run(OPEN_ALL)?)
    }

    /// Asks a MySQL server.
    pub fn of_mysql(session: &mut Session, layout: &Layout) -> Result<Self> {
        let mut dictionary = Dictionary::new(&layout.datadir);
        session.each(FILES, &mut |row| {
            let fields = Fields::of(row);
            // A discarded tablespace.
            if fields.id.is_none() {
                return Ok(());
            }
            match fields.id()? {
                SYSTEM => Ok(()),
                id => dictionary.open(id, fields.name()?, &place(id, fields.file()?, &layout.undo), false),
            }
        })?;
        dictionary.sort();
        Ok(dictionary)
    }

    fn new(datadir: &Path) -> Self {
        Dictionary { datadir: datadir.to_owned(), ..Dictionary::default() }
    }

    /// Adds a tablespace that has a file. `named`: an external file gets the name of the tablespace.
    fn open(&mut self, id: SpaceId, name: &[u8], file: &[u8], named: bool) -> Result<()> {
        let path = self.datadir.join(std::ffi::OsStr::from_bytes(file));
        if let Ok(below) = path.strip_prefix(&self.datadir) {
            let name = mysql::clean(below);
            return self.add(id, true, &name);
        }
        let name = match named {
            true => [name, b".ibd"].concat(),
            false => mysql::stream_name(&path, name.contains(&b'/')),
        };
        self.external.insert(lasting_id(id), path);
        self.add(id, true, &name)
    }

    fn add(&mut self, id: SpaceId, open: bool, name: &[u8]) -> Result<()> {
        let number = |length: usize| {
            u32::try_from(length).map_err(|_| Error::failed("server", "has more tables than can be listed"))
        };
        let name_at = (number(self.names.len())?, number(name.len())?);
        self.names.extend_from_slice(name);
        self.rows.push(Row { id: lasting_id(id), open, name: name_at });
        Ok(())
    }

    fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|row| row.id);
        let mut by_name: Vec<u32> = (0..).take(self.rows.len()).collect();
        by_name.sort_unstable_by_key(|at| self.at(*at).map(|row| self.name(row)));
        self.by_name = by_name;
    }

    fn at(&self, place: u32) -> Option<&Row> {
        self.rows.get(usize::try_from(place).ok()?)
    }

    fn find(&self, id: SpaceId) -> Option<usize> {
        self.rows.binary_search_by_key(&id, |row| row.id).ok()
    }

    /// The name of the tablespace's file in a stream.
    pub fn name(&self, row: &Row) -> &[u8] {
        let (start, length) = row.name;
        self.names.split_at(start as usize).1.split_at(length as usize).0
    }

    /// The path of the tablespace's file.
    pub fn path(&self, row: &Row) -> PathBuf {
        let below = || files::path_of(&self.datadir, self.name(row));
        self.external.get(&row.id).cloned().unwrap_or_else(below)
    }

    /// All tablespaces.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The tablespace with this id.
    pub fn row(&self, id: SpaceId) -> Option<&Row> {
        self.find(id).and_then(|at| self.rows.get(at))
    }

    /// True if both have the same tablespaces under the same names.
    pub fn agrees_with(&self, other: &Dictionary) -> bool {
        let all = |one: &Dictionary| one.rows.iter().filter(|row| !row.is_temporary(one)).count();
        let same = |row: &Row| {
            let found = other.row(row.id);
            row.is_temporary(self) || found.is_some_and(|found| other.name(found) == self.name(row))
        };
        all(self) == all(other) && self.rows.iter().all(same)
    }

    /// The owner of a file.
    pub fn owner(&self, file: File<'_>) -> Owner {
        self.owner_by(file, &same_file)
    }

    /// True if the file is the server's.
    pub fn has(&self, file: File<'_>) -> bool {
        matches!(self.owner(file), Owner::Server(_))
    }

    fn owner_by(&self, file: File<'_>, same: &dyn Fn(&Path, &Path) -> bool) -> Owner {
        match file.id {
            Some(id) => match self.row(lasting_id(id)) {
                Some(row) if self.is_at(row, file, same) => Owner::Server(*row),
                Some(row) => Owner::Copy(*row),
                None => Owner::Nobody,
            },
            None => self
                .named(file.name)
                .find(|row| self.is_at(row, file, same))
                .map_or(Owner::Nobody, |row| Owner::Server(*row)),
        }
    }

    /// The tablespaces with this name; normally there is one.
    fn named(&self, name: &[u8]) -> impl Iterator<Item = &Row> {
        let of = |at: &u32| self.at(*at).map(|row| self.name(row)).unwrap_or_default();
        let from = self.by_name.partition_point(|at| of(at) < name);
        self.by_name.iter().skip(from).map_while(move |at| self.at(*at).filter(|row| self.name(row) == name))
    }

    /// True if this is the tablespace's file. The paths are compared as files only if one is outside the data
    /// directory, where a path may have several spellings; below it, a second name of a file is a copy.
    fn is_at(&self, row: &Row, file: File<'_>, same: &dyn Fn(&Path, &Path) -> bool) -> bool {
        match (self.external.get(&row.id), file.external) {
            _ if !row.open => self.name(row) == file.name,
            (None, None) => self.name(row) == file.name,
            (Some(row), Some(file)) if row == file => true,
            (_, Some(file)) => same(&self.path(row), file),
            (Some(row), None) => same(row, &files::path_of(&self.datadir, file.name)),
        }
    }
}

/// Compares files with a dictionary, one after the other.
#[derive(Debug)]
pub struct Ledger<'a> {
    /// What the server has.
    pub dictionary: &'a Dictionary,
    /// For each row: true if its file was found.
    taken: Vec<bool>,
    /// Files that are not the server's, with the reason.
    pub foreign_files: Vec<(Vec<u8>, Owner)>,
}

impl<'a> Ledger<'a> {
    /// A ledger in which no file was found yet.
    pub fn new(dictionary: &'a Dictionary) -> Self {
        Ledger { dictionary, taken: vec![false; dictionary.rows.len()], foreign_files: Vec::new() }
    }

    /// True if the file is the server's. Two files for one tablespace are an error.
    pub fn take(&mut self, file: File<'_>) -> Result<bool> {
        self.take_by(file, &same_file)
    }

    fn take_by(&mut self, file: File<'_>, same: &dyn Fn(&Path, &Path) -> bool) -> Result<bool> {
        let owner = self.dictionary.owner_by(file, same);
        let Owner::Server(row) = owner else {
            self.foreign_files.push((file.name.to_vec(), owner));
            return Ok(false);
        };
        let place = self.dictionary.find(row.id).and_then(|at| self.taken.get_mut(at));
        if place.is_none_or(|taken| std::mem::replace(taken, true)) {
            let what = format!("tablespace {} of the server is in this file, and in another one", row.id);
            return Err(Error::invalid(file.name.as_bstr(), what).hint("move the copy away, and run it again"));
        }
        Ok(true)
    }

    /// Tablespaces of the server whose file was not found.
    pub fn missing(&self) -> impl Iterator<Item = &'a Row> {
        self.left().filter(|row| row.open)
    }

    /// Tablespaces that have no file, or were not opened yet.
    pub fn unopened(&self) -> impl Iterator<Item = &'a Row> {
        self.left().filter(|row| !row.open)
    }

    fn left(&self) -> impl Iterator<Item = &'a Row> {
        self.dictionary.rows.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(row, _)| row)
    }
}

/// The path of a MySQL tablespace. An undo tablespace that was created without a directory is in `undo`
/// (`innodb_undo_directory`), although `FILES` calls it `./name.ibu`. For one in the data directory it has the full
/// path.
fn place(id: SpaceId, file: &[u8], undo: &Path) -> Vec<u8> {
    let name = mysql::clean(Path::new(std::ffi::OsStr::from_bytes(file)));
    if !is_undo(id) || name.contains(&b'/') {
        return file.to_vec();
    }
    files::path_of(undo, &name).into_os_string().into_vec()
}

/// True if two paths lead to one file.
fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|meta| files::Identity::of(&meta));
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// The three columns that each statement returns.
#[derive(Debug)]
struct Fields {
    id: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    file: Option<Vec<u8>>,
}

impl Fields {
    fn of(row: Vec<Option<Vec<u8>>>) -> Self {
        let mut row = row.into_iter();
        let mut next = || row.next().flatten();
        Fields { id: next(), name: next(), file: next() }
    }

    fn id(&self) -> Result<SpaceId> {
        let id = self.id.as_ref().and_then(|text| text.to_str().ok()?.parse().ok());
        id.ok_or_else(|| self.refuse("number"))
    }

    fn name(&self) -> Result<&[u8]> {
        self.name.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| self.refuse("name"))
    }

    fn file(&self) -> Result<&[u8]> {
        self.file.as_deref().filter(|file| !file.is_empty()).ok_or_else(|| self.refuse("file"))
    }

    fn refuse(&self, what: &str) -> Error {
        let text =
            |field: &Option<Vec<u8>>| field.as_ref().map_or("NULL".into(), |text| text.to_str_lossy().into_owned());
        let (id, name, file) = (text(&self.id), text(&self.name), text(&self.file));
        Error::failed(
            "server",
            format_args!("a tablespace without a valid {what}: number {id}, name {name}, file {file}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tablespaces: id and path, absolute if external; those in brackets have no file.
    fn dictionary(rows: &[(u32, &str)]) -> Dictionary {
        let mut dictionary = Dictionary::new(Path::new("/data"));
        for (id, place) in rows {
            match place.strip_prefix('(').and_then(|place| place.strip_suffix(')')) {
                Some(name) => dictionary.add(SpaceId::new(*id), false, name.as_bytes()).unwrap(),
                None => dictionary.open(SpaceId::new(*id), b"d/far", place.as_bytes(), true).unwrap(),
            }
        }
        dictionary.sort();
        dictionary
    }

    /// `FILE[@PATH]=ID ...`, `?` for an uninitialized page 0; returns what is wrong with them.
    fn compared(rows: &[(u32, &str)], list: &str) -> String {
        let dictionary = dictionary(rows);
        let mut ledger = Ledger::new(&dictionary);
        let same = |one: &Path, other: &Path| Path::new("/link").join(one.file_name().unwrap()) == other;
        let mut told = Vec::new();
        for file in list.split_whitespace() {
            let (place, id) = file.split_once('=').unwrap();
            let (name, external) =
                place.split_once('@').map_or((place, None), |(name, at)| (name, Some(Path::new(at))));
            let file = File { id: id.parse().ok(), name: name.as_bytes(), external };
            if ledger.take_by(file, &same).is_err() {
                told.push(format!("{name} twice"));
            }
        }
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        told.extend(ledger.missing().map(|row| format!("{} missing", text(dictionary.name(row)))));
        told.extend(ledger.foreign_files.iter().map(|(name, owner)| match owner {
            Owner::Copy(row) => format!("{} copy of {}", text(name), text(dictionary.name(row))),
            _ => format!("{} nobody's", text(name)),
        }));
        told.extend(ledger.unopened().map(|row| format!("{} without", text(dictionary.name(row)))));
        told.join(", ")
    }

    #[test]
    fn undo_without_a_directory_is_in_that_of_undo() {
        for (id, file, expect) in [
            (0xffff_ffed, "./a.ibu", "/undo/a.ibu"),
            (0xffff_ffed - 127, "a.ibu", "/undo/a.ibu"),
            (0xffff_ffed, "./dir/undo_001", "./dir/undo_001"),
            (0xffff_ffed, "/data/a.ibu", "/data/a.ibu"),
            (7, "./a.ibd", "./a.ibd"),
        ] {
            assert_eq!(place(SpaceId::new(id), file.as_bytes(), Path::new("/undo")), expect.as_bytes(), "{id} {file}");
        }
    }

    #[test]
    fn a_tablespace_is_identified_by_id_and_path() {
        let two = [(5, "./d/t.ibd"), (7, "./d/u.ibd")];
        let far = [(5, "/far/d/far.ibd")];
        for (rows, files, expect) in [
            (&two[..], "d/t.ibd=5 d/u.ibd=7", ""),
            // Copies, with names before and after, in other databases and at the top.
            (
                &two,
                "d/a.ibd=5 d/t.ibd=5 d/u.ibd=7 e/t.ibd=5 d/#sql-1.ibd=7",
                "d/a.ibd copy of d/t.ibd, \
                e/t.ibd copy of d/t.ibd, d/#sql-1.ibd copy of d/u.ibd",
            ),
            // A file of another server, or one that a table has left.
            (&two, "d/t.ibd=5 d/u.ibd=7 d/x.ibd=9", "d/x.ibd nobody's"),
            // The name exists, the tablespace does not.
            (&two, "d/t.ibd=9 d/u.ibd=7", "d/t.ibd missing, d/t.ibd nobody's"),
            (
                &two,
                "d/t.ibd=7 d/u.ibd=5",
                "d/t.ibd missing, d/u.ibd missing, d/t.ibd copy of d/u.ibd, \
                d/u.ibd copy of d/t.ibd",
            ),
            (&two, "d/u.ibd=7", "d/t.ibd missing"),
            (&two, "d/a.ibd=5 d/u.ibd=7", "d/t.ibd missing, d/a.ibd copy of d/t.ibd"),
            // Page 0 is uninitialized: only the path can be compared.
            (&two, "d/t.ibd=? d/u.ibd=7 d/x.ibd=?", "d/x.ibd nobody's"),
            // DATA DIRECTORY.
            (&far, "d/far.ibd@/far/d/far.ibd=5", ""),
            (&far, "d/far.ibd@/link/far.ibd=5", ""),
            (&far, "d/far.ibd=5", "d/far.ibd missing, d/far.ibd copy of d/far.ibd"),
            (&far, "d/far.ibd@/old/d/far.ibd=5", "d/far.ibd missing, d/far.ibd copy of d/far.ibd"),
            (&far, "d/far.ibd@/far/d/far.ibd=5 d/x.ibd@/link/far.ibd=5", "d/x.ibd twice"),
            // General tablespaces, undo, and what DISCARD TABLESPACE leaves, with and without a new file.
            (&[(3, "gen.ibd"), (4, ".//undo001")], "gen.ibd=3 undo001=4", ""),
            (
                &[(0xffff_ffec, "a.ibu"), (0xffff_ffed, "b.ibu")],
                "a.ibu=4294967149 b.ibu=4294967149",
                "b.ibu missing, \
                b.ibu copy of a.ibu",
            ),
            (&[(3, "(d/t.ibd)")], "", "d/t.ibd without"),
            (&[(3, "(d/t.ibd)")], "d/t.ibd=8", "d/t.ibd nobody's, d/t.ibd without"),
            (&[(3, "(d/t.ibd)"), (8, "./d/u.ibd")], "d/t.ibd=8 d/u.ibd=8", "d/t.ibd copy of d/u.ibd, d/t.ibd without"),
            (&[(3, "(d/t.ibd)")], "d/t.ibd=3", ""),
        ] {
            assert_eq!(compared(rows, files), expect, "{rows:?} {files}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error() {
        let field = |text: &str| (text != "NULL").then(|| text.as_bytes().to_vec());
        for (id, name, file, wrong) in [
            ("NULL", "d/t", "./d/t.ibd", "number"),
            ("", "d/t", "./d/t.ibd", "number"),
            ("4294967296", "d/t", "./d/t.ibd", "number"),
            ("5", "NULL", "./d/t.ibd", "name"),
            ("5", "d/t", "", "file"),
        ] {
            let fields = Fields::of(vec![field(id), field(name), field(file)]);
            let read = fields.id().and_then(|_| fields.name()?.is_ascii().then(|| fields.file()).transpose());
            let expect = format!("server: a tablespace without a valid {wrong}: number {id}, name {name}, file {file}");
            assert_eq!(read.unwrap_err().to_string(), expect);
        }
    }
}
