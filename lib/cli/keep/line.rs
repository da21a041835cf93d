//! The verbs of xb-keep with their operands, as they are typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::keeping::Keeping;
use crate::keep::binlog::until::Until;

/// Where the store is.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    /// The directory of the store
    #[arg(value_name = "STORE")]
    pub(super) store: PathBuf,
    /// Settings [default: config.toml in the store]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// A key that is not where it was.
#[derive(Args, Clone, Debug)]
pub(super) struct Key {
    /// The key, if it is not where it was when the backup was made
    #[arg(short = 'k', long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a store in a directory that is empty or does not exist
    Init(Place),
    /// Make a full backup by the pipeline of the settings
    Full {
        #[command(flatten)]
        place: Place,
        /// Call it LABEL
        #[arg(long, value_name = "LABEL", value_parser = label)]
        label: Option<String>,
    },
    /// Make an incremental backup
    Incr {
        #[command(flatten)]
        place: Place,
        /// Since the last backup, the last full one, or the one with this id
        #[arg(long, value_name = "last|full|ID", default_value = "last")]
        base: String,
        /// Call it LABEL
        #[arg(long, value_name = "LABEL", value_parser = label)]
        label: Option<String>,
    },
    /// Store a stream from stdin, made by any pipeline on any host
    Add {
        #[command(flatten)]
        place: Place,
        /// What it is
        #[arg(long, value_name = "KIND")]
        kind: Kind,
        /// The base of an increment, if the stream does not tell
        #[arg(long, value_name = "ID")]
        parent: Option<String>,
        /// Call it LABEL
        #[arg(long, value_name = "LABEL", value_parser = label)]
        label: Option<String>,
        /// The program that turns the stream into an xbstream, with its arguments separated by blanks; may be repeated,
        /// from left to right [default: what the stream shows]
        #[arg(long, value_name = "PROGRAM")]
        undo: Vec<String>,
        #[command(flatten)]
        key: Key,
    },
    /// List the backups; with ID the members of one: size, size in the store, name
    List {
        #[command(flatten)]
        place: Place,
        /// The backup: id, beginning of an id, label, latest, latest-full
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what is known of a backup, as JSON
    Show {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID")]
        id: String,
        /// Only this field: to_lsn, binlog.file
        #[arg(long, value_name = "NAME")]
        field: Option<String>,
        /// What the programs said that made it
        #[arg(long, conflicts_with = "field")]
        messages: bool,
    },
    /// Write a backup to stdout as a stream; with patterns only the members that match
    Cat {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID")]
        id: String,
        /// Shell patterns of names or directories: db/t.ibd, db
        #[arg(value_name = "PATTERN")]
        patterns: Vec<String>,
        /// As it is stored: compressed, encrypted
        #[arg(long, conflicts_with = "patterns")]
        raw: bool,
        #[command(flatten)]
        key: Key,
    },
    /// Read and prove what is stored, without restoring it
    Verify {
        #[command(flatten)]
        place: Place,
        /// The backups [default: the newest, with all that it builds on]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// All backups of the store
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Also verify every page of InnoDB tablespaces
        #[arg(long)]
        pages: bool,
        #[command(flatten)]
        key: Key,
    },
    /// Restore a backup with all that it builds on into a directory on which a server can start
    Restore {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID", default_value = "latest")]
        id: String,
        /// The directory, which is empty or does not exist
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Print the steps, and do nothing
        #[arg(long)]
        plan: bool,
        /// Then replay the archived binary logs up to a moment: a time (local, or UTC with a Z), a GTID, FILE:POSITION, or
        /// end for all that is archived; latest is the newest backup before it
        #[arg(long, value_name = "TIME|GTID|FILE:POS")]
        until: Option<Until>,
        /// Print the statements that make the restored server a replica
        #[arg(long, value_name = "OF", conflicts_with_all = ["until", "plan"])]
        replica: Option<Of>,
        /// Copy the result into the data directory of a server that is stopped
        #[arg(long, requires = "datadir")]
        copy_back: bool,
        /// With --copy-back: the data directory, which is empty
        #[arg(long, value_name = "DIR", requires = "copy_back")]
        datadir: Option<PathBuf>,
        /// With --copy-back: the owner of the files
        #[arg(long, value_name = "USER[:GROUP]", requires = "copy_back")]
        owner: Option<String>,
        #[command(flatten)]
        key: Key,
    },
    /// Prove that a backup restores: a private server starts on it and checks all tables
    Drill {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID", default_value = "latest")]
        id: String,
        /// Restore below DIR, and remove it afterwards [default: that of the settings, $TMPDIR or /var/tmp]
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
        #[command(flatten)]
        key: Key,
    },
    /// Remove the backups that no rule keeps, and what runs left that were cut off
    Prune {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        rules: Keeping,
        /// Print what would be done and why, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a backup whatever the rules say
    Pin {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID")]
        id: String,
    },
    /// No longer do so
    Unpin {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Judge the store for monitoring: exit status 0 OK, 1 warning, 2 critical, 3 unknown
    Status {
        #[command(flatten)]
        place: Place,
        /// The form of the answer
        #[arg(long, value_name = "FORM", default_value = "nagios")]
        format: Form,
    },
    /// Archive the binary logs of the server, as they grow
    Binlog {
        #[command(flatten)]
        place: Place,
        /// Archive what is there, and end
        #[arg(long)]
        once: bool,
        /// Go on although the server has purged what the archive needs next
        #[arg(long)]
        after_gap: bool,
    },
    /// Print the oldest binary log that a backup of the store still needs
    BinlogFloor(Place),
    /// Print the LSN from which a hand-made increment begins
    LastLsn {
        #[command(flatten)]
        place: Place,
        /// The backup
        #[arg(value_name = "ID", default_value = "latest")]
        id: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Kind {
    /// A full backup
    Full,
    /// An increment
    Incremental,
    /// Files, which are no backup of a server
    Files,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Of {
    /// Of the server that was copied
    Server,
    /// Of the server from which that one replicated
    Source,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Form {
    /// One line with performance data
    Nagios,
    /// The number of the state
    Zabbix,
    /// An object
    Json,
    /// Text for the node exporter
    Prometheus,
}

/// A label is one word or sentence, without control characters.
fn label(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("a label has 1 to 200 bytes and no control characters".to_owned()) }
}
