#!/usr/bin/env bash
# An increment of 1 GB of tables with 1 % changed pages: time, bytes, merging it. Of MariaDB against mariadb-backup, with
# restoring both; then of MySQL, of which no other program here makes increments, so "peer" is xb-tools on MariaDB.
# ROWS (1000000) for each of four tables; FAMILIES (mariadb mysql).
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup sysbench
ROWS=${ROWS:-1000000}
FAMILIES=${FAMILIES:-mariadb mysql}

stock="mariadb-backup --no-defaults --backup --parallel=2 --socket=$SOCKET --user=root"
prepare="mariadb-backup --no-defaults --prepare --use-memory=256M"
ours="xb-snap --no-defaults -S $SOCKET -u root -j 2 -q --incremental-basedir=$SCRATCH/full | xb-redo -q"
peer="$stock --stream=xbstream --target-dir=$SCRATCH --incremental-basedir=$SCRATCH/peer"
MERGED=$SCRATCH/run
merge="xb-redo --merge $MERGED/full --incremental-dir $MERGED/inc -q"

full() { xb-snap --no-defaults -S "$SOCKET" -u root -q | xb-redo -q | xb-unpack -q --no-sync -C "$SCRATCH/full"; }
# About 70 rows are in a page: one row of every hundredth page.
change() {
    for table in 1 2 3 4; do sql -e "UPDATE sb.sbtest$table SET pad=REVERSE(pad) WHERE id % 7000 = 0"; done
    settle
}
tables() { warm "$SCRATCH"/data/sb/*.ibd "$SCRATCH/data/ibdata1"; }
# Merging changes the base, and the peer's preparing the increment as well.
fresh() {
    rm -rf "$MERGED"
    mkdir "$MERGED"
    cp -r --sparse=auto "$SCRATCH"/{full,inc,peer}* "$MERGED"
    sync -f "$SCRATCH"
}
# Keeps what was measured last, for the table of MySQL.
keep() { tail -n +2 "$SCRATCH/a" | median >"$SCRATCH/$1"; }
megabytes() { wc -c | awk '{ printf "%.1f", $1 / 1e6 }'; }

of_mariadb() {
    start_server
    fill 4 "$ROWS"
    settle
    full
    $stock --target-dir="$SCRATCH/peer" >"$SCRATCH/out" 2>&1
    cp -r "$SCRATCH/peer" "$SCRATCH/peer-unprepared"
    mariadb-backup --no-defaults --prepare --target-dir="$SCRATCH/peer" >"$SCRATCH/out" 2>&1
    change

    header "increment of $(du -sm "$SCRATCH/data/sb" | cut -f1) MB with 1 % changed pages"
    BEFORE=tables
    versus "increment to /dev/null, 2 threads, in the page cache" "$ours" "$peer"
    keep mariadb.increment
    bash -c "$ours" | megabytes >"$SCRATCH/mariadb.size"
    b=$(bash -c "$peer" 2>/dev/null | megabytes)
    awk -v a="$(cat "$SCRATCH/mariadb.size")" -v b="$b" 'BEGIN { printf "| size | %s MB | %s MB | %.2f |\n", a, b, b / a }'

    bash -c "$ours" | xb-unpack -q --no-sync -C "$SCRATCH/inc"
    mkdir "$SCRATCH/peer-inc"
    bash -c "$peer" 2>/dev/null | mbstream -x -C "$SCRATCH/peer-inc"
    BEFORE=fresh
    versus "merge into the base (peer: --prepare --incremental-dir on a prepared base)" \
        "$merge" "$prepare --target-dir=$MERGED/peer --incremental-dir=$MERGED/peer-inc"
    keep mariadb.merge
    versus "base and increment made a data directory (peer: both prepared)" \
        "xb-redo --apply $MERGED/full --incremental-dir $MERGED/inc --use-memory=256M -q" \
        "$prepare --target-dir=$MERGED/peer-unprepared && $prepare --target-dir=$MERGED/peer-unprepared --incremental-dir=$MERGED/peer-inc"
    stop_server
    rm -rf "$SCRATCH"/{data,run,full*,inc*,peer*}
}

# measure NAME COMMAND: as versus, without a peer.
measure() {
    : >"$SCRATCH/a"
    for _ in $(seq 0 "$RUNS"); do $BEFORE; seconds bash -o pipefail -c "$2" >>"$SCRATCH/a"; done
    keep "$1"
}

of_mysql() {
    need "$MYSQLD"
    # Filled faster; what is measured does not depend on it.
    start_mysql --sync-binlog=0 --innodb-flush-log-at-trx-commit=0
    fill 4 "$ROWS"
    settle
    full
    change
    BEFORE=tables
    measure mysql.increment "$ours"
    bash -c "$ours" | tee >(megabytes >"$SCRATCH/mysql.size") | xb-unpack -q --no-sync -C "$SCRATCH/inc"
    mkdir "$SCRATCH/peer"
    BEFORE=fresh
    measure mysql.merge "$merge"

    header "the same of MySQL ($("$MYSQLD" --version | awk '{ print $3 }')), $(du -sm "$SCRATCH/data/sb" | cut -f1) MB; peer: of MariaDB, both by xb-tools"
    told() { cat "$SCRATCH/$1" 2>/dev/null || echo -; }
    echo "| increment to /dev/null | $(told mysql.increment) s | $(told mariadb.increment) s | |"
    echo "| size | $(told mysql.size) MB | $(told mariadb.size) MB | |"
    echo "| merge into the base | $(told mysql.merge) s | $(told mariadb.merge) s | |"
}

for family in $FAMILIES; do "of_$family"; done
