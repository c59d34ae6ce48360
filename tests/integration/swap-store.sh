#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A page of a cold extent is written into the slot that it is in: the extent stays out, the file is what it should be, and what is
# used again and again comes back.
set -u
SPM_LIMIT=300
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../pool-swapping.sh
. "$top_srcdir/tests/pool-swapping.sh"
export SPMFS_FAULTS=1

fault()
{
	printf '%s\n' "$*" >"$MNT/.spm/fault"
}

# store PAGE [PAGES]: other bytes there, in the file and in the copy
store()
{
	dd if="$other" of="$f" bs=4k seek="$1" skip="$1" count="${2:-1}" conv=notrunc oflag=direct status=none || return 1
	dd if="$other" of="$copy" bs=4k seek="$1" skip="$1" count="${2:-1}" conv=notrunc status=none
}

# A new file has the number of an old one, whose stores are remembered for some seconds.
settle()
{
	sleep 6
}

large()
{
	dd if="$other" of="$f" bs=64k count=1 conv=notrunc oflag=direct status=none || return 1
	dd if="$other" of="$copy" bs=64k count=1 conv=notrunc status=none
}

stored()
{
	spm_stat swap_stored_bytes
}

# What is read of the slots, past the client's cache.
same()
{
	dd if="$f" bs=64k iflag=direct status=none | cmp - "$copy"
}

# In a file of its own: what was used a moment ago comes back sooner.
fresh()
{
	rm -f "$f"
	f=$MNT/file$((files += 1))
	cp "$1" "$f"
	cp "$1" "$copy"
	evict "$f"
}

basics()
{
	local before pages
	"$SPMT" setxattr "$MNT" user.spm.map mirror
	fresh "$image"
	before=$(stored)
	for pages in 0 511 512 1000 2047; do
		ok "$1: a store at page $pages" store "$pages"
	done
	ok "$1: one of four pages" store 1500 4
	is "$1: they are counted" $(($(stored) - before)) $((9 * 4096))
	is "$1: nothing of the file has come back" "$(swapped "$f") $(resident "$f")" "$((8 * MIB)) 0"
	ok "$1: every byte is right" same
	kill -KILL "$(spm_server_pid)"
	ok "$1: also for the next worker" same
	ok "$1: and when it is back" load "$f"
	ok "$1: it is right" cmp "$f" "$copy"
	evict "$f"

	touch -d '2001-02-03 04:05:06.7' "$f"
	before=$(stat -c '%X' "$f")
	ok "$1: a store" store 3
	ok "$1: has changed mtime" [ $(($(date +%s) - $(stat --cached=never -c %Y "$f"))) -le 60 ]
	ok "$1: and ctime" [ $(($(date +%s) - $(stat --cached=never -c %Z "$f"))) -le 60 ]
	is "$1: and not atime" "$(stat --cached=never -c %X "$f")" "$before"
	before=$(stat --cached=never -c '%y %z' "$f")
	load "$f"
	is "$1: which coming back does not change" "$(stat --cached=never -c '%y %z' "$f")" "$before"

	chmod 6777 "$f"
	evict "$f"
	ok "$1: another user's store" as "$USER_B" dd if=/dev/zero of="$f" bs=4k seek=900 count=1 conv=notrunc oflag=direct status=none
	is "$1: takes suid and sgid away" "$(stat --cached=never -c %a "$f")" 777
	chmod 644 "$f"
}

