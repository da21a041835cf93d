//! Storage engines whose tables xb-snap does not copy. A backup without them would look complete.

use std::path::Path;

use crate::error::{Error, Result};
use crate::server::Session;
use crate::server::files;
use crate::server::session::{Record, told};

/// Engines with their own files, and for each the table in information_schema that shows all its tables to every
/// account.
const LISTS: [(&str, &str); 2] = [("RocksDB", "ROCKSDB_DDL"), ("ColumnStore", "COLUMNSTORE_TABLES")];
/// The directory of RocksDB's tables, in the data directory.
const ROCKSDB: &str = "#rocksdb";

/// Fails if the server has such tables.
pub(super) fn asked(session: &mut Session, datadir: &Path) -> Result<()> {
    let active = "SELECT ENGINE AS engine FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')";
    let engine = |row: Record| told(&row, "ENGINES", "engine");
    let active: Vec<String> = session.records(active)?.into_iter().map(engine).collect::<Result<_>>()?;
    let is_active = |engine: &str| active.iter().any(|one| one.eq_ignore_ascii_case(engine));
    for (engine, list) in LISTS.into_iter().filter(|(engine, _)| is_active(engine)) {
        let sql = format!("SELECT TABLE_NAME FROM information_schema.{list} LIMIT 1");
        if let Some(table) = session.value(&sql)? {
            let what = format!("tables of the engine {engine} ({table}) are not copied");
            return Err(Error::failed("server", what)
                .hint(format_args!("make them InnoDB, or back such tables up with a tool of {engine}")));
        }
    }
    if is_active("RocksDB") { Ok(()) } else { on_disk(datadir) }
}

/// Looks for the files of RocksDB. They do not tell whether any table is left in them.
pub(super) fn on_disk(datadir: &Path) -> Result<()> {
    let dir = datadir.join(ROCKSDB);
    if files::of_database(&dir, |name| name.ends_with(b".sst"))?.is_empty() {
        return Ok(());
    }
    Err(Error::failed(dir.display(), "tables of the engine RocksDB are not copied")
        .hint("a running server with this engine can tell whether there are any; without tables, remove the directory"))
}
