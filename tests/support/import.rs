//! DISCARD and IMPORT TABLESPACE: the file of one table replaces that of another. These statements are not in the
//! binary log, because no other server could repeat them.

use std::fs;
use std::path::Path;

use mysql::Conn;
use mysql::prelude::Queryable;

/// The rows of `source` become those of `target`, both of one definition in the database `db`; `data` is the server's
/// directory, `aside` one of our own.
pub fn table(conn: &mut Conn, data: &Path, aside: &Path, db: &str, source: &str, target: &str) -> mysql::Result<()> {
    let database = data.join(db);
    let (source_table, target_table) = (format!("{db}.{source}"), format!("{db}.{target}"));
    files(conn, &database, aside, &source_table, &target_table, &[(source, target)], "TABLESPACE")
}

/// Partitions of a table of MySQL become what they were.
pub fn partitions(
    conn: &mut Conn,
    data: &Path,
    aside: &Path,
    db: &str,
    table: &str,
    names: &[&str],
) -> mysql::Result<()> {
    let (database, name) = (data.join(db), format!("{db}.{table}"));
    let stems: Vec<String> = names.iter().map(|name| format!("{table}#p#{name}")).collect();
    let pairs: Vec<(&str, &str)> = stems.iter().map(|stem| (stem.as_str(), stem.as_str())).collect();
    files(conn, &database, aside, &name, &name, &pairs, &format!("PARTITION {} TABLESPACE", names.join(", ")))
}

fn files(
    conn: &mut Conn,
    database: &Path,
    aside: &Path,
    source: &str,
    target: &str,
    stems: &[(&str, &str)],
    what: &str,
) -> mysql::Result<()> {
    let place = |stem: &str, suffix: &str| database.join(format!("{stem}.{suffix}"));
    let kept = |stem: &str, suffix: &str| aside.join(format!("{target}.{stem}.{suffix}"));
    let each = |step: &dyn Fn(&str, &str, &str) -> std::io::Result<()>| {
        stems.iter().try_for_each(|(from, to)| ["ibd", "cfg"].iter().try_for_each(|suffix| step(from, to, suffix)))
    };
    conn.query_drop("SET SESSION sql_log_bin=0")?;
    conn.query_drop(format!("FLUSH TABLES {source} FOR EXPORT"))?;
    each(&|from, to, suffix| fs::copy(place(from, suffix), kept(to, suffix)).map(drop))?;
    conn.query_drop("UNLOCK TABLES")?;
    conn.query_drop(format!("ALTER TABLE {target} DISCARD {what}"))?;
    each(&|_, to, suffix| fs::rename(kept(to, suffix), place(to, suffix)))?;
    conn.query_drop(format!("ALTER TABLE {target} IMPORT {what}"))?;
    // A server may leave it, and a partition's next export would find it.
    stems.iter().try_for_each(|(_, to)| match fs::remove_file(place(to, "cfg")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })?;
    conn.query_drop("SET SESSION sql_log_bin=1")
}
