//! What known programs run, word for word; `research/callers.md` has where. Each line is a shell's, with the front's links
//! first in PATH.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Flavour, Pipeline, Server, check, scratch, test_on, xb};

/// A caller, and its lines from the backup to the new data directory.
struct Caller {
    name: &'static str,
    lines: &'static [&'static str],
}

/// `$F` is the server's option file, `$S` its socket, `$O` the option file of the new server, `$W` a directory to work in,
/// `$T` that of the backup, `$D` the new data directory.
const MARIADB: &[Caller] = &[
    Caller {
        name: "mariadb-operator",
        lines: &[
            "mariadb-backup --defaults-file=$F --backup --stream=xbstream --databases-exclude=lost+found --slave-info \
             --safe-slave-backup > $W/f",
            "mkdir $T && mbstream -x -C $T < $W/f",
            "mariadb-backup --prepare --target-dir=$T",
            "mariadb-backup --defaults-file=$O --copy-back --target-dir=$T --force-non-empty-directories",
        ],
    },
    Caller {
        name: "MaxScale",
        lines: &[
            "mariabackup -v",
            "mariabackup --defaults-file=$F --user=maxscale --password=geheim --backup --safe-slave-backup \
             --target-dir=/tmp --stream=xbstream --parallel=2 | gzip -c > $W/f",
            "gzip -dc < $W/f | mbstream -x --directory=$D",
            "mariabackup --prepare --use-memory=1G --target-dir=$D",
        ],
    },
    Caller {
        name: "ddev",
        lines: &[
            "mariabackup --backup --stream=mbstream --user=maxscale --password=geheim --socket=$S | zstd -q > $W/f",
            "mkdir $T && zstd -dqc $W/f | mbstream -x -C $T",
            "mariabackup --datadir=$D --prepare --skip-innodb-use-native-aio --target-dir $T --user=root --password=root",
            "mariabackup --datadir=$D --copy-back --skip-innodb-use-native-aio --force-non-empty-directories \
             --target-dir $T --user=root --password=root",
        ],
    },
    Caller {
        name: "kubeblocks",
        lines: &[
            "mariadb-backup --defaults-file=$F --backup --slave-info --stream=mbstream --user=maxscale \
             --password=geheim --datadir=$M --skip-ssl > $W/f",
            "mkdir $T && mbstream -x -C $T < $W/f",
            "mariadb-backup --prepare --target-dir=$T",
            "mariadb-backup --move-back --target-dir=$T --datadir=$D",
        ],
    },
    Caller {
        name: "wsrep_sst_mariabackup",
        lines: &[
            "mkdir $T && mariadb-backup --defaults-file=$F --backup --databases-exclude=lost+found --parallel=2 \
             --tmpdir=$T --galera-info --stream=mbstream --target-dir=$T --datadir=$M \
             --mysqld-args --wsrep-on=OFF --basedir=/usr --innodb-buffer-pool-size=64M > $W/f",
            "mkdir $W/.sst && mbstream -x -C $W/.sst < $W/f",
            "mariadb-backup --prepare --target-dir=$W/.sst --datadir=$W/.sst --mysqld-args --wsrep-on=OFF",
            "mariadb-backup --defaults-file=$O --move-back --galera-info --force-non-empty-directories \
             --target-dir=$W/.sst --datadir=$D",
        ],
    },
    Caller {
        name: "Trove",
        lines: &[
            "mariadb-backup --defaults-file=$F --backup --stream=xbstream --user=maxscale --password=geheim > $W/f",
            "mbstream -x -C $D < $W/f",
            "mariadb-backup --prepare --target-dir=$D",
        ],
    },
    Caller {
        name: "Bareos",
        lines: &[
            "mkdir $W/lsn && mariadb-backup --defaults-file=$F --backup --stream=xbstream --extra-lsndir=$W/lsn > $W/f",
            "mariadb-backup --defaults-file=$F --backup --stream=xbstream --extra-lsndir=$W/lsn2 \
             --incremental-basedir=$W/lsn > $W/i",
            "mkdir $T $W/inc && mbstream -x -C $T < $W/f && mbstream -x -C $W/inc < $W/i",
            "mariadb-backup --prepare --target-dir=$T",
            "mariadb-backup --prepare --target-dir=$T --incremental-dir=$W/inc",
            "mariadb-backup --copy-back --target-dir=$T --datadir=$D",
        ],
    },
    Caller {
        name: "innobackupex",
        lines: &[
            "innobackupex --defaults-file=$F --no-timestamp $T",
            "innobackupex --apply-log $T",
            "innobackupex --defaults-file=$O --copy-back $T",
        ],
    },
];

