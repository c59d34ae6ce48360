#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Memory that its own tool has to make a dax device of: an NVDIMM, of which ndctl makes a disk first, and volatile CXL
# memory, of which cxl makes a region. It is mounted as spmctl devices says, in both modes, and is then what it was.
# Layouts: nvdimm, cxl. Little of it is touched, since each access to CXL memory is slow there.
# shellcheck disable=SC2016 # eval's, and jq's
set -u
SPM_LIMIT=60
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

field()
{
	daxctl list -d "${dax:-all}" | jq -r ".[0].$1 // empty"
}
row()
{
	"$SPMCTL" devices --json | jq -r ".[] | select(.name == \"$1\") | $2"
}
is_mode()
{
	[ "$(field mode)" = "$1" ]
}
# As it was before a mount: its mode, and for memory nothing of it online
is_back()
{
	is_mode "$1" && { [ "$1" = devdax ] || [ "$(daxctl list -d "$dax" | jq '.[0].online_memblocks')" = 0 ]; } &&
		[ ! -e "/run/spmfs/$dax.dax" ]
}

as_directory()
{
	local namespace=$1 dev back=$SPM_TMP/back command
	ok "ndctl makes a disk of it" eval 'ndctl create-namespace -f -e $namespace -m fsdax --map=dev -a 2M >$SPM_TMP/ns'
	dev=$(jq -r .blockdev "$SPM_TMP/ns")
	mkdir "$back"
	command=$(row "$dev" .command)
	like "spmctl devices says what to do with it" "$command" "^mkfs.xfs .*/dev/$dev && mount -o dax /dev/$dev /mnt\$"
	ok "it is done" eval "${command%/mnt}$back"
	command=$(row "$dev" .command)
	like "then, that a mount wants a directory of its own" "$command" "^mkdir .*$back/spmfs\$"
	ok "it is made" eval "$command"
	is "then it can be mounted" "$(row "$dev" '"\(.usable) \(.source)"')" "true dir:$back/spmfs"
	spm_need_mount "dir:$back/spmfs"
	is "with DAX" "$(spm_feature dax)" on
	actor a
	actor b
	tell a open f rw,creat "$MNT/file"
	tell a trunc f 4M
	tell a map m f rw shared 0 4M
	says "a file of it is written through a mapping" a ok mfill m 0 4M 3
	tell b open f rw "$back/spmfs/data/file"
	tell b map m f rw shared 0 4M
	says "the bare file has it" b ok mverify m 0 4M 3
	is "in the same page" "$(ask a frame m 1M)" "$(ask b frame m 1M)"
	is "it is direct" "$(file_mode "$MNT/file")" direct
	actor_end a b
	ok "umount" spm_umount
	ok "of the disk as well" wait_until 20 umount "$back"
	ok "ndctl makes a dax device of it" ndctl create-namespace -f -e "$(jq -r .dev "$SPM_TMP/ns")" -m devdax
}

case ${SPM_VM_LAYOUT:-} in
nvdimm)
	[ -d /sys/bus/nd/devices ] || skip_all "this kernel has no driver for NVDIMMs"
	namespace=$(ndctl list -N | jq -r 'first(.[] | select(.size > 0)).dev')
	is "ndctl has it raw" "$(ndctl list -N -n "$namespace" | jq -r '.[0].mode')" raw
	as_directory "$namespace"
	;;
cxl)
	[ -d /sys/bus/cxl/devices ] || skip_all "this kernel has no driver for CXL"
	is "no region of CXL memory is there" "$(daxctl list)" ""
	ok "cxl makes one" cxl create-region -m -d decoder0.0 -w 1 -t ram mem0
	diag "$(cxl list -Ri)"
	;;
*) skip_all "for the layouts nvdimm and cxl" ;;
esac
dax=
ok "a dax device is there" wait_until 20 eval '[ -n "$(field chardev)" ] && [ -n "$(field mode)" ]' || spm_done
udevadm settle
dax=$(field chardev) mode=$(field mode) node=$(field target_node)
diag "$(daxctl list)" "$("$SPMCTL" devices)"
like "it has a node of its own ($node)" " $node" " [1-9]"
is "spmctl devices says how to mount it" "$(row "$dax" '"\(.usable) \(.source) \(.options)"')" "true $dax null"
is "and what it is" "$(row "$dax" '"\(.mode) \(.system_ram) \(.target_node)"')" "$mode true $node"

head -c 3M /dev/urandom >"$SPM_TMP/random"
# same_file WHAT: and another worker has it, too
same_file()
{
	ok "$1: a file" cp "$SPM_TMP/random" "$MNT/file"
	ok "$1: has its bytes" cmp "$SPM_TMP/random" "$MNT/file"
	kill -9 "$(spm_server_pid)"
	ok "$1: under another worker as well" cmp "$SPM_TMP/random" "$MNT/file"
}

as_memory()
{
	spm_need_mount "$dax" "$@" name=ram
	is "memory: movable" "$(field mode) $(field movable)" "system-ram true"
	is "memory: all of it is online" "$(field online_memblocks)" "$(field total_memblocks)"
	ok "memory: its node is there" test -e "/sys/devices/system/node/node$node/meminfo"
	same_file memory
	actor c
	tell c open f rw "$MNT/file"
	tell c map m f rw shared 0 64K
	tell c look m 0 64K
	says "memory: it lies there" c "ok $node:16" nodes m
	actor_end c
	is "memory: all of it" "$(spm_stat foreign_bytes)" 0
	ok "memory: umount" spm_umount
}

if [ "$mode" = system-ram ]; then
	as_memory
	ok "memory: it is what it was, offline" wait_until 20 is_back system-ram
	ok "it becomes a character device" daxctl reconfigure-device --mode=devdax "$dax"
fi
spm_need_mount "$dax" name=pool
is "a pool: isolation" "$(spm_feature isolation)" hard
is "a pool: the device's size" "$(spm_stat device_bytes)" "$(field size)"
same_file "a pool"
ok "a pool: umount" spm_umount
ok "a pool: the device is what it was" wait_until 20 is_back devdax
as_memory daxmode=system-ram
ok "memory: it is what it was, a character device" wait_until 20 is_back devdax
spm_done
