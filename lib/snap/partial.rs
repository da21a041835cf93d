//! What a partial backup asks the server's dictionary, with names as in file names: to which table a full-text index
//! belongs, which tables have no file of their own, and which have foreign keys to others. Needs `PROCESS`.

use std::collections::{BTreeSet, HashMap};

use crate::error::Result;
use crate::server::session::told;
use crate::server::{Session, parts};

/// How many tables one statement asks for.
const BATCH: usize = 1000;

/// The names of a family's dictionary tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dictionary {
    tables: &'static str,
    foreign: &'static str,
    /// Selects tables that have no file of their own, if no other file in the data directory has their names.
    shared: Option<&'static str>,
    /// The names of foreign keys are SQL names, without the encoding of file names.
    plain: bool,
}

/// MariaDB, where every table has a `.frm`.
pub(super) const MARIADB: Dictionary =
    Dictionary { tables: "INNODB_SYS_TABLES", foreign: "INNODB_SYS_FOREIGN", shared: None, plain: false };
/// MySQL.
pub(super) const MYSQL: Dictionary = Dictionary {
    tables: "INNODB_TABLES",
    foreign: "INNODB_FOREIGN",
    shared: Some("SELECT NAME AS name FROM information_schema.INNODB_TABLES WHERE SPACE_TYPE<>'Single'"),
    plain: true,
};

impl Dictionary {
    /// The tables with these ids, as `db/t`; without those that the server does not have.
    pub(super) fn owners(self, session: &mut Session, ids: &BTreeSet<u64>) -> Result<HashMap<u64, Vec<u8>>> {
        let mut owners = HashMap::new();
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        for some in ids.chunks(BATCH) {
            let (table, list) = (self.tables, some.join(", "));
            let sql = format!(
                "SELECT TABLE_ID AS id, NAME AS name FROM information_schema.{table} WHERE TABLE_ID IN ({list})"
            );
            for row in session.records(&sql)? {
                owners.insert(told(&row, table, "id")?, told::<String>(&row, table, "name")?.into_bytes());
            }
        }
        Ok(owners)
    }

    /// Tables without a file of the same name.
    pub(super) fn shared(self, session: &mut Session) -> Result<Vec<Vec<u8>>> {
        let Some(sql) = self.shared else { return Ok(Vec::new()) };
        let name = |row| told::<String>(&row, self.tables, "name").map(String::into_bytes);
        session.records(sql)?.into_iter().map(name).collect()
    }

    /// Pairs of tables with a foreign key, child and parent; without tables whose file names cannot be derived.
    pub(super) fn foreign(self, session: &mut Session) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let sql = format!("SELECT FOR_NAME AS child, REF_NAME AS parent FROM information_schema.{}", self.foreign);
        let name = |name: String| match self.plain {
            true => encoded(name.as_bytes()),
            false => Some(name.into_bytes()),
        };
        let mut foreign = Vec::new();
        for row in session.records(&sql)? {
            let (child, parent) = (told(&row, self.foreign, "child")?, told(&row, self.foreign, "parent")?);
            foreign.extend(name(child).zip(name(parent)));
        }
        Ok(foreign)
    }
}

/// `db/t` in the encoding of file names.
fn encoded(name: &[u8]) -> Option<Vec<u8>> {
    let slash = name.iter().position(|byte| *byte == b'/')?;
    let (database, table) = (name.get(..slash)?, name.get(slash + 1..)?);
    Some([parts::file_name(database)?, b"/".to_vec(), parts::file_name(table)?].concat())
}

/// The ids of the tables to whose full-text indexes these files belong.
pub(super) fn fulltext<'n>(names: impl Iterator<Item = &'n [u8]>) -> BTreeSet<u64> {
    names.filter_map(|name| parts::of_fulltext(name.rsplit(|byte| *byte == b'/').next()?)).collect()
}
