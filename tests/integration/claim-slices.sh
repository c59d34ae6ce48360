#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# isolate=claim with slices: what no slice uses is held, what a min guarantees is had from there, and a slice that goes gives back
# what it had bit by bit.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$(dirname "$0")/../swapping.sh"

SIZE=$((192 * MIB))

# Held, or in use: all of the device but for what each slice has at hand.
whole()
{
	local held used
	held=$(spm_stat claimed_bytes) used=$(spm_stat resident_bytes)
	[ $((held + used)) -ge $((SIZE - MIB)) ] && [ $((held + used)) -le "$SIZE" ] && [ "$(spm_stat unclaimed_bytes)" -eq 0 ]
}

is_whole()
{
	wait_until 20 whole
	ok "$1: the device is in use or held ($(spm_stat claimed_bytes) held, $(spm_stat resident_bytes) used)" whole
}

slice()
{
	"$SPMCTL" slice "$@"
}

# slice_of NAME KEY
slice_of()
{
	sed -n "s/^$2 //p" "$MNT/$1/.spm/stat"
}

cat >"$SPM_TMP/two.conf" <<END
[slice modest]
min = 48M

[slice greedy]
min = 0
END
swap_conf=conf=$SPM_TMP/two.conf

# ---- declared, made, and guaranteed ----

spm_need_mount mem:192M "isolate=claim,name=claimed,$swap_conf"
is "claimed" "$(spm_feature isolation)" claimed
is_whole "mounted with declared slices"
ok "what is guaranteed is not in a slice, but held" [ "$(spm_stat claimed_bytes)" -ge $((SIZE - 2 * MIB)) ]
is "df of a slice says what it may have" "$(stat -f -c %b "$MNT/modest")" $((SIZE / 4096))
ok "a file" put "$MNT/modest/a" $((16 * MIB)) 1
is_whole "a file of a slice"
ok "greedy takes all that is not guaranteed to others" eval 'put "$MNT/greedy/a" $((64 * MIB)) 2 && put "$MNT/greedy/b" $((76 * MIB)) 3'
fails "and no more" fallocate -l 8M "$MNT/greedy/c"
fails "nor does the root slice" fallocate -l 8M "$MNT/c"
rm -f "$MNT/c" "$MNT/greedy/c"
ok "modest has its min" put "$MNT/modest/b" $((30 * MIB)) 4
is_whole "nearly full"
ok "all is right" eval 'check "$MNT/modest/a" $((16 * MIB)) 1 && check "$MNT/greedy/b" $((76 * MIB)) 3 && check "$MNT/modest/b" $((30 * MIB)) 4'
fails "a min that is not free is refused" slice set greedy --min 190M "$MNT"
fails "as is a slice with one" slice create more --min 100M "$MNT"
rm "$MNT/greedy/b"
is_whole "a file less"
ok "then another slice is made" slice create third --min 32M --max 40M "$MNT"
is_whole "a slice more"
fails "which has its max" fallocate -l 48M "$MNT/third/a"
ok "and no less" fallocate -l 39M "$MNT/third/a"
fails "less than it uses is no max" slice set third --min 0 --max 20M "$MNT"
rm "$MNT/third/a"
ok "when that is gone it is" wait_until 20 slice set third --min 0 --max 20M "$MNT"
fails "and holds" fallocate -l 24M "$MNT/third/a"
is_whole "limits"
like "nodes cannot be chosen" "$(slice create noded --nodes 0 "$MNT" 2>&1)" "nodes: with isolate=claim all slices share what is held"

# ---- faults ----

ok "a file with a hole" truncate -s 8M "$MNT/third/holes"
ok "read where nothing is, directly" "$SPMT" run "open f r $MNT/third/holes" "map m f r shared 0 8M" "madvise m 0 8M populate-read" "close f"
ok "and written" "$SPMT" run "open f rw $MNT/third/holes" "map m f rw shared 0 8M" "mfill m 0 8M 7" "close f"
ok "holds it" check "$MNT/third/holes" $((8 * MIB)) 7
is_whole "faults"

# ---- removal ----

