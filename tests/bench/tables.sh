#!/usr/bin/env bash
# A server with very many small tables: time and memory. TABLES (100000).
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup /usr/bin/time
TABLES=${TABLES:-100000}
ulimit -n "$(ulimit -Hn)"

# Created in parallel sessions; flushing is left to the end of the load.
start_server --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 --skip-log-bin --innodb-flush-method=nosync
for part in 0 1; do
    awk -v n="$TABLES" -v p=$part 'BEGIN {
        print "CREATE DATABASE t" p "; USE t" p ";"
        for (i = p; i < n; i += 2) print "CREATE TABLE t" i " (id INT PRIMARY KEY, v INT);"
    }' | sql &
done
wait %2 %3
settle

ours="xb-snap -S $SOCKET -u root -j 2 -q"
peer="mariadb-backup --no-defaults --backup --stream=xbstream --parallel=2 --socket=$SOCKET --user=root --target-dir=$SCRATCH --open-files-limit=$(ulimit -n)"
header "$TABLES tables"
RUNS=${RUNS_TABLES:-3}
versus "backup to /dev/null, 2 threads" "$ours" "$peer"
echo "| peak memory | $(peak $ours) MiB | $(peak $peer) MiB | |"
$ours | xb-redo -q >"$SCRATCH/stream"
mkdir "$SCRATCH/a" "$SCRATCH/b"
versus "unpack" "rm -rf $SCRATCH/a/*; xb-unpack -q --no-sync -C $SCRATCH/a < $SCRATCH/stream" "rm -rf $SCRATCH/b/*; mbstream -x -p 2 -C $SCRATCH/b < $SCRATCH/stream"
echo "| peak memory of xb-unpack --verify | $(peak xb-unpack -q --verify <"$SCRATCH/stream") MiB | | |"
