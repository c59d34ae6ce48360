#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices made, changed, filled, evicted and removed at random, by several processes: list, df and stat agree with a model
# after each step. Environment: SPM_SLICE_SECONDS (7), SPM_SLICE_ARGS (as -r SEED).
set -u
SPM_LIMIT=$((2 * ${SPM_SLICE_SECONDS:-7} + 120))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

SLICERUN=$top_builddir/tests/progs/slicerun

run()
{
	local what=$1 rc name
	shift
	# shellcheck disable=SC2086
	"$SLICERUN" -s "${SPM_SLICE_SECONDS:-7}" -j 4 ${SPM_SLICE_ARGS:-} "$@" "$MNT" >"$SPM_TMP/slicerun.out" 2>&1 </dev/null
	rc=$?
	is "$what: the accounts are those of the model" "$rc" 0
	diag "$(sed 's/^# //' "$SPM_TMP/slicerun.out")"
	ok "$what: there was something to see" [ "$(sed -n 's/^# steps //p' "$SPM_TMP/slicerun.out")" -ge 50 ]
	is "$what: no worker died" "$(spm_feature worker_restarts)" 0
	account "$what"
	while read -r name _; do
		slice remove "$name" force || fail "$what: remove $name"
	done < <(cat "$MNT/.spm/slices")
	is "$what: nothing is in use" "$(spm_stat resident_bytes) $(spm_stat swapped_bytes)" "0 0"
}

spm_need_mount mem:64M
run "without swap"
swap_mount mem:64M 256M map=auto
run swap --swap
is "no extent was unreadable" "$(spm_stat swap_errors)" 0
spm_done
