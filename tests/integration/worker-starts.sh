#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A worker that cannot be started, for lack of what may be there a moment later, is no crash: clients wait, the log says
# once what is missing, and the mount goes on when it is there again.
set -u
SPM_LIMIT=150
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# LeakSanitizer looks with a process of its own, which is what these servers may not have.
SPM_ASAN=${SPM_ASAN:+$SPM_ASAN:}detect_leaks=0

logged()
{
	grep -cE "$1" "$MNT.log"
}

worker()
{
	local p
	for p in $(spm_servers); do
		[ "$(cat "/proc/$p/comm" 2>/dev/null)" != spmfs-worker ] || printf '%s\n' "$p"
	done
}

# Kills the worker, lets a client ask, and waits until the log says $1.
without_worker()
{
	kill -KILL "$(worker)"
	timeout 60 cat "$MNT/f" >"$SPM_TMP/told" 2>&1 &
	client=$!
	wait_until 10 logged "$1"
	sleep 2.5
}

spm_need_mount mem:64M name=starts
echo content >"$MNT/f"

# ---- descriptors ----

if command -v prlimit >/dev/null; then
	pid=$(spm_feature standby_pid)
	before=$(prlimit --pid "$pid" --nofile --noheadings --output SOFT | tr -d ' ')
	prlimit --pid "$pid" --nofile=4:
	without_worker "Too many open files"
	is "no descriptor: one line says so" "$(logged "takeover: a worker cannot serve: .*Too many open files; trying again")" 1
	is "no descriptor: one line of the death" "$(logged "crash: ")" 1
	ok "no descriptor: the client waits" kill -0 "$client"
	prlimit --pid "$pid" --nofile="$before:"
	wait "$client"
	is "no descriptor: it has its answer as soon as there are some" "$(cat "$SPM_TMP/told")" content
	is "no descriptor: one restart" "$(spm_feature worker_restarts)" 1
	like "no descriptor: how many did not come up" "$(tail -n 1 "$MNT.log")" "takeover: .*and [4-9] that could not serve\$"
else
	skip "no descriptor" "no prlimit here"
fi

# ---- processes ----

group=
for dir in /sys/fs/cgroup/pids /sys/fs/cgroup; do
	if [ -n "$group" ] || ! mkdir "$dir/spmfs-starts-$SPM_TEST_ID" 2>/dev/null; then
		continue
	elif [ -e "$dir/spmfs-starts-$SPM_TEST_ID/pids.max" ]; then
		group=$dir/spmfs-starts-$SPM_TEST_ID
	else
		rmdir "$dir/spmfs-starts-$SPM_TEST_ID"
	fi
done
if [ -n "$group" ]; then
	at_exit eval "wait_until 5 spm_no_servers; rmdir '$group'"
	echo 1 >"$group/pids.max"
	restarts=$(spm_feature worker_restarts)
	spm_feature standby_pid >"$group/cgroup.procs"
	without_worker "cannot fork"
	is "no process: one line says so" "$(logged "takeover: a worker cannot serve: cannot fork: .*; trying again")" 1
	echo 10 >"$group/pids.max"
	wait "$client"
	is "no process: the client has its answer as soon as there may be one" "$(cat "$SPM_TMP/told")" content
	is "no process: one restart" "$(spm_feature worker_restarts)" $((restarts + 1))

	# the worker and its spare are in that group, too, and the spare would be followed by another
	pid=${SPM_MOUNTS[$MNT]}
	start=$SECONDS
	echo 1 >"$group/pids.max"
	kill -KILL "$(worker)"
	timeout 60 cat "$MNT/f" >"$SPM_TMP/told" 2>&1 &
	client=$!
	ok "no process for long: the server gives up" wait_until 45 spm_no_servers
	ok "no process for long: after 30 s ($((SECONDS - start)))" [ $((SECONDS - start)) -ge 29 ]
	wait "$pid"
	is "no process for long: an exit status that says so" $? 32
	wait "$client"
	like "no process for long: the client is told" "$(cat "$SPM_TMP/told")" 'not connected|abort'
	like "no process for long: the line says why, and what to do" "$(grep 'giving up' "$MNT.log")" \
		"crash: no worker can serve \(3[0-9] tried\): cannot fork: .*; giving up. The region 'starts' stays: umount -l $MNT, .*-o recover"
	umount -l "$MNT"
	unset "SPM_MOUNTS[$MNT]"
	umount /run/spmfs/starts.ns
else
	skip "no process" "no control group for that here"
fi
spm_done
