#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Drain: the device is emptied, with clients of each kind at work; what is refused meanwhile, and what goes on.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$(dirname "$0")/../swapping.sh"

command -v jq >/dev/null || skip_all "no jq here"
export SPMFS_FAULTS=1

# drain DESC STATUS REGEX ARGS...: spmctl drain ends with that status, and what it says matches.
drain()
{
	local desc=$1 want=$2 regex=$3 rc
	shift 3
	"$SPMCTL" drain "$@" "$MNT" >"$SPM_TMP/drain.out" 2>&1 </dev/null
	rc=$?
	if [ "$rc" -ne "$want" ]; then
		fail "$desc" "status $rc, wanted $want: $(cat "$SPM_TMP/drain.out")"
	else
		like "$desc" "$(cat "$SPM_TMP/drain.out")" "$regex"
	fi
}

state()
{
	sed -n 's/^state //p' "$MNT/.spm/drain"
}

is_state()
{
	[ "$(state)" = "$1" ]
}

is_empty()
{
	[ "$(spm_stat resident_bytes)" -eq 0 ]
}

# refused DESC CMD...: with EROFS
refused()
{
	local desc=$1
	shift
	like "$desc" "$("$@" 2>&1)" "Read-only file system|err EROFS"
}

is_drained()
{
	is "$1: drained, nothing is on the device" "$(state) $(spm_stat resident_bytes) $(spm_stat draining)" "drained 0 1"
}

# ---- without swap ----

spm_need_mount mem:64M name=noswap
is "in service" "$(state) $(spm_feature drain) $(spm_stat draining)" "none none 0"
is "root alone reads it and writes it" "$(stat -c '%a %u' "$MNT/.spm/drain")" "600 0"
fails "a user does not drain" as "$USER_A" "$SPMCTL" drain "$MNT"
for value in 2 on "1 1" more; do
	fails "'$value' is nothing to write there" bash -c 'echo "$2" >"$1"' bash "$MNT/.spm/drain" "$value"
done
head -c 4M /dev/urandom >"$MNT/f"
drain "what is left is said, and why" 1 "^spmctl: $MNT/f: 4M, which nothing but removing it takes away: swap is off
spmctl: $MNT: not empty: 4M is left .*spmctl drain --cancel $MNT" --timeout 0
is "it goes on, also without a command" "$(state)" draining
refused "a new file" touch "$MNT/new"
ok "reads go on" cmp -n 1M "$MNT/f" "$MNT/f"
ok "so do removals" rm "$MNT/f"
drain "with the last file the device is empty" 0 ": drained, 0 bytes written to swap" --timeout 20
is_drained "without swap"
drain "cancel" 0 "^$MNT: not drained any more" --cancel
drain "a second time there is nothing to cancel" 0 "^$MNT: it was not being drained" --cancel
is "in service again" "$(state)" none
ok "new files are taken" touch "$MNT/new"
drain "an empty file takes nothing of the device" 0 ": drained, " --timeout 20
drain "cancel, in JSON" 0 '"state": ?"none"' --cancel --json
for args in "--timeout" "--timeout x" "--timeout -1" "--timeout 1.5" "--cancel --timeout 1" "/"; do
	# shellcheck disable=SC2086 # words
	"$SPMCTL" drain $args "$MNT" >"$SPM_TMP/out" 2>&1
	is "'$args': wrong usage" "$?" 2
done

# ---- clients of each kind ----

swap_mount mem:128M 256M name=drain
for f in idle rd map wmap mirror append deleted other; do
	ok "$f" put "$MNT/$f" $((4 * MIB)) 1
