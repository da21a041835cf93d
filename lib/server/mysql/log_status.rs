//! `performance_schema.log_status`: the positions of all logs at one moment. Source:
//! `facts/mysql-hot-backup#log-status`.

use serde_json::Value;

use super::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::server::session::Session;

/// The positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStatus {
    /// The server's UUID.
    pub uuid: String,
    /// File name without directory, and offset; `None` if the server writes no binary log.
    pub binlog: Option<(String, u64)>,
    /// `gtid_executed`.
    pub executed: GtidSet,
    /// The end LSN of the last mini-transaction, at which the redo log is cut.
    pub lsn: Lsn,
}

impl LogStatus {
    /// Asks the server.
    pub fn of(session: &mut Session) -> Result<Self> {
        let sql = "SELECT SERVER_UUID AS uuid, CAST(LOCAL AS CHAR) AS local, \
            CAST(STORAGE_ENGINES AS CHAR) AS engines FROM performance_schema.log_status";
        let row = session.record(sql)?.unwrap_or_default();
        let text = |key: &str| row.get(key).map(String::as_str).unwrap_or_default();
        Self::parse(text("uuid"), text("local"), text("engines"))
            .ok_or_else(|| Error::failed("server", format_args!("log_status cannot be read: {row:?}")))
    }

    /// Parses the columns.
    fn parse(uuid: &str, local: &str, engines: &str) -> Option<Self> {
        let local: Value = serde_json::from_str(local).ok()?;
        let engines: Value = serde_json::from_str(engines).ok()?;
        let file = local.get("binary_log_file").and_then(Value::as_str).filter(|file| !file.is_empty());
        let binlog = match file {
            Some(file) => Some((file.to_owned(), local.get("binary_log_position")?.as_u64()?)),
            None => None,
        };
        Some(LogStatus {
            uuid: uuid.to_owned(),
            binlog,
            executed: GtidSet::parse(local.get("gtid_executed")?.as_str()?)?,
            lsn: Lsn::new(engines.get("InnoDB")?.get("LSN")?.as_u64()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_answers() {
        let engines = r#"{"InnoDB": {"LSN": 19466809, "LSN_checkpoint": 19413805}}"#;
        let local = r#"{"gtid_executed": "79c90d70-e5bb-11f1-a209-02fc00000001:1-16,\n89c90d70-e5bb-11f1-a209-02fc00000001:1",
            "binary_log_file": "binlog.000002", "binary_log_position": 788}"#;
        let status = LogStatus::parse("u", local, engines).unwrap();
        assert_eq!((status.lsn.get(), status.binlog), (19_466_809, Some(("binlog.000002".into(), 788))));
        assert!(status.executed.to_string().ends_with(":1-16,89c90d70-e5bb-11f1-a209-02fc00000001:1"));
        assert_eq!(LogStatus::parse("u", r#"{"gtid_executed": ""}"#, engines).unwrap().binlog, None);
        assert_eq!(LogStatus::parse("u", "{}", engines), None);
        assert_eq!(LogStatus::parse("u", local, r#"{"InnoDB": {}}"#), None);
    }
}
