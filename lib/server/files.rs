//! The files of a server's data, their paths, and their names in a stream. Source: `facts/mariadb-hot-backup#file-set`.
//! The lists here are MariaDB's; those of MySQL are in [`super::mysql::files`].

use std::ffi::{OsStr, OsString};
use std::fs::{DirEntry, FileType, Metadata, ReadDir};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::variables::Variables;
use crate::error::{Error, Result};
use crate::metadata::CHECKPOINTS;
use crate::stream::native::names::BEGIN;

/// Extensions of files in database directories that are not InnoDB's. `.isl` is not among them: a restored one would
/// lead a second server on the same host to the original's file. The file to which it points is copied in its place.
const OTHERS: [&str; 14] =
    ["frm", "MYD", "MYI", "MAD", "MAI", "MRG", "TRG", "TRN", "ARM", "ARZ", "CSM", "CSV", "opt", "par"];
/// The hint for a file of the server that is not visible here.
pub const UNSEEN: &str = "xb-snap must run where all of the server's files are seen under the names that the server has for \
    them; --datadir maps only what is in the data directory";
/// How often, and at what interval, a symbolic link to nothing is checked again.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// The database whose tables are locked last.
pub const SYSTEM_DATABASE: &str = "mysql";

/// Where a server's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The data directory.
    pub datadir: PathBuf,
    /// Files of the system tablespace, in order.
    pub system: Vec<PathBuf>,
    /// The directory of `undo001` and so on.
    pub undo: PathBuf,
    /// The directory of the redo log's files.
    pub redo: PathBuf,
    /// Directories that look like databases and are not (MariaDB's `ignore_db_dirs`).
    pub ignored: Vec<OsString>,
}

impl Layout {
    /// From the server's variables.
    pub fn of(variables: &Variables) -> Result<Self> {
        let home = variables.dir("innodb_data_home_dir");
        let names = data_files(variables.text("innodb_data_file_path"))
            .map_err(|what| Error::failed("innodb_data_file_path", what))?;
        Ok(Layout {
            datadir: variables.datadir(),
            system: names.iter().map(|name| home.join(name)).collect(),
            undo: variables.dir("innodb_undo_directory"),
            redo: variables.dir("innodb_log_group_home_dir"),
            ignored: ignored(variables.get("ignore_db_dirs").unwrap_or_default()),
        })
    }

    /// The names of the system tablespace's files in a stream.
    pub fn system_names(&self) -> Vec<Vec<u8>> {
        distinct(self.system.iter().map(|path| path.file_name().unwrap_or_default().as_bytes()).collect())
    }
}

/// The names in `ignore_db_dirs`: separated by commas; a comma in a name has a backslash before it.
fn ignored(value: &str) -> Vec<OsString> {
    let mut names = vec![String::new()];
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, names.last_mut()) {
            (',', _) => names.push(String::new()),
            ('\\', Some(name)) => name.extend(letters.next()),
            (letter, Some(name)) => name.push(letter),
            (_, None) => {}
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(OsString::from).filter(|name| may_be_database(name)).collect()
}

/// False for a name that no database has, whatever the server ignores.
fn may_be_database(name: &OsStr) -> bool {
    !matches!(name.as_bytes().first(), Some(b'#' | b'.')) && name != "lost+found"
}

/// The file names of `innodb_data_file_path`: `ibdata1:12M;/disk2/ibdata2:1G:autoextend`.
pub fn data_files(value: &str) -> Result<Vec<&str>, String> {
    let parts = value.split(';').map(str::trim).filter(|part| !part.is_empty());
    let names: Result<Vec<&str>, String> = parts
        .map(|part| match part.split_once(':') {
            Some((_, rest)) if rest.ends_with("raw") => Err(format!("{part:?} is a raw device, which is not copied")),
            Some((name, _)) if !name.is_empty() => Ok(name),
            _ => Err(format!("{value:?} cannot be read")),
        })
        .collect();
    names.and_then(|names| if names.is_empty() { Err("is empty".into()) } else { Ok(names) })
}

