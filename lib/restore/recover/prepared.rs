//! Rolls back the XA transactions that clients have prepared and not ended, as a client of the server that has recovered the
//! directory.
//!
//! No option of a server does that: `--tc-heuristic-recover` is for transactions of the server's own. The server listens
//! at a socket in a directory that only its account and root can enter, and nowhere else.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::report::{Level, Report};
use crate::server::address::Asked;
use crate::server::session::{Login, Record, told};
use crate::server::{Family, Session};

/// How often to try to connect; the server may take long to recover.
const TICK: Duration = Duration::from_millis(50);
/// The socket's name.
pub(super) const SOCKET: &str = "socket";

/// Waits for the server, rolls back, and shuts it down. Gives up when it is `gone`.
pub(super) fn roll_back(socket: &Path, family: Family, gone: &AtomicBool, report: &dyn Report) -> Result<()> {
    let Some(mut session) = connect(socket, gone) else { return Ok(()) };
    let sql = match family {
        Family::MariaDb => "XA RECOVER FORMAT='SQL'",
        Family::MySql => "XA RECOVER CONVERT XID",
    };
    let list = session.records(sql)?;
    for record in &list {
        let xid = xid(family, record)?;
        session.run(&format!("XA ROLLBACK {xid}"))?;
        report.note(Level::Info, format_args!("XA transaction {xid}: rolled back"));
    }
    if let Some(left) = session.records(sql)?.first() {
        return Err(Error::failed("server", format_args!("an XA transaction is still prepared: {left:?}")));
    }
    if list.is_empty() {
        report.note(Level::Detail, format_args!("no XA transaction is prepared"));
    }
    // The server may be gone before it answers.
    let _ = session.run("SHUTDOWN");
    Ok(())
}

fn connect(socket: &Path, gone: &AtomicBool) -> Option<Session> {
    let login = Login {
        user: Some("root".to_owned()),
        asked: Asked { socket: Some(socket.to_owned()), ..Asked::default() },
        ..Login::default()
    };
    while !gone.load(Ordering::Relaxed) {
        if socket.exists()
            && let Ok(session) = login.connect()
        {
            return Some(session);
        }
        std::thread::sleep(TICK);
    }
    None
}

/// A transaction's name, as `XA ROLLBACK` takes it.
fn xid(family: Family, record: &Record) -> Result<String> {
    const FROM: &str = "XA RECOVER";
    let data: String = told(record, FROM, "data")?;
    if family == Family::MariaDb {
        return Ok(data);
    }
    // MySQL writes both parts in hex, one behind the other, and how many bytes each has.
    let size = |column: &str| told::<usize>(record, FROM, column);
    let (global, branch) = (size("gtrid_length")?, size("bqual_length")?);
    let format: u64 = told(record, FROM, "formatid")?;
    let hex = data.strip_prefix("0x").filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let parts = hex.filter(|hex| Some(hex.len()) == global.checked_add(branch).and_then(|sum| sum.checked_mul(2)));
    let (global, branch) = parts
        .and_then(|hex| hex.split_at_checked(global.checked_mul(2)?))
        .ok_or_else(|| Error::failed("server", format_args!("{FROM}: {data:?} is not the name of a transaction")))?;
    Ok(format!("X'{global}',X'{branch}',{format}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_mysql_are_put_together() {
        let record = |global: &str, data: &str| {
            let fields = [("formatid", "7"), ("gtrid_length", global), ("bqual_length", "1"), ("data", data)];
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Record>()
        };
        assert_eq!(xid(Family::MySql, &record("2", "0x616263")).unwrap(), "X'6162',X'63',7");
        for (global, data) in [("3", "0x616263"), ("2", "616263"), ("2", "0x6162zz"), ("x", "0x616263")] {
            assert!(xid(Family::MySql, &record(global, data)).is_err(), "{global} {data}");
        }
    }
}
