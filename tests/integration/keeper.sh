#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The keeper is small and locked in memory; keeper, standby and worker replace each other when one is killed.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

status_of()
{
	awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"
}

# The pid in features, other than it was.
other_pid()
{
	local now
	now=$(spm_feature "$1") && [ -n "$now" ] && [ "$now" != "$2" ]
}

spm_need_mount mem:64M
keeper=$(spm_feature keeper_pid)
standby=$(spm_feature standby_pid)
worker=$(spm_feature worker_pid)
is "the keeper is the process that was started" "$(status_of "$keeper" PPid)" "${SPM_MOUNTS[$MNT]}"
is "keeper, standby and worker have names" \
	"$(cat "/proc/$keeper/comm" "/proc/$standby/comm" "/proc/$worker/comm" | tr '\n' ' ')" \
	"spmfs-keeper spmfs-standby spmfs-worker "
ok "the keeper is less than 1 MiB ($(status_of "$keeper" VmRSS) kB)" test "$(status_of "$keeper" VmRSS)" -lt 1024
ok "all of it is locked ($(status_of "$keeper" VmLck) kB)" \
	test "$(status_of "$keeper" VmLck)" -ge "$(status_of "$keeper" VmRSS)"
is "it has one thread" "$(status_of "$keeper" Threads)" 1
if (echo -1000 >/proc/self/oom_score_adj) 2>/dev/null; then
	is "nothing kills it for its memory" "$(cat "/proc/$keeper/oom_score_adj")" -1000
else
	skip "nothing kills it for its memory" "oom_score_adj cannot be lowered here"
fi
is "it maps no library" "$(grep -c '\.so' "/proc/$keeper/maps")" 0
is "it is not dumpable: its files in /proc are root's" "$(as "$USER_A" cat "/proc/$keeper/environ" 2>/dev/null | wc -c)" 0
fds=$(find "/proc/$keeper/fd" -mindepth 1 -lname '*' -printf '%l\n')
is "the one namespace that it holds is the region's" \
	"$(grep -c '^mnt:' <<<"$fds") $(grep '^mnt:' <<<"$fds")" "1 $(readlink "/proc/$worker/ns/mnt")"
is "in which it lives, too" "$(readlink "/proc/$keeper/ns/mnt")" "$(readlink "/proc/$worker/ns/mnt")"
# the spare has been made, and whatever else belongs to the beginning
wait_until 10 spm_settled
has_slept()
{
	before=$(status_of "$keeper" voluntary_ctxt_switches)
	sleep 0.5
	[ "$(status_of "$keeper" voluntary_ctxt_switches)" = "$before" ]
}
wait_until 10 has_slept
sleep 3
ok "an idle mount wakes it next to never ($(($(status_of "$keeper" voluntary_ctxt_switches) - before)) times in 3 s)" \
	test $(($(status_of "$keeper" voluntary_ctxt_switches) - before)) -le 1

# Clients for whom all of this is nothing.
echo content >"$MNT/f"
actor a
tell a open f rw "$MNT/f"
tell a map m f rw shared 0 7
content()
{
	timeout 10 cat "$MNT/f"
}

kill -KILL "$worker"
is "the worker is killed: the file is there" "$(content)" content
isnt=$(spm_feature worker_pid)
ok "another worker serves it" test "$isnt" != "$worker"
is "one restart" "$(spm_feature worker_restarts)" 1
is "one line says what killed it" "$(spm_logged "crash: worker $worker was killed by SIGKILL; in hand: ")" 1
ok "one line says how long it took" wait_until 5 spm_logged "takeover: worker $isnt serves, [0-9]+ ms after"

worker=$isnt
kill -KILL "$standby"
ok "the standby is killed: there is another" wait_until 10 other_pid standby_pid "$standby"
is "the worker goes on" "$(spm_feature worker_pid)" "$worker"
is "and serves" "$(content)" content
kill -KILL "$worker"
is "it is killed: the next one comes from the new standby" "$(content)" content
ok "as a child of it" test "$(status_of "$(spm_feature worker_pid)" PPid)" = "$(spm_feature standby_pid)"

worker=$(spm_feature worker_pid)
kill -KILL "$keeper"
ok "the keeper is killed: there is another" wait_until 10 other_pid keeper_pid "$keeper"
wait "$keeper" 2>/dev/null
keeper=$(spm_feature keeper_pid)
is "the worker goes on" "$(spm_feature worker_pid)" "$worker"
is "the new one is a keeper" "$(cat "/proc/$keeper/comm")" spmfs-keeper
ok "as small as the first ($(status_of "$keeper" VmRSS) kB)" test "$(status_of "$keeper" VmRSS)" -lt 1024
kill -KILL "$worker"
is "and restarts the worker" "$(content)" content
wait_until 10 spm_settled
worker=$(spm_named spmfs-worker) last=$(spm_named spmfs-spare)
kill -KILL "$last"
ok "the spare is killed: there is another" wait_until 10 spm_another spmfs-spare "$last"
last=$(spm_named spmfs-spare)
kill -KILL "$last"
ok "at once again: there is another a little later" wait_until 10 spm_another spmfs-spare "$last"
is "for which no worker had to be started" "$(spm_named spmfs-worker)" "$worker"

kill -KILL "$(spm_feature keeper_pid)" "$(spm_feature worker_pid)"
is "keeper and worker are killed at once" "$(content)" content
# The one that there was is the standby now.
wait_until 10 spm_settled
kill -KILL "$(spm_feature standby_pid)" "$(spm_feature worker_pid)"
is "standby and worker are killed at once" "$(content)" content
ok "a spare waits behind the standby" wait_until 10 spm_settled
kill -KILL "$(spm_named spmfs-spare)"
kill -KILL "$(spm_feature worker_pid)"
is "the spare is killed, then the worker" "$(content)" content
ok "then there is a spare again" wait_until 10 spm_settled

