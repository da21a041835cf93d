//! Where the files of a backup go when they are copied back: into the data directory, except for those with other
//! places in the server's option file, as with the stock programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::backup::Backup;
use super::files::Item;
use crate::error::{Error, Result};
use crate::innodb::redo::{mariadb, mysql};
use crate::report::Report;
use crate::server::Family;
use crate::server::files::{base_data_files, data_files};
use crate::server::options::{Options, Sources};

/// Destinations, by the names that files have in the backup.
#[derive(Debug)]
pub(super) struct Destinations {
    /// The data directory.
    pub(super) datadir: PathBuf,
    family: Family,
    /// Files of the system tablespace, with their destinations.
    system: Vec<(PathBuf, PathBuf)>,
    undo: PathBuf,
    redo: PathBuf,
    aria: PathBuf,
    /// Base name of the binary log in the backup, and its new directory.
    binlog: Option<(String, PathBuf)>,
    /// Directories to which tables with DATA DIRECTORY may return.
    roots: Vec<PathBuf>,
    /// Such tables, by their names in the backup, with their original paths.
    tables: BTreeMap<PathBuf, PathBuf>,
}

/// Options of the server that will run on the files: `server` is what they are asked by.
#[derive(Debug)]
pub(super) struct Settings {
    /// Where they stand, for messages.
    place: String,
    file: Options,
    /// They go before those of the file, and have `_` in their names.
    operator: BTreeMap<String, String>,
}

/// Those that say where files are.
const PLACES: [&str; 8] = [
    "aria_log_dir_path",
    "datadir",
    "innodb_data_file_path",
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "log_bin",
];

impl Settings {
    /// Those of an option file, and before them what the operator says.
    pub(super) fn read(
        sources: &Sources,
        operator: &BTreeMap<String, String>,
        report: &dyn Report,
    ) -> Result<Settings> {
        if let Some(name) = operator.keys().find(|name| !PLACES.contains(&name.as_str())) {
            return Err(Error::usage("--server-option", format_args!("{name}: does not say where a file is")));
        }
        let place =
            sources.file.as_ref().map_or_else(|| "--server-option".to_owned(), |file| file.display().to_string());
        Ok(Settings { place, file: sources.read(report)?, operator: operator.clone() })
    }

    fn server(&self, key: &str) -> Option<&str> {
        let operator = self.operator.get(&key.replace('-', "_")).map(String::as_str);
        operator.or_else(|| self.file.server(key))
    }
}

impl Destinations {
    /// Everything goes into the data directory.
    pub(super) fn plain(datadir: &Path, family: Family) -> Destinations {
        let dir = || datadir.to_owned();
        Destinations {
            datadir: dir(),
            family,
            system: Vec::new(),
            undo: dir(),
            redo: dir(),
            aria: dir(),
            binlog: None,
            roots: Vec::new(),
            tables: BTreeMap::new(),
        }
    }

    /// As the server's options say; `datadir` overrides them.
    pub(super) fn read(options: &Settings, datadir: Option<&Path>, backup: &Backup) -> Result<Destinations> {
        let named = options.server("datadir").map(PathBuf::from);
        let Some(datadir) = datadir.map(Path::to_owned).or(named) else {
            return Err(Error::usage(&options.place, "has no datadir for a server").hint("--datadir DIR says where"));
        };
        let dir = |key: &str| datadir.join(options.server(key).unwrap_or_default());
        let binlog = backup.options.get("log_bin").filter(|_| backup.family == Family::MySql);
        let binlog = binlog.zip(options.server("log-bin").and_then(|path| Path::new(path).parent()));
        Ok(Destinations {
            family: backup.family,
            system: system(options, &datadir, backup)?,
            undo: dir("innodb-undo-directory"),
            redo: dir("innodb-log-group-home-dir"),
            aria: dir("aria-log-dir-path"),
            binlog: binlog.map(|(name, parent)| (name.clone(), datadir.join(parent))),
            roots: options.server("innodb-directories").map(roots).unwrap_or_default(),
            tables: BTreeMap::new(),
            datadir,
        })
    }

    /// Decides which tables return to their own directory (DATA DIRECTORY): those whose directory is in `more` or in
    /// one that the option file names. A backup alone must not decide where files are written. Returns the tables that
    /// stay in the data directory, with their original paths.
    pub(super) fn send_back(&mut self, more: &[PathBuf], backup: &Backup, items: &[Item]) -> Vec<(PathBuf, PathBuf)> {
        self.roots.extend(more.iter().cloned());
        let mut left = Vec::new();
        for (table, place) in backup.state.iter().flat_map(|state| &state.locations) {
            let place = PathBuf::from(place);
            let names = [format!("{table}.ibd"), table.clone()].map(PathBuf::from);
            let Some(name) = names.into_iter().find(|name| items.iter().any(|item| item.path == *name)) else {
                continue;
            };
            match self.roots.iter().any(|root| is_below(&place, root)) {
                true => drop(self.tables.insert(name, place)),
                false => left.push((name, place)),
            }
        }
        left
    }

