#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dir:PATH on persistent memory: xfs and ext4 with -o dax. What clients map is the device itself.
# shellcheck disable=SC2016 # eval's
set -u
SPM_LIMIT=600
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

dev=$(find /dev -maxdepth 1 -name 'pmem*[0-9]' | sort | tail -n 1)
[ -n "$dev" ] || skip_all "no pmem device in block mode here (ndctl create-namespace -m fsdax)"
grep -q 'Persistent Memory' /proc/iomem || skip_all "/proc/iomem names no persistent memory"
back=$SPM_TMP/back
dir=$back/s
mkdir "$back"

make_fs()
{
	case $1 in
	xfs) mkfs.xfs -q -f -m reflink=0 -d su=2m,sw=1,agcount=2 -l size=64m "$dev" ;;
	ext4) mkfs.ext4 -q -F -b 4096 -E stride=512,stripe_width=512 "$dev" ;;
	esac
}

# Whether a physical address is that of persistent memory.
is_pmem()
{
	local range from to
	while IFS= read -r range; do
		from=$((16#${range%-*})) to=$((16#${range#*-}))
		[ "$1" -lt "$from" ] || [ "$1" -gt "$to" ] || return 0
	done < <(sed -nE 's/^ *([0-9a-f]+-[0-9a-f]+) : Persistent Memory.*/\1/p' /proc/iomem)
	return 1
}

# What /proc says of the first mapping of a file.
vm_flags()
{
	awk -v name="$2" 'index($0, name) { seen = 1 } seen && /^VmFlags:/ { print; exit }' "/proc/$1/smaps"
}

page_cache_kb()
{
	awk '/^Cached:/ { print $2 }' /proc/meminfo
}

not_dax()
{
	ok "$1: mounted without DAX" mount -o "$2" "$dev" "$back"
	mkdir -p "$dir"
	out=$("$SPMFS" "dir:$dir" "$SPM_TMP/mnt" 2>&1)
	like "$1: is refused with the reason" "$out" "DAX.*-o dax.*-o force"
	umount "$back"
}

direct()
{
	local before after flags
	before=$(page_cache_kb)
	fallocate -l 128M "$MNT/big"
	actor a
	actor b
	tell a open f rw "$MNT/big"
	tell a map m f rw shared 0 128M
	says "$1: all of a file is written through a mapping" a ok mfill m 0 128M 7
	after=$(page_cache_kb)
	ok "$1: the page cache does not grow by it ($before, $after KiB)" [ $((after - before)) -lt 40000 ]
	ok "$1: its first page is persistent memory" is_pmem "$(ask a frame m 0)"
	ok "$1: its last page as well" is_pmem "$(ask a frame m 134213632)"
	tell b open f rw "$dir/data/big"
	tell b map m f rw shared 0 128M
	says "$1: the bare file has what was written" b ok mverify m 0 128M 7
	is "$1: in the same page" "$(ask a frame m 65536)" "$(ask b frame m 65536)"
	flags=$(vm_flags "${ACTOR_PID[b]}" /data/big)
	like "$1: a mapping of the bare file has huge pages, as only DAX has" "$flags" " hg"
	is "$1: and so has that through the mount" "$(vm_flags "${ACTOR_PID[a]}" big)" "$flags"
	says "$1: MAP_SYNC on the bare file" b ok map s f rw sync 0 1M
	says "$1: MAP_SYNC through the mount is refused" a "err EOPNOTSUPP" map s f rw sync 0 1M
	says "$1: msync" a ok msync m
	is "$1: it is direct" "$(file_mode "$MNT/big")" direct
	actor_end b
	tell a close f
	is "$1: as long as it is mapped" "$(file_mode "$MNT/big")" direct
	ok "$1: a hole" fallocate -p -o 2M -l 2M "$MNT/big"
	says "$1: reads as zeros in the mapping" a ok get m 2M 4
	actor_end a
	is "$1: and then not in use" "$(file_mode "$MNT/big")" idle
}

# io_uring and O_DIRECT into the device's memory need a page that can be held for as long as a transfer takes.
others()
{
	head -c 8M /dev/urandom >"$SPM_TMP/random"
	ok "$1: written by plain calls" dd if="$SPM_TMP/random" of="$MNT/plain" bs=1M conv=fsync status=none
	ok "$1: and read" cmp "$SPM_TMP/random" "$MNT/plain"
	ok "$1: copied" cp --reflink=never "$MNT/plain" "$MNT/copy"
	mkdir "$MNT/mirror"
	"$SPMT" setxattr "$MNT/mirror" user.spm.map mirror
	ok "$1: a mirror" cp "$MNT/plain" "$MNT/mirror/file"
	ok "$1: has the same bytes" cmp "$dir/data/mirror/file" "$MNT/plain"
	is "$1: isolation" "$(spm_feature isolation)" hard
	is "$1: dax" "$(spm_feature dax)" on
}

# Whose page is in a pipe keeps it there for as long as he likes; what takes it away from the file gives up. The file stays
# mapped: without a mapping the kernel does not look for such pages at all.
piped()
{
	actor a
	echo other >"$MNT/other"
	tell a open f rw,creat "$MNT/piped"
	tell a write f 0 what-was-written
	tell a trunc f 8K
	tell a map m f rw shared 0 8K
	tell a get m 0 16
	says "$1: a page of a file goes into a pipe" a ok pipe m 0 p
	says "$1: a hole is refused after a while" a "err EBUSY" falloc f punch 0 4K
	says "$1: and so is less of the file" a "err EBUSY" trunc f 0
	# both filesystems look at the whole file before they take a part of it away
	says "$1: and also a hole beside it" a "err EBUSY" falloc f punch 4K 4K
	is "$1: other files are served" "$(cat "$MNT/other")" other
	like "$1: it has its size, and what was in it" "$(stat -c %s "$MNT/piped") $(head -c 16 "$MNT/piped")" "8192 what-was-written"
	tell a close p
	says "$1: with the pipe empty it goes" a ok falloc f punch 0 4K
	says "$1: and this" a ok trunc f 0
	actor_end a
}

outlives()
{
	local dead=$MNT
	actor a
	tell a open f rw "$MNT/big"
	tell a map m f rw shared 0 1M
	spm_kill_servers
	wait "${SPM_MOUNTS[$dead]}" 2>/dev/null
	says "$1: a mapping outlives the servers" a ok put m 0 during
	umount -l "$dead"
	unset "SPM_MOUNTS[$dead]"
	spm_need_mount "dir:$dir" name=next
	is "$1: what was written meanwhile is there" "$(head -c 6 "$MNT/big")" during
	is "$1: it is still in use" "$(file_mode "$MNT/big")" direct
	actor_end a
	is "$1: and then not" "$(file_mode "$MNT/big")" idle
	ok "$1: umount" spm_umount
	ok "$1: nothing holds the filesystem" wait_until 20 umount "$back"
	ok "$1: it is mounted again, as after a reboot" mount -o dax "$dev" "$back"
	spm_need_mount "dir:$dir"
	is "$1: what was mapped is there" "$(head -c 6 "$MNT/big")" during
	ok "$1: and the rest" cmp "$SPM_TMP/random" "$MNT/plain"
	ok "$1: the end" eval 'spm_umount && wait_until 20 umount "$back"'
}

mkdir "$SPM_TMP/mnt"
for kind in xfs ext4; do
	ok "$kind on $dev" make_fs "$kind" || continue
	not_dax "$kind" dax=never
	ok "$kind: mounted with DAX" mount -o dax "$dev" "$back" || continue
	spm_need_mount "dir:$dir"
	direct "$kind"
	others "$kind"
	piped "$kind"
	outlives "$kind"
done
spm_done
