#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices and dying servers: each command takes effect once, whole or not at all; keep and recover; a damaged table.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"
export SPMFS_FAULTS=1

KILLRUN=$top_builddir/tests/progs/killrun

restarts()
{
	spm_feature worker_restarts
}

# A death at a point: the command goes on in the next worker, and its client sees what it would have seen without.
death()
{
	local at=$1 want=$2 before said
	shift 2
	before=$(restarts)
	echo "$at kill" >"$MNT/.spm/fault"
	said=$({ timeout 60 bash -c 'printf %s "$1" >"$2"' - "$*" "$MNT/.spm/slice" || echo "status $?"; } 2>&1)
	like "$at: $*: its client" "$said" "$want"
	is "$at: $*: one death" "$(restarts)" $((before + 1))
	echo clear >"$MNT/.spm/fault"
}

# The server hears of a close a moment after the client has gone on.
late()
{
	slice create late max=1M || fail "create"
	echo "release:request slow:200" >"$MNT/.spm/fault"
	echo x >"$MNT/late/f"
	ok "a slice is removed, whose last file was closed just now" slice remove late force
	echo clear >"$MNT/.spm/fault"
}

names()
{
	cut -d ' ' -f 1 "$MNT/.spm/slices" | xargs
}

content()
{
	put "$MNT/$1/f" 2M "$2" >/dev/null && check "$MNT/$1/f" 2M "$2" >/dev/null
}

# What is in swap is not always the same.
steady()
{
	[ "$1" != swap ] || evict "$MNT/old/f" || fail "$1: evict"
}

# What a death over the list leaves is told by what the list, the directory and df say.
deaths()
{
	local at total
	slice create old min=8M max=16M
	content old 1 || fail "$1: content"
	steady "$1"
	total=$(df_of "$MNT")
	for at in making mounted placed shown live granted; do
		death "slice:$at" '^$' create new min=4M max=8M uid=$USER_A
		is "$1, $at: the list" "$(names) $(slice_of new min) $(slice_of new max)" "old new $((4 * MIB)) $((8 * MIB))"
		is "$1, $at: the directory" "$(cd "$MNT" && echo *) $(stat -c %u "$MNT/new")" "new old $USER_A"
		is "$1, $at: it can be used" "$(fill new 12)" "$2"
		account "$1, $at"
		slice remove new force || fail "$1, $at: remove"
		steady "$1"
		is "$1, $at: df when it is gone" "$(df_of "$MNT")" "$total"
	done
	death slice:granted '^$' set old min=12M
	is "$1: set" "$(slice_of old min)" $((12 * MIB))
	death slice:granted '^$' set old min=8M
	for at in removing unmounted; do
		slice create new min=4M || fail "$1: create"
		content new 2 || fail "$1: content"
		[ "$1" != swap ] || evict "$MNT/new/f" || fail "$1: evict"
		death "slice:$at" '^$' remove new force
		is "$1, $at: the list" "$(names)" old
		is "$1, $at: the directory" "$(cd "$MNT" && echo *)" old
		steady "$1"
		is "$1, $at: df when it is gone" "$(df_of "$MNT")" "$total"
	done
	[ "$1" != swap ] || is "$1: nothing else is in swap" "$(spm_stat swapped_bytes)" $((2 * MIB))
	# refusals are refusals also the second time
	death slice:done 'File exists' create old max=4M
	is "$1: and change nothing" "$(slice_of old max)" $((16 * MIB))
	death slice:done 'No such file' remove none
	death slice:done 'not empty' remove old
	death slice:done '^$' create again
	death slice:done '^$' remove again
	is "$1: once" "$(names)" old
	ok "$1: the content of the other slice" check "$MNT/old/f" 2M 1
	is "$1: its limits" "$(slice_of old min) $(slice_of old max)" "$((8 * MIB)) $((16 * MIB))"
}

# fill SLICE MIB: how many could be written
fill()
{
	head -c "${2}M" /dev/zero >"$MNT/$1/fill" 2>/dev/null
	du -m "$MNT/$1/fill" | cut -f 1
}

# again [OPTIONS]: the mount ends, and is made of what was kept
again()
{
	ok "$1: umount" spm_umount_all
	ok "$1: mount" spm_mount mem:64M "$2"
}

