#!/bin/bash
# xb-pack and xb-unpack beside mbstream, on the same files, in alternating runs.
#
#   tests/bench/pack.sh [RUNS] [SCRATCH]        7 runs, a directory below $TMPDIR; needs 3 GB of room
#
# 200 files of page-like data, 1 GB in all, in the page cache. Wall time is the median; memory is the most that any run
# had. Neither side syncs (mbstream cannot), and the target is removed between runs. Noise of other programs shows in
# the wall time first, so the processor time is printed beside it.
set -euo pipefail
runs=${1:-7}
scratch=$(mktemp -d "${2:-${TMPDIR:-/tmp}}/xb-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
bin=$(cd "$(dirname "$0")/../../target/release" && pwd)
cd "$scratch"

python3 - <<'PY'
import os, random
random.seed(7)
os.makedirs('src/sb')
pages = []
for _ in range(64):
    rows = b''.join(b'%010d|%s\n' % (random.getrandbits(33), bytes(random.choices(b'0123456789-', k=110)))
                    for _ in range(110))
    pages.append((random.randbytes(38) + rows)[:15300].ljust(16376, b'\0') + random.randbytes(8))
for number in range(200):
    with open(f'src/sb/t{number}.ibd', 'wb') as out:
        for page in range(320):
            out.write(random.randbytes(8) + pages[(page * 7 + number) % 64][8:])
PY
(cd src && mbstream -c sb/*) > stream
sync

# timed NAME COMMAND...: a line "wall processor kilobytes" in NAME.times
timed() {
    local name=$1
    shift
    /usr/bin/time -a -o "$name.times" -f '%e %U %S %M' "$@"
}
fresh() { rm -rf target && mkdir target; }

for ((run = 0; run < runs; run++)); do
    timed pack-mbstream sh -c 'cd src && exec mbstream -c sb/* > /dev/null'
    timed pack-xb "$bin/xb-pack" -C src . > /dev/null
    timed pipe-mbstream sh -c 'cd src && mbstream -c sb/* | cat > /dev/null'
    timed pipe-xb sh -c '"$0" -C src . | cat > /dev/null' "$bin/xb-pack"
    fresh; timed unpack-mbstream mbstream -x -C target < stream
    fresh; timed unpack-xb "$bin/xb-unpack" -q --no-sync -C target < stream
    timed verify-xb "$bin/xb-unpack" -q --verify < stream
done

# median FILE EXPRESSION
median() { awk "{ print $2 }" "$1.times" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
peak() { awk '$4 > m { m = $4 } END { printf "%.1f", m / 1024 }' "$1.times"; }
line() {
    local theirs ours
    theirs=$(median "$2" '$1') ours=$(median "$3" '$1')
    awk -v what="$1" -v t="$theirs" -v o="$ours" -v tc="$(median "$2" '$2+$3')" -v oc="$(median "$3" '$2+$3')" \
        -v tm="$(peak "$2")" -v om="$(peak "$3")" \
        'BEGIN { printf "| %s | %.2f s | %.2f s | %.2f | %.2f s / %.2f s | %s / %s MiB |\n", what, t, o, t / o, tc, oc, tm, om }'
}
echo "$(nproc) processors, $(uname -r), load $(cut -d' ' -f1 /proc/loadavg), median of $runs"
echo '| 1 GB, warm | mbstream | xb-tools | ratio | processor, theirs / ours | memory, theirs / ours |'
echo '|---|---|---|---|---|---|'
line 'pack to /dev/null' pack-mbstream pack-xb
line 'pack into a pipe' pipe-mbstream pipe-xb
line 'unpack, no sync' unpack-mbstream unpack-xb
printf '| verify | | %.2f s | | %.2f s | %s MiB |\n' "$(median verify-xb '$1')" "$(median verify-xb '$2+$3')" "$(peak verify-xb)"
