#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Compaction of a pool: by spmctl compact, and in the background by compact=; what is free is one run in the end, whoever dies meanwhile.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
command -v jq >/dev/null || skip_all "no jq here"
export SPMFS_FAULTS=1

# Every second one of 24 files goes, so that what is free lies between those that stay.
scatter()
{
	local i
	for i in {0..23}; do
		put "$MNT/f$i" 2M "$i" || return 1
	done
	rm "$MNT"/f{1,3,5,7,9,11,13,15,17,19,21,23}
	sync
}
stay()
{
	local i
	for i in 0 2 4 6 8 10 12 14 16 18 20 22; do
		check "$MNT/f$i" 2M "$i" >/dev/null || return 1
	done
}
one_run()
{
	[ "$(spm_stat free_run_bytes)" -eq "$(spm_stat free_bytes)" ]
}
scattered()
{
	! one_run
}
settled()
{
	[ "$(spm_stat free_bytes)" -eq "$1" ]
}

# ---- by hand ----

pool_mount 66M
like "no compaction in the background" "$(spm_feature compact)" "^off: option compact= not given"
ok "a new pool is one run" wait_until 10 one_run
ok "files" scatter
ok "half of them are removed" wait_until 10 settled $((POOL_FREE - 24 * MIB))
ok "what is free is in pieces" scattered
out=$("$SPMCTL" compact --json "$MNT")
is "spmctl compact: its keys" "$(jq -r 'keys | join(" ")' <<<"$out")" \
	"collapsed_bytes free_run_bytes huge_bytes huge_scanned_bytes mountpoint moved_bytes pool_moved_bytes swap_bytes swap_bytes_before"
like "it has moved something" "$(jq .pool_moved_bytes <<<"$out")" '^[1-9]'
is "what is free is one run" "$(jq .free_run_bytes <<<"$out")" $((POOL_FREE - 24 * MIB))
ok "and stays it" one_run
ok "the files are whole" stay
is "again: there is nothing to do" "$("$SPMCTL" compact --json "$MNT" | jq .pool_moved_bytes)" 0
like "in words" "$("$SPMCTL" compact -u "$MNT")" "^$MNT: 0 moved in the pool, whose longest free run is .*M, of .*M free\$"
is "what is free can be used" "$(put "$MNT/large" 38M 99 && check "$MNT/large" 38M 99 >/dev/null && echo right)" right
pool_leaves_nothing "by hand"

# ---- ended early ----

moved()
{
	[ "$(spm_stat pool_moved_bytes)" -gt "$1" ]
}
ok "files again" scatter
echo "pool:copied slow:500 1 100" >"$MNT/.spm/fault"
"$SPMCTL" compact "$MNT" >/dev/null 2>"$SPM_TMP/err" &
pass=$!
now=$(spm_stat pool_moved_bytes)
ok "a slow pass: one extent has moved" wait_until 20 moved "$now"
kill -INT "$pass"
wait "$pass"
is "interrupted: it failed" $? 1
like "and says so" "$(cat "$SPM_TMP/err")" "compaction was ended early"
ok "the rest was not moved" scattered
echo clear >"$MNT/.spm/fault"
ok "the next one goes on" "$SPMCTL" compact "$MNT"
ok "to the end" one_run
ok "the files are whole still" stay
pool_leaves_nothing "ended early"

# ---- the worker dies over it ----

for at in pool:copied pool:whose pool:owned pool:moved pool:freed; do
	ok "$at: files" scatter
	restarts=$(spm_feature worker_restarts)
	echo "$at kill 3" >"$MNT/.spm/fault"
	ok "$at: the worker dies there, and the next one goes on" "$SPMCTL" compact "$MNT"
	ok "$at: it has died" [ "$(spm_feature worker_restarts)" -gt "$restarts" ]
	ok "$at: one run" wait_until 10 one_run
	ok "$at: the files are whole" stay
	pool_leaves_nothing "$at"
done

# ---- in the background ----

pool_mount 66M compact=256M
is "compact= is a feature" "$(spm_feature compact)" $((256 * MIB))
ok "files" scatter
ok "what is free becomes one run by itself" wait_until 30 one_run
ok "by moves" moved 0
ok "the files are whole" stay
kill -9 "$(spm_server_pid)"
rm "$MNT"/f*
ok "and with the next worker" scatter
ok "again" wait_until 30 eval 'one_run && moved 0'
ok "whole" stay
pool_leaves_nothing "in the background"
pool_mount 66M compact=off
like "off" "$(spm_feature compact)" "^off: option compact=off"
spm_done