done
mkdir "$MNT/dir"
echo link >"$MNT/dir/small"
setfattr -n user.spm.map -v mirror "$MNT/mirror" "$MNT/append" || fail "files that are mirrors"
actor rd
actor map
actor wr
actor other unshare --mount
tell rd open f r "$MNT/rd"
tell map open f rw "$MNT/map"
tell map map m f rw shared 0 2M
tell map close f
tell wr open m rw "$MNT/mirror"
tell wr map m m rw shared 0 1M
tell wr open a rw,append "$MNT/append"
tell wr open d rw "$MNT/deleted"
rm "$MNT/deleted"
tell other open f rw "$MNT/other"
is "these are direct" "$(for f in rd map other mirror; do file_mode "$MNT/$f"; done | xargs)" "direct direct direct mirror"
drain "who holds what is said" 1 "waiting until these are closed and unmapped" --timeout 2
for who in "rd: 4M, held by spmt (pid ${ACTOR_PID[rd]}, open)" "map: 4M, held by spmt (pid ${ACTOR_PID[map]}, mapped)" \
	"other: 4M, held by spmt (pid ${ACTOR_PID[other]}, open)"; do
	ok "$who" grep -qxF "spmctl: $MNT/$who" "$SPM_TMP/drain.out"
done
ok "also of a file that is deleted" grep -qxF "spmctl: (deleted): 4M, held by spmt (pid ${ACTOR_PID[wr]}, open)" \
	"$SPM_TMP/drain.out"
is "the rest has left" "$(spm_stat resident_bytes)" $((16 * MIB))
is "json: the files" "$("$SPMCTL" drain --json --timeout 0 "$MNT" 2>/dev/null | jq -c \
	'[.state, .resident_bytes, (.files | map(.path | sub(".*/"; "")) | sort)]')" \
	"[\"draining\",$((16 * MIB)),[\"(deleted)\",\"map\",\"other\",\"rd\"]]"
is "and who" "$("$SPMCTL" drain --json --timeout 0 "$MNT" 2>/dev/null | jq -c \
	'.files[] | select(.path | endswith("/map")) | [.mode, .holders[0].pid, .holders[0].open, .holders[0].mapped]')" \
	"[\"direct\",${ACTOR_PID[map]},false,true]"
like "status shows it" "$("$SPMCTL" status "$MNT")" "drain +draining: nothing new is taken; spmctl drain --cancel $MNT"
is "so does its JSON" "$("$SPMCTL" status --json "$MNT" | jq -r .drain)" draining

refused "a file" touch "$MNT/new"
refused "a directory" mkdir "$MNT/newdir"
refused "a symbolic link" ln -s x "$MNT/newlink"
refused "a hard link" ln "$MNT/idle" "$MNT/newname"
refused "a node" mknod "$MNT/newnode" p
refused "a file without a name" ask other open t rw,tmpfile "$MNT"
refused "an open for writing" ask other open w w "$MNT/idle"
refused "and one that empties" ask other open w w,trunc "$MNT/idle"
refused "growth by a write" ask wr append a more
refused "by a write beyond the end" ask wr write m 4M more
refused "by truncate" ask wr trunc m 5M
refused "by fallocate" ask wr falloc m plain 4M 1M
refused "memory for holes" ask wr falloc m keep 0 1M
refused "by copy_file_range" ask wr copy a 0 m 4M 4096
refused "a slice" bash -c 'echo create s >"$1"' bash "$MNT/.spm/slice"
like "spmctl slice create says why" "$("$SPMCTL" slice create s "$MNT" 2>&1)" \
	"^spmctl: s: the device is being drained.*spmctl drain --cancel $MNT ends that"
like "so does load" "$("$SPMCTL" load "$MNT/idle" 2>&1)" "^spmctl: $MNT: the device is being drained"
is "nothing of it is there" "$(find "$MNT" -name 'new*' | wc -l)" 0
ok "reads go on" check "$MNT/idle" $((4 * MIB)) 1
ok "again and again, and bring nothing back" eval 'for i in 1 2 3 4 5 6 7 8 9 10; do check "$MNT/idle" $((4 * MIB)) 1; done'
is "not a byte" "$(resident "$MNT/idle")" 0
ok "so does running a program" eval '[ "$(cat "$MNT/dir/small")" = link ]'
says "a file that is open for writing can be written in place" wr "ok 7" write m 8K inplace
ok "what that brought here leaves again" wait_until 20 eval '[ "$(resident "$MNT/mirror")" -eq 0 ]'
is "it was written" "$(dd if="$MNT/mirror" bs=1 skip=8192 count=7 status=none iflag=skip_bytes)" inplace
says "a mapping of a mirror" wr ok put m 64K mapped
says "is written back" wr ok msync m
ok "and leaves again" wait_until 20 eval '[ "$(resident "$MNT/mirror")" -eq 0 ]'
is "with its bytes" "$(dd if="$MNT/mirror" bs=1 skip=65536 count=6 status=none iflag=skip_bytes)" mapped
says "a direct mapping goes on" map ok put m 0 direct
actor late
says "what is opened for reading now" late ok open f r "$MNT/idle"
is "is a mirror" "$(file_mode "$MNT/idle")" mirror
says "so that it can be mapped" late ok map m f r shared 0 1M
tell late get m 0 8
like "and read" "$REPLY" "^ok "
is "without pinning anything" "$(resident "$MNT/idle")" 0
ok "rename, attributes and xattrs go on" eval 'mv "$MNT/dir/small" "$MNT/dir/renamed" && chmod 600 "$MNT/dir/renamed" &&
	setfattr -n user.x -v y "$MNT/dir/renamed" && touch "$MNT/dir"'
