//! The options of the stock programs, and what becomes of each. Sources: `mariadb-backup --help`, `xtrabackup --help`,
//! `xbstream.cc`, `xbcrypt.cc`, the manual page of innobackupex.

/// What stands after an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing: a switch.
    None,
    /// A value, behind `=` or in the next word.
    Needed,
    /// A value behind `=`, or none.
    Optional,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does what it says.
    Ours,
    /// It is passed over, with a warning.
    Ignored,
    /// It ends the run.
    Refused,
}

/// An option of a stock program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its name, with hyphens.
    pub(super) name: &'static str,
    /// Another name, of another release.
    pub(super) also: Option<&'static str>,
    /// Its letter.
    pub(super) letter: Option<char>,
    /// What stands after it.
    pub(super) value: Value,
    /// What becomes of it.
    pub(super) fate: Fate,
    /// What is done, why nothing is done, or what to use instead.
    pub(super) text: &'static str,
    /// Whether its value must not be seen by other users.
    pub(super) secret: bool,
    /// Whether the groups of option files that only backup programs have may set it.
    pub(super) in_files: bool,
}

impl Row {
    const fn new(name: &'static str, value: Value, fate: Fate, text: &'static str) -> Row {
        Row { name, also: None, letter: None, value, fate, text, secret: false, in_files: true }
    }

    const fn letter(self, letter: char) -> Row {
        Row { letter: Some(letter), ..self }
    }

    const fn also(self, name: &'static str) -> Row {
        Row { also: Some(name), ..self }
    }

    const fn secret(self) -> Row {
        Row { secret: true, ..self }
    }

    /// Only a command line sets it, or the tool that gets it reads option files by itself.
    const fn here(self) -> Row {
        Row { in_files: false, ..self }
    }

    /// Its names, the usual one first.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.name), self.also].into_iter().flatten()
    }
}

const fn switch(name: &'static str, text: &'static str) -> Row {
    Row::new(name, Value::None, Fate::Ours, text)
}

const fn needs(name: &'static str, text: &'static str) -> Row {
    Row::new(name, Value::Needed, Fate::Ours, text)
}

const fn may(name: &'static str, text: &'static str) -> Row {
    Row::new(name, Value::Optional, Fate::Ours, text)
}

const fn ignored(name: &'static str, value: Value, text: &'static str) -> Row {
    Row::new(name, value, Fate::Ignored, text)
}

const fn refused(name: &'static str, value: Value, text: &'static str) -> Row {
    Row::new(name, value, Fate::Refused, text)
}

/// What is said of an option that says where files are to be.
const PLACE: &str = "with --copy-back: xb-redo --server-option; otherwise the server's own counts";
/// What is said of an option that says how a server is to run, or how the stock program is to work.
const SERVER: &str = "the server that recovers a backup has what the backup says";
const OWN_WAY: &str = "nothing to choose here";
const REVOKED: &str = "lists of revoked certificates are not read; leave the authority out of --ssl-ca";
const CIPHERS: &str = "TLS 1.2 and 1.3 with their good ciphers only";

