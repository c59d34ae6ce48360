#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# SOURCE daxX.Y with daxmode=system-ram, on a real device: what a mount does to it, and that it is what it was afterwards,
# whatever happens to the mount. Layouts: hmem, nvdimm, pmem.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

memory=/sys/devices/system/memory
dax=$(daxctl list | jq -r '[.[] | .chardev] | first // empty')
[ -n "$dax" ] || skip_all "this machine has no dax device"
field()
{
	daxctl list -d "$dax" | jq -r ".[0].$1"
}
row()
{
	"$SPMCTL" devices --json | jq -r ".[] | select(.name == \"${2:-$dax}\") | $1"
}
# set_mode devdax|system-ram: the latter with its memory offline
set_mode()
{
	[ "$(field mode)" != system-ram ] || [ "$(field online_memblocks)" = 0 ] || daxctl offline-memory "$dax"
	[ "$(field mode)" = "$1" ] || daxctl reconfigure-device --mode="$1" "${@:2}" "$dax"
}
is_back()
{
	[ "$(field mode)" = "$1" ] && { [ "$1" = devdax ] || [ "$(field online_memblocks)" = "${2:-0}" ]; } &&
		[ ! -e "/run/spmfs/$dax.dax" ]
}
node=$(field target_node)
d=$SPM_TMP/mnt
mkdir "$d"
# refused REGEX DESC [OPTIONS [SOURCE]]: status 32 and one line, and the device is as it was
refused()
{
	local out rc before after
	before=$(field mode)/$(field online_memblocks)
	out=$("$SPMFS" "${4:-$dax}" "$d" ${3:+-o "$3"} 2>&1 </dev/null)
	rc=$?
	after=$(field mode)/$(field online_memblocks)
	if [ $rc -eq 32 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]] && [ "$before" = "$after" ]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc, $before, then $after: $out
wanted: 32, and one line that matches $1"
	fi
}
umounted()
{
	ok "$1: umount" umount "$d"
	ok "$1: the servers end, the device is as it was" eval 'wait_until 20 spm_no_servers && wait_until 5 is_back '"${2:-devdax}"
	[ "$(field mode)" = "${2:-devdax}" ] || diag "$(daxctl list; cat "/run/spmfs/$dax.dax")"
}

ok "the device is in mode devdax" eval 'set_mode devdax && [ "$(field mode)" = devdax ]'
is "the list says how to mount it" "$(row '"\(.usable) \(.source) \(.system_ram) \(.mode) \(.target_node)"')" \
	"true $dax true devdax $node"
is "with the size and alignment that daxctl has" "$(row '"\(.size) \(.align)"')" "$(field size) $(field align)"
refused "no such device" "another device" "" dax99.0

exec {fd}<>"/dev/$dax"
refused "in use by .*pid $$" "a device that somebody has open" daxmode=system-ram
like "who that is, in the list" "$(row .used_by)" "pid $$"
exec {fd}>&-

echo online >$memory/auto_online_blocks
refused "auto_online_blocks is 'online'" "a kernel that brings memory online by itself" daxmode=system-ram
echo offline >$memory/auto_online_blocks
refused "swap=" "a set-up that fails later gives the device back" "daxmode=system-ram,swap=/nonexistent/dir"
ok "it is devdax again" is_back devdax
printf '[slice large]\nmin = 1T\n' >"$SPM_TMP/conf"
refused "large" "as does one that fails when the region is there" "daxmode=system-ram,conf=$SPM_TMP/conf"
ok "devdax again" is_back devdax
is "nothing is left of it" "$(ls -A /run/spmfs 2>/dev/null)" ""
ln -s "$SPMFS" "$SPM_TMP/mount.fuse.spmfs"
ok "mount -f finds nothing wrong" "$SPM_TMP/mount.fuse.spmfs" "$dax" "$d" -f -o daxmode=system-ram
is "and changes nothing" "$(field mode)" devdax

ok "mount with daxmode=system-ram" "$SPMFS" "$dax" "$d" -o daxmode=system-ram,name=one
is "the device is memory, all of it online and movable" \
	"$(field mode) $(field movable) $(($(field total_memblocks) - $(field online_memblocks)))" "system-ram true 0"
is "the list says who has it" "$(row '"\(.usable) \(.used_by) \(.movable)"')" "false the mount 'one' true"
is "nor can its node be had" "$(row '"\(.usable) \(.used_by)"' "node$node")" "false the mount 'one'"
head -c 64M /dev/urandom >"$d/file"
sum=$(md5sum <"$d/file")
used=$(awk '/MemUsed/ { print int($4 / 1024) }' "/sys/devices/system/node/node$node/meminfo")
ok "the file lies there ($used MiB)" [ "$used" -ge 64 ]
is "and nothing elsewhere" "$(spm_stat foreign_bytes "$d")" 0
refused "in use by the mount 'one'" "another mount of it" name=two
fails "nor is it given back under the mount" "$SPMCTL" devices --restore "$dax"
like "which says why" "$(cat "$SPM_TMP/out")" "in use by the mount 'one'"

for which in worker standby keeper spare; do
	kill -9 "$(spm_named "spmfs-$which" | head -n 1)"
	ok "the $which is killed: the files are there" eval 'wait_until 10 spm_settled && [ "$(md5sum <"$d/file")" = "$sum" ]'
