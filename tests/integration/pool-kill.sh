#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Law 3 on a pool: the worker is killed under load and at each step of requests, and nobody notices: every result, byte and
# attribute is that of tmpfs, and in the end no extent is anybody's. Environment: SPM_KILL_SECONDS (10).
set -u
SPM_LIMIT=${SPM_LIMIT:-600}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
export SPMFS_FAULTS=1

seconds=${SPM_KILL_SECONDS:-$(spm_less 10)}
kills=$((seconds * 8 / (SPM_FACTOR > 1 ? 4 * SPM_FACTOR : 1)))

both_mount()
{
	pool_mount "$@"
	ref_mount
}

run()
{
	both_mount 4G "$2"
	killed "$1" -s "$seconds" -k "$kills" "${@:3}"
	is "$1: restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(figure deaths)"
	pool_leaves_nothing "$1"
}

deaths()
{
	both_mount 1G "$2"
	faults -q "$1" "${@:3}"
	pool_leaves_nothing "$1"
}

died()
{
	[ "$(spm_feature worker_restarts)" -gt "$1" ]
}

# Steps that only a pool has.
points()
{
	local point before
	pool_mount 64M extent=64K
	for point in "write:committed kill" "write:sized kill"; do
		before=$(spm_feature worker_restarts)
		echo "$point" >"$MNT/.spm/fault"
		ok "$point: a write" put "$MNT/f" 300K 3
		ok "$point: the worker died" wait_until 5 died "$before"
		ok "$point: the file is right" check "$MNT/f" 300K 3
		rm "$MNT/f"
	done
	for point in "setattr:truncated kill" "setattr:punched kill"; do
		put "$MNT/f" 300K 3
		before=$(spm_feature worker_restarts)
		echo "$point" >"$MNT/.spm/fault"
		ok "$point: shorter" truncate -s 100K "$MNT/f"
		ok "$point: the worker died" wait_until 5 died "$before"
		ok "$point: what is left is right" check "$MNT/f" 100K 3
		ok "$point: longer" truncate -s 300K "$MNT/f"
		ok "$point: the rest is zeros" cmp -n 204800 -i 102400:0 "$MNT/f" /dev/zero
		rm "$MNT/f"
	done
	pool_leaves_nothing "steps"
}

points
run "worker killed" commit=lazy
run "worker killed, small extents" commit=eager,extent=64K
deaths "deaths of requests" commit=eager,extent=64K -k mirror
spm_done