/// The same for MySQL. `$K` is a file with a key.
const MYSQL: &[Caller] = &[
    Caller {
        name: "Percona's operators",
        lines: &[
            "xtrabackup --defaults-file=$F --backup --stream=xbstream --safe-slave-backup --slave-info --target-dir=$W \
             --databases-exclude=lost+found --user=maxscale --password=geheim --encrypt-key-file=$K --encrypt=AES256 \
             > $W/f",
            "mkdir $T && xbstream -xv -C $T --parallel=2 < $W/f",
            "xtrabackup --decrypt=AES256 --encrypt-key-file=$K --target-dir=$T",
            "xtrabackup --prepare --target-dir=$T",
            "xtrabackup --datadir=$D --move-back --force-non-empty-directories --target-dir=$T",
        ],
    },
    Caller {
        name: "kubeblocks",
        lines: &[
            "xtrabackup --defaults-file=$F --compress=zstd --backup --safe-slave-backup --slave-info --stream=xbstream \
             --user=maxscale --password=geheim --datadir=$M > $W/f",
            "mkdir $T && xbstream -x -C $T < $W/f",
            "xtrabackup --decompress --remove-original --target-dir=$T",
            "xtrabackup --prepare --target-dir=$T",
            "xtrabackup --move-back --target-dir=$T --datadir=$D --log-bin=$W/binlog",
        ],
    },
    Caller {
        name: "Vitess",
        lines: &[
            "xtrabackup --defaults-file=$F --backup --socket=$S --slave-info --user=root --target-dir=$W --stream=xbstream \
             > $W/f",
            "mkdir $T && xbstream -C $T -xv < $W/f",
            "xtrabackup --defaults-file=$O --prepare --target-dir=$T",
            "xtrabackup --defaults-file=$O --move-back --target-dir=$T",
        ],
    },
    Caller {
        name: "myhoard",
        lines: &[
            "mkdir $W/lsn && xtrabackup --defaults-file=$F --backup --compress --compress-threads=2 --encrypt AES256 \
             --encrypt-threads=2 --encrypt-key-file $K --no-version-check --parallel=2 --stream=xbstream \
             --target-dir $W --extra-lsndir $W/lsn --register-redo-log-consumer --estimate-memory=ON > $W/f",
            "mkdir $T && xbstream --directory $T --extract --decompress --decompress-threads 2 --decrypt AES256 \
             --encrypt-key-file $K --encrypt-threads 2 --parallel 2 --verbose < $W/f",
            "xtrabackup --defaults-file=$O --use-free-memory-pct=50 --no-version-check --prepare --target-dir $T",
            "xtrabackup --defaults-file=$O --move-back --target-dir=$T",
        ],
    },
    Caller {
        name: "bitpoke's operator",
        lines: &[
            "xtrabackup --defaults-file=$F --backup --slave-info --stream=xbstream --tables-exclude=^mysql[.]heartbeat \
             --user=maxscale --password=geheim --target-dir=$W > $W/f",
            "xbstream --extract --directory=$D < $W/f",
            "xtrabackup --prepare --target-dir=$D",
        ],
    },
];

