#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The files in .spm: reachable by name and not listed, truthful, and written by root only.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

MIB=1048576
spm_need_mount mem:64M map=direct,name=ctl
c=$MNT/.spm

is "not in listings" "$(ls -A "$MNT")" ""
is "nor found by find" "$(find "$MNT" -mindepth 1)" ""
is "reachable by name" "$(stat -c %F "$c")" directory
for f in stat features metrics current max events swap.current swap.max; do
	ok "everybody can read $f" as "$USER_A" cat "$c/$f"
	is "$f belongs to root" "$(stat -c '%u %g' "$c/$f")" "0 0"
done
ok "reading by small steps gives the same text" \
	eval '[ "$(dd if="$c/features" bs=7 status=none)" = "$(cat "$c/features")" ]'

# stat
is "stat: a key and a number a line" "$(grep -cvE '^[a-z0-9_]+ [0-9]+$' "$c/stat")" 0
for key in device_bytes resident_bytes free_bytes pinned_bytes swapped_bytes swap_bytes swap_used_bytes \
	swapout_bytes swapin_bytes swap_errors swap_write_errors swap_read_through_bytes swap_stored_bytes swap_evicted_hot \
	swap_direct_waits swap_refused swap_reclaim_runs swap_map_bytes huge_bytes huge_scanned_bytes compact_collapsed_bytes compact_moved_bytes \
	foreign_bytes inodes_known open_direct open_mirror bad_bytes retired_bytes free_run_bytes pool_moved_bytes \
	requests; do
	like "stat has $key" "$(spm_stat $key)" '^[0-9]+$'
done
is "stat: no key twice" "$(cut -d' ' -f1 "$c/stat" | sort | uniq -d)" ""
is "device_bytes is the size of the source" "$(spm_stat device_bytes)" $((64 * MIB))
free=$(spm_stat free_bytes)
resident=$(spm_stat resident_bytes)
inodes=$(spm_stat inodes_known)
head -c 8M /dev/zero >"$MNT/f"
grown=$(($(spm_stat resident_bytes) - resident))
is "8 MiB written: resident_bytes grew by them ($grown)" $((grown >= 8 * MIB && grown <= 9 * MIB)) 1
is "free_bytes fell by the same" $((free - $(spm_stat free_bytes))) $grown
# Held, or the kernel may forget it in between.
exec {fd}<"$MNT/f"
ok "inodes_known grew" test "$(spm_stat inodes_known)" -gt "$inodes"
exec {fd}<&-
nothing_open()
{
	[ "$(spm_stat open_direct) $(spm_stat open_mirror)" = "0 0" ]
}
ok "nothing is open" wait_until 5 nothing_open
actor a
tell a open f rw "$MNT/f"
is "one open file: open_direct" "$(spm_stat open_direct)" 1
tell a map m f rw shared 0 8M
tell a close f
ok "what is mapped is pinned" test "$(spm_stat pinned_bytes)" -ge $((8 * MIB))
tell a unmap m
pinned_is()
{
	[ "$(spm_stat pinned_bytes)" -eq "$1" ]
}
ok "and not any more when it is unmapped" wait_until 5 pinned_is 0
requests=$(spm_stat requests)
touch "$MNT/g"
ok "requests counts" test "$(spm_stat requests)" -gt "$requests"

# features
is "features: a key and a value a line" "$(grep -cvE '^[a-z0-9_]+ .+$' "$c/features")" 0
for key in source name version keeper_pid worker_pid worker_restarts direct_supported isolation passthrough \
	leases noswap huge map commit swap libfuse; do
	like "features has $key" "$(spm_feature $key)" .
done
is "the source as it was given" "$(spm_feature source)" mem:64M
is "the name" "$(spm_feature name)" ctl
is "the options" "$(spm_feature map) $(spm_feature commit)" "direct eager"
ok "the worker is a process" kill -0 "$(spm_feature worker_pid)"
is "what is off says why" "$(grep -E ' off' "$c/features" | grep -cvE ' off: .+')" 0

