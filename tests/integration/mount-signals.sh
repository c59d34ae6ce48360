#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# However a mount ends, by umount, SIGTERM or SIGINT, in the foreground or not: everything goes, memory too.
set -u
# Whether memory comes back is seen in the figures of the whole machine.
SPM_EXCLUSIVE=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

d=$SPM_TMP/end
mkdir "$d"

shmem_mib()
{
	awk '/^Shmem:/ { print int($2 / 1024) }' /proc/meminfo
}

# Others use memory on this machine too: the device is large against what they do.
less_shmem_than()
{
	[ "$(shmem_mib)" -lt "$1" ]
}

before=$(spm_traces)
same_traces()
{
	[ "$(spm_traces)" = "$before" ]
}

gone()
{
	! kill -0 "$1"
}

fill()
{
	fallocate -l 1G "$d/large"
	echo x >"$d/small"
	mkdir "$d/dir"
}

all_clean()
{
	ok "$1: every server ended" wait_until 10 spm_no_servers
	wait_until 5 same_traces
	is "$1: mounts, /run and control groups are as before" "$(spm_traces)" "$before"
	is "$1: the mount point is an empty directory" "$(ls -A "$d" 2>&1)" ""
	ok "$1: the memory came back" wait_until 20 less_shmem_than $(($2 + 300))
}

for how in umount TERM INT; do
	mem=$(shmem_mib)
	"$SPMFS" mem:1200M "$d" || fail "mount for $how"
	fill
	is "$how: 1 GiB is in use" "$([ "$(spm_stat resident_bytes "$d")" -ge 1073741824 ] && echo yes)" yes
	if [ "$how" = umount ]; then
		umount "$d"
	else
		kill -"$how" "$(spm_feature keeper_pid "$d")"
	fi
	all_clean "daemon, $how" "$mem"
done

for how in umount TERM INT; do
	mem=$(shmem_mib)
	# Not through the harness: a shell ignores INT for what it runs in the background.
	env --default-signal=INT "$SPMFS" -f mem:1200M "$d" >"$SPM_TMP/fg.log" 2>&1 &
	pid=$!
	wait_until 10 test -e "$d/.spm/features" || fail "mount for -f, $how"
	fill
	if [ "$how" = umount ]; then
		umount "$d"
	else
		kill -"$how" "$pid"
	fi
	ok "-f, $how: ends" wait_until 10 gone "$pid"
	wait "$pid"
	is "-f, $how: its exit status" $? 0
	all_clean "-f, $how" "$mem"
done

# A busy mount: clients keep what they have mapped, and hold nothing else.
mem=$(shmem_mib)
"$SPMFS" mem:1200M "$d" || fail "mount"
fill
actor a
says "a client maps a file" a ok open f rw "$d/large"
tell a map m f rw shared 0 1G
says "and writes" a ok mfill m 0 16M 5
[ "$(file_mode "$d/large")" = direct ] && direct=yes || direct=no
kill -TERM "$(spm_feature keeper_pid "$d")"
ok "SIGTERM while mapped: the server ends" wait_until 10 spm_no_servers
ok "SIGTERM while mapped: the mount is gone" wait_until 5 eval '! spm_is_mounted "$d"'
if [ "$direct" = yes ]; then
	says "a direct mapping outlives the server" a ok mverify m 0 16M 5
	says "and can be written" a ok mfill m 16M 16M 6
else
	skip "a direct mapping outlives the server" "no direct mappings here"
	skip "and can be written" "no direct mappings here"
fi
actor_end a
all_clean "SIGTERM while mapped, after the client's end" "$mem"

# A signal that arrives while clients work: they get errors, nobody hangs.
"$SPMFS" mem:64M "$d" || fail "mount"
# By a relative path: the full one leads to the directory below as soon as the mount is gone.
(cd "$d" && while touch x && rm x; do :; done) 2>"$SPM_TMP/client.err" &
busy=$!
wait_until 5 eval '[ "$(spm_stat requests "$d")" -gt 500 ]'
kill -TERM "$(spm_feature keeper_pid "$d")"
ok "SIGTERM under load: the clients come to an end" wait_until 10 gone "$busy"
wait "$busy"
like "with an error that says so" "$(cat "$SPM_TMP/client.err")" 'not connected|abort|Input/output error'
all_clean "SIGTERM under load" "$(shmem_mib)"

spm_done
