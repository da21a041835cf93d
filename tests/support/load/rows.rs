//! Random writes in InnoDB tables: large rows off-page, every row format, partitions, full-text.

use mysql::prelude::Queryable;

use super::{Family, Kind, Worker, statements};

pub(super) static ROWS: Kind = Kind { name: "rows", schema: rows_schema, step: rows_step };
pub(super) static FORMATS: Kind = Kind { name: "formats", schema: formats_schema, step: formats_step };

/// Rows that there are at first; keys go up to four times as many.
const ROWS_AT_FIRST: u64 = 5000;

fn rows_schema(_: Family) -> Vec<String> {
    statements(&format!(
        "CREATE DATABASE IF NOT EXISTS bench;
         CREATE TABLE bench.narrow (id INT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL,
            KEY (k)) ENGINE=InnoDB;
         CREATE TABLE bench.large (id INT PRIMARY KEY, data LONGBLOB, info TEXT) ENGINE=InnoDB;
         INSERT INTO bench.narrow SELECT seq, seq * 7919 % 10007, SHA2(seq, 256), SHA2(seq, 224) FROM seq_1_to_{ROWS_AT_FIRST};
         INSERT INTO bench.large SELECT seq, REPEAT(SHA2(seq, 224), 10 + seq % 700), SHA2(seq, 224) FROM seq_1_to_300"
    ))
}

/// What sysbench's `oltp_write_only` does, and one large row.
fn rows_step(worker: &mut Worker) -> mysql::Result<()> {
    let random = &mut worker.random;
    let mut id = || 1 + random.below(4 * ROWS_AT_FIRST);
    let (key, other, gone) = (id(), id(), id());
    let large = 1 + random.below(600);
    let text = random.text(120);
    let length = usize::try_from(random.below(40_000)).unwrap();
    let blob = random.text(length);
    let conn = &mut worker.conn;
    conn.query_drop("START TRANSACTION")?;
    conn.exec_drop("UPDATE bench.narrow SET k = k + 1 WHERE id = ?", (key,))?;
    conn.exec_drop("UPDATE bench.narrow SET c = ? WHERE id = ?", (&text, other))?;
    conn.exec_drop("DELETE FROM bench.narrow WHERE id = ?", (gone,))?;
    conn.exec_drop("INSERT INTO bench.narrow VALUES (?, ?, ?, LEFT(?, 60))", (gone, key, &text, &text))?;
    if large.is_multiple_of(3) {
        conn.exec_drop("REPLACE INTO bench.large VALUES (?, ?, LEFT(?, 50))", (large, &blob, &text))?;
    } else if large.is_multiple_of(7) {
        conn.exec_drop("DELETE FROM bench.large WHERE id = ?", (large,))?;
    }
    conn.query_drop("COMMIT")
}

const FORMAT_TABLES: [(&str, &str); 8] = [
    ("compressed", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"),
    ("compressed4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ("redundant", "ROW_FORMAT=REDUNDANT"),
    ("compact", "ROW_FORMAT=COMPACT"),
    ("dynamic", "ROW_FORMAT=DYNAMIC"),
    ("page_compressed", "PAGE_COMPRESSED=1"),
    ("partitioned", "PARTITION BY HASH (id) PARTITIONS 4"),
    (
        "ranges",
        "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (1000), PARTITION p1 VALUES LESS THAN MAXVALUE)",
    ),
];

/// With 32K and 64K pages, `ROW_FORMAT=COMPRESSED` does not exist; the tables are then dynamic.
fn formats_schema(family: Family) -> Vec<String> {
    let mut all = statements(
        "CREATE DATABASE IF NOT EXISTS formats;
         CREATE TABLE formats.words (id INT PRIMARY KEY, data TEXT, FULLTEXT KEY (data)) ENGINE=InnoDB;
         SET SESSION innodb_strict_mode = OFF",
    );
    for (name, format) in FORMAT_TABLES {
        let format = match family {
            Family::Mariadb => format.to_owned(),
            Family::Mysql => format.replace("PAGE_COMPRESSED=1", "COMPRESSION='zlib'"),
        };
        all.push(format!(
            "CREATE TABLE formats.{name} (id INT PRIMARY KEY, k INT NOT NULL, data TEXT NOT NULL, KEY (k)) ENGINE=InnoDB {format}"
        ));
        all.push(format!(
            "INSERT INTO formats.{name} SELECT seq, seq % 97, REPEAT(SHA2(seq, 224), 20) FROM seq_1_to_300"
        ));
    }
    all
}

/// One transaction over three of the tables.
fn formats_step(worker: &mut Worker) -> mysql::Result<()> {
    worker.conn.query_drop("START TRANSACTION")?;
    for _ in 0..3 {
        let random = &mut worker.random;
        let (table, _) = *random.pick(&FORMAT_TABLES);
        let id = 1 + random.below(2000);
        let length = usize::try_from(random.below(3000)).unwrap();
        let text = random.text(length);
        if random.chance(30) {
            worker.conn.exec_drop(format!("DELETE FROM formats.{table} WHERE id = ?"), (id,))?;
        } else {
            let statement = format!("REPLACE INTO formats.{table} VALUES (?, ? % 97, ?)");
            worker.conn.exec_drop(statement, (id, id, &text))?;
        }
    }
    if worker.random.chance(20) {
        let id = 1 + worker.random.below(200);
        let text = worker.random.text(200);
        worker.conn.exec_drop("REPLACE INTO formats.words VALUES (?, ?)", (id, &text))?;
    }
    let end = if worker.random.chance(10) { "ROLLBACK" } else { "COMMIT" };
    worker.conn.query_drop(end)
}
