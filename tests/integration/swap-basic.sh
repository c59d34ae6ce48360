#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A mount holds more than its device, and nobody notices but by the clock: content, sizes, blocks, times, holes, space.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

df_used()
{
	stat -f -c '%b %f %S' "$MNT" | awk '{ printf "%d\n", ($1 - $2) * $3 }'
}

all()
{
	local how=$1 i
	for i in $(seq 1 24); do
		"$how" "$MNT/f$i" 8M "$i" || return 1
	done
}

# Bytes of files that are not zero.
content()
{
	cat "$1"/* | tr -d '\0' | wc -c
}

no_holes()
{
	"$SPMT" run "open f r $1" "seek f hole 0" "close f" | sed -n 2p
}

more_than_the_device()
{
	ok "$1: three times the device is written" all put
	ok "$1: most of it is in swap files ($(spm_stat swapped_bytes))" [ "$(spm_stat swapped_bytes)" -ge $((120 * MIB)) ]
	ok "$1: the device is not overdrawn" [ "$(spm_stat resident_bytes)" -le $((64 * MIB)) ]
	ok "$1: df shows all of it as used ($(df_used))" [ "$(df_used)" -ge $((192 * MIB)) ]
	ok "$1: and not much more" [ "$(df_used)" -le $((210 * MIB)) ]
	is "$1: du shows all of it" "$(du -c --block-size=1M --apparent-size "$MNT"/f* | tail -n 1 | cut -f 1)" 192
	ok "$1: by blocks as well" [ "$(du -s --block-size=1M "$MNT" | cut -f 1)" -ge 192 ]
	is "$1: blocks of a file" "$(stat -c '%b' "$MNT/f3")" 16384
	is "$1: a file has no holes" "$(no_holes "$MNT/f3")" "ok $((8 * MIB))"
	ok "$1: all of it is read back" all check
	ok "$1: once more, from the end" eval 'for i in $(seq 24 -1 1); do check "$MNT/f$i" 8M $i || exit 1; done'
	ok "$1: swapout_bytes and swapin_bytes count" [ "$(spm_stat swapout_bytes)" -ge $((128 * MIB)) ]
	is "$1: no errors" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

swap_mount mem:64M 512M
ok "the swap file is there" [ "$(find "$SWAP" -type f | wc -l)" -eq 1 ]
is "it is root's alone" "$(stat -c '%a %u' "$(find "$SWAP" -type f)")" "600 0"
ok "the space of the mount is device and swap" [ "$(df -B1 --output=size "$MNT" | tail -n 1)" -ge $((560 * MIB)) ]
bdi=/sys/class/bdi/$(mountpoint -d "$MNT")
[ ! -r "$bdi/max_ratio" ] ||
	is "mirrors may be dirty for a while, and read ahead little" "$(cat "$bdi/max_ratio" "$bdi/read_ahead_kb" | xargs)" "20 1024"
is "nothing is swapped at first" "$(spm_stat swapped_bytes) $(spm_stat swap_used_bytes)" "0 0"
more_than_the_device "2 MiB extents"
ok "umount" spm_umount
is "the swap file is gone" "$(find "$SWAP" -type f)" ""
swap_mount mem:64M 512M extent=64K
more_than_the_device "64 KiB extents"
swap_mount mem:64M 512M map=mirror
more_than_the_device "mirror"
swap_mount mem:64M 512M map=direct
more_than_the_device "direct"

# One file, looked at closely.
swap_mount mem:64M 256M
f=$MNT/file
put "$f" 10M 7
chmod 640 "$f"
touch -d '2001-02-03 04:05:06.7' "$f"
before=$(stat -c '%s %b %a %x %y %z' "$f")
ok "a file is moved out" evict "$f"
is "all of it" "$(swapped "$f") $(resident "$f")" "$((10 * MIB)) 0"
is "and it looks as before" "$(stat -c '%s %b %a %x %y %z' "$f")" "$before"
ok "out once more changes nothing" evict "$f"
ok "back" load "$f"
is "all of it is here" "$(swapped "$f")" 0
ok "on the device" [ "$(resident "$f")" -ge $((10 * MIB)) ]
is "it looks as before" "$(stat -c '%s %b %a %x %y %z' "$f")" "$before"
is "its slots are free" "$(spm_stat swap_used_bytes)" 0
ok "its content is right" check "$f" 10M 7
for d in 'after a rename:mv "$f" "$f.b" && mv "$f.b" "$f"' 'after a link:ln "$f" "$f.b" && rm "$f"; mv "$f.b" "$f"' \
	'after chown and chmod:chown 1:1 "$f" && chmod 600 "$f"' 'after an xattr:"$SPMT" setxattr "$f" user.x y'; do
	evict "$f" || fail "evict"
	ok "${d%%:*}: it works" eval "${d#*:}"
	ok "${d%%:*}: it is still out" is_out "$f"
	ok "${d%%:*}: content" check "$f" 10M 7
done
chmod 6755 "$f"
evict "$f"
load "$f"
is "suid and sgid stay" "$(stat -c %a "$f")" 6755
evict "$f"
caps=0x0100000200040000000000000000000000000000
"$SPMT" setxattr "$f" security.capability $caps
is "file capabilities are set" "$("$SPMT" getxattr "$f" security.capability | od -An -tx1 -N 20 | tr -d ' \n')" "${caps#0x}"
ok "the content is right" check "$f" 10M 7
move evict "$f" 2>/dev/null
load "$f" 2>/dev/null
is "and they stay" "$("$SPMT" getxattr "$f" security.capability | od -An -tx1 -N 20 | tr -d ' \n')" "${caps#0x}"
chown 0 "$f"
ok "when chown has taken them away it can leave" evict "$f"
ok "and is out" is_out "$f"
rm "$f"
is "unlink frees slots" "$(wait_until 5 no_slots; spm_stat swap_used_bytes)" 0

actor a
put "$f" 10M 1
evict "$f"
tell a open f rw "$f"
says "an open file that was out: write in the middle" a "ok 5" write f 5000001 hello
says "what is around it is right" a ok verify f 0 5000000 1
says "and behind it" a ok verify f 5000008 5485752 1
says "and itself" a "ok hello" read f 5000001 5
tell a close f
evict "$f"
tell a open f rw,append "$f"
says "append" a "ok 3" append f end
says "is at the end" a "ok end" read f 10485760 3
tell a close f
is "the size is right" "$(stat -c %s "$f")" $((10 * MIB + 3))
evict "$f"
ok "truncate in the middle of an extent" truncate -s 3000000 "$f"
is "the rest is cut off" "$(stat -c %s "$f")" 3000000
ok "and longer again" truncate -s 9M "$f"
ok "what was cut off is zeros" cmp -i 3000000:0 -n 6437184 "$f" /dev/zero
ok "what was not is right" check "$f" 2999992 1
ok "blocks of what was cut off are free" [ "$(stat -c %b "$f")" -le $((4 * MIB / 512)) ]
evict "$f"
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

# Holes stay holes.
truncate -s 64M "$f"
tell a open f rw "$f"
tell a fill f 0 1M 1
tell a fill f 9M 1M 1
tell a fill f 31M 100K 1
hole=$(ask a seek f hole 0) data=$(ask a seek f data "$hole")
bytes=$(stat -c %b "$f")
tell a close f
evict "$f"
tell a open f r "$f"
is "a hole begins where it did" "$(ask a seek f hole 0)" "$hole"
is "and ends there" "$(ask a seek f data "$hole")" "$data"
is "blocks are what they were" "$(stat -c %b "$f")" "$bytes"
is "SEEK_DATA at the last data" "$(ask a seek f data $((31 * MIB)))" $((31 * MIB))
says "no data behind it" a "err ENXIO" seek f data 40M
says "its data is right" a ok verify f 9M 1M 1
tell a close f
ok "a hole costs no swap ($(spm_stat swap_used_bytes))" [ "$(spm_stat swap_used_bytes)" -le $((7 * MIB)) ]
rm "$f"

# Small files, and extents with few pages.
mkdir "$MNT/small"
for i in $(seq 1 200); do
	head -c $((i * 10)) /dev/zero | tr '\0' "\\$((i % 8 + 60))" >"$MNT/small/$i"
done
sums=$(cat "$MNT"/small/* | md5sum)
ok "small files go out" evict "$MNT"/small/*
is "each takes one block" "$(spm_stat swap_used_bytes)" $((200 * 4096))
is "and is right" "$(cat "$MNT"/small/* | md5sum)" "$sums"
rm -r "$MNT/small"
actor_end a

# A mapping of a mirror survives that its content leaves the device.
"$SPMT" setxattr "$MNT" user.spm.map mirror
put "$f" 16M 3
actor a
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
actor_end a
swap_leaves_nothing "in the end"

# Two files are shared out, and a limit counts.
spm_umount_all
mkdir "$SPM_TMP/one" "$SPM_TMP/two"
spm_need_mount mem:64M "swap=$SPM_TMP/one:$SPM_TMP/two,swapsize=256M"
ok "two swap files: three times the device is written" all put
ok "both are in use" eval '[ "$(content "$SPM_TMP/one")" -ge $((40 * MIB)) ] && [ "$(content "$SPM_TMP/two")" -ge $((40 * MIB)) ]'
ok "all of it is read back" all check
SWAP_FREE=$(($(spm_stat resident_bytes) + $(spm_stat free_bytes) - MIB))
swap_leaves_nothing "two swap files"
put "$MNT/a" 30M 1
echo 8M >"$MNT/.spm/swap.max"
put "$MNT/b" 60M 2 >/dev/null
ok "swap.max is a limit" [ "$(spm_stat swap_used_bytes)" -le $((8 * MIB)) ]
ok "what was there before is whole" check "$MNT/a" 30M 1
echo max >"$MNT/.spm/swap.max"
ok "without it there is room again" put "$MNT/b" 60M 2
ok "umount" spm_umount
is "both are gone" "$(find "$SPM_TMP/one" "$SPM_TMP/two" -type f)" ""

spm_done
