#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bits of a pool's records flip, of a live mount and of one that is taken over: what cannot be told any more reads as EIO, the log names
# the files, and what was given up can be used again. Nothing reads as zeros that was something else.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../pool-swapping.sh
. "$top_srcdir/tests/pool-swapping.sh"

FLIP=$top_builddir/tests/progs/poolflip
EXTENT=$((2 * MIB))

# What becomes of each extent of a file, as letters: r right, 0 zeros, e EIO, ? anything else.
look()
{
	local i n out=
	n=$((($(stat -c %s "$1") + EXTENT - 1) / EXTENT))
	for ((i = 0; i < n; i++)); do
		if dd if="$1" bs=2M skip="$i" count=1 iflag=direct status=none 2>"$SPM_TMP/dd.err" >"$SPM_TMP/dd.out"; then
			if cmp -s "$SPM_TMP/dd.out" <(dd if="$SPM_TMP/want" bs=2M skip="$i" count=1 status=none); then
				out+=r
			else
				[ "$(tr -d '\0' <"$SPM_TMP/dd.out" | wc -c)" -eq 0 ] && out+=0 || out+='?'
			fi
		else
			grep -q "Input/output error" "$SPM_TMP/dd.err" && out+=e || out+='?'
		fi
	done
	printf '%s\n' "$out"
}

# Into an extent that is filled already, or made now.
fill()
{
	dd if="$SPM_TMP/want" of="$1" bs=2M skip="$2" seek="$2" count=1 conv=notrunc oflag=direct status=none
}

flip()
{
	"$FLIP" "/proc/$(spm_server_pid)/root/region.pool" "$(stat -c %i "$1")" "$2" "$3"
}

new_worker()
{
	[ "$(spm_server_pid)" != "$1" ]
}

next_worker()
{
	local pid
	pid=$(spm_server_pid)
	kill -9 "$pid"
	wait_until 15 new_worker "$pid"
}

# a, b: whole. holes: 4 extents, of which the second is there.
make_files()
{
	cp "$SPM_TMP/want" "$MNT/a"
	cp "$SPM_TMP/want" "$MNT/b"
	truncate -s $((4 * EXTENT)) "$MNT/holes"
	fill "$MNT/holes" 1
}

live()
{
	pool_mount 64M commit=lazy
	make_files
	flip "$MNT/a" 2 "$1" || fail "byte $1: flipped"
	is "live, byte $1: that extent cannot be read, all others are right" "$(look "$MNT/a") $(look "$MNT/b") $(look "$MNT/holes")" \
		"rrerr rrrrr 0r00"
	like "live, byte $1: the log says which" "$(grep "pool error" "$MNT.log")" \
		"$MNT/a cannot be read at offset $((2 * EXTENT)): .*fallocate -p"
	fails "live, byte $1: nor written in part" dd if=/dev/zero of="$MNT/a" bs=4k seek=1030 count=1 conv=notrunc oflag=direct
	next_worker
	is "live, byte $1: the next worker knows it" "$(look "$MNT/a") $(look "$MNT/b") $(look "$MNT/holes")" "rrerr rrrrr 0r00"
	is "live, byte $1: and has no other doubts" "$(grep -c "pool error" "$MNT.log")" 1
	ok "live, byte $1: a hole is punched" fallocate -p -o $((2 * EXTENT)) -l $EXTENT "$MNT/a"
	is "live, byte $1: and reads as zeros" "$(look "$MNT/a")" rr0rr
	ok "live, byte $1: it is filled" fill "$MNT/a" 2
	is "live, byte $1: and right" "$(look "$MNT/a")" rrrrr
	pool_leaves_nothing "live, byte $1"
}

