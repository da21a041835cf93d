//! Hints for options of other programs that users may try. One table for each tool.

/// Options of other programs, and the hint for them.
pub(super) type Table = &'static [(&'static [&'static str], &'static str)];

/// By the name of the tool.
pub(super) const TABLES: &[(&str, Table)] = &[
    ("xb-snap", SNAP),
    ("xb-redo", REDO),
    ("xb-pack", PACK),
    ("xb-unpack", UNPACK),
    ("xb-zip", ZIP),
    ("xb-crypt", CRYPT),
    ("xb-throttle", THROTTLE),
    ("xb-sum", SUM),
];

/// The hint for an option that a tool does not have.
pub(super) fn answer(tool: &str, option: &str) -> Option<&'static str> {
    let (_, table) = TABLES.iter().find(|(name, _)| *name == tool)?;
    let option = option.split_once('=').map_or(option, |(name, _)| name);
    table.iter().find(|(options, _)| options.contains(&option)).map(|(_, answer)| *answer)
}

/// Of mariadb-backup, xtrabackup and innobackupex.
const SNAP: Table = &[
    (&["--backup"], "xb-snap always makes a backup: xb-snap | xb-redo | xb-unpack -C DIR"),
    (&["--target-dir"], "xb-snap … | xb-redo | xb-unpack -C DIR"),
    (&["--stream"], "the output is an xbstream: xb-snap … | xb-redo > FILE"),
    (&["--compress", "--compress-threads", "--compress-chunk-size"], "xb-snap … | xb-redo | xb-zip > FILE"),
    (&["--decompress"], "xb-zip -d < FILE | xb-unpack -C DIR"),
    (
        &["--encrypt", "--encrypt-key", "--encrypt-key-file", "--encrypt-threads", "--encrypt-chunk-size"],
        "xb-snap … | xb-redo | xb-crypt -k KEYFILE > FILE",
    ),
    (&["--decrypt"], "xb-crypt -d -k KEYFILE < FILE | xb-unpack -C DIR"),
    (&["--prepare", "--apply-log"], "xb-redo --apply DIR"),
    (&["--apply-log-only", "--redo-only"], "xb-redo --merge DIR --incremental-dir DIR"),
    (&["--incremental-dir"], "xb-redo --apply DIR --incremental-dir DIR"),
    (&["--copy-back"], "xb-redo --copy-back DIR --datadir DATADIR"),
    (&["--move-back"], "xb-redo --copy-back DIR --move --datadir DATADIR"),
    (&["--throttle"], "xb-snap … | xb-redo | xb-throttle -L RATE > FILE"),
    (&["--password", "-p"], "--password-file FILE, or an option file: others can see a command line"),
    (&["-H"], "--host HOST"),
    (&["--incremental"], "--incremental-basedir DIR"),
    (&["--tmpdir", "-t"], "--spool-dir DIR"),
    (&["--no-timestamp"], "xb-unpack -C DIR names the directory"),
    (
        &["--lock-ddl-per-table", "--no-backup-locks", "--ftwrl-wait-timeout", "--lock-wait-timeout"],
        "--lock-ddl WHEN, --lock-timeout S",
    ),
    (&["--export"], "nothing to do: tables of an applied backup can be imported as they are"),
];

const REDO: Table = &[
    (&["--prepare", "--apply-log"], "--apply DIR"),
    (&["--apply-log-only", "--redo-only"], "--merge DIR --incremental-dir DIR"),
    (&["--target-dir"], "the directory follows what is to be done: --apply DIR, --copy-back DIR"),
    (&["--move-back"], "--copy-back DIR --move"),
    (&["--incremental-basedir"], "--apply BASE --incremental-dir DIR"),
    (&["--backup"], "xb-snap | xb-redo | xb-unpack -C DIR"),
    (&["--decompress"], "xb-zip -d < FILE | xb-unpack -C DIR"),
    (&["--decrypt"], "xb-crypt -d -k KEYFILE < FILE | xb-unpack -C DIR"),
    (&["--force-non-empty-directories"], "--keep-existing"),
    (&["--keyring-file-data"], "--keyring FILE"),
];

/// Of mbstream, xbstream and tar.
const PACK: Table = &[
    (&["-x", "--extract"], "xb-unpack -C DIR < FILE"),
    (&["-t", "--list"], "xb-unpack --list < FILE"),
    (&["-p"], "-j N"),
    (&["-f"], "xb-pack … > FILE"),
    (&["-z", "--gzip", "--compress"], "xb-pack … | xb-zip > FILE"),
];

