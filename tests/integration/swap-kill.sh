#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Law 3 with swap: the worker, and the processes around it, are killed at random while eight processes work on four times
# the device. Environment: SPM_SWAP_SECONDS (15), SPM_SWAP_ARGS (as -r SEED).
set -u
SPM_LIMIT=$((6 * ${SPM_SWAP_SECONDS:-15} + 400))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

seconds=${SPM_SWAP_SECONDS:-$(spm_less 15)}
kills=$((seconds * 3 / SPM_FACTOR))

run()
{
	local what=$1 opts=$2
	shift 2
	swap_mount mem:96M 768M "$opts"
	# shellcheck disable=SC2086
	swaprun "$what" -s "$seconds" -b 384M "$@" ${SPM_SWAP_ARGS:-}
	is "$what: no extent was unreadable" "$(spm_stat swap_errors)" 0
}

run "worker killed $kills times" "" -k "$kills"
ok "most of the kills were done" [ "$(result deaths)" -ge $((kills * 8 / 10)) ]
is "restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(result deaths)"
swap_leaves_nothing "worker killed"

run "with small extents and what is cold leaving" extent=64K,cold=1,low=20,high=40 -k "$kills"
swap_leaves_nothing "small extents"

# Keeper, standby, spare and worker in turn; and upgrades. One after the other: each has somebody who takes its place.
others()
{
	local kinds=(spmfs-keeper spmfs-standby spmfs-spare spmfs-worker upgrade) i=0 kind p
	while [ ! -e "$SPM_TMP/stop" ]; do
		wait_until 10 spm_settled
		kind=${kinds[i++ % 5]}
		if [ "$kind" = upgrade ]; then
			"$SPMCTL" upgrade "$MNT" >/dev/null 2>&1 && echo upgraded >>"$SPM_TMP/events"
		else
			for p in $(spm_servers); do
				[ "$(cat "/proc/$p/comm" 2>/dev/null)" = "${kind:0:15}" ] || continue
				kill -KILL "$p" && echo "$kind" >>"$SPM_TMP/events"
			done
		fi
		sleep "0.$((RANDOM % 5 + 5))"
	done
}

: >"$SPM_TMP/events"
rm -f "$SPM_TMP/stop"
swap_mount mem:96M 768M
others &
load=$!
# shellcheck disable=SC2086
swaprun "every process of a server killed in turn" -s "$seconds" -b 384M ${SPM_SWAP_ARGS:-}
touch "$SPM_TMP/stop"
wait "$load"
diag "$(sort "$SPM_TMP/events" | uniq -c)"
for kind in spmfs-keeper spmfs-standby spmfs-worker upgraded; do
	ok "there were some: $kind" grep -q "$kind" "$SPM_TMP/events"
done
ok "swap goes on: room for more is made" put "$MNT/more" 64M 1
ok "and all of it is right" check "$MNT/more" 64M 1
find "$MNT" -mindepth 1 -delete
ok "umount" umount "$MNT"
ok "every server ended" wait_until 15 spm_no_servers
unset "SPM_MOUNTS[$MNT]"
is "no swap file is left" "$(find "$SWAP" -type f)" ""
spm_done