done
# no fork is left that knows it: a program that was started anew has to find out what the mount's memory is
mapfile -t both < <(spm_named spmfs-standby; spm_named spmfs-spare)
kill -9 "${both[@]}"
ok "standby and spare are killed" eval 'wait_until 20 spm_settled'
head -c 8M /dev/urandom >"$d/more"
is "memory still comes from its node" "$(spm_stat foreign_bytes "$d")" 0
ok "upgrade" "$SPMCTL" upgrade --binary "$SPMFS" "$d"
ok "a smaller size" "$SPMFS" "$dax" "$d" -o remount,size=512M
umounted "after that"

ok "mount for a device that was memory, offline" eval 'set_mode system-ram -N && [ "$(field online_memblocks)" = 0 ]'
ok "auto: it stays memory" "$SPMFS" "/dev/$dax" "$d"
is "which is online" "$(field online_memblocks)" "$(field total_memblocks)"
umounted "then it is offline again" system-ram
daxctl online-memory "$dax" >/dev/null 2>&1
ok "mount for one that was online" "$SPMFS" "$dax" "$d"
ok "umount" umount "$d"
ok "it is online still" eval 'wait_until 20 spm_no_servers && is_back system-ram '"$(field total_memblocks)"

block=$(for b in "/sys/devices/system/node/node$node/memory"[0-9]*; do echo "$b"; done | head -n 1)
echo offline >"$block/state"
refused "blocks of memory are online" "a device of which a part is online"
set_mode devdax

# ---- keep ----

ok "mount with keep" "$SPMFS" "$dax" "$d" -o daxmode=system-ram,name=kept,keep
echo content >"$d/file"
umount "$d"
ok "the servers end" wait_until 20 spm_no_servers
is "the device stays memory, for the files" "$(field mode) $(row '"\(.source) \(.options)"')" "system-ram $dax name=kept"
refused "holds the files of 'kept'" "a mount of another name" name=other
fails "it is not given back" "$SPMCTL" devices --restore "$dax"
ok "mount with the same name" "$SPMFS" "$dax" "$d" -o name=kept
is "the file is there" "$(cat "$d/file")" content
umounted "without keep"

# ---- all processes die ----

lost()
{
	ok "mount $1" "$SPMFS" "$dax" "$d" -o daxmode=system-ram,name=lost
	head -c 16M /dev/urandom >"$d/file"
	sum=$(md5sum <"$d/file")
	spm_kill_servers
	umount -l "$d"
}
lost "to be recovered"
refused "recover.*spmctl devices --restore $dax" "what is left is not overwritten" name=lost
ok "recover" "$SPMFS" "$dax" "$d" -o name=lost,recover
is "the file is there" "$(md5sum <"$d/file")" "$sum"
umounted "after recover"

lost "and its memory taken away"
daxctl offline-memory "$dax" >/dev/null 2>&1
refused "went offline while it held the files of 'lost'.*daxctl online-memory $dax" "that is told" name=lost,recover
daxctl online-memory "$dax" >/dev/null 2>&1
ok "recover" "$SPMFS" "$dax" "$d" -o name=lost,recover
is "the file was moved, and has its bytes" "$(md5sum <"$d/file")" "$sum"
umounted "after that"

ok "mount" "$SPMFS" "$dax" "$d" -o daxmode=system-ram,name=shared
mkdir "$SPM_TMP/second"
ok "another mount on the same node" "$SPMFS" "node:$node:64M" "$SPM_TMP/second"
umount "$d"
one_keeper()
{
	[ "$(spm_named spmfs-keeper | wc -l)" -eq 1 ]
}
ok "the first ends" wait_until 20 one_keeper
is "its device is not given back under the other" "$(field mode)" system-ram
fails "also by hand" "$SPMCTL" devices --restore "$dax"
like "which says why" "$(cat "$SPM_TMP/out")" "node $node, which the mount at $SPM_TMP/second uses as well"
umount "$SPM_TMP/second"
ok "both are gone" wait_until 20 spm_no_servers
ok "now it is given back" "$SPMCTL" devices --restore "$dax"
ok "as it was" is_back devdax

lost "to be given up"
umount /run/spmfs/lost.ns && rm /run/spmfs/lost.ns
like "the list says what is to do" "$(row .command)" "spmctl devices --restore $dax"
ok "spmctl devices --restore" "$SPMCTL" devices --restore "$dax"
ok "the device is as it was before that mount" is_back devdax
fails "once is enough" "$SPMCTL" devices --restore "$dax"

lost "to be followed by another"
umount /run/spmfs/lost.ns && rm /run/spmfs/lost.ns
ok "another mount" "$SPMFS" "$dax" "$d" -o name=next
umounted "the device is what it was before the first"

# ---- still mapped ----

ok "mount" "$SPMFS" "$dax" "$d" -o daxmode=system-ram,name=mapped,map=direct
truncate -s 4M "$d/file"
actor a
tell a open f rw "$d/file"
tell a map m f rw shared 0 1M
says "a client maps a file" a ok put m 0 before
kill -TERM "$(spm_named spmfs-keeper)"
ok "the mount is ended under it" wait_until 40 spm_no_servers
is "the device is not taken from under the mapping" "$(field mode)" system-ram
says "which has its bytes" a "ok before" get m 0 6
actor_end a
ok "given back by hand" "$SPMCTL" devices --restore "$dax"
ok "as it was" is_back devdax
spm_done
