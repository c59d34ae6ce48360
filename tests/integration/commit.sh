#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# commit=eager gives a direct file its memory with its size: ENOSPC comes when memory is asked for, and never
# SIGBUS later. commit=lazy is tmpfs's way. Whatever the mode, a write that says it succeeded is stored.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

MIB=1048576

set_map()
{
	"$SPMT" setxattr "$2" user.spm.map "$1"
}

mode_is()
{
	[ "$(file_mode "$1")" = "$2" ]
}

free_at_least()
{
	[ "$(spm_stat free_bytes)" -ge "$1" ]
}

size_of()
{
	stat -c %s "$1"
}

eager()
{
	local f=$MNT/f stored
	tell a open f rw,creat "$f"
	says "$1: a file takes its memory with ftruncate" a ok trunc f 16M
	ok "$1: it is resident at once" test "$(spm_file resident_bytes "$f")" -ge $((16 * MIB))
	says "$1: it has content" a "ok 16777216" fill f 0 16M 1
	says "$1: ftruncate beyond the device" a "err ENOSPC" trunc f 100M
	is "$1: the size is as before" "$(size_of "$f")" $((16 * MIB))
	says "$1: fallocate beyond it" a "err ENOSPC" falloc f plain 0 100M
	is "$1: the size is as before that, too" "$(size_of "$f")" $((16 * MIB))
	says "$1: fallocate beyond it with KEEP_SIZE" a "err ENOSPC" falloc f keep 16M 100M
	says "$1: nothing is lost" a ok verify f 0 16M 1
	ok "$1: and nothing is kept of what was refused" wait_until 5 free_at_least $((44 * MIB))
	says "$1: fallocate within it" a ok falloc f plain 0 24M
	says "$1: mapped" a ok map m f rw shared 0 24M

	# The rest of the device goes to somebody else.
	tell b open g rw,creat "$MNT/g"
	tell b fill g 0 128M 2
	like "$1: another file takes the rest" "$REPLY" '^ok [0-9]+ ENOSPC$'
	says "$1: no SIGBUS in the committed range" a ok touch m 0 24M
	says "$1: the first part is written" a ok mfill m 0 16M 3
	says "$1: and the part that nobody had touched" a ok mfill m 16M 8M 4
	says "$1: all of it is there" a ok verify f 16M 8M 4
	stored=$(size_of "$MNT/g")
	says "$1: what the other file took is there" b ok verify g 0 "$stored" 2
	says "$1: one page more is refused" a "err ENOSPC" trunc f 25M
	says "$1: a smaller size is not" a ok trunc f 20M
	tell b close g
	rm "$MNT/g"
	ok "$1: what is removed can be used" wait_until 5 free_at_least $((40 * MIB))
	says "$1: the file grows now" a ok trunc f 40M
	says "$1: its new part is zero" a ok read f 30M 8
	tell a unmap m
	tell a close f
	ok "$1: truncate(1) beyond the device is refused" eval '! truncate -s 100M "$MNT/f" 2>/dev/null'
	rm "$f"

	# A file that became too large as a mirror.
	set_map mirror "$MNT"
	tell a open s rw,creat "$MNT/sparse"
	says "$1: a sparse mirror may be larger than the device" a ok trunc s 100M
	tell a write s 0 head
	tell a close s
	wait_until 5 mode_is "$MNT/sparse" idle
	set_map direct "$MNT"
	says "$1: but not be opened direct for writing" a "err ENOSPC" open s rw "$MNT/sparse"
	set_map mirror "$MNT"
	says "$1: as a mirror it still opens" a ok open s rw "$MNT/sparse"
	says "$1: and nothing of it is lost" a "ok head" read s 0 4
	tell a close s
	rm "$MNT/sparse"
	set_map direct "$MNT"
}

