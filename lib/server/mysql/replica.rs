//! `xtrabackup_slave_info` of a MySQL replica. Source: `facts/mysql-hot-backup#stock-metadata`.

use std::fmt::Write;

use super::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::server::applier::quoted;
use crate::server::session::{Record, Session, told};

/// The status of each source from which the server replicates.
pub fn channels(session: &mut Session) -> Result<Vec<Record>> {
    Ok(session.records("SHOW REPLICA STATUS")?)
}

/// Fails if the position of a channel is not exact. Without GTIDs the server updates it only from time to time
/// (`replica_checkpoint_period`); it is exact only while the channel is stopped.
pub fn exact(channels: &[Record]) -> Result<()> {
    let moving = |channel: &Record| {
        let is = |key: &str, value: &str| channel.get(key).is_some_and(|text| text == value);
        !is("auto_position", "1") && is("replica_sql_running", "Yes")
    };
    if !channels.iter().any(moving) {
        return Ok(());
    }
    let what = "replicates by file and position, which are exact only while it stands still";
    Err(Error::failed("server", what).hint("add --safe-replica, or have it replicate by GTID (SOURCE_AUTO_POSITION=1)"))
}

/// The statements that make a restored server a replica of the same sources; `executed` are its GTIDs. Empty if the
/// server is not a replica.
pub fn statements(channels: &[Record], executed: &GtidSet) -> Result<String> {
    let mut out = String::new();
    let text = |record: &Record, key: &str| told::<String>(record, "SHOW REPLICA STATUS", key);
    let automatic = |channel: &Record| channel.get("auto_position").is_some_and(|automatic| automatic == "1");
    if channels.iter().any(automatic) {
        let _ = writeln!(out, "SET GLOBAL gtid_purged='{executed}';");
    }
    for channel in channels {
        let name = quoted(" FOR CHANNEL '", &text(channel, "channel_name")?, "'");
        if automatic(channel) {
            let _ = writeln!(out, "CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1{name};");
        } else {
            let (file, position) = (text(channel, "relay_source_log_file")?, text(channel, "exec_source_log_pos")?);
            let _ = writeln!(
                out,
                "CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={position}{name};"
            );
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_by_gtid_and_by_file() {
        let record = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Record>()
        };
        let set = GtidSet::parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9").unwrap();
        assert_eq!(statements(&[], &set).unwrap(), "");
        let channels = [
            record(&[("channel_name", ""), ("auto_position", "1")]),
            record(&[
                ("channel_name", "b"),
                ("auto_position", "0"),
                ("relay_source_log_file", "m.000002"),
                ("exec_source_log_pos", "77"),
            ]),
        ];
        assert_eq!(
            statements(&channels, &set).unwrap(),
            "SET GLOBAL gtid_purged='3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9';\n\
             CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=1;\n\
             CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='m.000002', SOURCE_LOG_POS=77 FOR CHANNEL 'b';\n"
        );
    }
}