/// Those that make increments, or connect by TCP. `sql` begins what the server does meanwhile.
const MARIADB_MORE: &[Caller] = &[
    Caller {
        // What it runs is the user's own command, to which it adds.
        name: "WAL-G",
        lines: &[
            "mkdir $W/lsn $W/lsn2 && mariadb-backup --defaults-file=$F --backup --stream=xbstream --user=maxscale \
             --password=geheim --extra-lsndir=$W/lsn > $W/f",
            "sql INSERT IGNORE INTO d.t VALUES (3, 'three')",
            "mariadb-backup --defaults-file=$F --backup --stream=xbstream --user=maxscale --password=geheim \
             --extra-lsndir=$W/lsn2 --incremental-lsn=$(sed -n 's/^to_lsn = //p' $W/lsn/xtrabackup_checkpoints) > $W/i",
            "mkdir $T $W/inc && mbstream -x -C $T < $W/f && mbstream -x -C $W/inc < $W/i",
            "mariadb-backup --prepare --target-dir=$T --apply-log-only",
            "mariadb-backup --prepare --target-dir=$T --incremental-dir=$W/inc",
            "mariadb-backup --copy-back --target-dir=$T --datadir=$D",
        ],
    },
    Caller {
        name: "TwinDB",
        lines: &[
            "xtrabackup --defaults-file=$F --stream=xbstream --host=127.0.0.1 --port=$P --user=maxscale --password=geheim --backup --target-dir . --galera-info \
             --no-backup-locks > $W/f",
            "mkdir $T $W/inc && xbstream -x -C $T < $W/f",
            "sql INSERT IGNORE INTO d.t VALUES (4, 'four')",
            "xtrabackup --defaults-file=$F --stream=xbstream --host=127.0.0.1 --port=$P --user=maxscale --password=geheim --backup --target-dir . --galera-info \
             --no-backup-locks --incremental-basedir . \
             --incremental-lsn=$(sed -n 's/^to_lsn = //p' $T/xtrabackup_checkpoints) > $W/i",
            "xbstream -x -C $W/inc < $W/i",
            "xtrabackup --prepare --apply-log-only --target-dir=$T",
            "xtrabackup --prepare --target-dir=$T --incremental-dir=$W/inc",
            "xtrabackup --copy-back --target-dir=$T --datadir=$D",
        ],
    },
    Caller {
        name: "Holland",
        lines: &[
            "mariadb-backup --defaults-file=$F --backup --stream=xbstream --tmpdir=$W --slave-info --safe-slave-backup \
             --no-lock --target-dir=$W > $W/f",
            "mbstream -x -C $D < $W/f",
            "mariadb-backup --prepare --target-dir=$D",
        ],
    },
    Caller {
        // Which options there are, and files of its own before the stream.
        name: "wsrep_sst_mariabackup, aside",
        lines: &[
            "mariadb-backup --help | grep -- --version-check",
            "mkdir $T $W/info && echo 1 > $W/info/xtrabackup_galera_info && echo 2 > $W/info/donor_galera_info",
            "cd $W/info && mbstream -c xtrabackup_galera_info donor_galera_info > $W/f",
            "mariadb-backup --defaults-file=$F --backup --stream=mbstream > $W/g && mkdir $W/.sst",
            "mbstream -x -C $W/.sst < $W/f && mbstream -x -C $T < $W/g && cmp $W/.sst/donor_galera_info $W/info/donor_galera_info",
            "mariadb-backup --innobackupex --apply-log $T",
            "mariadb-backup --innobackupex --defaults-file=$O --move-back --force-non-empty-directories $T",
        ],
    },
];

const MYSQL_MORE: &[Caller] = &[
    Caller {
        name: "Percona's operators, increments",
        lines: &[
            "mkdir $W/info && echo 1 > $W/info/sst_info && xbstream -C $W/info -c sst_info > $W/s",
            "xtrabackup --defaults-file=$F --backup --stream=xbstream --safe-slave-backup --slave-info --target-dir=$W \
             --databases-exclude=lost+found --user=maxscale --password=geheim --compress > $W/f",
            "mkdir $T $W/inc $W/far && xbstream -x -C $W/far < $W/s && cmp $W/far/sst_info $W/info/sst_info && xbstream -x --decompress -C $T < $W/f",
            "sql INSERT IGNORE INTO d.t VALUES (3, 'three')",
            "xtrabackup --defaults-file=$F --backup --stream=xbstream --safe-slave-backup --slave-info --target-dir=$W \
             --databases-exclude=lost+found --user=maxscale --password=geheim \
             --incremental-lsn=$(sed -n 's/^to_lsn = //p' $T/xtrabackup_checkpoints) > $W/i",
            "xbstream -xv -C $W/inc --parallel=2 < $W/i",
            "xtrabackup --prepare --apply-log-only --target-dir=$T",
            "xtrabackup --prepare --rollback-prepared-trx --target-dir=$T --incremental-dir=$W/inc",
            "xtrabackup --datadir=$D --move-back --force-non-empty-directories --target-dir=$T",
        ],
    },
    Caller {
        name: "kubeblocks, increments",
        lines: &[
            "xtrabackup --defaults-file=$F --compress=zstd --backup --safe-slave-backup --slave-info --stream=xbstream \
             --host=127.0.0.1 --port=$P --user=maxscale --password=geheim --datadir=$M 2> $W/log > $W/f",
            "sql INSERT IGNORE INTO d.t VALUES (4, 'four')",
            "xtrabackup --defaults-file=$F --compress=zstd --backup --safe-slave-backup --slave-info --stream=xbstream \
             --host=127.0.0.1 --port=$P --user=maxscale --password=geheim --datadir=$M \
             --incremental-lsn=$(grep 'The latest check point (for incremental)' $W/log | grep -o \"'[0-9]*'\" | tr -d \"'\") > $W/i",
            "mkdir $T $W/inc && xbstream -x -C $T < $W/f && xbstream -x -C $W/inc < $W/i",
            "xtrabackup --decompress --remove-original --target-dir=$T",
            "xtrabackup --decompress --remove-original --target-dir=$W/inc",
            "xtrabackup --prepare --apply-log-only --target-dir=$T",
            "xtrabackup --prepare --apply-log-only --target-dir=$T --incremental-dir=$W/inc",
            "xtrabackup --prepare --target-dir=$T",
            "xtrabackup --move-back --target-dir=$T --datadir=$D --log-bin=$W/binlog",
        ],
    },
    Caller {
        name: "AutoXtraBackup",
        lines: &[
            "xtrabackup --defaults-file=$F --user=maxscale --password=geheim --target-dir=$T --backup",
            "sql INSERT IGNORE INTO d.t VALUES (5, 'five')",
            "xtrabackup --defaults-file=$F --user=maxscale --password=geheim --target-dir=$W/inc --incremental-basedir=$T \
             --backup",
            "xtrabackup --prepare --apply-log-only --target-dir=$T",
            "xtrabackup --prepare --target-dir=$T --incremental-dir=$W/inc",
            "xtrabackup --copy-back --target-dir=$T --datadir=$D",
            "echo text > $W/a && xbcrypt -a AES256 -f $K -i $W/a -o $W/b && xbcrypt -d -f $K -a AES256 -i $W/b -o $W/c && cmp $W/a $W/c",
        ],
    },
];

