#!/usr/bin/env bash
# What a backup costs the server: its write throughput while backups run, ours and mariadb-backup's.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup sysbench
SECONDS_EACH=${SECONDS_EACH:-12}

start_server --innodb-buffer-pool-size=256M
fill 4 500000

# rate PAUSE COMMAND: events per second of a write load while COMMAND runs, one run every PAUSE seconds or at once after
# the last.
rate() {
    local stop=$SCRATCH/stop loop next
    rm -f "$stop"
    ( while [ ! -e "$stop" ]; do
          next=$((EPOCHSECONDS + $1))
          bash -o pipefail -c "$2" >/dev/null 2>>"$SCRATCH/backup.log" || { echo "$2" >>"$SCRATCH/failed"; sleep 1; }
          echo >>"$SCRATCH/done"
          while (( EPOCHSECONDS < next )); do sleep 0.1; done
      done ) &
    loop=$!
    sysbench oltp_write_only --mysql-socket="$SOCKET" --mysql-user=root --mysql-db=sb --tables=4 --table-size=500000 \
        --threads=2 --time="$SECONDS_EACH" --rand-seed=7 run | awk '/transactions:/ { sub(/\(/, "", $3); print $3 }'
    touch "$stop"; wait "$loop"
}

ours="xb-snap -S $SOCKET -u root -j 2 -q | xb-redo -q"
peer="mariadb-backup --no-defaults --backup --stream=xbstream --parallel=2 --socket=$SOCKET --user=root --target-dir=$SCRATCH"

# both NAME PAUSE
both() {
    local run a b
    rm -f "$SCRATCH"/{a,b,ours,peer}
    for run in $(seq "$RUNS"); do
        : >"$SCRATCH/done"; rate "$2" "$ours" >>"$SCRATCH/a"; wc -l <"$SCRATCH/done" >>"$SCRATCH/ours"
        : >"$SCRATCH/done"; rate "$2" "$peer" >>"$SCRATCH/b"; wc -l <"$SCRATCH/done" >>"$SCRATCH/peer"
    done
    a=$(median <"$SCRATCH/a"); b=$(median <"$SCRATCH/b")
    awk -v n="$1" -v a="$a" -v b="$b" 'BEGIN { printf "| %s | %.0f | %.0f | %.2f |\n", n, a, b, a / b }'
    echo "| … and backups in ${SECONDS_EACH} s | $(median <"$SCRATCH/ours") | $(median <"$SCRATCH/peer") | |"
}

header "write transactions per second during backups"
both "backups back to back" 0
both "one backup every 4 s" 4
echo "| without any backup | $(rate 0 'sleep 0.2') | | |"
if [ -e "$SCRATCH/failed" ]; then echo; echo "Failed backups:"; sort "$SCRATCH/failed" | sed "s#$SCRATCH#DIR#g" | uniq -c; fi
