//! Where a server's files are, as its options say.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Options that say where files are, or how they are read.
const PLACES: [&str; 7] = [
    "aria_log_dir_path",
    "innodb_data_file_path",
    "innodb_data_home_dir",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "plugin_dir",
    "file_key_management",
];
/// Options that name what stays.
const KEPT: [&str; 6] = ["log_error", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "tmpdir"];

/// True if this option, with `_` in its name, is needed here.
pub(super) fn counts(key: &str) -> bool {
    PLACES.contains(&key) || KEPT.contains(&key) || key.starts_with("file_key_management_")
}

/// Directories that the server's options name.
pub(super) struct Places {
    pub(super) datadir: PathBuf,
    /// Options and their values, with `_` in their names.
    pub(super) options: Vec<(String, String)>,
    /// The binary log's base name.
    pub(super) binlog: Option<PathBuf>,
    pub(super) binlog_index: Option<PathBuf>,
    /// Files of a transfer's own certificates and keys.
    pub(super) own: Vec<PathBuf>,
}

type Ours = Box<dyn Fn(&[u8]) -> bool>;

impl Places {
    fn option(&self, name: &str) -> Option<PathBuf> {
        let found = self.options.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| self.datadir.join(value))
    }

    /// True if this is, or has in it, what no backup brings back: keys, certificates, the error log, a directory for
    /// temporary files.
    pub(super) fn needs(&self, path: &Path) -> bool {
        let named = |(key, value): &(String, String)| {
            let value = value.strip_prefix("FILE:").unwrap_or(value);
            (KEPT.contains(&key.as_str()) || key.starts_with("file_key_management_file"))
                && self.datadir.join(value).starts_with(path)
        };
        self.options.iter().any(named) || self.own.iter().any(|file| self.datadir.join(file).starts_with(path))
    }

    /// Directories, and which of their files belong to this server.
    pub(super) fn outside(&self) -> Vec<(PathBuf, Ours)> {
        let mut found: Vec<(PathBuf, Ours)> = Vec::new();
        if let Some(dir) = self.option("innodb_undo_directory") {
            found.push((dir, Box::new(|name| numbered(name, b"undo"))));
        }
        if let Some(dir) = self.option("innodb_log_group_home_dir") {
            found.push((dir, Box::new(|name| numbered(name, b"ib_logfile"))));
        }
        if let Some(dir) = self.option("aria_log_dir_path") {
            found.push((dir, Box::new(|name| name == b"aria_log_control" || numbered(name, b"aria_log."))));
        }
        if let Some(dir) = self.option("innodb_data_home_dir") {
            let listed = self.options.iter().find(|(key, _)| key == "innodb_data_file_path");
            let listed = listed.map_or("ibdata1", |(_, value)| value.as_str());
            let files: Vec<String> =
                listed.split(';').filter_map(|file| file.split(':').next()).map(str::to_owned).collect();
            found.push((dir, Box::new(move |name| files.iter().any(|file| file.as_bytes() == name))));
        }
        if let Some(base) = self.binlog.as_ref().map(|base| self.datadir.join(base))
            && let (Some(dir), Some(base)) =
                (base.parent().map(Path::to_owned), base.file_stem().map(OsStrExt::as_bytes))
        {
            let base = base.to_vec();
            found.push((dir, Box::new(move |name| is_binlog(name, &base))));
        }
        if let Some(index) = self.binlog_index.as_ref().map(|index| self.datadir.join(index))
            && let (Some(dir), Some(name)) =
                (index.parent().map(Path::to_owned), index.file_name().map(OsStrExt::as_bytes))
        {
            let own = name.to_vec();
            found.push((dir, Box::new(move |name| name == own)));
        }
        found
    }
}

fn is_binlog(name: &[u8], base: &[u8]) -> bool {
    let rest = name.strip_prefix(base).and_then(|rest| rest.strip_prefix(b"."));
    rest.is_some_and(|rest| {
        matches!(rest, b"index" | b"state") || (rest.len() >= 6 && rest.iter().all(u8::is_ascii_digit))
    })
}

fn numbered(name: &[u8], prefix: &[u8]) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}