/// Of all programs that make and restore backups.
pub(super) const COMMON: &[Row] = &[
    // What is to be done.
    switch("copy-back", "xb-redo --copy-back").here(),
    switch("move-back", "xb-redo --copy-back --move").here(),
    switch("decompress", "xb-pack | xb-zip -d | xb-unpack, in the directory; zstd, lz4 and qpress").here(),
    needs("decrypt", "xb-pack | xb-crypt -d | xb-unpack, in the directory; the key's length tells the cipher").here(),
    switch("version", "which server's program this stands for, on standard error").letter('v').here(),
    switch("help", "this table").letter('?').here(),
    switch("print-defaults", "what option files say, then ends").here(),
    // The connection: xb-snap reads the same option files.
    needs("defaults-file", "xb-snap --defaults-file; with --copy-back, xb-redo's").here(),
    needs("defaults-extra-file", "xb-snap --defaults-extra-file").here(),
    needs("defaults-group-suffix", "xb-snap --defaults-group-suffix").here(),
    switch("no-defaults", "xb-snap --no-defaults").here(),
    needs("user", "xb-snap --user").letter('u').here(),
    needs("password", "wiped from the command line, and given to xb-snap through a pipe").letter('p').secret().here(),
    needs("host", "xb-snap --host").letter('H').here(),
    needs("port", "xb-snap --port").letter('P').here(),
    needs("socket", "xb-snap --socket").letter('S').here(),
    needs("protocol", "xb-snap --protocol").here(),
    needs("login-path", "xb-snap --login-path").here(),
    ignored("no-login-paths", Value::None, ".mylogin.cnf is read only with --login-path"),
    switch("ssl", "xb-snap --ssl, --skip-ssl").here(),
    needs("ssl-mode", "xb-snap --ssl-mode").here(),
    needs("ssl-ca", "xb-snap --ssl-ca").here(),
    needs("ssl-capath", "xb-snap --ssl-capath").here(),
    needs("ssl-cert", "xb-snap --ssl-cert").here(),
    needs("ssl-key", "xb-snap --ssl-key").here(),
    switch("ssl-verify-server-cert", "xb-snap --ssl-verify-server-cert, --skip-ssl-verify-server-cert").here(),
    refused("ssl-crl", Value::Needed, REVOKED),
    refused("ssl-crlpath", Value::Needed, REVOKED),
    ignored("ssl-cipher", Value::Needed, CIPHERS),
    ignored("tls-version", Value::Needed, CIPHERS),
    ignored("tls-ciphersuites", Value::Needed, CIPHERS),
    ignored("ssl-fips-mode", Value::Needed, OWN_WAY),
    ignored("secure-auth", Value::None, "the old protocol is never used"),
    ignored("server-public-key-path", Value::Needed, OWN_WAY),
    ignored("get-server-public-key", Value::None, OWN_WAY),
    // Where and how a backup is written.
    needs("stream", "the stream goes to standard output; xbstream and mbstream only"),
    may("compress", "xb-zip; zstd, or lz4; quicklz is written as zstd"),
    needs("compress-threads", "xb-zip --threads"),
    needs("compress-chunk-size", "xb-zip --chunk-size, at most 1m"),
    needs("compress-zstd-level", "xb-zip -1 to -19"),
    needs("encrypt", "xb-crypt --format xbcrypt; the key's length tells the cipher"),
    needs("encrypt-key-file", "xb-crypt --key-file"),
    refused(
        "encrypt-key",
        Value::Needed,
        "write the key into a file of mode 0600, and name that with --encrypt-key-file",
    )
    .secret(),
    needs("encrypt-threads", "xb-crypt --threads"),
    ignored("encrypt-chunk-size", Value::Needed, "chunks are cut by themselves"),
    needs("parallel", "xb-snap --threads; with --copy-back, xb-redo --threads"),
    needs("throttle", "xb-throttle -L: so many times 1 MiB a second, of xtrabackup and innobackupex 10 MiB"),
    needs("extra-lsndir", "xb-snap --extra-lsndir"),
    needs("tmpdir", "--spool-dir of xb-snap and xb-redo; the first of several").letter('t'),
    // What is copied.
    needs("datadir", "xb-snap --datadir, the server's; with --copy-back, the directory to fill").letter('h'),
    needs("tables", "xb-snap --tables"),
    needs("tables-exclude", "xb-snap --tables-exclude"),
    needs("tables-file", "xb-snap --tables-file"),
    needs("databases", "xb-snap --databases"),
    needs("databases-exclude", "xb-snap --databases-exclude"),
    needs("databases-file", "xb-snap --databases-file"),
    needs("incremental-basedir", "xb-snap --incremental-basedir").also("backup-incremental-base"),
    needs("incremental-lsn", "xb-snap --incremental-lsn; high:low, too"),
    needs("incremental-history-name", "xb-snap --incremental-history"),
    needs("incremental-history-uuid", "xb-snap --incremental-history-uuid"),
    may("history", "xb-snap --history"),
    needs("incremental-dir", "xb-redo --incremental-dir").also("prepare-incremental-from-dir"),
    ignored("incremental-force-scan", Value::None, "all pages are read in any case"),
    switch("slave-info", "xb-snap --replica-info"),
    switch("safe-slave-backup", "xb-snap --safe-replica"),
    ignored("safe-slave-backup-timeout", Value::Needed, "xb-snap waits 300 s"),
    switch("galera-info", "xb-snap --galera-info"),
    refused("rocksdb-backup", Value::None, "MyRocks is not copied; leave it out"),
    ignored("rocksdb-datadir", Value::Needed, "MyRocks is not copied"),
    refused("log-innodb-page-corruption", Value::None, "a backup with damaged pages is none; repair or drop the table"),
    ignored(
        "extended-validation",
        Value::None,
        "each page's checksum is verified in any case; the keys of encrypted pages are only with the server",
    ),
    ignored("encrypted-backup", Value::None, OWN_WAY),
    switch("innodb-log-checkpoint-now", "xb-snap --checkpoint-now"),
    ignored("binlog-info", Value::Optional, "the position is found by itself"),
    // Locks.
    switch("no-lock", "xb-snap --no-lock"),
    may("lock-ddl", "ON: xb-snap --lock-ddl early; REDUCED: end; OFF: as xb-snap does it by itself"),
    needs("lock-ddl-timeout", "xb-snap --lock-timeout"),
    needs("ftwrl-wait-timeout", "xb-snap --lock-timeout, unless it is 0").also("startup-wait-timeout"),
    needs("lock-wait-timeout", "xb-snap --lock-timeout, unless it is 0"),
    needs("backup-lock-timeout", "xb-snap --lock-timeout, unless it is 0"),
    ignored("backup-lock-retry-count", Value::Needed, OWN_WAY),
    ignored("lock-ddl-per-table", Value::None, "DDL is blocked shortly at the end"),
    ignored("ftwrl-wait-threshold", Value::Needed, "FLUSH TABLES WITH READ LOCK is not used"),
    ignored("ftwrl-wait-query-type", Value::Needed, "FLUSH TABLES WITH READ LOCK is not used"),
    ignored("kill-long-queries-timeout", Value::Needed, "no query is killed; --ftwrl-wait-timeout gives up instead"),
    ignored("kill-long-query-type", Value::Needed, "no query is killed"),
    ignored("backup-locks", Value::None, OWN_WAY),
    ignored("no-backup-locks", Value::None, OWN_WAY),
    ignored("rsync", Value::None, "there is nothing to copy before the lock"),
    // Restoring.
    needs("use-memory", "xb-redo --use-memory"),
    ignored("use-free-memory-pct", Value::Needed, "xb-redo chooses by the log and what is free"),
    ignored("estimate-memory", Value::Optional, "xb-redo chooses by the log and what is free"),
    refused(
        "export",
        Value::None,
        "leave it out: tables of a prepared backup can be imported as they are, without .cfg",
    ),
    switch("rollback-prepared-trx", "xb-redo --rollback-prepared").also("rollback-xa"),
    may("innodb-force-recovery", "with --prepare: xb-redo --force-recovery, which is 1, as of the stock program"),
    refused("rebuild-indexes", Value::None, "OPTIMIZE TABLE"),
    ignored("rebuild-threads", Value::Needed, OWN_WAY),
    switch("force-non-empty-directories", "xb-redo --keep-existing"),
    switch("remove-original", "with --decompress and --decrypt: removes what was decoded"),
    needs("decompress-threads", "xb-zip --threads"),
    refused("keyring-file-data", Value::Needed, "xb-redo --keyring; see xb-redo(1)"),
    refused("component-keyring-config", Value::Needed, "xb-redo --keyring; see xb-redo(1)"),
    refused("transition-key", Value::Optional, "keys are never in a backup"),
    refused("generate-transition-key", Value::None, "keys are never in a backup"),
    refused("generate-new-master-key", Value::None, "ALTER INSTANCE ROTATE INNODB MASTER KEY, in the restored server"),
    refused("dump-innodb-buffer-pool", Value::None, "SET GLOBAL innodb_buffer_pool_dump_now=ON"),
    ignored("dump-innodb-buffer-pool-timeout", Value::Needed, OWN_WAY),
    ignored("dump-innodb-buffer-pool-pct", Value::Needed, OWN_WAY),
    // How the stock program works.
    ignored("check-privileges", Value::None, "what the account lacks is told in any case"),
    ignored("version-check", Value::None, "nobody is asked for new versions"),
    ignored("no-version-check", Value::None, "nobody is asked for new versions"),
    ignored("server-version-check", Value::None, "a server that is not known is refused"),
    ignored("no-server-version-check", Value::None, "a server that is not known is refused"),
    ignored("close-files", Value::None, OWN_WAY),
    ignored("core-file", Value::None, OWN_WAY),
    ignored("open-files-limit", Value::Needed, "few files are open at the same time"),
    ignored("log-copy-interval", Value::Needed, "the log is read as it is written"),
    ignored("read-buffer-size", Value::Needed, OWN_WAY),
    ignored("page-tracking", Value::None, "all pages are read in any case"),
    ignored("register-redo-log-consumer", Value::None, "the log is spooled to disk when the reader is slow"),
    ignored("redo-log-arch-dir", Value::Needed, "the log is spooled to disk when the reader is slow"),
    ignored("strict", Value::None, OWN_WAY),
    ignored("debug-sync", Value::Needed, OWN_WAY),
    needs("plugin-dir", "with --prepare: xb-redo --server-option plugin-dir; otherwise the server's own counts")
        .also("xtrabackup-plugin-dir"),
    ignored("plugin-load", Value::Needed, SERVER),
    ignored("defaults-group", Value::Needed, "groups [mysqldN] are read with --defaults-group-suffix=N"),
    switch("mysqld-args", "what follows is for a server; what is not known is passed over").here(),
    // Options of the server.
    ignored("log", Value::Optional, SERVER),
    may("log-bin", PLACE),
    ignored("log-bin-index", Value::Needed, SERVER),
    ignored("server-id", Value::Needed, SERVER),
    needs("aria-log-dir-path", PLACE),
    ignored("innodb", Value::Optional, SERVER),
    ignored("innodb-adaptive-hash-index", Value::None, SERVER),
    ignored("innodb-autoextend-increment", Value::Needed, SERVER),
    ignored("innodb-buffer-pool-filename", Value::Needed, SERVER),
    ignored("innodb-buffer-pool-size", Value::Needed, "--use-memory"),
    ignored("innodb-checksum-algorithm", Value::Needed, SERVER),
    ignored("innodb-compression-level", Value::Needed, SERVER),
    needs("innodb-data-file-path", PLACE),
    needs("innodb-data-home-dir", PLACE),
    needs("innodb-directories", PLACE),
    ignored("innodb-doublewrite", Value::Optional, SERVER),
    ignored("innodb-fast-checksum", Value::None, SERVER),
    ignored("innodb-file-io-threads", Value::Needed, SERVER),
    ignored("innodb-file-per-table", Value::None, SERVER),
    ignored("innodb-flush-method", Value::Needed, SERVER),
    ignored("innodb-io-capacity", Value::Optional, SERVER),
    ignored("innodb-linux-aio", Value::Needed, SERVER),
    ignored("innodb-log-buffer-size", Value::Needed, SERVER),
    ignored("innodb-log-checksums", Value::None, SERVER),
    ignored("innodb-log-file-buffering", Value::None, SERVER),
    ignored("innodb-log-file-mmap", Value::None, SERVER),
    ignored("innodb-log-file-size", Value::Needed, SERVER),
    ignored("innodb-log-files-in-group", Value::Needed, SERVER),
    needs("innodb-log-group-home-dir", PLACE),
    needs("innodb-log-write-ahead-size", "nothing but that it is a power of two"),
    ignored("innodb-max-dirty-pages-pct", Value::Needed, SERVER),
    ignored("innodb-open-files", Value::Needed, SERVER),
    ignored("innodb-page-size", Value::Needed, SERVER),
    ignored("innodb-read-io-threads", Value::Needed, SERVER),
    ignored("innodb-redo-log-encrypt", Value::None, SERVER),
    needs("innodb-undo-directory", PLACE),
    ignored("innodb-undo-log-encrypt", Value::None, SERVER),
    ignored("innodb-undo-tablespaces", Value::Needed, SERVER),
    ignored("innodb-use-native-aio", Value::None, SERVER),
    ignored("innodb-write-io-threads", Value::Needed, SERVER),
];

