# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests share that kill servers: plain tmpfs to compare with, the run of killrun, and that nothing is left.
#
#	kill_mount OPTIONS		a fresh mount of 1 GiB, and an empty tmpfs in $REF
#	killed WHAT ARGS...		killrun ARGS on both, in its own lines of results; figure KEY is one of them
#	kill_leaves_nothing WHAT	all is removed: memory and inodes are given back

KILLRUN=$top_builddir/tests/progs/killrun
REF=$SPM_TMP/ref
mkdir "$REF"
KILL_OUT=$SPM_TMP/killrun.out
: >"$KILL_OUT"

# Clients of a server that does not come back wait beyond the reach of signals, until the connection is aborted.
kill_abort()
{
	local dir
	for dir in "${!SPM_MOUNTS[@]}"; do
		timeout 10 stat -f "$dir" >/dev/null 2>&1 || umount -f "$dir" 2>/dev/null
	done
}
at_exit kill_abort

kill_mount()
{
	# the reference is made anew: killrun wants both empty
	mountpoint -q "$REF" && umount "$REF"
	spm_fresh mem:1G "$1"
	mount -t tmpfs -o size=1G spm-reference "$REF" || { fail "mount tmpfs"; exit 1; }
	KILL_FREE=$(spm_stat free_bytes)
}

# The lines that killrun gave for a key.
figure()
{
	sed -n "s/^# $1 \([^ ]*\).*/\1/p" "$KILL_OUT"
}

killed()
{
	local what=$1 rc
	shift
	"$KILLRUN" -S "$@" "$MNT" "$REF" >"$KILL_OUT" 2>&1 </dev/null
	rc=$?
	is "$what: every result is the one of tmpfs" "$rc" 0
	is "$what: errors and differences" "$(figure errors) $(figure differences)" "0 0"
	diag "$(sed 's/^# //' "$KILL_OUT")"
}

kill_all_is_back()
{
	[ "$(spm_stat free_bytes)" -ge "$((KILL_FREE - 1048576))" ] && [ "$(spm_stat inodes_known)" -le 20 ]
}

# Names, orphans and what the kernel remembers: after all files are removed there is nothing that holds memory.
kill_leaves_nothing()
{
	find "$MNT" -mindepth 1 -delete || fail "$1: everything can be removed"
	wait_until 15 kill_all_is_back
	ok "$1: memory and inodes are given back (free $(spm_stat free_bytes) of $KILL_FREE, $(spm_stat inodes_known) inodes)" \
		kill_all_is_back
}
