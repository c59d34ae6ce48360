#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The tests of killed workers, on a mount that swaps: a device smaller than their data, and all that can go is always
# going. Environment: SPM_KILL_SECONDS (12).
set -u
SPM_LIMIT=600
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
export SPMFS_FAULTS=1

seconds=${SPM_KILL_SECONDS:-$(spm_less 12)}
kills=$((seconds * 6 / (SPM_FACTOR > 1 ? 4 * SPM_FACTOR : 1)))

# As kill_mount, but with swap.
both_mount()
{
	swap_mount "$@"
	ref_mount
	KILL_FREE=$SWAP_FREE
}

# run DESC OPTIONS. With room left for clients: they punch holes into what they have mapped, and touch these.
run()
{
	both_mount mem:48M 1G "$2,low=30,high=50"
	evictor_start
	killed "$1" -s "$seconds" -k "$kills"
	evictor_stop
	is "$1: restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(figure deaths)"
	ok "$1: there was swapping ($(spm_stat swapout_bytes))" [ "$(spm_stat swapout_bytes)" -gt 0 ]
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	kill_leaves_nothing "$1"
	swap_leaves_nothing "$1"
}

deaths()
{
	both_mount mem:64M 256M "$2"
	evictor_start 0.01
	faults -q "$1" "${@:3}"
	evictor_stop
	ok "$1: there was swapping ($(spm_stat swapout_bytes))" [ "$(spm_stat swapout_bytes)" -gt 0 ]
	swap_leaves_nothing "$1"
}

run "kill run, mirror" map=mirror
run "kill run, auto" map=auto,extent=64K
deaths "deaths of requests, auto" map=auto -k served
deaths "deaths of requests, mirror" map=mirror -k mirror
deaths "deaths of requests, small extents" map=direct,extent=64K -k served -p effect
spm_done
