#!/usr/bin/env bash
# xb-redo --apply against mariadb-backup --prepare on copies of one backup with much redo log. ROWS (500000) for each of
# four tables.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup sysbench

start_server
fill 4 "${ROWS:-500000}"
settle
sysbench oltp_write_only --mysql-socket="$SOCKET" --mysql-user=root --mysql-db=sb --tables=4 \
    --table-size="${ROWS:-500000}" --threads=4 --time=600 run >/dev/null 2>&1 &
load=$!
xb-snap --no-defaults -S "$SOCKET" -u root -q | xb-redo -q | xb-throttle -q -L 30m | xb-unpack -q -C "$SCRATCH/full"
kill "$load"; wait "$load" 2>/dev/null || true
stop_server
rm -rf "$SCRATCH/data"

header "a backup of $(du -sm "$SCRATCH/full" | cut -f1) MB with $(du -m --apparent-size "$SCRATCH/full/ib_logfile0" | cut -f1) MB of redo log, made a data directory"
fresh() { rm -rf "$SCRATCH/run" && cp -r --sparse=auto "$SCRATCH/full" "$SCRATCH/run" && sync && warm "$SCRATCH"/run/sb/*; }
BEFORE=fresh
versus "each with the memory that it takes by itself" "xb-redo --apply $SCRATCH/run -q" \
    "mariadb-backup --no-defaults --prepare --target-dir=$SCRATCH/run"
for memory in 96M 512M; do
    versus "buffer pool of $memory" "xb-redo --apply $SCRATCH/run --use-memory $memory -q" \
        "mariadb-backup --no-defaults --prepare --use-memory=$memory --target-dir=$SCRATCH/run"
done
