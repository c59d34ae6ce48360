#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Holes of files that are mapped directly: the kernel fills them out of the slice's grant, so nobody else gets that memory meanwhile,
# neither other slices nor the slice's own writers as long as there is more. What cannot be promised is no direct mapping.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

# sparse FILE SIZE: a file that is one hole
sparse()
{
	# the memory of what was removed is back a moment later
	wait_until 10 "$SPMT" run "open f rw,creat $1" "trunc f $2" "falloc f punch 0 $2" "close f"
	[ "$(stat -c '%s %b' "$1")" = "$(numfmt --from=iec "$2") 0" ] || fail "$1 is a hole" "$(stat "$1")"
}

# take FILE: how many MiB another tenant can have
take()
{
	head -c 100M /dev/zero 2>/dev/null >>"$1"
	echo $(($(du -k "$1" | cut -f 1) / 1024))
}

takes()
{
	[ "$(take "$1")" -ge "$2" ]
}

# grabs WHAT MIB: b takes what it can, which leaves so much
grabs()
{
	local got
	got=$(take "$MNT/b/grab")
	ok "$1: b takes the rest ($got MiB), and leaves $2" test "$got" -le $((64 - $2))
	ok "$1: and nothing else" test "$got" -ge $((64 - $2 - 3))
	account "$1"
}

all_free()
{
	[ "$(($(slice_of a current) + $(slice_of b current)))" -lt "$MIB" ]
}

