//! DISCARD and IMPORT TABLESPACE: the file of one table takes the place of another's.

use std::fs;
use std::path::Path;

use mysql::Conn;
use mysql::prelude::Queryable;

/// The rows of `source` become those of `target`, both of one definition in the database `db`; `data` is the server's
/// directory, `aside` one of our own. Not in the binary log, for no other server could repeat it.
pub fn table(conn: &mut Conn, data: &Path, aside: &Path, db: &str, source: &str, target: &str) -> mysql::Result<()> {
    let place = |name: &str, suffix: &str| data.join(db).join(format!("{name}.{suffix}"));
    let kept = |suffix: &str| aside.join(format!("{db}.{target}.{suffix}"));
    conn.query_drop("SET SESSION sql_log_bin=0")?;
    conn.query_drop(format!("FLUSH TABLES {db}.{source} FOR EXPORT"))?;
    for suffix in ["ibd", "cfg"] {
        fs::copy(place(source, suffix), kept(suffix))?;
    }
    conn.query_drop("UNLOCK TABLES")?;
    conn.query_drop(format!("ALTER TABLE {db}.{target} DISCARD TABLESPACE"))?;
    for suffix in ["ibd", "cfg"] {
        fs::rename(kept(suffix), place(target, suffix))?;
    }
    conn.query_drop(format!("ALTER TABLE {db}.{target} IMPORT TABLESPACE"))?;
    fs::remove_file(place(target, "cfg")).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    conn.query_drop("SET SESSION sql_log_bin=1")
}
