#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# nohalt=: idle processors poll while requests follow each other, and only then; nothing of it outlives the
# server. How long they polled is what cpuidle counts in its state POLL.
set -u
SPM_EXCLUSIVE=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

[ -c /dev/cpu_dma_latency ] || skip_all "no /dev/cpu_dma_latency here"
grep -qsx POLL /sys/devices/system/cpu/cpu0/cpuidle/state0/name || skip_all "cpuidle has no state POLL here"

# Microseconds that all processors have polled since the boot.
polled()
{
	cat /sys/devices/system/cpu/cpu[0-9]*/cpuidle/state0/time | awk '{ n += $1 } END { print n }'
}

# How many of them while the command ran.
polled_during()
{
	local before
	before=$(polled)
	"$@" >/dev/null 2>&1
	echo $(($(polled) - before))
}

more_than()
{
	if [ "$2" -gt "$3" ]; then
		pass "$1"
	else
		fail "$1" "$2, more than $3 was wanted"
	fi
}

at_most()
{
	if [ "$2" -le "$3" ]; then
		pass "$1"
	else
		fail "$1" "$2, at most $3 was wanted"
	fi
}

# Names that exist nowhere: each is one request.
burst()
{
	local i
	for ((i = 0; i < 20000; i++)); do
		[ ! -e "$MNT/no-$1-$i" ] || return 1
	done
}

# Hundredths of a second for which processors were idle.
idled()
{
	awk '$1 == "cpu" { print $5 }' /proc/stat
}

# How much longer they poll in a burst with nohalt=on; sets on, off and idle. Fails when others had them for nearly all of the
# time, since a processor that is not idle does not poll.
compare()
{
	local before start
	spm_fresh mem:64M nohalt=off
	said_off=$(spm_feature nohalt)
	off=$(polled_during burst off)
	idle=$(polled_during sleep 0.5)
	spm_fresh mem:64M nohalt=on
	before=$(idled) start=$(spm_now_ms)
	on=$(polled_during burst on)
	[ $((($(idled) - before) * 100)) -gt $(($(spm_now_ms) - start)) ]
}

for i in 1 2; do
	compare && break
done
free=$?
is "nohalt=off is said" "$said_off" "off: option nohalt=off"
is "nohalt=on is said" "$(spm_feature nohalt)" on
if [ "$free" -eq 0 ] || [ "$on" -gt $((2 * off + 20000)) ]; then
	more_than "idle processors poll in a burst of requests" "$on" $((2 * off + 20000))
else
	skip "idle processors poll in a burst of requests" "others use all processors"
fi
at_most "and not when it is over" "$(polled_during sleep 0.5)" $((2 * idle + 50000))

burst killed &
pid=$!
sleep 0.3
spm_kill_servers
wait $pid
at_most "and not when the server was killed in the middle" "$(polled_during sleep 0.5)" $((2 * idle + 50000))
umount -l "$MNT"
unset "SPM_MOUNTS[$MNT]"

spm_need_mount mem:64M recover
like "auto is the default, and says what it comes to" "$(spm_feature nohalt)" "^on$|^off: (not|more)"
spm_done