/// The same for a backup, where all files are in one directory, by [`Layout::system_names`].
pub fn base_data_files(value: &str) -> String {
    let parts = || value.split(';').map(|part| part.trim().split_once(':').unwrap_or((part.trim(), "")));
    let names = distinct(parts().map(|(path, _)| path.rsplit('/').next().unwrap_or(path).as_bytes()).collect());
    let whole = names.iter().zip(parts()).map(|(name, (_, rest))| {
        let name = String::from_utf8_lossy(name);
        if rest.is_empty() { name.into_owned() } else { format!("{name}:{rest}") }
    });
    whole.collect::<Vec<_>>().join(";")
}

/// Makes the names of files from different directories unique: the second `ibdata1` becomes `ibdata1_2`.
fn distinct(names: Vec<&[u8]>) -> Vec<Vec<u8>> {
    let mut given: Vec<Vec<u8>> = Vec::with_capacity(names.len());
    for name in &names {
        let free = |other: &Vec<u8>| !given.contains(other) && !names.contains(&other.as_slice());
        let numbered = || (2..).map(|number: u32| [name, format!("_{number}").as_bytes()].concat()).find(free);
        let name = if given.iter().any(|one| one == name) { numbered().unwrap_or_default() } else { name.to_vec() };
        given.push(name);
    }
    given
}

/// A tablespace of one file, as a listing found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Its name in the stream, `db/t.ibd`.
    pub name: Vec<u8>,
    /// The path of the file, if it is not below the data directory (`DATA DIRECTORY`).
    pub external: Option<PathBuf>,
    /// Size in bytes.
    pub size: u64,
    /// Identity of the file.
    pub identity: Identity,
    /// When it was last written or renamed: the inode's change time, in seconds and nanoseconds.
    pub changed: (i64, i64),
    /// True if there is another file with this name: one in the database's directory, and one that a `.isl` names.
    pub twin: bool,
}

/// Distinguishes a file from another that has replaced it. ext4 reuses the inode of a deleted file for the next one, so
/// the inode number needs the time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// `None` where the file system does not store it.
    born: Option<SystemTime>,
}

impl Identity {
    /// Of an open file, or of the file that a path leads to.
    pub fn of(meta: &Metadata) -> Self {
        Identity { device: meta.dev(), inode: meta.ino(), born: meta.created().ok() }
    }

    /// True if no earlier file can have had it.
    pub fn is_unique(&self) -> bool {
        self.born.is_some()
    }
}

impl Tablespace {
    /// From the file's metadata.
    pub fn new(name: Vec<u8>, external: Option<PathBuf>, meta: &Metadata) -> Self {
        let (identity, changed) = (Identity::of(meta), changed(meta));
        Tablespace { name, external, size: meta.len(), identity, changed, twin: false }
    }
}

/// See [`Tablespace::changed`].
pub fn changed(meta: &Metadata) -> (i64, i64) {
    (meta.ctime(), meta.ctime_nsec())
}

