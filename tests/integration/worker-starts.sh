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

# Kills the worker, lets a client ask, and waits until the log says $1.
without_worker()
{
	kill -KILL "$(spm_named spmfs-worker)"
	timeout 60 cat "$MNT/f" >"$SPM_TMP/told" 2>&1 &
	client=$!
	wait_until 10 spm_logged "$1"
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
	is "no descriptor: one line says so" "$(spm_logged "takeover: a worker cannot serve: .*Too many open files; trying again")" 1
	is "no descriptor: one line of the death" "$(spm_logged "crash: ")" 1
	ok "no descriptor: the client waits" kill -0 "$client"
	prlimit --pid "$pid" --nofile="$before:"
	wait "$client"
	is "no descriptor: it has its answer as soon as there are some" "$(cat "$SPM_TMP/told")" content
	is "no descriptor: one restart" "$(spm_feature worker_restarts)" 1
	ok "no descriptor: how many did not come up" wait_until 5 spm_logged "takeover: .*and [4-9] that could not serve\$"
else
	skip "no descriptor" "no prlimit here"
fi

# ---- processes ----

if spm_pids_group; then
	echo 1 >"$PIDS_GROUP/pids.max"
	restarts=$(spm_feature worker_restarts)
	spm_feature standby_pid >"$PIDS_GROUP/cgroup.procs"
	without_worker "cannot fork"
	is "no process: one line says so" "$(spm_logged "takeover: a worker cannot serve: cannot fork: .*; trying again")" 1
	echo 10 >"$PIDS_GROUP/pids.max"
	wait "$client"
	is "no process: the client has its answer as soon as there may be one" "$(cat "$SPM_TMP/told")" content
	is "no process: one restart" "$(spm_feature worker_restarts)" $((restarts + 1))

	# the worker and its spare are in that group, too, and the spare would be followed by another
	pid=${SPM_MOUNTS[$MNT]}
	start=$SECONDS
	echo 1 >"$PIDS_GROUP/pids.max"
	kill -KILL "$(spm_named spmfs-worker)"
	timeout 60 cat "$MNT/f" >"$SPM_TMP/told" 2>&1 &
	client=$!
	ok "no process for long: the server gives up" wait_until 45 spm_no_servers
	ok "no process for long: after 30 s ($((SECONDS - start)))" [ $((SECONDS - start)) -ge 29 ]
	wait "$pid"
	is "no process for long: an exit status that says so" $? 32
	wait "$client"
	like "no process for long: the client is told" "$(cat "$SPM_TMP/told")" 'not connected|abort'
	like "no process for long: the line says why, and what to do" "$(grep 'giving up' "$MNT.log")" \
		"crash: no worker can serve \([23][0-9] tried\): cannot fork: .*; giving up. The region 'starts' stays: umount -l $MNT, .*-o recover"
	umount -l "$MNT"
	unset "SPM_MOUNTS[$MNT]"
	umount /run/spmfs/starts.ns
else
	skip "no process" "no control group for that here"
fi
spm_done
