//! Options of xb-snap that choose what is copied.

use std::path::PathBuf;

use clap::Args;

use crate::innodb::ids::Lsn;
use crate::snap::base::Asked;
use crate::snap::filter::Wanted;

/// Which tables a backup has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Partial backups")]
pub struct Partial {
    /// Copy only tables whose db.table matches one of these regular expressions, separated by commas
    #[arg(long, value_name = "REGEX")]
    tables: Option<String>,
    /// Leave out tables whose db.table matches one of these regular expressions, separated by commas
    #[arg(long, value_name = "REGEX")]
    tables_exclude: Option<String>,
    /// Copy only the tables in FILE, one db.table a line
    #[arg(long, value_name = "FILE")]
    tables_file: Option<PathBuf>,
    /// Copy only these databases and tables: db or db.table, separated by blanks
    #[arg(long, value_name = "LIST")]
    databases: Option<String>,
    /// Leave out these databases and tables: db or db.table, separated by blanks
    #[arg(long, value_name = "LIST")]
    databases_exclude: Option<String>,
    /// Copy only the databases and tables in FILE, one a line
    #[arg(long, value_name = "FILE")]
    databases_file: Option<PathBuf>,
}

impl Partial {
    /// The same, for the library.
    pub fn wanted(self) -> Wanted {
        let Partial { tables, tables_exclude, tables_file, databases, databases_exclude, databases_file } = self;
        Wanted { tables, tables_exclude, tables_file, databases, databases_exclude, databases_file }
    }
}

/// What an increment builds on.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Increments")]
pub struct Increment {
    /// Copy only what changed since the backup in BASE: a directory, its --extra-lsndir, or a file with its stream
    #[arg(long, value_name = "BASE", conflicts_with = "incremental_lsn")]
    incremental_basedir: Option<PathBuf>,
    /// Copy only what changed since LSN, the to_lsn of a backup
    #[arg(long, value_name = "LSN")]
    incremental_lsn: Option<u64>,
    /// Copy only what changed since the newest backup NAME in the server's table of backups, which mariadb-backup writes
    #[arg(long, visible_alias = "incremental-history-name", value_name = "NAME",
        conflicts_with_all = ["incremental_basedir", "incremental_lsn", "offline"])]
    incremental_history: Option<String>,
}

impl Increment {
    /// The same, for the library.
    pub fn asked(self) -> Asked {
        Asked {
            basedir: self.incremental_basedir,
            lsn: self.incremental_lsn.map(Lsn::new),
            history: self.incremental_history,
        }
    }
}
