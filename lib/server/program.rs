//! Finding a server program of the right version on this host.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// What distributions, upstream packages and source builds call it.
const NAMES: [&str; 2] = ["mariadbd", "mysqld"];
/// Where it is beside `PATH`, which an ordinary user has without the system's directories.
const PLACES: [&str; 6] =
    ["/usr/sbin", "/usr/libexec", "/usr/bin", "/usr/local/sbin", "/usr/local/libexec", "/usr/local/mysql/bin"];

/// A server's version: series and release. Only releases of one series understand each other's redo log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// `10.11`.
    pub series: (u32, u32),
    /// The third number.
    pub release: u32,
}

impl Version {
    /// Finds `10.11.19` in what a server says of itself: `10.11.19-MariaDB-log`, `mariadbd  Ver 10.11.19-MariaDB for …`.
    /// `None` for servers that are not MariaDB.
    pub fn parse(text: &str) -> Option<Version> {
        if !text.contains("MariaDB") {
            return None;
        }
        // Very old replication clients were told 5.5.5- before the version.
        let text = text.strip_prefix("5.5.5-").unwrap_or(text);
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            match (numbers.next()?, numbers.next()?, numbers.next()?) {
                (Ok(major), Ok(minor), Ok(release)) => Some(Version { series: (major, minor), release }),
                _ => None,
            }
        })
    }

    /// Can this server recover what that one wrote?
    pub fn recovers(self, backup: Version) -> bool {
        self.series == backup.series && self.release >= backup.release
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.series.0, self.series.1, self.release)
    }
}

/// A server program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

impl Program {
    /// Asks a program for its version; `None` if it is no MariaDB server.
    pub fn ask(path: &Path) -> Option<Program> {
        let output = Command::new(path)
            .args(["--no-defaults", "--version"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Some(Program { path: path.to_owned(), version })
    }

    /// The prefix of an installation outside the system's directories: where its messages and character sets are.
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

/// The newest server that can recover a backup of `backup`, or the one the operator chose.
pub fn find(backup: Version, chosen: Option<&Path>) -> Result<Program> {
    if let Some(path) = chosen {
        let program = Program::ask(path)
            .ok_or_else(|| Error::failed(path.display(), "is not a MariaDB server that runs here"))?;
        if program.version.recovers(backup) {
            return Ok(program);
        }
        let what = format!("is {}, the backup was made of {backup}", program.version);
        return Err(Error::failed(path.display(), what).hint(wanted(backup)));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    let mut found: Vec<Program> = Vec::new();
    for place in places {
        for name in NAMES {
            let program = place.join(name);
            if program.is_file() && found.iter().all(|known| known.path != program) {
                found.extend(Program::ask(&program));
            }
        }
    }
    let fits = found.iter().filter(|program| program.version.recovers(backup)).max_by_key(|program| program.version);
    fits.cloned().ok_or_else(|| {
        let list: Vec<String> =
            found.iter().map(|program| format!("{} is {}", program.path.display(), program.version)).collect();
        let list = if list.is_empty() { "there is none on this host".to_owned() } else { list.join(", ") };
        Error::failed("server", format_args!("none fits: the backup was made of {backup}, {list}")).hint(wanted(backup))
    })
}

fn wanted(backup: Version) -> String {
    let (major, minor) = backup.series;
    format!("give a MariaDB {major}.{minor} server of release {} or later: --server PATH", backup.release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_say() {
        let version = |series, release| Some(Version { series, release });
        for (text, expect) in [
            ("10.11.19-MariaDB-0+deb12u1", version((10, 11), 19)),
            ("/usr/sbin/mariadbd  Ver 11.8.6-MariaDB-ubu2404 for debian-linux-gnu on x86_64 (x)", version((11, 8), 6)),
            ("5.5.5-10.6.1-MariaDB", version((10, 6), 1)),
            ("8.0.36", None),
            ("MariaDB", None),
        ] {
            assert_eq!(Version::parse(text), expect, "{text}");
        }
    }

    #[test]
    fn only_the_same_series_and_no_older_release_recovers() {
        let version = |text: &str| Version::parse(&format!("{text}-MariaDB")).unwrap();
        assert!(version("10.11.19").recovers(version("10.11.19")));
        assert!(version("10.11.20").recovers(version("10.11.19")));
        assert!(!version("10.11.18").recovers(version("10.11.19")));
        assert!(!version("11.8.19").recovers(version("10.11.19")));
    }
}
