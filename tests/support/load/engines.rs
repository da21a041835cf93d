//! Tables that are not InnoDB.

use mysql::prelude::Queryable;

use super::{Family, Kind, Worker, statements};

pub(super) static ENGINES: Kind = Kind { name: "engines", schema, step };
pub(super) static ARCHIVE: Kind = Kind { name: "archive", schema: archive, step: append };

/// Tables whose rows come and go.
fn tables(family: Family) -> &'static [(&'static str, &'static str)] {
    match family {
        Family::Mariadb => &[
            ("aria", "KEY (data(20))) ENGINE=Aria TRANSACTIONAL=1"),
            ("aria_plain", "KEY (id)) ENGINE=Aria TRANSACTIONAL=0"),
            ("myisam", "FULLTEXT KEY (data)) ENGINE=MyISAM"),
            ("aria_dynamic", "KEY (id)) ENGINE=Aria TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC"),
        ],
        Family::Mysql => &[
            ("myisam", "FULLTEXT KEY (data)) ENGINE=MyISAM"),
            ("myisam_dynamic", "KEY (data(20))) ENGINE=MyISAM ROW_FORMAT=DYNAMIC"),
        ],
    }
}

fn schema(family: Family) -> Vec<String> {
    let mut all = statements("CREATE DATABASE IF NOT EXISTS engines");
    for (table, format) in tables(family) {
        all.push(format!("CREATE TABLE engines.{table} (id INT PRIMARY KEY, data TEXT, {format}"));
        all.push(format!("INSERT INTO engines.{table} SELECT seq, REPEAT(SHA2(seq, 224), 20) FROM seq_1_to_500"));
    }
    all.extend(statements(
        "CREATE TABLE engines.csv (id INT NOT NULL, data VARCHAR(300) NOT NULL) ENGINE=CSV;
         CREATE TABLE engines.m1 (id INT NOT NULL, data TEXT, KEY (id)) ENGINE=MyISAM;
         CREATE TABLE engines.m2 (id INT NOT NULL, data TEXT, KEY (id)) ENGINE=MyISAM;
         CREATE TABLE engines.merge (id INT NOT NULL, data TEXT, KEY (id)) ENGINE=MERGE UNION=(engines.m1, engines.m2)
            INSERT_METHOD=LAST;
         CREATE VIEW engines.busy AS SELECT id FROM engines.myisam WHERE id < 100;
         CREATE TRIGGER engines.copy AFTER INSERT ON engines.m1 FOR EACH ROW
            INSERT INTO engines.csv VALUES (NEW.id, 'from m1');
         CREATE PROCEDURE engines.nothing() SELECT 1",
    ));
    all
}

fn step(worker: &mut Worker) -> mysql::Result<()> {
    let random = &mut worker.random;
    let (table, _) = *random.pick(tables(worker.family));
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

fn archive(_: Family) -> Vec<String> {
    statements(
        "CREATE DATABASE archive; CREATE TABLE archive.rows (id INT NOT NULL, data TEXT) ENGINE=ARCHIVE;
         INSERT INTO archive.rows SELECT seq, REPEAT(SHA2(seq, 224), 20) FROM seq_1_to_500",
    )
}

/// Such a table takes nothing but new rows. Readers keep it open.
fn append(worker: &mut Worker) -> mysql::Result<()> {
    let (id, length) = (worker.random.below(2000), usize::try_from(worker.random.below(2000)).unwrap());
    if worker.random.chance(20) {
        return worker.conn.query_drop("SELECT MAX(data) FROM archive.rows");
    }
    worker.conn.exec_drop("INSERT INTO archive.rows VALUES (?, ?)", (id, worker.random.text(length)))
}
