#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Swap as users see it: figures, control files, spmctl evict, load and compact, and what each says when it cannot.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

command -v jq >/dev/null || skip_all "no jq here"

MIB=1048576

# jq on what spmctl prints; also checks that it is JSON at all.
json()
{
	local filter=$1
	shift
	"$SPMCTL" "$@" 2>"$SPM_TMP/err" | jq -r "$filter"
}

# refused DESC REGEX ARGS...: spmctl fails, and one of its lines says that.
refused()
{
	local desc=$1 want=$2 rc
	shift 2
	"$SPMCTL" "$@" >"$SPM_TMP/out" 2>"$SPM_TMP/err"
	rc=$?
	if [ $rc -ne 1 ]; then
		fail "$desc" "spmctl $*: status $rc, wanted 1: $(cat "$SPM_TMP/err")"
	else
		like "$desc" "$(cat "$SPM_TMP/err")" "$want"
	fi
}

# write_error FILE TEXT: what writing it to a control file says; "" when it was taken. $ctl is the mount's directory of them.
write_error()
{
	bash -c 'printf "%s\n" "$2" >"$1"' bash "$ctl/$1" "$2" 2>&1 | sed -n '1s/.*: //p'
}

swapped()
{
	spm_file swapped_bytes "$1"
}

sum()
{
	sha256sum "$1" | cut -d' ' -f1
}

# ---- without swap ----

