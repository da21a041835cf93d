//! The files of a MySQL server's data. Source: `facts/mysql-hot-backup#file-set`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::innodb::redo::mysql::DIR;
use crate::server::files::{self, Identity, Layout, Tablespace};
use crate::server::privileges::quote;
use crate::server::session::{Session, told};

/// Extensions of files in database directories that are not InnoDB's. First come those of tables without transactions,
/// whose content may change while only the backup lock is held.
const DATA: [&str; 10] = ["MYD", "MYI", "MAD", "MAI", "ARZ", "ARM", "CSV", "CSM", "TRG", "TRN"];
const DEFINITIONS: [&str; 6] = ["sdi", "MRG", "opt", "par", "frm", "cfg"];
/// Engines whose tables are locked for the copy. A MERGE table has no rows of its own.
const LOCKED: [&str; 3] = ["MyISAM", "CSV", "ARCHIVE"];
/// Databases without tables of users.
const SYSTEM: [&str; 3] = ["mysql", "performance_schema", "sys"];
/// Tables that the server writes itself and cannot lock.
const LOGS: [&str; 2] = ["general_log", "slow_log"];

/// The list of pages in the buffer pool, in the data directory.
const BUFFER_POOL: &str = "ib_buffer_pool";

/// A table with its SQL name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote(&self.database), quote(&self.table))
    }
}

/// Where a server's files are.
pub fn layout(mut layout: Layout) -> Layout {
    layout.redo.push(DIR);
    layout
}

/// Tablespaces: file-per-table and general ones; and undo tablespaces, which are few and always wanted.
#[derive(Debug, Default)]
pub struct Spaces {
    /// Sorted by name.
    pub tables: Vec<Tablespace>,
    /// Sorted by name, too.
    pub undo: Vec<Tablespace>,
}

impl Spaces {
    /// The tablespaces below the data directory, and in the directory of undo tablespaces.
    pub fn below(layout: &Layout) -> Result<Self> {
        let mut spaces = Spaces::default();
        for name in files::matching(&layout.datadir, |name| name.ends_with(b".ibd") || name.ends_with(b".ibu"))? {
            let list = if name.ends_with(b".ibu") { &mut spaces.undo } else { &mut spaces.tables };
            list.extend(files::tablespace(files::path_of(&layout.datadir, &name), name, false)?);
        }
        for database in files::databases(&layout.datadir)? {
            let dir = layout.datadir.join(&database);
            for name in files::of_database(&dir, |name| name.ends_with(b".ibd"))? {
                let path = files::path_of(&dir, &name);
                spaces.tables.extend(files::tablespace(path, [database.as_bytes(), b"/", &name].concat(), false)?);
            }
        }
        let external = layout.undo != layout.datadir && !same(&layout.undo, &layout.datadir);
        for name in files::matching(&layout.undo, is_undo)? {
            spaces.add_undo(files::tablespace(files::path_of(&layout.undo, &name), name, external)?);
        }
        spaces.sort();
        Ok(spaces)
    }

    /// Adds tablespaces that only the server's dictionary has. Needs `PROCESS`.
    pub fn ask(&mut self, session: &mut Session, datadir: &Path) -> Result<()> {
        // Those below the data directory are known already, except undo tablespaces there, and files in nested
        // directories.
        let sql = "SELECT FILE_ID AS id, FILE_NAME AS file, TABLESPACE_NAME AS space, FILE_TYPE AS type FROM information_schema.FILES \
            WHERE ENGINE='InnoDB' AND FILE_TYPE<>'TEMPORARY' AND TABLESPACE_NAME<>'innodb_system' \
            AND (FILE_NAME NOT LIKE './%' OR FILE_NAME LIKE './%/%/%' OR FILE_TYPE='UNDO LOG' AND FILE_NAME LIKE './%/%')";
        let mut known: HashSet<Identity> = self.tables.iter().chain(&self.undo).map(|space| space.identity).collect();
        for row in session.records(sql)? {
            let text = |key: &str| row.get(key).map(String::as_str).unwrap_or_default();
            let path = datadir.join(told::<String>(&row, "FILES", "file")?);
            let external = !path.starts_with(datadir);
            let name = match path.strip_prefix(datadir) {
                Ok(below) => clean(below),
                Err(_) => stream_name(&path, text("space").contains('/')),
            };
            let Some(space) = files::tablespace(path.clone(), name, external)? else {
                discarded(session, text("id"), &path)?;
                continue;
            };
            if !known.insert(space.identity) {
                continue;
            }
            if text("type") == "UNDO LOG" { self.undo.push(space) } else { self.tables.push(space) }
        }
        self.sort();
        self.distinct()
    }

