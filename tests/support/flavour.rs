//! Which servers there are: the distribution's own, and those that `tests/setup` has unpacked without installing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A server family and version to test with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// What the distribution installs; on Debian 12, MariaDB 10.11.
    Installed,
    /// MariaDB 11.8, unpacked by `tests/setup` below `target/servers`.
    Mariadb118,
    /// MySQL 9.7, likewise.
    Mysql97,
}

/// Makes a test of `fn holds(flavour: Flavour)` for each of these servers, with the server as the last part of its name:
/// `test_on!(holds: mariadb, mariadb118, mysql97);`. One that is not here is skipped. Those behind `; long:` are for
/// `make test-long` only.
macro_rules! test_on {
    ($holds:ident: $($server:ident),* $(; long: $($slow:ident),+)?) => {
        mod $holds {
            $($crate::support::flavour::test_on!(@one $holds $server);)*
            $($($crate::support::flavour::test_on!(@one $holds $slow #[ignore = "long: another server has it in make test"]);)+)?
        }
    };
    (@one $holds:ident $server:ident $(#[$mark:meta])?) => {
        #[test]
        $(#[$mark])?
        fn $server() {
            let flavour = $crate::support::Flavour::named(stringify!($server));
            if flavour.or_skip() {
                super::$holds(flavour);
            }
        }
    };
}
pub(crate) use test_on;

/// What two servers share that speak the same SQL and write the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Mariadb,
    Mysql,
}

impl Flavour {
    /// The MariaDBs that are here, the installed one first. In CI all must be.
    pub fn all() -> Vec<Flavour> {
        let mut all = vec![Flavour::Installed];
        if Flavour::Mariadb118.present() {
            all.push(Flavour::Mariadb118);
        } else {
            super::skip("MariaDB 11.8 is not in target/servers; run tests/setup");
        }
        all
    }

    /// As tests are called by `test_on!`.
    pub fn named(name: &str) -> Flavour {
        match name {
            "mariadb" => Flavour::Installed,
            "mariadb118" => Flavour::Mariadb118,
            "mysql97" => Flavour::Mysql97,
            _ => panic!("no server is called {name}"),
        }
    }

    pub fn family(self) -> Family {
        match self {
            Flavour::Installed | Flavour::Mariadb118 => Family::Mariadb,
            Flavour::Mysql97 => Family::Mysql,
        }
    }

    /// Is it on this machine?
    pub fn present(self) -> bool {
        self.root().is_none_or(|_| self.server().exists())
    }

    /// True if it is here; else says so, which in CI is a failure.
    pub fn or_skip(self) -> bool {
        if !self.present() {
            super::skip(&format!("{self:?} is not here; run tests/setup"));
        }
        self.present()
    }

    /// The server itself: for `--server PATH`.
    pub fn server(self) -> PathBuf {
        match self.family() {
            Family::Mariadb => self.path("mariadbd"),
            Family::Mysql => self.path("mysqld"),
        }
    }

    /// What prints binary logs as SQL.
    pub fn binlog(self) -> Command {
        match self.family() {
            Family::Mariadb => self.program("mariadb-binlog"),
            Family::Mysql => self.program("mysqlbinlog"),
        }
    }

    /// The client. Debian has none for MySQL apart; MariaDB's speaks to it.
    pub fn client(self) -> Command {
        match self.family() {
            Family::Mariadb => self.program("mariadb"),
            Family::Mysql => Flavour::Installed.program("mariadb"),
        }
    }

    /// A program of this flavour: `mariadbd`, `mariadb-backup`, `mbstream`; `mysqld`, `innochecksum`.
    pub fn program(self, name: &str) -> Command {
        Command::new(self.path(name))
    }

    /// Where that program is.
    pub fn path(self, name: &str) -> PathBuf {
        match self.root() {
            Some(root) => root.join("bin").join(name),
            None => {
                let sbin = Path::new("/usr/sbin").join(name);
                if sbin.exists() { sbin } else { Path::new("/usr/bin").join(name) }
            }
        }
    }

    /// The SQL that makes the system tables; Debian 13 has it under another name.
    pub(super) fn share(self) -> PathBuf {
        let system = self.root().map_or_else(|| PathBuf::from("/usr/share"), |root| root.join("root/usr/share"));
        let new = system.join("mariadb");
        if new.join("mariadb_system_tables.sql").exists() { new } else { system.join("mysql") }
    }

    /// Plugins. The packages without a service lack some; `tests/setup` puts the full set beside.
    pub fn plugins(self) -> PathBuf {
        let system = PathBuf::from("/usr/lib/mysql/plugin");
        let beside = servers().join("plugins");
        match self.root() {
            Some(root) => root.join("root/usr/lib/mysql/plugin"),
            None if !system.join("file_key_management.so").exists() && beside.exists() => beside,
            None => system,
        }
    }

    /// What `tests/setup` has put beside the servers.
    pub fn beside(name: &str) -> PathBuf {
        servers().join(name)
    }

    fn root(self) -> Option<PathBuf> {
        match self {
            Flavour::Installed => None,
            Flavour::Mariadb118 => Some(servers().join("mariadb-11.8")),
            Flavour::Mysql97 => Some(servers().join("mysql-9.7")),
        }
    }
}

/// `target/servers`, filled by `tests/setup`.
pub(super) fn servers() -> PathBuf {
    super::cache().parent().map(Path::to_path_buf).unwrap_or_default().join("servers")
}
