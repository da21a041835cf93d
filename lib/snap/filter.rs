//! Which tables a partial backup has, by the rules of mariadb-backup. Source: `xtrabackup.cc`
//! (`check_if_skip_table`, `check_if_skip_database`).
//!
//! Names are those of files: `db.table` for `db/table.ibd`, with the server's encoding of special characters. System
//! and undo tablespaces are always copied. Unlike mariadb-backup, all files of a table go with it: its full-text and
//! vector indexes, without which the server aborts or refuses the table, and its triggers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use bstr::ByteSlice;
use regex::bytes::RegexSet;

use super::partial::{self, Dictionary};
use crate::error::{Error, Result};
use crate::io;
use crate::report::{Level, Report};
use crate::server::{Session, files, parts};

/// The options of the operator.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `--tables`
    pub tables: Option<String>,
    /// `--tables-exclude`
    pub tables_exclude: Option<String>,
    /// `--tables-file`
    pub tables_file: Option<std::path::PathBuf>,
    /// `--databases`
    pub databases: Option<String>,
    /// `--databases-exclude`
    pub databases_exclude: Option<String>,
    /// `--databases-file`
    pub databases_file: Option<std::path::PathBuf>,
}

/// Selects tables. Empty: all.
#[derive(Debug, Default)]
pub struct Filter {
    include: Names,
    exclude: Names,
    /// What the server's dictionary says; `None`: there is no server to ask.
    told: RwLock<Option<Told>>,
}

/// What the server's dictionary says of tables, with names of files: `db/t`.
#[derive(Debug, Default)]
struct Told {
    /// The tables that have full-text indexes, by id.
    owners: HashMap<u64, Vec<u8>>,
    /// Tables for which no file has the same name.
    shared: Vec<Vec<u8>>,
    /// Foreign keys: the child table, the parent table.
    foreign: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Databases and tables, by name or by expression.
#[derive(Clone, Debug, Default)]
struct Names {
    /// True if only tables of the database are named.
    databases: HashMap<Vec<u8>, bool>,
    tables: HashSet<Vec<u8>>,
    patterns: Option<RegexSet>,
}

/// What the lists of databases say of a database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Database {
    Skip,
    SomeTables,
    Keep,
    KeepUnlessExcluded,
}

impl Wanted {
    /// Reads the files and compiles the expressions. Warns if they select something else than they appear to.
    pub fn filter(&self, report: &dyn Report) -> Result<Filter> {
        let named = self.databases.is_some() || self.databases_file.is_some() || self.tables_file.is_some();
        if self.tables.is_some() && named {
            let what = "only adds to the tables that are named of a database, nothing of a database that is not named";
            report.note(Level::Warning, format_args!("--tables: {what}"));
        }
        let mut filter = Filter::default();
        filter.include.patterns = patterns("--tables", self.tables.as_deref())?;
        filter.exclude.patterns = patterns("--tables-exclude", self.tables_exclude.as_deref())?;
        for (option, list) in [("--databases", &self.databases), ("--databases-exclude", &self.databases_exclude)] {
            if list.as_ref().is_some_and(|list| list.trim().is_empty()) {
                return Err(
                    Error::usage(option, "the list is empty").hint("leave the option out to copy all databases")
                );
            }
        }
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

    /// Equal for two filters with the same options, in any order; `None`: everything is wanted.
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

    /// Asks a server, when the backup begins, what [`Filter::wants`] and [`Filter::check`] need to know. `files` are
    /// the files found so far.
    pub(super) fn ask<'n>(
        &self,
        session: &mut Session,
        dictionary: Dictionary,
        files: impl Iterator<Item = &'n [u8]>,
    ) -> Result<()> {
        if self.is_partial() {
            let (shared, foreign) = (dictionary.shared(session)?, dictionary.foreign(session)?);
            let told = Told { shared, foreign, ..Told::default() };
            *self.told.write().unwrap_or_else(PoisonError::into_inner) = Some(told);
        }
        self.ask_again(session, dictionary, files)
    }

