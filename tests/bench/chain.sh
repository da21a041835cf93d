#!/usr/bin/env bash
# The whole pipeline to a file beside the one of stock programs: backup, zstd level 1, encryption, SHA-1 of what was
# written. Ours compares every page's checksum, authenticates what it encrypts and ends with a manifest.
source "$(dirname "$0")/lib.sh"
need mariadbd sysbench mariadb-backup zstd openssl sha1sum xb-snap

start_server
fill "${TABLES:-4}" "${ROWS:-1000000}"
settle
cd "$SCRATCH"
xb-crypt --generate-key key
hex=$(base64 -d key | od -An -v -tx1 | tr -d ' \n')
export TMPDIR=$SCRATCH

ours="xb-snap --no-defaults -S $SOCKET -u root -q -j 2 | xb-redo -q | xb-zip -q -j 2 | xb-crypt -q -k key -j 2 | xb-sum -q -o out.sha1 >out"
peer="rm -rf meta && mariadb-backup --no-defaults --backup --stream=xbstream --parallel=2 -S $SOCKET -u root \
    --target-dir=meta | zstd -1 -T2 -q -c | openssl enc -aes-256-ctr -K $hex -iv 0 2>/dev/null | tee >(sha1sum >out.sha1) >out"
header "the whole chain to a file, $(du -sk data/sb | awk '{ printf "%.2f", $1 * 1024 / 1e9 }') GB of sysbench tables"
fresh() { rm -f out && sync; }
BEFORE=fresh
versus "snap, redo, zip, crypt, sum" "$ours" "$peer"