/// Of mariadb-backup and xtrabackup beside [`COMMON`].
pub(super) const BACKUP: &[Row] = &[
    switch("backup", "xb-snap | xb-redo | xb-unpack").here(),
    switch("prepare", "xb-redo --apply --wait").here(),
    switch("print-param", "what of the server's option file is needed to restore").here(),
    needs("target-dir", "xb-unpack -C; the directory of xb-redo"),
    switch("apply-log-only", "with --incremental-dir: xb-redo --merge; without: xb-redo --status")
        .also("apply-redo-only"),
    switch("verbose", "--verbose of every tool").letter('V').here(),
    ignored("stats", Value::None, OWN_WAY),
    ignored("incremental", Value::None, "--incremental-basedir and its kin say so"),
];

/// Of innobackupex beside [`COMMON`]. The directory is an operand.
pub(super) const INNOBACKUPEX: &[Row] = &[
    switch("apply-log", "xb-redo --apply --wait").here(),
    switch("redo-only", "with --apply-log and --incremental-dir: xb-redo --merge; without: xb-redo --status"),
    switch("incremental", "an increment, since --incremental-basedir or --incremental-lsn").here(),
    switch("no-timestamp", "the backup goes into the directory that is named, not below it"),
    switch("verbose", "--verbose of every tool").here(),
    needs("include", "xb-snap --tables"),
    ignored("ibbackup", Value::Needed, OWN_WAY),
    ignored("sleep", Value::Needed, "--throttle"),
    ignored("scpopt", Value::Needed, OWN_WAY),
    ignored("sshopt", Value::Needed, OWN_WAY),
];

