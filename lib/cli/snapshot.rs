//! Options of xb-snap that select what is copied.

use std::path::PathBuf;

use clap::Args;

use crate::innodb::ids::Lsn;
use crate::snap::base::{Asked, Noted};
use crate::snap::filter::Wanted;
use crate::snap::history::{FIELDS, Series};

/// Options for partial backups.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Partial backups")]
pub struct Partial {
    /// Copy only tables whose db.table matches one of these regular expressions, separated by commas
    #[arg(long, value_name = "REGEX")]
    tables: Option<String>,
    /// Leave out tables whose db.table matches one of these regular expressions, separated by commas
    #[arg(long, value_name = "REGEX")]
    tables_exclude: Option<String>,
    /// Copy only the tables in FILE, one db.table per line
    #[arg(long, value_name = "FILE")]
    tables_file: Option<PathBuf>,
    /// Copy only these databases and tables: db or db.table, separated by blanks
    #[arg(long, value_name = "LIST")]
    databases: Option<String>,
    /// Leave out these databases and tables: db or db.table, separated by blanks
    #[arg(long, value_name = "LIST")]
    databases_exclude: Option<String>,
    /// Copy only the databases and tables in FILE, one per line
    #[arg(long, value_name = "FILE")]
    databases_file: Option<PathBuf>,
}

impl Partial {
    /// The options for the library.
    pub fn wanted(self) -> Wanted {
        let Partial { tables, tables_exclude, tables_file, databases, databases_exclude, databases_file } = self;
        Wanted { tables, tables_exclude, tables_file, databases, databases_exclude, databases_file }
    }
}

/// Options for increments.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Increments")]
pub struct Increment {
    /// Copy only what changed since the backup in BASE: a directory, its --extra-lsndir, or a file with its stream
    #[arg(long, value_name = "BASE", conflicts_with = "incremental_lsn")]
    incremental_basedir: Option<PathBuf>,
    /// Copy only what changed since LSN, the to_lsn of a backup
    #[arg(long, value_name = "LSN")]
    incremental_lsn: Option<u64>,
    /// Copy only what changed since the newest backup NAME in the server's history table, which mariadb-backup writes
    #[arg(long, visible_alias = "incremental-history-name", value_name = "NAME",
        conflicts_with_all = ["incremental_basedir", "incremental_lsn", "offline"])]
    incremental_history: Option<String>,
    /// The same since the backup with this UUID there
    #[arg(long, value_name = "UUID",
        conflicts_with_all = ["incremental_basedir", "incremental_lsn", "incremental_history", "offline"])]
    incremental_history_uuid: Option<String>,
}

/// The server's own table of backups.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Notes in the server")]
pub struct History {
    /// Note the backup as NAME in the server's table of backups, once the next program has taken the whole stream: in
    /// mysql.mariadb_backup_history, or PERCONA_SCHEMA.xtrabackup_history; it is made if it is not there
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "offline")]
    history: Option<String>,
    /// What to note of what xb-snap does not know: tool_name, tool_command, format, compressed or encrypted
    #[arg(long, value_name = "FIELD=VALUE", requires = "history", value_parser = field)]
    history_field: Vec<(String, String)>,
}

/// `format=file`.
fn field(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| FIELDS.contains(name));
    let (name, value) = pair.ok_or_else(|| format!("a field is one of {}, = and a value", FIELDS.join(", ")))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl History {
    /// The same, for the library.
    pub fn series(self) -> Option<Series> {
        self.history.map(|name| Series { name, told: self.history_field.into_iter().collect() })
    }
}

impl Increment {
    /// The options for the library.
    pub fn asked(self) -> Asked {
        Asked {
            basedir: self.incremental_basedir,
            lsn: self.incremental_lsn.map(Lsn::new),
            history: self.incremental_history.map(Noted::Name).or(self.incremental_history_uuid.map(Noted::Uuid)),
        }
    }
}
