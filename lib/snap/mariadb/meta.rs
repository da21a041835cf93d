//! The metadata that only backups of MariaDB have. Source: `facts/mariadb-hot-backup#restore` and
//! `facts/mariadb-hot-backup#metadata`.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::metadata::{self, Facts, binlog_info, since_11_1};
use crate::server::files::base_data_files;
use crate::server::session::{Record, told};
use crate::server::{Release, Version};
use crate::server::{Session, Variables};
use crate::snap::finish::Snapshot;
use crate::snap::meta::Members;

/// Variables that say what is encrypted. A restored server without these options writes in clear what the source server
/// encrypts.
pub(in crate::snap) const ENCRYPTION: [&str; 7] = [
    "aria_encrypt_tables",
    "encrypt_tmp_disk_tables",
    "encrypt_tmp_files",
    "innodb_default_encryption_key_id",
    "innodb_encrypt_log",
    "innodb_encrypt_tables",
    "innodb_encrypt_temporary_tables",
];

/// Plugins that recovery can need, and may load: those for keys, and those that compress pages. `xb-redo --apply` loads
/// no others from a backup.
const PLUGINS: [&str; 2] = ["_key_management", "provider_"];

/// Since this version the members have other names.
const RENAMED: Version = Version(11, 1, 0);

/// All metadata members.
pub(super) fn members(
    variables: &Variables,
    options: &BTreeMap<String, String>,
    facts: &Facts,
    snapshot: &Snapshot,
) -> Members {
    let mut members = vec![
        ("backup-my.cnf", my_cnf(variables, options)),
        ("xtrabackup_checkpoints", facts.checkpoints("recover_binlog_info = 0\n")),
        ("xtrabackup_info", facts.info("mbstream")),
    ];
    members.extend(snapshot.binlog.as_ref().map(|binlog| ("xtrabackup_binlog_info", binlog_info(binlog))));
    members.extend(snapshot.replica.clone().map(|text| ("xtrabackup_slave_info", text)));
    members.extend(snapshot.galera.clone().map(|text| ("xtrabackup_galera_info", text + "\n")));
    match Release::of(&facts.server_version) {
        Ok(release) if release.version >= RENAMED => {
            members.into_iter().map(|(name, text)| (since_11_1(name), text)).collect()
        }
        _ => members,
    }
}

/// Names and libraries of the plugins that recovery needs.
pub(super) fn plugins(session: &mut Session) -> Result<Vec<(String, String)>> {
    let sql = "SELECT plugin_name AS name, plugin_library AS library FROM information_schema.plugins \
        WHERE plugin_status='ACTIVE' AND plugin_library IS NOT NULL \
        AND (plugin_type='ENCRYPTION' OR plugin_name LIKE 'provider\\_%') ORDER BY name";
    let pair =
        |row: Record| Ok((told::<String>(&row, "plugins", "name")?.to_lowercase(), told(&row, "plugins", "library")?));
    session.records(sql)?.into_iter().map(pair).collect()
}

/// `backup-my.cnf`.
fn my_cnf(variables: &Variables, options: &BTreeMap<String, String>) -> String {
    let text = |key: &'static str| (key, variables.text(key));
    let files = base_data_files(variables.text("innodb_data_file_path"));
    let plugin = |key: &str| key.starts_with("plugin") || key.contains("key_management");
    let plugins = options.iter().filter(|(key, _)| plugin(key)).map(|(key, value)| {
        // mariadb-backup --prepare knows the option by this name only.
        (if key == "plugin_load_add" { "plugin_load" } else { key.as_str() }, value.as_str())
    });
    let innodb = [
        text("innodb_checksum_algorithm"),
        text("innodb_page_size"),
        text("innodb_undo_tablespaces"),
        ("innodb_data_file_path", files.as_str()),
        text("innodb_log_file_size"),
        ("innodb_undo_directory", "./"),
        text("innodb_compression_level"),
        text("innodb_buffer_pool_filename"),
    ];
    let fixed = if has_innodb(variables) { innodb.as_slice() } else { &[("innodb", "OFF")] };
    metadata::my_cnf(fixed.iter().copied().chain(plugins))
}

/// False for a server that has no InnoDB files.
fn has_innodb(variables: &Variables) -> bool {
    !variables.text("innodb_data_file_path").is_empty()
}

/// The server's options without which recovery fails or goes wrong (`facts/mariadb-hot-backup#restore`), for the
/// manifest.
///
/// `plugins` are names and libraries of the active encryption and compression plugins. Values that may be secret (a key
/// phrase, a token) are left out.
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
    for key in ENCRYPTION {
        put(key, variables.option(key).unwrap_or_default());
    }
    let plugins: Vec<_> = plugins.iter().filter(|(name, _)| PLUGINS.iter().any(|known| name.contains(known))).collect();
    let libraries: Vec<&str> = plugins.iter().map(|(_, library)| library.as_str()).collect();
    if !libraries.is_empty() {
        put("plugin_load_add", &libraries.join(";"));
        put("plugin_dir", variables.text("plugin_dir"));
        put("plugin_maturity", variables.text("plugin_maturity"));
    }
    for (plugin, _) in &plugins {
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
