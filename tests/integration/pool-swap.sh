#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# swap= on a pool: more than the device holds, what is shown of that, and what is refused. Content leaves and comes back by the
# device's own memory, whatever is done to the file meanwhile.
set -u
SPM_LIMIT=300
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../pool-swapping.sh
. "$top_srcdir/tests/pool-swapping.sh"
export SPMFS_FAULTS=1

EXTENT=$((2 * MIB))

# From the server, whatever the client's kernel remembers.
attributes()
{
	stat --cached=never -c '%s %b %a %Y %Z' "$1"
}

all_of()
{
	local i
	for i in $(seq 1 "$2"); do
		"$1" "$MNT/f$i" 4M "$i" >/dev/null || return 1
	done
}

# ---- twice the device, and what is told of it ----

pool_swap_mount 64M 256M
like "features: swap is on" "$(spm_feature swap)" "^on: 1 file, .*O_DIRECT|^on: 1 file, .*buffered"
is "features: isolation" "$(spm_feature isolation)" hard
like "features: content" "$(spm_feature content)" "^pool"
is "features: the extent" "$(spm_feature extent)" "$EXTENT"
before=$(df -k --output=size "$MNT" | tail -n 1)
ok "df: device and swap" [ "$before" -gt $((64 * 1024 + 200 * 1024)) ]
ok "twice the device is written" all_of put 32
ok "and right" all_of check 32
ok "half of it is in swap ($(spm_stat swapped_bytes))" [ "$(spm_stat swapped_bytes)" -ge $((60 * MIB)) ]
ok "the device holds no more than it has" [ "$(spm_stat resident_bytes)" -le $((64 * MIB)) ]
ok "status adds up: device" [ $(($(spm_stat resident_bytes) + $(spm_stat free_bytes))) -eq "$SWAP_FREE" ]
ok "and swap" [ "$(spm_stat swap_used_bytes)" -ge "$(spm_stat swapped_bytes)" ]
is "no extent was unreadable" "$(spm_stat swap_errors)" 0
is "df: what files have" "$(df -k --output=used "$MNT" | tail -n 1 | tr -d ' ')" $((32 * 4096))
is "df: its size has not changed" "$(df -k --output=size "$MNT" | tail -n 1)" "$before"
ok "written anew, each" eval '(for i in $(seq 1 32); do put "$MNT/f$i" 4M $((i + 40)) || exit 1; done)'
ok "and right" eval '(for i in $(seq 1 32); do check "$MNT/f$i" 4M $((i + 40)) || exit 1; done)'
wait_until 10 eval '[ "$(spm_stat free_bytes)" -ge $((3 * MIB)) ]'
ok "low=: the background keeps some free ($(spm_stat free_bytes))" [ "$(spm_stat free_bytes)" -ge $((3 * MIB)) ]
swap_leaves_nothing "twice the device"

# ---- by hand ----

put "$MNT/f" 9M 1
want=$(attributes "$MNT/f")
ok "evict" "$SPMCTL" evict "$MNT/f"
is "all of it is in swap" "$(swapped "$MNT/f") $(resident "$MNT/f")" "$((9 * MIB)) 0"
is "no attribute shows it" "$(attributes "$MNT/f")" "$want"
is "its extents are free" "$(spm_stat free_bytes)" "$SWAP_FREE"
ok "read from its slots" check "$MNT/f" 9M 1
ok "load" "$SPMCTL" load "$MNT/f"
is "all of it is here" "$(swapped "$MNT/f") $(resident "$MNT/f")" "0 $((10 * MIB))"
is "no attribute shows it" "$(attributes "$MNT/f")" "$want"
ok "and right" check "$MNT/f" 9M 1
evict "$MNT/f"
sum=$(md5sum <"$MNT/f")
load "$MNT/f"
echo 3 >/proc/sys/vm/drop_caches
is "a sequential read of it is that of what is here" "$(md5sum <"$MNT/f")" "$sum"
put "$MNT/g" 20M 2
echo 16M >"$MNT/.spm/reclaim"
ok ".spm/reclaim takes what it is told ($(spm_stat swapped_bytes))" [ "$(spm_stat swapped_bytes)" -ge $((15 * MIB)) ]
ok "everything is right" eval 'check "$MNT/f" 9M 1 && check "$MNT/g" 20M 2'
rm "$MNT/g"

# ---- what is done to content that is out ----

f=$MNT/f
evict "$f"
ok "truncate into the middle of an extent" truncate -s 3000000 "$f"
ok "and longer again" truncate -s 9M "$f"
ok "what was cut off is zeros" cmp -i 3000000:0 -n 6437184 "$f" /dev/zero
ok "what was not is right" check "$f" 2999992 1
evict "$f"
actor a
tell a open f rw "$f"
says "a hole is punched" a ok falloc f punch 1000000 1000000
says "it is zeros" a ok read f 1500000 8
says "before it" a ok verify f 0 1000000 1
says "and behind it" a ok verify f 2000000 999992 1
says "allocation of what is out changes nothing" a ok falloc f plain 0 3000000
says "as can be seen" a ok verify f 2000000 999992 1
tell a close f
rm "$f"
put "$f" 10M 1
put "$f.to" 10M 2
evict "$f" "$f.to"
tell a open f rw "$f"
tell a open g rw "$f.to"
says "copy_file_range from one that is out to another" a "ok 3000000" copy f 1000000 g 2500000 3000000
tell a close f
tell a close g
ok "the copy is right" cmp -i 1000000:2500000 -n 3000000 "$f" "$f.to"
ok "what is before it too" check "$f.to" 2500000 2
ok "the source is unchanged" check "$f" 10M 1
evict "$f" "$f.to"
ok "cp" cp "$f" "$f.copy"
ok "the copy of all is right" check "$f.copy" 10M 1
ok "mv over a file that is out" mv "$f.copy" "$f.to"
ok "gives the right one" check "$f.to" 10M 1
evict "$f"
tell a open f rw "$f"
rm "$f"
says "what has no name but a user is there" a ok verify f 0 10M 1
tell a close f
rm -f "$f.to"

