#!/usr/bin/env bash
# An increment of 1 GB of tables with 1 % changed pages, against mariadb-backup: time, bytes, merging it, restoring both.
# ROWS (1000000) for each of four tables.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup sysbench
ROWS=${ROWS:-1000000}

start_server
fill 4 "$ROWS"
settle
stock="mariadb-backup --no-defaults --backup --parallel=2 --socket=$SOCKET --user=root"
xb-snap -S "$SOCKET" -u root -q | xb-redo -q | xb-unpack -q --no-sync -C "$SCRATCH/full"
$stock --target-dir="$SCRATCH/peer" >"$SCRATCH/out" 2>&1
cp -r "$SCRATCH/peer" "$SCRATCH/peer-unprepared"
mariadb-backup --no-defaults --prepare --target-dir="$SCRATCH/peer" >"$SCRATCH/out" 2>&1
# About 70 rows are in a page: one row of every hundredth page.
for table in 1 2 3 4; do sql -e "UPDATE sb.sbtest$table SET pad=REVERSE(pad) WHERE id % 7000 = 0"; done
settle

header "increment of $(du -sm "$SCRATCH/data/sb" | cut -f1) MB with 1 % changed pages"
ours="xb-snap -S $SOCKET -u root -j 2 -q --incremental-basedir=$SCRATCH/full | xb-redo -q"
peer="$stock --stream=xbstream --target-dir=$SCRATCH --incremental-basedir=$SCRATCH/peer"
tables() { warm "$SCRATCH"/data/sb/*.ibd "$SCRATCH/data/ibdata1"; }
BEFORE=tables
versus "increment to /dev/null, 2 threads, in the page cache" "$ours" "$peer"
a=$(bash -c "$ours" | wc -c)
b=$(bash -c "$peer" 2>/dev/null | wc -c)
awk -v a="$a" -v b="$b" 'BEGIN { printf "| size | %.1f MB | %.1f MB | %.2f |\n", a / 1e6, b / 1e6, b / a }'

bash -c "$ours" | xb-unpack -q --no-sync -C "$SCRATCH/inc"
mkdir "$SCRATCH/peer-inc"
bash -c "$peer" 2>/dev/null | mbstream -x -C "$SCRATCH/peer-inc"
# Both change the base, and the peer the increment as well.
fresh() {
    rm -rf "$SCRATCH"/run
    mkdir "$SCRATCH/run"
    cp -r --sparse=auto "$SCRATCH"/{full,inc,peer,peer-unprepared,peer-inc} "$SCRATCH/run"
    sync -f "$SCRATCH"
}
BEFORE=fresh
fresh
run=$SCRATCH/run
prepare="mariadb-backup --no-defaults --prepare --use-memory=256M"
versus "merge into the base (peer: --prepare --incremental-dir on a prepared base)" \
    "xb-redo --merge $run/full --incremental-dir $run/inc -q" \
    "$prepare --target-dir=$run/peer --incremental-dir=$run/peer-inc"
fresh
versus "base and increment made a data directory (peer: both prepared)" \
    "xb-redo --apply $run/full --incremental-dir $run/inc --use-memory=256M -q" \
    "$prepare --target-dir=$run/peer-unprepared && $prepare --target-dir=$run/peer-unprepared --incremental-dir=$run/peer-inc"