fails "but no content is fixed to the device" chattr +i "$MNT/dir/renamed"

# ---- the worker dies ----

tell map put m 4K before
pid=$(spm_server_pid)
kill -KILL "$pid"
ok "another worker serves" wait_until 20 spm_another spmfs-worker "$pid"
is "and drains" "$(state) $(spm_stat draining)" "draining 1"
refused "nothing new is taken, as before" touch "$MNT/new"
ok "nothing comes back" check "$MNT/idle" $((4 * MIB)) 1
is "not a byte, either" "$(resident "$MNT/idle")" 0

# ---- until it is empty ----

"$SPMCTL" drain "$MNT" >"$SPM_TMP/first" 2>&1 &
first=$!
"$SPMCTL" drain "$MNT" >"$SPM_TMP/second" 2>&1 &
second=$!
ok "two wait" wait_until 20 eval 'grep -q waiting "$SPM_TMP/first" && grep -q waiting "$SPM_TMP/second"'
actor_end rd other
tell wr close d
ok "and go on waiting for a mapping" wait_until 20 eval '[ "$(spm_stat resident_bytes)" -eq $((4 * MIB)) ]'
ok "both" kill -0 "$first" "$second"
tell map unmap m
wait "$first"
is "the first one ends when that goes" "$? $(grep -c ': drained, ' "$SPM_TMP/first")" "0 1"
wait "$second"
is "the second, too" "$? $(grep -c ': drained, ' "$SPM_TMP/second")" "0 1"
is_drained "every client has let go"
is "what was mapped is there" "$(dd if="$MNT/map" bs=1 count=6 status=none)" direct
ok "all other files are" eval 'check "$MNT/idle" $((4 * MIB)) 1 && check "$MNT/rd" $((4 * MIB)) 1 && check "$MNT/other" $((4 * MIB)) 1'
is "they were read from swap" "$(spm_stat resident_bytes)" 0
ok "files are made smaller" perl -e 'truncate($ARGV[0], 3000001) or die' "$MNT/idle"
ok "the rest of an extent leaves again" wait_until 20 is_state drained
ok "it is right" check "$MNT/idle" 3000000 1
actor_end wr late map

# ---- cancel ----

drain "cancel" 0 "service is as it was" --cancel
is "nothing is drained" "$(state) $(spm_feature drain)" "none none"
ok "what comes back stays" eval 'load "$MNT/rd" && [ "$(resident "$MNT/rd")" -eq $((4 * MIB)) ]'
ok "all can be written" put "$MNT/new" $((4 * MIB)) 2
actor one
tell one open f rw "$MNT/rd"
is "and opened directly" "$(file_mode "$MNT/rd")" direct
"$SPMCTL" drain "$MNT" >"$SPM_TMP/first" 2>&1 &
first=$!
ok "one waits" wait_until 20 grep -q waiting "$SPM_TMP/first"
drain "another one cancels" 0 "service is as it was" --cancel
wait "$first"
is "who waits is told, and does not begin again" "$? $(grep -c 'cancelled meanwhile' "$SPM_TMP/first") $(state)" "1 1 none"
actor_end one

# ---- requests under way ----

fault()
{
	echo "$*" >"$MNT/.spm/fault"
}

