#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A pool with swap outlives its servers: every process of one is killed, or the mount is ended with keep, and what was on the device and
# in swap files is there again. Swap for a kept pool that had none.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
export SPMFS_FAULTS=1

d=$SPM_TMP/mnt
model=$SPM_TMP/model
mkdir "$d"
MNT=$d

start()
{
	"$SPMFS" "$DAX" "$d" -o "name=$1,swap=$SWAP,swapsize=512M${2:+,$2}"
}

ended()
{
	ok "$1: umount" umount "$d"
	ok "$1: every server ended" wait_until 10 spm_no_servers
}

refused()
{
	local out rc
	out=$("$SPMFS" "$DAX" "$d" -o "$3" 2>&1 </dev/null)
	rc=$?
	if [ $rc -eq 32 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out
wanted: 32, and one line that matches $1"
	fi
}

all_die()
{
	spm_kill_servers
	umount -l "$d"
}

most_is_out()
{
	[ "$(spm_stat swapped_bytes)" -gt "$(spm_stat resident_bytes)" ]
}

verify()
{
	"$SWAPRUN" --verify -m "$model" "$d" >"$SWAP_OUT" 2>&1
	is "$1: every byte is right" "$?, $(result errors) errors, $(result differences) differences" \
		"0, 0 errors, 0 differences"
	[ "$(result differences)$(result errors)" = 00 ] || diag "$(cat "$SWAP_OUT")"
}

# Here and in slots there is all that files have, and nothing else.
nothing_is_left_over()
{
	local files
	files=$(find "$d" -type f -printf '%b\n' | awk '{ s += $1 } END { print s * 512 }')
	[ $(($(spm_stat resident_bytes) + $(spm_stat swapped_bytes))) -le "$files" ]
}

pool_device 64M
if ! out=$(start lost commit=lazy 2>&1); then
	[[ $out != *io_uring* ]] || skip_all "$out"
	fail "mount" "$out"
	exit 1
fi
SWAP_FREE=$(spm_stat free_bytes)
swaprun "a run" -s 3 -b 192M -m "$model" --kinds mirror
echo 1G >"$d/.spm/reclaim" 2>/dev/null
ok "most of it is in swap files ($(spm_stat swapped_bytes))" most_is_out
for i in 1 2; do
	put "$d/unlinked" 8M 1
	exec {fd}<"$d/unlinked"
	rm "$d/unlinked"
	move evict "/proc/self/fd/$fd" 2>/dev/null
	all_die
	exec {fd}<&-
	ok "all are killed, the swap file is there ($i)" [ "$(find "$SWAP" -type f | wc -l)" -eq 1 ]
	refused "swap" "recover without swap= is refused ($i)" name=lost,recover
	refused "swap" "recover with another swap file is refused ($i)" "name=lost,recover,swap=$SPM_TMP"
	is "and makes nothing there ($i)" "$(ls "$SPM_TMP"/*.swap 2>/dev/null)" ""
	ok "with recover it is mounted ($i)" start lost commit=lazy,recover
	ok "most of it is in swap files ($i: $(spm_stat swapped_bytes))" most_is_out
	ok "what was unlinked is gone, from both ($i)" nothing_is_left_over
	verify "recovered ($i)"
	ok "and everything goes on: more is written ($i)" put "$d/more$i" 64M "$i"
	ok "and read ($i)" check "$d/more$i" 64M "$i"
	verify "and the rest is there ($i)"
	rm "$d/more$i"
done

# In the middle of moves: what is left half way is finished by whoever comes next.
for p in swapout:recorded swapout:punched swapin:allocated swapin:read swapin:cleared; do
	put "$d/half" 8M 7
	case $p in swapin:*) evict "$d/half" ;; esac
	echo "$p kill 1 20" >"$d/.spm/fault"
	case $p in
	swapin:*) (move load "$d/half" 2>/dev/null &) ;;
	*) (move evict "$d/half" 2>/dev/null &) ;;
	esac
	wait_until 10 eval '[ "$(spm_feature worker_restarts "$d")" -gt 0 ]'
	all_die
	ok "$p: recover" start lost commit=lazy,recover
	ok "$p: what was on its way is right" check "$d/half" 8M 7
	ok "$p: nothing is left over" nothing_is_left_over
	rm "$d/half"
done
verify "after all that"
find "$d" -mindepth 1 -delete
wait_until 15 swap_is_back
ok "all is given back ($(spm_stat swap_used_bytes) of swap, $(spm_stat free_bytes) of $SWAP_FREE)" swap_is_back
ended "recovered"
is "no swap file is left" "$(find "$SWAP" -type f)" ""

# keep
ok "keep: a mount" start kept keep,extent=128K
put "$d/f" 100M 3
put "$d/small" 5K 4
evict "$d/small"
want=$(stat -c '%s %b %Y' "$d/f" "$d/small")
ended "keep"
refused "swap" "keep: without swap=" name=kept,keep
refused "extent=.*128K" "keep: another extent" "name=kept,keep,extent=64K,swap=$SWAP"
ok "keep: found again" start kept keep
is "keep: its extent" "$(spm_feature extent "$d")" 131072
is "keep: attributes are as they were" "$(stat -c '%s %b %Y' "$d/f" "$d/small")" "$want"
ok "keep: content" eval 'check "$d/f" 100M 3 && check "$d/small" 5K 4'
rm "$d/f" "$d/small"
ended "kept"
ok "keep: given up by hand" eval 'umount /run/spmfs/kept.ns && rm /run/spmfs/kept.ns "$SWAP"/*'

# swap for a pool that had none
ok "no swap: a mount" "$SPMFS" "$DAX" "$d" -o name=plain,keep,extent=256K
put "$d/old" 40M 5
ended "no swap"
ok "swap is added" start plain keep
is "with the pool's extent" "$(spm_feature extent "$d")" 262144
ok "what was there is right" check "$d/old" 40M 5
ok "more than the device" put "$d/new" 60M 6
ok "and what was there is right" check "$d/old" 40M 5
ok "and has left" [ "$(spm_stat swapped_bytes)" -ge $((30 * MIB)) ]
wait_until 10 move evict "$d/old"
is "all of it can" "$(resident "$d/old")" 0
ended "with swap"
ok "given up by hand" eval 'umount /run/spmfs/plain.ns && rm /run/spmfs/plain.ns "$SWAP"/*'
ok "a new one" start plain
is "is empty" "$(ls -A "$d")" ""
ended "new"
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""
spm_done