# full DESC: writers at a full device, by write and by mapping.
full()
{
	local stored total=0 i
	for i in 1 2 3; do
		tell a open "w$i" rw,creat "$MNT/w$i"
	done
	tell a fill w1 0 20M 1
	tell a fill w2 0 20M 2
	is "$1: two files fit" "$REPLY" "ok $((20 * MIB))"
	tell a fill w3 0 100M 3
	like "$1: the third gets ENOSPC" "$REPLY" '^ok [0-9]+ ENOSPC$'
	stored=${REPLY#ok } stored=${stored% *}
	ok "$1: after most of the device ($stored)" test "$stored" -ge $((16 * MIB))
	is "$1: its size is what was stored" "$(size_of "$MNT/w3")" "$stored"
	says "$1: what was said to be written is there" a ok verify w3 0 "$stored" 3
	says "$1: overwriting what is there still works" a "ok 1048576" fill w1 1M 1M 4
	tell a append w3 more-than-fits
	for i in 1 2 3; do
		says "$1: close without error" a ok close "w$i"
	done
	echo 1 >/proc/sys/vm/drop_caches
	for i in 1 2; do
		tell a open "w$i" r "$MNT/w$i"
	done
	says "$1: the first is whole" a ok verify w1 2M 18M 1
	says "$1: with what overwrote it" a ok verify w1 1M 1M 4
	says "$1: so is the second" a ok verify w2 0 20M 2
	tell a close w1
	tell a close w2
	total=$(stat -f -c '%b %a %S' "$MNT" | awk '{ print ($1 - $2) * $3 / 1048576 }')
	ok "$1: df agrees ($total MiB used)" test "${total%.*}" -ge 60
	rm "$MNT"/w?
	ok "$1: and the device is empty after" wait_until 5 free_at_least $((62 * MIB))
}

actor a
actor b
spm_need_mount mem:64M map=direct
eager plain
spm_fresh mem:128M map=direct,size=64M
eager served

spm_fresh mem:64M map=direct
full plain
spm_fresh mem:128M map=direct,size=64M
full served
spm_fresh mem:64M map=mirror
full mirror
spm_fresh mem:64M nopassthrough
full nopassthrough

# A hole of a mirror that is written by mapping when the device is full: the error is told at msync.
spm_fresh mem:32M map=mirror
tell a open h rw,creat "$MNT/holes"
tell a trunc h 16M
tell a map m h rw shared 0 16M
tell b open g rw,creat "$MNT/g"
tell b fill g 0 128M 2
tell a mfill m 0 16M 7
first=$REPLY
tell a msync m
like "mirror: writing holes by mapping on a full device ends in an error" "$first $REPLY" 'err (ENOSPC|EIO)'
tell a unmap m
tell a close h
says "mirror: the other file is whole" b ok verify g 0 16M 2
tell b close g

# The same where there is room for a part of what one request writes back: the client's kernel looks at errors only, not at a count.
spm_fresh mem:16M map=mirror
head -c 15900K /dev/zero >"$MNT/most"
ok "mirror: nearly full" sync "$MNT/most"
truncate -s 1M "$MNT/part"
tell a open p rw "$MNT/part"
tell a map m p rw shared 0 1M
tell a mfill m 0 1M 7
says "mirror: what has room in part is refused to msync" a "err ENOSPC" msync m
ok "mirror: though a part of it was written" [ "$(df -k --output=avail "$MNT" | tail -n 1)" -eq 0 ]
tell a unmap m
tell a close p

# Lazy: a size is a promise only, as on tmpfs.
spm_fresh mem:64M map=direct,commit=lazy
tell a open f rw,creat "$MNT/f"
says "lazy: a size beyond the device" a ok trunc f 100M
ok "lazy: costs nothing" test "$(spm_file resident_bytes "$MNT/f")" -lt "$MIB"
says "lazy: mapped" a ok map m f rw shared 0 100M
says "lazy: what fits can be touched" a ok mfill m 0 32M 1
says "lazy: what does not ends in SIGBUS, as tmpfs does it" a "err EIO" touch m 32M 68M
says "lazy: what was written is there" a ok verify f 0 32M 1
tell b open g rw,creat "$MNT/g"
tell b fill g 0 1M 2
like "lazy: write() says ENOSPC" "$REPLY" '^ok [0-9]+ ENOSPC$'
says "lazy: fallocate too" b "err ENOSPC" falloc g plain 0 8M
tell b close g
tell a unmap m
tell a close f
says "lazy: opened again, larger than the device" a ok open f rw "$MNT/f"
tell a close f

# Blocks behind the end of a file do not hide the holes before it.
spm_need_mount mem:16M
truncate -s 4M "$MNT/f"
fallocate -p -o 0 -l 4M "$MNT/f"
fallocate -n -o 4M -l 4M "$MNT/f"
tell a open f rw "$MNT/f"
tell a map m f rw shared 0 4M
head -c 16M /dev/zero >"$MNT/rest" 2>/dev/null
says "a hole with blocks behind the end of the file is committed at open" a ok mfill m 0 4M 3
tell a unmap m
tell a close f

spm_done
