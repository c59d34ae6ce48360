#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# With fs.leases-enable=0 nobody can tell whether a file is still mapped: then it counts as mapped, and
# features says so.
set -u
# The setting is one for the whole machine.
SPM_EXCLUSIVE=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

before=$(cat /proc/sys/fs/leases-enable)
at_exit eval "echo $before >/proc/sys/fs/leases-enable"

mode_is()
{
	[ "$(file_mode "$1")" = "$2" ]
}

echo 1 >/proc/sys/fs/leases-enable
spm_need_mount mem:64M map=direct
like "leases are on" "$(spm_feature leases)" '^on'
spm_umount

echo 0 >/proc/sys/fs/leases-enable
mkdir "$SPM_TMP/swap"
out=$("$SPMFS" mem:64M "$SPM_TMP/swap" -o "swap=$SPM_TMP,swapsize=8M" 2>&1)
is "without them nothing could be swapped: swap= is refused" $? 32
like "with the remedy" "$out" "spmfs: option swap=: .*'sysctl fs.leases-enable=1'"
is "and leaves no swap file" "$(find "$SPM_TMP" -name '*.swap')" ""
spm_need_mount mem:64M map=direct
like "leases are off, and features says why" "$(spm_feature leases)" '^off: .*lease'
actor a
actor b
says "a direct file" a ok open f rw,creat "$MNT/f"
says "of 4 MiB" a "ok 4194304" fill f 0 4M 1
says "mapped" a ok map m f rw shared 0 4M
is "works as always" "$(file_mode "$MNT/f") $(ask a kind m 0)" "direct shmem"
tell a close f
"$SPMT" setxattr "$MNT/f" user.spm.map mirror
says "opened again, for a mirror, while it is mapped" b ok open f rw "$MNT/f"
is "it stays direct" "$(file_mode "$MNT/f")" direct
says "what the mapping writes" a ok put m 0 mapped
says "is what the other one reads" b "ok mapped" read f 0 6
tell b close f
tell a unmap m
says "opened again when it is not mapped" b ok open f rw "$MNT/f"
is "nobody can know that: still direct" "$(file_mode "$MNT/f")" direct
tell b close f
"$SPMT" setxattr "$MNT" user.spm.map mirror
says "a file that was never direct" b ok open g rw,creat "$MNT/g"
is "may be a mirror" "$(file_mode "$MNT/g")" mirror
says "and works" b "ok 4" write g 0 data
tell b close g
actor_end a b
spm_umount

echo 1 >/proc/sys/fs/leases-enable
spm_need_mount mem:64M map=direct
like "with leases again: on" "$(spm_feature leases)" '^on'
actor a
tell a open f rw,creat "$MNT/f"
tell a close f
"$SPMT" setxattr "$MNT/f" user.spm.map mirror
wait_until 5 mode_is "$MNT/f" idle
tell a open f rw "$MNT/f"
is "and a file changes to a mirror" "$(file_mode "$MNT/f")" mirror
actor_end a

spm_done
