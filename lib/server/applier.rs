//! The threads that apply replicated events, in the terms of each family.

use super::session::{Record, Session};
use crate::error::Result;

/// How a family names these threads, and stops and starts them.
pub struct Applier {
    /// Lists the connections to sources, with these columns.
    list: &'static str,
    name: &'static str,
    running: &'static str,
    /// The statement for `STOP` or `START` and the name of a connection; that of the default one is empty.
    statement: fn(&str, &str) -> String,
    /// The status variable with the number of temporary tables.
    temporary_tables: &'static str,
}

/// MariaDB's.
pub const MARIADB: Applier = Applier {
    list: "SHOW ALL SLAVES STATUS",
    name: "connection_name",
    running: "slave_sql_running",
    statement: |verb, name| format!("{verb} SLAVE {}SQL_THREAD", quoted("'", name, "' ")),
    temporary_tables: "Slave_open_temp_tables",
};

/// MySQL's.
pub const MYSQL: Applier = Applier {
    list: "SHOW REPLICA STATUS",
    name: "channel_name",
    running: "replica_sql_running",
    statement: |verb, name| format!("{verb} REPLICA SQL_THREAD{}", quoted(" FOR CHANNEL '", name, "'")),
    temporary_tables: "Replica_open_temp_tables",
};

impl Applier {
    /// Names of the connections whose events are being applied.
    pub fn running(&self, session: &mut Session) -> Result<Vec<String>> {
        let connections = session.records(self.list)?;
        let running = |record: &Record| record.get(self.running).is_some_and(|running| running == "Yes");
        let name = |mut record: Record| record.remove(self.name).unwrap_or_default();
        Ok(connections.into_iter().filter(running).map(name).collect())
    }

    /// Stops applying the events of these connections, each between two event groups.
    pub fn stop(&self, session: &mut Session, connections: &[String]) -> Result<()> {
        connections.iter().try_for_each(|name| Ok(session.run(&(self.statement)("STOP", name))?))
    }

    /// Starts applying the events of as many of these connections as possible. The others remain in the list, and the
    /// error of the first of them is returned.
    pub fn start(&self, session: &mut Session, connections: &mut Vec<String>) -> Result<()> {
        let mut first = None;
        connections.retain(|name| match session.run(&(self.statement)("START", name)) {
            Ok(()) => false,
            Err(refusal) => {
                first.get_or_insert(refusal);
                true
            }
        });
        first.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// The statements for it, for the operator.
    pub fn starts(&self, connections: &[String]) -> String {
        let statements: Vec<String> = connections.iter().map(|name| (self.statement)("START", name)).collect();
        statements.join("; ")
    }

    /// The number of temporary tables that replication has open: a replica can be copied safely if it is 0.
    pub fn temporary_tables(&self, session: &mut Session) -> Result<u64> {
        session.status(self.temporary_tables)
    }
}

/// A name between two pieces of text; nothing for an empty name.
pub(super) fn quoted(before: &str, name: &str, after: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{before}{}{after}", name.replace('\'', "''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_by_name() {
        let said = |applier: &Applier, name| (applier.statement)("STOP", name);
        assert_eq!(said(&MARIADB, ""), "STOP SLAVE SQL_THREAD");
        assert_eq!(said(&MARIADB, "o'b"), "STOP SLAVE 'o''b' SQL_THREAD");
        assert_eq!(said(&MYSQL, ""), "STOP REPLICA SQL_THREAD");
        assert_eq!(said(&MYSQL, "o'b"), "STOP REPLICA SQL_THREAD FOR CHANNEL 'o''b'");
        let both = ["".to_owned(), "b".to_owned()];
        assert_eq!(MARIADB.starts(&both), "START SLAVE SQL_THREAD; START SLAVE 'b' SQL_THREAD");
    }
}