    /// Asks again to which tables full-text indexes belong. Files unknown to the first answer were created later, so
    /// the last answer must come while no table can be created.
    pub(super) fn ask_again<'n>(
        &self,
        session: &mut Session,
        dictionary: Dictionary,
        files: impl Iterator<Item = &'n [u8]>,
    ) -> Result<()> {
        if self.is_partial() {
            let owners = dictionary.owners(session, &partial::fulltext(files))?;
            self.told.write().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().owners = owners;
        }
        Ok(())
    }

    /// True if the file with this name in the stream (`db/t#P#p0.ibd`) is wanted.
    pub(super) fn wants(&self, name: &[u8]) -> bool {
        if !self.is_partial() {
            return true;
        }
        let Some((database, file)) = name.split_once_str(b"/") else { return true };
        let stem = stem(file);
        if let Some(id) = parts::fulltext(stem).filter(|_| file.ends_with(b".ibd")) {
            match self.told.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
                // Only a server can tell which table they belong to. One too many does no harm.
                None => return self.database(database) != Database::Skip,
                Some(told) => {
                    let owner = told.owners.get(&id).and_then(|name| name.split_once_str(b"/"));
                    if let Some((database, table)) = owner {
                        return self.wants_table(database, table);
                    }
                }
            }
        }
        self.wants_table(database, stem)
    }

    /// The same for a file in the data directory, whose content may name its table.
    pub(super) fn wants_file(&self, name: &[u8], path: &Path) -> Result<bool> {
        let trigger = name.strip_suffix(b".TRN").filter(|_| self.is_partial());
        let Some((database, _)) = trigger.and_then(|stem| stem.split_once_str(b"/")) else {
            return Ok(self.wants(name));
        };
        let text = io::small(path)?.unwrap_or_default();
        Ok(match parts::of_trigger(&text).map(parts::file_name) {
            Some(Some(table)) => self.wants_table(database, &table),
            // The file of its table has an unknown name. One too many does no harm.
            _ => self.database(database) != Database::Skip,
        })
    }

    /// True if a table or partition is wanted, by the name of its files.
    fn wants_table(&self, database: &[u8], stem: &[u8]) -> bool {
        let rule = self.database(database);
        if rule == Database::Skip {
            return false;
        }
        // A partition is matched by its own name first, then by that of its table.
        for table in candidates(database, stem) {
            if self.exclude.matches(&table) {
                return false;
            }
            if self.include.matches(&table) {
                return true;
            }
        }
        match rule {
            Database::KeepUnlessExcluded => true,
            Database::SomeTables | Database::Skip => false,
            Database::Keep => !self.include.has_tables(),
        }
    }

    /// Warns of names and expressions that match nothing, and of foreign keys to tables that are left out. Fails if
    /// nothing at all was selected.
    pub(super) fn check(&self, datadir: &Path, report: &dyn Report) -> Result<()> {
        if !self.is_partial() {
            return Ok(());
        }
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        let (mut include, mut exclude) = (Unmatched::of(&self.include), Unmatched::of(&self.exclude));
        let mut see = |database: &[u8], stem: Option<&[u8]>| {
            include.see(database, stem);
            exclude.see(database, stem);
        };
        for name in told.iter().flat_map(|told| &told.shared) {
            if let Some((database, table)) = name.split_once_str(b"/") {
                see(database, Some(table));
            }
        }
        for database in files::databases(datadir)? {
            see(database.as_bytes(), None);
            for file in files::of_database(&datadir.join(&database), |_| true)? {
                see(database.as_bytes(), Some(stem(&file)));
            }
        }
        let missing = include.names();
        if let Some(first) = missing.first().filter(|_| missing.len() == include.asked) {
            let hint = "without these options the whole server is copied";
            return Err(Error::usage(first, format_args!("{}; nothing is left to copy", nothing(first))).hint(hint));
        }
        for name in missing.iter().chain(&exclude.names()) {
            report.note(Level::Warning, format_args!("{name}: {}", nothing(name)));
        }
        if told.is_none() {
            let what = "which full-text index belongs to which table, only a running server tells: those of all tables of \
                a database are copied with any of them";
            report.note(Level::Info, format_args!("{}: {what}", datadir.display()));
        }
        let table =
            |name: &[u8]| name.split_once_str(b"/").is_some_and(|(database, table)| self.wants_table(database, table));
        let foreign = told.iter().flat_map(|told| &told.foreign);
        let broken: Vec<_> = foreign.filter(|(child, parent)| table(child) && !table(parent)).collect();
        if let Some((child, parent)) = broken.first() {
            let more = if broken.len() > 1 { format!("; {} more likewise", broken.len() - 1) } else { String::new() };
            let (child, parent) = (child.as_bstr(), parent.as_bstr());
            report
                .note(Level::Warning, format_args!("{child}: has a foreign key to {parent}, which is left out{more}"));
        }
        Ok(())
    }

    fn database(&self, database: &[u8]) -> Database {
        let excluded = self.exclude.databases.get(database);
        if excluded.is_some_and(|tables_only| !tables_only || self.include.databases.is_empty()) {
            // mariadb-backup leaves out the whole database if only some of its tables are excluded and none is
            // included. That is hardly intended, but the selection must be the same.
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

    /// All lists, sorted.
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

/// Names and expressions that have matched nothing yet.
#[derive(Debug)]
struct Unmatched<'a> {
    patterns: Option<&'a RegexSet>,
    asked: usize,
    databases: BTreeSet<&'a [u8]>,
    tables: BTreeSet<&'a [u8]>,
    /// By their index in the list.
    unused: BTreeSet<usize>,
}

impl<'a> Unmatched<'a> {
    fn of(names: &'a Names) -> Self {
        let whole = names.databases.iter().filter(|(_, tables_only)| !**tables_only);
        let databases: BTreeSet<&[u8]> = whole.map(|(name, _)| name.as_slice()).collect();
        let tables: BTreeSet<&[u8]> = names.tables.iter().map(Vec::as_slice).collect();
        let patterns = names.patterns.as_ref();
        let unused: BTreeSet<usize> = (0..patterns.map_or(0, RegexSet::len)).collect();
        Unmatched { patterns, asked: databases.len() + tables.len() + unused.len(), databases, tables, unused }
    }

    /// Notes that there is a database, or a table in it.
    fn see(&mut self, database: &[u8], stem: Option<&[u8]>) {
        self.databases.remove(database);
        for table in stem.into_iter().flat_map(|stem| candidates(database, stem)) {
            self.tables.remove(table.as_slice());
            if let Some(set) = self.patterns.filter(|_| !self.unused.is_empty()) {
                for index in set.matches(&table) {
                    self.unused.remove(&index);
                }
            }
        }
    }

    /// As they were given.
    fn names(&self) -> Vec<String> {
        let plain = self.databases.iter().chain(&self.tables).map(|name| name.to_str_lossy().into_owned());
        let texts = self.patterns.map_or(&[][..], RegexSet::patterns);
        plain.chain(self.unused.iter().filter_map(|index| texts.get(*index).cloned())).collect()
    }
}

/// The file's name up to the first dot: the server never has one in the file name of a table.
fn stem(file: &[u8]) -> &[u8] {
    let stem = file.find_byte(b'.').and_then(|dot| file.get(..dot)).unwrap_or(file);
    // The file of a definition in MySQL has a number: t_375.sdi.
    let number = file.ends_with(b".sdi").then(|| stem.trim_end_with(|letter| letter.is_ascii_digit()));
    number.and_then(|name| name.strip_suffix(b"_")).unwrap_or(stem)
}

/// The names by which a file is matched, each as `db.table`: its own, and that of its table if it is a partition. A
/// vector index has only its table's name.
fn candidates(database: &[u8], stem: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let own = parts::without_index(stem);
    let names = [Some(own), parts::partitioned(own)].map(|name| name.map(|name| [database, b".", name].concat()));
    names.into_iter().flatten()
}

/// The warning for a name or an expression that matches nothing.
fn nothing(name: &str) -> String {
    let mut text = "no database and no table is so called".to_owned();
    let encoded = name.split_once('.').and_then(|(database, table)| {
        Some([parts::file_name(database.as_bytes())?, parts::file_name(table.as_bytes())?].join(&b'.'))
    });
    // A dash in a name that was given as in SQL.
    if let Some(encoded) = encoded.filter(|_| name.contains('-') && !name.contains(['^', '[', '@'])) {
        text.push_str(&format!(" (its files would be called {})", encoded.as_bstr()));
    }
    text
}

fn patterns(option: &str, list: Option<&str>) -> Result<Option<RegexSet>> {
    let Some(list) = list else { return Ok(None) };
    let set = RegexSet::new(list.split(',').filter(|pattern| !pattern.is_empty())).map_err(|cause| {
        let text = cause.to_string();
        let detail = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Error::usage(option, format_args!("not a regular expression: {detail}"))
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
