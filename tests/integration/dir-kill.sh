#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dir:PATH and law 3: eight processes work in a directory of an ext4 or xfs while the worker is killed, and see what they see on
# tmpfs, but for what is a disk's own affair. These filesystems give inode numbers again at once, and a
# new descriptor of an ext4 directory that is first read at the end lists nothing afterwards (fs/readdir.c). Environment: SPM_KILL_SECONDS (15).
set -u
SPM_LIMIT=300
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"
# shellcheck source=../dirs.sh
. "$top_srcdir/tests/dirs.sh"

seconds=${SPM_KILL_SECONDS:-$(spm_less 15)}
kills=$((seconds * 6 / (SPM_FACTOR > 1 ? 4 * SPM_FACTOR : 1)))
kinds=$(dir_kinds)
[ -n "$kinds" ] || skip_all "neither mkfs.ext4 nor mkfs.xfs, or no such filesystem in this kernel"

# Directories of a disk do not shrink, so what is free is not quite what it was.
dir_killed()
{
	ok "$1: a filesystem" eval "DIR_SIZE=1G dir_make $1" || return
	mountpoint -q "$REF" && umount "$REF"
	mount -t tmpfs -o size=1G spm-reference "$REF" || { fail "mount tmpfs"; exit 1; }
	spm_need_mount "dir:$DIR" "force,map=$2"
	KILL_FREE=$(($(spm_stat free_bytes) - 1048576))
	killed "$1, $2" -D -s "$seconds" -k "$kills"
	is "$1, $2: restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(figure deaths)"
	kill_leaves_nothing "$1, $2"
	ok "$1, $2: no orphan is left" wait_until 10 eval "[ -z \"\$(ls -A '$DIR/orphans')\" ]"
	ok "$1, $2: umount" eval 'spm_umount && dir_end'
}

died()
{
	[ "$(spm_feature worker_restarts)" -gt "$1" ]
}

# Requests that only a directory has.
synced()
{
	local point before
	ok "sync: a filesystem" eval "DIR_SIZE=1G dir_make $1" || return
	SPMFS_FAULTS=1 spm_need_mount "dir:$DIR" force
	echo x >"$MNT/f"
	for point in "fsync:request kill" "fsync:effect kill" "fsyncdir:request kill" "fsyncdir:effect kill"; do
		before=$(spm_feature worker_restarts)
		echo "$point" >"$MNT/.spm/fault"
		if [[ $point == fsyncdir* ]]; then
			ok "$point: a directory" sync "$MNT"
		else
			ok "$point: a file" sync "$MNT/f"
		fi
		ok "$point: the worker died" wait_until 5 died "$before"
	done
	ok "sync: umount" eval 'spm_umount && dir_end'
}

for kind in $kinds; do
	synced "$kind"
	dir_killed "$kind" direct
done
dir_killed "$kind" mirror
spm_done