/// The same programs.
const UNPACK: Table = &[
    (&["-c", "--create"], "xb-pack -C DIR . > FILE"),
    (&["-p"], "-j N"),
    (&["-f"], "xb-unpack … < FILE"),
    (&["--target-dir", "-o", "-d"], "-C DIR"),
    (&["--decompress", "-z", "--decompress-threads"], "xb-zip -d < FILE | xb-unpack -C DIR"),
    (
        &["--decrypt", "--encrypt-key", "--encrypt-key-file", "--encrypt-threads"],
        "xb-crypt -d -k KEYFILE < FILE | xb-unpack -C DIR",
    ),
    (&["--force", "--overwrite-dir"], "--overwrite"),
    (&["--test", "--check"], "--verify"),
];

/// Of zstd, lz4, qpress and gzip.
const ZIP: Table = &[
    (&["-z", "--compress"], "nothing: xb-zip compresses unless -d is given"),
    (&["--uncompress"], "-d"),
    (&["-T", "-p"], "-j N"),
    (&["-o", "--output"], "xb-zip … > FILE"),
    (&["-c", "--stdout", "--to-stdout"], "nothing: the output is stdout"),
    (&["-k", "--keep"], "nothing: no file is removed"),
    (&["-t", "--test"], "xb-unpack --verify < FILE"),
    (&["-l", "--list"], "xb-unpack --list < FILE"),
    (&["--fast", "--ultra", "--long"], "a level, -1 to -19"),
    (&["-f", "--force"], "> FILE replaces a file by itself"),
    (&["--format"], "-a zstd, -a lz4"),
];

/// Of xbcrypt and openssl.
const CRYPT: Table = &[
    (&["-i", "--input", "-in"], "xb-crypt … < FILE"),
    (&["-o", "--output", "-out"], "xb-crypt … > FILE"),
    (&["-e", "--encrypt"], "nothing: xb-crypt encrypts unless -d is given"),
    (&["--encrypt-key-file", "-f"], "-k KEYFILE"),
    (&["--encrypt-key", "--key", "--pass", "--password"], "-k KEYFILE: others can see a command line"),
    (&["--encrypt-threads", "--read-buffer-size"], "-j N"),
    (&["--encrypt-algo"], "--format xbcrypt reads and writes AES of the key's length"),
    (&["--encrypt-chunk-size", "-s"], "nothing: chunks are cut by themselves"),
];

/// Of pv.
const THROTTLE: Table = &[
    (
        &["-p", "-t", "-e", "-r", "-a", "-b", "--timer", "--eta", "--rate", "--average-rate", "--bytes"],
        "all of it is shown by itself on a terminal, with --progress=always elsewhere",
    ),
    (&["-f", "--force"], "--progress=always"),
    (&["-c", "--cursor", "-W", "--wait", "-w", "--width", "-H", "--height"], "nothing: the line fits by itself"),
    (&["-B", "--buffer-size", "-C", "--no-splice"], "--burst MS"),
    (&["-l", "--line-mode", "-0", "--null"], "bytes only are counted"),
    (&["-d", "--watchfd"], "-R PID changes the rate of one that runs"),
    (&["-o", "--output"], "xb-throttle … > FILE"),
];

/// Of sha256sum and similar programs.
const SUM: Table = &[
    (&["-b", "--binary", "-t", "--text"], "nothing: bytes are summed as they are"),
    (&["--status"], "-q"),
    (&["--tag", "-z", "--zero"], "xb-sum … > FILE passes the stream on; -o FILE has the sums"),
    (&["-w", "--warn", "--strict", "--ignore-missing"], "nothing: -c FILE takes nothing that it does not understand"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart_by_tool() {
        assert!(answer("xb-snap", "--target-dir=/srv").is_some_and(|answer| answer.contains("xb-unpack -C DIR")));
        assert_eq!(answer("xb-unpack", "--target-dir"), Some("-C DIR"));
        assert_eq!(answer("xb-unpack", "--frobnicate"), None);
    }

    #[test]
    fn an_option_has_one_answer() {
        for (_, table) in TABLES {
            let mut all: Vec<&str> = table.iter().flat_map(|(options, _)| options.iter().copied()).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
