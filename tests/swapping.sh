# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of swap share.
#
#	swap_mount SIZE SWAPSIZE [OPTIONS]	a fresh mount with swap= in $SWAP; where io_uring cannot be had, the test is skipped
#	evict PATH..., load PATH...		each file's content out of the device, and back: by .spm/evict and .spm/load
#	swapped PATH, resident PATH		bytes of a file in slots, and on the device
#	swaprun WHAT ARGS...			swaprun ARGS on the mount: no error, no difference; result KEY is one of its results
#	evictor_start [SECONDS], evictor_stop	something that always moves out whatever can go, and compacts
#	no_slots				nothing is swapped, to be waited for
#	swap_leaves_nothing WHAT		all is removed: slots, memory and inodes are given back

# shellcheck source=content.sh
. "$top_srcdir/tests/content.sh"

SWAPRUN=$top_builddir/tests/progs/swaprun
SWAP=$SPM_TMP/swap
SWAP_OUT=$SPM_TMP/swaprun.out
: >"$SWAP_OUT"
mkdir "$SWAP"

swap_mount()
{
	spm_umount_all || fail "umount before the next mount"
	swap_mount_of "$@"
}

swap_mount_of()
{
	local opts="swap=$SWAP,swapsize=$2${3:+,$3}"
	if ! spm_mount "$1" "$opts"; then
		! grep -q io_uring "$SPM_TMP"/mnt*.log || skip_all "$(grep -h io_uring "$SPM_TMP"/mnt*.log | head -n 1)"
		fail "mount $1 -o $opts"
		exit 1
	fi
	SWAP_FREE=$(spm_stat free_bytes)
}

move()
{
	local how=$1 f
	shift
	for f in "$@"; do
		printf '%s 0 %s\n' "$(stat -c %i -- "$f")" "$(stat -c %s -- "$f")" >"$MNT/.spm/$how" || return 1
	done
}

# A file can leave a moment after its last user has gone: the kernel tells that later.
evict()
{
	local f
	for f in "$@"; do
		wait_until 5 move evict "$f" || { move evict "$f"; return 1; }
	done
}

load()
{
	move load "$@"
}

swapped()
{
	spm_file swapped_bytes "$1"
}

resident()
{
	spm_file resident_bytes "$1"
}

is_out()
{
	[ "$(swapped "$1")" -gt 0 ] && [ "$(resident "$1")" -eq 0 ]
}

is_here()
{
	[ "$(swapped "$1")" -eq 0 ]
}

result()
{
	sed -n "s/^# $1 \([^ ]*\).*/\1/p" "$SWAP_OUT"
}

hits()
{
	sed -n "s/^# point $1 //p" "$SWAP_OUT"
}

swaprun()
{
	local what=$1 rc
	shift
	"$SWAPRUN" "$@" "$MNT" >"$SWAP_OUT" 2>&1 </dev/null
	rc=$?
	is "$what: nothing failed, every byte is right" "$rc, $(result errors) errors, $(result differences) differences" \
		"0, 0 errors, 0 differences"
	diag "$(sed 's/^# //' "$SWAP_OUT")"
	return $rc
}

evictor()
{
	local i=0
	while [ ! -e "$SPM_TMP/evictor.stop" ]; do
		echo 1G >"$MNT/.spm/reclaim"
		i=$((i + 1))
		[ $((i % 20)) -gt 0 ] || echo 1 >"$MNT/.spm/compact"
		sleep "${1:-0.02}"
	done 2>/dev/null
}

evictor_start()
{
	rm -f "$SPM_TMP/evictor.stop"
	evictor "$@" &
	EVICTOR=$!
}

evictor_stop()
{
	touch "$SPM_TMP/evictor.stop"
	wait "$EVICTOR"
}
at_exit touch "$SPM_TMP/evictor.stop"

swap_is_back()
{
	[ "$(spm_stat swap_used_bytes)" -eq 0 ] && [ "$(spm_stat swapped_bytes)" -eq 0 ] &&
		[ "$(spm_stat free_bytes)" -ge "$((SWAP_FREE - MIB))" ] && [ "$(spm_stat inodes_known)" -le 20 ]
}

no_slots()
{
	[ "$(spm_stat swap_used_bytes)" -eq 0 ]
}

swap_leaves_nothing()
{
	find "$MNT" -mindepth 1 -delete || fail "$1: everything can be removed"
	wait_until 15 swap_is_back
	ok "$1: slots, memory and inodes are given back ($(spm_stat swap_used_bytes) of swap used, $(spm_stat free_bytes) of \
$SWAP_FREE free, $(spm_stat inodes_known) inodes)" swap_is_back
}