/// Of xbstream and mbstream.
pub(super) const XBSTREAM: &[Row] = &[
    switch("create", "xb-pack --no-manifest").letter('c'),
    switch("extract", "xb-unpack --keep-existing").letter('x'),
    needs("directory", "-C of xb-pack and xb-unpack").letter('C'),
    switch("verbose", "--verbose of every tool").letter('v'),
    needs("parallel", "--threads of every tool").letter('p'),
    switch("decompress", "xb-zip -d"),
    needs("decompress-threads", "xb-zip --threads"),
    needs("decrypt", "xb-crypt -d; the key's length tells the cipher"),
    needs("encrypt-key-file", "xb-crypt --key-file").letter('f'),
    refused(
        "encrypt-key",
        Value::Needed,
        "write the key into a file of mode 0600, and name that with --encrypt-key-file",
    )
    .letter('k')
    .secret(),
    needs("encrypt-threads", "xb-crypt --threads"),
    ignored("encrypt-chunk-size", Value::Needed, "chunks are cut by themselves"),
    ignored("read-buffer-size", Value::Needed, OWN_WAY),
    refused("absolute-names", Value::None, "names that lead out of the directory are never taken"),
    ignored("fifo-streams", Value::Needed, "one stream is fast enough"),
    switch("version", "which version this is").letter('V'),
    switch("help", "this table").letter('?'),
];

/// Of xbcrypt.
pub(super) const XBCRYPT: &[Row] = &[
    switch("decrypt", "xb-crypt -d").letter('d'),
    needs("encrypt-algo", "AES128, AES192 or AES256; the key's length tells which").letter('a'),
    refused(
        "encrypt-key",
        Value::Needed,
        "write the key into a file of mode 0600, and name that with --encrypt-key-file",
    )
    .letter('k')
    .secret(),
    needs("encrypt-key-file", "xb-crypt --key-file").letter('f'),
    needs("input", "xb-crypt < FILE").letter('i'),
    needs("output", "xb-crypt > FILE").letter('o'),
    ignored("encrypt-chunk-size", Value::Needed, "chunks are cut by themselves").letter('s'),
    ignored("read-buffer-size", Value::Needed, OWN_WAY),
    may("encrypt-threads", "xb-crypt --threads").letter('t'),
    switch("verbose", "xb-crypt --verbose").letter('v'),
    switch("version", "which version this is").letter('V'),
    switch("help", "this table").letter('?'),
];
