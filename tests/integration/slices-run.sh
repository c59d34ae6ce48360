#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices made, changed, filled, evicted and removed at random, by several processes: list, df and stat agree with a model
# after each step. Environment: SPM_SLICE_SECONDS (4), SPM_SLICE_ARGS (as -r SEED).
set -u
SPM_LIMIT=$((4 * ${SPM_SLICE_SECONDS:-4} + 120))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

SLICERUN=$top_builddir/tests/progs/slicerun

# Kills worker after worker, until it is told to stop; KILLED is how many.
killer()
{
	local pid n=0
	while [ ! -e "$SPM_TMP/killer.stop" ]; do
		sleep 0.3
		pid=$(spm_server_pid) && kill -KILL "$pid" 2>/dev/null && n=$((n + 1))
		echo $n >"$SPM_TMP/killed"
	done
}

killer_start()
{
	rm -f "$SPM_TMP/killer.stop"
	killer &
	KILLER=$!
}

killer_stop()
{
	[ -n "$KILLER" ] || return 0
	touch "$SPM_TMP/killer.stop"
	wait "$KILLER"
	KILLER=
	KILLED=$(cat "$SPM_TMP/killed")
}
at_exit touch "$SPM_TMP/killer.stop"
KILLER=
KILLED=0

run()
{
	local what=$1 rc name
	shift
	# shellcheck disable=SC2086
	"$SLICERUN" -s "${SPM_SLICE_SECONDS:-4}" -j 4 ${SPM_SLICE_ARGS:-} "$@" "$MNT" >"$SPM_TMP/slicerun.out" 2>&1 </dev/null
	rc=$?
	is "$what: the accounts are those of the model" "$rc" 0
	killer_stop
	diag "$(sed 's/^# //' "$SPM_TMP/slicerun.out")"
	ok "$what: there was something to see" [ "$(sed -n 's/^# steps //p' "$SPM_TMP/slicerun.out")" -ge 10 ]
	is "$what: deaths" "$(spm_feature worker_restarts)" "$KILLED"
	account "$what"
	while read -r name _; do
		slice remove "$name" force || fail "$what: remove $name"
	done < <(cat "$MNT/.spm/slices")
	is "$what: nothing is in use" "$(spm_stat resident_bytes) $(spm_stat swapped_bytes)" "0 0"
}

spm_need_mount mem:64M
run "without swap"
killer_start
run "without swap, and deaths"
KILLED=0
swap_mount mem:64M 256M map=auto
run swap --swap
swap_mount mem:64M 256M map=auto
killer_start
run "swap, and deaths" --swap
is "no extent was unreadable" "$(spm_stat swap_errors)" 0
spm_done