    /// The `.isl` files by which MariaDB finds such tables, with their content.
    pub(super) fn links(&self) -> impl Iterator<Item = (PathBuf, &Path)> {
        let links = self.tables.iter().filter(|_| self.family == Family::MariaDb);
        links.map(|(name, place)| (self.datadir.join(name.with_extension("isl")), place.as_path()))
    }

    /// Destinations outside the data directory.
    pub(super) fn outside(&self) -> Vec<&Path> {
        let system = self.system.iter().filter_map(|(_, path)| path.parent());
        let dirs = [self.undo.as_path(), &self.redo, &self.aria].into_iter();
        let binlog = self.binlog.iter().map(|(_, dir)| dir.as_path());
        let tables = self.tables.values().filter_map(|path| path.parent());
        let dirs = dirs.chain(system).chain(binlog).chain(tables);
        let mut dirs: Vec<&Path> = dirs.filter(|dir| !same(dir, &self.datadir)).collect();
        dirs.sort_unstable();
        dirs.dedup();
        dirs
    }

    /// The destination of a file or directory.
    pub(super) fn of(&self, item: &Path) -> PathBuf {
        let mut parts = item.components();
        let first = parts.next().map(|part| part.as_os_str().as_bytes()).unwrap_or_default();
        let is_root = parts.next().is_none();
        let system = self.system.iter().find(|(name, _)| name == item).map(|(_, path)| path);
        if let Some(path) = system.or_else(|| self.tables.get(item)) {
            return path.clone();
        }
        let dir = match self.family {
            Family::MariaDb if is_root && is_numbered(first, b"undo") => &self.undo,
            Family::MariaDb if is_root && first == mariadb::FILE.as_bytes() => &self.redo,
            Family::MariaDb if is_root && (first == b"aria_log_control" || is_numbered(first, b"aria_log.")) => {
                &self.aria
            }
            Family::MySql if is_root && is_numbered(first, b"undo_") => &self.undo,
            Family::MySql if first == mysql::DIR.as_bytes() => &self.redo,
            _ if is_root && self.is_binlog(first) => self.binlog.as_ref().map_or(&self.datadir, |(_, dir)| dir),
            _ => &self.datadir,
        };
        dir.join(item)
    }

    /// The first file whose destination is taken. `all`: also in the data directory, which otherwise is checked as a whole.
    pub(super) fn occupied<'a>(&self, items: &'a [Item], all: bool) -> Option<(&'a Item, PathBuf)> {
        let placed = items.iter().filter(|item| !item.is_dir).map(|item| (item, self.of(&item.path)));
        placed
            .into_iter()
            .find(|(item, path)| (all || *path != self.datadir.join(&item.path)) && path.symlink_metadata().is_ok())
    }

    fn is_binlog(&self, name: &[u8]) -> bool {
        let rest = self.binlog.as_ref().and_then(|(base, _)| name.strip_prefix(base.as_bytes())?.strip_prefix(b"."));
        rest.is_some_and(|rest| rest == b"index" || (!rest.is_empty() && rest.iter().all(u8::is_ascii_digit)))
    }
}

/// The directories of `innodb_directories`, which MySQL may quote.
pub(super) fn roots(text: &str) -> Vec<PathBuf> {
    text.trim_matches('"').split(';').map(str::trim).filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()
}

