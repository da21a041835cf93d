# Shared by the benchmark scripts: a private server, data, timing, ratios. Source it; nothing here runs by itself.
#
# Every script prints a table `what ours peer ratio`, with the load of the machine before and after it. The two programs
# run in turn, so that a machine whose speed drifts harms both alike, and medians are quoted. A pair during which other
# processes took more than a tenth of a processor is run again, up to RETRIES times; a row with a pair that never was
# alone ends with an asterisk. Knobs: RUNS (5), RETRIES (3), SCRATCH (where data goes; needs a few GB).

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=${BIN:-$ROOT/target/release}
RUNS=${RUNS:-5}
RETRIES=${RETRIES:-3}
SCRATCH=$(mktemp -d "${SCRATCH:-${TMPDIR:-/tmp}}/xb-bench.XXXXXX")
SOCKET=$SCRATCH/s
SERVER_PID=
USER_OPTION=()
[ "$(id -u)" -ne 0 ] || USER_OPTION=(--user=root)
export PATH=$BIN:$PATH:/usr/sbin

cleanup() {
    trap - EXIT INT TERM
    [ -z "${HEADED:-}" ] || { echo; echo "load after: $(load)"; }
    if [ -n "$SERVER_PID" ]; then kill -9 "$SERVER_PID" 2>/dev/null || true; wait "$SERVER_PID" 2>/dev/null || true; fi
    rm -rf "$SCRATCH"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need() {
    for program in "$@"; do
        command -v "$program" >/dev/null || { echo "bench: $program is not installed" >&2; exit 1; }
    done
}

sql() { mariadb --no-defaults -S "$SOCKET" -u root -N -B "$@"; }

# start_server [option...]: a private MariaDB on $SOCKET with its data in $SCRATCH/data; start_mysql: a private MySQL,
# as tests/setup has unpacked it. One at a time.
start_server() {
    if [ ! -d "$SCRATCH/data/mysql" ]; then
        mariadb-install-db --no-defaults --datadir="$SCRATCH/data" --auth-root-authentication-method=normal \
            --skip-test-db "${USER_OPTION[@]}" "$@" >"$SCRATCH/install.log" 2>&1
    fi
    mariadbd --no-defaults --datadir="$SCRATCH/data" --socket="$SOCKET" --pid-file="$SCRATCH/pid" --skip-networking \
        --log-bin="$SCRATCH/binlog" --server-id=1 --innodb-log-file-size=256M --innodb-buffer-pool-size=512M \
        "${USER_OPTION[@]}" "$@" >"$SCRATCH/server.log" 2>&1 &
    SERVER_PID=$!
    answer
}

MYSQLD=$ROOT/target/servers/mysql-9.7/bin/mysqld
start_mysql() {
    "$MYSQLD" --no-defaults --datadir="$SCRATCH/data" --initialize-insecure "${USER_OPTION[@]}" >"$SCRATCH/install.log" 2>&1
    "$MYSQLD" --no-defaults --datadir="$SCRATCH/data" --socket="$SOCKET" --pid-file="$SCRATCH/pid" --skip-networking \
        --mysqlx=OFF --secure-file-priv=NULL --auto-generate-certs=OFF --log-bin="$SCRATCH/binlog" --server-id=1 --innodb-redo-log-capacity=256M \
        --innodb-buffer-pool-size=512M "${USER_OPTION[@]}" "$@" >"$SCRATCH/server.log" 2>&1 &
    SERVER_PID=$!
    answer
}

# Waits until the server does.
answer() {
    for _ in $(seq 300); do
        if sql -e 'SELECT 1' >/dev/null 2>&1; then return; fi
        kill -0 "$SERVER_PID" 2>/dev/null || { tail "$SCRATCH/server.log" >&2; exit 1; }
        sleep 0.1
    done
    echo "bench: the server does not answer" >&2
    exit 1
}

stop_server() {
    sql -e SHUTDOWN
    wait "$SERVER_PID" || true
    SERVER_PID=
}

# fill TABLES ROWS: sysbench tables in database sb, about 230 bytes a row.
fill() {
    sql -e 'CREATE DATABASE IF NOT EXISTS sb'
    sysbench oltp_write_only --mysql-socket="$SOCKET" --mysql-user=root --mysql-db=sb --tables="$1" --table-size="$2" \
        --threads=2 prepare >/dev/null
}

# Waits until the server has written what it wants to write: its flushing would slow down whoever is measured first.
settle() {
    sql -e 'SET GLOBAL innodb_max_dirty_pages_pct=0, innodb_max_dirty_pages_pct_lwm=0'
    while [ "$(sql -e "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'" | cut -f2)" -gt 10 ]; do sleep 0.5; done
    sync
    sleep 3
}

# Wall seconds of a command.
seconds() {
    local start end
    start=$EPOCHREALTIME
    "$@" >/dev/null 2>"$SCRATCH/err" || { echo "bench: failed: $*" >&2; tail "$SCRATCH/err" >&2; exit 1; }
    end=$EPOCHREALTIME
    awk -v s="$start" -v e="$end" 'BEGIN { printf "%.3f\n", e - s }'
}

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# What is done before each run, outside the time that counts; `warm FILE...` brings files into the page cache, `cool
# FILE...` drops them from it.
BEFORE=true
warm() { cat "$@" >/dev/null; }
cool() { local file; for file in "$@"; do dd if="$file" iflag=nocache count=0 status=none; done; }

# Processes that run or wait for a disk, over 1, 5 and 15 minutes.
load() { cut -d' ' -f1-3 /proc/loadavg; }

# Hundredths of a second of processor time: of all processes, and of this script, its children and its server.
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }
ours() {
    awk '{ sub(/.*\) /, ""); sum += $12 + $13 + $14 + $15 } END { print sum }' "/proc/$$/stat" \
        ${SERVER_PID:+"/proc/$SERVER_PID/stat"}
}

# A pair of runs, its seconds in $SCRATCH/a and b; again while others take more than a tenth of a processor.
pair() {
    local ours=$1 peer=$2 start others first second try
    for try in $(seq 0 "$RETRIES"); do
        start=$EPOCHREALTIME
        others=$(($(busy) - $(ours)))
        $BEFORE; first=$(seconds bash -o pipefail -c "$ours")
        $BEFORE; second=$(seconds bash -o pipefail -c "$peer")
        others=$(($(busy) - $(ours) - others))
        # At least two hundredths: the clocks tick.
        if awk -v o="$others" -v s="$start" -v e="$EPOCHREALTIME" 'BEGIN { exit !(o - 2 <= (e - s) * 10) }'; then break; fi
        [ "$try" -lt "$RETRIES" ] || disturbed='*'
    done
    echo "$first" >>"$SCRATCH/a"
    echo "$second" >>"$SCRATCH/b"
}

# versus NAME OURS PEER: two shell commands in turn, RUNS times after one warm-up; smaller is better.
versus() {
    local name=$1 run a b disturbed=
    : >"$SCRATCH/a"; : >"$SCRATCH/b"
    for run in $(seq 0 "$RUNS"); do pair "$2" "$3"; done
    a=$(tail -n +2 "$SCRATCH/a" | median); b=$(tail -n +2 "$SCRATCH/b" | median)
    awk -v n="$name" -v a="$a" -v b="$b" -v d="$disturbed" 'BEGIN { printf "| %s | %.3f s | %.3f s | %.2f%s |\n", n, a, b, b / a, d }'
}

# Peak memory of a command, in MiB: the largest single process.
peak() {
    /usr/bin/time -f '%M' -o "$SCRATCH/rss" "$@" >/dev/null 2>"$SCRATCH/err" || { tail "$SCRATCH/err" >&2; exit 1; }
    awk 'END { printf "%.1f\n", $1 / 1024 }' "$SCRATCH/rss"
}

header() {
    echo
    echo "## $1"
    echo
    echo "$(date -u +%F), $(nproc) × $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), Linux $(uname -r), $(mariadbd --version | awk '{ print $3 }'), load before: $(load), \`$0\`"
    HEADED=true
    echo
    echo "| what | ours | peer | ratio |"
    echo "|---|---|---|---|"
}
