#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Dax devices on a recorded /sys: what spmctl devices says of them, and what mount refuses, in the same words.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../sysfs.sh
. "$(dirname "$0")/../sysfs.sh"

grep -q '^#define HAVE_LIBDAXCTL' "$top_builddir/config.h" || skip_all "built without libdaxctl"
d=$SPM_TMP/mnt
mkdir "$d" /run/spmfs
mount -t tmpfs run /run/spmfs
ln -s "$SPMFS" "$SPM_TMP/mount.fuse.spmfs"
data=$top_srcdir/tests/data
node=/sys/devices/system/node memory=/sys/devices/system/memory dev=/sys/bus/dax/devices/dax0.0

row()
{
	"$SPMCTL" devices --json | jq -r ".[] | select(.name == \"${2:-dax0.0}\") | $1"
}
# refused REGEX DESC [OPTIONS]: mount -f says so in one line with status 32, and so does the list
refused()
{
	local out rc
	out=$("$SPM_TMP/mount.fuse.spmfs" dax0.0 "$d" -f ${3:+-o "$3"} 2>&1 </dev/null)
	rc=$?
	if [ $rc -eq 32 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out
wanted: 32, and one line that matches $1"
	fi
}
both()
{
	refused "$1" "$2" daxmode=system-ram
	like "$2, in the list" "$(row '"\(.system_ram) \(.reason)"')" "^false .*$1"
}
no_row()
{
	[ -z "$(row .name)" ]
}
# note LINE...: what a mount has left, or has if somebody holds the lock
note()
{
	printf '%s\n' "$@" >/run/spmfs/dax0.0.dax
}

# ---- a note that nobody has open ----

note "mount lost" "mode system-ram" "before devdax" "node 1" "ends 0"
ok "another mount comes" "$SPMFS" mem:64M "$d"
ok "and goes" umount "$d"
ok "with all of its servers" wait_until 10 spm_no_servers
ok "the note is still there" grep -q '^before devdax$' /run/spmfs/dax0.0.dax
rm -f /run/spmfs/dax0.0.dax

# ---- devdax ----

spm_sysfs "$data/sys-hmem-devdax"
is "keys as daxctl has them" "$(row 'to_entries[-5:] | map(.key) | join(" ")')" "chardev size target_node align mode"
is "a device in mode devdax" "$(row '"\(.chardev) \(.size) \(.size_bytes) \(.target_node) \(.align) \(.mode)"')" \
	"dax0.0 1073741824 1073741824 1 2097152 devdax"
is "how to mount it" "$(row '"\(.usable) \(.source) \(.system_ram) \(.reason)"')" "true dax0.0 true null"
like "the table says so, too" "$("$SPMCTL" devices -u)" "dax0.0 +dax0.0 +1G +- +devdax"
ok "a dry run finds nothing wrong" "$SPM_TMP/mount.fuse.spmfs" /dev/dax0.0 "$d" -f -o daxmode=system-ram
fails "size= above that of the device" "$SPMFS" dax0.0 "$d" -o daxmode=system-ram,size=2G
like "is told at once" "$(cat "$SPM_TMP/out")" "size=2G: more than the device .dax0.0 of 1G"
fails "an unknown mode is wrong usage" "$SPMFS" dax0.0 "$d" -o daxmode=ram
like "with what is legal" "$(cat "$SPM_TMP/out")" "auto, system-ram or devdax"
fails "daxmode= is for dax devices" "$SPMFS" mem:64M "$d" -o daxmode=auto
like "and says so" "$(cat "$SPM_TMP/out")" "mem:64M is no dax device"

for policy in online online_kernel; do
	echo $policy >$memory/auto_online_blocks
	both "auto_online_blocks is '$policy'" "memory that comes online by itself"
	like "with the command" "$(row .command)" "echo offline >$memory/auto_online_blocks"
done
echo online_movable >$memory/auto_online_blocks
is "as movable it may" "$(row .system_ram)" true
echo offline >$memory/auto_online_blocks

mkdir -p $node/node1/memory99
echo offline >$node/node1/memory99/state
is "offline memory of others on the node does not count" "$(row .system_ram)" true
echo online >$node/node1/memory99/state
both "node 1 has other memory as well .1 blocks, such as memory99" "memory of others on the node"
rm -r $node/node1/memory99
echo -1 >"$dev/target_node"
both "no NUMA node" "a device without a node"
echo 1 >"$dev/target_node"
rm "$dev/driver"
is "a device without a driver" "$(row '"\(.mode) \(.usable) \(.options)"')" "disabled true daxmode=system-ram"
refused "no driver is bound to it.*daxmode=system-ram" "has no mode"
echo 0 >"$dev/size"
ok "one without memory is not listed" no_row

# ---- system-ram ----

spm_sysfs "$data/sys-hmem-ram"
is "a device that is memory" "$(row '"\(.mode) \(.online_memblocks) \(.total_memblocks) \(.movable) \(.system_ram)"')" \
	"system-ram 8 8 true true"
is "can be mounted as it is" "$(row '"\(.usable) \(.source)"')" "true dax0.0"
is "its node is known to be its" "$(row .state node1)" "the memory of dax0.0"
blocks=("$node"/node1/memory[0-9]*)
block=${blocks[0]##*/}
echo offline >"$memory/$block/state"
both "7 of its 8 blocks of memory are online" "a part of it offline"
like "with the command" "$(row .command)" "^daxctl online-memory dax0.0$"
for l in "${blocks[@]}"; do
	echo offline >"$l/state"
done
is "all of it offline is right again" "$(row '"\(.usable) \(.online_memblocks)"')" "true 0"
for l in "${blocks[@]}"; do
	echo online >"$l/state"
	echo Normal >"$l/valid_zones"
done
both "online, and not as movable" "memory with the kernel's own data"

# ---- notes of mounts ----

spm_sysfs "$data/sys-hmem-ram"
note "mount lost" "mode system-ram" "before devdax" "node 1" "ends 0"
like "a device that a mount has left" "$(row '"\(.usable) \(.reason)"')" "^true .*was in mode devdax"
is "with the command" "$(row .command)" "spmctl devices --restore dax0.0"
touch /run/spmfs/lost.ns
mount --bind /proc/self/ns/net /run/spmfs/lost.ns
is "files are left in it" "$(row '"\(.source) \(.options) \(.used_by)"')" "dax0.0 name=lost the mount 'lost'"
fails "it is not given back with them" "$SPMCTL" devices --restore dax0.0
like "but names what is to do" "$(cat "$SPM_TMP/out")" "holds the files of 'lost'.*umount /run/spmfs/lost.ns"
out=$("$SPMFS" dax0.0 "$d" -o name=other 2>&1)
like "nor mounted by another name" "$out" "holds the files of 'lost'.*name=lost"
umount /run/spmfs/lost.ns
rm /run/spmfs/lost.ns
exec {fd}<>/run/spmfs/dax0.0.dax
flock "$fd"
is "a mount that lives has it" "$(row '"\(.usable) \(.used_by)"')" "false the mount 'lost'"
refused "dax0.0 is in use by the mount 'lost'" "another mount"
is "its node is not to be had either" "$(row '"\(.usable) \(.used_by)"' node1)" "false the mount 'lost'"
fails "nor is it given back" "$SPMCTL" devices --restore dax0.0
like "the reason" "$(cat "$SPM_TMP/out")" "in use by the mount 'lost'"
exec {fd}>&-
fails "what cannot be given back" "$SPMCTL" devices --restore dax0.0
like "says why" "$(cat "$SPM_TMP/out")" "dax0.0: cannot unbind its driver"
ok "and is not forgotten" [ -s /run/spmfs/dax0.0.dax ]
note "mount lost" "mode system-ram" "before system-ram" "node 1" "ends 0"
ok "what is right already is given back" "$SPMCTL" devices --restore /dev/dax0.0
fails "once" "$SPMCTL" devices --restore dax0.0
like "then there is nothing to do" "$(cat "$SPM_TMP/out")" "no mount has left it"
note garbage
like "a note that is none" "$("$SPMFS" dax0.0 "$d" 2>&1)" "^spmfs: .*dax0.0"
rm -f /run/spmfs/dax0.0.dax
fails "of something else: wrong usage" "$SPMCTL" devices --restore node1
is "status 2" "$("$SPMCTL" devices --restore node1 2>/dev/null; echo $?)" 2

# ---- persistent memory ----

spm_sysfs "$data/sys-pmem"
is "of the firmware's node" "$(row .target_node)" 0
both "node 0 has other memory as well" "persistent memory that counts to the processors' node"
is "memory in mode fsdax" "$(row '"\(.kind) \(.usable) \(.size_bytes) \(.reason)"' pmem1)" \
	"pmem false 536870912 no file system on it is mounted with -o dax"
like "with the command" "$(row .command pmem1)" "mkfs.xfs .*/dev/pmem1 && mount -o dax"
echo 0 >/sys/block/pmem1/queue/dax
like "or one that DAX cannot use" "$(row .command pmem1)" "^ndctl create-namespace"

# ---- private nodes ----

echo 1 >$node/has_memory_private
is "a private node" "$(row '"\(.usable) \(.reason)"' node1)" "false it is a private node, which this version cannot use"
rm $node/has_memory_private
echo 1 >$node/node1/has_user_memory
is "by the other name" "$(row .usable node1)" false
echo 0 >$node/node1/has_user_memory
is "and not private" "$(row '"\(.reason)"' node1 | grep -c private)" 0
spm_done
