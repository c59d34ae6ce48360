# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# For tests of NUMA nodes: what is where.

# The test makes no sense without these nodes: $1 as the kernel writes it
need_nodes()
{
	local have
	have=$(cat /sys/devices/system/node/has_memory)
	[ "$have" = "$1" ] || skip_all "needs memory on nodes $1, here it is on $have"
}

# $1 node, $2 a key of its meminfo: bytes
node_meminfo()
{
	awk -v key="$2:" '$3 == key { print $4 * 1024 }' "/sys/devices/system/node/node$1/meminfo"
}

node_free()
{
	node_meminfo "$1" MemFree
}

node_shmem()
{
	node_meminfo "$1" Shmem
}

# Whether two numbers of bytes are the same but for 3 MiB, which counters lag behind: yes, or both.
near()
{
	local d=$(($1 - $2))
	[ "${d#-}" -le $((3 << 20)) ] && echo yes || echo "$1 $2"
}

# foreign_is -gt 0
foreign_is()
{
	test "$(spm_stat foreign_bytes)" "$1" "$2"
}

oom_kills()
{
	sed -n 's/^oom_kill //p' /proc/vmstat
}

# Somebody else's memory on node $1: all but about $2 bytes of what is free there.
fill_node()
{
	local dir=$SPM_TMP/others$1
	mkdir -p "$dir"
	mount -t tmpfs -o "size=$(node_meminfo "$1" MemTotal),mpol=bind:$1,huge=never" others "$dir"
	# counters and per-processor lists lag, so in steps
	while [ "$(node_free "$1")" -gt $(($2 + (4 << 20))) ]; do
		fallocate -l $((($(node_free "$1") - $2) / 2)) "$dir/$RANDOM$RANDOM" || return 1
	done
}

empty_node()
{
	umount "$SPM_TMP/others$1"
}
