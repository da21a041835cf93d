#!/usr/bin/env bash
# xb-zip against zstd and lz4, both ways, on 1 GB of the pages of a sysbench table: file to /dev/null, both with two
# threads where they have them. Then memory, and data that does not shrink.
source "$(dirname "$0")/lib.sh"
need sysbench zstd lz4 mbstream xb-zip xb-pack

start_server
fill "${TABLES:-4}" "${ROWS:-1050000}"
sql -e 'FLUSH TABLES sb.sbtest1, sb.sbtest2, sb.sbtest3, sb.sbtest4 FOR EXPORT; SELECT SLEEP(1)' >/dev/null
stop_server
xb-pack -C "$SCRATCH/data" sb >"$SCRATCH/plain.xbs"
rm -rf "$SCRATCH/data"
cd "$SCRATCH"
cat plain.xbs >/dev/null

header "xb-zip, $(stat -c %s plain.xbs | awk '{ printf "%.2f", $1 / 1e9 }') GB of InnoDB pages"
versus "zstd level 1 / zstd -1 -T2" "xb-zip -j2 <plain.xbs" "zstd -1 -T2 -c -q <plain.xbs"
versus "lz4 / lz4 -1" "xb-zip -a lz4 -j2 <plain.xbs" "lz4 -1 -c -q <plain.xbs"
xb-zip -j2 <plain.xbs >ours.zst; zstd -1 -T2 -c -q <plain.xbs >peer.zst
xb-zip -a lz4 -j2 <plain.xbs >ours.lz4; lz4 -1 -c -q <plain.xbs >peer.lz4
versus "decompress zstd / zstd -d" "xb-zip -d -j2 <ours.zst" "zstd -d -c -q <peer.zst"
versus "decompress lz4 / lz4 -d" "xb-zip -d -j2 <ours.lz4" "lz4 -d -c -q <peer.lz4"
versus "decompress --raw of zstd's / zstd -d" "xb-zip -d --raw -j2 <peer.zst" "zstd -d -c -q <peer.zst"
versus "decompress --raw of lz4's / lz4 -d" "xb-zip -d --raw -j2 <peer.lz4" "lz4 -d -c -q <peer.lz4"
head -c 500000000 /dev/urandom >random
versus "random bytes, zstd / zstd -1 -T2" "xb-zip --raw -j2 <random" "zstd -1 -T2 -c -q <random"
versus "random bytes, lz4 / lz4 -1" "xb-zip --raw -a lz4 -j2 <random" "lz4 -1 -c -q <random"

echo
echo "| bytes | ours | peer |"
echo "|---|---|---|"
for format in zst lz4; do echo "| $format | $(stat -c %s "ours.$format") | $(stat -c %s "peer.$format") |"; done
echo
echo "| memory, -j 2 | MiB |"
echo "|---|---|"
echo "| compress, zstd | $(peak bash -c 'exec xb-zip -j2 <plain.xbs') |"
echo "| compress, lz4 | $(peak bash -c 'exec xb-zip -a lz4 -j2 <plain.xbs') |"
echo "| decompress, zstd | $(peak bash -c 'exec xb-zip -d -j2 <ours.zst') |"
echo "| decompress, lz4 | $(peak bash -c 'exec xb-zip -d -j2 <ours.lz4') |"
