#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A pool on a real dax device in mode devdax: content is in the device, it is what it was afterwards, and found again after everybody
# died, unless others may have had the device; at each alignment that it can have; memory errors that the kernel tells of.
# Layouts: hmem, pmem, nvdimm.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

if [ -z "$(daxctl list)" ] && [ -e /dev/pmem0 ]; then
	ndctl create-namespace -f -e namespace0.0 -m devdax >/dev/null 2>&1
	udevadm settle
fi
DAX=$(daxctl list | jq -r '[.[] | .chardev] | first // empty')
[ -n "$DAX" ] || skip_all "this machine has no dax device"
[ "$(daxctl list -d "$DAX" | jq -r '.[0].mode')" = devdax ] || daxctl reconfigure-device --mode=devdax "$DAX" >/dev/null 2>&1
export SPM_DAX=$DAX SPMFS_FAULTS=1
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
d=$SPM_TMP/mnt
sys=$(realpath "/sys/bus/dax/devices/$DAX")
mkdir "$d"

driver()
{
	basename "$(readlink "$sys/driver")"
}
refused()
{
	local out rc
	out=$("$SPMFS" "$DAX" "$d" -o "$3" 2>&1 </dev/null)
	rc=$?
	if [ $rc -gt 0 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out"
	fi
}
ended()
{
	ok "$1: umount" umount "$d"
	ok "$1: every server ended" wait_until 20 spm_no_servers
	is "$1: the device is in the mode that it had" "$(driver)" "${2:-device_dax}"
}
mem_free()
{
	awk '/^MemFree/ { print $2 }' /proc/meminfo
}

size=$(cat "$sys/size")
diag "$DAX: $(driver), $size bytes, align $(cat "$sys/align"), $(uname -r)"
is "it is in mode devdax" "$(driver)" device_dax

# ---- content ----

sync
echo 3 >/proc/sys/vm/drop_caches
free_kb=$(mem_free)
pool_mount "" name=pool
is "the device's size" "$(spm_stat device_bytes)" "$size"
is "isolation" "$(spm_feature isolation)" hard
ok "what files can have is all but an extent at most" [ $((size - POOL_FREE)) -le $((4 * MIB)) ]
half=128 # MiB: under emulation half of it would take its time
ok "$half MiB are written" put "$MNT/half" "${half}M" 1
ok "and read past the page cache" check "$MNT/half" "${half}M" 1
is "df" "$(df -k --output=used "$MNT" | tail -n 1 | tr -d ' ')" $((half * 1024))
sync
echo 3 >/proc/sys/vm/drop_caches
now_kb=$(mem_free)
ok "the machine's own memory is not used for it (free: $free_kb kB, then $now_kb)" [ "$now_kb" -gt $((free_kb - half * 1024 / 2)) ]
actor a
tell a open f rw "$MNT/half"
tell a map m f rw shared 0 4M
says "a mapping: written" a ok put m 3M mapped
says "and synced" a ok msync m
actor_end a
is "and read" "$(dd if="$MNT/half" bs=1M skip=3 count=1 iflag=direct status=none | head -c 6)" mapped
rm "$MNT/half"
put "$MNT/first" 20M 1
put "$MNT/second" 20M 2
rm "$MNT/first"
ok "compaction" "$SPMCTL" compact "$MNT"
one_run()
{
	[ "$(spm_stat free_run_bytes)" -eq "$(spm_stat free_bytes)" ]
}
ok "leaves one run" wait_until 10 one_run
ok "and what was there" check "$MNT/second" 20M 2
rm "$MNT/second"

# ---- the worker dies ----

for step in committed sized effect; do
	echo "write:$step kill" >"$MNT/.spm/fault"
	ok "a worker that dies at write:$step" put "$MNT/f" 8M 3
	ok "loses nothing" check "$MNT/f" 8M 3
done
ok "another one was started" [ "$(spm_feature worker_restarts)" -ge 3 ]
pool_leaves_nothing "the device"
spm_umount_all || fail "umount"
is "the device is in the mode that it had" "$(driver)" device_dax

# ---- everybody dies ----

lost()
{
	ok "$1: a mount" "$SPMFS" "$DAX" "$d" -o name=lost
	put "$d/f" 30M 7
	spm_kill_servers
	umount -l "$d"
}
lost "everybody dies"
is "it stays a character device" "$(driver)" device_dax
ok "recover" "$SPMFS" "$DAX" "$d" -o name=lost,recover
ok "the content is in the device" check "$d/f" 30M 7
ended "recovered"

lost "the driver lets go"
daxctl disable-device "$DAX" >/dev/null 2>&1
daxctl enable-device "$DAX" >/dev/null 2>&1
refused "let go of.*-o force" "that is told" name=lost,recover
ok "it is taken as it is" "$SPMFS" "$DAX" "$d" -o name=lost,recover,force
ok "with all that there was" check "$d/f" 30M 7
ended "taken as it is"

# ---- modes ----

if [ "$(cat /sys/devices/system/memory/auto_online_blocks 2>/dev/null)" = offline ]; then
	lost "it becomes memory"
	daxctl reconfigure-device --mode=system-ram -N "$DAX" >/dev/null 2>&1
	refused "devdax|mode" "it is no character device any more" name=lost,recover
	daxctl reconfigure-device --mode=devdax "$DAX" >/dev/null 2>&1
	refused "let go of|used the device|another device" "and back: that is told" name=lost,recover
	ok "given up" eval 'umount /run/spmfs/lost.ns && rm /run/spmfs/lost.ns'
	"$SPMCTL" devices --restore "$DAX" >/dev/null 2>&1
	daxctl reconfigure-device --mode=system-ram -N "$DAX" >/dev/null 2>&1
	ok "a device that was memory" "$SPMFS" "$DAX" "$d" -o daxmode=devdax
	is "is a character device" "$(driver)" device_dax
	ok "with content" put "$d/f" 8M 4
	ended "memory before" kmem
	daxctl reconfigure-device --mode=devdax "$DAX" >/dev/null 2>&1
fi

# ---- memory errors ----

# The kernel is told of one, as a controller would tell it: nobody has met it yet.
sees()
{
	[ "$(spm_stat "$1")" -eq "$2" ]
}
poison()
{
	echo $(($(cat "$sys/resource") + $1)) >/sys/devices/system/memory/hard_offline_page
}
pool_mount "" name=poison
is "nothing is lost" "$(spm_stat bad_bytes) $(spm_stat retired_bytes)" "0 0"
whole=$((POOL_FREE / MIB))
ok "a file takes all" fallocate -l "${whole}M" "$MNT/all"
ok "the kernel is told of an error" poison $((9 * MIB + 4096))
ok "so is spmfs" wait_until 20 sees bad_bytes $((2 * MIB))
like "and the log says of which file" "$(grep "memory error" "$MNT.log")" "$MNT/all cannot be read at offset [0-9]+: the device has lost the extent at 8388608"
at=$(sed -nE 's/.*memory error: .* at offset ([0-9]+):.*/\1/p' "$MNT.log")
fails "its reader gets an error" dd if="$MNT/all" of=/dev/null bs=2M count=1 skip=$((at / 2 / MIB)) iflag=direct
like "EIO" "$(cat "$SPM_TMP/out")" "Input/output error"
at=$((at / 2 / MIB)) bad=
for i in "$at" $((at + 1)) $(seq 0 20 $((whole / 2 - 1))); do
	dd if="$MNT/all" of=/dev/null bs=4k count=1 skip=$((i * 512)) iflag=direct 2>/dev/null || bad+=" $i"
done
like "extents around it, and elsewhere, can be read (lost:$bad)" "$bad" "^( $at)+\$"
is "the server lives" "$(spm_feature worker_restarts)" 0
rm "$MNT/all"
ok "given up, it is not used any more" wait_until 20 sees retired_bytes $((2 * MIB))
ok "all the rest is" wait_until 20 sees free_bytes $((POOL_FREE - 2 * MIB))
ok "an error where nobody's memory is" poison $((31 * MIB))
ok "costs one extent, too" wait_until 20 sees retired_bytes $((4 * MIB))
is "events" "$(sed -n 's/^memory_errors //p' "$MNT/.spm/events")" 2
ok "the rest holds content" put "$MNT/f" 64M 5
ok "all of it" check "$MNT/f" 64M 5
spm_umount_all || fail "umount"

# ---- alignments ----

# Only of memory that has no namespace; 1 GiB only where it is that large and lies so.
set_align()
{
	daxctl disable-device "$DAX" >/dev/null 2>&1 && echo "$1" 2>/dev/null >"$sys/align" && daxctl enable-device "$DAX" >/dev/null 2>&1
}
for align in 4096 $((1024 * MIB)) $((2 * MIB)); do
	if ! set_align "$align"; then
		daxctl enable-device "$DAX" >/dev/null 2>&1
		skip "align $align" "not to be had of $DAX"
		continue
	fi
	is "align $align: the device has it" "$(cat "$sys/align")" "$align"
	pool_mount "" name=aligned
	ok "align $align: content" put "$MNT/f" 30M 6
	ok "align $align: read" check "$MNT/f" 30M 6
	ok "align $align: what there is is $(spm_stat free_bytes)" [ $((size - POOL_FREE)) -le $((4 * MIB)) ]
	rm "$MNT/f"
	spm_umount_all || fail "umount"
done
spm_done
