#!/usr/bin/env bash
# A node that joins a Galera cluster: ours (wsrep_sst_xb) against the stock wsrep_sst_mariabackup, on the same two nodes,
# in turn. What counts is the time from the start of the joiner's server to Synced, with an empty data directory.
#
# Rows, for each of SIZES (default "160 2000", MB of tables): the time with an idle donor; the time while two threads write
# on the donor, their transactions per second until then, and their longest wait in the LOADED (40) seconds that this is
# the beginning of.
# The stock script comes from target/servers/peer (tests/setup), or from PATH.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb mariadb-install-db mariadb-backup mbstream socat sysbench

PROVIDER=${PROVIDER:-/usr/lib/galera/libgalera_smm.so}
SIZES=${SIZES:-160 2000}
RUNS=${RUNS:-3}
LOADED=${LOADED:-40}
[ -e "$PROVIDER" ] || { echo "bench: $PROVIDER is not there (package galera-4)" >&2; exit 1; }
stock=$(command -v wsrep_sst_mariabackup || true)
[ -n "$stock" ] || stock=$ROOT/target/servers/peer/root/usr/bin/wsrep_sst_mariabackup
[ -e "$stock" ] || { echo "bench: wsrep_sst_mariabackup is not here; run tests/setup" >&2; exit 1; }

