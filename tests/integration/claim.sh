#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# isolate=claim: free memory of the device is held, given out as files need it, and taken back as they let go of it.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$(dirname "$0")/../swapping.sh"

SIZE=$((128 * MIB))

# Held, in use, or free in the region for what comes next: all of the device, but for a moment.
whole()
{
	local held used
	held=$(spm_stat claimed_bytes) used=$(spm_stat resident_bytes)
	[ $((held + used)) -ge $((SIZE - MIB)) ] && [ $((held + used)) -le "$SIZE" ] && [ "$(spm_stat unclaimed_bytes)" -eq 0 ]
}

is_whole()
{
	wait_until 20 whole
	ok "$1: the device is in use or held ($(spm_stat claimed_bytes) held, $(spm_stat resident_bytes) used)" whole
}

refused()
{
	local desc=$1 want=$2
	shift 2
	mkdir -p "$SPM_TMP/no"
	"$SPMFS" "$@" "$SPM_TMP/no" >"$SPM_TMP/out" 2>&1 && umount "$SPM_TMP/no"
	like "$desc" "$(cat "$SPM_TMP/out")" "$want"
}

df_of()
{
	stat -f -c '%b %f' "$MNT"
}

# ---- what does not go together ----

refused "a value that there is not" "isolate=yes: .*claim or none" -o isolate=yes mem:64M
refused "not with commit=lazy" "option isolate=claim: not with commit=lazy" -o isolate=claim,commit=lazy mem:64M
refused "nor of a directory" "option isolate=claim: holds free memory, and dir:$SPM_TMP has files of a disk" -o isolate=claim "dir:$SPM_TMP"
refused "nor of next to nothing" "mem:2M has 2M, and a claim is made of 4M or more" -o isolate=claim mem:2M
printf '[slice one]\nmin = 1M\nnodes = 0\n' >"$SPM_TMP/one.conf"
refused "nor with slices of some nodes" "one.conf:1: slice 'one': with isolate=claim all slices share what is held of all nodes" \
	-o "isolate=claim,conf=$SPM_TMP/one.conf" mem:64M
is "nothing was mounted" "$(spm_mounts_below "$SPM_TMP")" ""

# ---- give and take ----

spm_need_mount mem:64M name=soft
is "soft without" "$(spm_feature isolation) $(spm_stat claimed_bytes) $(spm_stat unclaimed_bytes)" "soft 0 0"
spm_fresh mem:128M isolate=claim,name=claimed
is "claimed" "$(spm_feature isolation)" claimed
is_whole "mounted"
is "df shows the device" "$(df_of)" "$((SIZE / 4096)) $((SIZE / 4096))"
is "writes are served" "$(spm_feature writes)" served
ok "small files" eval 'for i in $(seq 100); do echo "$i" >"$MNT/f$i" || exit 1; done'
is "hold what was written" "$(cat "$MNT"/f* | sort -n | tail -n 1)" 100
is_whole "small files"
rm "$MNT"/f*
ok "a large one" put "$MNT/a" $((48 * MIB)) 1
is_whole "a large file"
is "df counts it" "$(df_of)" "$((SIZE / 4096)) $(((SIZE - 48 * MIB) / 4096))"
ok "one that is mapped" "$SPMT" run "open f rw,creat $MNT/m" "trunc f 32M" "map m f rw shared 0 32M" "mfill m 0 32M 2" "close f"
is_whole "mapped"
if grep -q '\[\(within_size\|always\|advise\)\]' /sys/kernel/mm/transparent_hugepage/shmem_enabled && [ "$(spm_feature huge)" = within_size ]; then
	huge=$(spm_file huge_bytes "$MNT/m")
	ok "has huge pages ($huge bytes)" test "$huge" -ge $((24 * MIB))
else
	skip "has huge pages" "no transparent huge pages for tmpfs here"