truncate -s 0 "$f"
"$SPMT" run "open f w $f" "fill f 0 1M 1" "fill f 9M 1M 1" "close f" >/dev/null
tell a open f r "$f"
hole=$(ask a seek f hole 0) data=$(ask a seek f data "$hole") blocks=$(stat -c %b "$f")
tell a close f
evict "$f"
tell a open f r "$f"
is "a hole begins where it did" "$(ask a seek f hole 0)" "$hole"
is "and ends there" "$(ask a seek f data "$hole")" "$data"
is "blocks are what they were" "$(stat -c %b "$f")" "$blocks"
says "no data behind it" a "err ENXIO" seek f data 40M
says "its data is right" a ok verify f 9M 1M 1
tell a close f
rm "$f"

mkdir "$MNT/small"
for i in $(seq 1 20); do
	head -c $((i * 1000)) /dev/zero | tr '\0' "\\$((i % 8 + 60))" >"$MNT/small/$i"
done
sums=$(cat "$MNT"/small/* | md5sum)
used=$(spm_stat swap_used_bytes)
ok "small files go out" evict "$MNT"/small/*
ok "and take what they have, not whole extents" [ $(($(spm_stat swap_used_bytes) - used)) -le $((20 * 24576)) ]
is "and are right" "$(cat "$MNT"/small/* | md5sum)" "$sums"
rm -r "$MNT/small"

# ---- mapped mirrors ----

put "$f" 16M 3
tell a open f rw "$f"
tell a map m f rw shared 0 16M
ok "a mapped mirror goes out" evict "$f"
says "the mapping is right" a ok mverify m 0 16M 3
echo 3 >/proc/sys/vm/drop_caches
says "also without a cached page" a ok mverify m 0 16M 3
tell a mfill m 1M 3M 4
says "stores go through" a ok msync m
ok "and out" evict "$f"
echo 3 >/proc/sys/vm/drop_caches
says "the new content" a ok mverify m 1M 3M 4
says "and the old" a ok mverify m 4M 12M 3
tell a unmap m
tell a close f

# ---- what keeps content here elsewhere ----

if setcap cap_net_raw+ep "$f" 2>/dev/null; then
	ok "a file with capabilities leaves as well" evict "$f"
	is "and keeps them" "$(getcap "$f" | sed 's/.* //')" "cap_net_raw=ep"
	ok "when it comes back, too" eval 'load "$f" && getcap "$f" | grep -q cap_net_raw'
	setcap -r "$f"
else
	skip "a file with capabilities" "no setcap here"
fi
evict "$f"
if chattr +i "$f" 2>/dev/null; then
	is "an immutable file is brought here" "$(swapped "$f")" 0
	fails "and stays" move evict "$f"
	fails "cutting it off is refused" truncate -s 1M "$f"
	chattr -i "$f"
	ok "and has dropped nothing" eval '[ "$(stat -c %s "$f")" -eq $((16 * MIB)) ] && cmp -n 1M "$f" <(head -c 1M "$f")'
else
	skip "an immutable file" "no chattr here"
fi
rm "$f"

# ---- limits, compaction, drain ----

ok "size= lower than what is used: the rest leaves" eval 'put "$f" 40M 5 && "$SPMFS" "$DAX" "$MNT" -o remount,size=16M'
ok "and no more is here" [ "$(spm_stat resident_bytes)" -le $((16 * MIB)) ]
ok "it is right" check "$f" 40M 5
ok "raised again" "$SPMFS" "$DAX" "$MNT" -o remount,size=64M
for i in 1 2 3 4 5 6; do
	put "$MNT/c$i" 8M "$i" >/dev/null
done
evict "$MNT"/c?
rm "$MNT/c1" "$MNT/c3" "$MNT/c5" "$f"
load "$MNT/c2"
ok "compact: pool and swap files" "$SPMCTL" compact "$MNT"
ok "all is right" eval 'check "$MNT/c2" 8M 2 && check "$MNT/c4" 8M 4 && check "$MNT/c6" 8M 6'
ok "what is in swap lies at its start" [ "$(spm_stat swap_bytes)" -ge "$(spm_stat swap_used_bytes)" ]
tell a open f r "$MNT/c2"
"$SPMCTL" load "$MNT/c4" >/dev/null
ok "drain" "$SPMCTL" drain --timeout 20 "$MNT"
is "nothing is on the device" "$(spm_stat resident_bytes)" 0
says "who has it open reads on" a ok verify f 0 8M 2
ok "which brings nothing back" [ "$(spm_stat resident_bytes)" -eq 0 ]
"$SPMCTL" drain --cancel "$MNT" >/dev/null 2>&1
tell a close f
ok "cancelled: all can come back" load "$MNT/c2" "$MNT/c4" "$MNT/c6"
actor_end a
swap_leaves_nothing "by hand"
is "no extent was unreadable" "$(spm_stat swap_errors)" 0
ok "umount" spm_umount
is "the swap file is gone" "$(find "$SWAP" -type f)" ""
spm_done
