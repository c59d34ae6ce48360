#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Compaction: extents that were written piece by piece get huge pages back, swap files shrink; by hand, by itself, with
# readers, cancelled, killed. Every byte stays right.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
export SPMFS_FAULTS=1

# In single pages, the even ones first, so that no huge page is made on the way.
pieces()
{
	local odd
	: >"$1"
	for odd in 0 1; do
		awk -v odd=$odd -v n=$(($(stat -c %s "$2") / 8192)) 'BEGIN { for (i = 0; i < n; i++) print 2 * i + odd }' |
			while read -r block; do
				dd if="$2" of="$1" bs=4096 skip="$block" seek="$block" count=1 conv=notrunc status=none
			done
	done
}

huge()
{
	spm_file huge_bytes "$1"
}

compact()
{
	echo 1 >"$MNT/.spm/compact"
}

# Bytes that the swap file has on its disk.
on_disk()
{
	du -s -B1 "$SWAP" | cut -f 1
}

fill()
{
	local i
	for i in $(seq 1 16); do
		put "$MNT/f$i" 8M "$i" >/dev/null || return 1
		evict "$MNT/f$i" || return 1
	done
}

left()
{
	local i
	for i in $(seq 2 2 16); do
		check "$MNT/f$i" 8M "$i" || return 1
	done
}

# Huge pages.
swap_mount mem:128M 256M map=mirror,compact=0
head -c 8M /dev/urandom >"$SPM_TMP/content"
f=$MNT/file
pieces "$f" "$SPM_TMP/content"
before=$(huge "$f")
touch -d '2001-02-03 04:05:06.7' "$f"
times=$(stat -c '%x %y %z' "$f")
if [ "$(grep -cs "\[never\]" /sys/kernel/mm/transparent_hugepage/enabled)" -eq 1 ]; then
	skip "huge pages come back" "no huge pages here"
else
	ok "a file written piece by piece has small pages ($before)" [ "$before" -lt $((8 * MIB)) ]
	ok "compact" compact
	is "all of it has huge pages then" "$(huge "$f")" $((8 * MIB))
	ok "which stat shows" [ "$(spm_stat huge_bytes)" -ge $((8 * MIB)) ]
	is "its times are as before" "$(stat -c '%x %y %z' "$f")" "$times"
	ok "its content is right" cmp "$f" "$SPM_TMP/content"
	fallocate -p -o 2M -l 4096 "$f"
	dd if="$SPM_TMP/content" of="$f" bs=4096 skip=512 seek=512 count=1 conv=notrunc status=none
	evict "$f"
	load "$f"
	ok "out and back: content" cmp "$f" "$SPM_TMP/content"
	ok "out and back: compact" compact
	is "out and back: it has huge pages" "$(huge "$f")" $((8 * MIB))
	pieces "$f.mapped" "$SPM_TMP/content"
	actor a
	tell a open f rw "$f.mapped"
	tell a map m f rw shared 0 8M
	ok "compact while a file is mapped" compact
	says "the mapping goes on" a ok mfill m 0 8M 3
	ok "compact again" compact
	says "it is right" a ok mverify m 0 8M 3
	actor_end a
fi

# Extents that are smaller than a huge page could not leave one.
swap_mount mem:64M 64M map=mirror,compact=0,extent=64K
cp "$SPM_TMP/content" "$f"
ok "small extents: compact" compact
is "small extents: it has small pages then as before" "$(huge "$f")" 0
for i in {1..63}; do
	echo "$(stat -c %i "$f") $((i * 131072)) 65536" >"$MNT/.spm/evict" || fail "evict part $i"
done
is "small extents: every second leaves" "$(swapped "$f") $(resident "$f")" "$((63 * 65536)) $((65 * 65536))"
is "small extents: blocks are those of all" "$(($(stat -c %b "$f") * 512))" $((8 * MIB))
ok "small extents: content" cmp "$f" "$SPM_TMP/content"
swap_leaves_nothing "small extents"

# Swap files.
swap_mount mem:128M 256M map=mirror,compact=0
ok "files are moved out" fill
size=$(on_disk)
rm "$MNT"/f{1,3,5,7,9,11,13,15}
ok "compact with every second file gone" compact
used=$(spm_stat swap_used_bytes)
# what is moved meanwhile stays where it is for that pass
has_shrunk()
{
	[ "$(on_disk)" -le $((used + 16 * MIB)) ] || { compact && false; }
}
wait_until 10 has_shrunk
ok "the swap file has shrunk ($size to $(on_disk), $used in use)" has_shrunk
ok "what is left is right" left
ok "moved bytes are counted" [ "$(spm_stat compact_moved_bytes)" -gt 0 ]
put "$MNT/more" 96M 1 && evict "$MNT/more"
ok "it grows again" check "$MNT/more" 96M 1
rm "$MNT"/*
compact
ok "with nothing in it, it is small ($(on_disk))" [ "$(on_disk)" -le $((16 * MIB)) ]
swap_leaves_nothing "by hand"

# With readers and writers.
swap_mount mem:64M 512M compact=0
(while [ ! -e "$SPM_TMP/stop" ]; do compact; done) &
load=$!
swaprun "compacting all the time" -s "$(spm_less 9)" -b 256M
touch "$SPM_TMP/stop"
wait "$load"
is "no worker died" "$(spm_feature worker_restarts)" 0
swap_leaves_nothing "compacting all the time"

# Cancelled.
ok "files are moved out" fill
rm "$MNT"/f{1,3,5,7,9,11,13,15}
moved=$(spm_stat compact_moved_bytes)
has_moved()
{
	[ "$(spm_stat compact_moved_bytes)" -gt "$moved" ]
}
echo "compact:copied slow:1000 1 100" >"$MNT/.spm/fault"
dd if=<(echo 1) of="$MNT/.spm/compact" status=none 2>"$SPM_TMP/cancelled" &
load=$!
ok "one that is slow has begun" wait_until 5 has_moved
start=$(spm_now_ms)
kill -TERM "$load"
wait "$load"
ok "cancelled: at once" [ $(($(spm_now_ms) - start)) -lt $((5000 * SPM_FACTOR)) ]
echo clear >"$MNT/.spm/fault"
ok "cancelled: all is right" left
ok "the next one runs" compact
ok "all is right" left

# Killed.
for i in 1 2 3 4 5 6; do
	rm "$MNT"/*
	fill || fail "fill"
	rm "$MNT"/f{1,3,5,7,9,11,13,15}
	echo "compact:copied slow:20 1 1000" >"$MNT/.spm/fault"
	compact &
	load=$!
	sleep "0.$i"
	kill -KILL "$(spm_server_pid)"
	wait "$load"
	echo clear >"$MNT/.spm/fault"
	ok "killed while it compacts ($i): all is right" left
done
swap_leaves_nothing "killed"

# By itself.
swap_mount mem:64M 512M compact=1G
ok "files are moved out" fill
size=$(on_disk)
rm "$MNT"/f{1,3,5,7,9,11,13,15}
shrunk()
{
	[ "$(on_disk)" -le $((size - 32 * MIB)) ]
}
# it looks every 30 s
ok "by itself: the swap file shrinks" wait_until 70 shrunk
ok "by itself: what is left is right" left
swap_leaves_nothing "by itself"
spm_done
