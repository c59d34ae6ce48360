#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Deaths that do not end: a request that kills every worker, workers that cannot stay alive, workers that answer
# nothing; and a kernel that cannot send requests again.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"

export SPMFS_FAULTS=1
# What a client that may have to wait for ever gets at most.
PATIENCE=$((20 * SPM_FACTOR))

arm()
{
	printf '%s' "$1" >"$MNT/.spm/fault" || fail "arming $1"
}

disarmed()
{
	[ "$(cat "$MNT/.spm/fault")" = "" ]
}

# Its result is the name of the error, "ok", or "waits".
result()
{
	local out rc
	out=$(timeout "$PATIENCE" "$@" 2>&1)
	rc=$?
	case $rc:$out in
	0:*) echo ok ;;
	124:*) echo waits ;;
	*'Input/output error'*) echo EIO ;;
	*'Transport endpoint is not connected'*) echo ENOTCONN ;;
	*'Software caused connection abort'*) echo ECONNABORTED ;;
	*) echo "$out" ;;
	esac
}

restarts()
{
	spm_feature worker_restarts
}

# ---- poison ----

poison()
{
	kill_mount map=direct
	mkdir "$MNT/d"
	arm "mkdir:effect segv 1 9"
	is "poison: the request that kills its workers is answered" "$(result mkdir "$MNT/d/poison")" EIO
	is "poison: after two deaths" "$(restarts)" 2
	ok "poison: the log says which request it was" spm_logged 'mkdir.*EIO'
	is "poison: another request goes on" "$(result touch "$MNT/d/file")" ok
	arm clear
	is "poison: the same request works afterwards" "$(result mkdir "$MNT/d/later")" ok
	is "poison: two deaths are all" "$(restarts)" 2
}

# Requests beside the poisonous one wait for a moment, no more.
poison_among_others()
{
	local pids=() i bad=0
	kill_mount map=direct
	mkdir "$MNT/d"
	arm "mkdir:request segv 1 9"
	for i in 1 2 3 4; do
		( for n in {1..200}; do
			: >"$MNT/f$i.$n" && mv "$MNT/f$i.$n" "$MNT/g$i.$n" && rm "$MNT/g$i.$n" || exit 1
		done ) 2>>"$SPM_TMP/others" &
		pids+=($!)
	done
	is "poison beside others: EIO" "$(result mkdir "$MNT/d/poison")" EIO
	for i in "${pids[@]}"; do
		wait "$i" || bad=1
	done
	is "poison beside others: they see nothing of it" "$bad $(cat "$SPM_TMP/others")" "0 "
	arm clear
}

# ---- a crash loop ----

crash_loop()
{
	local dir pid t opts=map=direct
	kill_mount "$opts"
	echo precious >"$MNT/file"
	dir=$MNT pid=${SPM_MOUNTS[$MNT]}
	t=$(spm_now_ms)
	arm "any:request kill 1 1000000"
	like "crash loop: the request that was in hand is given up" "$(result stat "$MNT/absent")" \
		'^(ENOTCONN|ECONNABORTED|EIO)$'
	ok "crash loop: within 10 s" [ $(($(spm_now_ms) - t)) -lt $((10000 * SPM_FACTOR)) ]
	ok "crash loop: the keeper gives up" wait_until 15 spm_gone "$pid"
	is "crash loop: further requests" "$(result stat "$MNT/absent2")" ENOTCONN
	ok "crash loop: the log says signal and request" spm_logged 'SIGKILL.*(flush|release|lookup)|(flush|release|lookup).*SIGKILL'
	wait "$pid"
	is "crash loop: exit status" "$?" 32
	umount -l "$dir"
	unset "SPM_MOUNTS[$dir]"
	unset SPMFS_FAULTS
	if spm_mount mem:1G "$opts,recover"; then
		is "crash loop: the region is found again" "$(cat "$MNT/file")" precious
	fi
	export SPMFS_FAULTS=1
}

# ---- nothing is answered ----

hang()
{
	local before t
	kill_mount map=direct,watchdog=2
	before=$(restarts)
	arm "mkdir:effect hang"
	t=$(spm_now_ms)
	is "hung request: it is answered in the end" "$(result mkdir "$MNT/hung")" ok
	t=$(($(spm_now_ms) - t))
	ok "hung request: after 2 s and not much more ($t ms)" test "$t" -ge 1500 -a "$t" -lt $((8000 * SPM_FACTOR))
	is "hung request: one new worker" "$(restarts)" $((before + 1))
	ok "hung request: logged" spm_logged hung
}

