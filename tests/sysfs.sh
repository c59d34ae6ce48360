# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A /sys that was recorded in the test machine (tests/vm/record.sh), in the place of this machine's, for one test;
# and a /dev that has its dax devices, which libdaxctl asks for their numbers, and nobody can open.
#	spm_sysfs RECORD	from now on; SYS is where it can be changed

SYS=

spm_sysfs_dev()
{
	local dev=$SPM_TMP/dev d name major minor
	mkdir "$dev"
	mount -t tmpfs -o mode=755 dev "$dev"
	for name in null zero full random urandom fuse tty; do
		[ ! -e "/dev/$name" ] || cp -a "/dev/$name" "$dev/"
	done
	ln -s /proc/self/fd "$dev/fd"
	for d in "$SYS"/bus/dax/devices/*; do
		IFS=: read -r major minor <"$d/dev"
		mknod -m 600 "$dev/${d##*/}" c "$major" "$minor"
	done
	mount --move "$dev" /dev
	at_exit umount -l /dev
}

spm_sysfs()
{
	local kind path value had=$SYS
	[ -z "$SYS" ] || umount /sys
	SYS=$(mktemp -d "$SPM_TMP/sys.XXXXXX")
	# directories of files that could not be read have no line of their own
	while read -r kind path value; do
		[ -d "$SYS/${path%/*}" ] || mkdir -p "$SYS/${path%/*}"
		case $kind in
		D) mkdir -p "$SYS/$path" ;;
		L) ln -s "$value" "$SYS/$path" ;;
		F) printf '%b\n' "$value" >"$SYS/$path" ;;
		esac
	done <"$1"
	[ -n "$had" ] || spm_sysfs_dev
	mount --bind "$SYS" /sys
	[ -n "$had" ] || at_exit umount -l /sys
}