kill -TERM "$(spm_feature worker_pid)"
is "SIGTERM for the worker: the next one takes over" "$(content)" content
says "a mapping from the beginning has lived through all of it" a "ok content" get m 0 7
says "and so has an open file" a "ok 7" write f 0 changed
is "which the file shows" "$(content)" changed
restarts=$(spm_feature worker_restarts)
kill -KILL "$(spm_feature worker_pid)"
content >/dev/null
is "which is no restart after a crash, unlike SIGKILL" "$(spm_feature worker_restarts)" $((restarts + 1))
actor_end a

keeper=$(spm_feature keeper_pid)
kill -TERM "$keeper"
ok "SIGTERM for the keeper still ends it all" wait_until 10 spm_no_servers
ok "the mount is gone" eval '! spm_is_mounted "$MNT"'
unset "SPM_MOUNTS[$MNT]"
is "and its files in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""

# A keeper that dies again and again is not started for ever; the worker serves on.
spm_need_mount mem:64M
echo content >"$MNT/f"
for i in 1 2 3 4 5 6; do
	keeper=$(spm_feature keeper_pid)
	kill -KILL "$keeper"
	wait_until 10 other_pid keeper_pid "$keeper"
	sleep 0.2
done
is "six dead keepers with requests served in between are replaced" "$(content)" content
# and none from here on
spm_pin "$MNT/.spm/features" "$MNT/f"
wait_until 10 spm_idle "$(spm_named spmfs-worker)"
for i in 1 2 3 4 5; do
	keeper=$(spm_named spmfs-keeper)
	kill -KILL "$keeper"
	[ "$i" = 5 ] || wait_until 10 spm_another spmfs-keeper "$keeper"
done
ok "five dead keepers within 10 s are enough" wait_until 10 spm_logged "giving up; the worker serves on"
is "the worker serves on" "$(content)" content
spm_unpin
umount "$MNT"
ok "until the mount ends" wait_until 10 spm_no_servers
unset "SPM_MOUNTS[$MNT]"
umount /run/spmfs/*.ns && rm -f /run/spmfs/*

# No standby and no spare: the next one is started in the namespace of process 1.
mkdir "$SPM_TMP/private"
mount -t tmpfs private "$SPM_TMP/private"
cp "$SPMFS" "$SPMFS-keeper" "$SPM_TMP/private"
SPMFS=$SPM_TMP/private/spmfs spm_need_mount mem:16M
like "a program that process 1 does not see: the mount says what that means" "$(spm_feature standby)" \
	'^off: .*process 1: .*standby and spare'
spm_umount
umount -l "$SPM_TMP/private"
# Both are killed while the keeper looks: the spare may be what it calls the standby for a moment, and is dead then.
cat >"$SPM_TMP/inside.sh" <<'END'
set -u
feature()
{
	sed -n "s/^$1 //p" "$dir/.spm/features"
}
# soon COMMAND...: waits for it to succeed.
soon()
{
	local end=$((SECONDS + 20 * factor))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || { echo "never: $*" && return 1; }
		sleep 0.05
	done
}
has_spare()
{
	spare=$(grep -lsx spmfs-spare /proc/[0-9]*/comm)
	spare=${spare#/proc/} spare=${spare%/comm}
	[ -n "$spare" ]
}
has_standby()
{
	local now
	now=$(feature standby_pid)
	[ "$now" -gt 0 ] && [ "$now" != "$standby" ] && [ "$now" != "$spare" ] &&
		parent=$(awk '/^PPid:/ { print $2 }' "/proc/$now/status" 2>/dev/null) && [ -n "$parent" ]
}
nobody_left()
{
	! grep -qsx 'spmfs-.*' /proc/[0-9]*/comm
}
dir=$2 factor=$3
"$1" mem:16M "$dir" || exit 1
echo content >"$dir/f"
echo "standby $(feature standby)"
standby=$(feature standby_pid)
soon has_spare && kill -KILL "$standby" "$spare"
soon has_standby && echo "parent $parent keeper $(feature keeper_pid)"
kill -KILL "$(feature worker_pid)"
timeout 10 cat "$dir/f"
umount "$dir"
soon nobody_left
echo "left $(grep -lsx 'spmfs-.*' /proc/[0-9]*/comm | wc -l)"
END
mkdir "$SPM_TMP/pidns"
told=$(unshare --pid --fork --kill-child --mount-proc bash "$SPM_TMP/inside.sh" "$SPMFS" "$SPM_TMP/pidns" \
	"$SPM_FACTOR" 2>&1)
like "a program that process 1 sees" "$told" '(^|\n)?standby on'
like "standby and spare are killed: the keeper starts another" "$told" 'parent ([0-9]+) keeper ([0-9]+)'
is "as a child of its own" "${BASH_REMATCH[1]:-}" "${BASH_REMATCH[2]:-none}"
like "from which the next worker comes" "$told" $'\ncontent\n'
like "and which ends with the mount" "$told" $'\nleft 0$'

# By hand neither program is of use, and says so.
fails "the keeper by hand" "$SPMFS-keeper"
like "says what it is" "$(cat "$SPM_TMP/out")" '^spmfs-keeper: .*no use by hand'
fails "--standby by hand" "$SPMFS" --standby=3,4 - mem:1M /mnt name=x
like "says what it is" "$(cat "$SPM_TMP/out")" '^spmfs: .*by hand'

spm_done
