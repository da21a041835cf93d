//! `config.toml`: how backups of a store are made, kept and watched.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::retention::Rules;
use super::stages::Program;
use crate::error::{Error, Result};
use crate::io;

/// Its name in a store.
pub const NAME: &str = "config.toml";

/// What `init` writes.
pub const TEMPLATE: &str = include_str!("config.toml");

/// The settings of a store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How a backup is made.
    pub backup: Making,
    /// What `prune` keeps.
    pub retention: Rules,
    /// When `status` warns.
    pub status: Limits,
    /// How `restore` and `drill` recover.
    pub restore: Restoring,
    /// How binary logs are archived.
    pub binlog: Binlogs,
    /// What runs after a backup.
    pub hooks: Hooks,
}

/// `[backup]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Making {
    /// The option file with the connection, for xb-snap.
    pub defaults_file: Option<PathBuf>,
    /// More options of xb-snap.
    pub snap_options: Vec<String>,
    /// The compression.
    pub compress: Compress,
    /// Its level, 1 to 19.
    pub level: Option<u8>,
    /// The key of xb-crypt; without it nothing is encrypted.
    pub key_file: Option<PathBuf>,
    /// The largest rate in bytes per second.
    pub rate: Option<String>,
    /// The programs, instead of those that all of this says.
    pub stages: Vec<Program>,
}

impl Default for Making {
    fn default() -> Self {
        Making {
            defaults_file: None,
            snap_options: Vec::new(),
            compress: Compress::Zstd,
            level: None,
            key_file: None,
            rate: None,
            stages: Vec::new(),
        }
    }
}

/// How streams are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// By xb-zip.
    Zstd,
    /// By xb-zip -a lz4.
    Lz4,
    /// Not at all.
    None,
}

/// `[status]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Age of the newest backup.
    pub any_age: Option<Levels>,
    /// Age of the newest full backup.
    pub full_age: Option<Levels>,
    /// Age of the newest proof by `verify`.
    pub verified_age: Option<Levels>,
    /// Age of the newest proof by `drill`.
    pub drilled_age: Option<Levels>,
    /// Free space in per cent, below which it warns.
    pub free: Option<Percents>,
}

impl Default for Limits {
    fn default() -> Self {
        let hours = |warning: u64, critical: u64| Some(Levels { warning: warning * 3600, critical: critical * 3600 });
        Limits {
            any_age: hours(26, 50),
            full_age: hours(8 * 24, 15 * 24),
            verified_age: None,
            drilled_age: None,
            free: Some(Percents { warning: 10, critical: 5 }),
        }
    }
}

/// `[restore]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restoring {
    /// The server program; otherwise the newest of the right version.
    pub server: Option<PathBuf>,
    /// Its buffer pool.
    pub use_memory: Option<String>,
    /// Options that the backup lacks, as the path of keys: `NAME=VALUE`.
    pub server_options: Vec<String>,
    /// Where `drill` works; otherwise `TMPDIR` or `/var/tmp`.
    pub scratch: Option<PathBuf>,
}

/// `[binlog]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Binlogs {
    /// The program that follows the server; otherwise `mariadb-binlog` or `mysqlbinlog`.
    pub program: Option<PathBuf>,
    /// Its server id, which no replica of the server may have.
    pub server_id: Option<u32>,
}

/// `[hooks]`: argument vectors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Runs after a backup.
    pub on_success: Vec<String>,
    /// Runs after a failed run.
    pub on_failure: Vec<String>,
}

/// Ages in seconds at which to warn and to alarm: `26h:50h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Levels {
    /// Exit status 1 from here on.
    pub warning: u64,
    /// Exit status 2 from here on.
    pub critical: u64,
}

/// Per cent of free space: `10:5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Percents {
    /// Exit status 1 below this.
    pub warning: u8,
    /// Exit status 2 below this.
    pub critical: u8,
}

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not WARNING:CRITICAL; want two ages such as 26h:50h, in m, h or d");
        let (warning, critical) = text.split_once(':').ok_or_else(fault)?;
        let (warning, critical) = (age(warning).ok_or_else(fault)?, age(critical).ok_or_else(fault)?);
        if warning > critical {
            return Err(format!("{text:?}: the warning must not be later than the alarm"));
        }
        Ok(Levels { warning, critical })
    }
}

