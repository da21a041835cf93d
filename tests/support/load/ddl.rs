//! A storm of data definition. Each worker keeps to tables of its own, so that every statement succeeds; each kind of
//! statement comes round in turn.

use mysql::prelude::Queryable;

use super::{Family, Kind, Worker, statements};

pub(super) static STORM: Kind = Kind { name: "ddl", schema, step };

fn schema(_: Family) -> Vec<String> {
    statements("CREATE DATABASE IF NOT EXISTS storm; CREATE DATABASE IF NOT EXISTS storm_far")
}

/// One scene of the storm. `@` stands for the worker's number; every scene leaves nothing but what it found.
const SCENES: &[&[&str]] = &[
    &[
        "CREATE TABLE storm.new@ (id INT PRIMARY KEY, data TEXT)",
        "INSERT INTO storm.new@ SELECT seq, REPEAT(SHA2(seq, 224), 30) FROM seq_1_to_500",
        "RENAME TABLE storm.new@ TO storm.old@",
        "UPDATE storm.old@ SET data = REVERSE(data) WHERE id % 5 = 0",
        "DROP TABLE storm.old@",
    ],
    &["TRUNCATE TABLE storm.keep@", "INSERT INTO storm.keep@ SELECT seq, seq, SHA2(seq, 224) FROM seq_1_to_800"],
    &["ALTER TABLE storm.keep@ FORCE", "DELETE FROM storm.keep@ WHERE id % 9 = 1"],
    &["ALTER TABLE storm.keep@ ADD INDEX by_k (k), ADD COLUMN extra INT DEFAULT 7", "UPDATE storm.keep@ SET extra = k"],
    &["ALTER TABLE storm.keep@ DROP INDEX by_k, DROP COLUMN extra"],
    &["ALTER TABLE storm.keep@ ADD FULLTEXT INDEX words (data)", "ALTER TABLE storm.keep@ DROP INDEX words"],
    &[
        "ALTER TABLE storm.keep@ MODIFY k BIGINT, ALGORITHM=COPY",
        "ALTER TABLE storm.keep@ MODIFY k INT, ALGORITHM=COPY",
    ],
    &[
        "RENAME TABLE storm.a@ TO storm.x@, storm.b@ TO storm.a@, storm.x@ TO storm.b@",
        "INSERT INTO storm.a@ (data) SELECT SHA2(seq, 224) FROM seq_1_to_20",
    ],
    &[
        "RENAME TABLE storm.a@ TO storm_far.a@",
        "UPDATE storm_far.a@ SET data = CONCAT(data, '.') WHERE id % 3 = 0",
        "RENAME TABLE storm_far.a@ TO storm.a@",
    ],
    &[
        "ALTER TABLE storm.parts@ ADD PARTITION (PARTITION p2 VALUES LESS THAN (3000))",
        "INSERT IGNORE INTO storm.parts@ SELECT seq, SHA2(seq, 224) FROM seq_1_to_2999",
        "ALTER TABLE storm.parts@ REORGANIZE PARTITION p0, p1 INTO (PARTITION p0 VALUES LESS THAN (500), PARTITION p1 VALUES LESS THAN (2000))",
        "ALTER TABLE storm.parts@ TRUNCATE PARTITION p0",
        "ALTER TABLE storm.parts@ DROP PARTITION p2",
    ],
    &[
        "CREATE DATABASE storm_db@",
        "CREATE TABLE storm_db@.t (id INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE storm_db@.m (id INT PRIMARY KEY) ENGINE=MyISAM",
        "INSERT INTO storm_db@.t SELECT seq FROM seq_1_to_300",
        "DROP DATABASE storm_db@",
    ],
    &["OPTIMIZE TABLE storm.b@"],
    &[
        "CREATE TABLE storm.single@ (id INT PRIMARY KEY, data TEXT)",
        "INSERT INTO storm.single@ SELECT seq, SHA2(seq, 224) FROM seq_1_to_300",
        "ALTER TABLE storm.parts@ EXCHANGE PARTITION p0 WITH TABLE storm.single@",
        "UPDATE storm.parts@ SET data = CONCAT(data, '.') WHERE id % 3 = 0",
        "DROP TABLE storm.single@",
    ],
];

/// Scenes in the words of one family only.
fn own_scenes(family: Family) -> &'static [&'static [&'static str]] {
    match family {
        Family::Mariadb => &[
            &["ALTER TABLE storm.moving@ ENGINE=Aria", "ALTER TABLE storm.moving@ ENGINE=InnoDB"],
            &["CREATE OR REPLACE TABLE storm.copy@ AS SELECT id, data FROM storm.keep@ WHERE id < 200"],
        ],
        Family::Mysql => &[
            &["ALTER TABLE storm.moving@ ENGINE=MyISAM", "ALTER TABLE storm.moving@ ENGINE=InnoDB"],
            &[
                "DROP TABLE IF EXISTS storm.copy@",
                "CREATE TABLE storm.copy@ AS SELECT id, data FROM storm.keep@ WHERE id < 200",
            ],
        ],
    }
}

/// What the scenes expect; made in a worker's first step.
const STAGE: &[&str] = &[
    "CREATE TABLE storm.keep@ (id INT PRIMARY KEY, k INT, data TEXT)",
    "INSERT INTO storm.keep@ SELECT seq, seq, SHA2(seq, 224) FROM seq_1_to_800",
    "CREATE TABLE storm.a@ (id INT AUTO_INCREMENT PRIMARY KEY, data TEXT)",
    "CREATE TABLE storm.b@ LIKE storm.a@",
    "CREATE TABLE storm.moving@ LIKE storm.keep@",
    "INSERT INTO storm.moving@ SELECT * FROM storm.keep@",
    "CREATE TABLE storm.parts@ (id INT PRIMARY KEY, data TEXT) PARTITION BY RANGE (id)
        (PARTITION p0 VALUES LESS THAN (1000), PARTITION p1 VALUES LESS THAN (2000))",
];

fn step(worker: &mut Worker) -> mysql::Result<()> {
    if worker.step == 0 {
        play(worker, STAGE)?;
    }
    let turn = usize::try_from(worker.step).unwrap() + worker.number * 5;
    let own = own_scenes(worker.family);
    let scene = turn % (SCENES.len() + own.len());
    play(worker, SCENES.get(scene).unwrap_or_else(|| &own[scene - SCENES.len()]))
}

/// A statement that only waited too long is tried again: a scene must be played to its end.
pub(super) fn play(worker: &mut Worker, scene: &[impl AsRef<str>]) -> mysql::Result<()> {
    for statement in scene {
        let statement = statement.as_ref().replace('@', &worker.number.to_string());
        loop {
            match worker.conn.query_drop(&statement) {
                Err(error) if super::passing(&error) => {}
                other => break other?,
            }
        }
    }
    Ok(())
}
