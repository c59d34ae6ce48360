#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Several nodes: one after the other, interleaved, weighted; slices of nodes of their own. Layout node: nodes 1 (1 GiB) and 2
# (512 MiB) have no processors.
set -u
SPM_LIMIT=90
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=nodes.sh
. "$(dirname "$0")/nodes.sh"

need_nodes 0-2

# What a mount's files took of each node since base() was called, in MiB.
base()
{
	local n
	for n in 0 1 2; do
		at[n]=$(node_shmem $n)
	done
}
took()
{
	echo $((($(node_shmem "$1") - at[$1] + (1 << 19)) >> 20))
}
declare -a at
between()
{
	[ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

spm_need_mount node:1-2:1200M name=two
base
ok "a file larger than each of two nodes" fallocate -l 1100M "$MNT/large"
diag "node 0: $(took 0), 1: $(took 1), 2: $(took 2) MiB"
ok "nothing of it is on node 0" between "$(took 0)" -3 3
ok "all of it on the two" between $(($(took 1) + $(took 2))) 1095 1105
ok "of which neither has all" between "$(took 2)" 100 500

spm_fresh mem:300M name=two,mpol=interleave:1-2
base
ok "interleaved" fallocate -l 200M "$MNT/file"
diag "node 0: $(took 0), 1: $(took 1), 2: $(took 2) MiB"
ok "half is on node 1" between "$(took 1)" 90 110
ok "half is on node 2" between "$(took 2)" 90 110

spm_fresh mem:300M name=two,mpol=bind:2
base
ok "bound by mpol=" fallocate -l 100M "$MNT/file"
ok "all is there" between "$(took 2)" 97 103

weights=/sys/kernel/mm/mempolicy/weighted_interleave
if [ -w $weights/node1 ]; then
	echo 3 >$weights/node1
	echo 1 >$weights/node2
	spm_fresh mem:300M "name=two,huge=never,mpol=weighted interleave:1-2"
	base
	ok "weighted, 3 to 1" fallocate -l 200M "$MNT/file"
	diag "node 0: $(took 0), 1: $(took 1), 2: $(took 2) MiB"
	ok "three parts on node 1" between "$(took 1)" 140 160
	ok "one on node 2" between "$(took 2)" 40 60
else
	skip "weighted interleave" "this kernel has none"
fi

spm_fresh node:1-2:600M name=two
ok "a slice of one of the nodes" "$SPMCTL" slice create one --nodes 2 --max 200M "$MNT"
base
ok "a file in it" fallocate -l 150M "$MNT/one/file"
diag "node 0: $(took 0), 1: $(took 1), 2: $(took 2) MiB"
ok "is on that node" between "$(took 2)" 147 153
fails "a slice of a node that is not the mount's is refused" "$SPMCTL" slice create other --nodes 0 "$MNT"
like "with the nodes that are" "$(cat "$SPM_TMP/out")" "nodes 0: they are not all nodes of the device"

# Of any memory, a slice may have nodes of its own, and what is not there is told.
spm_fresh mem:300M name=two
ok "a slice of a node, where the mount has all" "$SPMCTL" slice create one --nodes 2 --max 100M "$MNT"
actor a
tell a open f rw,creat "$MNT/one/file"
tell a trunc f 8M
tell a map m f rw shared 0 8M
tell a touch m 0 8M
says "its file is there" a "ok 2:2048" nodes m
like "a page is moved away" "$(ask a movepages m 0 1)" "^(ok )?0"
ok "status tells" wait_until 50 foreign_is -gt 0
tell a unmap m
tell a close f
ok "until it has been brought home" wait_until 50 foreign_is -eq 0
spm_done