/// The database directories, sorted. Follows links; leaves out what the server does not treat as a database.
pub fn databases(datadir: &Path) -> Result<Vec<OsString>> {
    let fail = |cause: io::Error| Error::io(datadir.display(), "cannot list", &cause);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(datadir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        if !may_be_database(&name) {
            continue;
        }
        // The server encodes a dot in the name of a database.
        let is_link = entry.file_type().map_err(fail)?.is_symlink() && !name.as_bytes().contains(&b'.');
        let meta = if is_link { seen(&entry.path())? } else { present(entry.path().metadata()).map_err(fail)? };
        if meta.is_some_and(|meta| meta.is_dir()) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// Visits every `.ibd` of a database directory; for an `.isl`, the file that it names.
pub fn tablespaces(datadir: &Path, database: &OsStr, visit: &mut dyn FnMut(Tablespace) -> Result<()>) -> Result<()> {
    let dir = datadir.join(database);
    let links = of_database(&dir, |name| name.ends_with(b".isl"))?;
    let Some(entries) = list(&dir)? else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(|cause| Error::io(dir.display(), "cannot list", &cause))?;
        let file = entry.file_name();
        let path = dir.join(&file);
        let external = match Path::new(&file).extension().map(OsStr::as_bytes) {
            Some(b"ibd") => None,
            Some(b"isl") => match link_target(&path)? {
                Some(target) => Some(target),
                None => continue,
            },
            _ => continue,
        };
        let Some(meta) = seen(external.as_deref().unwrap_or(&path))? else {
            external.map_or(Ok(()), |target| dropped(&path, &target))?;
            continue;
        };
        if !meta.is_file() {
            continue;
        }
        let link = Path::new(&file).with_extension("isl").into_os_string().into_vec();
        let twin = links.binary_search(&link).is_ok() && dir.join(&file).with_extension("ibd").exists();
        let name = member(database, Path::new(&file).with_extension("ibd").as_os_str());
        visit(Tablespace { twin, ..Tablespace::new(name, external, &meta) })?;
    }
    Ok(())
}

/// The tablespace that a `.isl` names; `None` if the file no longer exists or is empty.
fn link_target(path: &Path) -> Result<Option<PathBuf>> {
    if seen(path)?.is_none_or(|meta| !meta.is_file()) {
        return Ok(None);
    }
    let text = present(std::fs::read(path)).map_err(|cause| Error::io(path.display(), "cannot read", &cause))?;
    let text = text.map(|text| text.trim_ascii().to_owned()).filter(|text| !text.is_empty());
    Ok(text.map(|text| PathBuf::from(OsString::from_vec(text))))
}

/// Handles a missing file that an `.isl` names. DROP TABLE leaves its directory; if that is missing, too, the file is
/// not visible here.
fn dropped(link: &Path, target: &Path) -> Result<()> {
    if target.parent().is_none_or(Path::is_dir) || link_target(link)?.is_none() {
        return Ok(());
    }
    Err(Error::failed(target.display(), format_args!("its directory is not there, but {} names it", link.display()))
        .hint(UNSEEN))
}

/// The names in the stream of a database's files that are not InnoDB's, sorted. An empty directory is represented by a
/// `db.opt`, so that it is created again. Files of a running ALTER are left out: no server would remove them after a
/// restore.
pub fn others(datadir: &Path, database: &OsStr) -> Result<Vec<Vec<u8>>> {
    let dir = datadir.join(database);
    let Some(entries) = list(&dir)? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    let mut empty = true;
    for entry in entries {
        let entry = entry.map_err(|cause| Error::io(dir.display(), "cannot list", &cause))?;
        let file = entry.file_name();
        empty = false;
        let extension = Path::new(&file).extension().map(OsStr::as_bytes).unwrap_or_default();
        let known = OTHERS.iter().any(|one| one.as_bytes() == extension);
        let mroonga = bstr::ByteSlice::contains_str(file.as_bytes(), ".mrn");
        if (known || mroonga) && !file.as_bytes().starts_with(b"#sql") && is_file(&entry)? {
            names.push(member(database, &file));
        }
    }
    if empty {
        names.push(member(database, OsStr::new("db.opt")));
    }
    names.sort();
    Ok(names)
}

/// Files at the top of the data directory that belong to the data.
pub fn root_files(datadir: &Path) -> Result<Vec<Vec<u8>>> {
    matching(datadir, |name| name.starts_with(b"aws-kms-key") || bstr::ByteSlice::contains_str(name, ".mrn"))
}

/// `undo001` and so on, sorted.
pub fn undo_files(dir: &Path) -> Result<Vec<Vec<u8>>> {
    matching(dir, is_undo)
}

/// True for `undo001` and so on.
pub fn is_undo(name: &[u8]) -> bool {
    name.strip_prefix(b"undo").is_some_and(|rest| rest.len() == 3 && rest.iter().all(u8::is_ascii_digit))
}

/// `aria_log.00000001` and so on, sorted; without `aria_log_control`.
pub fn aria_logs(dir: &Path) -> Result<Vec<Vec<u8>>> {
    matching(dir, |name| {
        name.strip_prefix(b"aria_log.").is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
    })
}

/// Names of the wanted files in a directory, sorted.
pub(super) fn matching(dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
    found(dir, wanted)?.ok_or_else(|| Error::failed(dir.display(), "is not there").hint(UNSEEN))
}

/// The same for a database's directory, which may have been dropped since it was listed.
pub fn of_database(dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
    Ok(found(dir, wanted)?.unwrap_or_default())
}

fn found(dir: &Path, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<Vec<u8>>>> {
    let fail = |cause: io::Error| Error::io(dir.display(), "cannot list", &cause);
    let mut names = Vec::new();
    let Some(entries) = list(dir)? else { return Ok(None) };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if wanted(entry.file_name().as_bytes()) && is_file(&entry)? {
            names.push(entry.file_name().into_vec());
        }
    }
    names.sort();
    Ok(Some(names))
}

/// A tablespace's file; `None` if it does not exist.
pub fn tablespace(path: PathBuf, name: Vec<u8>, external: bool) -> Result<Option<Tablespace>> {
    let meta = seen(&path)?.filter(Metadata::is_file);
    Ok(meta.map(|meta| Tablespace::new(name, external.then_some(path), &meta)))
}

/// The path of a member below a directory.
pub fn path_of(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

fn member(database: &OsStr, file: &OsStr) -> Vec<u8> {
    [database.as_bytes(), b"/", file.as_bytes()].concat()
}

/// A directory that was dropped since it was listed is no error.
fn list(dir: &Path) -> Result<Option<ReadDir>> {
    present(std::fs::read_dir(dir)).map_err(|cause| Error::io(dir.display(), "cannot list", &cause))
}

/// True for a file, and for a link to one.
fn is_file(entry: &DirEntry) -> Result<bool> {
    let path = entry.path();
    let kind = entry.file_type().map_err(|cause| Error::io(path.display(), "cannot look at", &cause))?;
    if kind.is_symlink() {
        return Ok(seen(&path)?.is_some_and(|meta| meta.is_file()));
    }
    Ok(kind.is_file())
}

/// The metadata of what a path leads to; `None` if it does not exist. A symbolic link to nothing is an error: its
/// target is not visible here. A server that renames a table may leave one for a moment.
pub fn seen(path: &Path) -> Result<Option<Metadata>> {
    let fail = |cause: io::Error| Error::io(path.display(), "cannot look at", &cause);
    for _ in 0..LOOKS {
        if let Some(meta) = present(path.metadata()).map_err(fail)? {
            return Ok(Some(meta));
        }
        if present(path.symlink_metadata()).map_err(fail)?.is_none() {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
    let target = std::fs::read_link(path).unwrap_or_default();
    let what = format!("is a symbolic link to {}, which is not there", target.display());
    Err(Error::invalid(path.display(), what).hint(UNSEEN))
}

/// Directories that look like databases and are unpacked backups, whose files belong to no database.
pub fn backups(datadir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for database in databases(datadir)? {
        let dir = datadir.join(&database);
        let marked = [BEGIN].iter().chain(&CHECKPOINTS).any(|name| dir.join(name).is_file());
        if marked && others(datadir, &database)?.is_empty() {
            found.push(dir);
        }
    }
    Ok(found)
}

/// Pipes, sockets and devices in the directories of databases, which are not data.
pub fn specials(datadir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for database in databases(datadir)? {
        let dir = datadir.join(database);
        let fail = |cause: io::Error| Error::io(dir.display(), "cannot list", &cause);
        for entry in list(&dir)?.into_iter().flatten() {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            let special = |kind: FileType| !kind.is_file() && !kind.is_dir() && !kind.is_symlink();
            let linked = || kind.is_symlink() && entry.path().metadata().is_ok_and(|meta| special(meta.file_type()));
            if special(kind) || linked() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ignored_directories() {
        assert_eq!(ignored(r"a,b\,c,d\\e"), ["a", "b,c", r"d\e"]);
        assert!(ignored("").is_empty() && ignored("#binlog_cache_files,lost+found").is_empty());
    }

    #[test]
    fn data_file_paths() {
        assert_eq!(data_files("ibdata1:12M;/d2/ibdata2:1G:autoextend").unwrap(), ["ibdata1", "/d2/ibdata2"]);
        assert_eq!(base_data_files("a/ibdata1:12M;/d2/ibdata2:1G:autoextend"), "ibdata1:12M;ibdata2:1G:autoextend");
        assert_eq!(
            base_data_files("/x/a:12M;/y/a:12M; a_2:1M;/z/a:1M:autoextend"),
            "a:12M;a_3:12M;a_2:1M;a_4:1M:autoextend"
        );
        assert!(data_files("/dev/sda:1Gnewraw").unwrap_err().contains("raw device"));
        assert!(data_files("").is_err());
        assert!(data_files("ibdata1").is_err());
    }

    #[test]
    fn lists_what_belongs_to_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let (data, far) = (dir.path().join("data"), dir.path().join("far"));
        for sub in ["sb", "empty", "#innodb_temp", ".ssh", "lost+found"] {
            std::fs::create_dir_all(data.join(sub)).unwrap();
        }
        std::fs::create_dir_all(far.join("linked")).unwrap();
        std::os::unix::fs::symlink(far.join("linked"), data.join("linked")).unwrap();
        std::fs::write(far.join("away.ibd"), [1; 10]).unwrap();
        std::fs::write(data.join("sb/away.isl"), format!("{}\n", far.join("away.ibd").display())).unwrap();
        for name in ["t.ibd", "t.frm", "t.TRG", "p#P#p0.ibd", "#sql-1.ibd", "#sql-1.frm", "notes.txt"] {
            std::fs::write(data.join("sb").join(name), b"x").unwrap();
        }
        std::fs::write(data.join("linked/m.MYD"), b"x").unwrap();
        assert_eq!(databases(&data).unwrap(), ["empty", "linked", "sb"]);
        let mut found = Vec::new();
        tablespaces(&data, OsStr::new("sb"), &mut |one| {
            found.push((String::from_utf8(one.name).unwrap(), one.external, one.size));
            Ok(())
        })
        .unwrap();
        found.sort();
        let names: Vec<&str> = found.iter().map(|one| one.0.as_str()).collect();
        assert_eq!(names, ["sb/#sql-1.ibd", "sb/away.ibd", "sb/p#P#p0.ibd", "sb/t.ibd"]);
        assert_eq!((found[1].1.as_deref(), found[1].2), (Some(far.join("away.ibd").as_path()), 10));
        let names = |database: &str| others(&data, OsStr::new(database)).unwrap();
        assert_eq!(names("sb"), [b"sb/t.TRG".to_vec(), b"sb/t.frm".to_vec()]);
        assert_eq!(names("empty"), [b"empty/db.opt".to_vec()]);
        assert_eq!(names("linked"), [b"linked/m.MYD".to_vec()]);
        assert!(names("dropped").is_empty());
        assert!(undo_files(&data.join("nowhere")).unwrap_err().to_string().ends_with("nowhere: is not there"));
        // A dropped external table, and one whose directory is not visible.
        let list = || tablespaces(&data, OsStr::new("sb"), &mut |_| Ok(()));
        std::fs::remove_file(far.join("away.ibd")).unwrap();
        list().unwrap();
        std::fs::rename(&far, dir.path().join("hidden")).unwrap();
        assert!(list().unwrap_err().to_string().contains("away.ibd: its directory is not there"));
    }
}
