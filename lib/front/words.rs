//! What callers of the stock programs read: their lines, word for word. Sources: `backup_mysql.cc`, `xtrabackup.cc`,
//! `common.cc` of both families.

use std::fmt::Write;
use std::path::Path;

use jiff::Zoned;
use serde_json::Value;

use super::Program;
use crate::server::{Family, program};

/// What is said when `--slave-info` finds nothing.
const NO_REPLICA: &str = "Failed to get master binlog coordinates from SHOW SLAVE STATUS.This means that the server is not a \
    replication slave. Ignoring the --slave-info option";

/// Whose lines they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Mariadb,
    Xtrabackup,
    Innobackupex,
    /// Text alone.
    Plain,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Note,
    Warning,
    Error,
}

/// A line with what stands before it.
pub(super) fn line(style: Style, time: &Zoned, tone: Tone, text: &str) -> String {
    let local = |format: &str| time.strftime(format).to_string();
    match style {
        Style::Mariadb => {
            let time = local("%Y-%m-%d %H:%M:%S");
            match tone {
                Tone::Note => format!("[00] {time} {text}"),
                Tone::Warning => format!("[00] {time} Warning: {text}"),
                Tone::Error => format!("[00] FATAL ERROR: {time} {text}"),
            }
        }
        Style::Xtrabackup => {
            let utc = time.timestamp().strftime("%Y-%m-%dT%H:%M:%S.%6f-00:00").to_string();
            let level = match tone {
                Tone::Note => "Note",
                Tone::Warning => "Warning",
                Tone::Error => "ERROR",
            };
            format!("{utc} 0 [{level}] [MY-011825] [Xtrabackup] {text}")
        }
        Style::Innobackupex => {
            let time = local("%y%m%d %H:%M:%S");
            match tone {
                Tone::Note => format!("{time} {text}"),
                Tone::Warning => format!("{time} Warning: {text}"),
                Tone::Error => format!("{time} Error: {text}"),
            }
        }
        Style::Plain => text.to_owned(),
    }
}

/// What is said of a backup that is complete: its directory, positions and LSNs, from the facts of xb-snap.
pub(super) fn of_backup(style: Style, dir: &Path, replica: bool, facts: &Value) -> Vec<String> {
    let mut lines = vec![format!("Backup created in directory '{}/'", dir.display().to_string().trim_end_matches('/'))];
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    if let Some(binlog) = facts.get("binlog").filter(|binlog| binlog.is_object()) {
        let field = |key: &str| binlog.get(key).map(text).unwrap_or_default();
        let mut line = format!("MySQL binlog position: filename '{}', position '{}'", field("file"), field("position"));
        let gtid = field("gtid");
        if !gtid.is_empty() {
            // Writing to memory cannot fail.
            let _ = write!(line, ", GTID of the last change '{gtid}'");
        }
        lines.push(line);
    }
    match facts.get("replica").and_then(Value::as_str) {
        Some(statements) => lines.push(format!("MySQL slave binlog position: {}", of_replica(statements))),
        None if replica => lines.push(NO_REPLICA.to_owned()),
        None => {}
    }
    let lsn = |key: &str| facts.get(key).and_then(Value::as_u64);
    if let Some(start) = lsn("start_lsn").filter(|start| *start > 0) {
        lines.push(format!("The latest check point (for incremental): '{start}'"));
        if let Some(end) = lsn("end_lsn") {
            lines.push(match style {
                Style::Mariadb => format!("Redo log (from LSN {start} to {end}) was copied."),
                _ => format!("Transaction log of lsn ({start}) to ({end}) was copied."),
            });
        }
    }
    lines
}

/// The statements of `xtrabackup_slave_info` as mariadb-backup says them. Of MySQL, xtrabackup says the source's host, too.
fn of_replica(statements: &str) -> String {
    let said = statements.lines().filter_map(|line| {
        let line = line.trim().trim_end_matches(';');
        if let Some(gtid) = line.strip_prefix("SET GLOBAL gtid_slave_pos = ") {
            return Some(format!("gtid_slave_pos {gtid}"));
        }
        let Some(rest) = line.strip_prefix("CHANGE MASTER ") else {
            return (!line.is_empty()).then(|| line.to_owned());
        };
        let (name, rest) = rest.strip_prefix("TO ").map(|rest| ("''", rest)).or_else(|| rest.split_once(" TO "))?;
        Some(match rest.strip_prefix("MASTER_LOG_FILE=").and_then(|rest| rest.split_once(", MASTER_LOG_POS=")) {
            Some((file, position)) => format!("master {name} filename {file} position '{position}'"),
            None => format!("master {name} {rest}"),
        })
    });
    said.collect::<Vec<_>>().join("; ")
}

