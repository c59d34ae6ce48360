#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A direct mapping is the region's own pages: the same physical frames, huge ones where tmpfs has them, no
# copy in the page cache, and one content for everybody who maps, reads or writes.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# Where root sees a file of the mount behind the server: in one of the tmpfs that its mount namespace has.
region_path()
{
	local pid=$1 name=$2 dir found
	while read -r _ _ _ _ dir _; do
		found=$(find "/proc/$pid/root$dir" -xdev -name "$name" -type f 2>/dev/null | head -n 1)
		[ -z "$found" ] || printf '%s\n' "$found"
	done < <(grep ' - tmpfs ' "/proc/$pid/mountinfo")
}

spm_need_mount mem:256M map=direct
actor a
actor b
says "a file" a ok open f rw,creat "$MNT/f"
says "of 64 MiB" a ok trunc f 64M
says "mapped" a ok map m f rw shared 0 64M
says "and filled through the mapping" a ok mfill m 0 64M 11
is "the server calls it direct" "$(file_mode "$MNT/f")" direct
is "its pages are a tmpfs's" "$(ask a kind m 0) $(ask a kind m 40M)" "shmem shmem"
is "nothing of it is in the page cache of the mount" "$(ask a cached f)" 0
huge=$(ask a smaps m ShmemPmdMapped)
is "all of it is mapped huge" "$huge" 65536
is "the status says the same" "$(spm_file huge_bytes "$MNT/f")" 67108864
is "and that it is all there" "$(spm_file resident_bytes "$MNT/f")" 67108864

says "another process opens it for reading" b ok open f r "$MNT/f"
says "and maps it" b ok map m f r shared 0 64M
is "the same frame" "$(ask b pfn m 8M)" "$(ask a pfn m 8M)"
says "the same bytes by mapping" b ok mverify m 0 64M 11
says "the same bytes by read()" b ok verify f 0 64M 11
is "after 64 MiB of read(): still nothing in the page cache" "$(ask b cached f)" 0

pid=$(spm_server_pid)
path=$(region_path "$pid" f)
like "root finds the file behind the server" "$path" '/f$'
actor region
says "opens it there" region ok open f r "$path"
says "maps it there" region ok map m f r shared 0 64M
is "and that is the same frame" "$(ask region pfn m 8M)" "$(ask a pfn m 8M)"
actor_end region

# One content, whichever way it came in.
says "A writes by mapping" a ok put m 12345 by-mapping
says "B reads it" b "ok by-mapping" read f 12345 10
says "A writes by write()" a "ok 8" write f 12345 by-write
says "B's mapping shows it" b "ok by-write" get m 12345 8
says "A opens again, with O_DIRECT" a ok open d rw,direct "$MNT/f"
says "fill writes through it" a "ok 1048576" fill d 1M 1M 12
says "B's mapping shows that" b ok mverify m 1M 1M 12
says "A appends" a ok open ap w,append "$MNT/f"
says "6 bytes" a "ok 6" append ap append
is "B sees the new size" "$(ask b stat f | tr ' ' '\n' | grep size)" size=67108870
says "and the bytes" b "ok append" read f 64M 6
says "A truncates" a ok trunc f 32M
says "B's mapping ends there, as for any file" b "err EIO" get m 33M 1
says "the first half is whole" b ok mverify m 2M 30M 11
says "A punches a hole" a ok falloc f punch 4M 2M
is "B's mapping shows zeros there" "$(ask b get m 4M 1)" "ok"
says "and so does read()" b "ok" read f 4M 1
copy=$SPM_TMP/copy
cp "$MNT/f" "$copy"
ok "cp reads what is mapped" cmp "$MNT/f" "$copy"
ok "cp back" cp "$copy" "$MNT/g"
ok "copy_file_range or whatever cp used gave the same" cmp "$MNT/g" "$MNT/f"
rm "$copy"
actor_end a b

# The same for a served open: only read and write come to the server.
spm_fresh mem:256M map=direct,size=128M
actor a
actor b
tell a open f rw,creat "$MNT/f"
tell a trunc f 16M
says "served: mapped" a ok map m f rw shared 0 16M
says "served: filled by mapping" a ok mfill m 0 16M 13
is "served: its pages are a tmpfs's" "$(ask a kind m 0)" shmem
says "served: read() gives the same" a ok verify f 0 16M 13
says "served: written by write()" a "ok 4194304" fill f 4M 4M 14
says "served: the mapping shows it" a ok mverify m 4M 4M 14
is "served: nothing in the page cache" "$(ask a cached f)" 0
is "served: mapped huge" "$(ask a smaps m ShmemPmdMapped)" 16384
tell b open f r "$MNT/f"
says "served: a plain reader beside it" b ok verify f 4M 4M 14
says "served: mapped by it" b ok map m f r shared 0 16M
is "served: the same frame" "$(ask b pfn m 5M)" "$(ask a pfn m 5M)"
actor_end a b

# A mirror is what it says: page cache in ordinary memory, coherent for all on this machine.
spm_fresh mem:256M map=mirror
actor a
actor b
tell a open f rw,creat "$MNT/f"
says "mirror: written" a "ok 8388608" fill f 0 8M 15
says "mirror: mapped" a ok map m f rw shared 0 8M
says "mirror: the mapping shows what was written" a ok mverify m 0 8M 15
is "mirror: the server calls it so" "$(file_mode "$MNT/f")" mirror
is "mirror: its pages are page cache" "$(ask a kind m 0)" file
ok "mirror: which counts them" test "$(ask a cached f)" -gt 0
says "mirror: written by mapping" a ok mfill m 2M 1M 16
tell b open f r "$MNT/f"
says "mirror: read() by another sees it" b ok verify f 2M 1M 16
tell b map m f r shared 0 8M
says "mirror: so does its mapping" b ok mverify m 2M 1M 16
says "mirror: msync" a ok msync m
actor_end a b
echo 1 >/proc/sys/vm/drop_caches
actor a
tell a open f r "$MNT/f"
says "mirror: the device has it after the cache is dropped" a ok verify f 2M 1M 16
says "mirror: and the rest" a ok verify f 3M 5M 15
actor_end a

spm_done
