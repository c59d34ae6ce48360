#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Laws 2 and 3: the worker dies at each step of each move, with and without requests in flight, and every byte is right.
set -u
SPM_LIMIT=480
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
export SPMFS_FAULTS=1

OUT="swapout:written swapout:recorded swapout:punched swapout:done"
IN="swapin:marked swapin:allocated swapin:read swapin:cleared"
COMPACT="compact:copied compact:moved"
TRIM="trim:truncated trim:punched trim:gone"
CUT="cut:written cut:recorded"
STORE="store:noted store:written store:sealed store:recorded"
SETTLE="store:settled" # of the worker that comes after

points_in_source()
{
	sed -n 's/.*"\(\(swapout\|swapin\|compact\|trim\|cut\|store\):[a-z]*\)".*/\1/p' "$top_srcdir"/core/*.c "$top_srcdir"/fs/*.c | sort -u
}

fault()
{
	printf '%s\n' "$*" >"$MNT/.spm/fault"
}

died()
{
	[ "$(spm_feature worker_restarts)" -gt "$1" ]
}

# at POINT DESC CMD...: the worker dies there once, while the command runs; that sees nothing of it. With $racy the command may
# come before the move that it is to meet, and then nothing leaves: it is given further tries.
racy=
at()
{
	local point=$1 what=$2 before tries=0
	shift 2
	before=$(spm_feature worker_restarts)
	fault "$point kill"
	ok "$point: $what" "$@"
	while [ -n "$racy" ] && [ $((tries += 1)) -le 8 ] && ! wait_until 1 died "$before"; do
		load "$f"
		"$@" || fail "$point: $what: once more" "exit status $?"
	done
	if ! wait_until 5 died "$before"; then
		fail "$point: $what: the worker died" "the point was not passed"
		fault clear
	fi
}

part_of()
{
	cmp -n "$3" "$1" "$2"
}

right()
{
	ok "$1: every byte is right" cmp "$f" "$copy"
	ok "$1: and out again" eval 'evict "$f" && is_out "$f"'
	ok "$1: every byte is still right" cmp "$f" "$copy"
}

# Deaths at each step, one request each.
one_by_one()
{
	local p
	for p in $OUT; do
		load "$f"
		at "$p" "evict" evict "$f"
		right "$p, evict"
		"$SPMT" setxattr "$f" user.spm.map mirror
		racy=1
		load "$f"
		at "$p" "write while it leaves" eval 'move evict "$f" & dd if="$copy" of="$f" bs=64k conv=notrunc status=none; wait $!'
		right "$p, write"
		load "$f"
		at "$p" "truncate while it leaves" eval 'move evict "$f" & truncate -s 3M "$f"; wait $!; dd if="$copy" of="$f" bs=1M skip=3 seek=3 conv=notrunc status=none'
		right "$p, truncate"
		racy=
	done
	for p in $IN; do
		evict "$f"
		at "$p" "load" load "$f"
		right "$p, load"
		at "$p" "write of a part" eval 'printf x | dd of="$f" bs=1 seek=2500000 conv=notrunc status=none; dd if="$copy" of="$f" bs=1 skip=2500000 seek=2500000 count=1 conv=notrunc status=none'
		right "$p, write"
		"$SPMT" setxattr "$f" user.spm.map direct
		at "$p" "direct open" cmp "$f" "$copy"
		right "$p, open"
		"$SPMT" setxattr "$f" user.spm.map mirror
	done
	evict "$f"
	at trim:truncated "truncate" truncate -s 3000000 "$f"
	ok "trim:truncated: what is left is right" part_of "$f" "$copy" 3000000
	is "trim:truncated: the size" "$(stat -c %s "$f")" 3000000
	ok "trim:truncated: longer" truncate -s 8M "$f"
	ok "trim:truncated: zeros behind it" cmp -i 3000000:0 -n 5388608 "$f" /dev/zero
	cp "$copy" "$f"
	evict "$f"
	at trim:punched "punch" fallocate -p -o 3000000 -l 4M "$f"
	ok "trim:punched: zeros" cmp -i 3000000:0 -n $((4 * MIB)) "$f" /dev/zero
	ok "trim:punched: what is before it is right" part_of "$f" "$copy" 3000000
	ok "trim:punched: and behind it" cmp -i $((3000000 + 4 * MIB)) "$f" "$copy"
	for p in fallocate:truncated fallocate:effect; do
		: >"$f.long"
		at "$p" "allocation of more than the device" fallocate -l 40M "$f.long"
		is "$p: the size" "$(stat -c %s "$f.long")" $((40 * MIB))
		ok "$p: zeros" cmp -n $((40 * MIB)) "$f.long" /dev/zero
		at "$p" "refused" eval '! fallocate -o 1M -l 1G "$f.long" 2>/dev/null || false; fallocate -l 41M "$f.long"'
		rm "$f.long"
	done
	cp "$copy" "$f.gone"
	evict "$f" "$f.gone"
	at trim:gone "unlink" rm "$f.gone"
	cp "$copy" "$f"
	is "trim:gone: its slots are free" "$(wait_until 5 no_slots; spm_stat swap_used_bytes)" 0
}

# The device is full of what cannot leave, so edges are cut in their slots.
cutting()
{
	local p
	actor a
	"$SPMT" setxattr "$f" user.spm.map mirror
	for p in $CUT; do
		cp "$copy" "$f"
		evict "$f"
		: >"$MNT/pinned"
		"$SPMT" setxattr "$MNT/pinned" user.spm.map direct
		tell a open p rw "$MNT/pinned"
		tell a fill p 0 128M 1
		at "$p" "punch" fallocate -p -o 3000000 -l 4M "$f"
		ok "$p: zeros" cmp -i 3000000:0 -n $((4 * MIB)) "$f" /dev/zero
		ok "$p: what is before it is right" part_of "$f" "$copy" 3000000
		ok "$p: and behind it" cmp -i $((3000000 + 4 * MIB)) "$f" "$copy"
		at "$p" "truncate" truncate -s 2500000 "$f"
		ok "$p: what is left is right" part_of "$f" "$copy" 2500000
		ok "$p: longer" truncate -s 3M "$f"
		ok "$p: zeros behind it" cmp -i 2500000:0 -n $((3 * MIB - 2500000)) "$f" /dev/zero
		is "$p: it has not come back" "$(resident "$f")" 0
		tell a close p
		rm "$MNT/pinned"
		ok "$p: it comes back when there is room" wait_until 5 load "$f"
		ok "$p: and is right" part_of "$f" "$copy" 2500000
	done
	actor_end a
}

# One page is written into its slot; in the end by a worker that dies, whose successor does as well.
storing()
{
	local p before page=700
	swap_mount mem:64M 256M map=mirror
	f=$MNT/file
	cp "$copy" "$f"
	for p in $STORE; do
		evict "$f"
		page=$((page + 1))
		at "$p" "store" eval 'dd if=/dev/zero bs=4k count=1 status=none | tr "\0" "${p:6:1}" | tee >(dd of="$copy" bs=4k seek='$page' conv=notrunc status=none) | dd of="$f" bs=4k seek='$page' iflag=fullblock conv=notrunc oflag=direct status=none'
		is "$p, store: nothing has come back" "$(resident "$f")" 0
		right "$p, store"
		evict "$f"
		before=$(spm_feature worker_restarts)
		page=$((page + 1))
		fault "store:settled kill"
		at "$p" "store, and the successor dies" eval 'dd if=/dev/zero bs=4k count=1 status=none | tr "\0" "${p:7:1}" | tee >(dd of="$copy" bs=4k seek='$page' conv=notrunc status=none) | dd of="$f" bs=4k seek='$page' iflag=fullblock conv=notrunc oflag=direct status=none'
		is "$p: two have died" "$(spm_feature worker_restarts)" $((before + 2))
		right "$p, both"
	done
	is "no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "storing"
}

# Slots move down into the holes that unlinked files leave.
compacting()
{
	local p i
	for p in $COMPACT; do
		for i in 1 2 3 4 5 6 7 8; do
			cp "$copy" "$MNT/n$i"
			evict "$MNT/n$i"
		done
		rm "$MNT"/n[1357]
		at "$p" "compact" eval 'echo 1 >"$MNT/.spm/compact"'
		for i in 2 4 6 8; do
			ok "$p: file $i is right" cmp "$copy" "$MNT/n$i"
		done
		rm "$MNT"/n?
	done
}

dying()
{
	swap_mount mem:64M 256M "$1"
	f=$MNT/file
	copy=$SPM_TMP/copy
	head -c 8M /dev/urandom >"$copy"
	cp "$copy" "$f"
	one_by_one
	cutting
	cp "$copy" "$f"
	compacting
	swap_leaves_nothing "$1"
}

# A write comes again after its worker's death, and there is less room than it had the first time: the file ends where the answer
# says, not where the dead worker had come to.
again_with_less()
{
	local was=1000000 before client told
	swap_mount mem:32M 96M extent=64K
	f=$MNT/file
	head -c $was /dev/urandom >"$f"
	cp "$f" "$SPM_TMP/was"
	"$SPMT" setxattr "$f" user.spm.map mirror
	before=$(spm_feature worker_restarts)
	fault "write:effect kill"
	fault "write:request slow:$((3000 * SPM_FACTOR)) 2"
	"$SPMT" run "open f w,append $f" "fill f $was 800K 7" >"$SPM_TMP/appended" &
	client=$!
	ok "again: a write's worker dies" wait_until 20 died "$before"
	ok "again: it comes again" wait_until 20 grep -q "write:request" "$MNT.log"
	ok "again: what it wrote leaves" evict "$f"
	actor other
	tell other open g rw,creat "$MNT/pinned"
	tell other fill g 0 40M 1
	like "again: the memory is somebody else's" "$REPLY" "^ok [0-9]+ ENOSPC"
	wait "$client"
	fault clear
	actor_end other
	told=$(sed -n '2s/^ok \([0-9]*\).*/\1/p' "$SPM_TMP/appended")
	diag "$(sed -n 2p "$SPM_TMP/appended")"
	is "again: the size is what was told" "$(stat -c %s "$f")" $((was + ${told:-0}))
	ok "again: what was there before is right" part_of "$f" "$SPM_TMP/was" $was
	rm "$MNT/pinned"
	swap_leaves_nothing "again"
}

