//! Which tables a partial backup has, by the rules of mariadb-backup. Source: `xtrabackup.cc`
//! (`check_if_skip_table`, `check_if_skip_database`).
//!
//! Names are those of files: `db.table` for `db/table.ibd`, with the server's encoding of special characters. System
//! and undo tablespaces are always there.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bstr::ByteSlice;
use regex::bytes::RegexSet;

use crate::error::{Error, Result};
use crate::report::{Level, Report};

/// What the operator asks for, as it stands on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Partial backups")]
pub struct Wanted {
    /// Copy only tables whose db.table matches one of these regular expressions, separated by commas
    #[arg(long, value_name = "REGEX")]
    tables: Option<String>,
    /// Leave out tables whose db.table matches one of these regular expressions, separated by commas
    #[arg(long, value_name = "REGEX")]
    tables_exclude: Option<String>,
    /// Copy only the tables in FILE, one db.table a line
    #[arg(long, value_name = "FILE")]
    tables_file: Option<std::path::PathBuf>,
    /// Copy only these databases and tables: db or db.table, separated by blanks
    #[arg(long, value_name = "LIST")]
    databases: Option<String>,
    /// Leave out these databases and tables: db or db.table, separated by blanks
    #[arg(long, value_name = "LIST")]
    databases_exclude: Option<String>,
    /// Copy only the databases and tables in FILE, one a line
    #[arg(long, value_name = "FILE")]
    databases_file: Option<std::path::PathBuf>,
}

/// What is wanted. Empty: everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Names,
    exclude: Names,
}

/// Databases and tables that are named, or match.
#[derive(Clone, Debug, Default)]
struct Names {
    /// True if only tables of the database are named.
    databases: HashMap<Vec<u8>, bool>,
    tables: HashSet<Vec<u8>>,
    patterns: Option<RegexSet>,
}

/// What the lists of databases say of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Database {
    Skip,
    SomeTables,
    Keep,
    KeepUnlessExcluded,
}

impl Wanted {
    /// Reads the files and compiles the expressions; warns when they do not choose what it looks like.
    pub fn filter(&self, report: &dyn Report) -> Result<Filter> {
        let named = self.databases.is_some() || self.databases_file.is_some() || self.tables_file.is_some();
        if self.tables.is_some() && named {
            let what = "only adds to the tables that are named of a database, nothing of a database that is not named";
            report.note(Level::Warning, format_args!("--tables: {what}"));
        }
        let mut filter = Filter::default();
        filter.include.patterns = patterns("--tables", self.tables.as_deref())?;
        filter.exclude.patterns = patterns("--tables-exclude", self.tables_exclude.as_deref())?;
        for name in self.databases.iter().flat_map(|list| list.split_whitespace()) {
            filter.include.add(name);
        }
        for name in self.databases_exclude.iter().flat_map(|list| list.split_whitespace()) {
            filter.exclude.add(name);
        }
        if let Some(file) = &self.databases_file {
            lines(file)?.iter().for_each(|name| filter.include.add(name));
        }
        if let Some(file) = &self.tables_file {
            for name in lines(file)? {
                if !name.contains('.') {
                    return Err(Error::usage(file.display(), format_args!("{name:?} is no db.table")));
                }
                filter.include.add(&name);
            }
        }
        Ok(filter)
    }
}

impl Filter {
    /// True if anything may be left out.
    pub(super) fn is_partial(&self) -> bool {
        let empty = |names: &Names| names.databases.is_empty() && !names.has_tables();
        !empty(&self.include) || !empty(&self.exclude)
    }

    /// What two filters have in common if they come of the same options, in whatever order; `None`: everything is wanted.
    pub(super) fn identity(&self) -> Option<String> {
        self.is_partial().then(|| {
            let mut digest = blake3::Hasher::new();
            for names in [&self.include, &self.exclude] {
                for list in names.lists() {
                    digest.update(&(list.len() as u64).to_le_bytes());
                    for item in list {
                        digest.update(&(item.len() as u64).to_le_bytes()).update(&item);
                    }
                }
            }
            digest.finalize().to_hex().to_string()
        })
    }

    /// True if the file with this name in the stream (`db/t#P#p0.ibd`) is wanted.
    pub(super) fn wants(&self, name: &[u8]) -> bool {
        if !self.is_partial() {
            return true;
        }
        let Some((database, file)) = name.split_once_str(b"/") else { return true };
        let rule = self.database(database);
        if rule == Database::Skip {
            return false;
        }
        // The server never has a dot in the file name of a table.
        let stem = file.find_byte(b'.').and_then(|dot| file.get(..dot)).unwrap_or(file);
        // A definition of MySQL carries a number: t_375.sdi.
        let number = file.ends_with(b".sdi").then(|| stem.trim_end_with(|letter| letter.is_ascii_digit()));
        let stem = number.and_then(|name| name.strip_suffix(b"_")).unwrap_or(stem);
        let table = [database, b".", stem].concat();
        // A partition is judged by its own name first, then by its table's.
        let mark = ["#P#", "#p#"].iter().find_map(|mark| table.find(mark));
        let whole = mark.and_then(|at| table.get(..at));
        for table in [Some(table.as_slice()), whole].into_iter().flatten() {
            if self.exclude.matches(table) {
                return false;
            }
            if self.include.matches(table) {
                return true;
            }
        }
        match rule {
            Database::KeepUnlessExcluded => true,
            Database::SomeTables | Database::Skip => false,
            Database::Keep => !self.include.has_tables(),
        }
    }

