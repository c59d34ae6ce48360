#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Law 4: what was freed, on the device or in a swap file, never shows in another file; and nobody but root reads swap files
# or the worker.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

secret()
{
	yes "SECRET-OF-A-$1" | head -c "$2" >"$MNT/$1"
}

shows()
{
	LC_ALL=C grep -a -c -F "SECRET-OF-A-" -- "$@" | sed 's/.*://' | paste -sd+ | bc
}

raw()
{
	local f
	f=$(find "$SWAP" -type f)
	printf '%s\n' "${f:-/nonexistent}"
}

# Files that get by all ways there are what was freed: only their own bytes and zeros may be in them.
heirs()
{
	local what=$1 i f
	for i in 1 2 3 4 5 6; do
		f=$MNT/heir$i
		truncate -s 8M "$f"
		tell a open f rw "$f"
		case $i in
		1) tell a falloc f plain 0 8M ;;
		2) for o in 0 2500000 5000000 8388600; do tell a write f $o mine; done ;;
		3) tell a falloc f keep 0 16M && tell a trunc f 5000001 && tell a trunc f 12M ;;
		4) tell a fill f 100 4000000 4 && tell a falloc f punch 4096 3000000 ;;
		5) tell a map m f rw shared 0 8M && tell a put m 4000000 mine && tell a unmap m ;;
		esac
		tell a close f
	done
	is "$what: nothing of others shows" "$(shows "$MNT"/heir*)" 0
	ok "$what: the files go out" evict "$MNT"/heir*
	is "$what: nor from there" "$(shows "$MNT"/heir*)" 0
	ok "$what: and come back" load "$MNT"/heir*
	is "$what: nor then" "$(shows "$MNT"/heir*)" 0
	ok "$what: out again" evict "$MNT"/heir*
	truncate -s 100001 "$MNT"/heir2
	truncate -s 9M "$MNT"/heir2
	echo 3 >/proc/sys/vm/drop_caches
	is "$what: nor behind what was cut off" "$(shows "$MNT"/heir*)" 0
	rm "$MNT"/heir*
}

old_owners()
{
	local i
	for i in 1 2 3 4 5 6 7 8; do
		secret "old$i" 6M
	done
	sync "$MNT"
}

actor a
for opts in map=mirror map=auto map=mirror,extent=64K; do
	swap_mount mem:64M 96M "$opts"
	old_owners
	rm "$MNT"/old*
	heirs "$opts: memory of removed files"
	old_owners
	evict "$MNT"/old*
	ok "$opts: their content is in the swap file" [ "$(shows "$(raw)")" -gt 100000 ]
	rm "$MNT"/old*
	ok "$opts: and still when they are gone: this test would see it" [ "$(shows "$(raw)")" -gt 100000 ]
	heirs "$opts: slots of removed files"
	old_owners
	evict "$MNT"/old*
	load "$MNT"/old*
	truncate -s 0 "$MNT"/old*
	heirs "$opts: slots and memory of cut off files"
	rm "$MNT"/old*
	is "$opts: the swap file is still no user's" "$(as "$USER_A" cat "$(raw)" 2>&1 >/dev/null | grep -c denied)" 1
done
actor_end a

# The swap file.
is "mode and owner" "$(stat -c '%a %u %g' "$(raw)")" "600 0 0"
pid=$(spm_server_pid)
fails "a user sees no descriptors of the worker" as "$USER_A" ls "/proc/$pid/fd/"
fails "nor its memory" as "$USER_A" head -c 1 "/proc/$pid/mem"
fails "nor what it maps" as "$USER_A" cat "/proc/$pid/maps"
for c in evict load reclaim compact swap.max; do
	fails "a user cannot write .spm/$c" as "$USER_A" bash -c "echo 1 >'$MNT/.spm/$c'"
done

# A core dump of the worker has nothing of the device: what it maps of that is marked so.
marked()
{
	awk -v dir="$1" '
		/^[0-9a-f]+-[0-9a-f]+ / { mine = $6 ~ /^\/(region|data|orphans|proc)/ || $4 != "00:00" && $2 ~ /s/ && $6 !~ /memfd|extents/; name = $6 }
		/^VmFlags:/ { if (mine) { if (/ dd( |$)/) good++; else { bad++; print "not marked: " name } } }
		END { print good + 0, bad + 0 }' "/proc/$pid/smaps"
}
old_owners
evictor_start 0
seen=0 bad=
for ((i = 0; i < 300; i++)); do
	out=$(marked)
	[ "$(tail -n 1 <<<"$out" | cut -d ' ' -f 1)" -eq 0 ] || seen=$((seen + 1))
	[ "$(tail -n 1 <<<"$out" | cut -d ' ' -f 2)" -eq 0 ] || bad+=$out
	cat "$MNT"/old? >/dev/null
done
evictor_stop
is "what the worker maps of the device is left out of core dumps (seen $seen times)" "${bad:0:300}" ""
spm_done