/// True if a file is in a directory, by names alone: both are absolute, without `..`.
fn is_below(file: &Path, dir: &Path) -> bool {
    let plain = |path: &Path| {
        let mut parts = path.components();
        parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    plain(file) && plain(dir) && file != dir && file.starts_with(dir)
}

/// Pairs the files of the system tablespace with those of the server's options, in order.
fn system(options: &Settings, datadir: &Path, backup: &Backup) -> Result<Vec<(PathBuf, PathBuf)>> {
    const USUAL: &str = "ibdata1:12M:autoextend";
    let theirs = backup.options.get("innodb_data_file_path").filter(|path| !path.is_empty());
    let theirs = base_data_files(theirs.map_or(USUAL, String::as_str));
    let ours = options.server("innodb-data-file-path").unwrap_or(USUAL);
    let home = datadir.join(options.server("innodb-data-home-dir").unwrap_or_default());
    let read = |value: &str, place: &dyn std::fmt::Display| {
        let names =
            data_files(value).map_err(|what| Error::failed(place, format_args!("innodb_data_file_path {what}")));
        names.map(|names| names.into_iter().map(PathBuf::from).collect::<Vec<_>>())
    };
    let (from, to) = (read(&theirs, &backup.path.display())?, read(ours, &options.place)?);
    if from.len() != to.len() {
        let what = format!("innodb_data_file_path has {} files, the backup {}", to.len(), from.len());
        return Err(Error::failed(&options.place, what)
            .hint(format_args!("the server needs innodb_data_file_path={theirs}, in any directories")));
    }
    Ok(from.into_iter().zip(to).map(|(from, to)| (from, home.join(to))).collect())
}

fn is_numbered(name: &[u8], prefix: &[u8]) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// True if both are the same directory; ignores `./` and the like.
fn same(a: &Path, b: &Path) -> bool {
    a.components().eq(b.components()) || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Fails if one of these directories is the other, or inside of it: copying would never end, or the copy would be lost
/// with the backup. `to` need not exist yet; with `around`, the backup may be inside of it.
pub(super) fn apart(backup: &Path, to: &Path, around: bool) -> Result<()> {
    let (Some(backup), Some(place)) = (real(backup), real(to)) else { return Ok(()) };
    let what = match (place.starts_with(&backup), backup.starts_with(&place)) {
        (true, true) => "is the backup itself",
        (true, false) => "is below the backup",
        (false, true) if !around => "has the backup below it",
        (false, _) => return Ok(()),
    };
    Err(Error::usage(to.display(), what).hint("give a directory beside it"))
}

/// The path without symbolic links, as far as it exists.
fn real(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let found = path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    found.map(|(above, rest)| if rest == OsStr::new("") { above } else { above.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(family: Family) -> Destinations {
        let dir = |name: &str| PathBuf::from(format!("/{name}"));
        Destinations {
            system: vec![("ibdata1".into(), "/x/a".into()), ("ibdata1_2".into(), "/y/a".into())],
            undo: dir("undo"),
            redo: dir("redo"),
            aria: dir("aria"),
            binlog: Some(("bin".into(), dir("log"))),
            ..Destinations::plain(Path::new("/data"), family)
        }
    }

    #[test]
    fn files_go_where_the_option_file_has_them() {
        for (family, from, to) in [
            (Family::MariaDb, "ibdata1_2", "/y/a"),
            (Family::MariaDb, "undo001", "/undo/undo001"),
            (Family::MariaDb, "undo001/t.ibd", "/data/undo001/t.ibd"),
            (Family::MariaDb, "ib_logfile0", "/redo/ib_logfile0"),
            (Family::MariaDb, "aria_log.00000001", "/aria/aria_log.00000001"),
            (Family::MariaDb, "bin.000001", "/log/bin.000001"),
            (Family::MariaDb, "binary/t.ibd", "/data/binary/t.ibd"),
            (Family::MySql, "#innodb_redo/#ib_redo3", "/redo/#innodb_redo/#ib_redo3"),
            (Family::MySql, "#innodb_redo", "/redo/#innodb_redo"),
            (Family::MySql, "undo_001", "/undo/undo_001"),
            (Family::MySql, "more.ibu", "/data/more.ibu"),
            (Family::MySql, "bin.index", "/log/bin.index"),
            (Family::MySql, "d/ibdata1", "/data/d/ibdata1"),
        ] {
            assert_eq!(places(family).of(Path::new(from)), Path::new(to), "{from}");
        }
        assert_eq!(places(Family::MySql).outside().len(), 6);
        assert!(Destinations::plain(Path::new("/data"), Family::MySql).outside().is_empty());
    }

    #[test]
    fn only_what_is_below_an_allowed_directory_goes_back_there() {
        let dir = |path: &str| PathBuf::from(path);
        assert_eq!(roots("\"/a;/b/c; \""), [dir("/a"), dir("/b/c")]);
        for (file, root, below) in [
            ("/a/d/t.ibd", "/a", true),
            ("/a/d/t.ibd", "/a/", true),
            ("/a/t.ibd", "/a/d", false),
            ("/ab/t.ibd", "/a", false),
            ("/a/../etc/t.ibd", "/a", false),
            ("a/t.ibd", "/a", false),
            ("a/t.ibd", "a", false),
            ("/a/t.ibd", "/a/../a", false),
            ("/a", "/a", false),
        ] {
            assert_eq!(is_below(Path::new(file), Path::new(root)), below, "{file} in {root}");
        }
    }

    #[test]
    fn a_backup_and_its_copy_are_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("full/db")).unwrap();
        std::os::unix::fs::symlink(at("full"), at("link")).unwrap();
        for (to, words) in [
            ("full", "itself"),
            ("full/new/deep", "below the backup"),
            ("link/new", "below the backup"),
            (".", "has the backup below it"),
        ] {
            assert!(apart(&at("full"), &at(to), false).unwrap_err().to_string().contains(words), "{to}");
        }
        apart(&at("full"), &at("."), true).unwrap();
        for to in ["full2", "new/deep"] {
            apart(&at("full"), &at(to), false).unwrap();
        }
    }
}
