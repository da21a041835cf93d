#!/usr/bin/env bash
# MySQL beside MariaDB, the same rows in both: a full backup, and applying it. No other program here copies MySQL, so
# "peer" is xb-tools on MariaDB.
source "$(dirname "$0")/lib.sh"
need mariadbd sysbench xb-snap "$MYSQLD"

# measure NAME: files $SCRATCH/NAME.{seconds,bytes,apply}
measure() {
    fill "${TABLES:-4}" "${ROWS:-1000000}"
    settle
    : >"$SCRATCH/$1.seconds"
    for _ in $(seq "$RUNS"); do
        warm "$SCRATCH"/data/sb/*.ibd
        seconds bash -o pipefail -c "xb-snap --no-defaults -S $SOCKET -u root -j 2 -q | xb-redo -q" >>"$SCRATCH/$1.seconds"
    done
    xb-snap --no-defaults -S "$SOCKET" -u root -q 2>/dev/null | xb-redo -q | tee >(wc -c >"$SCRATCH/$1.bytes") | xb-unpack -q -C "$SCRATCH/$1"
    seconds xb-redo --apply "$SCRATCH/$1" --server "$2" --use-memory 256M -q >"$SCRATCH/$1.apply"
    stop_server
    rm -rf "$SCRATCH/data" "$SCRATCH/$1"
}

start_server
measure mariadb "$(command -v mariadbd)"
start_mysql
measure mysql "$MYSQLD"

header "MySQL ($("$MYSQLD" --version | awk '{ print $3 }')) and MariaDB, both by xb-tools"
for name in mysql mariadb; do
    rate=$(awk -v b="$(cat "$SCRATCH/$name.bytes")" -v s="$(median <"$SCRATCH/$name.seconds")" 'BEGIN { printf "%.3f s, %.2f GB/s", s, b / s / 1e9 }')
    echo "$rate | $(cat "$SCRATCH/$name.apply") s" >"$SCRATCH/$name.row"
done
paste -d'|' "$SCRATCH/mysql.row" "$SCRATCH/mariadb.row" | awk -F' *[|] *' \
    '{ printf "| backup with its redo log to /dev/null | %s | %s | |\n| xb-redo --apply | %s | %s | |\n", $1, $3, $2, $4 }'