mkdir "$SCRATCH/scripts"
cp "$stock" "${stock%/*}/wsrep_sst_common" "$SCRATCH/scripts/"
for program in my_print_defaults; do
    command -v $program >/dev/null || ln -s "$(readlink -f "${stock%/*}/$program")" "$SCRATCH/scripts/$program"
done
ln -s "$BIN/wsrep_sst_xb" "$SCRATCH/scripts/wsrep_sst_xb"
export PATH=$SCRATCH/scripts:$PATH
base=$((21000 + $$ % 9000))
declare -A PIDS=()

end_nodes() {
    local n
    for n in "${!PIDS[@]}"; do kill -9 "${PIDS[$n]}" 2>/dev/null || true; wait "${PIDS[$n]}" 2>/dev/null || true; done
}
trap 'end_nodes; cleanup' EXIT

# node N METHOD: its option file
node() {
    local n=$1 own=$((base + 10 * $1))
    mkdir -p "$SCRATCH/n$n/tmp" "$SCRATCH/n$n/data"
    cat >"$SCRATCH/n$n/my.cnf" <<END
[mariadbd]
${USER_OPTION[0]:+user=root}
datadir=$SCRATCH/n$n/data
tmpdir=$SCRATCH/n$n/tmp
socket=$SCRATCH/n$n/s
pid-file=$SCRATCH/n$n/pid
log-error=$SCRATCH/n$n/error.log
skip-networking
binlog_format=ROW
innodb_autoinc_lock_mode=2
innodb_buffer_pool_size=512M
innodb_log_file_size=256M
wsrep_on=ON
wsrep_provider=$PROVIDER
wsrep_provider_options="gmcast.listen_addr=tcp://127.0.0.1:$own;ist.recv_addr=127.0.0.1:$((own + 1));gcache.size=256M"
wsrep_cluster_name=lab
wsrep_cluster_address=gcomm://127.0.0.1:$((base + 10)),127.0.0.1:$((base + 20))
wsrep_node_name=node$n
wsrep_node_address=127.0.0.1:$own
wsrep_sst_method=$2
wsrep_sst_receive_address=127.0.0.1:$((own + 2))
wsrep_sst_auth=root:
[sst]
sst-log-archive=0
END
}

state() { mariadb --no-defaults -S "$SCRATCH/n$1/s" -u root -N -B -e "SHOW STATUS LIKE 'wsrep_local_state_comment'" 2>/dev/null | cut -f2; }

commits() { sql -e "SHOW GLOBAL STATUS LIKE 'Com_commit'" | cut -f2; }

# up N [option...]: until Synced
up() {
    local n=$1
    shift
    mariadbd --defaults-file="$SCRATCH/n$n/my.cnf" "$@" >/dev/null 2>&1 </dev/null &
    PIDS[$n]=$!
    while [ "$(state "$n")" != Synced ]; do
        kill -0 "${PIDS[$n]}" 2>/dev/null || { tail -20 "$SCRATCH/n$n/error.log" >&2; exit 1; }
        sleep 0.02
    done
}

down() {
    mariadb --no-defaults -S "$SCRATCH/n$1/s" -u root -e SHUTDOWN
    wait "${PIDS[$1]}" || true
    unset "PIDS[$1]"
}

# join METHOD: seconds
join() {
    local start=$EPOCHREALTIME
    rm -rf "$SCRATCH/n2/data"
    node 2 "$1"
    sync
    start=$EPOCHREALTIME
    up 2
    awk -v s="$start" -v e="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", e - s }'
}

header "start of a joining node until Synced"
for size in $SIZES; do
    rm -rf "$SCRATCH/data" "$SCRATCH/n1" "$SCRATCH/n2"
    start_server --innodb-buffer-pool-size=512M
    fill 4 $((size * 1000000 / 4 / 240))
    settle
    stop_server
    node 1 xb
    rm -rf "$SCRATCH/n1/data"
    mv "$SCRATCH/data" "$SCRATCH/n1/data"
    up 1 --wsrep-new-cluster
    SOCKET=$SCRATCH/n1/s
    : >"$SCRATCH/xb"; : >"$SCRATCH/mariabackup"
    for run in $(seq 0 "$RUNS"); do
        for method in xb mariabackup; do
            join $method >"$SCRATCH/one"
            # The first pair is a warm-up.
            [ "$run" = 0 ] || cat "$SCRATCH/one" >>"$SCRATCH/$method"
            down 2
        done
    done
    a=$(median <"$SCRATCH/xb"); b=$(median <"$SCRATCH/mariabackup")
    awk -v n="join, $size MB, idle donor" -v a="$a" -v b="$b" 'BEGIN { printf "| %s | %.2f s | %.2f s | %.2f |\n", n, a, b, b / a }'
    for method in xb mariabackup; do
        # The donor's own method decides whether it stops to apply while its tables are locked.
        sql -e "SET GLOBAL wsrep_sst_method='$method'"
        sysbench oltp_write_only --mysql-socket="$SOCKET" --mysql-user=root --mysql-db=sb --tables=4 \
            --table-size=$((size * 1000000 / 4 / 240)) --threads=2 --time="$LOADED" --mysql-ignore-errors=all \
            --rand-seed=7 run >"$SCRATCH/load.$method" &
        writer=$!
        sleep 1
        before=$(commits)
        join $method >"$SCRATCH/busy.$method"
        awk -v n=$(($(commits) - before)) '{ print n / $1 }' "$SCRATCH/busy.$method" >"$SCRATCH/rate.$method"
        wait "$writer"
        down 2
    done
    a=$(cat "$SCRATCH/busy.xb"); b=$(cat "$SCRATCH/busy.mariabackup")
    awk -v a="$a" -v b="$b" 'BEGIN { printf "| … donor that writes | %.2f s | %.2f s | %.2f |\n", a, b, b / a }'
    a=$(cat "$SCRATCH/rate.xb"); b=$(cat "$SCRATCH/rate.mariabackup")
    awk -v a="$a" -v b="$b" 'BEGIN { printf "| … its transactions per second | %.0f | %.0f | %.2f |\n", a, b, a / b }'
    a=$(awk '$1 == "max:" { print $2 }' "$SCRATCH/load.xb"); b=$(awk '$1 == "max:" { print $2 }' "$SCRATCH/load.mariabackup")
    awk -v a="$a" -v b="$b" 'BEGIN { printf "| … its longest wait | %.0f ms | %.0f ms | %.2f |\n", a, b, b / a }'
    down 1
done