/// Which version a program says it is: that of the newest server here which it can restore for.
pub(super) fn version(name: &str, program: Program) -> String {
    let own = format_args!("(xb-tools {})", env!("CARGO_PKG_VERSION")).to_string();
    let machine = std::env::consts::ARCH;
    match program {
        Program::MariadbBackup => {
            let version = release(Family::MariaDb).unwrap_or_else(|| "11.8.0".into());
            format!("{name} based on MariaDB server {version}-MariaDB Linux ({machine}) {own}")
        }
        Program::Xtrabackup | Program::Innobackupex => {
            let version = release(Family::MySql).unwrap_or_else(|| "9.7.0".into());
            format!("{name} version {version} based on MySQL server {version} Linux ({machine}) {own}")
        }
        Program::Mbstream | Program::Xbstream | Program::Xbcrypt => {
            format!("{name}  Ver {} for Linux ({machine}) {own}", env!("CARGO_PKG_VERSION"))
        }
    }
}

fn release(family: Family) -> Option<String> {
    Some(program::newest(family)?.release.version.to_string())
}

/// What `--print-defaults` prints.
pub(super) fn defaults<'s>(name: &str, settings: impl Iterator<Item = (&'s str, &'s str)>) -> String {
    let words = settings.map(|(key, value)| match (key, value) {
        ("password", _) => "--password=*****".to_owned(),
        (key, "") => format!("--{key}"),
        (key, value) => format!("--{key}={value}"),
    });
    let words: Vec<String> = words.collect();
    format!("{name} would have been started with the following arguments:\n{} \n", words.join(" "))
}

/// What `--print-param` prints.
pub(super) fn parameters<'s>(settings: impl Iterator<Item = (&'s str, String)>) -> String {
    let head = "# This MySQL options file was generated by xb-front.\n[mysqld]\n".to_owned();
    settings.fold(head, |mut text, (key, value)| {
        let _ = writeln!(text, "{}={value}", key.replace('-', "_"));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_as_those_of_the_stock_programs() {
        let time: Zoned = "2026-11-26T19:30:55.25+01:00[+01:00]".parse().unwrap();
        let of = |style, tone| line(style, &time, tone, "completed OK!");
        assert_eq!(of(Style::Mariadb, Tone::Note), "[00] 2026-11-26 19:30:55 completed OK!");
        assert_eq!(of(Style::Mariadb, Tone::Error), "[00] FATAL ERROR: 2026-11-26 19:30:55 completed OK!");
        assert_eq!(
            of(Style::Xtrabackup, Tone::Note),
            "2026-11-26T18:30:55.250000-00:00 0 [Note] [MY-011825] [Xtrabackup] completed OK!"
        );
        assert_eq!(of(Style::Innobackupex, Tone::Note), "261126 19:30:55 completed OK!");
        assert_eq!(of(Style::Plain, Tone::Warning), "completed OK!");
    }

    #[test]
    fn a_replica_is_told_as_mariadb_backup_tells_it() {
        let statements = "SET GLOBAL gtid_slave_pos = '0-2-7';\nCHANGE MASTER TO master_use_gtid = slave_pos;\n\
                          CHANGE MASTER 'two' TO MASTER_LOG_FILE='x.1', MASTER_LOG_POS=9;\n";
        let said =
            "gtid_slave_pos '0-2-7'; master '' master_use_gtid = slave_pos; master 'two' filename 'x.1' position '9'";
        assert_eq!(of_replica(statements), said);
    }

    #[test]
    fn callers_find_the_lines_that_they_look_for() {
        let facts = serde_json::json!({
            "start_lsn": 44404, "end_lsn": 47992,
            "binlog": { "file": "bl.000001", "position": 760, "gtid": "0-1-3" },
        });
        assert_eq!(
            of_backup(Style::Mariadb, Path::new("/srv/b/"), false, &facts),
            [
                "Backup created in directory '/srv/b/'",
                "MySQL binlog position: filename 'bl.000001', position '760', GTID of the last change '0-1-3'",
                "The latest check point (for incremental): '44404'",
                "Redo log (from LSN 44404 to 47992) was copied.",
            ]
        );
        let facts = serde_json::json!({
            "start_lsn": 1, "end_lsn": 2, "binlog": { "file": "b", "position": 4, "gtid": "" },
        });
        let lines = of_backup(Style::Xtrabackup, Path::new("b"), false, &facts);
        assert_eq!(lines.get(1).unwrap(), "MySQL binlog position: filename 'b', position '4'");
        assert_eq!(lines.last().unwrap(), "Transaction log of lsn (1) to (2) was copied.");
    }
}