# A thread that stops when it has just read a request; and when nothing more is to be done for a client, so that no request
# is in hand for too long: what is not read any more tells of it.
hang_beside()
{
	local before pid
	kill_mount map=direct,watchdog=2
	arm "mkdir:taken hang"
	is "hung right after reading: the request is answered by another worker" "$(result mkdir "$MNT/taken")" ok
	is "hung right after reading: one new worker" "$(restarts)" 1
	before=$(restarts)
	arm "mkdir:replied hang"
	is "hung after an answer: the client has it" "$(result mkdir "$MNT/hung")" ok
	is "hung after an answer: the next request is answered by another worker" "$(result mkdir "$MNT/next")" ok
	is "hung after an answer: one new worker" "$(restarts)" $((before + 1))
	arm "setattr:unled hang"
	result truncate -s 1M "$MNT/file" >"$SPM_TMP/truncated" &
	pid=$!
	# that one may be slow, and says so; what comes after it is not read
	ok "hung while another thread is to lead: another worker answers" wait_until 20 disarmed
	wait "$pid"
	is "hung while another thread is to lead: the request itself, too" "$(cat "$SPM_TMP/truncated")" ok
	is "hung while another thread is to lead: one new worker" "$(restarts)" $((before + 2))
}

slow()
{
	local before
	kill_mount map=direct,watchdog=2
	before=$(restarts)
	arm "mkdir:effect slow:5000"
	is "slow request: it is answered" "$(result mkdir "$MNT/slow")" ok
	is "slow request: by the worker that began" "$(restarts)" "$before"
}

eight_are_slow()
{
	[ "$(spm_logged "fault: lookup:request slow")" -ge 8 ]
}

# As many as there are threads, and no other thread can be made: then nobody reads, and that is no reason to kill the worker.
slow_everywhere()
{
	local before t i pids=()
	if ! spm_pids_group; then
		skip "slow requests in all threads" "no control group for that here"
		return
	fi
	kill_mount map=direct,watchdog=2
	before=$(restarts)
	spm_server_pid >"$PIDS_GROUP/cgroup.procs"
	cat "$PIDS_GROUP/pids.current" >"$PIDS_GROUP/pids.max"
	arm "lookup:request slow:6000 1 8"
	for i in {1..8}; do
		result stat "$MNT/absent$i" >>"$SPM_TMP/absent" &
		pids+=($!)
	done
	ok "slow requests in all threads: they are" wait_until 5 eight_are_slow
	t=$(spm_now_ms)
	is "slow requests in all threads: another one is answered" "$(result mkdir "$MNT/d")" ok
	t=$(($(spm_now_ms) - t))
	ok "slow requests in all threads: when the first is done ($t ms)" test "$t" -ge 3000
	wait "${pids[@]}"
	is "slow requests in all threads: by the worker that began" "$(restarts)" "$before"
	is "slow requests in all threads: those too" "$(grep -c 'No such file' "$SPM_TMP/absent")" 8
	echo max >"$PIDS_GROUP/pids.max"
}

stopped()
{
	local before
	kill_mount map=direct,watchdog=2
	before=$(restarts)
	kill -STOP "$(spm_server_pid)"
	is "stopped worker: a request is answered by another" "$(result mkdir "$MNT/d")" ok
	is "stopped worker: one new worker" "$(restarts)" $((before + 1))
}

# ---- a kernel that cannot send again ----

no_resend()
{
	local step
	kill_mount map=direct,noresend
	like "no RESEND: features says so" "$(spm_feature restart)" 'EIO'
	exec 8>"$MNT/held"
	for step in request effect reply; do
		arm "mkdir:$step kill"
		is "no RESEND: what was in hand at $step gets EIO" "$(result mkdir "$MNT/$step")" EIO
		is "no RESEND: the next request after it" "$(result mkdir "$MNT/next.$step")" ok
	done
	echo still >&8
	is "no RESEND: a file that was open is so" "$(cat "$MNT/held")" still
	exec 8>&-
	is "no RESEND: restarts" "$(restarts)" 3
	kill_leaves_nothing "no RESEND"
}

poison
poison_among_others
hang
hang_beside
slow
slow_everywhere
stopped
no_resend
crash_loop
spm_done