    /// The external tablespaces.
    pub fn external(&self) -> Vec<Tablespace> {
        self.tables.iter().chain(&self.undo).filter(|space| space.external.is_some()).cloned().collect()
    }

    /// Adds those in and below another directory that the server searches (`innodb_directories`).
    pub fn look_through(&mut self, dir: &Path, datadir: &Path) -> Result<()> {
        let known: HashSet<Identity> = self.tables.iter().chain(&self.undo).map(|space| space.identity).collect();
        let (mut dirs, mut seen) = (vec![dir.to_owned()], HashSet::new());
        while let Some(dir) = dirs.pop() {
            if same(&dir, datadir) || !seen.insert(dir.canonicalize().unwrap_or_else(|_| dir.clone())) {
                continue;
            }
            for name in files::of_database(&dir, |name| name.ends_with(b".ibd") || is_undo(name))? {
                let path = files::path_of(&dir, &name);
                let of_table = dir.file_name().is_some_and(|name| datadir.join(name).is_dir());
                let name = stream_name(&path, of_table);
                let Some(space) = files::tablespace(path, name, true)? else { continue };
                if known.contains(&space.identity) {
                    continue;
                }
                if space.name.ends_with(b".ibd") { self.tables.push(space) } else { self.undo.push(space) }
            }
            dirs.extend(files::databases(&dir)?.into_iter().map(|name| dir.join(name)));
        }
        self.sort();
        self.distinct()
    }

    /// Fails if there are fewer than the two undo tablespaces that every server has.
    pub fn enough(&self, layout: &Layout) -> Result<()> {
        if self.undo.len() < 2 {
            return Err(Error::failed(
                layout.undo.display(),
                "has fewer than the two undo tablespaces of every server",
            )
            .hint(files::UNSEEN));
        }
        Ok(())
    }

    fn add_undo(&mut self, space: Option<Tablespace>) {
        let known = |space: &Tablespace| self.undo.iter().any(|undo| undo.identity == space.identity);
        if let Some(space) = space.filter(|space| !known(space)) {
            self.undo.push(space);
        }
    }

    /// Sorts by name; of equal names, those in the data directory come first.
    fn sort(&mut self) {
        let order = |a: &Tablespace, b: &Tablespace| (&a.name, &a.external).cmp(&(&b.name, &b.external));
        self.tables.sort_by(order);
        self.undo.sort_by(order);
    }

    /// Makes names unique in the stream. An external general or undo tablespace may get another name, because a server
    /// finds it by its id: the second `ts.ibd` becomes `ts_2.ibd`.
    fn distinct(&mut self) -> Result<()> {
        let all = || self.tables.iter().chain(&self.undo);
        let mut taken: HashSet<Vec<u8>> = all().map(|space| space.name.clone()).collect();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for space in self.tables.iter_mut().chain(&mut self.undo) {
            if seen.insert(space.name.clone()) {
                continue;
            }
            let Some(name) = space.external.as_ref().and_then(|_| numbered(&space.name, &taken)) else {
                let name = String::from_utf8_lossy(&space.name);
                let what = "two tablespaces of different directories have this name, a backup has one directory";
                return Err(Error::failed(name, what).hint("move or rename one of them on the server"));
            };
            taken.insert(name.clone());
            space.name = name;
        }
        self.sort();
        Ok(())
    }
}

/// `ts_2.ibd` for `ts.ibd`, or the next free name; `None` for a file that the server finds by its name.
fn numbered(name: &[u8], taken: &HashSet<Vec<u8>>) -> Option<Vec<u8>> {
    let at = name.len().checked_sub(4).filter(|_| !name.contains(&b'/'))?;
    let (stem, suffix) = name.split_at_checked(at).filter(|(_, suffix)| matches!(*suffix, b".ibd" | b".ibu"))?;
    (2..).map(|number: u32| [stem, format!("_{number}").as_bytes(), suffix].concat()).find(|name| !taken.contains(name))
}

/// A tablespace may lack its file only after DISCARD TABLESPACE: DDL is blocked, so nothing is dropped meanwhile.
fn discarded(session: &mut Session, id: &str, path: &Path) -> Result<()> {
    let sql = format!("SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE SPACE='{id}'");
    if session.value(&sql)?.is_some_and(|state| state == "discarded") {
        return Ok(());
    }
    Err(Error::failed(path.display(), "is not there, but the server has a tablespace in it").hint(files::UNSEEN))
}

