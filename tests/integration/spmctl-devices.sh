#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# spmctl devices on a machine with nodes of every kind: sysfs of the nodes is replaced in this test's namespace.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

sys=/sys/devices/system/node
[ -d $sys/node0 ] || skip_all "this kernel has no NUMA nodes"
mkdir "$SPM_TMP/node"
# node NUMBER CPULIST MEGABYTES MEGABYTES_FREE [STATE_OF_A_MEMORY_BLOCK...]
node()
{
	local d=$SPM_TMP/node/node$1 i=0 state
	mkdir "$d"
	printf '%s\n' "$2" >"$d/cpulist"
	printf "Node $1 %s: %d kB\n" MemTotal $(($3 * 1024)) MemFree $(($4 * 1024)) FilePages 0 Shmem 0 >"$d/meminfo"
	shift 4
	for state; do
		mkdir "$d/memory$i"
		printf '%s\n' "$state" >"$d/memory$i/state"
		i=$((i + 1))
	done
}
node 0 0-1 8192 6144 online online
node 1 "" 4096 4000 online offline
node 2 "" 0 0 offline offline
node 3 2-3 0 0
mount --bind "$SPM_TMP/node" $sys
at_exit umount $sys
# what can be had of a node, see core/noderoom.h
printf 'Node %d, zone   Normal\n  pages free     %d\n        high     0\n        protection: (0, 0)\n' \
	0 $((6144 * 256)) 1 $((4000 * 256)) >"$SPM_TMP/zoneinfo"
mount --bind "$SPM_TMP/zoneinfo" /proc/zoneinfo
at_exit umount /proc/zoneinfo

ok "devices --json" eval '"$SPMCTL" devices --json >"$SPM_TMP/json"'
one()
{
	jq -r ".[] | select(.name == \"$1\") | $2" "$SPM_TMP/json"
}
is "plain RAM and the four nodes" "$(jq -r '[.[] | select(.kind == "ram" or .kind == "node") | .name] | join(" ")' "$SPM_TMP/json")" \
	"ram node0 node1 node2 node3"
is "keys" "$(jq -r '.[0] | keys_unsorted | join(" ")' "$SPM_TMP/json")" \
	"name kind usable source size_bytes free_bytes node cpus memory_only state reason command options used_by"
like "plain RAM can be typed" "$(one ram .source)" '^mem:[1-9][0-9]*[GM]$'
is "a node with CPUs: half of what is free" "$(one node0 '"\(.source) \(.memory_only) \(.cpus) \(.node)"')" \
	"node:0:3G false 0-1 0"
is "its size and free memory in bytes" "$(one node0 '"\(.size_bytes) \(.free_bytes)"')" "8589934592 6442450944"
is "a node without CPUs is told" "$(one node1 '"\(.memory_only) \(.cpus)"')" "true null"
like "offline blocks are told" "$(one node2 .reason)" '^2 of its memory blocks are offline'
is "with the command" "$(one node2 .command)" "echo online_movable | tee $sys/node2/memory*/state"
is "such a node is not usable" "$(one node2 '"\(.usable) \(.source)"')" "false null"
is "a node without memory" "$(one node3 '"\(.usable) \(.reason) \(.command)"')" "false it has no memory null"

# Node 1 is no node of this machine, so the cpuset cannot have it: the kernel would put the pages elsewhere.
grep -q '^Mems_allowed_list:	0$' /proc/self/status &&
	like "a node outside of the cpuset is not offered" "$(one node1 '"\(.source) \(.reason)"')" '^null .*cpuset'

is "-u gives strings" "$("$SPMCTL" devices --json -u | jq -r '.[1].size_bytes')" 8G
like "the table has what to type" "$("$SPMCTL" devices -u)" 'node0 +node:0:3G +8G +6G'
like "and what to do" "$("$SPMCTL" devices)" 'not usable: 2 of .* offline; run: echo online_movable'
spm_done