spm_need_mount mem:32M name=noswap
ctl=$MNT/.spm
head -c 1M /dev/urandom >"$MNT/f"
is "features: why it is off" "$(spm_feature swap)" "off: option swap= not given"
like "so says status" "$("$SPMCTL" status "$MNT")" 'swap +off: option swap= not given'
refused "evict: how to get swap" "^spmctl: $MNT: swap is off; .*-o swap=" evict "$MNT/f"
refused "compact: the same" "^spmctl: $MNT: swap is off; .*-o swap=" compact "$MNT"
ino=$(stat -c %i "$MNT/f")
for line in "reclaim 1M" "swap.max 1M" "evict $ino 0 4096" "load $ino 0 4096" "compact 1"; do
	is "${line%% *} is not to be had" "$(write_error "${line%% *}" "${line#* }")" "Operation not supported"
done

# ---- with swap: figures ----

mkdir "$SPM_TMP/swap"
export SPMFS_FAULTS=1
spm_fresh mem:64M "swap=$SPM_TMP/swap,swapsize=256M,name=ctlswap,cold=3600"
ctl=$MNT/.spm
like "features: what it has" "$(spm_feature swap)" \
	"^on: 1 file, 267386880 bytes, (O_DIRECT|buffered: [^(]*) \($SPM_TMP/swap\)\$"
is "and how it is used" "$(for k in extent low high cold compact; do spm_feature $k; done | xargs)" \
	"2097152 5 10 3600 67108864"
is "what is off says why" "$(grep -E ' off' "$ctl/features" | grep -cvE ' off: .+')" 0
is "nothing is swapped" "$(for k in swapped_bytes swap_used_bytes swapout_bytes swap_errors; do spm_stat $k; done | xargs)" \
	"0 0 0 0"
like "status: how much there is" "$("$SPMCTL" status -u "$MNT")" 'swap +0 used of [0-9.]+M'
is "events: what is counted" "$(cut -d' ' -f1 "$ctl/events" | xargs)" "low max oom swap_fail swap_errors memory_errors"
for f in reclaim evict load compact; do
	is "$f: root may write it, nobody read it" "$(stat -c '%a %u' "$ctl/$f")" "200 0"
	fails "not even root reads $f" cat "$ctl/$f"
	fails "no user writes $f" as "$USER_A" sh -c 'echo 1 >"$1"' sh "$ctl/$f"
done
fails "nor swap.max" as "$USER_A" sh -c 'echo 1M >"$1"' sh "$ctl/swap.max"
ok "but reads it" as "$USER_A" cat "$ctl/swap.max"

# ---- evict and load ----

mkdir "$MNT/dir" "$MNT/dir/sub"
for f in a dir/b dir/sub/c; do
	head -c 8M /dev/urandom >"$MNT/$f"
done
truncate -s 64M "$MNT/dir/hole"
ln -s a "$MNT/link"
a=$(sum "$MNT/a")
blocks=$(stat -c %b "$MNT/a")
is "evict --json: one element" "$(json 'length' evict --json "$MNT/a")" 1
is "the file's bytes are in swap" "$(swapped "$MNT/a") $(spm_file resident_bytes "$MNT/a")" "$((8 * MIB)) 0"
is "so says files --json" "$(json '.[0] | "\(.swapped_bytes) \(.resident_bytes)"' files --json "$MNT/a")" \
	"$((8 * MIB)) 0"
is "st_blocks is as before" "$(stat -c %b "$MNT/a")" "$blocks"
is "stat counts it" "$(spm_stat swapped_bytes)" $((8 * MIB))
ok "written" test "$(spm_stat swapout_bytes)" -ge $((8 * MIB))
is "status --json, too" "$(json .swapped_bytes status --json "$MNT")" $((8 * MIB))
used=$(cat "$ctl/swap.current")
ok "swap.current: the slots ($used)" test "$used" -ge $((8 * MIB)) -a "$used" -le $((9 * MIB))
is "once more moves nothing" "$(json '.[0] | keys, .moved_bytes, .swapped_bytes | tostring' evict --json "$MNT/a" | xargs -d '\n')" \
	"[\"moved_bytes\",\"path\",\"swapped_bytes\"] 0 $((8 * MIB))"
is "load brings it back" "$(json '.[0] | "\(.moved_bytes) \(.swapped_bytes)"' load --json "$MNT/a")" "$((8 * MIB)) 0"
is "all of it" "$(sum "$MNT/a")" "$a"
is "evict: one line" "$("$SPMCTL" evict "$MNT/a")" "$((8 * MIB)) bytes moved out, files: 1"
is "what was evicted reads as before" "$(sum "$MNT/a")" "$a"
"$SPMCTL" evict "$MNT/a" >/dev/null
is "load -u: in units" "$("$SPMCTL" load -u "$MNT/a")" "8M moved in, files: 1"
refused "a directory needs -r" "^spmctl: $MNT/dir: a directory; -r " evict "$MNT/dir"
is "nothing of it moved" "$(swapped "$MNT/dir/b")" 0
is "-r: all files below" "$(json '[.[].path] | join(" ")' evict --json -r "$MNT/dir")" \
	"$MNT/dir/b $MNT/dir/hole $MNT/dir/sub/c"
is "they went" "$(swapped "$MNT/dir/b") $(swapped "$MNT/dir/sub/c") $(swapped "$MNT/dir/hole")" \
	"$((8 * MIB)) $((8 * MIB)) 0"
is "and come back together" "$("$SPMCTL" load -u --recursive "$MNT/dir")" "16M moved in, files: 3"
refused "a symbolic link has no data" "not a regular file" evict "$MNT/link"
refused "another filesystem" "not on a spmfs mount" evict -r "$SPM_TMP/swap"
refused "a name that is not there" "No such file" evict "$MNT/nothing"
fails "a user cannot" as "$USER_A" "$SPMCTL" evict "$MNT/a"
like "and is told who can" "$(as "$USER_A" "$SPMCTL" evict "$MNT/a" 2>&1)" "run it as root"
is "no word when there is nothing to say" "$("$SPMCTL" load "$MNT/a" 2>&1 >/dev/null)" ""

# ---- what is pinned ----

actor one
tell one open f rw "$MNT/a"
refused "open: by whom" "^spmctl: $MNT/a: it is pinned, held by [^ ]+ \(pid ${ACTOR_PID[one]}, open\)" evict "$MNT/a"
tell one map m f rw shared 0 8M
refused "open and mapped" "\(pid ${ACTOR_PID[one]}, open and mapped\)" evict "$MNT/a"
tell one close f
refused "mapped" "\(pid ${ACTOR_PID[one]}, mapped\)" evict "$MNT/a"
actor two unshare --mount
tell two open f r "$MNT/dir/b"
refused "from another mount namespace" "/dir/b: .*\(pid ${ACTOR_PID[two]}, open\)" evict "$MNT/a" "$MNT/dir/b"
is "two pinned, two lines" "$(wc -l <"$SPM_TMP/err")" 2
refused "pinned ones keep no other from leaving" "pinned" evict -r "$MNT"
is "these stayed" "$(swapped "$MNT/a") $(swapped "$MNT/dir/b")" "0 0"
is "that one left" "$(swapped "$MNT/dir/sub/c")" $((8 * MIB))
tell one unmap m
is "right after the last unmapping it can" "$("$SPMCTL" evict "$MNT/a" 2>&1)" "$((8 * MIB)) bytes moved out, files: 1"
actor_end one two
is "and after the last close" "$("$SPMCTL" evict "$MNT/dir/b" 2>&1)" "$((8 * MIB)) bytes moved out, files: 1"

# ---- the control files themselves ----

"$SPMCTL" load -r "$MNT" >/dev/null
# Held in a way that does not pin, so that the kernel knows them all the time.
actor one
tell one open f path "$MNT/a"
tell one open d path "$MNT/dir"
ino=$(stat -c %i "$MNT/a")
dirino=$(stat -c %i "$MNT/dir")
for bad in "" x 1 "1 2" "$ino 0 4096 1" "$ino 0 -1" "$ino -1 1" "0x1 0 1" "$ino 0 99999999999999999999" \
	"$ino 9223372036854775807 1"; do
	for f in evict load; do
		is "$f: '$bad' is refused" "$(write_error "$f" "$bad")" "Invalid argument"
	done
done
is "an inode that is none" "$(write_error evict "987654321 0 4096")" "No such file or directory"
is "a directory's" "$(write_error evict "$dirino 0 4096")" "Is a directory"
is "a part of a file leaves" "$(write_error evict "$ino $((2 * MIB)) $((2 * MIB))")$(swapped "$MNT/a")" $((2 * MIB))
is "and comes back" "$(write_error load "$ino 0 $((8 * MIB))")$(swapped "$MNT/a")" 0
is "it is whole" "$(sum "$MNT/a")" "$a"
actor_end one
for bad in x 0 2 "1 1"; do
	is "compact: '$bad' is refused" "$(write_error compact "$bad")" "Invalid argument"
done

free=$(spm_stat free_bytes)
is "reclaim" "$(write_error reclaim 6M)" ""
ok "so much more is free" test $(($(spm_stat free_bytes) - free)) -ge $((6 * MIB))
is "more than there is: as control groups say it" "$(write_error reclaim 1G)" "Resource temporarily unavailable"
is "but all of it went" "$(spm_stat swapped_bytes)" $((24 * MIB))
is "reclaim of nonsense" "$(write_error reclaim lots)" "Invalid argument"

"$SPMCTL" load -r "$MNT" >/dev/null
is "a limit of the mount below what is in use" "$(write_error max 16M)" ""
ok "has something leave first" test "$(spm_stat swapped_bytes)" -ge $((8 * MIB))
is "max shows it" "$(cat "$ctl/max")" $((16 * MIB))
write_error max max >/dev/null
is "no byte was lost" "$(sum "$MNT/a")" "$a"

"$SPMCTL" load -r "$MNT" >/dev/null
is "swap.max" "$(write_error swap.max 4M)$(cat "$ctl/swap.max")" $((4 * MIB))
refused "more does not leave" "^spmctl: $MNT/a: the swap files are full, or swap.max is reached" evict "$MNT/a"
ok "not a bit more" test "$(cat "$ctl/swap.current")" -le $((4 * MIB))
kill -KILL "$(spm_server_pid)"
is "the next worker knows it" "$(cat "$ctl/swap.max")" $((4 * MIB))
is "and keeps to it" "$("$SPMCTL" evict "$MNT/dir/b" >/dev/null 2>&1; echo $?)" 1
is "no limit again" "$(write_error swap.max max)$(cat "$ctl/swap.max")" max
ok "now it goes" "$SPMCTL" evict "$MNT/a" "$MNT/dir/b"
is "whole, after all that" "$(sum "$MNT/a")" "$a"

# ---- compact ----

"$SPMCTL" evict -r "$MNT" >/dev/null
ok "compact" "$SPMCTL" compact "$MNT"
like "one line" "$("$SPMCTL" compact -u "$MNT")" "^$MNT: .* put into huge pages, .* moved in swap files"
rm "$MNT/dir/b"
was=$(spm_stat swap_bytes)
size=$(df -B1 --output=size "$MNT" | tail -n 1)
is "compact --json: its keys" "$(json 'keys | join(" ")' compact --json "$MNT")" \
	"collapsed_bytes free_run_bytes huge_bytes huge_scanned_bytes mountpoint moved_bytes pool_moved_bytes swap_bytes swap_bytes_before"
ok "the swap files are smaller ($was, $(spm_stat swap_bytes))" test "$(spm_stat swap_bytes)" -lt "$was"
is "by what the disk says, too" "$(($(stat -c '%b' "$SPM_TMP"/swap/* | head -n 1) * 512 <= was))" 1
is "what the mount can hold is the same" "$(df -B1 --output=size "$MNT" | tail -n 1)" "$size"
ok "and it can be used" eval 'head -c 200M /dev/urandom >"$MNT/large"'
rm "$MNT/large"
is "nothing was lost" "$(sum "$MNT/a")" "$a"

# A pass that lasts, by moves that are slow; Ctrl-C. None in the background that would be faster.
spm_fresh mem:64M "swap=$SPM_TMP/swap,swapsize=256M,name=ctlswap,compact=off"
ctl=$MNT/.spm
like "features: no compaction in the background" "$(spm_feature compact)" '^off: '
head -c 16M /dev/urandom >"$MNT/a"
head -c 16M /dev/urandom >"$MNT/first"
head -c 16M /dev/urandom >"$MNT/second"
second=$(sum "$MNT/second")
"$SPMCTL" evict -r "$MNT" >/dev/null
rm "$MNT/first" "$MNT/a"
moved()
{
	[ "$(spm_stat compact_moved_bytes)" -gt "$1" ]
}
echo "compact:copied slow:500 1 100" >"$ctl/fault"
"$SPMCTL" compact "$MNT" >"$SPM_TMP/out" 2>"$SPM_TMP/err" &
pass=$!
ok "a slow pass: one extent has moved" wait_until 10 moved 0
kill -INT "$pass"
wait "$pass"
is "interrupted: it failed" $? 1
like "the line says so" "$(cat "$SPM_TMP/err")" "^spmctl: $MNT: compaction was ended early"
so_far=$(spm_stat compact_moved_bytes)
ok "more would have moved ($so_far)" test "$so_far" -lt $((10 * MIB))
"$SPMCTL" compact "$MNT" >/dev/null 2>&1 &
pass=$!
ok "again: one more" wait_until 10 moved "$so_far"
kill -KILL "$pass"
wait "$pass" 2>/dev/null
so_far=$(spm_stat compact_moved_bytes)
ok "its client was killed: that ends it, too ($so_far)" test "$so_far" -lt $((16 * MIB))
echo clear >"$ctl/fault"
ok "the next one goes on" "$SPMCTL" compact "$MNT"
ok "and moves what is left" moved "$so_far"
is "and loses nothing" "$(sum "$MNT/second")" "$second"

# ---- the worker dies over it: the next one does it again ----

head -c 8M /dev/urandom >"$MNT/first"
head -c 8M /dev/urandom >"$MNT/third"
third=$(sum "$MNT/third")
"$SPMCTL" load -r "$MNT" >/dev/null
for at in swapout:written swapout:recorded swapout:punched; do
	echo "$at kill" >"$ctl/fault"
	is "evict, killed at $at" "$("$SPMCTL" evict "$MNT/third" 2>&1 | grep -c ' moved out, files: 1$')" 1
	is "it went" "$(swapped "$MNT/third")" $((8 * MIB))
	is "and comes back" "$("$SPMCTL" load -u "$MNT/third") $(sum "$MNT/third")" "8M moved in, files: 1 $third"
done
for at in swapin:marked swapin:read swapin:cleared; do
	"$SPMCTL" evict "$MNT/third" >/dev/null
	echo "$at kill" >"$ctl/fault"
	is "load, killed at $at" "$("$SPMCTL" load "$MNT/third" 2>&1 | grep -c ' moved in, files: 1$')" 1
	is "it came" "$(swapped "$MNT/third") $(sum "$MNT/third")" "0 $third"
done
"$SPMCTL" evict -r "$MNT" >/dev/null
rm "$MNT/first"
for at in compact:copied compact:moved; do
	echo "$at kill" >"$ctl/fault"
	ok "compact, killed at $at" "$SPMCTL" compact "$MNT"
	is "the point was reached" "$(cat "$ctl/fault")" ""
	head -c 8M /dev/urandom >"$MNT/first"
	"$SPMCTL" evict "$MNT/first" >/dev/null
	rm "$MNT/second"
	mv "$MNT/first" "$MNT/second"
done
is "nothing was lost" "$(sum "$MNT/third")" "$third"
is "nor found damaged" "$(spm_stat swap_errors)" 0
is "each of them died" "$(spm_feature worker_restarts)" 8

# ---- a terminal sees how far it is ----

if command -v script >/dev/null; then
	"$SPMCTL" load -r "$MNT" >/dev/null
	echo "swapout:written slow:300 1 3" >"$ctl/fault"
	script -qec "'$SPMCTL' evict -r '$MNT'" /dev/null >"$SPM_TMP/tty" 2>&1 </dev/null
	like "evict: progress" "$(tr '\r' '\n' <"$SPM_TMP/tty")" 'spmctl: evict: file [0-9]+, [0-9.]+[KMG]? of [0-9.]+[KMG]?'
	echo clear >"$ctl/fault"
	"$SPMCTL" load -r "$MNT" >/dev/null
	is "elsewhere none" "$("$SPMCTL" evict -r "$MNT" 2>&1 | wc -l)" 1
else
	skip "evict: progress" "no script(1) here"
fi

# ---- what goes wrong ----

spm_fresh mem:64M "swap=$SPM_TMP/swap,swapsize=256M,name=ctlswap,compact=off"
ctl=$MNT/.spm
head -c 16M /dev/urandom >"$MNT/a"
a=$(sum "$MNT/a")
"$SPMCTL" evict "$MNT/a" >/dev/null
actor one
tell one open p creat,rw "$MNT/pinned"
tell one falloc p plain 0 56M
tell one map m p rw shared 0 4096
refused "load: no room, and why" "^spmctl: $MNT/a: not all of it fits: .*pinned" load "$MNT/a"
ok "status says it, too" test "$(spm_stat pinned_bytes)" -ge $((56 * MIB))
ok "events: oom" test "$(sed -n 's/^oom //p' "$ctl/events")" -ge 1
actor_end one
rm "$MNT/pinned"
# Its memory is free a moment later.
loads()
{
	"$SPMCTL" load "$MNT/a"
}
ok "with room it comes" wait_until 10 loads
is "whole" "$(sum "$MNT/a")" "$a"

"$SPMCTL" evict "$MNT/a" >/dev/null
echo "swapio:read eio 1 1000" >"$ctl/fault"
refused "load: a disk that cannot be read" "^spmctl: $MNT/a: a swap file could not be read \(input/output error\)" \
	load "$MNT/a"
echo clear >"$ctl/fault"
errors=$(spm_stat swap_errors)
ok "it is counted" test "$errors" -ge 1
like "status shows that" "$("$SPMCTL" status "$MNT")" "damaged +$errors extents could not be read back"
ok "nothing is lost if it can be read later" "$SPMCTL" load "$MNT/a"
is "not a byte" "$(sum "$MNT/a")" "$a"
echo "swapio:write eio 1 1000" >"$ctl/fault"
refused "evict: a disk that cannot be written" "^spmctl: $MNT/a: a swap file could not be written" evict "$MNT/a"
echo clear >"$ctl/fault"
ok "events: swap_fail" test "$(sed -n 's/^swap_fail //p' "$ctl/events")" -ge 1
is "what was to leave stayed" "$(swapped "$MNT/a") $(sum "$MNT/a")" "0 $a"

spm_umount
is "umount removes the swap file" "$(ls -A "$SPM_TMP/swap")" ""
spm_done