fi
ok "fallocate takes all that is left" fallocate -l 48M "$MNT/full"
is "nothing is held any more" "$(spm_stat claimed_bytes) $(spm_stat free_bytes)" "0 0"
fails "then there is no room" dd if=/dev/zero of="$MNT/more" bs=4096 count=1 status=none
ok "what is there is right" eval 'check "$MNT/a" $((48 * MIB)) 1 && check "$MNT/m" $((32 * MIB)) 2'
rm "$MNT/full" "$MNT/more"
is_whole "removed"
fails "more than there is is refused" fallocate -l 100M "$MNT/hopeless"
is "before anything was taken for it" "$(spm_file resident_bytes "$MNT/hopeless")" 0
ok "a hole" fallocate -p -o 0 -l 16M "$MNT/a"
is_whole "punched"
truncate -s 20M "$MNT/a"
is_whole "cut"
is "what stays is right" "$("$SPMT" run "open f r $MNT/a" "verify f 16M 4M 1" | tail -n 1)" ok
ok "opened directly, the hole is committed anew" "$SPMT" run "open f rw $MNT/a" "map m f rw shared 0 20M" "touch m 0 16M" "close f"
is_whole "committed"

# ---- a limit below the device ----

"$SPMFS" mem:128M "$MNT" -o remount,size=64M || fail "remount,size="
is "remount,size= limits files" "$(df_of | cut -d' ' -f1)" $((64 * MIB / 4096))
is_whole "the rest is held all the same"
fails "no more than that" fallocate -l 20M "$MNT/over"
"$SPMFS" mem:128M "$MNT" -o remount,size=100% || fail "remount,size="
ok "until it is taken back" fallocate -l 20M "$MNT/over"
rm "$MNT"/*

# ---- deaths ----

(
	i=0
	while [ ! -e "$SPM_TMP/stop" ]; do
		put "$MNT/c$((i % 3))" $((24 * MIB)) "$i" || echo "put $i" >>"$SPM_TMP/failed"
		check "$MNT/c$((i % 3))" $((24 * MIB)) "$i" >/dev/null || echo "check $i" >>"$SPM_TMP/failed"
		rm -f "$MNT/c$(((i + 1) % 3))"
		i=$((i + 1))
	done
) >/dev/null 2>&1 &
load=$!
for _ in $(seq "$(spm_less 12)"); do
	pid=$(spm_named spmfs-worker)
	kill -KILL "$pid"
	wait_until 20 spm_another spmfs-worker "$pid" || fail "another worker"
	sleep 0.1 # so that each is killed at another place
done
touch "$SPM_TMP/stop"
wait "$load"
is "killed again and again: no request failed, every byte is right" "$(cat "$SPM_TMP/failed" 2>/dev/null)" ""
is_whole "killed"
rm -f "$MNT"/c*
is_whole "and empty"
is "all of it is free" "$(df_of)" "$((SIZE / 4096)) $((SIZE / 4096))"

# ---- keep ----

spm_fresh mem:128M isolate=claim,name=kept,keep
ok "content" put "$MNT/a" $((16 * MIB)) 4
spm_umount || fail "umount"
refused "what was kept with a reserve is not mounted without" "made with isolate=claim" -o name=kept,keep mem:128M
spm_need_mount mem:128M isolate=claim,name=kept,keep
is_whole "mounted again"
ok "the file is there" check "$MNT/a" $((16 * MIB)) 4
ok "and more can come" put "$MNT/b" $((64 * MIB)) 5
is_whole "more"
rm "$MNT"/*
spm_umount || fail "umount"
spm_need_mount mem:128M isolate=claim,name=kept,recover
is_whole "without keep, for the last time"

# ---- swap ----

swap_mount mem:128M 256M isolate=claim,name=swapped
ok "more than the device" eval 'for i in 1 2 3 4; do put "$MNT/s$i" $((48 * MIB)) $i || exit 1; done'
is_whole "swapped"
ok "evicted" evict "$MNT"/s*
is_whole "evicted"
ok "all is right" eval 'for i in 1 2 3 4; do check "$MNT/s$i" $((48 * MIB)) $i || exit 1; done'
ok "loaded" load "$MNT/s1"
is_whole "loaded"
ok "drained" "$SPMCTL" drain --timeout $((60 * SPM_FACTOR)) "$MNT"
is "nothing is used" "$(spm_stat resident_bytes)" 0
is_whole "drained"

spm_done
