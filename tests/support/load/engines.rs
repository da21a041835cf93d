//! Tables that are not InnoDB.

use mysql::prelude::Queryable;

use super::{Kind, Worker, statements};

pub(super) static ENGINES: Kind = Kind { name: "engines", schema, step };

const TABLES: [&str; 4] = ["aria", "aria_plain", "myisam", "aria_dynamic"];

fn schema() -> Vec<String> {
    let mut all = statements(
        "CREATE DATABASE IF NOT EXISTS engines;
         CREATE TABLE engines.aria (id INT PRIMARY KEY, data TEXT, KEY (data(20))) ENGINE=Aria TRANSACTIONAL=1;
         CREATE TABLE engines.aria_plain (id INT PRIMARY KEY, data TEXT) ENGINE=Aria TRANSACTIONAL=0;
         CREATE TABLE engines.aria_dynamic (id INT PRIMARY KEY, data TEXT) ENGINE=Aria TRANSACTIONAL=0
            ROW_FORMAT=DYNAMIC;
         CREATE TABLE engines.myisam (id INT PRIMARY KEY, data TEXT, FULLTEXT KEY (data)) ENGINE=MyISAM;
         CREATE TABLE engines.csv (id INT NOT NULL, data VARCHAR(300) NOT NULL) ENGINE=CSV;
         CREATE TABLE engines.m1 (id INT NOT NULL, data TEXT, KEY (id)) ENGINE=MyISAM;
         CREATE TABLE engines.m2 (id INT NOT NULL, data TEXT, KEY (id)) ENGINE=MyISAM;
         CREATE TABLE engines.merge (id INT NOT NULL, data TEXT, KEY (id)) ENGINE=MERGE UNION=(engines.m1, engines.m2)
            INSERT_METHOD=LAST;
         CREATE VIEW engines.busy AS SELECT id FROM engines.aria WHERE id < 100;
         CREATE TRIGGER engines.copy AFTER INSERT ON engines.m1 FOR EACH ROW
            INSERT INTO engines.csv VALUES (NEW.id, 'from m1');
         CREATE PROCEDURE engines.nothing() SELECT 1",
    );
    for table in TABLES {
        all.push(format!("INSERT INTO engines.{table} SELECT seq, REPEAT(MD5(seq), 20) FROM seq_1_to_500"));
    }
    all
}

fn step(worker: &mut Worker) -> mysql::Result<()> {
    let random = &mut worker.random;
    let table = *random.pick(&TABLES);
    let id = 1 + random.below(2000);
    let length = usize::try_from(random.below(2000)).unwrap();
    let text = random.text(length);
    let what = random.below(10);
    let conn = &mut worker.conn;
    match what {
        0 => conn.exec_drop("INSERT INTO engines.csv VALUES (?, LEFT(?, 200))", (id, &text)),
        1 => conn.exec_drop("INSERT INTO engines.m1 VALUES (?, ?)", (id, &text)),
        2 | 3 => conn.exec_drop(format!("DELETE FROM engines.{table} WHERE id = ?"), (id,)),
        _ => conn.exec_drop(format!("REPLACE INTO engines.{table} VALUES (?, ?)"), (id, &text)),
    }
}
