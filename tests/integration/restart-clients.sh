#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What clients do while the worker dies: they are killed as well, so that the kernel gives their request up before the
# next worker has read it again; they write to a file that another is emptying; they close files on a kernel that sends
# nothing again.
set -u
export SPMFS_FAULTS=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

arm()
{
	local point
	for point in "$@"; do
		echo "$point" >"$MNT/.spm/fault"
	done
}

# Not by asking the mount: nobody answers then.
is_resent()
{
	[ "$(spm_logged "fault: unknown:resent")" -gt "$1" ]
}

# given_up STEP CMD...: the worker dies with the command's request in hand, and the command before the next worker
# reads it. Its parent must not wait for it by its name: it hangs in the system call until it is killed.
given_up()
{
	local step=$1 worker client resent
	shift
	resent=$(spm_logged "fault: unknown:resent")
	worker=$(spm_server_pid)
	arm "$step slow:4000" "unknown:resent slow:2500"
	"$@" &
	client=$!
	# until the request has been taken up, and then until the next worker has asked for what was unanswered
	wait_until 10 spm_logged "fault: $step"
	kill -KILL "$worker"
	wait_until 10 is_resent "$resent"
	kill -KILL "$client"
	wait "$client" 2>/dev/null
	arm clear
}

# Whether a name is there, by looking it up and by listing.
found()
{
	[ -e "$MNT/$1" ] && echo there
}
listed()
{
	[ -n "$(find "$MNT" -maxdepth 1 -name "$1")" ] && echo there
}

forgotten()
{
	echo 2 >/proc/sys/vm/drop_caches
	[ "$(spm_stat inodes_known)" -le "$1" ]
}

spm_need_mount mem:64M
echo content >"$MNT/f"
given_up open:reply bash -c 'exec 3<"$1"' bash "$MNT/f"
is "an open that was given up" "$(spm_stat open_direct) $(spm_stat open_mirror)" "0 0"
is "nobody has the file open" "$(file_mode "$MNT/f")" idle

given_up mkdir:reply mkdir "$MNT/made"
is "a mkdir that was given up: listing and lookup agree" "$(found made)" \
	"$(listed made)"
ok "and the name can be had" eval 'rmdir "$MNT/made" 2>/dev/null; mkdir "$MNT/made"'
rmdir "$MNT/made"

given_up unlink:reply rm -f "$MNT/f"
is "an unlink that was given up: listing and lookup agree" "$(found f)" \
	"$(listed f)"
rm -f "$MNT/f"

mkdir "$MNT/a" "$MNT/b"
touch "$MNT/a/child"
given_up rename:exchanged mv -T "$MNT/a" "$MNT/b"
is "half a rename that was given up is finished" "$(cd "$MNT" && ls)" b
is "with what was moved" "$(ls "$MNT/b")" child
rm -r "$MNT/b"

head -c 8M /dev/zero >"$MNT/big"
forgotten 3
given_up lookup:reply stat "$MNT/big"
rm "$MNT/big"
ok "what a lookup that was given up had counted is forgotten" wait_until 10 forgotten 3
is "and its memory came back" "$(spm_stat free_bytes)" "$(spm_stat device_bytes)"

# No lock of the kernel's lies over O_TRUNC: what is written after it had its effect stays.
echo "old content, longer" >"$MNT/f"
actor b
ok "one has the file open" tell b open fd rw "$MNT/f"
worker=$(spm_server_pid)
arm "open:reply slow:2500"
bash -c ': >"$1"' bash "$MNT/f" &
truncater=$!
is_empty()
{
	tell b read fd 0 20
	[ "${REPLY% }" = ok ]
}
ok "another empties it" wait_until 5 is_empty
ok "who writes then" tell b write fd 0 acknowledged
kill -KILL "$worker"
ok "the open that emptied it succeeds" wait "$truncater"
is "and does not empty it again" "$(cat "$MNT/f")" acknowledged
actor_end b

spm_fresh mem:64M noresend
echo content >"$MNT/f"
actor c
tell c open fd r "$MNT/f"
arm "release:request kill"
tell c close fd
ok "a close in hand at a death is counted on a kernel that sends nothing again" \
	wait_until 5 eval '[ "$(spm_stat open_direct)" = 0 ]'
actor_end c
spm_done
