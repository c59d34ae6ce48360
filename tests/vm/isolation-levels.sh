#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Isolation, measured: the machine is filled with page cache and anonymous memory, over all nodes, while files come and go, and the
# kernel says how much of the device's node others have. Layout node: node 1 has 1 GiB and no processors (soft, claimed). Layout
# hmem: the same memory as a dax device (hard, and claimed as memory).
set -u
SPM_LIMIT=60
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=nodes.sh
. "$(dirname "$0")/nodes.sh"

command -v numactl >/dev/null || skip_all "no numactl here"
MIB=1048576
# page cache needs a disk: /tmp is none
DISK=$(mktemp -d /var/tmp/isolation.XXXXXX) || exit 1
at_exit rm -rf "$DISK"
dax=$(daxctl list 2>/dev/null | jq -r '[.[] | .chardev] | first // empty')

has_node()
{
	[ -e /sys/devices/system/node/node1/meminfo ] && [ "$(node_meminfo 1 MemTotal)" -gt 0 ]
}

# Bytes on node 1 that the kernel counts as anybody's but a tmpfs's. It counts by processor, and adds that up when told so.
others_have()
{
	local k sum=0
	has_node || { echo 0 && return; }
	cat /proc/sys/vm/stat_refresh
	for k in AnonPages PageTables KernelStack FilePages; do
		sum=$((sum + $(node_meminfo 1 $k)))
	done
	echo $((sum - $(node_meminfo 1 Shmem)))
}

# The same, as each page says: kpageflags of the node's pages, those of anonymous memory, page tables, and cache of files.
pages_say()
{
	has_node || { echo 0 && return; }
	"$SPMT" nodepages 1
}

# What is free there, also what processors have at hand.
free_there()
{
	has_node || { echo 0 && return; }
	cat /proc/sys/vm/stat_refresh
	echo $(($(node_free 1) + $(awk '/^Node / { on = $2 == "1," } on && $1 == "count:" { n += $2 } END { print n * 4096 }' /proc/zoneinfo)))
}

# The pages of a node are all alike: what others have is of the device when it is more than what the node has besides.
measure()
{
	local a b more
	a=$(others_have) b=$(pages_say)
	more=$(((a > b ? a : b) - besides))
	echo $((more > 0 ? more : 0))
}

# A process that holds anonymous memory of all nodes until its input ends, and others that read and write files.
begin_load()
{
	rm -f "$SPM_TMP/stop"
	mkfifo "$SPM_TMP/hold" 2>/dev/null
	(
		while [ ! -e "$SPM_TMP/stop" ]; do
			numactl --interleave=all dd if=/dev/zero of="$DISK/cache$((RANDOM % 4))" bs=1M count=120
			numactl --interleave=all cat "$DISK"/cache*
			numactl --interleave=all dd if=/dev/zero of=/dev/null bs=64M count=1
		done >/dev/null 2>&1
	) &
	load=$!
	{ head -c 200M /dev/zero | numactl --interleave=all tail -c 200M | { read -r _ <"$SPM_TMP/hold"; }; } 2>/dev/null &
	holder=$!
	exec {hold}<>"$SPM_TMP/hold"
}

end_load()
{
	touch "$SPM_TMP/stop"
	echo >&"$hold"
	wait "$load" "$holder" 2>/dev/null
	exec {hold}>&-
}

# Files of all sizes come and go; @most is what others had of the device at most meanwhile.
churn()
{
	local i now
	most=0
	for i in 1 2 3; do
		dd if=/dev/zero of="$MNT/w$i" bs=1M count=100 status=none
		"$SPMT" run "open f rw,creat $MNT/m$i" "trunc f 120M" "map m f rw shared 0 120M" "touch m 0 120M" "close f" >/dev/null
		for n in 1 2 3 4 5 6 7 8; do
			head -c 700K /dev/zero >"$MNT/s$n"
		done
		now=$(measure)
		most=$((now > most ? now : most))
		rm -f "$MNT"/w* "$MNT"/m* "$MNT"/s*
		wait_until 10 eval '[ "$(spm_stat resident_bytes)" -eq 0 ]'
		now=$(measure)
		most=$((now > most ? now : most))
	done
	now=$(measure)
	most=$((now > most ? now : most))
}

# level NAME SOURCE OPTIONS
level()
{
	killed=$(oom_kills)
	sync
	echo 3 >/proc/sys/vm/drop_caches
	spm_need_mount "$2" "name=$1$3"
	is "$1: status says so" "$("$SPMCTL" status --json "$MNT" | jq -r .isolation)" "$1"
	device=$(spm_stat device_bytes)
	besides=0
	! has_node || besides=$(($(free_there) + $(others_have) + $(node_shmem 1) - device))
	begin_load
	churn
	diag "$1: of a device of $device bytes others had $most at most; the node has $besides besides"
}

end_level()
{
	is "$1: no page of the mount lies elsewhere" "$(spm_stat foreign_bytes)" 0
	# with a claim the kernel can still want a page of the node that others have taken an instant before: man spmfs says so
	if [ "$1" = claimed ]; then
		diag "claimed: $(($(oom_kills) - killed)) processes were killed for memory"
	else
		is "$1: nobody was killed for memory" "$(oom_kills)" "$killed"
	fi
	end_load
	spm_umount || fail "umount"
}

claimed()
{
	level claimed "$1" ",isolate=claim${2:-}"
	ok "claimed: others have at most 0.1 percent ($most of $device)" [ "$most" -le $((device / 1000)) ]
	ok "claimed: all of it can be used under load" fallocate -l $((device - 4 * MIB)) "$MNT/full"
	ok "claimed: and they have no more then" [ "$(measure)" -le $((device / 1000)) ]
	rm -f "$MNT/full"
	end_level claimed
}

if [ -n "$dax" ]; then
	level hard "$dax" ",daxmode=devdax"
	is "hard: others have nothing of it" "$most" 0
	ok "hard: there is no such node" eval '! has_node'
	end_level hard
	claimed "$dax" ",daxmode=system-ram"
else
	need_nodes 0-2
	claimed node:1
	ok "umount gives it back" wait_until 20 eval '[ "$(node_shmem 1)" -lt $((10 * MIB)) ]'
	level soft node:1 ""
	ok "soft: others have what is not in use ($most bytes)" [ "$most" -gt $((device / 1000)) ]
	end_level soft
fi
spm_done
