#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Workers that keep dying, workers that hang, and what systemd is told.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
export SPMFS_FAULTS=1

worker()
{
	spm_named spmfs-worker
}

# fault POINT: armed for the next time.
fault()
{
	printf '%s\n' "$*" >"$MNT/.spm/fault"
}

# ---- a crash loop ----

spm_need_mount mem:64M name=loop
echo content >"$MNT/f"
exec {fd}<"$MNT/f"
# and nothing is asked meanwhile
spm_pin "$MNT/.spm/features" "$MNT/f"
wait_until 10 spm_idle "$(worker)"
pid=${SPM_MOUNTS[$MNT]}
decided()
{
	spm_no_servers || spm_another spmfs-worker "$last"
}
# Five, or more where a slow machine needs longer than 10 s for that.
deaths=() early=0
for i in {1..20}; do
	last=$(worker)
	kill -KILL "$last"
	deaths+=("$(spm_now_ms)")
	wait_until 30 decided
	! spm_no_servers || break
	[ "$i" -gt 4 ] || pass "death $i: another worker"
	[ "$i" -lt 5 ] || [ $((deaths[i - 1] - deaths[i - 5])) -gt 9000 ] || early=1
done
wait_until 10 spm_no_servers
ok "the fifth within 10 s: the server gives up" spm_no_servers
is "not before, and not later (after $i deaths)" "$([ "$i" -ge 5 ] && [ $((deaths[i - 1] - deaths[i - 5])) -lt 11000 ] && echo "$early")" 0
wait "$pid"
is "with an exit status that says so" $? 32
like "and a line: the signal, the last requests, what to do" "$(cat "$MNT.log")" \
	"5 workers died in 10 s without serving a request.*SIGKILL, in hand: .*'loop' stays: umount -l $MNT, .*-o recover"
is "clients are told at once" "$(timeout 10 cat "$MNT/f" 2>&1 | grep -c 'not connected')" 1
timeout 10 cat <&"$fd" >/dev/null 2>&1
like "those with an open file too" "$?" '^(0|1)$'
exec {fd}<&-
spm_unpin
ok "the region is there" test -e /run/spmfs/loop.ns
umount -l "$MNT"
unset "SPM_MOUNTS[$MNT]"
spm_need_mount mem:64M name=loop,recover
is "and is found by recover" "$(cat "$MNT/f")" content

# Deaths with work done in between are no loop.
for i in 1 2 3 4 5 6 7; do
	last=$(spm_feature worker_pid)
	kill -KILL "$last"
	[ "$(timeout 10 cat "$MNT/f")" = content ] || break
done
is "seven deaths with a served request after each: it goes on" "$i $(spm_feature worker_restarts)" "7 7"
spm_umount

# ---- the watchdog ----

spm_fresh mem:64M watchdog=1
is "the watchdog is said" "$(spm_feature watchdog)" 1
echo content >"$MNT/f"
last=$(worker)
kill -STOP "$last"
is "a stopped worker: a client's request is answered nevertheless" "$(timeout 20 cat "$MNT/f")" content
ok "by another worker" wait_until 5 spm_another spmfs-worker "$last"
is "one line says that it answered nothing" "$(spm_logged "worker $last hung: it answered nothing for 1 s, and was killed")" 1
is "it counts as a restart" "$(spm_feature worker_restarts)" 1

last=$(worker)
fault "mkdir:request hang"
ok "a request that hangs: it is done by the next worker" timeout 20 mkdir "$MNT/dir"
ok "which is another one" wait_until 5 spm_another spmfs-worker "$last"
wait_until 5 spm_logged "takeover: worker $(worker) serves"
like "the request is named" "$(tail -n 3 "$MNT.log")" "hung: it answered nothing for 1 s, and was killed; in hand: .*mkdir"
is "that is two" "$(spm_feature worker_restarts)" 2

last=$(worker)
fault "mkdir:request slow 1 1"
ok "a slow one" timeout 20 mkdir "$MNT/slow"
spm_pin "$MNT/.spm/features" "$MNT/.spm/fault" "$MNT/f" "$MNT/dir" "$MNT/slow"
wait_until 10 spm_idle "$last"
kill -STOP "$last"
sleep 3
kill -CONT "$last"
spm_unpin
is "a worker that is stopped while nobody asks anything is left alone" "$(cat "$MNT/f") $(worker)" "content $last"
is "still two" "$(spm_feature worker_restarts)" 2
spm_umount

spm_fresh mem:64M watchdog=0
like "watchdog=0 is said" "$(spm_feature watchdog)" '^off: '
last=$(worker)
kill -STOP "$last"
timeout 30 mkdir "$MNT/d" &
pid=$!
sleep 3
is "then a stopped worker stays" "$(worker)" "$last"
kill -CONT "$last"
ok "and goes on when it is continued" wait "$pid"
spm_umount

# ---- systemd ----

cat >"$SPM_TMP/listen.py" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind("\0" + name[1:] if name.startswith("@") else name)
s.settimeout(30)
print("listening", flush=True)
while True:
    print(s.recv(4096).decode().replace("\n", " "), flush=True)
END
notified()
{
	grep -qE "$1" "$SPM_TMP/notified"
}
if command -v python3 >/dev/null; then
	for socket in "$SPM_TMP/notify" "@spmfs-$SPM_TEST_ID"; do
		# or it would be the last one that says that it listens
		rm -f "$SPM_TMP/notified"
		python3 "$SPM_TMP/listen.py" "$socket" >"$SPM_TMP/notified" 2>/dev/null &
		listener=$!
		wait_until 10 notified listening
		export NOTIFY_SOCKET=$socket
		spm_need_mount mem:16M
		unset NOTIFY_SOCKET
		ok "${socket:0:1}: systemd hears that the mount is ready" wait_until 10 notified \
			"^READY=1 MAINPID=$(spm_feature keeper_pid) STATUS=$MNT serves"
		kill -KILL "$(spm_feature worker_pid)"
		ok "${socket:0:1}: of a restart" wait_until 10 notified "^STATUS=$MNT serves, 1 restarts"
		last=$(spm_feature keeper_pid)
		if [ "${socket:0:1}" = / ]; then
			kill -KILL "$last"
			ok "${socket:0:1}: of another keeper" wait_until 10 notified "^MAINPID=[0-9]+$"
			wait_until 10 eval '[ "$(spm_feature keeper_pid)" != "$last" ]'
			umount "$MNT"
			ok "${socket:0:1}: which ends with the mount" wait_until 10 spm_no_servers
			unset "SPM_MOUNTS[$MNT]"
		else
			spm_umount
		fi
		ok "${socket:0:1}: and of the end" wait_until 10 notified "^STOPPING=1"
		kill "$listener"
		wait "$listener" 2>/dev/null
	done
else
	skip "systemd hears of it" "no python3 here"
fi

spm_done
