//! Bank transfers over several tables, one in ten rolled back.

use mysql::prelude::Queryable;

use super::{Family, Kind, Worker, statements};

/// How many accounts there are, numbered from 1.
const ACCOUNTS: u64 = 1000;
/// What each of them holds at first.
pub const OPENING: i64 = 1_000_000;

pub(super) static BANK: Kind = Kind { name: "bank", schema, step };

fn schema(_: Family) -> Vec<String> {
    statements(&format!(
        "CREATE DATABASE IF NOT EXISTS bank;
         CREATE TABLE bank.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL, note VARCHAR(200) NOT NULL,
            KEY (balance)) ENGINE=InnoDB;
         CREATE TABLE bank.ledger (id BIGINT AUTO_INCREMENT PRIMARY KEY, source INT NOT NULL, target INT NOT NULL,
            amount BIGINT NOT NULL, note VARCHAR(200) NOT NULL, KEY (source), KEY (target)) ENGINE=InnoDB;
         CREATE TABLE bank.open_orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, source INT NOT NULL, data BLOB,
            KEY (source)) ENGINE=InnoDB ROW_FORMAT=REDUNDANT;
         INSERT INTO bank.accounts SELECT seq, {OPENING}, REPEAT('n', 100) FROM seq_1_to_{ACCOUNTS}"
    ))
}

fn step(worker: &mut Worker) -> mysql::Result<()> {
    let random = &mut worker.random;
    let (source, target) = (1 + random.below(ACCOUNTS), 1 + random.below(ACCOUNTS));
    let amount = random.below(500);
    let length = usize::try_from(random.below(180)).unwrap();
    let note = random.text(length);
    let undo = random.chance(10);
    let deliver = random.chance(45);
    let conn = &mut worker.conn;
    conn.query_drop("START TRANSACTION")?;
    conn.exec_drop("UPDATE bank.accounts SET balance = balance - ?, note = ? WHERE id = ?", (amount, &note, source))?;
    conn.exec_drop("UPDATE bank.accounts SET balance = balance + ? WHERE id = ?", (amount, target))?;
    conn.exec_drop(
        "INSERT INTO bank.ledger (source, target, amount, note) VALUES (?, ?, ?, ?)",
        (source, target, amount, &note),
    )?;
    if deliver {
        conn.exec_drop("DELETE FROM bank.open_orders WHERE source BETWEEN ? AND ?", (source, source + 2))?;
    } else {
        conn.exec_drop("INSERT INTO bank.open_orders (source, data) VALUES (?, REPEAT(?, 5))", (source, &note))?;
    }
    conn.query_drop(if undo { "ROLLBACK" } else { "COMMIT" })
}