actor who
tell who open f r "$MNT/greedy/a" || fail "open: $REPLY"
fails "a slice in use stays" slice remove --force greedy "$MNT"
ok "as it was" check "$MNT/greedy/a" $((64 * MIB)) 2
actor_end who
mkdir "$MNT/greedy/dir"
ok "more in it" put "$MNT/greedy/dir/b" $((20 * MIB)) 5
ok "a slice with files is removed" slice remove --force greedy "$MNT"
ok "what it had is held at once" [ "$(spm_stat claimed_bytes)" -ge $((SIZE - (48 + 10) * MIB)) ]
is_whole "removed"
ok "and is given to others" put "$MNT/modest/c" $((100 * MIB)) 6
is_whole "given"
rm "$MNT"/modest/? "$MNT/third/holes"
is_whole "empty"

# ---- deaths ----

(
	i=0
	while [ ! -e "$SPM_TMP/stop" ]; do
		for s in modest third; do
			put "$MNT/$s/c$((i % 3))" $((6 * MIB)) "$i" || echo "put $s $i" >>"$SPM_TMP/failed"
			check "$MNT/$s/c$((i % 3))" $((6 * MIB)) "$i" >/dev/null || echo "check $s $i" >>"$SPM_TMP/failed"
			rm -f "$MNT/$s/c$(((i + 1) % 3))"
		done
		i=$((i + 1))
	done
) >/dev/null 2>&1 &
load=$!
for n in $(seq "$(spm_less 9)"); do
	ok "made in between" slice create "s$n" --min 8M "$MNT"
	fallocate -l 4M "$MNT/s$n/f"
	pid=$(spm_named spmfs-worker)
	kill -KILL "$pid"
	wait_until 20 spm_another spmfs-worker "$pid" || fail "another worker"
	ok "removed" slice remove --force "s$n" "$MNT"
done
touch "$SPM_TMP/stop"
wait "$load"
is "killed again and again: no request failed, every byte is right" "$(cat "$SPM_TMP/failed" 2>/dev/null)" ""
is_whole "killed"

# ---- keep ----

spm_fresh mem:192M "isolate=claim,name=kept,keep,$swap_conf"
ok "content" put "$MNT/greedy/a" $((16 * MIB)) 8
spm_umount || fail "umount"
spm_need_mount mem:192M "isolate=claim,name=kept,recover,$swap_conf"
is_whole "mounted again"
ok "the file is there" check "$MNT/greedy/a" $((16 * MIB)) 8
fails "the min as well" fallocate -l 150M "$MNT/greedy/b"
ok "which modest has" fallocate -l 47M "$MNT/modest/a"

# ---- swap: room is made for others, and never below a min ----

spm_umount || fail "umount"
swap_mount mem:192M 512M "isolate=claim,name=swapped,$swap_conf"
ok "modest has what it may keep" put "$MNT/modest/a" $((40 * MIB)) 1
ok "greedy writes more than there is" eval 'for i in 1 2 3 4; do put "$MNT/greedy/s$i" $((60 * MIB)) $i || exit 1; done'
ok "the modest one's is here" [ "$(slice_of modest resident_bytes)" -ge $((39 * MIB)) ]
is_whole "swapped"
ok "modest's min is there for it" put "$MNT/modest/b" $((6 * MIB)) 2
ok "more than that has another one leave" put "$MNT/modest/c" $((60 * MIB)) 3
ok "all is right" eval 'for i in 1 2 3 4; do check "$MNT/greedy/s$i" $((60 * MIB)) $i || exit 1; done
	check "$MNT/modest/a" $((40 * MIB)) 1 && check "$MNT/modest/b" $((6 * MIB)) 2 && check "$MNT/modest/c" $((60 * MIB)) 3'
is_whole "and back"
ok "a new min has files leave" slice set modest --min 150M "$MNT"
ok "a max as well" slice set greedy --max 20M "$MNT"
ok "it uses no more" [ "$(slice_of greedy resident_bytes)" -le $((20 * MIB)) ]
ok "a slice with files in swap is removed" slice remove --force greedy "$MNT"
is_whole "removed"

spm_done
