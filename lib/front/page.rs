//! The tables of options, for a terminal and for the manual page.

use std::fmt::Write;

use super::line::Grammar;
use super::table::{BACKUP, COMMON, Fate, INNOBACKUPEX, Row, Value, XBCRYPT, XBSTREAM};

/// `-u, --user=VALUE`
fn names(row: &Row) -> String {
    let letter = row.letter.map_or(String::new(), |letter| format!("-{letter}, "));
    let also = row.also.map_or(String::new(), |name| format!(", --{name}"));
    let value = match row.value {
        Value::None => "",
        Value::Needed => "=VALUE",
        Value::Optional => "[=VALUE]",
    };
    format!("{letter}--{}{value}{also}", row.name)
}

fn told(row: &Row) -> String {
    match row.fate {
        Fate::Ours => row.text.to_owned(),
        Fate::Ignored => format!("ignored: {}", row.text),
        Fate::Refused => format!("refused: {}", row.text),
    }
}

/// What `--help` prints. Scripts look for options in it.
pub(super) fn help(name: &str, grammar: &Grammar) -> String {
    let mut text = format!(
        "{name}, carried out by xb-tools {}; see xb-front(1)\n\nOptions, and what becomes of them:\n",
        env!("CARGO_PKG_VERSION")
    );
    for row in grammar.tables.iter().copied().flatten() {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "  {:<38} {}", names(row), told(row));
    }
    text
}

/// The tables for the manual page.
pub fn troff() -> String {
    let tables = [
        ("mariadb\\-backup and xtrabackup", BACKUP),
        ("innobackupex", INNOBACKUPEX),
        ("Those, mariadb\\-backup and xtrabackup", COMMON),
        ("mbstream and xbstream", XBSTREAM),
        ("xbcrypt", XBCRYPT),
    ];
    let mut text = String::new();
    for (title, rows) in tables {
        let _ = writeln!(text, ".SS {title}");
        for row in rows {
            let _ = writeln!(text, ".TP\n.B {}\n{}", escaped(&names(row)), escaped(&told(row)));
        }
    }
    text.trim_end().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