dead()
{
	pool_mount 64M commit=lazy
	make_files
	exec 7<>"$MNT/unnamed"
	truncate -s 3M /proc/self/fd/7
	rm "$MNT/unnamed"
	flip "$MNT/a" 2 "$1" || fail "byte $1: flipped"
	next_worker
	is "dead, byte $1: what may have been there cannot be read" "$(look "$MNT/a") $(look "$MNT/b") $(look "$MNT/holes")" "rrerr rrrrr eree"
	like "dead, byte $1: the log says so of the file" "$(grep "pool error" "$MNT.log")" \
		"$MNT/a may have lost 1 extents, the first at offset $((2 * EXTENT)),.*fallocate -p"
	like "dead, byte $1: and of the other" "$(grep "pool error" "$MNT.log")" "$MNT/holes may have lost 3 extents"
	ok "dead, byte $1: and not of what is whole" eval '! grep -q "pool error.*$MNT/b " "$MNT.log"'
	fails "dead, byte $1: the file without a name, too" dd bs=4k count=1 iflag=direct status=none of=/dev/null <&7
	exec 7<&-
	next_worker
	is "dead, byte $1: another worker says the same" "$(look "$MNT/a") $(look "$MNT/b") $(look "$MNT/holes")" "rrerr rrrrr eree"
	is "dead, byte $1: and the log has it once" "$(grep -c "may have lost [0-9]" "$MNT.log")" 3
	truncate -s $((4 * EXTENT)) "$MNT/new"
	is "dead, byte $1: holes of new files are holes" "$(look "$MNT/new")" 0000
	fails "dead, byte $1: not written in part" dd if=/dev/zero of="$MNT/holes" bs=4k count=1 conv=notrunc oflag=direct
	ok "dead, byte $1: a hole is punched" fallocate -p -o 0 -l $EXTENT "$MNT/holes"
	ok "dead, byte $1: it is cut off" truncate -s $((2 * EXTENT)) "$MNT/holes"
	truncate -s $((4 * EXTENT)) "$MNT/holes"
	is "dead, byte $1: these are holes again" "$(look "$MNT/holes")" 0r00
	rm "$MNT/a"
	cp "$SPM_TMP/want" "$MNT/a"
	fill "$MNT/holes" 0
	next_worker
	is "dead, byte $1: all is well" "$(look "$MNT/a") $(look "$MNT/b") $(look "$MNT/holes")" "rrrrr rrrrr rr00"
	pool_leaves_nothing "dead, byte $1"
}

# What is in a slot was in no record of the pool.
with_swap()
{
	pool_swap_mount 64M 256M commit=lazy
	make_files
	printf '%s 0 %s\n' "$(stat -c %i "$MNT/b")" $((2 * EXTENT)) >"$MNT/.spm/evict"
	wait_until 10 eval '[ "$(swapped "$MNT/b")" -eq $((2 * EXTENT)) ]'
	is "swap: a part of a file is out" "$(swapped "$MNT/b")" $((2 * EXTENT))
	flip "$MNT/a" 4 10 || fail "swap: flipped"
	next_worker
	is "swap: what is in slots is right, the rest as without" "$(look "$MNT/a") $(look "$MNT/b") $(look "$MNT/holes")" "rrrre rrrrr eree"
	ok "swap: it is given up" fallocate -p -o $((4 * EXTENT)) -l $EXTENT "$MNT/a"
	ok "swap: and filled" fill "$MNT/a" 4
	ok "swap: and moved out" evict "$MNT/a"
	is "swap: and right" "$(look "$MNT/a")" rrrrr
	swap_leaves_nothing swap
}

recovered()
{
	local d=$SPM_TMP/kept
	mkdir "$d"
	pool_device 64M
	MNT=$d
	ok "kept: a mount" "$SPMFS" "$DAX" "$d" -o name=damaged,keep,commit=lazy
	make_files
	flip "$d/a" 0 8 || fail "kept: flipped"
	umount "$d"
	wait_until 10 spm_no_servers
	ok "kept: found again" "$SPMFS" "$DAX" "$d" -o name=damaged,keep,commit=lazy
	is "kept: what may have been there cannot be read" "$(look "$d/a") $(look "$d/b") $(look "$d/holes")" "errrr rrrrr eree"
	umount "$d"
	wait_until 10 spm_no_servers
	umount /run/spmfs/damaged.ns && rm /run/spmfs/damaged.ns
}

head -c $((5 * EXTENT)) /dev/urandom >"$SPM_TMP/want"
for byte in 0 6 8 9 10 13; do
	live $byte
	dead $byte
done
with_swap
spm_umount_all || fail "umount"
recovered
spm_done
