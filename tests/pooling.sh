# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of pools share. A file on a tmpfs stands in for the dax device, unless SPM_DAX names a real one in mode devdax.
#
#	pool_device SIZE		a new stand-in, of which nobody has used anything
#	pool_mount SIZE [OPTIONS]	a fresh mount of a new one
#	pool_source			prints SOURCE
#	pool_leaves_nothing WHAT	all is removed: extents and inodes are given back

# shellcheck source=content.sh
. "$top_srcdir/tests/content.sh"

POOL_DIR=$SPM_TMP/dax
DAX=${SPM_DAX:-dax0.0}
mkdir "$POOL_DIR"
mount -t tmpfs -o size=4G spm-device "$POOL_DIR" || exit 1
[ -n "${SPM_DAX:-}" ] || export SPMFS_DAX_FILE=$POOL_DIR/device

pool_device()
{
	[ -n "${SPM_DAX:-}" ] || { rm -f "$SPMFS_DAX_FILE" && truncate -s "$1" "$SPMFS_DAX_FILE"; }
}

pool_mount()
{
	spm_umount_all || fail "umount before the next mount"
	pool_device "$1"
	if ! spm_mount "$DAX" "${2:-}"; then
		fail "mount $DAX of $1 -o ${2:-}"
		exit 1
	fi
	POOL_FREE=$(spm_stat free_bytes)
}

pool_is_back()
{
	[ "$(spm_stat free_bytes)" -eq "$POOL_FREE" ] && [ "$(spm_stat inodes_known)" -le 20 ]
}

pool_leaves_nothing()
{
	find "$MNT" -mindepth 1 -delete || fail "$1: everything can be removed"
	wait_until 15 pool_is_back
	ok "$1: extents and inodes are given back (free $(spm_stat free_bytes) of $POOL_FREE, $(spm_stat inodes_known) inodes)" \
		pool_is_back
}
