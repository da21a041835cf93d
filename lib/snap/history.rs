//! `--history`: backups that the server itself knows of, in the table that the stock programs keep. Source:
//! `backup_mysql.cc` (`write_xtrabackup_info`).

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::metadata::Facts;
use crate::server::{Family, Refusal, Session};

/// How `tool_version` begins in rows that we have written.
pub(super) const OURS: &str = "xb-tools ";

/// What only those know who have the whole pipeline before them.
pub const FIELDS: [&str; 5] = ["tool_name", "tool_command", "format", "compressed", "encrypted"];

/// A series of backups.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name; may be empty.
    pub name: String,
    /// Some of [`FIELDS`], with their values.
    pub told: BTreeMap<String, String>,
}

/// The table of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) database: &'static str,
    pub(super) name: &'static str,
    /// What it calls a stream.
    stream: &'static str,
    /// Columns that the other has not.
    more: &'static [&'static str],
}

/// Of MariaDB.
pub(super) const MARIADB: Table =
    Table { database: "mysql", name: "mariadb_backup_history", stream: "mbstream", more: &[] };
/// Of MySQL.
pub(super) const MYSQL: Table = Table {
    database: "PERCONA_SCHEMA",
    name: "xtrabackup_history",
    stream: "xbstream",
    more: &["compact", "encrypted"],
};

impl Table {
    fn of(family: Family) -> &'static Table {
        match family {
            Family::MariaDb => &MARIADB,
            Family::MySql => &MYSQL,
        }
    }
}

/// Makes the table, if it is not there: an account that may not is to be told before anything is copied.
pub(super) fn prepare(family: Family, session: &mut Session) -> Result<()> {
    let Table { database, name, stream, more } = Table::of(family);
    let more: String = more.iter().map(|column| format!(", {column} ENUM('Y','N') DEFAULT NULL")).collect();
    if family == Family::MySql {
        session.run(&format!("CREATE DATABASE IF NOT EXISTS {database}")).map_err(refused)?;
    }
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {database}.{name} (uuid VARCHAR(40) NOT NULL PRIMARY KEY, name VARCHAR(255) DEFAULT \
         NULL, tool_name VARCHAR(255) DEFAULT NULL, tool_command TEXT DEFAULT NULL, tool_version VARCHAR(255) DEFAULT \
         NULL, ibbackup_version VARCHAR(255) DEFAULT NULL, server_version VARCHAR(255) DEFAULT NULL, start_time \
         TIMESTAMP NULL DEFAULT NULL, end_time TIMESTAMP NULL DEFAULT NULL, lock_time BIGINT UNSIGNED DEFAULT NULL, \
         binlog_pos VARCHAR(128) DEFAULT NULL, innodb_from_lsn BIGINT UNSIGNED DEFAULT NULL, innodb_to_lsn BIGINT \
         UNSIGNED DEFAULT NULL, partial ENUM('Y','N') DEFAULT NULL, incremental ENUM('Y','N') DEFAULT NULL, format \
         ENUM('file','tar','{stream}') DEFAULT NULL, compressed ENUM('Y','N') DEFAULT NULL{more}) CHARACTER SET utf8 \
         ENGINE=InnoDB"
    );
    session.run(&sql).map_err(refused)
}

/// Notes a backup that is complete.
pub(super) fn note(series: &Series, family: Family, facts: &Facts, session: &mut Session) -> Result<()> {
    session.run(&row(series, Table::of(family), facts)).map_err(refused)
}

fn row(series: &Series, table: &Table, facts: &Facts) -> String {
    let more = table.more.iter().map(|column| (*column, "N".to_owned()));
    let fields: Vec<(&str, String)> = facts.fields(table.stream).into_iter().chain(more).collect();
    let columns: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let values = fields.iter().map(|(name, value)| match *name {
        // The session may have another time zone.
        "start_time" => format!("FROM_UNIXTIME({})", facts.start.timestamp().as_second()),
        "end_time" => format!("FROM_UNIXTIME({})", facts.end.timestamp().as_second()),
        "tool_version" => quoted(&format!("{OURS}{value}")),
        name => quoted(series.told.get(name).unwrap_or(value)),
    });
    let values = values.collect::<Vec<_>>().join(", ");
    format!("INSERT INTO {}.{} ({}) VALUES ({values})", table.database, table.name, columns.join(", "))
}

/// Text as an expression that has no quotes in it.
pub(super) fn quoted(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("CONVERT(X'{hex}' USING utf8mb4)")
}

fn refused(refusal: Refusal) -> Error {
    let error = Error::from(refusal);
    error.hint("--history needs CREATE and INSERT on the table of backups; without --history nothing is noted")
}
