#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every process of a server is killed, or the mount is ended with keep: what is in swap files is there again for the next
# mount.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

d=$SPM_TMP/mnt
model=$SPM_TMP/model
mkdir "$d"
MNT=$d

start()
{
	"$SPMFS" mem:64M "$d" -o "name=$1,swap=$SWAP,swapsize=512M${2:+,$2}"
}

ended()
{
	ok "$1: umount" umount "$d"
	ok "$1: every server ended" wait_until 10 spm_no_servers
}

# refused REGEX DESC OPTIONS: status 32 and one line.
refused()
{
	local out rc
	out=$("$SPMFS" mem:64M "$d" -o "$3" 2>&1 </dev/null)
	rc=$?
	if [ $rc -eq 32 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out
wanted: 32, and one line that matches $1"
	fi
}

most_is_out()
{
	[ "$(spm_stat swapped_bytes)" -gt "$(($(spm_stat resident_bytes)))" ]
}

verify()
{
	"$SWAPRUN" --verify -m "$model" "$d" >"$SWAP_OUT" 2>&1
	is "$1: every byte is right" "$?, $(result errors) errors, $(result differences) differences" \
		"0, 0 errors, 0 differences"
	[ "$(result differences)$(result errors)" = 00 ] || diag "$(cat "$SWAP_OUT")"
}

if ! out=$(start lost 2>&1); then
	[[ $out != *io_uring* ]] || skip_all "$out"
	fail "mount" "$out"
	exit 1
fi
SWAP_FREE=$(spm_stat free_bytes)
swaprun "a run" -s 3 -b 192M -m "$model"
# on a slow machine the run leaves less than the device holds
echo 1G >"$d/.spm/reclaim" 2>/dev/null
ok "most of it is in swap files ($(spm_stat swapped_bytes))" most_is_out

for i in 1 2; do
	spm_kill_servers
	umount -l "$d"
	ok "all are killed, the swap file is there ($i)" [ "$(find "$SWAP" -type f | wc -l)" -eq 1 ]
	refused "swap" "recover without swap= is refused ($i)" name=lost,recover
	refused "swap" "recover with another swap file is refused ($i)" "name=lost,recover,swap=$SPM_TMP"
	is "and makes nothing there ($i)" "$(ls "$SPM_TMP"/*.swap 2>/dev/null)" ""
	ok "with recover it is mounted ($i)" start lost recover
	ok "most of it is in swap files ($i: $(spm_stat swapped_bytes))" most_is_out
	verify "recovered ($i)"
	ok "and everything goes on: more is written ($i)" put "$d/more$i" 64M "$i"
	ok "and read ($i)" check "$d/more$i" 64M "$i"
	verify "after that ($i)"
done
ok "what came after the first recovery is there after the second" check "$d/more1" 64M 1

# Killed in the middle of everything: what was acknowledged before is there, what was under way is old or new.
put "$d/steady" 16M 7
(for i in $(seq 1 1000); do put "$d/moving" 48M "$i" || exit; done) >/dev/null 2>&1 &
load=$!
evictor_start
half_written() { [ "$(stat -c %s "$d/moving")" -ge $((24 * MIB)) ]; }
wait_until 20 half_written
spm_kill_servers
evictor_stop
umount -l "$d"
wait "$load"
ok "killed in the middle of work: with recover it is mounted" start lost recover
verify "killed in the middle of work"
ok "what is not touched is right" check "$d/steady" 16M 7
ok "what was under way can be read" cat "$d/moving"
swap_leaves_nothing "after all"
ended "recovered"
is "the swap file is gone" "$(find "$SWAP" -type f)" ""
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""

# keep
ok "a mount with keep" start kept keep
swaprun "a run" -s 2 -b 192M -m "$model"
exec {fd}<>"$d/unlinked"
head -c 16M /dev/urandom >&"$fd"
rm "$d/unlinked"
exec {fd}>&-
ended "with keep"
ok "the swap file is kept" [ "$(find "$SWAP" -type f | wc -l)" -eq 1 ]
refused "swap" "without swap= it is refused" name=kept,keep
ok "it is mounted again" start kept keep
verify "kept"
ended "kept"
ok "and again, and then not kept" start kept
verify "kept twice"
swaprun_dirs=$(find "$d" -mindepth 1 -maxdepth 1 -type d | wc -l)
is "all directories are there" "$swaprun_dirs" 3
SWAP_FREE=$((64 * MIB - 2 * MIB))
swap_leaves_nothing "kept"
ended "not kept"
is "the swap file is gone at last" "$(find "$SWAP" -type f)" ""

# An orphan that was swapped when everything died leaves no slots.
ok "a mount" start orphans map=mirror
exec {fd}<>"$d/unlinked"
head -c 16M /dev/urandom >&"$fd"
evict "$d/unlinked"
rm "$d/unlinked"
ok "an open file without a name is in slots" [ "$(spm_stat swap_used_bytes)" -ge $((16 * MIB)) ]
spm_kill_servers
exec {fd}>&-
umount -l "$d"
ok "recover" start orphans recover,map=mirror
is "frees its slots" "$(wait_until 5 no_slots; spm_stat swap_used_bytes)" 0
ended "orphans"

# A region that was kept without swap gets it later.
ok "a mount without swap" "$SPMFS" mem:64M "$d" -o name=late,keep
put "$d/f" 40M 3
ended "without swap"
ok "with swap" start late
ok "what was there from before can leave: twice the device fits" put "$d/g" 80M 4
ok "one is right" check "$d/f" 40M 3
ok "so is the other" check "$d/g" 80M 4
ended "with swap"
spm_done
