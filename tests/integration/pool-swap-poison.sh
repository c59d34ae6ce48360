#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The device loses memory that nobody has, and something comes back from swap to it: it goes elsewhere, and nobody is told of an error,
# since what is in swap is whole. The stand-in is cut off under the server, as in pool-poison.sh.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../pool-swapping.sh
. "$top_srcdir/tests/pool-swapping.sh"

[ -z "${SPM_DAX:-}" ] || skip_all "a real device cannot be cut off"

# What is here fills the lower part of the device, and nearly all behind it is lost: what comes back has to find other places, by what leaves for it.
lose()
{
	pool_swap_mount 64M 256M "low=0,high=0,$1"
	put "$MNT/here" 30M 1
	put "$MNT/out" 20M 2
	evict "$MNT/out" || fail "$1: evict"
	sync
	# one or two extents may be in other hands while that looks for the lowest ones
	echo 1 >"$MNT/.spm/compact" || fail "$1: compact"
	truncate -s 34M "$SPMFS_DAX_FILE"
}

nothing_was_said()
{
	is "$1: no error was counted" "$(spm_stat swap_errors)" 0
	ok "$1: nor said of a file" eval '! grep -q "cannot be read" "$MNT.log"'
	ok "$1: what was lost is known ($(spm_stat retired_bytes))" [ "$(spm_stat retired_bytes)" -gt 0 ]
	is "$1: and was nobody's" "$(spm_stat bad_bytes)" 0
	is "$1: the server lives" "$(spm_feature worker_restarts)" 0
}

write_all()
{
	local i
	for i in $(seq 0 9); do
		printf x | dd of="$1" bs=1 seek=$((i * 2 * MIB + 77)) conv=notrunc status=none || return 1
	done
}

for extent in 2M 64K; do
	lose "extent=$extent"
	ok "$extent: a whole file comes back" load "$MNT/out"
	nothing_was_said "$extent: load"
	ok "$extent: load: it is right" check "$MNT/out" 20M 2
	ok "$extent: load: and what has left for it" check "$MNT/here" 30M 1
	lose "extent=$extent"
	ok "$extent: a write to each extent" write_all "$MNT/out"
	nothing_was_said "$extent: write"
	put "$SPM_TMP/want" 20M 2
	write_all "$SPM_TMP/want"
	ok "$extent: write: it is right" cmp "$MNT/out" "$SPM_TMP/want"
	ok "$extent: write: and what has left for it" check "$MNT/here" 30M 1
done

spm_done
