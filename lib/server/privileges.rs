//! Checks the privileges of the account before anything is locked or copied.

use super::session::Session;
use crate::error::{Error, Result};

/// A required privilege: its name in `GRANT`, and its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    privilege: &'static str,
    /// Database and table; `None` stands for `*`.
    object: (Option<String>, Option<String>),
    /// If the table lacks it, ask for it on the whole database.
    widely: bool,
}

impl Need {
    /// On `*.*`.
    pub fn global(privilege: &'static str) -> Self {
        Need { privilege, object: (None, None), widely: false }
    }

    /// On a table. A grant on its database or on everything is enough.
    pub fn on_table(privilege: &'static str, database: &str, table: &str) -> Self {
        Need { privilege, object: (Some(database.to_owned()), Some(table.to_owned())), widely: false }
    }

    /// On one of many tables of a database: the grant is suggested for the whole database.
    pub fn on_tables(privilege: &'static str, database: &str, table: &str) -> Self {
        Need { widely: true, ..Self::on_table(privilege, database, table) }
    }

    /// On a database.
    pub fn on_database(privilege: &'static str, database: &str) -> Self {
        Need { privilege, object: (Some(database.to_owned()), None), widely: false }
    }

    /// `*.*`, `` `db`.* ``, `` `db`.`table` ``.
    fn object(&self) -> String {
        let part = |name: &Option<String>| name.as_deref().map_or_else(|| "*".into(), quote);
        let table = if self.widely { &None } else { &self.object.1 };
        format!("{}.{}", part(&self.object.0), part(table))
    }
}

/// Checks that the account has all required privileges. Missing ones are reported as statements that an administrator
/// can paste.
pub fn check(session: &mut Session, needed: &[Need]) -> Result<()> {
    let grants = grants(session)?;
    let missing = missing(&grants, needed);
    if missing.is_empty() {
        return Ok(());
    }
    let account = session.value("SELECT CURRENT_USER()")?.unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for need in &missing {
        if !names.contains(&need.privilege) {
            names.push(need.privilege);
        }
    }
    Err(Error::failed("server", format_args!("the account {account} lacks {}", names.join(", ")))
        .hint(statements(&missing, &quoted(&account))))
}

/// True if the account has all required privileges.
pub fn has(session: &mut Session, needed: &[Need]) -> Result<bool> {
    Ok(missing(&grants(session)?, needed).is_empty())
}

fn grants(session: &mut Session) -> Result<Vec<String>> {
    let rows = session.records("SHOW GRANTS")?;
    Ok(rows.into_iter().flat_map(std::collections::HashMap::into_values).collect())
}

/// Those of `needed` that no line of `SHOW GRANTS` gives. The lines include those of active roles.
fn missing<'a>(grants: &[String], needed: &'a [Need]) -> Vec<&'a Need> {
    let granted: Vec<(&str, &str, &str)> = grants.iter().filter_map(|line| grant(line)).collect();
    let has = |need: &Need| {
        granted.iter().any(|(list, database, table)| {
            let (wanted_database, wanted_table) = (need.object.0.as_deref(), need.object.1.as_deref());
            let there = (*database == "*" || wanted_database.is_some_and(|wanted| like(wanted, unquoted(database))))
                && (*table == "*" || wanted_table.is_some_and(|wanted| wanted == unquoted(table)));
            there
                && list
                    .split(',')
                    .any(|one| matches!(one.trim(), "ALL PRIVILEGES" | "ALL") || one.trim() == need.privilege)
        })
    };
    needed.iter().filter(|need| !has(need)).collect()
}

/// The list of privileges, the database and the table of a grant line.
fn grant(line: &str) -> Option<(&str, &str, &str)> {
    let (list, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
    let (object, _) = rest.split_once(" TO ")?;
    if let Some(table) = object.strip_prefix("*.") {
        return Some((list, "*", table));
    }
    // A name may contain a dot.
    let (database, table) = object.split_once("`.")?;
    Some((list, object.get(..=database.len())?, table))
}

/// One statement per object.
fn statements(missing: &[&Need], account: &str) -> String {
    let mut objects: Vec<(String, Vec<&str>)> = Vec::new();
    for need in missing {
        let object = need.object();
        match objects.iter_mut().find(|(one, _)| *one == object) {
            Some((_, list)) if list.contains(&need.privilege) => {}
            Some((_, list)) => list.push(need.privilege),
            None => objects.push((object, vec![need.privilege])),
        }
    }
    let lines = objects.iter().map(|(object, list)| format!("GRANT {} ON {object} TO {account};", list.join(", ")));
    lines.collect::<Vec<_>>().join(" ")
}

/// A quoted SQL name.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn unquoted(name: &str) -> &str {
    name.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).unwrap_or(name)
}

