//! Options of transfers, by the groups in which they are looked for.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::server::options::Options;

/// Groups that are only about transfers; the first that has a value is used.
const SST: [&str; 2] = ["sst-xb", "sst"];
/// Groups for programs that make backups.
const BACKUP: [&str; 4] = ["sst-xb", "sst", "xtrabackup", "mariabackup"];
/// The same, behind those of the server.
const SHARED: [&str; 10] = [
    "sst-xb",
    "mysqld",
    "server",
    "mariadb",
    "mariadbd",
    "client-server",
    "galera",
    "sst",
    "xtrabackup",
    "mariabackup",
];

/// Reads values by their groups.
pub(super) struct Asked<'o>(pub(super) &'o Options);

impl Asked<'_> {
    pub(super) fn first(&self, groups: &[&str], key: &str) -> Option<&str> {
        groups.iter().find_map(|group| self.0.of(&[group], key).filter(|value| !value.is_empty()))
    }

    /// In `[sst-xb]` or `[sst]`.
    pub(super) fn sst(&self, key: &str) -> Option<&str> {
        self.first(&SST, key)
    }

    /// Also in the groups of backup programs.
    pub(super) fn backup(&self, key: &str) -> Option<&str> {
        self.first(&BACKUP, key)
    }

    /// Also in those of the server, which go before.
    pub(super) fn shared(&self, key: &str) -> Option<&str> {
        self.first(&SHARED, key)
    }

    /// In a group of its own for options that only we have.
    pub(super) fn ours(&self, key: &str) -> Option<&str> {
        self.first(&["sst-xb"], key)
    }

    pub(super) fn switch(&self, key: &str, default: bool) -> Result<bool> {
        match self.sst(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("1" | "on" | "yes" | "true") => Ok(true),
            Some("0" | "off" | "no" | "false") => Ok(false),
            Some(other) => Err(refused(key, other, "is neither on nor off")),
        }
    }

    pub(super) fn seconds(&self, key: &str, default: u64) -> Result<Duration> {
        let number = self.sst(key).map_or(Ok(default), |text| {
            text.parse()
                .ok()
                .filter(|number| *number <= 31_536_000)
                .ok_or_else(|| refused(key, text, "is no number of seconds"))
        });
        number.map(Duration::from_secs)
    }

    /// Words for a program of ours. No shell reads them.
    pub(super) fn words(&self, key: &str) -> Result<Vec<String>> {
        let text = self.backup(key).unwrap_or_default();
        if text.contains(['\'', '"', '\\', '$', '`']) {
            return Err(refused(key, text, "has quotes or expressions of a shell; words are separated by blanks"));
        }
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    }
}

/// An option whose value cannot be honoured.
pub(super) fn refused(key: &str, value: &str, what: &str) -> Error {
    Error::usage(format_args!("{key}={value}"), what)
}
