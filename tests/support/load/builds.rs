//! What MySQL builds without redo, and what it does to tablespaces that hold several tables. Each worker has tables of its
//! own, large enough for their indexes to have many pages, and writes to them while an index is there.

use super::ddl::play;
use super::{Family, Kind, Worker, statements};

pub(super) static BUILDS: Kind = Kind { name: "builds", schema, step };

fn schema(_: Family) -> Vec<String> {
    statements("CREATE DATABASE IF NOT EXISTS builds")
}

/// Tables that have an index built in place; each in another kind of tablespace.
const TABLES: &[(&str, &str)] = &[
    ("own", ""),
    ("zip", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"),
    ("squeezed", "COMPRESSION='zlib'"),
    ("parts", "PARTITION BY HASH (id) PARTITIONS 3"),
    ("shared", "TABLESPACE builds@"),
    ("system", "TABLESPACE innodb_system"),
];

/// One scene for a table, `$`.
const SCENES: &[&[&str]] = &[
    &[
        "ALTER TABLE builds.$ ADD INDEX by_k (k), ADD INDEX by_data (data(40))",
        "UPDATE builds.$ SET k = k + 1 WHERE id % 7 = 0",
    ],
    // What was written to an index is in the log, though the index is not there any more.
    &[
        "ALTER TABLE builds.$ ADD INDEX passing (k, id)",
        "UPDATE builds.$ SET k = k + 10007 WHERE id % 5 = 0",
        "ALTER TABLE builds.$ DROP INDEX passing",
    ],
    &[
        "UPDATE builds.$ SET data = REVERSE(data) WHERE id % 4 = 0",
        "ALTER TABLE builds.$ DROP INDEX by_k, DROP INDEX by_data",
    ],
    &["ALTER TABLE builds.$ ADD COLUMN extra INT DEFAULT 3", "UPDATE builds.$ SET extra = id WHERE id < 300"],
    &["ALTER TABLE builds.$ DROP COLUMN extra", "ANALYZE TABLE builds.$"],
];

/// Scenes for all of a worker's tables.
const OTHERS: &[&[&str]] = &[
    &["ALTER TABLE builds.shared@ ADD FULLTEXT INDEX words (data)", "DELETE FROM builds.shared@ WHERE id % 50 = 1"],
    &[
        "ALTER TABLE builds.shared@ DROP INDEX words",
        "ALTER TABLESPACE builds@ RENAME TO other@",
        "ALTER TABLESPACE other@ RENAME TO builds@",
    ],
    &[
        "CREATE TABLE builds.late@ (id INT PRIMARY KEY, data TEXT) TABLESPACE builds@",
        "INSERT INTO builds.late@ SELECT seq, SHA2(seq, 224) FROM seq_1_to_500",
        "DROP TABLE builds.late@",
    ],
    &[
        "CREATE TABLE builds.single@ LIKE builds.ranges@",
        "ALTER TABLE builds.single@ REMOVE PARTITIONING",
        "INSERT INTO builds.single@ SELECT seq, seq, SHA2(seq, 224) FROM seq_1_to_800",
        "ALTER TABLE builds.ranges@ EXCHANGE PARTITION low WITH TABLE builds.single@",
        "UPDATE builds.ranges@ SET k = k + 1",
        "DROP TABLE builds.single@",
    ],
    &["ALTER TABLE builds.own@ FORCE", "DELETE FROM builds.own@ WHERE id % 100 = 3"],
    // Undo tablespaces are each server's own.
    &[
        "SET sql_log_bin=0",
        "ALTER UNDO TABLESPACE undo@ SET INACTIVE",
        "SET sql_log_bin=1",
        "DELETE FROM builds.zip@ WHERE id % 100 = 4",
    ],
    &["SET sql_log_bin=0", "ALTER UNDO TABLESPACE undo@ SET ACTIVE", "SET sql_log_bin=1"],
];

fn stage(worker: &mut Worker) -> mysql::Result<()> {
    let mut all = vec![
        "SET SESSION innodb_strict_mode=OFF".to_owned(),
        "SET sql_log_bin=0".to_owned(),
        "CREATE UNDO TABLESPACE undo@ ADD DATAFILE 'storm@.ibu'".to_owned(),
        "SET sql_log_bin=1".to_owned(),
        "CREATE TABLESPACE builds@ ADD DATAFILE 'builds@.ibd'".to_owned(),
        "CREATE TABLE builds.ranges@ (id INT PRIMARY KEY, k INT, data TEXT) PARTITION BY RANGE (id) \
         (PARTITION low VALUES LESS THAN (1000), PARTITION high VALUES LESS THAN MAXVALUE)"
            .to_owned(),
    ];
    for (name, how) in TABLES {
        all.push(format!("CREATE TABLE builds.{name}@ (id INT PRIMARY KEY, k INT, data VARCHAR(300)) {how}"));
        all.push(format!(
            "INSERT INTO builds.{name}@ SELECT seq, seq * 7919 % 10007, REPEAT(SHA2(seq, 224), 4) FROM seq_1_to_5000"
        ));
    }
    play(worker, &all)
}

fn step(worker: &mut Worker) -> mysql::Result<()> {
    if worker.step == 0 {
        stage(worker)?;
    }
    let turn = usize::try_from(worker.step).unwrap();
    if turn % 4 == 3 {
        return play(worker, OTHERS[turn / 4 % OTHERS.len()]);
    }
    // Scene after scene of one table, but several tables side by side.
    let turn = turn - turn / 4;
    let (name, _) = TABLES[turn % TABLES.len()];
    let scene = SCENES[(turn / TABLES.len()) % SCENES.len()];
    let scene: Vec<String> = scene.iter().map(|statement| statement.replace('$', &format!("{name}@"))).collect();
    play(worker, &scene)
}
