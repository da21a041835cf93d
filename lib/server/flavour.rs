//! Which server this is, and what follows from it.

use std::fmt;

use crate::error::{Error, Result};

/// A server that can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB of this version.
    MariaDb(Version),
    /// MySQL of this version, and what is made of it (Percona Server).
    MySql(Version),
}

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

/// The oldest with the redo log in one file and in today's format.
const OLDEST_MARIADB: Version = Version(10, 8, 0);
/// The oldest with the redo log in `#innodb_redo`, in today's format. The log's header decides; this only says so before
/// anything is locked.
const OLDEST_MYSQL: Version = Version(8, 0, 30);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.title(), self.version())
    }
}

impl Flavour {
    /// From the server's `version` variable: `10.11.19-MariaDB-log`, `9.7.4-2`.
    pub fn of(version: &str) -> Result<Self> {
        let refuse = |what: &str| Error::failed("server", format_args!("version {version}: {what}"));
        let mut numbers = version.split(['.', '-']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(refuse("cannot be read"));
        };
        let number = Version(major, minor, patch);
        let (flavour, name, oldest) = match version.contains("MariaDB") {
            true => (Flavour::MariaDb(number), "MariaDB", OLDEST_MARIADB),
            false => (Flavour::MySql(number), "MySQL", OLDEST_MYSQL),
        };
        if number < oldest {
            return Err(refuse("too old").hint(format_args!("{name} {oldest} or later is needed")));
        }
        Ok(flavour)
    }

    /// Its number.
    pub fn version(self) -> Version {
        match self {
            Flavour::MariaDb(version) | Flavour::MySql(version) => version,
        }
    }

    /// As people call it.
    pub fn title(self) -> &'static str {
        match self {
            Flavour::MariaDb(_) => "MariaDB",
            Flavour::MySql(_) => "MySQL",
        }
    }

    /// As `xb_begin` and the manifest name it.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::MariaDb(_) => "mariadb",
            Flavour::MySql(_) => "mysql",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_version() {
        assert_eq!(Flavour::of("10.11.19-MariaDB-log").unwrap(), Flavour::MariaDb(Version(10, 11, 19)));
        assert_eq!(Flavour::of("11.8.6-MariaDB-ubu2404").unwrap(), Flavour::MariaDb(Version(11, 8, 6)));
        assert_eq!(Flavour::of("8.0.40-31").unwrap(), Flavour::MySql(Version(8, 0, 40)));
        assert_eq!(Flavour::of("9.7.4-2").unwrap(), Flavour::MySql(Version(9, 7, 4)));
        assert!(Flavour::of("8.0.29").unwrap_err().to_string().contains("too old"));
        assert!(Flavour::of("10.6.20-MariaDB").unwrap_err().to_string().contains("too old"));
        assert!(Flavour::of("MariaDB").is_err());
    }
}
