//! What is rare and has records of its own in the log: spatial indexes, instant ALTER, rows of many fields in the oldest
//! format, pages that merge because most rows go, keys so long that pages have few of them.

use mysql::prelude::Queryable;

use super::ddl::play;
use super::{Family, Kind, Worker, statements};

pub(super) static ODD: Kind = Kind { name: "odd", schema, step };

fn schema(_: Family) -> Vec<String> {
    statements("CREATE DATABASE IF NOT EXISTS odd")
}

const STAGE: &[&str] = &[
    "CREATE TABLE odd.places@ (id INT PRIMARY KEY, p POINT NOT NULL, SPATIAL INDEX (p)) ENGINE=InnoDB",
    "INSERT INTO odd.places@ SELECT seq, POINT(seq % 97, seq % 89) FROM seq_1_to_2000",
    "CREATE TABLE odd.instant@ (id INT PRIMARY KEY, a INT, b VARCHAR(200), KEY (a)) ENGINE=InnoDB",
    "INSERT INTO odd.instant@ SELECT seq, seq % 31, SHA2(seq, 224) FROM seq_1_to_1500",
    "CREATE TABLE odd.wide@ (id INT PRIMARY KEY, c1 VARCHAR(60), c2 INT, c3 VARCHAR(90), c4 CHAR(20), c5 TEXT,
        c6 BIGINT, c7 DATE, c8 VARCHAR(300), c9 INT, KEY (c2), KEY (c8(100))) ENGINE=InnoDB CHARACTER SET latin1 ROW_FORMAT=REDUNDANT",
    "INSERT INTO odd.wide@ SELECT seq, SHA2(seq, 224), seq % 13, NULL, 'x', REPEAT('y', seq % 400), seq, NULL, SHA2(seq, 256), NULL FROM seq_1_to_1500",
    "CREATE TABLE odd.long@ (k VARCHAR(700) CHARACTER SET latin1 PRIMARY KEY, v INT, KEY (v, k)) ENGINE=InnoDB",
    "INSERT INTO odd.long@ SELECT CONCAT(SHA2(seq, 256), REPEAT('k', 500)), seq FROM seq_1_to_600",
];

/// One after another; each leaves what it found.
const SCENES: &[&[&str]] = &[
    &[
        "DELETE FROM odd.places@ WHERE id % 3 = 0",
        "INSERT INTO odd.places@ SELECT seq * 3, POINT(seq % 53, seq % 71) FROM seq_1_to_666",
    ],
    &[
        "ALTER TABLE odd.instant@ ADD COLUMN extra INT DEFAULT 5, ALGORITHM=INSTANT",
        "UPDATE odd.instant@ SET extra = a WHERE id % 4 = 0",
        "INSERT INTO odd.instant@ (id, a, b, extra) SELECT seq, 1, 'new', 2 FROM seq_5001_to_5200",
    ],
    &["ALTER TABLE odd.instant@ DROP COLUMN extra, ALGORITHM=INSTANT", "DELETE FROM odd.instant@ WHERE id > 5000"],
    &[
        "ALTER TABLE odd.instant@ MODIFY b VARCHAR(200) FIRST, ALGORITHM=INSTANT",
        "ALTER TABLE odd.instant@ MODIFY b VARCHAR(200) AFTER id, ALGORITHM=INSTANT",
        "UPDATE odd.instant@ SET b = REVERSE(b) WHERE id % 6 = 0",
    ],
    &[
        "UPDATE odd.wide@ SET c3 = SHA2(id, 256), c5 = REPEAT('z', id % 900) WHERE id % 3 = 1",
        "UPDATE odd.wide@ SET c3 = NULL, c9 = id WHERE id % 2 = 1",
    ],
    &[
        "DELETE FROM odd.wide@ WHERE id % 10 <> 0",
        "INSERT IGNORE INTO odd.wide@ SELECT seq, SHA2(seq, 224), seq % 13, NULL, 'x', REPEAT('y', seq % 400), seq, NULL, SHA2(seq, 256), NULL FROM seq_1_to_1500",
    ],
    &[
        "DELETE FROM odd.long@ WHERE v % 7 <> 0",
        "INSERT IGNORE INTO odd.long@ SELECT CONCAT(SHA2(seq, 256), REPEAT('k', 500)), seq FROM seq_1_to_600",
    ],
    &["UPDATE odd.places@ SET p = POINT(id % 41, id % 43) WHERE id % 5 = 0"],
    &["UPDATE odd.long@ SET v = v + 7000 WHERE v % 3 = 0", "UPDATE odd.long@ SET v = v - 7000 WHERE v >= 7000"],
];

fn step(worker: &mut Worker) -> mysql::Result<()> {
    if worker.step == 0 {
        play(worker, STAGE)?;
    }
    // A transaction of its own that is sometimes rolled back.
    if worker.random.chance(30) {
        let table = format!("odd.wide{}", worker.number);
        worker.conn.query_drop("START TRANSACTION")?;
        let id = worker.random.below(1500);
        worker.conn.query_drop(format!("DELETE FROM {table} WHERE id BETWEEN {id} AND {id} + 40"))?;
        worker.conn.query_drop("ROLLBACK")?;
    }
    let turn = usize::try_from(worker.step).unwrap() + worker.number * 3;
    play(worker, SCENES[turn % SCENES.len()])
}
