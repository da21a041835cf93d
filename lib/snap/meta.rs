//! The members that describe a backup to people, scripts and the stock tools. Source:
//! `facts/mariadb-hot-backup#metadata`.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Zoned;

use crate::error::Result;
use crate::server::{Session, Variables};
use crate::stream::profile::Binlog;

/// Names and contents.
pub(super) type Members = Vec<(&'static str, String)>;

/// Asks for variables again: one that was switched on meanwhile counts as on.
pub(super) fn switched_on(options: &mut BTreeMap<String, String>, names: &[&str], session: &mut Session) -> Result<()> {
    let now = Variables::of(session)?;
    for name in names {
        if let (Some(value), Some(then)) = (now.get(name), options.get_mut(*name))
            && matches!(then.as_str(), "OFF" | "0")
        {
            value.clone_into(then);
        }
    }
    Ok(())
}

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
    /// `xtrabackup_checkpoints`, with what a family has beside. `to_lsn` is c0 and not the end checkpoint, which the
    /// stock tools write: the next increment must start there.
    pub(super) fn checkpoints(&self, more: &str) -> String {
        let kind = if self.since.is_some() { "incremental" } else { "full-backuped" };
        format!(
            "backup_type = {kind}\nfrom_lsn = {}\nto_lsn = {}\nlast_lsn = {}\n{more}",
            self.since.unwrap_or(0),
            self.checkpoint,
            self.end_lsn
        )
    }

    /// `xtrabackup_info`; `format` as the stock tool of the family calls a stream.
    pub(super) fn info(&self, format: &str) -> String {
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
            ("format", format.into()),
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
