#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The keeper dies during an upgrade, at different times of it: one keeper, one standby, one worker and one spare are
# left, and serve.
set -u
SPM_LIMIT=200
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# With nothing of the attempt left: whoever waits in a script ends when that has become the program.
settled()
{
	spm_settled && ! pgrep -f "^/bin/sh $SPM_TMP/slow" >/dev/null
}

printf '#!/bin/sh\nsleep 2\nexec "%s" "$@"\n' "$SPMFS" >"$SPM_TMP/slow"
# one that loads for as long as there is a file
printf '#!/bin/sh\nwhile [ -e "%s" ]; do sleep 0.05; done\nexec "%s" "$@"\n' "$SPM_TMP/hold" "$SPMFS" >"$SPM_TMP/slow-held"
chmod +x "$SPM_TMP/slow" "$SPM_TMP/slow-held"

spm_need_mount mem:64M name=deaths
echo content >"$MNT/f"
(cd "$MNT" && while [ ! -e "$SPM_TMP/stop" ]; do
	mkdir d && echo x >d/f && mv d/f d/g && rm d/g && rmdir d || exit 1
done) 2>"$SPM_TMP/load.err" &
load=$!
wait_until 5 settled

# while the new program loads, and when its worker takes over
for delay in 1 2.00 2.02 2.04 2.06; do
	keeper=$(spm_named spmfs-keeper)
	timeout 30 "$SPMCTL" upgrade --binary "$SPM_TMP/slow" "$MNT" >"$SPM_TMP/up" 2>&1 </dev/null &
	client=$!
	sleep "$delay"
	kill -KILL "$keeper"
	wait "$client"
	ok "keeper killed after $delay s: there is another" wait_until 10 spm_another spmfs-keeper "$keeper"
	# the second and third keeper came at once where there were any
	sleep 1.5
	wait_until 10 settled
	is "$delay s: one keeper, standby, spare and worker" "$(spm_kinds)" \
		"spmfs-keeper 1 spmfs-spare 1 spmfs-standby 1 spmfs-worker 1 "
	pid=$(spm_named spmfs-worker)
	sleep 1
	is "$delay s: the worker is left alone" "$(spm_named spmfs-worker)" "$pid"
	is "$delay s: which serves" "$(timeout 10 cat "$MNT/f")" content
	is "$delay s: and is known by the keeper's name" "$(spm_feature keeper_pid)" "$(spm_named spmfs-keeper)"
done
ok "after all of that an upgrade works" timeout 30 "$SPMCTL" upgrade --binary "$SPM_TMP/slow" "$MNT"
ok "one keeper, standby, spare and worker" wait_until 10 settled
keeper=$(spm_named spmfs-keeper)
kill -KILL "$keeper"
ok "the keeper is killed: the new standby follows it" wait_until 10 spm_another spmfs-keeper "$keeper"
ok "one keeper, standby, spare and worker again" wait_until 10 settled

# ---- two at once, and those that say nothing ----

"$top_builddir/tests/progs/impostor" connect /run/spmfs/deaths.sock &
silent=$!
at_exit kill "$silent"
wait_until 5 grep -q deaths.sock /proc/net/unix
start=$(spm_now_ms)
ok "a client that says nothing: an upgrade works" timeout 30 "$SPMCTL" upgrade --binary "$SPMFS" "$MNT"
ok "without waiting for that ($(($(spm_now_ms) - start)) ms)" [ $(($(spm_now_ms) - start)) -lt $((3000 * SPM_FACTOR)) ]

loads()
{
	pgrep -f "^/bin/sh $SPM_TMP/slow" >/dev/null
}

second()
{
	timeout 30 "$SPMCTL" upgrade --binary "$SPMFS" "$MNT" >"$SPM_TMP/second" 2>&1 </dev/null
	is "$1: refused" $? 1
	like "$1: that says why" "$(cat "$SPM_TMP/second")" "not upgraded: another upgrade is under way"
}

touch "$SPM_TMP/hold"
timeout 30 "$SPMCTL" upgrade --binary "$SPM_TMP/slow-held" "$MNT" >"$SPM_TMP/up" 2>&1 </dev/null &
client=$!
wait_until 5 loads
second "a second upgrade"
rm "$SPM_TMP/hold"
wait "$client"
is "the first one is done" $? 0
# shellcheck disable=SC2034 # eval reads it
done=$(grep -c "upgrade: .* -> " "$MNT.log")
touch "$SPM_TMP/hold"
"$SPMCTL" upgrade --binary "$SPM_TMP/slow-held" "$MNT" >"$SPM_TMP/up" 2>&1 </dev/null &
client=$!
wait_until 5 loads
kill -KILL "$client"
wait "$client" 2>/dev/null
second "a second upgrade, and nobody waits for the first"
rm "$SPM_TMP/hold"
ok "which is done nevertheless" wait_until 10 eval '[ "$(grep -c "upgrade: .* -> " "$MNT.log")" = $((done + 1)) ]'
ok "one of each in the end" wait_until 10 settled

touch "$SPM_TMP/stop"
ok "clients go on through all of it" wait "$load"
is "without an error" "$(cat "$SPM_TMP/load.err")" ""
umount "$MNT"
ok "all of them end with the mount" wait_until 15 spm_no_servers
unset "SPM_MOUNTS[$MNT]"
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""

spm_done