impl TryFrom<String> for Levels {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Percents {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fault = || format!("{text:?} is not WARNING:CRITICAL; want two percentages such as 10:5");
        let (warning, critical) = text.split_once(':').ok_or_else(fault)?;
        let number = |text: &str| text.trim_end_matches('%').parse().ok().filter(|number: &u8| *number <= 100);
        let (warning, critical) = (number(warning).ok_or_else(fault)?, number(critical).ok_or_else(fault)?);
        if warning < critical {
            return Err(format!("{text:?}: the warning must not be later than the alarm"));
        }
        Ok(Percents { warning, critical })
    }
}

/// A number of minutes, hours or days, in seconds.
fn age(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    text.get(..text.len() - 1)?.parse::<u64>().ok()?.checked_mul(unit)
}

/// Reads settings; a key that is unknown is an error, so that a slip of the pen does not become a default.
///
/// # Errors
///
/// Usage, if they cannot be understood; Failed, if the file is missing or cannot be read.
pub fn read(path: &Path) -> Result<Settings> {
    let text = io::small(path)?.ok_or_else(|| {
        Error::failed(path.display(), "does not exist")
            .hint("is this a store? xb-keep init makes one, with its settings")
    })?;
    let text = String::from_utf8(text).map_err(|_| Error::usage(path.display(), "is not UTF-8"))?;
    parse(&path.display().to_string(), &text)
}

/// Parses settings; `place` is their name in messages.
///
/// # Errors
///
/// Usage, if they cannot be understood.
pub fn parse(place: &str, text: &str) -> Result<Settings> {
    let settings: Settings = toml::from_str(text).map_err(|cause| {
        let line = cause.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.split('\n').count());
        Error::usage(format_args!("{place}: line {line}"), cause.message().trim().replace('\n', ", "))
    })?;
    let wrong = |what: String| Err(Error::usage(place, what));
    settings.retention.check().map_err(|error| Error::usage(place, error))?;
    if let Some(level) = settings.backup.level.filter(|level| !(1..=19).contains(level)) {
        return wrong(format!("level = {level}: 1 to 19 are possible"));
    }
    if settings.restore.server_options.iter().any(|option| !option.contains('=')) {
        return wrong("server_options: want NAME=VALUE".to_owned());
    }
    if settings.backup.stages.iter().any(|stage| stage.run().is_empty()) {
        return wrong("stages: one has no program".to_owned());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_the_default() {
        let settings = parse("config.toml", TEMPLATE).unwrap();
        assert_eq!(settings.status.any_age, Limits::default().any_age);
        assert!(settings.backup.stages.is_empty() && settings.backup.compress == Compress::Zstd);
        // Every line that is commented out is valid, too.
        let all = TEMPLATE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        let settings = parse("config.toml", &all).unwrap();
        assert!(settings.backup.key_file.is_some() && !settings.hooks.on_failure.is_empty(), "{settings:?}");
        assert!(settings.restore.server.is_some() && settings.status.drilled_age.is_some());
    }

    #[test]
    fn a_slip_of_the_pen_is_an_error_with_its_line() {
        let error = |text: &str| parse("c", text).unwrap_err().to_string();
        assert!(
            error("[backup]\n\ncompres = \"zstd\"\n").starts_with("c: line 3: unknown field"),
            "{}",
            error("[backup]\n\ncompres = \"zstd\"\n")
        );
        assert!(error("[status]\nany_age = \"50h:26h\"\n").contains("later than the alarm"));
        assert!(error("[retention]\nkeep_last = 0\n").contains("every rule is 0"));
        assert!(error("[retention]\nkeep_last = -1\n").contains("line 2"));
        assert!(error("[backup]\nstages = [[]]\n").contains("no program"));
    }

    #[test]
    fn ages_have_units() {
        assert_eq!("90m:2d".parse(), Ok(Levels { warning: 5400, critical: 172_800 }));
        for text in ["1:2", "1h", "h:h", "1h:2x", "1h:", "é:é"] {
            assert!(text.parse::<Levels>().is_err(), "{text}");
        }
    }
}
