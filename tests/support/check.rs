//! Checks whether a restored directory equals the source at the recorded position. That it starts is not enough.
//!
//! The checks (`facts/mariadb-hot-backup#evidence`): the sum of balances; each balance against the ledger; `CHECK TABLE
//! … EXTENDED` on every table; then the source's binlog is replayed from the recorded position on, without an error,
//! and `CHECKSUM TABLE` of every table is compared with the source. The replay detects what no `CHECK TABLE` can: a
//! copy that is slightly ahead of its position, or behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::load::OPENING;
use super::{Family, Pipeline, Server};

/// The problems that were found; empty if there are none.
#[derive(Debug, Default)]
pub struct Verdict {
    pub problems: Vec<String>,
    /// Tables that were compared.
    pub tables: usize,
}

impl Verdict {
    #[track_caller]
    pub fn assert_good(&self) {
        assert!(self.problems.is_empty(), "the restored copy is not the source:\n{}", self.problems.join("\n"));
        assert!(self.tables > 0, "nothing was compared");
    }

    /// For tests of the check itself.
    #[track_caller]
    pub fn assert_bad(&self, about: &str) {
        assert!(
            self.problems.iter().any(|problem| problem.contains(about)),
            "no problem about {about:?} was found:\n{}",
            self.problems.join("\n")
        );
    }

    fn add(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }
}

/// The binlog position of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub file: String,
    pub offset: u64,
    pub gtid: String,
}

/// Reads `xtrabackup_binlog_info`, or what it is called since 11.1.
pub fn position(restored: &Path) -> Option<Position> {
    let text = ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"]
        .iter()
        .find_map(|name| fs::read_to_string(restored.join(name)).ok())?;
    let mut fields = text.trim_end().split('\t');
    Some(Position {
        file: fields.next()?.to_owned(),
        offset: fields.next()?.parse().ok()?,
        gtid: fields.next().unwrap_or_default().to_owned(),
    })
}

/// All checks. The source must be idle and have its binlogs; the directory must be prepared. A server is started on it
/// and applies the source's later events, so it can be checked only once.
pub fn restored(source: &Server, directory: &Path) -> Verdict {
    let Some(recorded) = position(directory) else {
        return Verdict { problems: vec!["no binlog position is recorded".into()], ..Verdict::default() };
    };
    restored_at(source, directory, &recorded)
}

/// As [`restored`], for a position that is known from elsewhere.
pub fn restored_at(source: &Server, directory: &Path, recorded: &Position) -> Verdict {
    let mut verdict = Verdict::default();
    let copy = match source.twin(directory).try_start() {
        Ok(copy) => copy,
        Err(log) => {
            verdict.add(format!("no server starts on it:\n{log}"));
            return verdict;
        }
    };
    complaints(&copy, &mut verdict);
    bank(&copy, &mut verdict);
    tables_are_sound(&copy, &mut verdict);
    gtid(source, &copy, recorded, &mut verdict);
    if let Err(story) = replay(source, &copy, recorded) {
        verdict.add(format!("the binlog cannot be replayed from {} {}:\n{story}", recorded.file, recorded.offset));
    }
    compare(source, &copy, &mut verdict);
    verdict
}

/// Only checks without a source: it starts, its tables are sound, and the bank's sums agree. For copies without a
/// position.
pub fn sound(source: &Server, directory: &Path) -> Verdict {
    let mut verdict = Verdict::default();
    match source.twin(directory).try_start() {
        Ok(copy) => {
            complaints(&copy, &mut verdict);
            bank(&copy, &mut verdict);
            tables_are_sound(&copy, &mut verdict);
            verdict.tables = tables(&copy).len();
        }
        Err(log) => verdict.add(format!("no server starts on it:\n{log}")),
    }
    verdict
}

/// Both servers have the same tables, definitions and rows. For copies of an idle source.
pub fn same(source: &Server, copy: &Server) -> Verdict {
    let mut verdict = Verdict::default();
    compare(source, copy, &mut verdict);
    verdict
}

/// What the server on the copy says of it.
fn complaints(copy: &Server, verdict: &mut Verdict) {
    for line in copy.log().lines().filter(|line| line.contains("[ERROR]")) {
        verdict.add(format!("log: {line}"));
    }
}

/// Constant sum, and every balance from its ledger.
fn bank(copy: &Server, verdict: &mut Verdict) {
    if copy.rows("SHOW DATABASES LIKE 'bank'").is_empty() {
        return;
    }
    let sum = copy
        .rows(&format!("SELECT COUNT(*), SUM(balance) FROM bank.accounts HAVING SUM(balance) <> COUNT(*) * {OPENING}"));
    for row in sum {
        verdict.add(format!("the balances of {} accounts sum up to {}", row[0], row[1]));
    }
    let wrong = copy.rows(&format!(
        "SELECT a.id, a.balance, {OPENING} + COALESCE(l.moved, 0) AS due FROM bank.accounts a LEFT JOIN
            (SELECT id, SUM(amount) AS moved FROM (SELECT target AS id, amount FROM bank.ledger UNION ALL
             SELECT source, -amount FROM bank.ledger) entries GROUP BY id) l ON l.id = a.id
         WHERE a.balance <> {OPENING} + COALESCE(l.moved, 0)"
    ));
    if let Some(row) = wrong.first() {
        let count = wrong.len();
        verdict
            .add(format!("{count} balances differ from the ledger; account {} has {}, not {}", row[0], row[1], row[2]));
    }
}

