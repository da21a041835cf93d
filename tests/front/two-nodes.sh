#!/usr/bin/env bash
# Two nodes of a Galera cluster: the second gets its data by wsrep_sst_mariabackup, and after a pause by IST.
#
#   two-nodes.sh LAB LINKS SERVERS SCRIPTS PORTS ['lines for [sst], %N is the node']
#
# LINKS has the front's links, SERVERS mariadbd and mariadb, SCRIPTS the stock wsrep_sst_mariabackup; PORTS are eight free
# ones; LAB/template is a data directory. All processes are ended.
set -euo pipefail
lab=$1 links=$2 servers=$3 scripts=$4
read -ra ports <<< "$5"
lines=${6:-}
cd "$lab"
# A server puts its own directory of programs before PATH, with the stock program in it: so xb-front(1) has this script.
mkdir "$lab/bin"
printf '#!/bin/sh\nPATH=%s:$PATH\nexec %s/wsrep_sst_mariabackup "$@"\n' "$links" "$scripts" > "$lab/bin/wsrep_sst_front"
chmod 755 "$lab/bin/wsrep_sst_front"
export PATH=$lab/bin:$servers:$PATH

# The server itself: a wrapper that unpacks its libraries becomes it by exec.
pids=()
finish() {
    for pid in "${pids[@]}"; do
        kill "$pid" 2> /dev/null || continue
        for _ in $(seq 300); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2> /dev/null || true
    done
}
trap finish EXIT

port() { echo "${ports[$(($1 * 4 - 4 + $2))]}"; }   # node, which

conf() {
    mkdir -p "n$1/data" "n$1/tmp"
    cat > "n$1/my.cnf" << END
[mariadbd]
datadir=$lab/n$1/data
tmpdir=$lab/n$1/tmp
socket=$lab/n$1/sock
pid-file=$lab/n$1/pid
port=$(port "$1" 0)
bind-address=127.0.0.1
skip-name-resolve
binlog_format=ROW
innodb_autoinc_lock_mode=2
innodb_buffer_pool_size=32M
innodb_log_file_size=16M
wsrep_on=ON
wsrep_provider=/usr/lib/galera/libgalera_smm.so
wsrep_provider_options="gmcast.listen_addr=tcp://127.0.0.1:$(port "$1" 1);ist.recv_addr=127.0.0.1:$(port "$1" 2);gcache.size=16M"
wsrep_cluster_name=lab
wsrep_cluster_address=gcomm://127.0.0.1:$(port 1 1),127.0.0.1:$(port 2 1)
wsrep_node_name=node$1
wsrep_node_address=127.0.0.1:$(port "$1" 1)
wsrep_sst_method=front
wsrep_sst_receive_address=127.0.0.1:$(port "$1" 3)
wsrep_sst_auth=sst:secret
${user:+user=$user}
[sst]
sst-log-archive=0
${lines//%N/$1}
END
}

sql() { mariadb --no-defaults -uroot -S "n$1/sock" -BN -e "$2"; }

up() {
    local n=$1 pid
    shift
    mariadbd --defaults-file="$lab/n$n/my.cnf" "$@" > "n$n/log" 2>&1 < /dev/null &
    pid=$!
    pids=("$pid" "${pids[@]}")
    for _ in $(seq 900); do
        [ "$(sql "$n" "SHOW STATUS LIKE 'wsrep_local_state_comment'" 2> /dev/null | cut -f2)" != Synced ] || return 0
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    echo "node $n did not come up" >&2
    tail -n 60 n1/log "n$n/log" n*/data/mariabackup*.log >&2 || true
    return 1
}

down() {
    local pid=${pids[0]}
    kill "$pid"
    while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
    pids=("${pids[@]:1}")
}

same() {
    local one two
    one=$(sql 1 "CHECKSUM TABLE d.t, d.m; SELECT COUNT(*) FROM d.t")
    two=$(sql 2 "CHECKSUM TABLE d.t, d.m; SELECT COUNT(*) FROM d.t")
    [ "$one" = "$two" ] && [ "$(sql 2 "SHOW STATUS LIKE 'wsrep_cluster_size'" | cut -f2)" = 2 ] && return
    printf 'the nodes differ: %s\n%s\n' "$one" "$two" >&2
    return 1
}

user=
[ "$(id -u)" != 0 ] || user=root
conf 1
conf 2
cp -a "$lab/template/." n1/data/
up 1 --wsrep-new-cluster
sql 1 "CREATE USER sst@localhost IDENTIFIED BY 'secret';
    GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR ON *.* TO sst@localhost;
    CREATE DATABASE d; USE d;
    CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, c VARCHAR(120), KEY (c));
    CREATE TABLE m (id INT PRIMARY KEY) ENGINE=Aria; INSERT INTO m VALUES (1), (2);
    INSERT INTO t (c) SELECT LEFT(SHA2(seq, 512), 120) FROM seq_1_to_20000"
# From an empty directory.
up 2
same
grep -q "completed OK!" n2/data/mariabackup.prepare.log
grep -q "xb-redo" n2/data/mariabackup.prepare.log
# What comes after a pause comes by itself.
down
sql 1 "USE d; INSERT INTO t (c) SELECT MD5(seq) FROM seq_1_to_500"
rm n2/data/mariabackup.prepare.log
up 2
same
grep -qE "IST received|Receiving IST" n2/log
[ ! -e n2/data/mariabackup.prepare.log ]
