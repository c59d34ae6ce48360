#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# swap= on a pool of a few extents, or in a slice that may have no more: each request is larger than all of them, and goes on piece by piece.
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

same()
{
	cmp "$1" "$SPM_TMP/$2"
}

# With files of 6 MiB in @2.
few()
{
	local what=$1 d=$2 i
	for i in 1 2 3; do
		ok "$what: file $i is written" dd if="$SPM_TMP/a" of="$d/f$i" bs=1M status=none
	done
	ok "$what: written again as it lies in swap" dd if="$SPM_TMP/b" of="$d/f1" bs=1M conv=notrunc oflag=direct status=none
	ok "$what: not aligned to anything" dd if="$SPM_TMP/b" of="$d/f2" bs=1000001 conv=notrunc oflag=direct status=none
	ok "$what: right" same "$d/f1" b
	ok "$what: right, too" same "$d/f2" b
	ok "$what: memory is allocated" truncate -s 6M "$d/f4"
	is "$what: zeros" "$(tr -d '\0' <"$d/f4" | wc -c)" 0
	ok "$what: copied" "$SPMT" run "open i r $d/f1" "open o rw $d/f4" "copy i 0 o 0 6291456" "close i" "close o"
	ok "$what: the copy is right" same "$d/f4" b
	ok "$what: copied in itself, across extents" "$SPMT" run "open o rw $d/f4" "copy o 0 o 3000001 3000000" "close o"
	head -c 3000001 "$SPM_TMP/b" >"$SPM_TMP/c"
	head -c 3000000 "$SPM_TMP/b" >>"$SPM_TMP/c"
	ok "$what: that is right" cmp -n 6000001 "$d/f4" "$SPM_TMP/c"
	ok "$what: and what is left" same "$d/f3" a
	is "$what: no extent was unreadable" "$(spm_stat swap_errors)" 0
}

head -c 6M /dev/urandom >"$SPM_TMP/a"
head -c 6M /dev/urandom >"$SPM_TMP/b"

for n in 1 2 3 8; do
	for extent in 64 2048; do
		pool_swap_mount $((n * extent + 4))K 128M "extent=${extent}K"
		is "$n of ${extent}K: so many there are" "$SWAP_FREE" $((n * extent * 1024))
		few "$n of ${extent}K" "$MNT"
		swap_leaves_nothing "$n of ${extent}K"
	done
done

pool_swap_mount 64M 128M extent=64K
"$SPMCTL" slice create one --max 256K "$MNT" || fail "slice create"
few "a slice of 4 extents" "$MNT/one"
ok "it has no more" [ "$(spm_stat resident_bytes "$MNT/one")" -le $((256 * 1024)) ]
spm_done
