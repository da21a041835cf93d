#!/usr/bin/env bash
# A server with very many small tables: time and memory. TABLES (100000). mariadb-backup keeps a descriptor of each open:
# where the limit is lower, the two are compared with so many tables as it allows, and the rest is ours alone.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup mbstream /usr/bin/time
TABLES=${TABLES:-100000}
RUNS=${RUNS_TABLES:-3}
ulimit -n "$(ulimit -Hn)"
limit=$(ulimit -n)
both=$TABLES
[ "$limit" = unlimited ] || [ "$limit" -gt $((TABLES + 2000)) ] || both=$((limit - 2000))

# create FROM TO: in two sessions; flushing is left to the end.
create() {
    local part sessions=()
    for part in 0 1; do
        awk -v from="$1" -v to="$2" -v p=$part 'BEGIN {
            print "CREATE DATABASE IF NOT EXISTS t" p "; USE t" p ";"
            for (i = from + p; i < to; i += 2) print "CREATE TABLE t" i " (id INT PRIMARY KEY, v INT);"
        }' | sql &
        sessions+=($!)
    done
    wait "${sessions[@]}"
    settle
}

fresh() { rm -rf "$SCRATCH"/{ours,theirs} && mkdir "$SCRATCH"/{ours,theirs}; }

start_server --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 --skip-log-bin --innodb-flush-method=nosync
ours="xb-snap -S $SOCKET -u root -j 2 -q"
peer="mariadb-backup --no-defaults --backup --stream=xbstream --parallel=2 --socket=$SOCKET --user=root --target-dir=$SCRATCH --open-files-limit=$limit"

create 0 "$both"
header "$both tables"
versus "backup to /dev/null, 2 threads" "$ours" "$peer"
echo "| peak memory | $(peak $ours) MiB | $(peak $peer) MiB | |"
$ours | xb-redo -q >"$SCRATCH/stream"
BEFORE=fresh
versus "unpack" "xb-unpack -q --no-sync -C $SCRATCH/ours <$SCRATCH/stream" "mbstream -x -p 2 -C $SCRATCH/theirs <$SCRATCH/stream"
echo "| peak memory of xb-unpack --verify | $(peak xb-unpack -q --verify <"$SCRATCH/stream") MiB | | |"
[ "$both" -lt "$TABLES" ] || exit 0

create "$both" "$TABLES"
fresh
header "$TABLES tables, for which the peer needs more than $limit descriptors"
echo "| backup to /dev/null, 2 threads | $(seconds $ours) s | | |"
echo "| peak memory | $(peak $ours) MiB | | |"
$ours | xb-redo -q >"$SCRATCH/stream"
echo "| unpack | $(seconds xb-unpack -q --no-sync -C "$SCRATCH/ours" <"$SCRATCH/stream") s | | |"
echo "| peak memory of xb-unpack --verify | $(peak xb-unpack -q --verify <"$SCRATCH/stream") MiB | | |"