/// `CHECK TABLE … EXTENDED` of every table, those of the system too.
fn tables_are_sound(copy: &Server, verdict: &mut Verdict) {
    if copy.flavour().family() == Family::Mariadb {
        // What purge takes away just then is told as a fault.
        copy.sql("SET GLOBAL innodb_max_purge_lag_wait=0");
    }
    for name in system_tables(copy).into_iter().chain(tables(copy)) {
        for row in copy.rows(&format!("CHECK TABLE {name} EXTENDED")) {
            let [_, _, kind, text] = row.as_slice() else { continue };
            let fine = match kind.as_str() {
                "status" => text == "OK",
                "note" => true,
                // A table that was open when it was copied; nothing is wrong with it.
                "warning" => text.contains("using or hasn't closed the table"),
                _ => false,
            };
            if !fine {
                verdict.add(format!("CHECK TABLE {name}: {kind}: {text}"));
            }
        }
    }
}

/// The recorded GTID is the one the source's binlog has at the recorded position; on MySQL, the set that the copy
/// itself believes to hold.
fn gtid(source: &Server, copy: &Server, recorded: &Position, verdict: &mut Verdict) {
    let (whose, there) = match source.flavour().family() {
        Family::Mariadb => {
            let at = format!("{} {}", recorded.file, recorded.offset);
            (at, source.value(&format!("SELECT BINLOG_GTID_POS('{}', {})", recorded.file, recorded.offset)))
        }
        Family::Mysql => ("the copy".to_owned(), copy.value("SELECT REPLACE(@@gtid_executed, '\\n', '')")),
    };
    if there != recorded.gtid {
        verdict.add(format!("GTID {} is recorded, but {whose} is at {there}", recorded.gtid));
    }
}

/// Applies the source's events after the position to the copy.
pub fn replay(source: &Server, copy: &Server, from: &Position) -> Result<(), String> {
    let logs: Vec<PathBuf> = source
        .rows("SHOW BINARY LOGS")
        .iter()
        .map(|row| row[0].clone())
        .skip_while(|name| *name != from.file)
        .map(|name| source.data().join(name))
        .collect();
    if logs.is_empty() {
        return Err(format!("the source has no {}", from.file));
    }
    let mut events = source.flavour().binlog();
    events.arg("--no-defaults").arg(format!("--start-position={}", from.offset)).args(logs);
    let mut client = source.flavour().client();
    client.args(copy.options()).args(["--binary-mode", "--max-allowed-packet=1G"]);
    let run = Pipeline::new().stage(events).stage(client).run();
    if run.codes() == [0, 0] { Ok(()) } else { Err(run.story()) }
}

/// Definition and checksum of every table.
fn compare(source: &Server, copy: &Server, verdict: &mut Verdict) {
    let (theirs, ours) = (contents(source), contents(copy));
    verdict.tables = theirs.len();
    for (name, want) in &theirs {
        match ours.get(name) {
            None => verdict.add(format!("{name} is missing")),
            Some(have) if have != want => verdict.add(format!("{name} differs: {have:?}, not {want:?}")),
            Some(_) => {}
        }
    }
    for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
        verdict.add(format!("{name} should not be there"));
    }
}

/// Of each table, view, trigger, routine and account: what defines it and what it holds.
fn contents(server: &Server) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for name in tables(server) {
        let mut definition = server.rows(&format!("SHOW CREATE TABLE {name}"))[0][1].clone();
        // The next number is not part of the data: InnoDB keeps it apart, and rolled back inserts move it.
        if let Some((before, after)) = definition.split_once(" AUTO_INCREMENT=") {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            definition = format!("{before}{after}");
        }
        // Nor is where its file is; a copy has all in one place.
        if let Some((before, place)) = definition.split_once(" DATA DIRECTORY='") {
            definition = format!("{before}{}", place.split_once('\'').map_or("", |(_, after)| after));
        }
        let sum = server.rows(&format!("CHECKSUM TABLE {name} EXTENDED"))[0][1].clone();
        all.insert(name, format!("{sum} {definition}"));
    }
    let accounts = match server.flavour().family() {
        Family::Mariadb => "priv FROM mysql.global_priv",
        Family::Mysql => "HEX(authentication_string) FROM mysql.user",
    };
    let rest = server.rows(&format!(
        "SELECT CONCAT('view ', table_schema, '.', table_name), view_definition FROM information_schema.views WHERE {OURS}
         UNION ALL SELECT CONCAT('trigger ', trigger_schema, '.', trigger_name), action_statement
            FROM information_schema.triggers WHERE trigger_schema NOT IN ({SYSTEM})
         UNION ALL SELECT CONCAT('routine ', routine_schema, '.', routine_name), routine_definition
            FROM information_schema.routines WHERE routine_schema NOT IN ({SYSTEM})
         UNION ALL SELECT CONCAT('database ', schema_name), default_character_set_name
            FROM information_schema.schemata WHERE schema_name NOT IN ({SYSTEM})
         UNION ALL SELECT CONCAT('account ', user, '@', host), {accounts}"
    ));
    all.extend(rest.into_iter().map(|row| (row[0].clone(), row[1].clone())));
    all
}

const SYSTEM: &str = "'mysql', 'sys', 'information_schema', 'performance_schema'";
const OURS: &str = "table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')";

/// Names, quoted, of all base tables outside the system's databases.
pub fn tables(server: &Server) -> Vec<String> {
    named(server, OURS)
}

fn system_tables(server: &Server) -> Vec<String> {
    named(server, "table_schema IN ('mysql', 'sys')")
}

fn named(server: &Server, which: &str) -> Vec<String> {
    let query = format!(
        "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables
         WHERE table_type IN ('BASE TABLE', 'SEQUENCE') AND {which} ORDER BY 1"
    );
    server.rows(&query).into_iter().map(|mut row| row.remove(0)).collect()
}
