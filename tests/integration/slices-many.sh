#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A thousand slices: how long a mount, a list and a take-over last, and what one that does nothing costs the server.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

N=1000

# ms CMD...: how long it takes; its output goes to $SPM_TMP/out
ms()
{
	local start
	start=$(spm_now_ms)
	"$@" >"$SPM_TMP/out" 2>&1 || return 1
	printf '%s\n' $(($(spm_now_ms) - start))
}

# Kilobytes of the worker that are its own, or shared with what outlives it.
server_kb()
{
	awk '/^(RssAnon|RssShmem):/ { n += $2 } END { print n }' "/proc/$(spm_server_pid)/status"
}

threads()
{
	sed -n 's/^Threads:\t//p' "/proc/$(spm_server_pid)/status"
}

for ((i = 0; i < N; i++)); do
	printf '[slice s%d]\nmin = 64K\nuid = %d\n' $i $((70000 + i))
done >"$SPM_TMP/many.conf"
spm_need_mount mem:256M name=few,conf=none
ok "one slice" "$SPMCTL" slice create one "$MNT"
few=$(server_kb)
few_threads=$(threads)

mkdir "$SPM_TMP/m"
t=$(ms "$SPMFS" mem:256M "$SPM_TMP/m" -o "name=many,conf=$SPM_TMP/many.conf") || fail "mount" "$(cat "$SPM_TMP/out")"
ok "a mount with $N slices takes less than 10 s ($t ms)" test "$t" -lt $((10000 * SPM_FACTOR))
few_mnt=$MNT
MNT=$SPM_TMP/m
t=$(ms "$SPMCTL" slice list "$MNT") || fail "list" "$(cat "$SPM_TMP/out")"
is "the list has them all" "$(grep -c '^s[0-9]' "$SPM_TMP/out")" $N
ok "and takes less than 1 s ($t ms)" test "$t" -lt $((1000 * SPM_FACTOR))
is "each has its owner" "$(stat -c %u "$MNT/s0" "$MNT/s999" | xargs)" "70000 70999"
is "no thread for a slice" "$(threads)" "$few_threads"
each=$((($(server_kb) - few) / N))
ok "one that does nothing costs at most 16 KiB ($each)" test "$each" -le 16
pid=$(spm_server_pid)
start=$(spm_now_ms)
kill -KILL "$pid"
ok "another worker takes over" wait_until 20 test -d "$MNT/s500/.spm"
t=$(($(spm_now_ms) - start))
ok "with all of them, and in less than 2 s ($t ms)" test "$t" -lt $((2000 * SPM_FACTOR)) -a "$(spm_server_pid)" != "$pid"
is "they are there" "$("$SPMCTL" slice list --json "$MNT" | grep -c '"name":')" $N
t=$(ms "$SPMCTL" slice set s500 --max 1M "$MNT") || fail "set" "$(cat "$SPM_TMP/out")"
ok "a change is no matter of how many there are ($t ms)" test "$t" -lt $((1000 * SPM_FACTOR))
ok "unmounted" umount "$MNT"
MNT=$few_mnt
ok "the servers are gone" wait_until 20 eval '[ "$(spm_named spmfs-worker | wc -l)" = 1 ]'

spm_done