# All points in turn, while eight processes work.
random()
{
	local p seconds=$2 points=$3 compactor
	swap_mount mem:96M 768M "$1"
	evictor_start 0.05
	(while [ ! -e "$SPM_TMP/evictor.stop" ]; do echo 1 >"$MNT/.spm/compact"; sleep 0.01; done 2>/dev/null) &
	compactor=$!
	swaprun "$1: deaths at every point" -s "$seconds" -b 384M --points "$points" --gap 30
	evictor_stop
	wait "$compactor"
	for p in $points; do
		ok "$1: $p was passed" [ "$(hits "$p")" -ge 1 ]
	done
	is "$1: no extent was unreadable" "$(spm_stat swap_errors)" 0
	swap_leaves_nothing "$1"
}

is "every point in the source is tried" \
	"$(points_in_source | comm -23 - <(tr ' ' '\n' <<<"$OUT $IN $COMPACT $TRIM $CUT $STORE $SETTLE" | sort -u))" ""
is "and there is no other" \
	"$(points_in_source | comm -13 - <(tr ' ' '\n' <<<"$OUT $IN $COMPACT $TRIM $CUT $STORE $SETTLE" | sort -u))" ""
dying ""
dying extent=64K
storing
again_with_less
# for longer, if a point was not passed by then
random low=20,high=40 "${SPM_SWAP_SECONDS:-$(spm_less 12)}" "$OUT $IN $COMPACT $TRIM $STORE"
random low=20,high=40,extent=64K "${SPM_SWAP_SECONDS:-$(spm_less 12)}" "$OUT $IN $COMPACT $TRIM"
spm_done