fault "mkdir:effect slow:20000"
mkdir "$MNT/made" &
made=$!
ok "a directory is being made" wait_until 20 spm_logged "fault: mkdir:effect slow"
echo 1 >"$MNT/.spm/drain" 2>/dev/null
pid=$(spm_named spmfs-worker)
kill -KILL "$pid"
wait "$made"
is "what was begun before comes to its end in the next worker" "$?" 0
ok "it is there" test -d "$MNT/made"
refused "what comes after is refused" mkdir "$MNT/after"
drain "the rest has left" 0 ": drained, " --timeout 60

# ---- what was in use when it was its turn, and is not used afterwards ----

drain "in service" 0 "service is as it was" --cancel
ok "a mirror" put "$MNT/late" $((4 * MIB)) 4
setfattr -n user.spm.map -v mirror "$MNT/late"
actor late
tell late open m rw "$MNT/late"
echo 1 >"$MNT/.spm/drain" 2>/dev/null
ok "it has left" wait_until 20 eval '[ "$(resident "$MNT/late")" -eq 0 ]'
fault "swapin:read slow:1500"
says "a write brings a piece back, and has it in its hands for a while" late "ok 4" write m 8K late
says "longer than until the first look at it" late ok fsync m
ok "it leaves by itself" wait_until 20 eval '[ "$(resident "$MNT/late")" -eq 0 ]'
actor_end late
fault clear
drain "all has left" 0 ": drained, " --timeout 60

# ---- a worker that dies in the middle ----

drain "in service" 0 "service is as it was" --cancel
ok "new content" put "$MNT/big" $((48 * MIB)) 3
for at in swapout:written swapout:recorded swapout:punched; do
	fault "$at kill 3"
	drain "killed at $at, it comes to its end" 0 ": drained, " --timeout 60
	is_drained "$at"
	ok "every byte is right" check "$MNT/big" $((48 * MIB)) 3
	drain "in service" 0 "service is as it was" --cancel
	ok "all comes back" load "$MNT/big"
done
is "workers died" "$(spm_feature worker_restarts)" 5

# ---- slices, and what cannot leave ----

ok "a slice" "$SPMCTL" slice create one --min 8M --max 64M "$MNT"
ok "with content" put "$MNT/one/f" $((6 * MIB)) 4
echo fixed >"$MNT/fixed"
if chattr +i "$MNT/fixed" 2>/dev/null; then
	drain "what is fixed to the device is said" 1 "fixed: 4K, which cannot leave: chattr \+i or \+a, or file capabilities" --timeout 5
	is "it alone is left, also of what a slice is guaranteed" "$(spm_stat resident_bytes)" 4096
	ok "when it is not fixed any more" chattr -i "$MNT/fixed"
else
	skip "what is fixed to the device is said" "no chattr here"
fi
drain "all leaves" 0 ": drained, " --timeout 60
is_drained "with a slice"
ok "the slice's content is right" check "$MNT/one/f" $((6 * MIB)) 4
refused "nothing new in it" touch "$MNT/one/new"

drain "in service" 0 "service is as it was" --cancel
ln -s "$(printf '%0300d' 0)" "$MNT/long"
drain "a long link is told of" 1 "and 4K in symbolic links with long targets, which cannot leave; removing them helps" --timeout 1
ok "when it is removed" rm "$MNT/long"
drain "it is empty" 0 ": drained, " --timeout 20

# ---- swap is full ----

swap_mount mem:64M 16M name=full
ok "more than swap has room for" put "$MNT/f" $((32 * MIB)) 5
drain "that is said" 1 "/f: [0-9.]+M, for which the swap files have no room, or swap.max is reached" --timeout 3
ok "what is left is here, the rest in swap" check "$MNT/f" $((32 * MIB)) 5
ok "removing it" rm "$MNT/f"
drain "helps" 0 ": drained, " --timeout 20

# ---- the disk fails ----

swap_mount mem:64M 64M name=disk
ok "content" put "$MNT/f" $((8 * MIB)) 6
fault "swapio:write eio 1 100"
drain "a disk that fails is named" 1 "/f: [0-9.]+M, which could not be written to a swap file: the system log says why" --timeout 3
ok "nothing is lost" check "$MNT/f" $((8 * MIB)) 6
fault clear
ok "umount in the middle of a drain" spm_umount

spm_done