test_on!(known_callers_get_what_they_ask_for: mariadb, mysql97);

fn known_callers_get_what_they_ask_for(flavour: Flavour) {
    all(flavour, if flavour == Flavour::Mysql97 { MYSQL } else { MARIADB });
}

test_on!(callers_of_increments_get_what_they_ask_for: mariadb, mysql97);

fn callers_of_increments_get_what_they_ask_for(flavour: Flavour) {
    all(flavour, if flavour == Flavour::Mysql97 { MYSQL_MORE } else { MARIADB_MORE });
}

fn all(flavour: Flavour, callers: &[Caller]) {
    let server = Server::new().flavour(flavour).networked().start();
    server.sql(
        "CREATE USER maxscale IDENTIFIED BY 'geheim'; GRANT ALL ON *.* TO maxscale; CREATE DATABASE d; \
         CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(99)); INSERT INTO d.t VALUES (1, 'one'), (2, 'two')",
    );
    for caller in callers {
        eprintln!("{}", caller.name);
        replay(&server, caller);
    }
}

#[track_caller]
fn replay(server: &Server, caller: &Caller) {
    let (work, data) = (scratch(), scratch());
    let at = |name: &str| work.path().join(name);
    fs::write(at("new.cnf"), format!("[mysqld]\ndatadir={}\n", data.path().display())).unwrap();
    let links = links(&at("links"));
    let servers = server.flavour().server().parent().unwrap().to_owned();
    let port = server.value("SELECT @@port");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", links.display(), servers.display());
    for line in caller.lines {
        if let Some(statement) = line.strip_prefix("sql ") {
            server.sql(statement);
            continue;
        }
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", line]).current_dir(work.path()).env("PATH", &path);
        shell.env("F", server.option_file()).env("S", server.socket()).env("M", server.data());
        shell.env("O", at("new.cnf")).env("W", work.path()).env("T", at("target")).env("D", data.path());
        shell.env("K", super::key_file(work.path())).env("HOME", work.path()).env("P", &port);
        let run = Pipeline::new().stage(shell).limit(Duration::from_secs(120)).run();
        assert!(!run.late && run.codes() == [0], "{}: {line}\n{}", caller.name, run.story());
    }
    let copy = server.twin(data.path()).start();
    assert_eq!(
        copy.rows("SELECT * FROM d.t ORDER BY id"),
        server.rows("SELECT * FROM d.t ORDER BY id"),
        "{}",
        caller.name
    );
    check::same(server, &copy).assert_good();
}

/// A directory with links of all names.
pub(super) fn links(dir: &Path) -> std::path::PathBuf {
    fs::create_dir(dir).unwrap();
    for name in xb::front::NAMES {
        std::os::unix::fs::symlink(xb("xb-front").get_program(), dir.join(name)).unwrap();
    }
    dir.to_owned()
}