# gives WHAT: when nobody maps it any more, b can have that as well
gives()
{
	ok "$1: when nobody maps it any more b can have it" wait_until 10 takes "$MNT/b/grab" "$2"
	account "$1: at the end"
	rm -f "$MNT"/b/* "$MNT"/a/*
	# with commit=lazy the next one takes what there is
	ok "$1: everything is given back" wait_until 10 all_free
}

reading()
{
	sparse "$MNT/a/f" 8M
	tell c open f r "$MNT/a/f"
	says "$1: mapped for reading" c ok map m f r shared 0 8M
	is "$1: directly" "$(file_mode "$MNT/a/f")" direct
	tell c close f
	grabs "$1" 8
	says "$1: each page can be read" c ok look m 0 8M
	tell c unmap m
	gives "$1" 55
}

# Also where the server that promised it is dead.
worker_dies()
{
	local pid
	sparse "$MNT/a/f" 8M
	tell c open f r "$MNT/a/f"
	tell c map m f r shared 0 8M
	tell c close f
	pid=$(spm_server_pid)
	kill -KILL "$pid"
	ok "$1: another worker serves" wait_until 20 eval '[ "$(spm_server_pid)" != '"$pid"' ]'
	grabs "$1" 8
	says "$1: each page can be read" c ok look m 0 8M
	tell c unmap m
	gives "$1" 55
}

# What its own writers do asks for more before the holes have none.
own_writers()
{
	sparse "$MNT/a/f" 8M
	tell c open f r "$MNT/a/f"
	tell c map m f r shared 0 8M
	ok "$1: the slice itself writes" put "$MNT/a/g" 24M 1
	says "$1: each page can be read" c ok look m 0 8M
	ok "$1: what was written is there" check "$MNT/a/g" 24M 1
	tell c unmap m
	tell c close f
	rm "$MNT/a/g" "$MNT/a/f"
}

# As holes are filled they are counted once.
filled()
{
	sparse "$MNT/a/f" 8M
	tell c open f r "$MNT/a/f"
	tell c map m f r shared 0 8M
	says "$1: half of it is read" c ok look m 0 4M
	grabs "$1" 8
	says "$1: and the other half" c ok look m 4M 4M
	tell c unmap m
	tell c close f
	rm "$MNT/b/grab" "$MNT/a/f"
}

refused_holes()
{
	sparse "$MNT/a/f" 8M
	ok "$1: b takes it first" wait_until 10 takes "$MNT/b/grab" 60
	tell c open f r "$MNT/a/f"
	says "$1: what cannot be promised is mapped" c ok map m f r shared 0 8M
	is "$1: as a mirror" "$(file_mode "$MNT/a/f")" mirror
	says "$1: each page can be read" c ok look m 0 8M
	tell c unmap m
	tell c close f
	"$SPMT" setxattr "$MNT/a/f" user.spm.map direct
	wait_until 10 eval '[ "$(file_mode "$MNT/a/f")" = idle ]'
	says "$1: with map=direct it cannot be opened" c "err ENOSPC" open f r "$MNT/a/f"
	rm "$MNT/b/grab"
	ok "$1: until there is memory" wait_until 10 tell c open f r "$MNT/a/f"
	is "$1: directly" "$(file_mode "$MNT/a/f")" direct
	tell c close f
	rm "$MNT/a/f"
}

# A write far behind the end, by somebody who has it mapped.
gap()
{
	tell c open f rw,creat "$MNT/a/f"
	says "$1: a byte at 8 MiB" c "ok 1" write f 8M x
	says "$1: mapped" c ok map m f rw shared 0 8M
	is "$1: directly" "$(file_mode "$MNT/a/f")" direct
	grabs "$1" 8
	says "$1: each page can be written" c ok touch m 0 8M
	tell c unmap m
	tell c close f
	gives "$1" 55
}

many()
{
	local i
	for ((i = 0; i < 300; i++)); do
		truncate -s 16K "$MNT/a/$i"
		fallocate -p -o 0 -l 16K "$MNT/a/$i"
	done
	is "$1: 300 files of holes" "$(du -k "$MNT/a" | cut -f 1)" 0
	python3 -c 'import mmap, os, sys
maps = []
for i in range(300):
    fd = os.open("%s/a/%d" % (sys.argv[1], i), os.O_RDONLY)
    maps.append(mmap.mmap(fd, 16384, mmap.MAP_SHARED, mmap.PROT_READ))
    os.close(fd)
print("mapped", flush=True)
sys.stdin.readline()
print(sum(m[at] for m in maps for at in range(0, 16384, 4096)), flush=True)
sys.stdin.readline()' "$MNT" <"$SPM_TMP/in" >"$SPM_TMP/many.out" &
	exec 9>"$SPM_TMP/in"
	ok "$1: all are mapped" wait_until 20 grep -q mapped "$SPM_TMP/many.out"
	grabs "$1" 4
	echo >&9
	ok "$1: each page of all can be read" wait_until 20 grep -qx 0 "$SPM_TMP/many.out"
	exec 9>&-
	wait $!
	gives "$1" 58
}

# commit=lazy: whoever maps a file for writing, and makes it longer
lazy()
{
	tell c open f rw,creat "$MNT/a/f"
	tell c trunc f 8M
	says "$1: mapped for writing, with more than there is of it" c ok map m f rw shared 0 16M
	says "$1: longer" c ok trunc f 16M
	grabs "$1" 16
	says "$1: each page can be written" c ok touch m 0 16M
	says "$1: and is there" c ok mfill m 0 16M 7
	says "$1: shorter" c ok trunc f 4M
	ok "$1: what it has lost b can have" wait_until 10 takes "$MNT/b/grab" 59
	says "$1: the rest is there" c ok mverify m 0 4M 7
	tell c unmap m
	tell c close f
	gives "$1" 58
}

# Files of the root slice, from before there was any other.
first_slice()
{
	sparse "$MNT/f" 8M
	tell c open f r "$MNT/f"
	says "$1: mapped for reading" c ok map m f r shared 0 8M
	made a max=32M
	made b
	grabs "$1" 8
	says "$1: each page can be read" c ok look m 0 8M
	tell c unmap m
	tell c close f
	rm "$MNT/f"
	gives "$1" 60
}

mkfifo "$SPM_TMP/in"
actor c
spm_need_mount mem:64M
[ "$(spm_feature passthrough)" = on ] || skip_all "no passthrough: $(spm_feature passthrough)"
first_slice "the first slice"
reading "reading"
worker_dies "a worker dies"
own_writers "own writers"
filled "half filled"
refused_holes "no memory"
gap "a gap"
many "many files"
spm_fresh mem:64M commit=lazy
made a max=32M
made b
lazy "lazy"
reading "lazy, reading"
swap_mount mem:64M 128M
made a max=32M
made b swap.max=0
reading "swap"
own_writers "swap, own writers"
refused_holes "swap, no memory"
spm_done
