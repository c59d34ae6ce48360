#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The namespace on a mount from which everything that can go is always moved out: what tmpfs does, spmfs does.
set -u
SPM_LIMIT=${SPM_LIMIT:-600}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

seconds=${SPM_STRESS_SECONDS:-$(spm_less 6)}
ref=$SPM_TMP/ref
mkdir "$ref"

all()
{
	local kind=$1 opts=$2
	swap_mount mem:512M 1G "$opts"
	diag "$opts"
	leaves_nothing "$MNT"
	deviations "$kind"
	evictor_start
	conform "$MNT" -b "${SPM_NS_ENTRIES:-2000}" "${@:3}"
	evictor_stop
	leaves_nothing "$MNT"
	unset "NS_USED[$MNT]"
	is "$opts: no worker died" "$(spm_feature worker_restarts)" 0
	is "$opts: no extent was unreadable" "$(spm_stat swap_errors)" 0
}

stress()
{
	local out=$SPM_TMP/treestress.out
	swap_mount mem:24M 1G "$1"
	mount -t tmpfs -o size=1G spm-reference "$ref" || { fail "mount tmpfs"; return; }
	evictor_start
	# shellcheck disable=SC2086
	"$TREESTRESS" -S -n "${SPM_STRESS_PROCESSES:-8}" -s "$seconds" ${SPM_STRESS_ARGS:-} "$MNT" "$ref" >"$out" 2>&1 </dev/null
	is "$1: the same results, attributes and trees" "$?" 0
	evictor_stop
	sed "s/^# //; s/^/# /" "$out"
	ok "$1: there was swapping ($(spm_stat swapout_bytes))" [ "$(spm_stat swapout_bytes)" -gt 0 ]
	umount "$ref"
	swap_leaves_nothing "$1"
}

all direct map=direct,commit=lazy
all mirror map=mirror,extent=64K
stress map=auto
stress map=mirror
stress map=direct,extent=64K,cold=1
stress nopassthrough
spm_done