    fn database(&self, database: &[u8]) -> Database {
        let excluded = self.exclude.databases.get(database);
        if excluded.is_some_and(|tables_only| !tables_only || self.include.databases.is_empty()) {
            // mariadb-backup leaves the whole database out when only tables of it are excluded and none is included;
            // that is surely not meant, but the set must be the same.
            return Database::Skip;
        }
        match self.include.databases.get(database) {
            _ if self.include.databases.is_empty() => Database::Keep,
            None => Database::Skip,
            Some(true) => Database::SomeTables,
            Some(false) => Database::KeepUnlessExcluded,
        }
    }
}

impl Names {
    fn add(&mut self, name: &str) {
        match name.split_once('.') {
            Some((database, _)) => {
                self.databases.insert(database.as_bytes().to_vec(), true);
                self.tables.insert(name.as_bytes().to_vec());
            }
            None => {
                self.databases.entry(name.as_bytes().to_vec()).or_insert(false);
            }
        }
    }

    /// All of it, in an order of its own.
    fn lists(&self) -> [Vec<Vec<u8>>; 3] {
        let databases =
            self.databases.iter().map(|(name, some)| [name.as_slice(), if *some { b"." } else { b"" }].concat());
        let patterns = self.patterns.iter().flat_map(RegexSet::patterns).map(|text| text.clone().into_bytes());
        let mut lists = [databases.collect(), self.tables.iter().cloned().collect(), patterns.collect::<Vec<_>>()];
        lists.iter_mut().for_each(|list| list.sort_unstable());
        lists
    }

    fn has_tables(&self) -> bool {
        !self.tables.is_empty() || self.patterns.is_some()
    }

    fn matches(&self, table: &[u8]) -> bool {
        self.tables.contains(table) || self.patterns.as_ref().is_some_and(|set| set.is_match(table))
    }
}

fn patterns(option: &str, list: Option<&str>) -> Result<Option<RegexSet>> {
    let Some(list) = list else { return Ok(None) };
    let set = RegexSet::new(list.split(',').filter(|pattern| !pattern.is_empty())).map_err(|cause| {
        let text = cause.to_string();
        Error::usage(option, format_args!("not a regular expression: {}", text.lines().last().unwrap_or_default()))
    })?;
    Ok(Some(set))
}

fn lines(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).map_err(|cause| Error::io(file.display(), "cannot read", &cause))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(filter: &Wanted) -> Vec<&'static str> {
        let names = ["a/t.ibd", "a/t2.frm", "a/p#P#p0.ibd", "a/p#P#p1.ibd", "b/t.MYD", "b/u.ibd", "mysql/db.MAI"];
        let filter = filter.filter(&()).unwrap();
        assert!(filter.wants(b"ibdata1"));
        names.into_iter().filter(|name| filter.wants(name.as_bytes())).collect()
    }

    #[test]
    fn the_rules_of_the_stock_tool() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(wanted(&Wanted::default()).len(), 7);
        let tables = Wanted { tables: some("^a[.]t$,[.]u"), ..Wanted::default() };
        assert_eq!(wanted(&tables), ["a/t.ibd", "b/u.ibd"]);
        let partition = Wanted { tables: some("^a[.]p#P#p1"), ..Wanted::default() };
        assert_eq!(wanted(&partition), ["a/p#P#p1.ibd"]);
        let exclude = Wanted { tables_exclude: some("^a[.]p$,^mysql"), ..Wanted::default() };
        assert_eq!(wanted(&exclude), ["a/t.ibd", "a/t2.frm", "b/t.MYD", "b/u.ibd"]);
        let databases = Wanted { databases: some("b a.t2"), ..Wanted::default() };
        assert_eq!(wanted(&databases), ["a/t2.frm", "b/t.MYD", "b/u.ibd"]);
        let both = Wanted { databases: some("a"), databases_exclude: some("a.p"), ..Wanted::default() };
        assert_eq!(wanted(&both), ["a/t.ibd", "a/t2.frm"]);
        let without = Wanted { databases_exclude: some("a mysql"), ..Wanted::default() };
        assert_eq!(wanted(&without), ["b/t.MYD", "b/u.ibd"]);
        assert!(Wanted { tables: some("("), ..Wanted::default() }.filter(&()).is_err());
    }
}
