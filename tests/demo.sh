#!/usr/bin/env bash
# make demo: a hot backup of a private server that is written to all the while, restored and proved.
#
# Everything happens in one temporary directory, on a socket; no server of the system is touched, nothing is left.
#   MB=300   how much data to load       KEEP=1   leave the directory       BIN=DIR   where the programs are
set -euo pipefail
cd "$(dirname "$0")/.."

MB=${MB:-300}
case ${CARGO_TARGET_DIR:=target} in /*) ;; *) CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR ;; esac
export PATH=${BIN:-$CARGO_TARGET_DIR/release}:$PATH:/usr/sbin
HERE=$(mktemp -d "${TMPDIR:-/tmp}/xb-demo.XXXXXX")
LOAD=()      # process ids of the write load
SERVERS=()   # and of both servers

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { echo "demo: $*" >&2; exit 1; }

cleanup() {
    trap - EXIT INT TERM
    rm -f "$HERE/busy"
    for process in "${LOAD[@]}" "${SERVERS[@]}"; do kill -9 "$process" 2> /dev/null || true; done
    wait 2> /dev/null || true
    if [ -n "${KEEP:-}" ]; then echo "kept: $HERE"; else rm -rf "$HERE"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now() { date +%s%N; }
# Seconds between two readings of now.
seconds() { awk -v from="$1" -v to="$2" 'BEGIN { printf "%.1f", (to - from) / 1e9 }'; }

sql() { mariadb --defaults-file="$HERE/$1.cnf" --batch --skip-column-names "${@:2}"; }

# start_server NAME DATADIR OPTION...: answers on the socket that NAME.cnf says.
start_server() {
    local name=$1 datadir=$2 as=()
    shift 2
    [ "$(id -u)" != 0 ] || as=(--user=root)
    printf '[client]\nsocket=%s\nuser=root\n' "$HERE/$name.sock" > "$HERE/$name.cnf"
    mariadbd --no-defaults --datadir="$datadir" --socket="$HERE/$name.sock" --pid-file="$HERE/$name.pid" \
        --log-error="$HERE/$name.log" --skip-networking --innodb-buffer-pool-size=256M --innodb-log-file-size=64M \
        "${as[@]}" "$@" > /dev/null 2>&1 &
    SERVERS+=($!)
    for _ in $(seq 600); do
        if sql "$name" --execute='SELECT 1' > /dev/null 2>&1; then return; fi
        kill -0 "$!" 2> /dev/null || { tail -n 20 "$HERE/$name.log" >&2; fail "the server ended"; }
        sleep 0.1
    done
    fail "the server does not answer; see $HERE/$name.log"
}

# System tables as mariadb-install-db makes them; root enters without a password.
make_datadir() {
    local as=()
    [ "$(id -u)" != 0 ] || as=(--user=root)
    mariadb-install-db --no-defaults --datadir="$1" --auth-root-authentication-method=normal --skip-test-db --force "${as[@]}" \
        > "$HERE/install.log" 2>&1 || { tail -n 20 "$HERE/install.log" >&2; fail "cannot make a data directory"; }
}

# A bank whose balances sum up to the same at every moment, and rows for bulk: about 1 MB for 900 of them.
load_data() {
    sql source << END
CREATE DATABASE bank;
USE bank;
CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL) ENGINE=InnoDB;
CREATE TABLE ledger (id BIGINT AUTO_INCREMENT PRIMARY KEY, source INT, target INT, amount INT) ENGINE=InnoDB;
CREATE TABLE notes (id INT AUTO_INCREMENT PRIMARY KEY, note TEXT) ENGINE=Aria;
CREATE TABLE visits (id INT AUTO_INCREMENT PRIMARY KEY, at DATETIME) ENGINE=MyISAM;
CREATE TABLE orders (id INT PRIMARY KEY, customer INT, text VARCHAR(2000), KEY (customer)) ENGINE=InnoDB;
INSERT INTO accounts SELECT seq, 1000 FROM seq_1_to_1000;
SET SESSION sql_log_bin = 0;
INSERT INTO orders SELECT seq, seq * 7919 % 10007, REPEAT(SHA1(seq), 25) FROM seq_1_to_$((MB * 900));
END
}

# Transfers, one transaction after the other, as long as the file busy is there.
write_load() {
    local seed=$1
    while [ -e "$HERE/busy" ]; do
        awk -v seed="$RANDOM$seed" 'BEGIN {
            srand(seed)
            for (n = 0; n < 100; n++) {
                from = 1 + int(rand() * 1000); to = 1 + int(rand() * 1000); amount = int(rand() * 50)
                print "START TRANSACTION;"
                # In the order of ids, so that two loads never wait for each other in a circle.
                if (from > to) { t = from; from = to; to = t; amount = -amount }
                printf "UPDATE accounts SET balance = balance - %d WHERE id = %d;\n", amount, from
                printf "UPDATE accounts SET balance = balance + %d WHERE id = %d;\n", amount, to
                printf "INSERT INTO ledger (source, target, amount) VALUES (%d, %d, %d);\n", from, to, amount
                printf "UPDATE orders SET customer = customer + 1 WHERE id = %d;\n", 1 + int(rand() * 100000)
                print n % 10 ? "COMMIT;" : "ROLLBACK;"
            }
            print "INSERT INTO notes (note) VALUES (MD5(RAND())); INSERT INTO visits (at) VALUES (NOW());"
        }'
    done | sql source bank
}

transactions() { sql source --execute="SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Com_commit'"; }

sums() {
    sql "$1" --execute="CHECKSUM TABLE bank.accounts, bank.ledger, bank.orders, bank.notes, bank.visits EXTENDED"
}

step "A private server with $MB MB of data, written to by two clients"
make_datadir "$HERE/data"
start_server source "$HERE/data" --log-bin=binlog --binlog-format=ROW --server-id=1
load_data
touch "$HERE/busy"
write_load 1 & LOAD+=($!)
write_load 2 & LOAD+=($!)
sleep 2
before=$(transactions)

step "xb-snap | xb-redo | xb-unpack"
begin=$(now)
# Three meters on one terminal would write over each other; that of the last tool is enough.
meter=auto
[ -t 2 ] || meter=never
xb-snap --defaults-file="$HERE/source.cnf" --progress=never 2> >(tee "$HERE/snap.log" >&2) |
    xb-redo --progress=never |
    xb-unpack -C "$HERE/restored" --progress=$meter
end=$(now)
written=$(($(transactions) - before))
size=$(du -sm --apparent-size "$HERE/restored" | cut -f1)

step "xb-redo --apply"
xb-redo --apply "$HERE/restored"
applied=$(now)
xb-redo --status "$HERE/restored"

step "The proof"
rm "$HERE/busy"
wait "${LOAD[@]}" || fail "the write load failed"
LOAD=()
position=$(cat "$HERE"/restored/*_binlog_info)
start_server copy "$HERE/restored" --skip-log-bin
echo "a second private server runs on the result; the backup was taken at $position"

sum=$(sql copy --execute='SELECT SUM(balance) FROM bank.accounts')
[ "$sum" = 1000000 ] || fail "the balances sum up to $sum, not 1000000"
echo "1000 balances sum up to $sum, as at every moment"

wrong=$(sql copy --execute="SELECT COUNT(*) FROM bank.accounts a LEFT JOIN (SELECT id, SUM(amount) AS moved FROM
    (SELECT target AS id, amount FROM bank.ledger UNION ALL SELECT source, -amount FROM bank.ledger) e GROUP BY id) l
    ON l.id = a.id WHERE a.balance <> 1000 + COALESCE(l.moved, 0)")
[ "$wrong" = 0 ] || fail "$wrong balances differ from the ledger"
echo "each balance follows from its $(sql copy --execute='SELECT COUNT(*) FROM bank.ledger') ledger entries"

bad=$(sql copy --execute='CHECK TABLE bank.accounts, bank.ledger, bank.orders, bank.notes, bank.visits EXTENDED' |
    awk -F '\t' '$3 == "error" || ($3 == "status" && $4 != "OK")')
[ -z "$bad" ] || fail "CHECK TABLE: $bad"
echo "CHECK TABLE finds no fault in five tables of three engines"

read -r file offset _ <<< "$position"
mapfile -t logs < <(sql source --execute='SHOW BINARY LOGS' | cut -f1 | sed -n "/^$file\$/,\$p" | sed "s|^|$HERE/data/|")
mariadb-binlog --no-defaults --start-position="$offset" "${logs[@]}" | sql copy --binary-mode
[ "$(sums source)" = "$(sums copy)" ] || fail "after replaying the source's binlog from $position the tables differ"
echo "the source's binlog, replayed from that position, makes every table equal to the source"

step "Done"
echo "copied $size MB in $(seconds "$begin" "$end") s ($(awk -v mb="$size" -v from="$begin" -v to="$end" \
    'BEGIN { printf "%d", mb * 1e9 / (to - from) }') MB/s) while $written transactions were committed"
echo "applied in $(seconds "$end" "$applied") s"
sed -n 's/.*; blocked: \([^;]*\);.*/blocked meanwhile: \1/p' "$HERE/snap.log"
