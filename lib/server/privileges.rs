//! What the account may do, checked before anything is locked or copied.

use super::session::Session;
use crate::error::{Error, Result};

/// Checks that the account has all of `needed`, global privileges as `GRANT` spells them. What is missing is said in a
/// statement that an administrator can paste.
pub fn check(session: &mut Session, needed: &[&str]) -> Result<()> {
    let rows = session.records("SHOW GRANTS")?;
    let grants: Vec<String> = rows.into_iter().flat_map(std::collections::HashMap::into_values).collect();
    let missing = missing(&grants, needed);
    if missing.is_empty() {
        return Ok(());
    }
    let account = session.value("SELECT CURRENT_USER()")?.unwrap_or_default();
    let list = missing.join(", ");
    Err(Error::failed("server", format_args!("the account {account} lacks {list}"))
        .hint(format_args!("GRANT {list} ON *.* TO {};", quoted(&account))))
}

/// Which of `needed` none of the lines of `SHOW GRANTS` gives globally. Lines of the active role are among them.
fn missing<'a>(grants: &[String], needed: &[&'a str]) -> Vec<&'a str> {
    let mut held: Vec<&str> = Vec::new();
    for line in grants {
        if let Some((list, _)) = line.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON *.* TO ")) {
            held.extend(list.split(", "));
        }
    }
    let has = |name: &str| held.iter().any(|one| *one == name || *one == "ALL PRIVILEGES");
    needed.iter().copied().filter(|name| !has(name)).collect()
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

    #[test]
    fn only_global_grants_count() {
        let needed = ["RELOAD", "BINLOG MONITOR"];
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let all = lines(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]);
        assert!(missing(&all, &needed).is_empty());
        let one = lines(&["GRANT RELOAD, PROCESS ON *.* TO `b`@`%`", "GRANT ALL PRIVILEGES ON `sb`.* TO `b`@`%`"]);
        assert_eq!(missing(&one, &needed), ["BINLOG MONITOR"]);
        assert_eq!(missing(&lines(&["GRANT USAGE ON *.* TO `b`@`%`"]), &needed), needed);
        let role = lines(&["GRANT `r` TO `b`@`%`", "GRANT RELOAD, BINLOG MONITOR ON *.* TO `r`"]);
        assert!(missing(&role, &needed).is_empty());
        assert_eq!(quoted("b@%"), "'b'@'%'");
    }
}