kept()
{
	local what=$1 opts=$2 said
	made k min=8M max=16M uid=$USER_A delegate=1 inodes=100 cold=7 map=mirror mode=0700
	made l
	as "$USER_A" sh -c "echo 12M >'$MNT/k/.spm/max'"
	ok "$what: content" content k 3
	ok "$what: content" content l 4
	mkdir "$MNT/l/d"
	ln "$MNT/l/f" "$MNT/l/d/g"
	actor u
	put "$MNT/l/orphan" 2M 5
	tell u open f r "$MNT/l/orphan"
	rm "$MNT/l/orphan"
	actor_end u
	slice remove old force
	said=$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")
	again "$what" "$opts"
	is "$what: the list" "$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")" "$said"
	is "$what: the directories" "$(stat -c '%n %u %a' "$MNT"/* | sed "s,$MNT/,," | xargs)" "k $USER_A 700 l 0 755"
	ok "$what: the content of k" check "$MNT/k/f" 2M 3
	ok "$what: the content of l" check "$MNT/l/d/g" 2M 4
	is "$what: the orphan's memory is free" "$(df_of "$MNT/l" | cut -d ' ' -f 2)" 2048
	is "$what: k is limited by its owner" "$(cat "$MNT/k/.spm/max")" $((12 * MIB))
	account "$what"
}

# Everybody dies, at a point in the middle of a command.
killed()
{
	local what=$1 at=$2 pid
	shift 2
	diag "$what: everybody dies at $at"
	echo "slice:$at hang" >"$MNT/.spm/fault"
	(timeout 60 bash -c 'printf %s "$1" >"$2"' - "$*" "$MNT/.spm/slice" || true) >"$SPM_TMP/killed.out" 2>&1 &
	pid=$!
	ok "$what: it comes to $at" wait_until 20 grep -q "slice:$at" "$MNT.log"
	spm_kill_servers
	wait_until 10 spm_no_servers
	umount -l "$MNT" 2>/dev/null
	unset "SPM_MOUNTS[$MNT]"
	wait "$pid"
}

recovered()
{
	local at
	for at in mounted live; do
		killed "recover" $at create new min=4M
		ok "recover" spm_mount mem:64M "$1"
		like "recover after $at: a slice or none" "$(names)" '^k l( new)?$'
		like "recover after $at: and its directory" "$(cd "$MNT" && echo *)" "^$(names)\$"
		account "recover after $at"
		[ ! -d "$MNT/new" ] || slice remove new || fail "recover after $at: remove"
	done
	made new
	content new 6 || fail "content"
	killed "recover" unmounted remove new force
	ok "recover" spm_mount mem:64M "$1"
	is "recover after unmounted" "$(names) $(cd "$MNT" && echo *)" "k l k l"
	ok "recover: the content of k" check "$MNT/k/f" 2M 3
	account "recover"
}

# Two tenants at work while workers die.
loads()
{
	local s pid
	for s in x y; do
		mkdir -p "$SPM_TMP/$s"
		mountpoint -q "$SPM_TMP/$s" && umount "$SPM_TMP/$s"
		mount -t tmpfs -o size=256M spm-reference "$SPM_TMP/$s" || { fail "mount tmpfs"; return; }
		slice create $s min=16M max=96M || fail "$1: create $s"
	done
	"$KILLRUN" -S -n 3 -s 4 -k 0 "$MNT/y" "$SPM_TMP/y" >"$SPM_TMP/y.out" 2>&1 </dev/null &
	pid=$!
	"$KILLRUN" -S -n 3 -s 4 -k 15 "$MNT/x" "$SPM_TMP/x" >"$SPM_TMP/x.out" 2>&1 </dev/null
	is "$1: x: every result is the one of tmpfs" "$?" 0
	wait $pid
	is "$1: y: every result is the one of tmpfs" "$?" 0
	for s in x y; do
		diag "$(cat "$SPM_TMP/$s.out")"
		umount "$SPM_TMP/$s"
		ok "$1: $s is removed" wait_until 10 slice remove $s force
	done
}

