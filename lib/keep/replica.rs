//! The statements that make a restored server a replica. Pure.

use super::meta::Meta;
use crate::error::{Error, Result};
use crate::server::Family;

/// Of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Of the server that was copied.
    Server,
    /// Of the server from which that one replicated.
    Source,
}

/// The statements, a line each. Host and account are for the operator to say.
///
/// # Errors
///
/// Failed, if the backup does not have the position.
pub fn statements(meta: &Meta, of: Of) -> Result<String> {
    match of {
        Of::Source => {
            let text = meta.replica.as_ref().ok_or_else(|| {
                Error::failed(&meta.id, "does not say from where its server replicated")
                    .hint("snap_options = [\"--replica-info\"] in the settings records that for the next backups")
            })?;
            Ok(format!("{}\n{};\n{}", account(meta), text.trim_end_matches(';'), start(meta)))
        }
        Of::Server => server(meta),
    }
}

fn server(meta: &Meta) -> Result<String> {
    let at = meta.binlog.as_ref().ok_or_else(|| {
        Error::failed(&meta.id, "has no position in a binary log").hint("the server wrote none when it was taken")
    })?;
    let (gtid, host) = (at.gtid.replace(['\n', ' '], ""), &meta.host);
    let (file, position) = (&at.file, at.position);
    let change = match (family(meta), gtid.is_empty()) {
        (Family::MariaDb, true) => {
            format!("CHANGE MASTER TO MASTER_HOST='{host}', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position};")
        }
        (Family::MariaDb, false) => format!(
            "SET GLOBAL gtid_slave_pos='{gtid}';\nCHANGE MASTER TO MASTER_HOST='{host}', MASTER_USE_GTID=slave_pos;"
        ),
        (Family::MySql, true) => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={position};"
        ),
        (Family::MySql, false) => format!(
            "{}\nSET GLOBAL gtid_purged='{gtid}';\nCHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_AUTO_POSITION=1;",
            reset(meta)
        ),
    };
    Ok(format!("{}\n{change}\n{}", account(meta), start(meta)))
}

fn family(meta: &Meta) -> Family {
    meta.server.family.unwrap_or(Family::MariaDb)
}

fn account(meta: &Meta) -> &'static str {
    match family(meta) {
        Family::MariaDb => "-- add MASTER_USER and MASTER_PASSWORD, and MASTER_HOST if it is another",
        Family::MySql => "-- add SOURCE_USER and SOURCE_PASSWORD, and SOURCE_HOST if it is another",
    }
}

fn start(meta: &Meta) -> &'static str {
    match family(meta) {
        Family::MariaDb => "START SLAVE;",
        Family::MySql => "START REPLICA;",
    }
}

/// What the restored server has executed is only what the backup has.
fn reset(meta: &Meta) -> &'static str {
    let version = meta.server.version.as_deref().and_then(crate::server::program::version);
    match version.map(|release| (release.version.0, release.version.1)) {
        Some(version) if version < (8, 4) => "RESET MASTER;",
        _ => "RESET BINARY LOGS AND GTIDS;",
    }
}
