#!/usr/bin/env bash
# xb-pack and xb-unpack beside mbstream, on the files of sysbench tables. Neither side syncs what it unpacks (mbstream
# cannot), and each run has a new target.
source "$(dirname "$0")/lib.sh"
need mariadbd sysbench mbstream xb-pack xb-unpack

start_server
fill "${TABLES:-4}" "${ROWS:-1000000}"
stop_server
# Without holes, which xb-pack need not read and mbstream does.
mkdir "$SCRATCH/src"
cp -r --sparse=never "$SCRATCH/data/sb" "$SCRATCH/src"
rm -rf "$SCRATCH/data"
cd "$SCRATCH/src"
mbstream -c sb/* >../theirs
xb-pack . >../ours

header "xb-pack, xb-unpack and mbstream, $(stat -c %s ../ours | awk '{ printf "%.2f", $1 / 1e9 }') GB in $(find . -type f | wc -l) files"
sync
BEFORE="warm sb/*"
versus "pack to /dev/null" "xb-pack ." "mbstream -c sb/*"
versus "pack into a pipe" "xb-pack . | cat" "mbstream -c sb/* | cat"
BEFORE="cool sb/*"
versus "pack from disk" "xb-pack ." "mbstream -c sb/*"

cd ..
fresh() { rm -rf target && mkdir target && sync && warm ours theirs; }
BEFORE=fresh
peer="mbstream -x -C target <theirs"
versus "unpack mbstream's stream" "xb-unpack -q --no-sync -C target <theirs" "$peer"
versus "unpack our stream, each file's BLAKE3 compared" "xb-unpack -q --no-sync -C target <ours" "$peer"
fresh; echo "| memory of packing | $(peak xb-pack -C src .) MiB | $(peak bash -c 'cd src && exec mbstream -c sb/*') MiB | |"
echo "| memory of unpacking | $(peak xb-unpack -q --no-sync -C target <ours) MiB | $(fresh; peak mbstream -x -C target <theirs) MiB | |"
