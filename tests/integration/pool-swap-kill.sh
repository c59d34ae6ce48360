#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Laws 2 and 3 of swap on a pool: the worker is killed at each step of a move, at those of requests, and at random, and no byte, name or
# attribute is lost; in the end neither slots nor extents are anybody's. Environment: SPM_KILL_SECONDS (10).
set -u
SPM_LIMIT=600
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../pool-swapping.sh
. "$top_srcdir/tests/pool-swapping.sh"
export SPMFS_FAULTS=1

seconds=${SPM_KILL_SECONDS:-$(spm_less 10)}
kills=$((seconds * 4 / (SPM_FACTOR > 1 ? 4 * SPM_FACTOR : 1)))
OUT="swapout:written swapout:recorded swapout:punched swapout:done"
IN="swapin:marked swapin:allocated swapin:read swapin:cleared"

died()
{
	[ "$(spm_feature worker_restarts)" -gt "$before" ]
}

# at POINT DESC CMD...: the worker dies there, and the command succeeds nevertheless.
at()
{
	before=$(spm_feature worker_restarts)
	echo "$1 kill" >"$MNT/.spm/fault"
	ok "$1: $2" "${@:3}"
	ok "$1: $2: the worker died" wait_until 10 died
}

# What the swap's own threads may still be at counts, too: in the end memory and slots are what the file has.
right()
{
	ok "$1: every byte is right" cmp "$f" "$copy"
	ok "$1: and out again" eval 'evict "$f" && is_out "$f"'
	is "$1: its extents are free" "$(spm_stat resident_bytes)" 0
	ok "$1: every byte is still right" cmp "$f" "$copy"
	ok "$1: and back" eval 'load "$f" && is_here "$f"'
	is "$1: its slots are free" "$(spm_stat swapped_bytes)" 0
	ok "$1: every byte is right there" cmp "$f" "$copy"
}

one_by_one()
{
	local p
	for p in $OUT pool:freed; do
		load "$f"
		at "$p" "evict" evict "$f"
		right "$p, evict"
	done
	for p in $IN pool:whose pool:owned; do
		evict "$f"
		at "$p" "load" load "$f"
		right "$p, load"
		evict "$f"
		at "$p" "write of a part" eval 'dd if="$copy" of="$f" bs=1000 skip=2500 seek=2500 count=1 conv=notrunc status=none'
		right "$p, write"
	done
	for p in trim:truncated trim:punched pool:noted pool:trimmed; do
		evict "$f"
		at "$p" "truncate" truncate -s 3000000 "$f"
		is "$p: the size" "$(stat -c %s "$f")" 3000000
		ok "$p: what is left is right" cmp -n 3000000 "$f" "$copy"
		ok "$p: longer" truncate -s 8M "$f"
		ok "$p: zeros behind it" cmp -i 3000000:0 -n 5388608 "$f" /dev/zero
		rm "$f"
		wait_until 10 no_slots
		is "$p: what was cut off is free" "$(spm_stat swap_used_bytes) $(spm_stat resident_bytes)" "0 0"
		cp "$copy" "$f"
	done
	evict "$f"
	at trim:punched "punch" fallocate -p -o 3000000 -l 4M "$f"
	ok "trim:punched: zeros" cmp -i 3000000:0 -n $((4 * MIB)) "$f" /dev/zero
	ok "trim:punched: what is before it is right" cmp -n 3000000 "$f" "$copy"
	ok "trim:punched: and behind it" cmp -i $((3000000 + 4 * MIB)) "$f" "$copy"
	cp "$copy" "$f"
	cp "$copy" "$f.gone"
	evict "$f.gone"
	at trim:gone "unlink" rm "$f.gone"
	wait_until 10 no_slots
	is "trim:gone: its slots are free" "$(spm_stat swap_used_bytes)" 0
	rm "$f"
}

# The pool is full of what cannot leave, so edges are cut in their slots.
cuts()
{
	local p
	for p in cut:written cut:recorded; do
		cp "$copy" "$f"
		evict "$f"
		full_of_what_stays
		at "$p" "punch" fallocate -p -o 3000000 -l 4M "$f"
		ok "$p: zeros" cmp -i 3000000:0 -n $((4 * MIB)) "$f" /dev/zero
		ok "$p: what is before it is right" cmp -n 3000000 "$f" "$copy"
		ok "$p: and behind it" cmp -i $((3000000 + 4 * MIB)) "$f" "$copy"
		at "$p" "truncate" truncate -s 2500000 "$f"
		ok "$p: what is left is right" cmp -n 2500000 "$f" "$copy"
		ok "$p: longer" truncate -s 2600000 "$f"
		ok "$p: zeros behind it" cmp -i 2500000:0 -n 100000 "$f" /dev/zero
		is "$p: it has not come back" "$(resident "$f")" 0
		rm "$MNT/pinned" "$f"
	done
}

steps()
{
	pool_swap_mount 64M 192M "low=0,commit=lazy,$1"
	f=$MNT/f copy=$SPM_TMP/copy
	head -c 8M /dev/urandom >"$copy"
	cp "$copy" "$f"
	one_by_one
	cuts
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

both_mount()
{
	pool_swap_mount "$@"
	ref_mount
}

# A load with its own model of every byte, four times the device.
random()
{
	pool_swap_mount 96M 768M "$2"
	swaprun "$1" -s "$seconds" -b 384M -k "$kills" --kinds mirror
	is "$1: restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(result deaths)"
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

# At the points of moves, under load.
points()
{
	local p least=$((seconds / 4 + 1))
	pool_swap_mount 64M 768M "$2"
	# shellcheck disable=SC2086
	swaprun "$1" -s $((seconds + 5)) -b 256M --kinds mirror \
		--points "swapout:written swapout:recorded swapout:punched swapin:marked swapin:allocated swapin:read swapin:cleared"
	for p in $OUT $IN; do
		[ "$p" = swapout:done ] || diag "$p: $(hits "$p")"
	done
	ok "$1: there were deaths ($(result deaths))" [ "$(result deaths)" -ge "$least" ]
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

# All requests there are, beside a tmpfs, while everything always leaves.
requests()
{
	both_mount 64M 1G "$2,low=30,high=50"
	evictor_start
	killed "$1" -s "$seconds" -k "$kills"
	evictor_stop
	is "$1: restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(figure deaths)"
	ok "$1: there was swapping ($(spm_stat swapout_bytes))" [ "$(spm_stat swapout_bytes)" -gt 0 ]
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

deaths()
{
	both_mount 64M 256M "$2"
	evictor_start 0.01
	faults -q "$1" "${@:3}"
	evictor_stop
	swap_leaves_nothing "$1"
}

steps extent=2M
steps extent=64K
random "worker killed" commit=lazy
random "worker killed, small extents" extent=64K,cold=1,low=20,high=40
points "killed at the steps of moves" commit=lazy,extent=64K
requests "worker killed under requests" commit=lazy,extent=64K
deaths "deaths of requests" commit=lazy,extent=64K -k mirror
spm_done
