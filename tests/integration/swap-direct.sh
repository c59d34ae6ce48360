#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Law 1: what is open directly or mapped so is whole on the device, and stays there; all else may leave. ENOSPC at open
# if a file cannot be brought back.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

set_map()
{
	"$SPMT" setxattr "$2" user.spm.map "$1"
}

# More than everything else could make room for, so that whatever can go must have gone.
flood()
{
	local i
	for i in $(seq 1 24); do
		put "$MNT/flood$i" 8M "$i" || return 1
	done
}

flood_is_right()
{
	local i
	for i in $(seq 1 24); do
		check "$MNT/flood$i" 8M "$i" || return 1
	done
}

# held DESC: the file of actor a, 12 MiB of 5 with 3 MiB of 6 at 1M, is pinned by something.
held()
{
	fails "$1: it cannot be moved out by hand" move evict "$f"
	ok "$1: others write three times the device" flood
	is "$1: nothing of it has left" "$(swapped "$f")" 0
	fails "$1: still not by hand" move evict "$f"
	ok "$1: the others are right" flood_is_right
	rm -f "$MNT"/flood*
}

swap_mount mem:64M 512M map=direct
f=$MNT/file
if [ "$(spm_stat swap_bytes)" -eq 0 ]; then
	fail "swap is on"
	exit 1
fi
if [[ $(spm_feature passthrough) == off* ]]; then
	skip_all "no direct mappings here"
fi

# Coming back at open.
put "$f" 12M 5
ok "a file is out" evict "$f"
actor a
says "it is opened directly" a ok open f rw "$f"
is "all of it is here" "$(swapped "$f") $(file_mode "$f")" "0 direct"
says "mapped" a ok map m f rw shared 0 12M
says "it is right" a ok mverify m 0 12M 5
held "open and mapped"
says "open and mapped: the mapping is right" a ok mverify m 0 12M 5
says "it can be written" a ok mfill m 1M 3M 6
tell a close f
held "mapped only"
says "mapped only: what was written" a ok mverify m 1M 3M 6
says "mapped only: and what was not" a ok mverify m 4M 8M 5
actor_fork a
held "mapped by a child"
says "mapped by a child: the mapping is right" a ok mverify m 1M 3M 6
kill -KILL "$(spm_server_pid)"
held "after the worker's death"
says "after the worker's death: the mapping is right" a ok mverify m 1M 3M 6
says "after the worker's death: all of it" a ok mverify m 4M 8M 5
tell a mfill m 0 12M 8
tell a unmap m
ok "unmapped, it goes by hand" evict "$f"
is "all of it" "$(resident "$f")" 0
ok "what was written last is right" check "$f" 12M 8

load "$f"
ok "others write three times the device" flood
ok "unmapped, it goes by itself" is_out "$f"
ok "and is right" check "$f" 12M 8
rm -f "$MNT"/flood*

for how in "r shared" "r private" "rw private"; do
	evict "$f"
	tell a open f "${how% *}" "$f"
	says "mapped $how" a ok map m f "${how% *}" "${how#* }" 0 12M
	tell a close f
	held "mapped $how"
	says "mapped $how: it is right" a ok mverify m 0 12M 8
	tell a unmap m
done
tell a open f r "$f"
held "open for reading, not mapped"
says "open for reading: it is right" a ok verify f 0 12M 8
tell a close f
tell a open f path "$f"
ok "a descriptor of the name alone holds nothing" evict "$f"
tell a close f

# What was mapped and has no name.
load "$f"
tell a open f rw "$f"
tell a map m f rw shared 0 12M
tell a close f
rm "$f"
ok "a mapping without a name: others write" flood
says "a mapping without a name is right" a ok mverify m 0 12M 8
tell a unmap m
rm -f "$MNT"/flood*

# Too large to be direct.
mkdir "$MNT/big"
set_map mirror "$MNT/big"
ok "a mirror may be larger than the device" put "$MNT/big/file" 100M 9
wait_until 5 eval '[ "$(file_mode "$MNT/big/file")" = idle ]'
set_map direct "$MNT/big"
says "it cannot be opened directly for writing" a "err ENOSPC" open f rw "$MNT/big/file"
says "nor for reading" a "err ENOSPC" open f r "$MNT/big/file"
is "it is none the worse" "$(file_mode "$MNT/big/file")" idle
set_map auto "$MNT/big"
says "auto makes it a mirror" a ok open f rw "$MNT/big/file"
is "as can be seen" "$(file_mode "$MNT/big/file")" mirror
says "whole" a ok verify f 0 100M 9
tell a close f
set_map mirror "$MNT/big"
ok "and so does mirror" check "$MNT/big/file" 100M 9
rm -r "$MNT/big"

# Two that fit alone and not together.
put "$MNT/one" 40M 1
put "$MNT/two" 40M 2
says "one is opened directly" a ok open one rw "$MNT/one"
says "there is no room for another" a "err ENOSPC" open two rw "$MNT/two"
tell a close one
says "now there is" a ok open two rw "$MNT/two"
says "it is right" a ok verify two 0 40M 2
tell a close two
ok "so is the first" check "$MNT/one" 40M 1

rm "$MNT"/*

# Memory for holes is waited for, though blocks behind the end of the file hide them.
ok "others write three times the device" flood
truncate -s 16M "$MNT/holes"
fallocate -n -o 16M -l 24M "$MNT/holes"
fallocate -p -o 0 -l 16M "$MNT/holes"
ok "others write again" flood
says "a file with a large hole is opened directly" a ok open f rw "$MNT/holes"
tell a map m f rw shared 0 16M
says "there is memory for the hole" a ok mfill m 0 16M 1
tell a unmap m
tell a close f

actor_end a
swap_leaves_nothing "in the end"
spm_done
