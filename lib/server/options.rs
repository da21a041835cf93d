//! Option files as the server and its clients read them: groups of `key = value`, with includes.
//!
//! Source: MariaDB's `my_default.c`. Of all files and groups, in the order of reading, the last value is used.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::login_path;
use crate::error::{Error, Result};
use crate::report::{Level, Report};

/// The system's option files, in the order in which they are read.
pub(crate) const SYSTEM: [&str; 2] = ["/etc/my.cnf", "/etc/mysql/my.cnf"];
/// Groups for connection options: those of all clients, and of the backup programs. `mariadb-client` is the group of
/// one other client, and `mariadb-backup` does not read it, either (MDEV-22894).
const CLIENT: [&str; 8] =
    ["client", "client-server", "client-mariadb", "mysql", "xtrabackup", "mariabackup", "mariadb-backup", "xb-snap"];
/// Groups with the server's paths; `xtrabackup` and similar groups may set a data directory, too.
const SERVER: [&str; 10] = [
    "mysqld",
    "server",
    "mariadb",
    "mariadbd",
    "client-server",
    "galera",
    "xtrabackup",
    "mariabackup",
    "mariadb-backup",
    "xb-snap",
];
/// Environment variables: a directory with a `my.cnf` that is read between the system's and the user's, and a suffix of
/// groups. The first that is set is used.
const HOME: [&str; 2] = ["MARIADB_HOME", "MYSQL_HOME"];
const SUFFIX: [&str; 2] = ["MARIADB_GROUP_SUFFIX", "MYSQL_GROUP_SUFFIX"];
/// How deep includes may be nested; the server has the same limit.
const DEPTH_MAX: u32 = 10;

/// Which option files are read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Only this file.
    pub file: Option<PathBuf>,
    /// This file, after the system's and before the user's.
    pub extra: Option<PathBuf>,
    /// No file at all.
    pub none: bool,
    /// Also read groups with this suffix; by default the suffix in the environment.
    pub suffix: Option<String>,
    /// Read `.mylogin.cnf` last, and this group of it as one of all clients.
    pub login_path: Option<String>,
}

/// The content of the option files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    settings: Vec<Setting>,
    suffix: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    group: String,
    key: String,
    value: String,
}

/// A line of an option file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Blank, or a comment.
    Nothing,
    /// The following settings belong to this group.
    Group(String),
    /// A key, with `-` for `_`, and its value, which is empty if there is none.
    Setting(String, String),
    /// Another file is included here.
    Include(PathBuf),
    /// The `.cnf` files of a directory are included here.
    IncludeDir(PathBuf),
}

impl Sources {
    /// Reads the files. A file that the command names must exist, and must not be writable for everybody; the others
    /// may be missing, and are skipped if everybody can write to them.
    pub fn read(&self, report: &dyn Report) -> Result<Options> {
        let suffix = self.suffix.clone().or_else(|| set(&SUFFIX)?.into_string().ok());
        let mut options = Options { suffix, ..Options::default() };
        self.files(&mut options, report)?;
        if let Some(name) = &self.login_path {
            options.login_path(name)?;
        }
        Ok(options)
    }

    fn files(&self, options: &mut Options, report: &dyn Report) -> Result<()> {
        if self.none {
            return Ok(());
        }
        if let Some(file) = &self.file {
            return options.read(file, true, 0, report);
        }
        for file in SYSTEM {
            options.read(Path::new(file), false, 0, report)?;
        }
        if let Some(home) = set(&HOME) {
            options.read(&Path::new(&home).join("my.cnf"), false, 0, report)?;
        }
        if let Some(file) = &self.extra {
            options.read(file, true, 0, report)?;
        }
        if let Some(home) = std::env::var_os("HOME") {
            options.read(&Path::new(&home).join(".my.cnf"), false, 0, report)?;
        }
        Ok(())
    }
}

impl Options {
    /// A connection option (`socket`, `user`), from the groups of clients.
    pub fn client(&self, key: &str) -> Option<&str> {
        self.of(&CLIENT, key)
    }

    /// An option of the server (`datadir`, `socket`).
    pub fn server(&self, key: &str) -> Option<&str> {
        self.of(&SERVER, key)
    }

