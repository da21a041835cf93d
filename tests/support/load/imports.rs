//! Tables whose files are discarded and imported again, and then change places with others. Between FLUSH TABLES … FOR
//! EXPORT and IMPORT TABLESPACE nothing is written to the table, so that it has the same rows on a server that replays the
//! binary log, which has none of that.

use std::time::Duration;

use super::ddl::play;
use super::{Family, Kind, Worker, statements};
use crate::support::import;

pub(super) static IMPORTS: Kind = Kind { name: "imports", schema, step };

/// A row at a time, so that a backup may see none or several imports.
const PAUSE: Duration = Duration::from_millis(10);

fn schema(_: Family) -> Vec<String> {
    statements("CREATE DATABASE IF NOT EXISTS imports")
}

const STAGE: &[&str] = &[
    "CREATE TABLE imports.a@ (id INT PRIMARY KEY, k INT, data VARCHAR(300), KEY (k))",
    "INSERT INTO imports.a@ SELECT seq, seq, REPEAT(SHA2(seq, 224), 4) FROM seq_1_to_800",
    "CREATE TABLE imports.b@ LIKE imports.a@",
    "INSERT INTO imports.b@ SELECT id, k + 1, REVERSE(data) FROM imports.a@",
    "CREATE TABLE imports.parts@ (id INT PRIMARY KEY, k INT, data VARCHAR(300), KEY (k)) PARTITION BY RANGE (id)
        (PARTITION low VALUES LESS THAN (1000), PARTITION high VALUES LESS THAN MAXVALUE)",
    "INSERT INTO imports.parts@ SELECT id, k + 2, data FROM imports.a@",
];

fn step(worker: &mut Worker) -> mysql::Result<()> {
    if worker.step == 0 {
        play(worker, STAGE)?;
    }
    std::thread::sleep(PAUSE);
    let table = *worker.random.pick(&["a@", "b@"]);
    match worker.random.below(60) {
        0 => {
            let table = table.replace('@', &worker.number.to_string());
            import::table(&mut worker.conn, &worker.data, &worker.home, "imports", &table, &table)
        }
        1 => {
            play(worker, &["RENAME TABLE imports.a@ TO imports.x@, imports.b@ TO imports.a@, imports.x@ TO imports.b@"])
        }
        2 => play(worker, &[format!("ALTER TABLE imports.parts@ EXCHANGE PARTITION low WITH TABLE imports.{table}")]),
        some => {
            let table = *worker.random.pick(&["a@", "b@", "parts@"]);
            let id = 1 + worker.random.below(999);
            let statement = match some % 4 {
                0 => format!("DELETE FROM imports.{table} WHERE id = {id}"),
                1 => format!("UPDATE imports.{table} SET k = k + 1 WHERE id % 50 = {}", id % 50),
                _ => format!("REPLACE INTO imports.{table} VALUES ({id}, {some}, REPEAT(SHA2({id}{some}, 224), 4))"),
            };
            play(worker, &[statement])
        }
    }
}
