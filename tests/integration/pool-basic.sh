#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A dax device in mode devdax: content in extents of the device, names in the region. What it says, what it refuses, what is full.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"

d=$SPM_TMP/none
mkdir "$d"

# refused REGEX DESC OPTIONS: one line.
refused()
{
	local out rc
	out=$("$SPMFS" "$DAX" "$d" -o "$3" 2>&1 </dev/null)
	rc=$?
	if [ $rc -gt 0 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out
wanted: a refusal in one line that matches $1"
	fi
}

# Of the names' own filesystem: nothing that users write may end there.
region_blocks()
{
	stat -f -c '%b %f' "/proc/$(spm_server_pid)/root/region" | awk '{ print $1 - $2 }'
}

# says REGEX DESC COMMAND...: it fails with one such line.
complains()
{
	local out rc
	out=$("${@:3}" 2>&1 </dev/null)
	rc=$?
	if [ $rc -gt 0 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out"
	fi
}

# ---- refusals ----

pool_device 64M
refused "map=direct.*mirrors.*daxmode=system-ram" "no direct mappings" map=direct
refused "huge=.*leave it out" "no pages, so no huge ones" huge=always
refused "mpol=.*leave mpol= out" "nor a policy for them" mpol=local
refused "size=.*more than the device" "size= beyond the device" size=65M
refused "extent=3M.*64K" "an extent of no legal size" extent=3M
is "none of them leaves anything in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""

# ---- what it is ----

pool_mount 64M name=pool
like "features: where content is" "$(spm_feature content)" "^pool"
is "features: isolation" "$(spm_feature isolation)" hard
like "features: no direct mappings, and why" "$(spm_feature passthrough)" "^off: .*dax device"
like "features: no swap, and why" "$(spm_feature swap)" "^off: .*swap="
is "features: the extent" "$(spm_feature extent)" $((2 * MIB))
is "nothing is used" "$(spm_stat resident_bytes)" 0
is "the device is the file's size" "$(spm_stat device_bytes)" $((64 * MIB))
refused "in use" "the device is in use" name=other
ok "spmctl status" eval '"$SPMCTL" status --json "$MNT" | grep -q "\"isolation\": *\"hard\""'

# ---- content ----

ok "a file of three extents and a bit" put "$MNT/f" 7M 1
ok "is what was written" check "$MNT/f" 7M 1
is "its blocks are extents" "$(stat -c %b "$MNT/f")" $((4 * 2 * MIB / 512))
is "and what is on the device" "$(spm_file resident_bytes "$MNT/f")" $((8 * MIB))
is "it is a mirror once it is open" "$(exec 9<"$MNT/f" && file_mode "$MNT/f")" mirror
complains "mount it with -o swap=" "it cannot be evicted" "$SPMCTL" evict "$MNT/f"
is "df: what is used" "$(df -k --output=used "$MNT" | tail -n 1 | tr -d ' ')" 8192
is "the region has no page of it" "$(region_blocks)" 0
cp "$MNT/f" "$MNT/copy"
ok "a copy" cmp "$MNT/f" "$MNT/copy"
mv "$MNT/copy" "$MNT/f"
ok "in the place of the first" check "$MNT/f" 7M 1
wait_until 5 eval '[ "$(spm_stat resident_bytes)" -eq $((8 * MIB)) ]'
is "whose extents are free" "$(spm_stat resident_bytes)" $((8 * MIB))
truncate -s 3M "$MNT/f"
is "cut off: blocks" "$(stat -c %b "$MNT/f")" $((2 * 2 * MIB / 512))
truncate -s 7M "$MNT/f"
ok "the rest" check "$MNT/f" 3M 1
is "is followed by zeros" "$(tail -c 4M "$MNT/f" | tr -d '\0' | wc -c)" 0
actor a
tell a open f rw "$MNT/f"
tell a map m f rw shared 0 7M
says "mapped, written" a ok put m 5M mapped
says "synced" a ok msync m
actor_end a
is "and read" "$(dd if="$MNT/f" bs=1M skip=5 count=1 status=none | head -c 6)" mapped
exec {fd}<>"$MNT/unlinked"
rm "$MNT/unlinked"
printf hidden >&"$fd"
is "an unlinked file that is open" "$(cat "/proc/self/fd/$fd")" hidden
exec {fd}>&-
pool_leaves_nothing "content"

# ---- full ----

pool_mount 32M size=16M,commit=lazy
is "size=: df" "$(df -k --output=size "$MNT" | tail -n 1 | tr -d ' ')" 16384
is "what there is room for is written" "$(put "$MNT/full" 20M 2)" "ok $((16 * MIB)) ENOSPC"
ok "and is there" check "$MNT/full" 16M 2
complains "No space left" "one byte more" eval 'printf x >"$MNT/more"'
is "df says so" "$(df -k --output=avail "$MNT" | tail -n 1 | tr -d ' ')" 0
ok "what is there can be written again" put "$MNT/full" 16M 3
complains "No space left" "fallocate" fallocate -l 1M "$MNT/more"
complains "in use|more than" "less than is used" "$SPMFS" "$DAX" "$MNT" -o remount,size=8M
truncate -s 0 "$MNT/full"
ok "with room again" put "$MNT/more" 14M 4
ok "the limit can be raised" "$SPMFS" "$DAX" "$MNT" -o remount,size=24M
ok "and used" put "$MNT/more" 22M 5
ok "and lowered again" eval 'truncate -s 4M "$MNT/more" && "$SPMFS" "$DAX" "$MNT" -o remount,size=16M'
pool_leaves_nothing "full"

pool_mount 32M commit=eager
complains "No space left" "eager: what cannot be had is refused when the size is set" truncate -s 40M "$MNT/large"
is "and the size is as it was" "$(stat -c '%s %b' "$MNT/large")" "0 0"
ok "what can be had" truncate -s 10M "$MNT/large"
is "is there at once" "$(stat -c %b "$MNT/large")" $((10 * MIB / 512))
ok "fallocate" fallocate -l 5M "$MNT/more"
pool_leaves_nothing "eager"
pool_mount 32M commit=lazy
ok "lazy: a size alone takes nothing" truncate -s 40G "$MNT/large"
is "of blocks" "$(stat -c %b "$MNT/large")" 0
pool_leaves_nothing "lazy"

# ---- who holds it up when the device is to be taken away ----

pool_mount 16M
put "$MNT/held" 4M 1
exec {held}<"$MNT/held"
said=$("$SPMCTL" drain --timeout 0 "$MNT" 2>&1 </dev/null)
like "drain names a file that is open" "$said" "$MNT/held: 4M, held by .*pid $$"
like "drain --cancel" "$("$SPMCTL" drain --cancel "$MNT" 2>&1)" "not drained any more"
exec {held}<&-
pool_leaves_nothing "drained"

# ---- nobody's old content ----

pool_mount 16M extent=64K
head -c 15M /dev/zero | tr '\0' S >"$MNT/secret"
rm "$MNT/secret"
for i in 1 2 3 4 5 6 7 8; do
	printf x | dd of="$MNT/hole$i" bs=1 seek=$((i * 8192)) conv=notrunc status=none
	truncate -s 60K "$MNT/hole$i"
done
is "law 4: extents that were another file's" "$(cat "$MNT"/hole* | tr -d '\0x' | wc -c)" 0
fallocate -l 12M "$MNT/whole"
is "and those that are allocated" "$(tr -d '\0' <"$MNT/whole" | wc -c)" 0
pool_leaves_nothing "old content"
spm_done
