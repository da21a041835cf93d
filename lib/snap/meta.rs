//! The members that describe a backup to people, scripts and the stock tools. Source: spec section 14.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Zoned;

use crate::server::Variables;
use crate::server::files::base_data_files;
use crate::stream::profile::Binlog;

/// What is known when everything is copied.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) uuid: String,
    pub(super) command: String,
    pub(super) server_version: String,
    pub(super) start: Zoned,
    pub(super) end: Zoned,
    /// c0 of the base, for an increment.
    pub(super) since: Option<u64>,
    /// c0: the next increment starts from here.
    pub(super) checkpoint: u64,
    /// E.
    pub(super) end_lsn: u64,
    pub(super) binlog: Option<Binlog>,
    /// Seconds.
    pub(super) lock_time: u64,
    pub(super) partial: bool,
}

impl Facts {
    /// `xtrabackup_checkpoints`. `to_lsn` is c0 and not the end checkpoint, which the stock tool writes: the next
    /// increment must start there.
    pub(super) fn checkpoints(&self) -> String {
        let kind = if self.since.is_some() { "incremental" } else { "full-backuped" };
        format!(
            "backup_type = {kind}\nfrom_lsn = {}\nto_lsn = {}\nlast_lsn = {}\nrecover_binlog_info = 0\n",
            self.since.unwrap_or(0),
            self.checkpoint,
            self.end_lsn
        )
    }

    /// `xtrabackup_info`.
    pub(super) fn info(&self) -> String {
        let time = |time: &Zoned| time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let position = self.binlog.as_ref().map(position).unwrap_or_default();
        let lines = [
            ("uuid", self.uuid.clone()),
            ("name", String::new()),
            ("tool_name", "xb-snap".into()),
            ("tool_command", self.command.clone()),
            ("tool_version", env!("CARGO_PKG_VERSION").into()),
            ("ibbackup_version", env!("CARGO_PKG_VERSION").into()),
            ("server_version", self.server_version.clone()),
            ("start_time", time(&self.start)),
            ("end_time", time(&self.end)),
            ("lock_time", self.lock_time.to_string()),
            ("binlog_pos", position),
            ("innodb_from_lsn", self.since.unwrap_or(0).to_string()),
            ("innodb_to_lsn", self.checkpoint.to_string()),
            ("partial", if self.partial { "Y" } else { "N" }.into()),
            ("incremental", if self.since.is_some() { "Y" } else { "N" }.into()),
            ("format", "mbstream".into()),
            ("compressed", "N".into()),
        ];
        lines.iter().fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key} = {value}");
            text
        })
    }
}

/// The position as mariadb-backup words it.
fn position(binlog: &Binlog) -> String {
    let Binlog { file, position, gtid } = binlog;
    format!("filename '{file}', position '{position}', GTID of the last change '{gtid}'")
}

/// `xtrabackup_binlog_info`.
pub(super) fn binlog_info(binlog: &Binlog) -> String {
    format!("{}\t{}\t{}\n", binlog.file, binlog.position, binlog.gtid)
}

/// `backup-my.cnf`.
pub(super) fn my_cnf(variables: &Variables, options: &BTreeMap<String, String>) -> String {
    let mut text = String::from("# Written by xb-snap: what a server needs to read this backup.\n\n[mysqld]\n");
    let mut put = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    for key in ["innodb_checksum_algorithm", "innodb_page_size", "innodb_undo_tablespaces"] {
        put(key, variables.text(key));
    }
    put("innodb_data_file_path", &base_data_files(variables.text("innodb_data_file_path")));
    put("innodb_log_file_size", variables.text("innodb_log_file_size"));
    put("innodb_undo_directory", "./");
    put("innodb_compression_level", variables.text("innodb_compression_level"));
    put("innodb_buffer_pool_filename", variables.text("innodb_buffer_pool_filename"));
    let plugin = |key: &str| key.starts_with("plugin") || key.contains("key_management");
    for (key, value) in options.iter().filter(|(key, _)| plugin(key)) {
        // The stock prepare knows the option by this name only.
        put(if key == "plugin_load_add" { "plugin_load" } else { key }, value);
    }
    text
}

/// The server's options without which recovery fails or goes wrong (spec section 12): for the manifest.
///
/// `plugins` are names and libraries of the active encryption and compression plugins. What may be a secret (a key
/// phrase, a token) is left out.
pub(super) fn server_options(variables: &Variables, plugins: &[(String, String)]) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            options.insert(key.to_owned(), value.to_owned());
        }
    };
    for key in [
        "innodb_page_size",
        "innodb_undo_tablespaces",
        "innodb_checksum_algorithm",
        "innodb_log_file_size",
        "lower_case_table_names",
    ] {
        put(key, variables.text(key));
    }
    put("innodb_data_file_path", &base_data_files(variables.text("innodb_data_file_path")));
    let libraries: Vec<&str> = plugins.iter().map(|(_, library)| library.as_str()).collect();
    if !libraries.is_empty() {
        put("plugin_load_add", &libraries.join(";"));
        put("plugin_dir", variables.text("plugin_dir"));
    }
    for (plugin, _) in plugins {
        for (key, value) in variables.beginning(&format!("{plugin}_")) {
            let secret = ["token", "secret", "password"].iter().any(|word| key.contains(word));
            let phrase = key.ends_with("filekey") && !value.starts_with("FILE:");
            if !secret && !phrase {
                put(key, value);
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_carry_plugins_and_no_secrets() {
        let pairs = [
            ("innodb_page_size", "16384"),
            ("innodb_data_file_path", "/d1/ibdata1:12M;ibdata2:1M:autoextend"),
            ("file_key_management_filename", "/etc/keys"),
            ("file_key_management_filekey", "open sesame"),
            ("plugin_dir", "/usr/lib/mysql/plugin/"),
        ];
        let variables: Variables = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let options = server_options(&variables, &[("file_key_management".into(), "file_key_management.so".into())]);
        assert_eq!(options.get("innodb_data_file_path").unwrap(), "ibdata1:12M;ibdata2:1M:autoextend");
        assert_eq!(options.get("file_key_management_filename").unwrap(), "/etc/keys");
        assert_eq!(options.get("plugin_load_add").unwrap(), "file_key_management.so");
        assert!(!options.values().any(|value| value.contains("sesame")));
        assert!(my_cnf(&variables, &options).contains("\nplugin_load=file_key_management.so\n"));
    }
}
