//! `ddl.log`, in which the server logs each statement that changes a table while a backup runs. Source:
//! `facts/mariadb-hot-backup#ddl`, `backup.cc` (`backup_log_ddl`).

use std::collections::HashSet;

use crate::server::parts;

/// The tables that a part of the log names, as `database/table` in the encoding of file names.
///
/// Databases that were created or dropped are there as `database/`.
#[derive(Debug, Default)]
pub struct Named {
    tables: HashSet<Box<[u8]>>,
}

impl Named {
    /// Parses whole lines; skips any that is not a line of the log.
    pub fn parse(log: &[u8]) -> Self {
        let mut tables = HashSet::new();
        for line in log.split(|byte| *byte == b'\n') {
            // date, type, then twice: engine, partitioned, database, table, id
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
            for (database, table) in [(4, 5), (9, 10)] {
                if let (Some(database), Some(table)) = (fields.get(database), fields.get(table))
                    && !database.is_empty()
                {
                    tables.insert([*database, b"/", *table].concat().into_boxed_slice());
                }
            }
        }
        Named { tables }
    }

    /// True if the tablespace `database/table[#P#…][#i#…].ibd` belongs to a table in the log.
    pub fn has(&self, path: &[u8]) -> bool {
        if self.tables.is_empty() {
            return false;
        }
        let stem = path.strip_suffix(b".ibd").unwrap_or(path);
        let stem = parts::without_index(stem);
        let table = parts::partitioned(stem).unwrap_or(stem);
        let slash = bstr::ByteSlice::find_byte(table, b'/').map_or(0, |at| at + 1);
        self.tables.contains(table) || table.get(..slash).is_some_and(|database| self.tables.contains(database))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tables_partitions_and_databases() {
        let log = b"2026-01-01 10:00:00\tCREATE\tInnoDB\t0\tsb\tone\t0a\t\t0\t\t\t\n\
            2026-01-01 10:00:01\tRENAME\tInnoDB\t0\tsb\told\t0b\tInnoDB\t0\tother\tnew\t0b\n\
            2026-01-01 10:00:02\tDROP\tDATABASE\t0\tgone\t\t\t\t0\t\t\t\nrubbish\n";
        let named = Named::parse(log);
        for path in ["sb/one.ibd", "sb/one#P#p0.ibd", "sb/one#i#00.ibd", "sb/old.ibd", "other/new.ibd", "gone/any.ibd"]
        {
            assert!(named.has(path.as_bytes()), "{path}");
        }
        for path in ["sb/two.ibd", "sb/one2.ibd", "other/old.ibd", "sb/new.ibd"] {
            assert!(!named.has(path.as_bytes()), "{path}");
        }
        assert!(!Named::parse(b"").has(b"sb/one.ibd"));
    }
}
