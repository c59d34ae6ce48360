#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Keeper, standby, spare and worker are killed at random, some together with the worker: clients see nothing, and in
# the end everything goes. SPM_KILL_SECONDS (15), SPM_KILL_SEED. In a namespace of processes of its own, whose first
# process is one of the test's, so that a standby can always be started there.
set -u
SPM_LIMIT=$((${SPM_KILL_SECONDS:-15} + 120))
if [ -z "${SPM_PIDNS:-}" ]; then
	export SPM_PIDNS=1
	unshare --pid --fork --kill-child --mount-proc true 2>/dev/null &&
		exec unshare --pid --fork --kill-child --mount-proc bash "$0" "$@"
fi
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
[ "$(readlink /proc/1/ns/pid)" = "$(readlink /proc/self/ns/pid)" ] || skip_all "no namespace of processes here"

RANDOM=${SPM_KILL_SEED:-$$}
spm_need_mount mem:64M
echo content >"$MNT/f"
(cd "$MNT" && while [ ! -e "$SPM_TMP/stop" ]; do
	mkdir d && echo x >d/f && mv d/f d/g && rm d/g && rmdir d || exit 1
done) 2>"$SPM_TMP/load.err" &
load=$!

kinds=(spmfs-keeper spmfs-standby spmfs-spare spmfs-worker)
kills=0 end=$((SECONDS + ${SPM_KILL_SECONDS:-15}))
# on a slow machine for longer, so that there are some
while { [ "$SECONDS" -lt "$end" ] || [ "$kills" -lt 20 ]; } && kill -0 "$load"; do
	kind=${kinds[RANDOM % 4]} too=
	[ $((RANDOM % 3)) -gt 0 ] || too=spmfs-worker
	pids=()
	for p in $(spm_servers); do
		comm=$(cat "/proc/$p/comm" 2>/dev/null)
		if [ "$comm" = "$kind" ] || [ "$comm" = "$too" ]; then
			pids+=("$p")
		fi
	done
	if [ ${#pids[@]} -gt 0 ]; then
		kill -KILL "${pids[@]}" 2>/dev/null
		kills=$((kills + 1))
	fi
	sleep "0.$((RANDOM % 10 + 10))"
done
touch "$SPM_TMP/stop"
ok "clients go on through $kills kills" wait "$load"
is "without an error" "$(cat "$SPM_TMP/load.err")" ""
ok "there were some" test "$kills" -ge 20
is "a file is what it was" "$(timeout 10 cat "$MNT/f")" content
ok "umount" umount "$MNT"
ok "all that are left end" wait_until 15 spm_no_servers
unset "SPM_MOUNTS[$MNT]"
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""

spm_done