/// The name in a stream of a file outside the data directory: a table is `db/t.ibd`, any other file has its own name.
pub fn stream_name(path: &Path, is_table: bool) -> Vec<u8> {
    let file = path.file_name().unwrap_or_default().as_bytes();
    match path.parent().and_then(Path::file_name).filter(|_| is_table) {
        Some(database) => [database.as_bytes(), b"/", file].concat(),
        None => file.to_vec(),
    }
}

/// A relative path without `.`.
pub fn clean(path: &Path) -> Vec<u8> {
    let names = path.components().filter(|part| !matches!(part, Component::CurDir));
    names.collect::<PathBuf>().into_os_string().as_bytes().to_vec()
}

fn is_undo(name: &[u8]) -> bool {
    let digits = |rest: &[u8]| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
    name.strip_prefix(b"undo_").is_some_and(digits) || name.ends_with(b".ibu")
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Names in the stream of files that are not InnoDB's.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Of tables without transactions: these are copied under their locks.
    pub locked: Vec<Vec<u8>>,
    /// All others: definitions, and the server's own log tables.
    pub free: Vec<Vec<u8>>,
}

/// Lists them. An empty directory is represented by a `db.opt`, so that it is created again.
pub fn others(datadir: &Path) -> Result<Others> {
    let mut others = Others::default();
    for database in files::databases(datadir)? {
        let dir = datadir.join(&database);
        let mut empty = true;
        for file in files::of_database(&dir, |_| true)? {
            empty = false;
            let name = [database.as_bytes(), b"/", &file].concat();
            let extension = file.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
            let one_of = |list: &[&str]| list.iter().any(|one| one.as_bytes() == extension);
            if file.starts_with(b"#sql") {
                continue;
            }
            let log = database == OsStr::new("mysql") && LOGS.iter().any(|log| file.starts_with(log.as_bytes()));
            if one_of(&DATA) && !log {
                others.locked.push(name);
            } else if one_of(&DATA) || one_of(&DEFINITIONS) {
                others.free.push(name);
            }
        }
        if empty {
            others.free.push([database.as_bytes(), b"/db.opt"].concat());
        }
    }
    Ok(others)
}

/// The file from which a server fills its buffer pool when it starts, if it exists.
pub fn buffer_pool(datadir: &Path) -> Option<Vec<u8>> {
    datadir.join(BUFFER_POOL).is_file().then(|| BUFFER_POOL.as_bytes().to_vec())
}

/// Tables without transactions, found by their definitions on disk: `information_schema` shows an account only tables
/// on which it has a privilege (`facts/mysql-hot-backup#privileges`).
pub fn without_transactions(datadir: &Path, wanted: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Named>> {
    let mut tables = Vec::new();
    for database in files::databases(datadir)? {
        if SYSTEM.iter().any(|system| database == OsStr::new(system)) {
            continue;
        }
        let dir = datadir.join(&database);
        for file in files::of_database(&dir, |name| name.ends_with(b".sdi") && !name.starts_with(b"#"))? {
            let path = files::path_of(&dir, &file);
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => continue,
                Err(cause) => return Err(Error::io(path.display(), "cannot read", &cause)),
            };
            let Some((table, engine)) = definition(&text) else {
                return Err(Error::failed(path.display(), "does not tell which table it defines"));
            };
            if LOCKED.contains(&engine.as_str()) && wanted(&[database.as_bytes(), b"/", &file].concat()) {
                tables.push(table);
            }
        }
    }
    tables.sort();
    Ok(tables)
}

