//! The files that describe a backup to people, scripts and the stock tools: `xtrabackup_checkpoints`, `xtrabackup_info`,
//! `xtrabackup_binlog_info`, `backup-my.cnf`. Both generations of their names. Source:
//! `facts/mariadb-hot-backup#metadata`.

use std::collections::BTreeMap;
use std::fmt::Write;

use bstr::ByteSlice;
use jiff::Zoned;

use crate::innodb::ids::Lsn;
use crate::stream::native::Binlog;
use crate::stream::native::names::BINLOG_POSITION;

/// The member with a backup's LSNs in mariadb-backup and xtrabackup. mariadb-backup 11.1 renamed it (MDEV-18931).
pub(crate) const CHECKPOINTS: [&str; 2] = ["mariadb_backup_checkpoints", "xtrabackup_checkpoints"];
/// The member that describes the server and the run.
pub(crate) const INFO: [&str; 2] = ["mariadb_backup_info", "xtrabackup_info"];

/// The binary log position of the backup.
pub(crate) const BINLOG_INFO: &str = "xtrabackup_binlog_info";

/// Files at the root of a backup that describe it or contain its log, written by us or by the stock programs, with both
/// generations of names. An earlier restore may have left them in a server's data directory.
pub(crate) const OF_BACKUP: [&str; 20] = [
    "backup-my.cnf",
    "xtrabackup_binary",
    "xtrabackup_binlog_info",
    BINLOG_POSITION,
    "xtrabackup_checkpoints",
    "xtrabackup_galera_info",
    "xtrabackup_info",
    "xtrabackup_logfile",
    "xtrabackup_slave_info",
    "xtrabackup_tablespaces",
    "mariadb_backup_binlog_info",
    "mariadb_backup_binlog_pos_innodb",
    "mariadb_backup_checkpoints",
    "mariadb_backup_galera_info",
    "mariadb_backup_info",
    "mariadb_backup_slave_info",
    "donor_galera_info",
    "ib_logfile0",
    "ib_buffer_pool",
    "aria_log_control",
];

/// The name that mariadb-backup since 11.1 uses for a file. `xtrabackup_binlog_pos_innodb`, which `--prepare` writes,
/// kept its name. Source: `backup_copy.h`, `backup_mysql.cc`.
pub(crate) fn since_11_1(name: &'static str) -> &'static str {
    match name {
        "xtrabackup_binlog_info" => "mariadb_backup_binlog_info",
        "xtrabackup_checkpoints" => "mariadb_backup_checkpoints",
        "xtrabackup_galera_info" => "mariadb_backup_galera_info",
        "xtrabackup_info" => "mariadb_backup_info",
        "xtrabackup_slave_info" => "mariadb_backup_slave_info",
        other => other,
    }
}

/// True for a file that says whether a backup is full or incremental.
pub(crate) fn has_kind(name: &[u8]) -> bool {
    CHECKPOINTS.iter().chain(&INFO).any(|file| file.as_bytes() == name)
}

/// The text of such a file, changed to that of a full backup.
pub(crate) fn as_full(text: &[u8]) -> Vec<u8> {
    let lines = text.lines_with_terminator().map(|line| {
        let key = line.split_once_str("=").map(|(key, _)| key.trim().to_vec()).unwrap_or_default();
        match key.as_slice() {
            b"backup_type" => b"backup_type = full-backuped\n".to_vec(),
            b"from_lsn" => b"from_lsn = 0\n".to_vec(),
            b"innodb_from_lsn" => b"innodb_from_lsn = 0\n".to_vec(),
            b"incremental" => b"incremental = N\n".to_vec(),
            _ => line.to_vec(),
        }
    });
    lines.collect::<Vec<_>>().concat()
}

/// The `key = value` lines of metadata and option files. Keys get underscores; values lose their quotes.
pub(crate) fn pairs(text: &[u8]) -> BTreeMap<String, String> {
    let text = text.to_str_lossy();
    let lines = text.lines().filter(|line| !line.starts_with(['#', ';', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().replace('-', "_"), value.trim().trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// `backup-my.cnf`, with these options.
pub(crate) fn my_cnf<'o>(options: impl IntoIterator<Item = (&'o str, &'o str)>) -> String {
    let head = String::from("# Written by xb-snap: what a server needs to read this backup.\n\n[mysqld]\n");
    options.into_iter().fold(head, |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

/// What is known once everything is copied.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) uuid: String,
    /// The name under which the server's table of backups has it; may be empty.
    pub(crate) series: String,
    pub(crate) command: String,
    pub(crate) server_version: String,
    pub(crate) start: Zoned,
    pub(crate) end: Zoned,
    /// The checkpoint LSN of the base, for an increment.
    pub(crate) since: Option<Lsn>,
    /// The checkpoint LSN: the next increment starts from here.
    pub(crate) checkpoint: Lsn,
    /// The end LSN.
    pub(crate) end_lsn: Lsn,
    pub(crate) binlog: Option<Binlog>,
    /// Seconds.
    pub(crate) lock_time: u64,
    pub(crate) partial: bool,
}

impl Facts {
    /// `xtrabackup_checkpoints`, with the lines that only this family has. `to_lsn` is the checkpoint LSN and not, as
    /// in the stock tools, the checkpoint at the end: the next increment must start at the former.
    pub(crate) fn checkpoints(&self, more: &str) -> String {
        let kind = if self.since.is_some() { "incremental" } else { "full-backuped" };
        format!(
            "backup_type = {kind}\nfrom_lsn = {}\nto_lsn = {}\nlast_lsn = {}\n{more}",
            self.since.unwrap_or_default(),
            self.checkpoint,
            self.end_lsn
        )
    }

    /// `xtrabackup_info`; `format` is the name that the family's stock tool gives to a stream.
    pub(crate) fn info(&self, format: &str) -> String {
        self.fields(format).iter().fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key} = {value}");
            text
        })
    }

    /// What that has, and what the server's table of backups has.
    pub(crate) fn fields(&self, format: &str) -> Vec<(&'static str, String)> {
        let time = |time: &Zoned| time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let yes = |yes: bool| if yes { "Y" } else { "N" }.to_owned();
        vec![
            ("uuid", self.uuid.clone()),
            ("name", self.series.clone()),
            ("tool_name", "xb-snap".into()),
            ("tool_command", self.command.clone()),
            ("tool_version", env!("CARGO_PKG_VERSION").into()),
            ("ibbackup_version", env!("CARGO_PKG_VERSION").into()),
            ("server_version", self.server_version.clone()),
            ("start_time", time(&self.start)),
            ("end_time", time(&self.end)),
            ("lock_time", self.lock_time.to_string()),
            ("binlog_pos", self.binlog.as_ref().map(position).unwrap_or_default()),
            ("innodb_from_lsn", self.since.unwrap_or_default().to_string()),
            ("innodb_to_lsn", self.checkpoint.to_string()),
            ("partial", yes(self.partial)),
            ("incremental", yes(self.since.is_some())),
            ("format", format.into()),
            ("compressed", "N".into()),
        ]
    }
}

/// The position in the words of mariadb-backup.
fn position(binlog: &Binlog) -> String {
    let Binlog { file, position, gtid } = binlog;
    format!("filename '{file}', position '{position}', GTID of the last change '{gtid}'")
}

/// `xtrabackup_binlog_info`.
pub(crate) fn binlog_info(binlog: &Binlog) -> String {
    format!("{}\t{}\t{}\n", binlog.file, binlog.position, binlog.gtid)
}
