#!/usr/bin/env bash
# xb-crypt against openssl: 1 GB of InnoDB pages, from the page cache into a pipe; and memory.
source "$(dirname "$0")/lib.sh"
need mariadbd sysbench openssl /usr/bin/time

start_server
fill 4 1000000
stop_server
cd "$SCRATCH"
xb-pack -q -C data sb >stream
rm -rf data
xb-crypt --generate-key key
xb-crypt -q -k key <stream >stream.seal
xb-crypt -q -k key --format xbcrypt <stream >stream.xbcrypt
hex=$(base64 -d key | od -An -v -tx1 | tr -d ' \n')
openssl enc -aes-256-ctr -K "$hex" -iv 0 -in stream -out stream.ctr 2>/dev/null

peer="openssl enc -aes-256-ctr -K $hex -iv 00000000000000000000000000000000"
header "xb-crypt and openssl enc -aes-256-ctr, $(stat -c %s stream | awk '{ printf "%.2f", $1 / 1e9 }') GB of sysbench tables in a stream, in the page cache"
for threads in 2 1; do
    ours="xb-crypt -q -k key -j $threads"
    versus "seal, -j $threads" "$ours <stream | cat >/dev/null" "$peer <stream | cat >/dev/null"
    versus "seal -d, -j $threads" "$ours -d <stream.seal | cat >/dev/null" "$peer -d <stream.ctr | cat >/dev/null"
done
ours="xb-crypt -q -k key -j 2"
versus "seal --raw, -j 2" "$ours --raw <stream | cat >/dev/null" "$peer <stream | cat >/dev/null"
versus "seal, chacha20-poly1305, -j 2" "$ours -a chacha20-poly1305 <stream | cat >/dev/null" "$peer <stream | cat >/dev/null"
versus "xbcrypt, -j 2" "$ours --format xbcrypt <stream | cat >/dev/null" "$peer <stream | cat >/dev/null"
versus "xbcrypt -d, -j 2" "$ours -d <stream.xbcrypt 2>/dev/null | cat >/dev/null" "$peer -d <stream.ctr | cat >/dev/null"
echo "| peak memory | $(peak $ours <stream) MiB | $(peak $peer <stream) MiB | |"
echo "| peak memory, -d | $(peak $ours -d <stream.seal) MiB | $(peak $peer -d <stream.ctr) MiB | |"
