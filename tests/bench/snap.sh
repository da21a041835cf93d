#!/usr/bin/env bash
# xb-snap against mariadb-backup: copying warm data to /dev/null with two threads, and memory.
source "$(dirname "$0")/lib.sh"
need mariadbd mariadb-backup sysbench /usr/bin/time

start_server
fill 4 1000000
settle
# The peer drops what it has read from the cache, so the data are made warm before each run of either.
tables() { warm "$SCRATCH"/data/sb/*.ibd "$SCRATCH/data/ibdata1"; }
BEFORE=tables

ours="xb-snap -S $SOCKET -u root -j 2 -q"
peer="mariadb-backup --no-defaults --backup --stream=xbstream --parallel=2 --socket=$SOCKET --user=root --target-dir=$SCRATCH"
header "xb-snap and mariadb-backup, $(du -sm "$SCRATCH/data/sb" | cut -f1) MB of tables, in the page cache"
versus "backup to /dev/null, 2 threads" "$ours" "$peer"
versus "backup with its redo log to /dev/null" "$ours | xb-redo -q" "$peer"
cold() { cool "$SCRATCH"/data/sb/*.ibd "$SCRATCH/data/ibdata1"; }
BEFORE=cold
versus "backup from disk to /dev/null" "$ours" "$peer"
echo "| peak memory | $(peak $ours) MiB | $(peak $peer) MiB | |"
mkdir "$SCRATCH/x"
$ours >"$SCRATCH/x/stream"
echo "| peak memory of xb-redo | $(peak xb-redo -q <"$SCRATCH/x/stream") MiB | | |"
