#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random operations of several processes, on spmfs and on plain tmpfs, with the same results.
# Environment: SPM_STRESS_SECONDS for each kind of mount (60 is the long run), SPM_STRESS_PROCESSES,
# SPM_STRESS_ARGS (as -r SEED).
set -u
SPM_LIMIT=${SPM_LIMIT:-$((120 + 5 * ${SPM_STRESS_SECONDS:-6}))}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

seconds=${SPM_STRESS_SECONDS:-$(spm_less 6)}
ref=$SPM_TMP/ref
mkdir "$ref"

stress()
{
	local out=$SPM_TMP/treestress.out rc
	spm_fresh mem:1G "$1"
	mount -t tmpfs -o size=1G spm-reference "$ref" || { fail "mount tmpfs"; return; }
	# shellcheck disable=SC2086
	"$TREESTRESS" "${@:2}" -n "${SPM_STRESS_PROCESSES:-8}" -s "$seconds" ${SPM_STRESS_ARGS:-} \
		"$MNT" "$ref" >"$out" 2>&1 </dev/null
	rc=$?
	is "$1: the same results, attributes and trees" "$rc" 0
	sed "s/^# //; s/^/# /" "$out"
	leaves_nothing_after "$MNT"
	umount "$ref"
}

leaves_nothing_after()
{
	NS_USED[$1]="0 1"
	find "$1" -mindepth 1 -delete
	leaves_nothing "$1"
	unset "NS_USED[$1]"
}

# without suid and sgid of files: see the deviations for those
stress map=direct,commit=lazy -S
stress map=direct,commit=eager -S
stress map=auto -S
stress map=mirror -S
stress nopassthrough -S
spm_done