# metrics
is "metrics ends as OpenMetrics wants it" "$(tail -n 1 "$c/metrics")" "# EOF"
comment='# (TYPE|HELP|UNIT) spmfs_[a-z0-9_]+ .+|# EOF'
labels='\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\}'
is "metrics: only comments and samples" \
	"$(grep -cvE "^($comment|spmfs_[a-z0-9_]+($labels)? [0-9.e+-]+)$" "$c/metrics")" 0
samples=$(sed -nE 's/^(spmfs_[a-z0-9_]+)[{ ].*/\1/p' "$c/metrics" | sed 's/_total$//' | sort -u)
ok "metrics: there are some" test "$(wc -l <<<"$samples")" -ge 10
is "metrics: every sample has its type" \
	"$(for m in $samples; do grep -q "^# TYPE $m " "$c/metrics" || echo "$m"; done)" ""
is "metrics: counters end in _total" "$(sed -nE 's/^# TYPE (.*) counter$/\1/p' "$c/metrics" |
	while read -r m; do grep -qE "^${m}_total[{ ]" "$c/metrics" || echo "$m"; done)" ""
sample=$(sed -nE 's/^spmfs_resident_bytes(\{[^}]*\})? //p' "$c/metrics")
is "metrics: the same figure as in stat" "$sample" "$(spm_stat resident_bytes)"

# current, max
is "current is what is in use" "$(cat "$c/current")" "$(spm_stat resident_bytes)"
is "max is the whole device" "$(cat "$c/max")" max
ok "root writes a size" eval 'echo 32M >"$c/max"'
is "max shows it" "$(cat "$c/max")" $((32 * MIB))
is "so does df" "$(stat -f -c '%b %S' "$MNT" | awk '{ print $1 * $2 / 1048576 }')" 32
is "it is in force" "$(head -c 40M /dev/zero 2>/dev/null >"$MNT/toomuch" && echo stored)" ""
rm "$MNT/toomuch"
ok "max again" eval 'echo max >"$c/max"'
is "df shows the device" "$(stat -f -c '%b %S' "$MNT" | awk '{ print $1 * $2 / 1048576 }')" 64
ok "what did not fit does" eval 'head -c 40M /dev/zero >"$MNT/fits"'
for bad in 4M 0 -1 nonsense 128M '1 M' 1000000T; do
	fails "'$bad' is refused" bash -c 'printf "%s" "$1" >"$2"' bash "$bad" "$c/max"
	is "and changes nothing" "$(cat "$c/max")" max
done
fails "a user cannot write max" as "$USER_A" sh -c 'echo 32M >"$1"' sh "$c/max"
is "without swap none is in use, and there is no limit" "$(cat "$c/swap.current" "$c/swap.max" | xargs)" "0 max"
is "events: a key and a number a line" "$(grep -cvE '^[a-z_]+ [0-9]+$' "$c/events")" 0
for f in stat features metrics current events swap.current; do
	fails "nobody writes $f" bash -c 'echo 1 >"$1"' bash "$c/$f"
done

# A directory that is not theirs to change.
fails "no new file in it" touch "$c/new"
fails "no file removed" rm -f "$c/stat"
fails "no file renamed" mv "$c/stat" "$MNT/stat"
fails "none moved in" mv "$MNT/g" "$c/stat"
fails "no link" ln "$c/stat" "$MNT/stat"
fails "no directory of that name" mkdir "$c"
fails "it cannot be removed" rmdir "$c"
fails "nor renamed" mv "$c" "$MNT/spm"
fails "nor given away" chown "$USER_A" "$c/max"
fails "nor opened up" chmod 666 "$c/max"
is "all is as before" "$(cat "$c/max") $(stat -c '%a %u' "$c/max")" "max 644 0"
ok "the name is free in other directories" eval 'mkdir -p "$MNT/d/.spm" && touch "$MNT/d/.spm/stat"'
is "and means nothing there" "$(stat -c %s "$MNT/d/.spm/stat")" 0
tell a open s r "$c/stat"
rm -r "$MNT/d" "$MNT/fits"
like "an open one can be read at any time" "$(ask a read s 0 12)" '^device_bytes'
tell a close s

spm_done
