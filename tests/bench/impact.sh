#!/usr/bin/env bash
# What a backup costs the server: write throughput while a backup runs again and again, ours and mariadb-backup's.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup sysbench
SECONDS_EACH=${SECONDS_EACH:-20}

start_server --innodb-buffer-pool-size=256M
fill 4 500000

# rate COMMAND: events per second of a write load while COMMAND repeats.
rate() {
    local stop=$SCRATCH/stop loop
    rm -f "$stop"
    ( while [ ! -e "$stop" ]; do bash -o pipefail -c "$1" >/dev/null 2>>"$SCRATCH/backup.log" || { echo "$1" >>"$SCRATCH/failed"; sleep 1; }; done ) &
    loop=$!
    sysbench oltp_write_only --mysql-socket="$SOCKET" --mysql-user=root --mysql-db=sb --tables=4 --table-size=500000 \
        --threads=2 --time="$SECONDS_EACH" --rand-seed=7 run | awk '/transactions:/ { sub(/\(/, "", $3); print $3 }'
    touch "$stop"; wait "$loop"
}

header "write transactions per second while backups run back to back"
: >"$SCRATCH/a"; : >"$SCRATCH/b"
for run in $(seq 3); do
    rate "xb-snap -S $SOCKET -u root -j 2 -q | xb-redo -q" >>"$SCRATCH/a"
    rate "mariadb-backup --no-defaults --backup --stream=xbstream --parallel=2 --socket=$SOCKET --user=root --target-dir=$SCRATCH" >>"$SCRATCH/b"
done
a=$(median <"$SCRATCH/a"); b=$(median <"$SCRATCH/b")
awk -v a="$a" -v b="$b" 'BEGIN { printf "| transactions/s | %.0f | %.0f | %.2f |\n", a, b, a / b }'
echo "| without any backup | $(rate 'sleep 0.2') | | |"
if [ -e "$SCRATCH/failed" ]; then echo; echo "Failed backups:"; sort "$SCRATCH/failed" | sed "s#$SCRATCH#DIR#g" | uniq -c; fi