coming_back()
{
	local i
	fresh "$image"
	for i in $(seq 1 90); do
		store $((i * 7 % 512)) || fail "$1: store $i"
	done
	is "$1: what is written again and again comes back, and no more" "$(resident "$f")" $((2 * MIB))
	ok "$1: it is right" same
	fresh "$image"
	for i in $(seq 0 40); do
		store "$i" || fail "$1: page $i"
	done
	is "$1: what is written page after page comes back" "$(resident "$f")" $((2 * MIB))
	ok "$1: it is right" same
	fresh "$image"
	ok "$1: a large write brings it back" large
	is "$1: that extent" "$(resident "$f")" $((2 * MIB))
	ok "$1: it is right" same
	fresh "$image"
	ok "$1: a part of a page brings it back" eval 'printf xyz | tee >(dd of="$copy" bs=1 seek=5000 conv=notrunc status=none) | dd of="$f" bs=1 seek=5000 conv=notrunc status=none'
	is "$1: that extent" "$(resident "$f")" $((2 * MIB))
	fresh "$image"
	ok "$1: behind the end it makes the file longer" eval 'dd if="$other" of="$f" bs=4k seek=2048 count=1 conv=notrunc oflag=direct status=none'
	is "$1: by that" "$(stat -c %s "$f")" $((8 * MIB + 4096))
	ok "$1: and the rest is right" cmp -n $((8 * MIB)) "$f" "$copy"
	fresh "$image"
	ok "$1: after a store it may be cut" eval 'store 600 && truncate -s 3000000 "$f" "$copy"'
	ok "$1: punched" eval 'store 100 && fallocate -p -o 500000 -l 1000000 "$f" && fallocate -p -o 500000 -l 1000000 "$copy"'
	ok "$1: it is right" same
}

sparse()
{
	swap_mount mem:64M 256M map=mirror,huge=never
	fresh /dev/null 2>/dev/null
	truncate -s 2M "$f" "$copy"
	for i in 10 11 200 400; do
		store "$i"
	done
	for i in $(seq 20 2 100); do
		store "$i"
	done
	evict "$f"
	is "sparse: only what was written is in the slot" "$(swapped "$f")" $((45 * 4096))
	ok "sparse: a page that is there" store 200
	ok "sparse: the last" store 400
	is "sparse: the extent is still out" "$(resident "$f")" 0
	ok "sparse: it is right" same
	ok "sparse: one that is not" store 201
	ok "sparse: the extent is back" [ "$(resident "$f")" -gt 0 ]
	ok "sparse: it is right" same
}

# Many at once, in one extent and in several, while it leaves and comes back.
together()
{
	local i j pids=()
	fresh "$image"
	evictor_start 0.05
	for i in $(seq 0 7); do
		for j in $(seq 0 39); do
			dd if="$other" of="$f" bs=4k seek=$((j * 50 + i)) skip=$((j * 50 + i)) count=1 conv=notrunc oflag=direct status=none
		done &
		pids+=($!)
		for j in $(seq 0 39); do
			dd if="$other" of="$copy" bs=4k seek=$((j * 50 + i)) skip=$((j * 50 + i)) count=1 conv=notrunc status=none
		done
	done
	wait "${pids[@]}"
	evictor_stop
	ok "$1: eight at once: every byte is right" same
	evict "$f"
	ok "$1: also in the slots" same
}

failing()
{
	settle
	fresh "$image"
	fault "swapio:write eio"
	ok "the page cannot be written: the extent comes back for it" store 700
	is "it has" "$(resident "$f")" $((2 * MIB))
	ok "every byte is right" same
	is "the error is counted" "$(spm_stat swap_write_errors)" 1
	spm_umount_all
	swap_mount mem:64M 256M
	"$SPMT" setxattr "$MNT" user.spm.map mirror
	fresh "$image"
	fault "swapio:write eio 2"
	ok "the trailer cannot be written: the extent comes back for it" store 700
	ok "every byte is right" same
	is "no extent is damaged" "$(spm_stat swap_errors)" 0
	ok "after that stores go by way of memory" eval 'evict "$MNT/none" 2>/dev/null; store 1200'
	ok "every byte is right after that" same
}

f=/nonexistent files=0
image=$SPM_TMP/image other=$SPM_TMP/other copy=$SPM_TMP/copy
head -c 8M /dev/urandom >"$image"
head -c 8M /dev/urandom >"$other"

swap_mount mem:64M 256M
basics tmpfs
coming_back tmpfs
together tmpfs
failing
swap_leaves_nothing "tmpfs"
sparse
swap_leaves_nothing "sparse"

pool_swap_mount 64M 256M
basics pool
coming_back pool
together pool
swap_leaves_nothing "pool"
spm_done
