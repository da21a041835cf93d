#!/usr/bin/env bash
# xb-throttle beside no filter, cat and pv; xb-sum beside tee >(sha1sum). 1 GB from the page cache, pipes on both sides.
#
#   RUNS=7 tests/bench/flow.sh
source "$(dirname "$0")/lib.sh"
need pv sha1sum

SIZE=${SIZE:-1073741824}
head -c "$SIZE" /dev/urandom >"$SCRATCH/data"
# Both ends copy, as a producer and a consumer do; splicing from file to /dev/null would move no byte.
from="cat $SCRATCH/data"
to="cat > /dev/null"

header "xb-throttle and xb-sum, $((SIZE >> 20)) MiB"
versus 'xb-throttle without a limit, against no filter' "$from | xb-throttle -q | $to" "$from | $to"
versus 'xb-throttle without a limit, against pv -q' "$from | xb-throttle -q | $to" "$from | pv -q | $to"
versus 'xb-throttle without a limit, against cat' "$from | xb-throttle -q | $to" "$from | cat | $to"
versus 'from a file into a pipe, against cat' "xb-throttle -q < $SCRATCH/data | $to" "cat < $SCRATCH/data | $to"
# tee does not wait for sha1sum; who needs the sum does, so the peer waits for it as well.
versus 'xb-sum, against tee >(sha1sum)' "$from | xb-sum -o $SCRATCH/sum | $to" \
    "mkfifo $SCRATCH/f; sha1sum < $SCRATCH/f > $SCRATCH/sum & $from | tee $SCRATCH/f | $to; wait; rm $SCRATCH/f"
versus 'xb-sum -a sha256, against tee >(sha256sum)' "$from | xb-sum -a sha256 -o $SCRATCH/sum | $to" \
    "mkfifo $SCRATCH/f; sha256sum < $SCRATCH/f > $SCRATCH/sum & $from | tee $SCRATCH/f | $to; wait; rm $SCRATCH/f"

echo
echo "Ten seconds at a limit: bytes a second, and how far that is from the limit"
for rate in 64k 1m 100m 1000MB; do
    # What came within ten seconds of the first byte; the reader drops it.
    bytes=$({ timeout 10 xb-throttle -q -L "$rate" </dev/zero || true; } | wc -c)
    echo "$rate $bytes" | awk '{ u["k"] = 1024; u["m"] = 1048576; u["MB"] = 1e6; r = $1; n = r + 0; sub(/^[0-9]+/, "", r)
        want = n * u[r]; printf "| %s | %.0f | %+.3f %% |\n", $1, $2 / 10, ($2 / 10 / want - 1) * 100 }'
done
echo
echo "Memory: xb-throttle $(peak xb-throttle -q <"$SCRATCH/data") MiB, xb-sum $(peak xb-sum -o "$SCRATCH/sum" <"$SCRATCH/data") MiB"
