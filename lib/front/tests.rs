//! Command lines of stock programs, and what they come to.

use super::line::Secret;
use super::plan::{Input, Output, Pipeline};
use super::*;

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn parsed(program: Program, text: &str) -> Result<(Line, Vec<Secret>)> {
    let mut secrets = Vec::new();
    let line = line::parse(&program.grammar(), &words(text), &mut secrets)?;
    Ok((line, secrets))
}

fn plan(text: &str) -> Result<Plan> {
    let (name, arguments) = text.split_once(' ').unwrap_or((text, ""));
    let program = Program::named(OsStr::new(name)).unwrap();
    let around = Surroundings { now: "2011-12-25_00-00-09".into(), option_file: None };
    plan::of(program, &parsed(program, arguments)?.0, &around)
}

/// A pipeline as a shell would have it, without what every stage gets.
fn shown(pipeline: &Pipeline) -> String {
    let stage = |stage: &plan::Stage| {
        let words = stage.arguments.iter().map(|word| word.to_string_lossy()).filter(|word| word != "--log=json");
        [stage.tool.to_owned()].into_iter().chain(words.map(Into::into)).collect::<Vec<_>>().join(" ")
    };
    let input = match &pipeline.input {
        Input::File(path) => format!(" < {}", path.display()),
        Input::Nothing | Input::Ours | Input::Names(_) => String::new(),
    };
    let output = match &pipeline.output {
        Output::Nowhere => "",
        Output::Ours => " >",
        Output::File(path) => &format!(" > {}", path.display()),
    };
    pipeline.stages.iter().map(stage).collect::<Vec<_>>().join(" | ") + &input + output
}

