//! What stays when a joiner clears its data directory.

use regex::Regex;

use super::asked::refused;
use crate::error::Result;

/// `cpat` if the option files have none: certificates, logs, and what upgrades of packages leave.
pub(super) const USUAL: &str = r".*\.pem$\|.*\.err$\|.*\.log$\|.*RPM_UPGRADE_MARKER$\|.*RPM_UPGRADE_HISTORY$";

/// Names at the top of the data directory that stay whatever `cpat` says: they are the server's, or ours.
const ALWAYS: [&str; 12] = [
    "grastate.dat",
    "gvwstate.dat",
    "galera.cache",
    "sst_in_progress",
    "wsrep_sst.pid",
    ".sst",
    "lost+found",
    "auto.cnf",
    "innobackup.backup.log",
    "innobackup.receive.log",
    "innobackup.prepare.log",
    "innobackup.move.log",
];

/// True if this name at the top of the data directory stays in any case.
pub(super) fn always(name: &str) -> bool {
    ALWAYS.contains(&name) || name.starts_with("gcache.page.")
}

/// `cpat`: a regular expression of find(1) for whole paths.
pub(super) fn pattern(text: &str) -> Result<Regex> {
    let bounded = format!(r"^(?:{})$", translated(text));
    Regex::new(&bounded).map_err(|_| refused("cpat", text, "is not a regular expression of find(1)"))
}

/// The same expression in the usual syntax. find's default is that of Emacs: `\|`, `\(` and `\)` have a meaning, and
/// without the backslash none.
fn translated(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut letters = text.chars();
    let mut set = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if !set => match letters.next() {
                Some(next @ ('|' | '(' | ')')) => out.push(next),
                Some(next) => out.extend(['\\', next]),
                None => out.push_str(r"\\"),
            },
            '|' | '(' | ')' | '{' | '}' if !set => out.extend(['\\', letter]),
            _ => {
                set = letter == '[' || (set && letter != ']');
                out.push(letter);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_to_find() {
        for (pattern_text, path, kept) in [
            (USUAL, "/data/server-cert.pem", true),
            (USUAL, "/data/node.err", true),
            (USUAL, "/data/ibdata1", false),
            (USUAL, "/data/log", false),
            (USUAL, "/data/a.pem.old", false),
            (r".*\.pem$\|.*init\.ok$", "/data/init.ok", true),
            (r".*\.pem$\|.*init\.ok$", "/data/x.err", false),
            (r".*/keys/\(a\|b\)", "/data/keys/b", true),
            (r".*/a(1)", "/data/a(1)", true),
            (r".*/[ab|]x", "/data/|x", true),
        ] {
            assert_eq!(pattern(pattern_text).unwrap().is_match(path), kept, "{pattern_text} {path}");
        }
        assert!(pattern(r"\(").is_err());
    }

    #[test]
    fn what_is_the_servers_stays() {
        for (name, stays) in [
            ("grastate.dat", true),
            ("gcache.page.000000", true),
            ("galera.cache", true),
            ("ibdata1", false),
            ("mysql", false),
            ("gcache", false),
        ] {
            assert_eq!(always(name), stays, "{name}");
        }
    }
}