    /// All settings of these groups, in the order of reading: keys with `-` for `_`, and values.
    pub fn all<'o>(&'o self, groups: &'o [&str]) -> impl DoubleEndedIterator<Item = (&'o str, &'o str)> {
        let wanted = self.settings.iter().filter(|setting| self.is_of(&setting.group, groups));
        wanted.map(|setting| (setting.key.as_str(), setting.value.as_str()))
    }

    /// An option in these groups; each name also stands for the group with the suffix, or with a version.
    pub fn of(&self, groups: &[&str], key: &str) -> Option<&str> {
        let found = self.settings.iter().rev().find(|setting| setting.key == key && self.is_of(&setting.group, groups));
        found.map(|setting| setting.value.as_str())
    }

    fn is_of(&self, group: &str, groups: &[&str]) -> bool {
        groups.iter().any(|name| {
            let rest = group.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || Some(rest) == self.suffix.as_deref() || is_version(rest))
        })
    }

    fn read(&mut self, file: &Path, must_exist: bool, depth: u32, report: &dyn Report) -> Result<()> {
        if std::fs::metadata(file).is_ok_and(|facts| facts.is_file() && facts.mode() & 0o002 != 0) {
            if must_exist {
                // Without this file, another server might be backed up unnoticed.
                let what = "not used: anybody can write to it";
                return Err(Error::failed(file.display(), what).hint(format_args!("chmod o-w {}", file.display())));
            }
            report.note(Level::Warning, format_args!("{}: ignored: anybody can write to it", file.display()));
            return Ok(());
        }
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(cause) if !must_exist && cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // A file of the system that only other users may read does not concern us.
            Err(cause) if !must_exist && cause.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            Err(cause) => return Err(Error::io(file.display(), "cannot read", &cause)),
        };
        let mut group = String::new();
        for text in String::from_utf8_lossy(&bytes).lines() {
            match line(text) {
                Line::Nothing => {}
                Line::Group(name) => group = name,
                Line::Setting(key, value) => self.settings.push(Setting { group: group.clone(), key, value }),
                Line::Include(_) | Line::IncludeDir(_) if depth >= DEPTH_MAX => {
                    return Err(Error::failed(file.display(), "includes too deep"));
                }
                Line::Include(path) => self.read(&path, false, depth + 1, report)?,
                Line::IncludeDir(dir) => self.read_dir(&dir, depth + 1, report)?,
            }
        }
        Ok(())
    }

    /// Of `.mylogin.cnf`, the groups of clients, and the one with this name.
    fn login_path(&mut self, name: &str) -> Result<()> {
        let text = login_path::text()?;
        let (mut group, mut found) = (String::new(), false);
        for text in text.lines() {
            match line(text) {
                Line::Group(of) => {
                    let suffixed = self.suffix.as_deref().is_some_and(|suffix| of.strip_prefix(name) == Some(suffix));
                    let asked = of == name || suffixed;
                    found |= asked;
                    group = if asked { CLIENT[0].to_owned() } else { of };
                }
                Line::Setting(key, value) => self.settings.push(Setting { group: group.clone(), key, value }),
                // Nothing that is said there includes another file.
                Line::Nothing | Line::Include(_) | Line::IncludeDir(_) => {}
            }
        }
        if found {
            return Ok(());
        }
        Err(Error::usage("--login-path", format_args!("{name} is not in .mylogin.cnf"))
            .hint("mysql_config_editor print --all lists those that are"))
    }

    fn read_dir(&mut self, dir: &Path, depth: u32, report: &dyn Report) -> Result<()> {
        let fail = |cause| Error::io(dir.display(), "cannot read", &cause);
        let entries: Result<Vec<_>, _> = std::fs::read_dir(dir).map_err(fail)?.collect();
        let mut files: Vec<PathBuf> = entries.map_err(fail)?.into_iter().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "cnf"));
        files.sort();
        files.iter().try_for_each(|path| self.read(path, false, depth, report))
    }
}

/// The first of these environment variables that is set.
fn set(names: &[&str]) -> Option<std::ffi::OsString> {
    names.iter().find_map(std::env::var_os)
}