/// Name and engine of the table that a `.sdi` defines.
fn definition(text: &[u8]) -> Option<(Named, String)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let object = value.get("dd_object")?;
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    Some((Named { database: text("schema_ref")?, table: text("name")? }, text("engine")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[Tablespace]) -> Vec<String> {
        list.iter().map(|space| String::from_utf8_lossy(&space.name).into_owned()).collect()
    }

    #[test]
    fn lists_what_belongs_to_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let (data, undo) = (dir.path().join("data"), dir.path().join("undo"));
        for sub in ["data/sb", "data/mysql", "data/empty", "data/#innodb_redo", "data/#innodb_temp", "undo"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        for name in [
            "data/mysql.ibd",
            "data/general.ibd",
            "data/ibdata1",
            "data/ibtmp1",
            "data/#ib_16384_0.dblwr",
            "data/sb/t.ibd",
            "data/sb/p#p#p0.ibd",
            "data/sb/m.MYD",
            "data/sb/m.MYI",
            "data/sb/c.CSV",
            "data/sb/#sql-1.MYD",
            "data/mysql/general_log.CSV",
            "data/mysql/general_log_224.sdi",
            "data/auto.cnf",
            "data/sb/notes.txt",
            "undo/undo_001",
            "undo/undo_002",
            "undo/more.ibu",
            "undo/undo_1_trunc.log",
        ] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let sdi = |name: &str, engine: &str| {
            format!(r#"{{"dd_object":{{"name":"{name}","schema_ref":"sb","engine":"{engine}"}}}}"#)
        };
        std::fs::write(data.join("sb/m_3.sdi"), sdi("m", "MyISAM")).unwrap();
        std::fs::write(data.join("sb/a@002dr_4.sdi"), sdi("a-`r", "ARCHIVE")).unwrap();
        std::fs::write(data.join("sb/mem_5.sdi"), sdi("mem", "MEMORY")).unwrap();
        let layout =
            Layout { datadir: data.clone(), system: Vec::new(), undo, redo: data.clone(), ignored: Vec::new() };
        let spaces = Spaces::below(&layout).unwrap();
        assert_eq!(names(&spaces.tables), ["general.ibd", "mysql.ibd", "sb/p#p#p0.ibd", "sb/t.ibd"]);
        assert_eq!(names(&spaces.undo), ["more.ibu", "undo_001", "undo_002"]);
        assert!(spaces.undo.iter().all(|space| space.external.is_some()));
        let others = others(&data).unwrap();
        let text = |list: &[Vec<u8>]| {
            let mut names: Vec<_> = list.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(text(&others.locked), ["sb/c.CSV", "sb/m.MYD", "sb/m.MYI"]);
        assert_eq!(
            text(&others.free),
            [
                "empty/db.opt",
                "mysql/general_log.CSV",
                "mysql/general_log_224.sdi",
                "sb/a@002dr_4.sdi",
                "sb/m_3.sdi",
                "sb/mem_5.sdi"
            ]
        );
        let tables = without_transactions(&data, &|_| true).unwrap();
        let tables: Vec<String> = tables.iter().map(Named::to_string).collect();
        assert_eq!(tables, ["`sb`.`a-``r`", "`sb`.`m`"]);
        assert!(without_transactions(&data, &|name| !name.starts_with(b"sb/")).unwrap().is_empty());
    }

    #[test]
    fn tablespaces_elsewhere_get_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["data", "undo", "x", "y", "x/db", "data/db"] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let file = |name: &str| std::fs::write(dir.path().join(name), name).unwrap();
        ["data/ts.ibd", "x/ts.ibd", "y/ts.ibd", "y/ts_2.ibd", "x/u.ibu", "y/u.ibu"].iter().for_each(|name| file(name));
        let data = dir.path().join("data");
        let layout = Layout {
            datadir: data.clone(),
            system: Vec::new(),
            undo: dir.path().join("undo"),
            redo: data.clone(),
            ignored: Vec::new(),
        };
        let look = || {
            let mut spaces = Spaces::below(&layout)?;
            ["y", "x"].iter().try_for_each(|sub| spaces.look_through(&dir.path().join(sub), &data))?;
            Ok::<_, Error>(spaces)
        };
        let spaces = look().unwrap();
        assert_eq!(names(&spaces.tables), ["ts.ibd", "ts_2.ibd", "ts_3.ibd", "ts_4.ibd"]);
        assert!(spaces.tables[0].external.is_none());
        assert_eq!(spaces.tables[1].external.as_deref(), Some(&*dir.path().join("y/ts_2.ibd")));
        assert_eq!(names(&spaces.undo), ["u.ibu", "u_2.ibu"]);
        // A table has one file.
        ["data/db/t.ibd", "x/db/t.ibd"].iter().for_each(|name| file(name));
        assert!(look().unwrap_err().to_string().contains("db/t.ibd: two tablespaces"));
    }

    #[test]
    fn what_is_elsewhere_gets_a_place_in_the_data_directory() {
        assert_eq!(stream_name(Path::new("/far/db/t.ibd"), true), b"db/t.ibd");
        assert_eq!(stream_name(Path::new("/far/general.ibd"), false), b"general.ibd");
        assert_eq!(clean(Path::new("./a/./b/c.ibd")), b"a/b/c.ibd");
    }
}