# Who opens a file of a slice that goes waits for that with the file pinned, and the removal must not wait for him.
waiting()
{
	local reader before
	before=$(spm_stat swapped_bytes)
	slice create gone || fail "waiting: create"
	content gone 9 || fail "waiting: content"
	evict "$MNT/gone/f" || fail "waiting: evict"
	echo "open:bring slow:1000" >"$MNT/.spm/fault"
	echo "slice:unmounted slow:2500" >"$MNT/.spm/fault"
	cat "$MNT/gone/f" >/dev/null 2>"$SPM_TMP/reader.out" &
	reader=$!
	ok "waiting: an open is on its way" wait_until 10 grep -q "open:bring" "$MNT.log"
	ok "waiting: the slice is removed" timeout $((30 * SPM_FACTOR)) bash -c 'printf "remove gone force" >"$1"' - "$MNT/.spm/slice"
	wait "$reader"
	like "waiting: whoever opened a file of it is told" "$(cat "$SPM_TMP/reader.out")" "Stale file handle|No such file"
	echo clear >"$MNT/.spm/fault"
	is "waiting: nothing of it is in swap" "$(spm_stat swapped_bytes)" "$before"
}

# The table is written at from outside; the next worker finds it so. flip OFFSET...: one bit of each byte.
flip()
{
	local pid
	pid=$(spm_server_pid)
	python3 -c 'import sys
f = open(sys.argv[1], "r+b")
for at in map(int, sys.argv[2:]):
    f.seek(at); b = f.read(1)[0]; f.seek(at); f.write(bytes([b ^ 0x11]))' "/proc/$pid/root/region.slices" "$@"
	kill -KILL "$pid"
	wait_until 10 eval '[ "$(spm_server_pid)" != '"$pid"' ]'
}

HEAD=24 ENTRY=1032 RECORD=512
# at ID COPY OFFSET: where that is
at()
{
	echo $((HEAD + $1 * ENTRY + 8 + $2 * RECORD + $3))
}

damaged()
{
	local i
	spm_umount_all
	spm_need_mount mem:64M name=damaged
	for i in 1 2 3; do
		slice create d$i min=4M max=8M
		content d$i "$i" || fail content
	done
	flip "$(at 2 0 40)" "$(at 2 1 40)"
	ok "a record is damaged: the log says so" grep -q "slice 2: its record is damaged" "$MNT.log"
	is "the others are there" "$(names)" "d1 d3"
	ok "with their content" eval 'check "$MNT/d1/f" 2M 1 && check "$MNT/d3/f" 2M 3'
	is "what the damaged one may take is nobody's" "$(($(fill d1 64) + $(fill d3 64)))" 12
	is "and not the root slice's" "$(df_of "$MNT" | cut -d ' ' -f 1)" $((64 * 1024 - 2 * 8192 - 4096))
	ok "its number is not given again" eval 'slice create d4 && [ "$(slice_of d4 id)" = 4 ]'
	flip "$(at 1 0 40)" "$(at 3 1 300)"
	is "one copy of a record: the slice is there" "$(names)" "d1 d3 d4"
	ok "with its content" eval 'check "$MNT/d1/f" 2M 1 && check "$MNT/d3/f" 2M 3'
	flip 1 8 16 20
	is "the head: all are there" "$(names)" "d1 d3 d4"
	ok "and the log says that it is damaged" grep -q "the table of slices is damaged" "$MNT.log"
	flip $((HEAD + ENTRY)) $((HEAD + 3 * ENTRY))
	is "which copy counts" "$(names)" "d1 d3 d4"
	is "the damaged one cannot be removed" "$({ slice remove d2; } 2>&1 | sed 's/.*: //')" "No such file or directory"
	ok "a new one can be made and removed" eval 'slice create d5 && slice remove d5'
}

spm_need_mount mem:64M keep,name=crash
deaths "without swap" 8
late
kept "keep" keep,name=crash
recovered recover,keep,name=crash
swap_mount mem:64M 128M keep,name=crashswap
deaths swap 12
waiting
kept "keep with swap" "swap=$SWAP,swapsize=128M,keep,name=crashswap"
recovered "swap=$SWAP,swapsize=128M,recover,keep,name=crashswap"
spm_umount_all
spm_need_mount mem:256M name=loads
loads "without swap"
swap_mount mem:256M 256M name=loadsswap
loads swap
damaged
spm_done
