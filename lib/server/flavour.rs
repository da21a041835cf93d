//! Which server this is, and what follows from it.

use std::fmt;

use crate::error::{Error, Result};

/// A server that can be copied. MySQL will be the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// MariaDB of this version.
    MariaDb(Version),
}

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

/// The oldest with the redo log in one file and in today's format.
const OLDEST: Version = Version(10, 8, 0);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Flavour {
    /// From the server's `version` variable: `10.11.19-MariaDB-log`.
    pub fn of(version: &str) -> Result<Self> {
        let refuse = |what: &str| Error::failed("server", format_args!("version {version}: {what}"));
        let mut numbers = version.split(['.', '-']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(refuse("cannot be read"));
        };
        if !version.contains("MariaDB") {
            return Err(refuse("not MariaDB").hint("this version of xb-snap copies MariaDB 10.11 and later"));
        }
        let number = Version(major, minor, patch);
        if number < OLDEST {
            return Err(refuse("too old").hint(format_args!("MariaDB {OLDEST} or later is needed")));
        }
        Ok(Flavour::MariaDb(number))
    }

    /// As `xb_begin` and the manifest name it.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::MariaDb(_) => "mariadb",
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
        assert!(Flavour::of("8.0.40").unwrap_err().to_string().contains("not MariaDB"));
        assert!(Flavour::of("10.6.20-MariaDB").unwrap_err().to_string().contains("too old"));
        assert!(Flavour::of("MariaDB").is_err());
    }
}