fn run_of(text: &str) -> String {
    match plan(text).unwrap_or_else(|error| panic!("{text}: {error}")) {
        Plan::Run(pipeline) => shown(&pipeline),
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn assert_table(table: &[(&str, &str)]) {
    for (theirs, ours) in table {
        assert_eq!(run_of(theirs), *ours, "{theirs}");
    }
}

#[test]
fn a_backup_becomes_a_pipeline() {
    assert_table(&[
        ("mariadb-backup --backup --target-dir=/b", "xb-snap | xb-redo | xb-unpack --directory=/b"),
        ("mariabackup --backup --target-dir /b --stream mbstream", "xb-snap | xb-redo >"),
        ("xtrabackup --backup --stream=xbstream", "xb-snap | xb-redo >"),
        ("xtrabackup --backup --stream=xbstream ./", "xb-snap | xb-redo >"),
        (
            "xtrabackup --backup --compress --compress-threads=8 --stream=xbstream --parallel=4 ./",
            "xb-snap --threads=4 | xb-redo | xb-zip --algorithm=zstd --threads=8 >",
        ),
        (
            "xtrabackup --backup --compress=lz4 --encrypt=AES256 --encrypt-key-file=/k --encrypt-threads=2 --target-dir=/b",
            "xb-snap | xb-redo | xb-zip --algorithm=lz4 | xb-crypt --format=xbcrypt --key-file=/k --allow-readable-key --threads=2 | \
             xb-unpack --directory=/b",
        ),
        (
            "xtrabackup --backup --compress --compress-zstd-level=3 --stream=xbstream",
            "xb-snap | xb-redo | xb-zip --algorithm=zstd -3 >",
        ),
        (
            "mariadb-backup --backup --throttle=3 --tmpdir=/t:/u --target-dir=/b",
            "xb-snap --spool-dir=/t | xb-redo --spool-dir=/t | xb-throttle --rate-limit=3m | xb-unpack --directory=/b",
        ),
        ("xtrabackup --backup --throttle=3 --stream=xbstream", "xb-snap | xb-redo | xb-throttle --rate-limit=30m >"),
    ]);
}

#[test]
fn what_is_copied_is_told_to_xb_snap() {
    let rest = " | xb-redo | xb-unpack --directory=./xtrabackup_backupfiles";
    for (theirs, ours) in [
        (
            "--user=u --host=h --port=3307 --socket=/s --protocol=tcp",
            "--user=u --host=h --socket=/s --protocol=tcp --port=3307",
        ),
        ("-uu -pp", "--user=u --password-file=/dev/stdin"),
        ("--defaults-file=/f --defaults-group-suffix=.2", "--defaults-file=/f --defaults-group-suffix=.2"),
        ("--ssl --ssl-ca=/ca --ssl-verify-server-cert", "--ssl-ca=/ca --ssl --ssl-verify-server-cert"),
        ("--login-path=me", "--login-path=me"),
        ("--skip-ssl", "--skip-ssl"),
        ("--ssl=0 --ssl-mode=VERIFY_CA", "--ssl-mode=VERIFY_CA --skip-ssl"),
        ("--slave-info --safe-slave-backup --galera-info", "--replica-info --safe-replica --galera-info"),
        ("--no-lock", "--no-lock"),
        ("--databases-exclude=lost+found --tables=^d[.]", "--tables=^d[.] --databases-exclude=lost+found"),
        ("--incremental-basedir=/b --extra-lsndir=/l", "--extra-lsndir=/l --incremental-basedir=/b"),
        ("--backup-incremental-base=/b", "--incremental-basedir=/b"),
        ("--incremental-lsn=1:2", "--incremental-lsn=4294967298"),
        ("--incremental-basedir=. --incremental-lsn=9", "--incremental-lsn=9"),
        ("--incremental-history-uuid=u", "--incremental-history-uuid=u"),
        ("--innodb_log_checkpoint_now=1", "--checkpoint-now"),
        ("--innodb-log-checkpoint-now=0", ""),
        ("--ftwrl-wait-timeout=5 --ftwrl-wait-threshold=300", "--lock-timeout=5"),
        ("--lock-ddl=REDUCED", "--lock-ddl=end"),
    ] {
        let ours = if ours.is_empty() { "xb-snap".to_owned() } else { format!("xb-snap {ours}") };
        assert_eq!(run_of(&format!("mariadb-backup --backup {theirs}")), ours + rest, "{theirs}");
    }
}

#[test]
fn a_note_in_the_server_tells_the_whole_pipeline() {
    assert_table(&[
        (
            "mariabackup --backup --history=full --stream=xbstream",
            "xb-snap --history=full --history-field=tool_name=mariabackup --history-field=format=mbstream \
             --history-field=compressed=N --history-field=encrypted=N | xb-redo >",
        ),
        (
            "xtrabackup --backup --history --compress --target-dir=/b",
            "xb-snap --history= --history-field=tool_name=xtrabackup --history-field=format=file \
             --history-field=compressed=Y --history-field=encrypted=N | xb-redo | xb-zip --algorithm=zstd | xb-unpack \
             --directory=/b",
        ),
    ]);
}

#[test]
fn restoring_is_for_xb_redo() {
    assert_table(&[
        ("mariadb-backup --prepare --target-dir=/b", "xb-redo --apply=/b --wait"),
        (
            "mariadb-backup --prepare --target-dir=/b --incremental-dir=/i --use-memory=1G",
            "xb-redo --apply=/b --incremental-dir=/i --wait --use-memory=1G",
        ),
        ("xtrabackup --prepare --apply-log-only --target-dir=/b", "xb-redo --status=/b"),
        (
            "xtrabackup --prepare --rollback-prepared-trx --target-dir=/b",
            "xb-redo --apply=/b --rollback-prepared --wait",
        ),
        ("xtrabackup --prepare --rollback-prepared-trx --apply-log-only --target-dir=/b", "xb-redo --status=/b"),
        (
            "mariadb-backup --prepare --rollback-xa --innodb-force-recovery --target-dir=/b",
            "xb-redo --apply=/b --rollback-prepared --force-recovery --wait",
        ),
        (
            "mariadb-backup --prepare --innodb-force-recovery=6 --target-dir=/b",
            "xb-redo --apply=/b --force-recovery --wait",
        ),
        (
            "xtrabackup --prepare --apply-redo-only --target-dir=/b --prepare-incremental-from-dir=/i",
            "xb-redo --merge=/b --incremental-dir=/i",
        ),
        (
            "mariadb-backup --prepare --target-dir=/b --plugin-dir=/p",
            "xb-redo --apply=/b --wait --server-option=plugin-dir=/p",
        ),
        (
            "mariadb-backup --copy-back --target-dir=/b --datadir=/d --force-non-empty-directories",
            "xb-redo --copy-back=/b --datadir=/d --innodb-directories=/ --keep-existing",
        ),
        (
            "mariadb-backup --defaults-file=/f --move-back --target-dir=/b --aria-log-dir-path=/a --parallel=2",
            "xb-redo --copy-back=/b --defaults-file=/f --server-option=aria-log-dir-path=/a --innodb-directories=/ \
             --move --threads=2",
        ),
        (
            "xtrabackup --move-back --target-dir=/b --datadir=/d --log-bin=/l/bin",
            "xb-redo --copy-back=/b --datadir=/d --server-option=log-bin=/l/bin --innodb-directories=/ --move",
        ),
    ]);
}

#[test]
fn innobackupex_keeps_its_promises() {
    let rest = "xb-snap | xb-redo | xb-unpack --directory=";
    assert_table(&[
        ("innobackupex /b", &format!("{rest}/b/2011-12-25_00-00-09")),
        ("innobackupex --no-timestamp /b", &format!("{rest}/b")),
        ("innobackupex --stream=xbstream /b", "xb-snap | xb-redo >"),
        (
            "innobackupex --include=^d[.] /b",
            "xb-snap --tables=^d[.] | xb-redo | xb-unpack --directory=/b/2011-12-25_00-00-09",
        ),
        ("innobackupex --Apply_log /b", "xb-redo --apply=/b --wait"),
        ("innobackupex --apply-log --redo-only /b --incremental-dir=/i", "xb-redo --merge=/b --incremental-dir=/i"),
        ("innobackupex --copy-back --datadir=/d /b", "xb-redo --copy-back=/b --datadir=/d --innodb-directories=/"),
    ]);
    assert!(plan("innobackupex --incremental /b").is_err());
    assert!(plan("innobackupex").is_err());
}

#[test]
fn streams_and_single_files_are_for_their_tools() {
    assert_table(&[
        ("xbstream -c a b", "xb-pack --no-manifest -- a b >"),
        ("mbstream -c -C /d -p 2 a", "xb-pack --no-manifest --directory=/d --threads=2 -- a >"),
        ("mbstream -x", "xb-unpack --keep-existing --"),
        ("xbstream -xv -C /d", "xb-unpack --verbose --keep-existing --directory=/d --"),
        (
            "xbstream --directory /d --extract --decompress --decompress-threads 2 --decrypt AES256 --encrypt-key-file /k",
            "xb-crypt --decrypt --key-file=/k --allow-readable-key | xb-zip --decompress --threads=2 | xb-unpack --keep-existing \
             --directory=/d --",
        ),
        ("xbcrypt -d -f /k -i a -o b", "xb-crypt --raw --decrypt --key-file=/k --allow-readable-key < a > b"),
        ("xbcrypt -a AES256 -f /k", "xb-crypt --raw --format=xbcrypt --key-file=/k --allow-readable-key >"),
    ]);
}

#[test]
fn what_would_change_the_result_is_refused() {
    for (text, says) in [
        ("xtrabackup --backup --encrypt=AES256 --encrypt-key=secret", "--encrypt-key"),
        ("xtrabackup --backup --encrypt=AES256", "no key is named"),
        ("xtrabackup --backup --encrypt=DES --encrypt-key-file=/k", "no cipher"),
        ("xtrabackup --backup --stream=tar", "not written"),
        ("xtrabackup --backup --compress=gzip", "not written"),
        ("xtrabackup --backup --rocksdb-backup", "--rocksdb-backup"),
        ("mariadb-backup --backup --ssl-crl=/c", "--ssl-crl"),
        ("mariadb-backup --backup --log-innodb-page-corruption", "--log-innodb-page-corruption"),
        ("mariadb-backup --backup --innodb-log-write-ahead-size=4095", "power of two"),
        ("mariadb-backup --prepare --export", "--export"),
        ("mariadb-backup --backup --innodb-force-recovery=1", "should only be used with \"--prepare\""),
        ("innobackupex --innodb-force-recovery=1 /b", "should only be used with \"--apply-log\""),
        ("mariadb-backup --prepare --innodb-force-recovery=x", "is not a number"),
        ("mariadb-backup --backup --prepare", "one thing"),
        ("mariadb-backup --target-dir=/b", "not told what to do"),
        ("mariadb-backup --copy-back --target-dir=/b", "data directory"),
        ("mariadb-backup --backup --frobnicate", "no option of mariadb-backup"),
        ("mariadb-backup --backup gzip -", "no option"),
        ("xbstream -x --absolute-names", "--absolute-names"),
        ("xbcrypt -k secret", "--encrypt-key"),
    ] {
        let error = plan(text).expect_err(text).to_string();
        let says = says.replace("no option of", "is not an option of");
        assert!(error.contains(&says) || says == "no option" && error.contains("is no option"), "{text}: {error}");
    }
    // What is turned off is not asked for.
    for text in ["--skip-ssl", "--ssl=0", "--innodb-force-recovery=0", "--innodb-log-write-ahead-size=10000"] {
        plan(&format!("mariadb-backup --backup --target-dir=/b {text}"))
            .unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn options_are_read_as_my_getopt_reads_them() {
    let names = |text: &str| parsed(Program::MariadbBackup, text).map(|(line, _)| line);
    assert!(names("--skip-slave-info").is_ok_and(|line| !line.has("slave-info")));
    assert!(names("--slave_info --slave-info=0").is_ok_and(|line| !line.has("slave-info")));
    assert!(names("--loose-nonsense=1").is_ok());
    assert!(names("--mysqld-args --nonsense=1 -Z word").is_ok_and(|line| line.operands.is_empty()));
    assert!(names("--user").is_err() && names("--slave-info=maybe").is_err());
    // Percona's program takes beginnings of names, MariaDB's does not.
    assert!(names("--target=/b").is_err());
    let line = parsed(Program::Xtrabackup, "--target=/b").unwrap().0;
    assert_eq!(line.value("target-dir"), Some(OsStr::new("/b")));
    assert!(parsed(Program::Xtrabackup, "--encrypt-key=x --enc=1").is_err());
}

#[test]
fn secrets_are_found_wherever_they_stand() {
    for (text, places) in [
        ("--password=x --backup", vec![(0, 11)]),
        ("--backup --password x", vec![(2, 0)]),
        ("-px", vec![(0, 2)]),
        ("-uroot -pxyz", vec![(1, 2)]),
        ("--encrypt-key=k --password=p", vec![(0, 14), (1, 11)]),
    ] {
        let mut secrets = Vec::new();
        let _ = line::parse(&Program::MariadbBackup.grammar(), &words(text), &mut secrets);
        let found: Vec<_> = secrets.iter().map(|secret| (secret.argument, secret.from)).collect();
        assert_eq!(found, places, "{text}");
    }
    let mut secrets = Vec::new();
    let wrong = line::parse(&Program::Xtrabackup.grammar(), &words("--nonsense --password=x"), &mut secrets);
    assert!(wrong.is_err() && secrets.len() == 1, "behind a fault, too");
}

fn with_file(settings: &[(&str, &str)], arguments: &str) -> Result<Line> {
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let program = Program::MariadbBackup;
    parsed(program, arguments)?.0.behind(&program.grammar(), &settings)
}

#[test]
fn option_files_come_before_the_command_line() {
    let file =
        [("parallel", "4"), ("compress", ""), ("export", ""), ("rsync", ""), ("skip-slave-info", ""), ("loose-x", "")];
    let line = with_file(&file, "--backup --parallel=2").unwrap();
    assert_eq!(line.text("parallel").as_deref(), Some("2"));
    assert!(line.has("compress") && line.has("export") && !line.has("rsync") && !line.has("slave-info"));
    assert!(line.refuse().is_err(), "what cannot be done is no less asked for in a file");
}

#[test]
fn what_is_wrong_in_an_option_file_is_wrong() {
    for (setting, says) in [(("databses", "d"), "is not an option"), (("slave-info", "maybe"), "is a switch")] {
        let error = with_file(&[setting], "--backup").unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn no_option_has_two_rows() {
    for name in NAMES {
        let grammar = Program::named(OsStr::new(name)).unwrap().grammar();
        let rows: Vec<_> = grammar.tables.iter().copied().flatten().collect();
        let mut names: Vec<_> = rows.iter().flat_map(|row| row.names()).collect();
        let mut letters: Vec<_> = rows.iter().filter_map(|row| row.letter).collect();
        let count = (names.len(), letters.len());
        names.sort_unstable();
        names.dedup();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!((names.len(), letters.len()), count, "{name}");
    }
}
