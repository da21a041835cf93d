//! Finds a server program of the right version on this host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Family, Release, Version};
use crate::error::{Error, Result};

/// Its names in distributions, upstream packages and source builds.
const NAMES: [&str; 2] = ["mariadbd", "mysqld"];
/// Directories in addition to `PATH`, which lacks the system's directories for ordinary users.
const PLACES: [&str; 6] =
    ["/usr/sbin", "/usr/libexec", "/usr/bin", "/usr/local/sbin", "/usr/local/libexec", "/usr/local/mysql/bin"];

/// Parses a version: `10.11.19-MariaDB-log`, `9.7.4-2`, `mariadbd  Ver 10.11.19-MariaDB for …`.
pub fn version(text: &str) -> Option<Release> {
    // A path precedes "Ver", and may contain numbers.
    let text = text.split_once(" Ver ").map_or(text, |(_, text)| text);
    let number = text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.').map(str::parse);
        match (numbers.next()?, numbers.next()?, numbers.next()?) {
            (Ok(major), Ok(minor), Ok(release)) => Some(Version(major, minor, release)),
            _ => None,
        }
    })?;
    let family = if text.contains("MariaDB") { Family::MariaDb } else { Family::MySql };
    Some(Release { family, version: number })
}

/// True if `server` can recover what `backup` wrote. Only releases of one series can read each other's redo log.
pub fn recovers(server: Release, backup: Release) -> bool {
    let (Version(major, minor, release), of) = (server.version, backup.version);
    server.family == backup.family && (major, minor) == (of.0, of.1) && release >= of.2
}

/// A server program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// The release that it reports.
    pub release: Release,
}

impl Program {
    /// Asks a program for its version; `None` if it is not a server.
    pub fn ask(path: &Path) -> Option<Program> {
        let output = Command::new(path)
            .args(["--no-defaults", "--version"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let release = version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Program { path: path.to_owned(), release })
    }

    /// The directory of its plugins, as it reports it.
    pub fn plugins(&self) -> Option<PathBuf> {
        let output = Command::new(&self.path)
            .args(["--no-defaults", "--verbose", "--help", "--log-error-verbosity=1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("plugin-dir"));
        lines.find(|rest| rest.starts_with(' ')).map(|rest| PathBuf::from(rest.trim()))
    }

    /// The prefix of an installation outside the system's directories, with its messages and character sets.
    pub fn basedir(&self) -> Option<PathBuf> {
        let path = self.path.canonicalize().ok()?;
        path.ancestors()
            .skip(2)
            .take(2)
            .find(|prefix| {
                ["share/english", "share/mysql/english", "share/mariadb/english"]
                    .iter()
                    .any(|messages| prefix.join(messages).is_dir())
            })
            .map(Path::to_owned)
    }
}

/// The newest server that can recover a backup of `backup`, or the one that the operator chose.
pub fn find(backup: Release, chosen: Option<&Path>) -> Result<Program> {
    if let Some(path) = chosen {
        let program =
            Program::ask(path).ok_or_else(|| Error::failed(path.display(), "is not a server that runs here"))?;
        if recovers(program.release, backup) {
            return Ok(program);
        }
        let what = format!("is {}, the backup was made of {backup}", program.release);
        return Err(Error::failed(path.display(), what).hint(wanted(backup)));
    }
    let found = all();
    // The first of the newest: the current name comes before the old one.
    let fits = found
        .iter()
        .rev()
        .filter(|program| recovers(program.release, backup))
        .max_by_key(|program| program.release.version);
    fits.cloned().ok_or_else(|| {
        let list: Vec<String> =
            found.iter().map(|program| format!("{} is {}", program.path.display(), program.release)).collect();
        let list = if list.is_empty() { "there is none on this host".to_owned() } else { list.join(", ") };
        Error::failed("server", format_args!("none fits: the backup was made of {backup}, {list}")).hint(wanted(backup))
    })
}

/// The newest server of a family that is on this host.
pub fn newest(family: Family) -> Option<Program> {
    let found = all().into_iter().rev().filter(|program| program.release.family == family);
    found.max_by_key(|program| program.release.version)
}

/// The servers on this host.
fn all() -> Vec<Program> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    // /sbin may be /usr/sbin, and mysqld a link to mariadbd: each is asked once.
    let (mut asked, mut found) = (BTreeSet::new(), Vec::new());
    for place in places {
        for name in NAMES {
            let program = place.join(name);
            if program.canonicalize().is_ok_and(|file| file.is_file() && asked.insert(file)) {
                found.extend(Program::ask(&program));
            }
        }
    }
    found
}

fn wanted(backup: Release) -> String {
    let Release { family, version } = backup;
    let Version(major, minor, _) = version;
    format!("give a {family} {major}.{minor} server of version {version} or later: --server PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_say() {
        for (text, expect) in [
            ("10.11.19-MariaDB-0+deb12u1", Some(Release { family: Family::MariaDb, version: Version(10, 11, 19) })),
            (
                "/usr/sbin/mariadbd  Ver 11.8.6-MariaDB-ubu2404 for debian-linux-gnu on x86_64 (x)",
                Some(Release { family: Family::MariaDb, version: Version(11, 8, 6) }),
            ),
            ("8.0.36", Some(Release { family: Family::MySql, version: Version(8, 0, 36) })),
            (
                "/x/mysql-9.7.0/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))",
                Some(Release { family: Family::MySql, version: Version(9, 7, 4) }),
            ),
            ("MariaDB", None),
        ] {
            assert_eq!(version(text), expect, "{text}");
        }
    }

    #[test]
    fn only_the_same_series_and_no_older_release_recovers() {
        let of = |minor, release| Release { family: Family::MariaDb, version: Version(10, minor, release) };
        let backup = of(11, 19);
        assert!(recovers(of(11, 19), backup) && recovers(of(11, 20), backup));
        assert!(!recovers(of(11, 18), backup) && !recovers(of(12, 19), backup));
        assert!(!recovers(Release { family: Family::MySql, version: Version(10, 11, 19) }, backup));
    }
}
