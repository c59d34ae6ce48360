#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What is in use stays: while a tenth of the files is used all the time, at least 95 % of what leaves is of the others.
# What left of the hot tenth has come back (nobody reads the others), or is out now.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

HOT=6

# The hot files, again and again, each several times a second.
use_served()
{
	local i
	for i in $(seq 1 "$HOT"); do
		dd if="$SPM_TMP/block" of="$MNT/hot$i" bs=64k seek=$((RANDOM % 32)) conv=notrunc status=none || return 1
		dd if="$MNT/hot$i" of=/dev/null bs=2M iflag=direct status=none || return 1
	done
}

use_direct()
{
	local i
	for i in $(seq 1 "$HOT"); do
		cmp -s "$MNT/hot$i" "$SPM_TMP/content" || return 1
	done
}

use()
{
	local n=0
	while [ ! -e "$SPM_TMP/stop" ]; do
		"$1" || { touch "$SPM_TMP/failed"; return; }
		echo $((n += 1)) >"$SPM_TMP/passes"
		sleep 0.05
	done
}

passed()
{
	[ "$(cat "$SPM_TMP/passes")" != "$1" ] || [ -e "$SPM_TMP/failed" ]
}

# On a slow machine, too, each hot file is used for every few cold ones.
after_a_pass()
{
	local n
	n=$(cat "$SPM_TMP/passes")
	wait_until 20 passed "$n"
}

swapped_of()
{
	"$SPMCTL" files --json "$MNT" | awk -v want="/$1[0-9]+\"" '
		/"path"/ { mine = $0 ~ want }
		/"swapped_bytes"/ { gsub(/[^0-9]/, ""); if (mine) sum += $0 }
		END { print sum + 0 }'
}

hot()
{
	local what=$1 opts=$2 how=$3 i out in_ hot cold share load
	swap_mount mem:64M 512M "$opts"
	for i in $(seq 1 "$HOT"); do
		cp "$SPM_TMP/content" "$MNT/hot$i"
	done
	rm -f "$SPM_TMP/stop" "$SPM_TMP/failed"
	echo 0 >"$SPM_TMP/passes"
	use "$how" &
	load=$!
	for i in $(seq 1 54); do
		put "$MNT/cold$i" 2M "$i" >/dev/null || fail "$what: cold$i cannot be written"
		after_a_pass
	done
	for i in $(seq 55 100); do
		put "$MNT/cold$i" 2M "$i" >/dev/null || fail "$what: cold$i cannot be written"
		[ $((i % 4)) -ne 0 ] || after_a_pass
	done
	touch "$SPM_TMP/stop"
	wait "$load"
	ok "$what: the hot files were used all the time" [ ! -e "$SPM_TMP/failed" ]
	out=$(spm_stat swapout_bytes) in_=$(spm_stat swapin_bytes)
	hot=$(swapped_of hot) cold=$(swapped_of cold)
	ok "$what: much was moved out ($out)" [ "$out" -ge $((120 * MIB)) ]
	ok "$what: of cold files ($cold)" [ "$cold" -ge $((110 * MIB)) ]
	share=$(awk -v out="$out" -v hot="$((in_ + hot))" 'BEGIN { printf "%.2f", 100 - 100 * hot / out }')
	ok "$what: $share % of it was cold ($in_ came back, $hot of hot files is out)" awk "BEGIN { exit !($share >= 95) }"
	for i in $(seq 1 100); do
		check "$MNT/cold$i" 2M "$i" >/dev/null || fail "$what: cold$i is wrong"
	done
}

head -c 64k /dev/urandom >"$SPM_TMP/block"
head -c 2M /dev/urandom >"$SPM_TMP/content"
hot "served" map=mirror use_served
hot "direct" map=direct use_direct
hot "direct, small extents" map=direct,extent=64K use_direct
hot "early" map=mirror,cold=2 use_served
spm_done
