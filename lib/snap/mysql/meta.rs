//! The metadata that only backups of MySQL have, with the names and keys of Percona XtraBackup. Source:
//! `facts/mysql-hot-backup#stock-metadata`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde_json::json;

use crate::metadata::{self, Facts, binlog_info};
use crate::server::Variables;
use crate::server::files::{Tablespace, base_data_files};
use crate::snap::finish::Snapshot;
use crate::snap::meta::Members;

/// Variables that say what is encrypted, including logs that contain parts of rows. A restored server without these
/// options writes in clear what the source server encrypts.
pub(in crate::snap) const ENCRYPTION: [&str; 4] =
    ["binlog_encryption", "default_table_encryption", "innodb_redo_log_encrypt", "innodb_undo_log_encrypt"];

/// Options that recovery needs. A server with another `innodb_data_file_path` would add a file without an error.
pub(super) fn options(variables: &Variables) -> BTreeMap<String, String> {
    let names = ["innodb_page_size", "innodb_checksum_algorithm", "lower_case_table_names"];
    let mut options: BTreeMap<String, String> =
        names.iter().map(|name| ((*name).to_owned(), variables.text(name).to_owned())).collect();
    options.insert("innodb_data_file_path".into(), base_data_files(variables.text("innodb_data_file_path")));
    if let Some(base) = Path::new(variables.text("log_bin_basename")).file_name().and_then(OsStr::to_str) {
        options.insert("log_bin".into(), base.into());
    }
    options.extend(ENCRYPTION.iter().filter_map(|key| Some(((*key).to_owned(), variables.option(key)?.to_owned()))));
    options.retain(|_, value| !value.is_empty());
    options
}

/// All metadata members.
pub(super) fn members(variables: &Variables, external: &[Tablespace], facts: &Facts, snapshot: &Snapshot) -> Members {
    let more = format!("flushed_lsn = {}\nredo_memory = 0\nredo_frames = 0\n", snapshot.end_lsn);
    let info = facts.info("xbstream") + "encrypted = N\n";
    let mut members = vec![
        ("backup-my.cnf", my_cnf(variables)),
        ("xtrabackup_checkpoints", facts.checkpoints(&more)),
        ("xtrabackup_info", info),
        ("xtrabackup_tablespaces", tablespaces(external)),
    ];
    let binlog = snapshot.binlog.as_ref().map(binlog_info);
    // Without GTIDs there is no third field.
    members.extend(binlog.map(|line| ("xtrabackup_binlog_info", line.replace("\t\n", "\n"))));
    members.extend(snapshot.replica.clone().map(|text| ("xtrabackup_slave_info", text)));
    members.extend(snapshot.galera.clone().map(|text| ("xtrabackup_galera_info", text + "\n")));
    members
}

/// `backup-my.cnf`.
fn my_cnf(variables: &Variables) -> String {
    let files = base_data_files(variables.text("innodb_data_file_path"));
    let keys = [
        "innodb_checksum_algorithm",
        "innodb_log_checksums",
        "innodb_log_file_size",
        "innodb_page_size",
        "innodb_undo_tablespaces",
        "server_id",
        "innodb_redo_log_encrypt",
        "innodb_undo_log_encrypt",
        "server_uuid",
        "lower_case_table_names",
    ];
    let fixed = [("innodb_data_file_path", files.as_str()), ("innodb_undo_directory", "./")];
    let told = keys.iter().filter_map(|key| Some((*key, variables.get(key)?)));
    metadata::my_cnf(fixed.into_iter().chain(told).chain([("master_key_id", "0")]))
}

/// `xtrabackup_tablespaces`: the paths of external tablespaces.
fn tablespaces(external: &[Tablespace]) -> String {
    let entry = |space: &Tablespace| {
        let file = space.external.as_ref().map(|path| path.display().to_string());
        let name = String::from_utf8_lossy(&space.name);
        let is_undo = !name.ends_with(".ibd");
        let name = name.strip_suffix(".ibd").unwrap_or(&name);
        let kind = if is_undo { "UNDO_LOG" } else { "TABLESPACE" };
        json!({ "file_name": file, "tablespace_name": name, "tablespace_type": kind })
    };
    let list: Vec<_> = external.iter().map(entry).collect();
    json!({ "version": 1, "external_tablespaces": list }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_base_names() {
        let pairs = [
            ("innodb_data_file_path", "/d1/ibdata1:12M;ibdata2:1M:autoextend"),
            ("log_bin_basename", "/var/log/mysql/bin"),
            ("innodb_page_size", "16384"),
        ];
        let variables: Variables = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let options = options(&variables);
        let text: Vec<String> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expect =
            ["innodb_data_file_path=ibdata1:12M;ibdata2:1M:autoextend", "innodb_page_size=16384", "log_bin=bin"];
        assert_eq!(text, expect);
    }

    #[test]
    fn tablespaces_elsewhere_are_listed_as_xtrabackup_does() {
        let any = std::fs::metadata("/").unwrap();
        let space = |name: &str, path: &str| Tablespace::new(name.into(), Some(path.into()), &any);
        let text = tablespaces(&[space("far.ibd", "/far/far.ibd"), space("u.ibu", "/far/u.ibu")]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["external_tablespaces"][0]["file_name"], "/far/far.ibd");
        assert_eq!(value["external_tablespaces"][1]["tablespace_type"], "UNDO_LOG");
        assert_eq!(value["version"], 1);
    }
}
