#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Laws 2 and 5: the device is full of what cannot leave, so nothing swapped can come back. Truncates and punches with
# edges in swapped extents work all the same, at once, and drop what they are told to and nothing else.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

# same FILE FROM [TO]: as the copy there.
same()
{
	cmp -i "$2" ${3:+-n $(($3 - $2))} "$1" "$copy"
}

zeros()
{
	cmp -i "$2:0" -n $(($3 - $2)) "$1" /dev/zero
}

# left_with DESC FILE BYTES: so much is in swap, page by page, and nothing on the device.
left_with()
{
	is "$1: pages in swap" "$(swapped "$2")" "$3"
	is "$1: nothing came back" "$(resident "$2")" 0
}

# What must hold of a, b, c and d, wherever their extents are.
right()
{
	ok "$1: cut off: what is left is right" same "$MNT/a" 0 3000000
	ok "$1: cut off: zeros behind, when it is longer again" zeros "$MNT/a" 3000000 $((8 * MIB))
	ok "$1: a hole over extents: right before" same "$MNT/b" 0 3000000
	ok "$1: a hole over extents: zeros" zeros "$MNT/b" 3000000 7000000
	ok "$1: a hole over extents: right behind" same "$MNT/b" 7000000
	ok "$1: a hole in an extent: right before" same "$MNT/c" 0 2500000
	ok "$1: a hole in an extent: zeros" zeros "$MNT/c" 2500000 2520000
	ok "$1: a hole in an extent: right behind" same "$MNT/c" 2520000
	ok "$1: a small one: right" same "$MNT/d" 0 5000
	ok "$1: a small one: zeros" zeros "$MNT/d" 5000 20000
}

cutting()
{
	local f
	swap_mount mem:32M 64M "$1"
	copy=$SPM_TMP/copy
	head -c 8M /dev/urandom >"$copy"
	for f in a b c e; do
		cp "$copy" "$MNT/$f"
	done
	head -c 40000 "$copy" >"$MNT/d"
	evict "$MNT"/[a-e] || fail "$1: evict"
	: >"$MNT/pinned"
	"$SPMT" setxattr "$MNT/pinned" user.spm.map direct
	actor p
	tell p open f rw "$MNT/pinned"
	tell p fill f 0 64M 1
	like "$1: a file takes all of the device" "$REPLY" "^ok [0-9]+ ENOSPC$"
	in=$(spm_stat swapin_bytes)
	ok "$1: truncate" truncate -s 3000000 "$MNT/a"
	left_with "$1: truncate" "$MNT/a" $((733 * 4096))
	ok "$1: and longer" truncate -s 8M "$MNT/a"
	ok "$1: punch over extents" fallocate -p -o 3000000 -l 4000000 "$MNT/b"
	left_with "$1: punch over extents" "$MNT/b" $(((2048 - (7000000 / 4096 - 733)) * 4096))
	ok "$1: punch in an extent" fallocate -p -o 2500000 -l 20000 "$MNT/c"
	left_with "$1: punch in an extent" "$MNT/c" $(((2048 - (2520000 / 4096 - 611)) * 4096))
	ok "$1: a small one" truncate -s 5000 "$MNT/d"
	ok "$1: and longer" truncate -s 20000 "$MNT/d"
	left_with "$1: a small one" "$MNT/d" 8192
	ok "$1: O_TRUNC" eval ': >"$MNT/e"'
	left_with "$1: O_TRUNC" "$MNT/e" 0
	right "$1"
	is "$1: nothing has come back" "$(spm_stat swapin_bytes)" "$in"
	tell p close f
	actor_end p
	rm "$MNT/pinned"
	ok "$1: all can come back" wait_until 5 load "$MNT"/[a-d]
	right "$1: here"
	ok "$1: and leave again" evict "$MNT"/[a-d]
	right "$1: out again"
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

cutting map=mirror
cutting map=mirror,extent=64K
spm_done
