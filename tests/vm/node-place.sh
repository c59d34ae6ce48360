#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every page of a node source is on its node, whoever writes, from where, and with what policy; what clients have moved away is
# shown, and brought home when nobody maps it. Layout node: nodes 1 and 2 have no processors.
set -u
SPM_LIMIT=60
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=nodes.sh
. "$(dirname "$0")/nodes.sh"

need_nodes 0-2

# A group whose tasks may use node 0 only.
far=/sys/fs/cgroup/spmfs-far
echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
mkdir "$far"
at_exit rmdir "$far"
echo 0 >"$far/cpuset.mems"
in_far()
{
	# shellcheck disable=SC2016 # the inner shell's arguments
	bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' - "$far" "$@"
}
ok "a group without nodes 1 and 2" in_far true

fails "a mount from there is refused" in_far "$SPMFS" node:1:64M "$SPM_TMP"
like "with the reason" "$(cat "$SPM_TMP/out")" "node 1 is outside of this process's cpuset \(0\)"
fails "a node that is not there is refused" "$SPMFS" node:3:64M "$SPM_TMP"
like "and those that are there are named" "$(cat "$SPM_TMP/out")" "node 3 does not exist or has no memory; nodes with memory: 0-2"

spm_need_mount node:1:600M name=place,map=direct,mode=1777
region=/proc/$(spm_server_pid)/root/region/data
elsewhere=$(($(node_shmem 0) + $(node_shmem 2)))
before=$(node_shmem 1)

# $1 what, $2 file, $3 pages: all of the file's pages, as the region has them
all_on_1()
{
	tell region open f r "$region/$2"
	tell region map m f r shared 0 $(($3 * 4096))
	tell region madvise m 0 $(($3 * 4096)) populate-read
	says "$1" region "ok 1:$3" nodes m
	tell region unmap m
	tell region close f
}

actor region
actor a
actor member in_far
actor bound numactl --membind=0
actor spread numactl --interleave=all
actor nobody setpriv --reuid 65534 --regid 65534 --clear-groups
for who in a member bound spread nobody; do
	tell $who open f rw,creat "$MNT/mapped-$who"
	tell $who trunc f 8M
	tell $who map m f rw shared 0 8M
	tell $who touch m 0 8M
	says "$who: pages that are mapped and touched" $who "ok 1:2048" nodes m
	tell $who open w rw,creat "$MNT/written-$who"
	says "$who: writes" $who "ok 1048576" fill w 0 1M 7
	tell $who close w
	all_on_1 "$who: what was written" "written-$who" 256
	tell $who unmap m
	tell $who close f
done
ok "a copy from a cpuset without the node" in_far cp --reflink=never "$MNT/mapped-a" "$MNT/copied"
all_on_1 "is on it" copied 2048
ok "so is what is allocated" in_far fallocate -l 8M "$MNT/allocated"
all_on_1 "all of it" allocated 2048
setfattr -n user.spm.map -v mirror "$MNT"
ok "a mirror that is written from there" in_far dd if=/dev/urandom of="$MNT/mirror" bs=1M count=8 conv=fsync
all_on_1 "is on the node as well" mirror 2048
setfattr -x user.spm.map "$MNT"

# The policy is the file's, so whoever maps it sets it for all; memory that is taken later is the worker's affair.
tell nobody open f rw "$MNT/mapped-nobody"
tell nobody map m f rw shared 0 8M
says "uid 65534 sets the file's policy to node 0" nobody ok mbind m preferred 0
tell nobody unmap m
tell nobody close f
ok "its memory goes" fallocate -p -o 0 -l 8M "$MNT/mapped-nobody"
ok "and comes again by write" dd if=/dev/zero of="$MNT/mapped-nobody" bs=1M count=4 conv=notrunc
ok "and by fallocate" fallocate -o 4M -l 4M "$MNT/mapped-nobody"
all_on_1 "on the node" mapped-nobody 2048

size=$(spm_stat resident_bytes)
is "the node's counter has it all" "$(near $(($(node_shmem 1) - before)) "$size")" yes
is "the others have nothing of it" "$(near $(($(node_shmem 0) + $(node_shmem 2))) "$elsewhere")" yes
diag "$((size >> 20)) MiB resident"

# What is his to move he can move away. It is seen, and comes home when he has gone.
tell nobody open f rw "$MNT/mapped-nobody"
tell nobody map m f rw shared 0 8M
tell nobody touch m 0 256K
# A huge page goes as one, and is told of by the first of its parts only.
tell nobody movepages m 0 1
like "uid 65534 moves a page that only he maps" "$REPLY" '^ok 0'
tell nobody nodes m
like "it is gone from the node" "$REPLY" '^ok 0:'
ok "which status tells soon" wait_until 50 foreign_is -gt 0
tell nobody unmap m
tell nobody close f
ok "when nobody maps them, they are brought home" wait_until 50 foreign_is -eq 0
all_on_1 "all of them" mapped-nobody 2048
spm_done