/// `LIKE` with backslash: the database in a grant is a pattern.
fn like(name: &str, pattern: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = pattern_chars.as_str();
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| like(name.get(at..).unwrap_or(""), rest))
        }
        Some(first) => {
            let literal = if first == '\\' { pattern_chars.next() } else { (first != '_').then_some(first) };
            let mut name_chars = name.chars();
            let Some(letter) = name_chars.next() else { return false };
            literal.is_none_or(|literal| literal == letter) && like(name_chars.as_str(), pattern_chars.as_str())
        }
    }
}

/// `'user'@'host'` from `user@host`.
fn quoted(account: &str) -> String {
    match account.rsplit_once('@') {
        Some((user, host)) => format!("'{user}'@'{host}'"),
        None => format!("'{account}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    fn lacks(grants: &[&str], needed: &[Need]) -> Vec<&'static str> {
        missing(&lines(grants), needed).iter().map(|need| need.privilege).collect()
    }

    #[test]
    fn only_global_grants_give_global_privileges() {
        let needed = ["RELOAD", "BINLOG MONITOR"].map(Need::global);
        assert!(lacks(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"], &needed).is_empty());
        let one = ["GRANT RELOAD, PROCESS ON *.* TO `b`@`%`", "GRANT ALL PRIVILEGES ON `sb`.* TO `b`@`%`"];
        assert_eq!(lacks(&one, &needed), ["BINLOG MONITOR"]);
        assert_eq!(lacks(&["GRANT USAGE ON *.* TO `b`@`%`"], &needed), ["RELOAD", "BINLOG MONITOR"]);
        let role = ["GRANT `r` TO `b`@`%`", "GRANT RELOAD, BINLOG MONITOR ON *.* TO `r`"];
        assert!(lacks(&role, &needed).is_empty());
        // MySQL writes dynamic privileges without blanks.
        assert!(lacks(&["GRANT RELOAD,BINLOG MONITOR ON *.* TO `b`@`%`"], &needed).is_empty());
        assert_eq!(quoted("b@%"), "'b'@'%'");
    }

    #[test]
    fn a_wider_grant_gives_a_table_too() {
        let needed = [Need::on_table("SELECT", "my_db", "a.b"), Need::on_database("LOCK TABLES", "my_db")];
        assert!(lacks(&["GRANT SELECT, LOCK TABLES ON *.* TO `b`@`%`"], &needed).is_empty());
        assert!(lacks(&["GRANT SELECT, LOCK TABLES ON `my\\_db`.* TO `b`@`%`"], &needed).is_empty());
        assert!(lacks(&["GRANT SELECT, LOCK TABLES ON `my%`.* TO `b`@`%`"], &needed).is_empty());
        assert_eq!(lacks(&["GRANT SELECT, LOCK TABLES ON `my\\_d`.* TO `b`@`%`"], &needed), ["SELECT", "LOCK TABLES"]);
        assert_eq!(lacks(&["GRANT SELECT ON `my_db`.`a.b` TO `b`@`%`"], &needed), ["LOCK TABLES"]);
        assert_eq!(lacks(&["GRANT SELECT ON `my_db`.`a` TO `b`@`%`"], &needed), ["SELECT", "LOCK TABLES"]);
    }

    #[test]
    fn what_is_missing_is_a_statement_for_each_object() {
        let needed = [Need::global("RELOAD"), Need::on_table("SELECT", "p", "t"), Need::global("PROCESS")];
        let missing: Vec<&Need> = needed.iter().collect();
        let expect = "GRANT RELOAD, PROCESS ON *.* TO 'b'@'%'; GRANT SELECT ON `p`.`t` TO 'b'@'%';";
        assert_eq!(statements(&missing, "'b'@'%'"), expect);
    }
}
