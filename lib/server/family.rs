//! The server's family and version.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Servers that share their formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// MariaDB.
    #[serde(rename = "mariadb")]
    MariaDb,
    /// MySQL and its derivatives (Percona Server).
    #[serde(rename = "mysql")]
    MySql,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::MariaDb => "MariaDB",
            Family::MySql => "MySQL",
        })
    }
}

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A server that can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its family.
    pub family: Family,
    /// Its version.
    pub version: Version,
}

/// The oldest version with the redo log in one file and in the current format.
const OLDEST_MARIADB: Version = Version(10, 8, 0);
/// The oldest version with the redo log in `#innodb_redo`, in the current format. The log's header decides; this check
/// only comes before anything is locked.
const OLDEST_MYSQL: Version = Version(8, 0, 30);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.version)
    }
}

impl Release {
    /// From the server's `version` variable: `10.11.19-MariaDB-log`, `9.7.4-2`.
    ///
    /// # Errors
    ///
    /// Failed, if it cannot be parsed, or is too old for these programs.
    pub fn of(version: &str) -> Result<Self> {
        let refuse = |what: &str| Error::failed("server", format_args!("version {version}: {what}"));
        let mut numbers = version.split(['.', '-']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(refuse("cannot be read"));
        };
        let number = Version(major, minor, patch);
        let (family, oldest) = match version.contains("MariaDB") {
            true => (Family::MariaDb, OLDEST_MARIADB),
            false => (Family::MySql, OLDEST_MYSQL),
        };
        if number < oldest {
            return Err(refuse("too old").hint(format_args!("{family} {oldest} or later is needed")));
        }
        Ok(Release { family, version: number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_their_version() {
        let of = |text: &str| Release::of(text).unwrap();
        let (mariadb, mysql) = (Family::MariaDb, Family::MySql);
        assert_eq!(of("10.11.19-MariaDB-log"), Release { family: mariadb, version: Version(10, 11, 19) });
        assert_eq!(of("11.8.6-MariaDB-ubu2404"), Release { family: mariadb, version: Version(11, 8, 6) });
        assert_eq!(of("8.0.40-31"), Release { family: mysql, version: Version(8, 0, 40) });
        assert_eq!(of("9.7.4-2"), Release { family: mysql, version: Version(9, 7, 4) });
        assert!(Release::of("8.0.29").unwrap_err().to_string().contains("too old"));
        assert!(Release::of("10.6.20-MariaDB").unwrap_err().to_string().contains("too old"));
        assert!(Release::of("MariaDB").is_err());
    }
}
