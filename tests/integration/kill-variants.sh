#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The kill run of kill-run.sh, shorter, for every kind of open file, every process of a server, and other deaths.
# Environment: SPM_KILL_SECONDS for each (6).
set -u
SPM_LIMIT=$((24 * ${SPM_KILL_SECONDS:-8} + 300))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"

seconds=${SPM_KILL_SECONDS:-$(spm_less 6)}
many=$((8 * seconds / SPM_FACTOR))
few=$((2 * seconds / SPM_FACTOR))

variant()
{
	local what=$1 opts=$2 restarts
	kill_mount "$opts"
	killed "$what" -s "$seconds" "${@:3}"
	ok "$what: it happened" [ "$(figure events)" -gt 0 ]
	restarts=$(figure deaths)
	[[ $what == worker* ]] || restarts=0
	is "$what: restarts that the keeper counted" "$(spm_feature worker_restarts)" "$restarts"
	kill_leaves_nothing "$what"
	[ "$what" = keeper ] || return 0
	# the process that was started for this mount is one of those that were killed
	ok "$what: umount" umount "$MNT"
	ok "$what: every server ended" wait_until 15 spm_no_servers
	unset "SPM_MOUNTS[$MNT]"
}

variant "worker, served writes" size=500M -k "$many"
variant "worker, lazy commit" map=direct,commit=lazy -k "$many"
variant "worker, mirror" map=mirror -k "$many"
variant "worker, no passthrough" nopassthrough -k "$many"
variant "worker, killed before it serves" map=direct -k "$few" --burst
variant "worker, SIGSEGV" map=direct -k "$few" --signal SEGV
variant "standby" map=direct -k "$few" --whom standby
variant "keeper" map=direct -k "$few" --whom keeper
# shellcheck disable=SC2016 # killrun's variable
variant "upgrade" map=direct -k "$few" --upgrade "$SPMCTL"' upgrade "$KILLRUN_MOUNT" >/dev/null'
spm_done
