# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of swap on a pool share, after pooling.sh and swapping.sh.
#
#	pool_swap_mount SIZE SWAPSIZE [OPTIONS]	a fresh mount of a new stand-in, with swap= in $SWAP
#	full_of_what_stays			the pool is full of what cannot leave: memory behind the end of $MNT/pinned

pool_swap_mount()
{
	spm_umount_all || fail "umount before the next mount"
	pool_device "$1"
	swap_mount_of "$DAX" "$2" "${3:-}"
	POOL_FREE=$SWAP_FREE
}

full_of_what_stays()
{
	: >"$MNT/pinned"
	fallocate -n -l "$SWAP_FREE" "$MNT/pinned"
}
