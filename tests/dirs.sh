# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of dir: sources share: filesystems on loop devices, which are not DAX, so -o force is needed.
#
#	dir_kinds			the filesystems that can be made here, of ext4 and xfs
#	dir_make KIND [OPTIONS]		makes one in $DIR_IMAGE, mounted at $DIR_BACK; an empty directory, DIR, for a mount
#	dir_again [OPTIONS]		unmounts and mounts it, as a reboot does
#	dir_end				unmounts it for good

DIR_BACK=$SPM_TMP/back
DIR_IMAGE=$SPM_TMP/image
DIR=$DIR_BACK/s
mkdir "$DIR_BACK"

dir_kinds()
{
	local kind
	for kind in ext4 xfs; do
		command -v "mkfs.$kind" >/dev/null && grep -qw "$kind" /proc/filesystems && printf '%s\n' "$kind"
	done
	return 0
}

dir_make()
{
	local kind=$1
	[ -e /dev/loop-control ] || modprobe -q loop 2>/dev/null
	rm -f "$DIR_IMAGE"
	truncate -s "${DIR_SIZE:-320M}" "$DIR_IMAGE" || return 1
	case $kind in
	ext4) mkfs.ext4 -q -F "$DIR_IMAGE" || return 1 ;;
	xfs) mkfs.xfs -q -f "$DIR_IMAGE" || return 1 ;;
	esac
	mount -o "loop${2:+,$2}" "$DIR_IMAGE" "$DIR_BACK" && mkdir "$DIR"
}

# The servers hold a mount of their own of it, which goes with them.
dir_end()
{
	wait_until 15 umount "$DIR_BACK"
}

dir_again()
{
	dir_end && mount -o "loop${1:+,$1}" "$DIR_IMAGE" "$DIR_BACK"
}
