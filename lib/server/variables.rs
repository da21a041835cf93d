//! The server's global variables, and their types.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::session::Session;
use crate::error::{Error, Result};

/// `SHOW GLOBAL VARIABLES`, which needs no privilege.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    values: HashMap<String, String>,
}

impl Variables {
    /// Asks the server.
    pub fn of(session: &mut Session) -> Result<Self> {
        let records = session.records("SHOW GLOBAL VARIABLES")?;
        let pair = |mut record: super::session::Record| {
            Some((record.remove("variable_name")?.to_lowercase(), record.remove("value").unwrap_or_default()))
        };
        Ok(Variables { values: records.into_iter().filter_map(pair).collect() })
    }

    /// The value; `None` if the server does not know the name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value, empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.text(name);
        value.parse().map_err(|_| Error::failed("server", format_args!("variable {name} is {value:?}, not a number")))
    }

    /// True for `ON` and `1`.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name), "ON" | "1" | "YES")
    }

    /// The value of an option; a key without a value in an option file means `ON`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.get(name).map(|value| if value.is_empty() { "ON" } else { value })
    }

    /// A directory: a relative one is below the data directory; an empty one is the data directory.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.datadir().join(self.text(name))
    }

    /// The data directory.
    pub fn datadir(&self) -> PathBuf {
        PathBuf::from(self.text("datadir"))
    }

    /// Sets another path of the data directory, as seen from here. Paths below the server's own data directory change
    /// with it.
    pub fn set_datadir(&mut self, dir: &Path) {
        let old = self.datadir();
        if old.is_absolute() {
            for value in self.values.values_mut() {
                if let Ok(below) = Path::new(value.as_str()).strip_prefix(&old) {
                    *value = dir.join(below).display().to_string();
                }
            }
        }
        self.values.insert("datadir".into(), dir.display().to_string());
    }

    /// Sets a value that the server does not report.
    pub fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    /// All whose names begin with `prefix`, sorted.
    pub fn beginning(&self, prefix: &str) -> Vec<(&str, &str)> {
        let all = self.values.iter().filter(|(name, _)| name.starts_with(prefix));
        let mut found: Vec<_> = all.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        found.sort_unstable();
        found
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Variables { values: pairs.into_iter().collect() }
    }
}
