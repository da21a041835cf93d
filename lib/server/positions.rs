//! The positions of a snapshot: binary log, replication, Galera.

use std::fmt::Write;

use super::applier::quoted;
use super::session::{Record, Session, told};
use crate::error::Result;
use crate::stream::native::Binlog;

/// The position in the binary log and the GTID position; `None` if the server writes no binary log.
pub fn binlog(session: &mut Session) -> Result<Option<Binlog>> {
    let Some(status) = session.record("SHOW MASTER STATUS")? else { return Ok(None) };
    let (file, position) =
        (told(&status, "SHOW MASTER STATUS", "file")?, told(&status, "SHOW MASTER STATUS", "position")?);
    // The current position includes what was replicated; scripts expect it in xtrabackup_binlog_info.
    let gtid = session.record("SELECT @@global.gtid_current_pos AS current, @@global.gtid_binlog_pos AS binlog")?;
    let of = |key: &str| gtid.as_ref().and_then(|row| row.get(key)).filter(|pos| !pos.is_empty()).cloned();
    let gtid = of("current").or_else(|| of("binlog")).unwrap_or_default();
    Ok(Some(Binlog { file, position, gtid }))
}

/// The statements that make a restored server a replica of the same sources: `xtrabackup_slave_info`. `None` if the
/// server is not a replica.
pub fn replica(session: &mut Session) -> Result<Option<String>> {
    let connections = session.records("SHOW ALL SLAVES STATUS")?;
    let position = session.value("SELECT @@global.gtid_slave_pos")?.unwrap_or_default();
    Ok(Some(statements(&connections, &position)?).filter(|statements| !statements.is_empty()))
}

fn statements(connections: &[Record], position: &str) -> Result<String> {
    let mut out = String::new();
    let text = |record: &Record, key: &str| told::<String>(record, "SHOW ALL SLAVES STATUS", key);
    // From an empty position a replica would fetch everything that its source has ever done.
    let by_gtid = |connection: &Record| uses_gtid(connection) && !position.is_empty();
    if connections.iter().any(by_gtid) {
        let _ = writeln!(out, "SET GLOBAL gtid_slave_pos = '{position}';");
    }
    for connection in connections {
        let name = quoted("'", &text(connection, "connection_name")?, "' ");
        if by_gtid(connection) {
            let _ = writeln!(out, "CHANGE MASTER {name}TO master_use_gtid = slave_pos;");
        } else {
            let (file, position) =
                (text(connection, "relay_master_log_file")?, text(connection, "exec_master_log_pos")?);
            let _ = writeln!(out, "CHANGE MASTER {name}TO MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position};");
        }
    }
    Ok(out)
}

fn uses_gtid(connection: &Record) -> bool {
    connection.get("using_gtid").is_some_and(|using| using != "No")
}

/// `UUID:SEQNO DOMAIN` of a Galera node; `None` for other servers.
pub fn galera(session: &mut Session) -> Result<Option<String>> {
    let records = session.records("SHOW GLOBAL STATUS LIKE 'wsrep_%'")?;
    let get = |name: &str| {
        let found =
            records.iter().find(|record| record.get("variable_name").is_some_and(|key| key.eq_ignore_ascii_case(name)));
        found.and_then(|record| record.get("value")).cloned()
    };
    let (Some(uuid), Some(last)) = (get("wsrep_local_state_uuid"), get("wsrep_last_committed")) else {
        return Ok(None);
    };
    let domain = session.value("SELECT @@global.wsrep_gtid_domain_id").ok().flatten().unwrap_or_default();
    Ok(Some(format!("{uuid}:{last} {domain}").trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_by_gtid_and_by_file() {
        let record = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Record>()
        };
        assert_eq!(statements(&[], "0-1-1").unwrap(), "");
        let early = [record(&[
            ("connection_name", ""),
            ("using_gtid", "Slave_Pos"),
            ("relay_master_log_file", "m.000001"),
            ("exec_master_log_pos", "331"),
        ])];
        assert_eq!(
            statements(&early, "").unwrap(),
            "CHANGE MASTER TO MASTER_LOG_FILE='m.000001', MASTER_LOG_POS=331;\n"
        );
        let connections = [
            record(&[("connection_name", ""), ("using_gtid", "Slave_Pos")]),
            record(&[
                ("connection_name", "b"),
                ("using_gtid", "No"),
                ("relay_master_log_file", "m.000002"),
                ("exec_master_log_pos", "77"),
            ]),
        ];
        assert_eq!(
            statements(&connections, "0-1-9").unwrap(),
            "SET GLOBAL gtid_slave_pos = '0-1-9';\nCHANGE MASTER TO master_use_gtid = slave_pos;\n\
             CHANGE MASTER 'b' TO MASTER_LOG_FILE='m.000002', MASTER_LOG_POS=77;\n"
        );
    }
}
