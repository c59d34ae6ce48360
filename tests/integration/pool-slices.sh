#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices of a mount whose files are in a pool on a dax device: memory in whole extents, exact to the extent, and law 6.
set -u
SPM_LIMIT=$((8 * ${SPM_SLICE_SECONDS:-4} + 240))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../pool-swapping.sh
. "$top_srcdir/tests/pool-swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

# Of a device of 64 MiB, in extents of 2 MiB: the last one has the label.
ALL=$((62 * 1024))

# fill FILE SIZE: how many KiB of it could be written
fill()
{
	head -c "$2" /dev/zero >"$1" 2>/dev/null
	du -k "$1" | cut -f 1
}

once()
{
	"$SPMT" run "$@" 2>/dev/null | tail -n 1
}

# complains REGEX DESC COMMAND...: it fails with one such line.
complains()
{
	local out rc
	out=$("${@:3}" 2>&1 </dev/null)
	rc=$?
	if [ $rc -gt 0 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out"
	fi
}

# What all slices use, the root slice too, is what the pool has given, and what files have.
sums_agree()
{
	local slices files pool
	slices=$(($(awk '{ for (i = 2; i <= NF; i++) if ($i ~ /^current=/) n += substr($i, 9) } END { printf "%d", n }' \
		"$MNT/.spm/slices") + $(cat "$MNT/.spm/current")))
	files=$(find "$MNT" -type f -printf '%i %b\n' | sort -u | awk '{ n += $2 } END { printf "%d", n * 512 }')
	pool=$(spm_stat resident_bytes)
	[ "$slices $files" = "$pool $pool" ] || { echo "slices $slices, files $files, pool $pool"; return 1; }
}

# The kernel tells a moment later that nobody uses a removed file any more.
sums()
{
	wait_until 10 sums_agree
	ok "$1: what slices use is what files have, and the pool has given" sums_agree
	account "$1"
}

creation()
{
	made a min=8M max=16M uid=$USER_A gid=$USER_A mode=0750
	is "its directory" "$(stat -c '%F %u %g %a %h' "$MNT/a")" "directory $USER_A $USER_A 750 2"
	is "what the list says of it" "$(cat "$MNT/.spm/slices")" "a id=1 current=0 grant=$((8 * MIB)) swap.current=0 own.max=max \
own.swap.max=max min=$((8 * MIB)) max=$((16 * MIB)) swap.max=max pin.max=max inodes=max uid=$USER_A gid=$USER_A mode=0750 nodes= \
huge= map= cold= delegate=0"
	made b
	is "df of a" "$(df_of "$MNT/a")" "16384 0 16384"
	is "df of b, which has no limit" "$(df_of "$MNT/b")" "$ALL 0 $ALL"
	is "df of the mount: without what a is sure of" "$(df_of "$MNT")" "$((ALL - 8192)) 0 $((ALL - 8192))"
	is "b: max" "$(cat "$MNT/b/.spm/max")" max
	is "a: stat" "$(xargs <"$MNT/a/.spm/stat")" "limit_bytes $((16 * MIB)) min_bytes $((8 * MIB)) resident_bytes 0 \
free_bytes $((16 * MIB)) swapped_bytes 0 inodes 0"
	is "the mount: stat" "$(spm_stat limit_bytes) $(spm_stat free_bytes)" "$((ALL * 1024)) $((ALL * 1024))"
	refused "a slice of that name" "File exists" create a
	refused "min above max" "Numerical result out of range" create c min=4M max=2M
	refused "more than the device is guaranteed" "No space left on device" create c min=55M
	refused "the last extent is the label's, and min is rounded up" "No space left on device" create c min=55297K
	refused "the same by set" "No space left on device" set b min=55M
	refused "nodes" "Invalid argument" create c nodes=0
	refused "huge pages" "Invalid argument" create c huge=never
	refused "direct mappings" "Invalid argument" create c map=direct
	refused "direct mappings by set" "Invalid argument" set a map=direct
	refused "less than an extent" "Numerical result out of range" create c max=1M
	refused "swap.max without swap" "Operation not supported" set a swap.max=1M
	complains "less than an extent.*2M" "spmctl: less than an extent" "$SPMCTL" slice create c --max 1M "$MNT"
	complains "nodes is not.*daxmode=system-ram" "spmctl: nodes" "$SPMCTL" slice create c --nodes 0 "$MNT"
	complains "map=direct is not.*daxmode=system-ram" "spmctl: direct" "$SPMCTL" slice set a --map direct "$MNT"
	complains "guaranteed 8M" "spmctl: more than there is" "$SPMCTL" slice create c --min 55M "$MNT"
	sums "two slices"
}

limits()
{
	printf x >"$MNT/a/one"
	is "a file of one byte takes an extent" "$(df_of "$MNT/a")" "16384 2048 14336"
	is "spmctl says so" "$("$SPMCTL" slice show --json a "$MNT" | sed -n 's/.*"current_bytes": *\([0-9]*\).*/\1/p')" $((2 * MIB))
	is "a: written up to max" "$(fill "$MNT/a/f" 20M)" 14336
	is "a: df when full" "$(df_of "$MNT/a")" "16384 16384 0"
	sums "a is full"
	is "a: full is ENOSPC" "$(once "open f rw,creat $MNT/a/t" "write f 0 x")" "err ENOSPC"
	is "a: truncate above max" "$(once "open f rw $MNT/a/t" "trunc f 4M")" "err ENOSPC"
	is "a: fallocate above max" "$(once "open f rw $MNT/a/t" "falloc f plain 0 4M")" "err ENOSPC"
	is "a: a copy into it" "$({ cp "$MNT/a/one" "$MNT/a/t"; } 2>&1 | grep -c "No space left")" 1
	rm "$MNT/a/t"
	refused "max below what is in use" "Device or resource busy" set a max=8M
	ok "others go on" put "$MNT/b/o" 2M 1
	rm "$MNT/a/f" "$MNT/a/one" "$MNT/b/o"
	sums "removed"

	# nobody takes what a is sure of
	is "b: written up to all but the min of a" "$(fill "$MNT/b/f" 80M)" $((ALL - 8192))
	is "root: nothing is left" "$(fill "$MNT/f" 2M)" 0
	is "df of the mount" "$(df_of "$MNT" | cut -d ' ' -f 2-)" "0 0"
	is "a: has its min all the same" "$(fill "$MNT/a/f" 8M)" 8192
	is "a: but no more" "$(fill "$MNT/a/g" 1M)" 0
	sums "all is used"
	rm "$MNT/a/f" "$MNT/a/g"
	wait_until 10 eval '[ "$(cat "$MNT/a/.spm/current")" -eq 0 ]'
	is "what a gives up is its own still" "$(fill "$MNT/f" 2M)" 0
	is "for a to take" "$(fill "$MNT/a/f" 8M)" 8192
	refused "a min that nobody can give" "No space left on device" set b min=56M
	refused "nor another slice's" "No space left on device" create c min=1M
	truncate -s 20M "$MNT/b/f"
	ok "what b gave back moves to a" eval '[ "$(fill "$MNT/a/g" 8M)" = 8192 ]'
	is "and to the root slice" "$(fill "$MNT/f" 80M)" $((ALL - 20480 - 16384))
	sums "the root slice is full"
	rm "$MNT/f" "$MNT/a/f" "$MNT/a/g" "$MNT/b/f"
	sums "removed again"

	ok "set b min=3M max=7M" slice set b min=3M max=7M
	is "limits are whole extents, min up and max down" "$(df_of "$MNT/b") $(slice_of b grant)" "6144 0 6144 $((4 * MIB))"
	is "b: the same when it is filled" "$(fill "$MNT/b/f" 8M)" 6144
	rm "$MNT/b/f"
	ok "set b min=0 max=max" wait_until 10 slice set b min=0 max=max
	ok "set a delegate=1" slice set a delegate=1
	ok "its owner lowers it" wait_until 5 as $USER_A sh -c "echo 12M >'$MNT/a/.spm/max'"
	is "it counts" "$(fill "$MNT/a/f" 20M)" 12288
	fails "not below what is in use" as $USER_A sh -c "echo 10M >'$MNT/a/.spm/max'"
	fails "not below an extent" as $USER_A sh -c "echo 1M >'$MNT/a/.spm/max'"
	ok "raised again" as $USER_A sh -c "echo max >'$MNT/a/.spm/max'"
	is "up to root's" "$(df_of "$MNT/a")" "16384 12288 4096"
	rm "$MNT/a/f"
	made i inodes=3
	is "inodes" "$(for i in 1 2 3 4 5; do : >"$MNT/i/$i" && echo "$i"; done 2>/dev/null | wc -l)" 3
	ok "remove i" slice remove i force
	# names take no extent
	ok "a link whose target is long, in a slice that is full" eval 'slice set b max=2M && put "$MNT/b/f" 2M 1 &&
		ln -s "$(printf "x%.0s" {1..200})" "$MNT/b/l"'
	rm "$MNT/b/f" "$MNT/b/l"
	ok "set b max=max" slice set b max=max
	sums "limits"
}

between()
{
	put "$MNT/a/x" 3M 1
	is "rename from one to another" "$(python3 -c 'import os, sys
try: os.rename(sys.argv[1], sys.argv[2])
except OSError as e: print(e.strerror)' "$MNT/a/x" "$MNT/b/x")" "Invalid cross-device link"
	ok "mv copies" mv "$MNT/a/x" "$MNT/b/x"
	ok "and it is there" check "$MNT/b/x" 3M 1
	is "charged to the other" "$(slice_of b current)" $((4 * MIB))
	is "copy_file_range from b to the root slice" "$(once "open i r $MNT/b/x" "open o rw,creat $MNT/x" "copy i 0 o 0 3M")" "ok $((3 * MIB))"
	ok "is a copy" cmp "$MNT/b/x" "$MNT/x"
	sums "copied"
	rm "$MNT/b/x" "$MNT/x"
	actor u
	tell u open f rw,creat "$MNT/a/m"
	tell u trunc f 3M
	tell u map m f rw shared 0 3M
	says "mapped, written" u ok put m 1M mapped
	says "synced" u ok msync m
	sums "mapped"
	actor_end u
	rm "$MNT/a/m"
}

come_and_go()
{
	slice create x max=4M && put "$MNT/x/f" 3M "$1" && slice remove x force
}

# A container has a bind mount of its slice.
removal()
{
	local bind=$SPM_TMP/bind before
	before=$(spm_stat free_bytes)
	made r max=16M
	put "$MNT/r/secret" 6M 7
	refused "not empty" "Directory not empty" remove r
	mkdir "$bind"
	mount --bind "$MNT/r" "$bind"
	is "bind mount: df" "$(df_of "$bind")" "16384 6144 10240"
	is "bind mount: written up to max" "$(fill "$bind/g" 20M)" 10240
	rm "$bind/g"
	actor u
	tell u open f rw "$bind/secret"
	refused "open by its bind mount" "Device or resource busy" remove r force
	ok "and all is there" check "$bind/secret" 6M 7
	rm "$bind/secret"
	refused "unlinked and open" "Device or resource busy" remove r force
	actor_end u
	put "$bind/secret" 6M 8
	ok "unused, it is removed under the bind mount" wait_until 10 slice remove r force
	is "its extents are free when the command has ended" "$(spm_stat free_bytes)" "$before"
	fails "bind mount: of nothing" cat "$bind/secret"
	umount "$bind"
	made r
	# it gets extents that were just given back
	truncate -s 6M "$MNT/r/secret"
	is "law 4: the next slice has nothing of it" "$(tr -d '\0' <"$MNT/r/secret" | wc -c)" 0
	ok "remove r" slice remove r force
	for i in {1..20}; do
		come_and_go "$i" || break
	done
	is "20 creates and removes" "$i" 20
	sums "removed"
}

rooted()
{
	pool_mount 64M size=16M,extent=64K
	made a
	is "size=: is the root slice's" "$(df_of "$MNT") $(df_of "$MNT/a")" "16384 0 16384 65472 0 65472"
	is "the root slice: up to that" "$(fill "$MNT/f" 20M)" 16384
	is "a: all the rest" "$(fill "$MNT/a/f" 80M)" $((65472 - 16384))
	sums "size="
	rm "$MNT/a/f"
	ok "remount" "$SPMFS" "$DAX" "$MNT" -o remount,size=24M
	is "the root slice: up to that" "$(fill "$MNT/f" 40M)" 24576
	fails "not below what it uses" "$SPMFS" "$DAX" "$MNT" -o remount,size=20M
	kill -KILL "$(spm_server_pid)"
	is "the next worker knows it" "$(df_of "$MNT")" "24576 24576 0"
	rm "$MNT/f"
	ok "remove a" slice remove a
}

declared()
{
	local conf=$SPM_TMP/slices.conf
	printf '%s\n' "[slice a]" "min = 8M" "max = 16M" "[slice b]" "nodes = 0" >"$conf"
	pool_device 64M
	spm_umount_all
	mkdir "$SPM_TMP/none"
	complains "slices.conf:4: slice 'b': nodes.*leave it out" "declared: nodes" "$SPMFS" "$DAX" "$SPM_TMP/none" -o "conf=$conf"
	printf '%s\n' "[slice a]" "min = 8M" "[slice b]" "min = 55M" >"$conf"
	complains "slices.conf:3: slice 'b'.*lower min" "declared: more than there is" "$SPMFS" "$DAX" "$SPM_TMP/none" -o "conf=$conf"
	is "declared: nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""
	printf '%s\n' "[slice a]" "min = 8M" "max = 16M" "[slice b]" "max = 6M" >"$conf"
	pool_mount 64M "conf=$conf,keep,name=declared"
	is "declared: df" "$(df_of "$MNT") $(df_of "$MNT/a") $(df_of "$MNT/b")" "$((ALL - 8192)) 0 $((ALL - 8192)) 16384 0 16384 6144 0 6144"
	ok "declared: content" put "$MNT/b/f" 5M 3
	printf '%s\n' "[slice a]" "max = 16M" "[slice b]" "max = 4M" >"$conf"
	ok "declared: umount" spm_umount_all
	complains "slices.conf:3: slice 'b'.*max is in use" "declared: less than is used" "$SPMFS" "$DAX" "$SPM_TMP/none" -o "conf=$conf,keep,name=declared"
	printf '%s\n' "[slice a]" "max = 20M" "[slice b]" "max = 8M" "[slice c]" "min = 10M" >"$conf"
	ok "declared: mount of what was kept" spm_mount "$DAX" "conf=$conf,keep,name=declared"
	is "declared: df now" "$(df_of "$MNT/a") $(df_of "$MNT/b") $(df_of "$MNT/c")" "20480 0 20480 8192 6144 2048 $ALL 0 $ALL"
	ok "declared: content is there" check "$MNT/b/f" 5M 3
	sums "declared"
	ok "declared: given up" eval 'spm_umount_all && umount /run/spmfs/declared.ns && rm /run/spmfs/declared.ns'
}

pool_mount 64M
creation
limits
between
removal
ok "remove a" slice remove a
ok "remove b" slice remove b
is "df of the mount is the device" "$(df_of "$MNT")" "$ALL 0 $ALL"
pool_leaves_nothing "slices"
rooted
declared
pool_mount 64M extent=64K
slice_run "at random" -e 65536
killer_start
slice_run "at random, and deaths" -e 65536
pool_leaves_nothing "at random"
KILLED=0
pool_swap_mount 64M 256M extent=64K
slice_run "at random, swap" -e 65536 --swap
pool_swap_mount 64M 256M extent=64K
killer_start
slice_run "at random, swap, deaths" -e 65536 --swap
is "no extent was unreadable" "$(spm_stat swap_errors)" 0
spm_done
