#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# swap= on a pool, where there is no room: device and swap are full; the device is full of what cannot leave, so that nothing comes
# back; a slot cannot be read. ENOSPC or EIO to who asks for just that, and nothing else is lost.
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

# ---- both are full ----

# Files of 4 MiB each, until there is no room; the last one is what there was room for.
fill_up()
{
	FILES=0 LAST=0
	while [ "$FILES" -lt 200 ]; do
		FILES=$((FILES + 1))
		LAST=$(put "$MNT/f$FILES" 4M "$FILES") && continue
		FULL=$LAST
		LAST=${LAST#ok } LAST=${LAST%% *}
		return
	done
}

whole()
{
	local i
	for i in $(seq 1 $((FILES - 1))); do
		check "$MNT/f$i" 4M "$i" || return 1
	done
	[ "$LAST" -eq 0 ] || check "$MNT/f$FILES" "$LAST" "$FILES"
}

full()
{
	local what=$1 n
	pool_swap_mount 32M 48M "$1"
	fill_up
	like "$what: writing ends in ENOSPC" "$FULL" "^ok [0-9]+ ENOSPC$"
	is "$what: the last file has what was said to be written" "$(stat -c %s "$MNT/f$FILES")" "$LAST"
	ok "$what: after $((FILES * 4)) MiB" [ $((FILES * 4)) -ge 64 ]
	ok "$what: nothing is lost" whole
	fails "$what: a size that device and swap cannot hold" fallocate -l 100M "$MNT/large"
	fails "$what: nor what is left" fallocate -l 30M "$MNT/large"
	is "$what: and that has left nothing" "$(stat -c '%s %b' "$MNT/large")" "0 0"
	rm "$MNT/large"
	ok "$what: a name can be made" mkdir "$MNT/d"
	ok "$what: and a long symbolic link" ln -s "$(printf 'x%.0s' $(seq 1 3000))" "$MNT/d/link"
	rm -r "$MNT/d"
	rm "$MNT/f1" "$MNT/f2" "$MNT/f3"
	ok "$what: after an unlink there is room" put "$MNT/f1" 4M 1
	ok "$what: and more" put "$MNT/f2" 4M 2
	rm -f "$MNT/f3"
	fails "$what: a size that there is a part of" fallocate -l 24M "$MNT/large"
	is "$what: leaves nothing of that part" "$(stat --cached=never -c '%s %b' "$MNT/large")" "0 0"
	rm "$MNT/large"
	ok "$what: everything else is right" eval '(for i in 1 2 $(seq 4 $((FILES - 1))); do check "$MNT/f$i" 4M $i || exit 1; done)'
	ok "$what: truncate to nothing works" truncate -s 0 "$MNT/f4"
	swap_leaves_nothing "$what"
	n=$FILES
	fill_up
	ok "$what: as much fits as before" [ "$FILES" -ge $((n - 2)) ]
	rm "$MNT"/f*
	swaprun "$what: more than there is room for" -s "$(spm_less 6)" -b 160M --no-space --kinds mirror
	ok "$what: it was full at times" [ "$(result no_space)" -gt 0 ]
	swap_leaves_nothing "$what: after the run"
}

full commit=lazy
full extent=64K

# With commit=eager a size is memory, here or in swap.
pool_swap_mount 32M 64M
put "$MNT/cold" 16M 1
ok "eager: more than the device" truncate -s 40M "$MNT/large"
is "has its memory" "$(stat -c %b "$MNT/large")" $((40 * MIB / 512))
is "eager: zeros" "$(tr -d '\0' <"$MNT/large" | wc -c)" 0
ok "eager: what had to leave for it is right" check "$MNT/cold" 16M 1
fails "eager: more than device and swap" truncate -s 200M "$MNT/more"
is "eager: and that has left nothing" "$(stat -c '%s %b' "$MNT/more")" "0 0"
swap_leaves_nothing "eager"

# What is small has an extent all the same: no more of them leave than are needed.
small_ones()
{
	local i
	for i in $(seq 1 14); do
		[ "$(resident "$MNT/s$i")" -eq 0 ] || echo "$i"
	done
}

pool_swap_mount 32M 64M low=0,high=0
for i in $(seq 1 14); do
	head -c 3000 "$MNT/.spm/features" >"$MNT/s$i"
done
ok "two more extents than there are" put "$MNT/f" 6M 1
n=$(small_ones | wc -l)
ok "of 14 small files some have left ($n are here)" [ "$n" -lt 14 ]
ok "and not all of them" [ "$n" -ge 8 ]
ok "which are right" eval '(for i in $(seq 2 14); do cmp "$MNT/s1" "$MNT/s$i" || exit 1; done)'
swap_leaves_nothing "small ones"

# ---- nothing can come back ----

same()
{
	cmp -i "$2" ${3:+-n $(($3 - $2))} "$1" "$copy"
}

zeros()
{
	cmp -i "$2:0" -n $(($3 - $2)) "$1" /dev/zero
}

right()
{
	ok "$1: cut off: what is left is right" same "$MNT/a" 0 3000000
	ok "$1: cut off: zeros behind, when it is longer again" zeros "$MNT/a" 3000000 $((8 * MIB))
	ok "$1: a hole over extents: right before" same "$MNT/b" 0 3000000
	ok "$1: a hole over extents: zeros" zeros "$MNT/b" 3000000 7000000
	ok "$1: a hole over extents: right behind" same "$MNT/b" 7000000
	ok "$1: a hole to the end: right before" same "$MNT/c" 0 7500000
	ok "$1: a hole to the end: zeros" zeros "$MNT/c" 7500000 $((8 * MIB - 1000))
	ok "$1: a small one: right" same "$MNT/d" 0 5000
	ok "$1: a small one: zeros" zeros "$MNT/d" 5000 20000
}

cutting()
{
	local f in
	pool_swap_mount 32M 96M "commit=lazy,$1"
	copy=$SPM_TMP/copy
	head -c 8M /dev/urandom >"$copy"
	for f in a b e; do
		cp "$copy" "$MNT/$f"
	done
	head -c $((8 * MIB - 1000)) "$copy" >"$MNT/c"
	head -c 40000 "$copy" >"$MNT/d"
	evict "$MNT"/[a-e] || fail "$1: evict"
	ok "$1: memory that nobody can see takes all of the device" full_of_what_stays
	in=$(spm_stat swapin_bytes)
	ok "$1: truncate" truncate -s 3000000 "$MNT/a"
	is "$1: truncate: nothing came back" "$(resident "$MNT/a") $(swapped "$MNT/a")" "0 $((733 * 4096))"
	ok "$1: and longer" truncate -s 8M "$MNT/a"
	ok "$1: punch over extents" fallocate -p -o 3000000 -l 4000000 "$MNT/b"
	is "$1: punch: nothing came back" "$(resident "$MNT/b")" 0
	ok "$1: punch to the end" fallocate -p -o 7500000 -l 1M "$MNT/c"
	ok "$1: a small one" truncate -s 5000 "$MNT/d"
	ok "$1: and longer" truncate -s 20000 "$MNT/d"
	ok "$1: O_TRUNC" eval ': >"$MNT/e"'
	is "$1: O_TRUNC: nothing is left" "$(resident "$MNT/e") $(swapped "$MNT/e")" "0 0"
	right "$1"
	is "$1: nothing has come back" "$(spm_stat swapin_bytes)" "$in"
	like "$1: a write that needs it is refused" \
		"$(dd if=/dev/zero of="$MNT/b" bs=100 count=1 conv=notrunc 2>&1)" "No space left"
	ok "$1: and has changed nothing" same "$MNT/b" 0 3000000
	rm "$MNT/pinned"
	ok "$1: all can come back" wait_until 5 load "$MNT"/[a-d]
	right "$1: here"
	ok "$1: and leave again" evict "$MNT"/[a-d]
	right "$1: out again"
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

cutting extent=2M
cutting extent=64K

# ---- what is in a slot cannot be read, or not be written ----

page()
{
	dd if="$1" of=/dev/null bs=4k skip="$2" count=1 iflag=direct 2>&1
}

fault()
{
	printf '%s\n' "$*" >"$MNT/.spm/fault"
}

pool_swap_mount 64M 256M
head -c 8M /dev/urandom >"$copy"
printf 'here is what gets lost' | dd of="$copy" bs=1M seek=5 conv=notrunc status=none
cp "$copy" "$MNT/f"
put "$MNT/g" 8M 2
evict "$MNT/f" "$MNT/g"
# in the third extent, beside the server's back
at=$(LC_ALL=C grep -aboF -m 1 "here is what gets lost" "$(find "$SWAP" -type f)" | head -n 1 | cut -d : -f 1)
like "the page is found in the swap file" "$at" '^[0-9]+$'
printf spoilt | dd of="$(find "$SWAP" -type f)" bs=1 seek="$at" conv=notrunc,fsync status=none
sync
echo 1 >/proc/sys/vm/drop_caches
free=$(spm_stat free_bytes)
like "a page that is wrong: EIO" "$(page "$MNT/f" 1280)" "Input/output error"
like "it is logged with path and offset" "$(cat "$MNT.log")" "f cannot be read at offset $((4 * MIB)).*fallocate -p"
like "EIO also for who would write a part of the extent" \
	"$(dd if=/dev/zero of="$MNT/f" bs=100 seek=45000 count=1 conv=notrunc 2>&1)" "Input/output error"
fails "it does not come back" load "$MNT/f"
ok "what is before it is right" cmp -n $((4 * MIB)) "$MNT/f" "$copy"
ok "and behind it" cmp -i $((6 * MIB)) "$MNT/f" "$copy"
ok "another file is right" check "$MNT/g" 8M 2
ok "a hole in its place" fallocate -p -o 4M -l 2M "$MNT/f"
ok "written anew" dd if="$copy" of="$MNT/f" bs=2M skip=2 seek=2 count=1 conv=notrunc status=none
ok "all is right" cmp "$copy" "$MNT/f"
evict "$MNT/f" "$MNT/g"
wait_until 5 eval '[ "$(spm_stat free_bytes)" -eq "$free" ]'
is "what could not be read holds nothing of the device" "$(spm_stat free_bytes)" "$free"
fault "swapio:read eio 1 100000"
like "a disk that does not read" "$(page "$MNT/f" 5)" "Input/output error"
fault clear
ok "and reads again" cmp "$copy" "$MNT/f"
rm "$MNT/f" "$MNT/g"

fault "swapio:write eio 1 1000000"
out=$(for i in $(seq 1 40); do put "$MNT/g$i" 4M "$i" || break; done | tail -n 1)
like "a disk that does not write: ENOSPC when the device is full" "$out" "ENOSPC$"
fault clear
ok "all that was said to be written is right" eval '(for i in $(seq 1 14); do check "$MNT/g$i" 4M $i || exit 1; done)'
is "no worker died of it" "$(spm_feature worker_restarts)" 0
swap_leaves_nothing "errors"
spm_done