/// True for `-10.11` in `mariadb-10.11`, a group for one release series. The server's version is not known yet, so all
/// are used.
fn is_version(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Parses a line. Any text is accepted: servers refuse unknown keys, and xb-snap needs only a few.
pub fn line(text: &str) -> Line {
    let text = text.trim();
    if text.is_empty() || text.starts_with(['#', ';']) {
        return Line::Nothing;
    }
    if let Some(rest) = text.strip_prefix("!includedir") {
        return Line::IncludeDir(rest.trim().into());
    }
    if let Some(rest) = text.strip_prefix("!include") {
        return Line::Include(rest.trim().into());
    }
    if let Some((name, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // Blanks at its beginning are part of a name.
        return Line::Group(name.trim_end().to_owned());
    }
    let (key, rest) = text.split_once('=').unwrap_or((text, ""));
    let key = key.split('#').next().unwrap_or_default().trim().replace('_', "-");
    let key = key.strip_prefix("loose-").map(str::to_owned).unwrap_or(key);
    Line::Setting(key, value(rest))
}

/// A value without comment and quotes, with its escapes resolved.
fn value(text: &str) -> String {
    let text = uncommented(text).trim();
    let mut inner = text;
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            inner = quoted;
        }
    }
    let mut out = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('s') => out.push(' '),
            Some(other @ ('\\' | '"' | '\'')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// The part before a `#` that is not in quotes.
fn uncommented(text: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            ('#', None) => return text.get(..at).unwrap_or(text),
            ('"' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if letter == open && !escaped => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && letter == '\\' && !escaped;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_server_reads_them() {
        let setting = |key: &str, value: &str| Line::Setting(key.into(), value.into());
        for (text, want) in [
            ("", Line::Nothing),
            ("  # socket=/x", Line::Nothing),
            ("; socket=/x", Line::Nothing),
            ("[client]", Line::Group("client".into())),
            ("[mysqld ] # the server", Line::Group("mysqld".into())),
            ("socket = /run/a.sock", setting("socket", "/run/a.sock")),
            ("innodb_page_size=4k # small", setting("innodb-page-size", "4k")),
            ("loose-x=1", setting("x", "1")),
            ("password = 'a#b'", setting("password", "a#b")),
            ("password = \"it's\"", setting("password", "it's")),
            ("password=a\\sb\\\\c", setting("password", "a b\\c")),
            ("skip-networking", setting("skip-networking", "")),
            ("!include /etc/x.cnf", Line::Include("/etc/x.cnf".into())),
            ("!includedir /etc/x/", Line::IncludeDir("/etc/x/".into())),
        ] {
            assert_eq!(line(text), want, "{text}");
        }
    }

    #[test]
    fn the_last_value_of_all_files_and_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (main, sub) = (dir.path().join("my.cnf"), dir.path().join("sub"));
        std::fs::create_dir(&sub).unwrap();
        std::fs::write(sub.join("b.cnf"), "[xb-snap]\nuser=last\n[mariadbd-11.8]\ndatadir=/data\n").unwrap();
        std::fs::write(sub.join("a.cnf"), "[mariadb-backup]\nuser=before\n[mysqld]\nsocket=/s\n").unwrap();
        std::fs::write(sub.join("ignored.txt"), "[client]\nuser=no\n").unwrap();
        let text = format!("[client]\nuser=first\n[clientA]\nport=3307\n!includedir {}\n", sub.display());
        std::fs::write(&main, text).unwrap();
        let sources = Sources { file: Some(main), suffix: Some("A".into()), ..Sources::default() };
        let options = sources.read(&()).unwrap();
        assert_eq!(options.client("user"), Some("last"));
        assert_eq!(options.client("port"), Some("3307"));
        assert_eq!(options.client("socket"), None, "that of [mysqld] is the server's");
        assert_eq!(options.server("socket"), Some("/s"));
        assert_eq!(options.server("datadir"), Some("/data"));
        let missing = Sources { file: Some("/nonexistent.cnf".into()), ..Sources::default() };
        assert!(missing.read(&()).unwrap_err().to_string().starts_with("/nonexistent.cnf: cannot read: "));
    }
}
