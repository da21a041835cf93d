#!/usr/bin/env bash
# How long writes to non-transactional tables are blocked when the stream drains at 10 MB/s: 100 MB of Aria and MyISAM.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup pv

start_server
sql -e "CREATE DATABASE l;
  USE l;
  CREATE TABLE l.m (id INT PRIMARY KEY, s VARCHAR(1000)) ENGINE=MyISAM;
  INSERT INTO l.m SELECT seq, REPEAT(MD5(seq), 16) FROM seq_1_to_90000;
  CREATE TABLE l.a ENGINE=Aria AS SELECT * FROM l.m;
  CREATE TABLE l.probe (n INT) ENGINE=MyISAM;"

# blocked COMMAND: the longest time that one insert into a MyISAM table took while COMMAND ran, in milliseconds.
blocked() {
    local job start took worst=0
    bash -o pipefail -c "$1" >/dev/null 2>"$SCRATCH/err" &
    job=$!
    while kill -0 $job 2>/dev/null; do
        start=${EPOCHREALTIME/./}
        sql -e 'INSERT INTO l.probe VALUES (1)'
        took=$(( (${EPOCHREALTIME/./} - start) / 1000 ))
        (( took > worst )) && worst=$took
        sleep 0.02
    done
    wait $job || { tail "$SCRATCH/err" >&2; exit 1; }
    echo "$worst"
}

header "longest wait of an INSERT into a MyISAM table, stream at 10 MB/s, $(du -sm "$SCRATCH/data/l" | cut -f1) MB of MyISAM and Aria"
a=$(blocked "xb-snap -S $SOCKET -u root -q | xb-redo -q | pv -q -L 10M")
b=$(blocked "mariadb-backup --no-defaults --backup --stream=xbstream --socket=$SOCKET --user=root --target-dir=$SCRATCH | pv -q -L 10M")
awk -v a="$a" -v b="$b" 'BEGIN { printf "| blocked | %d ms | %d ms | %.1f |\n", a, b, b / a }'
