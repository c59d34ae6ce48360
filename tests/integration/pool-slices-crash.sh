#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices in a pool and dying servers: each command takes effect once, whole or not at all; what a slice has in the pool goes with it,
# and with nothing else; kept, and recovered after every process was killed.
set -u
SPM_LIMIT=${SPM_LIMIT:-400}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"
export SPMFS_FAULTS=1

restarts()
{
	spm_feature worker_restarts
}

names()
{
	cut -d ' ' -f 1 "$MNT/.spm/slices" | xargs
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

# What all use is what the pool has given, and what their files have.
sums_agree()
{
	local slices files pool
	slices=$(($(awk '{ for (i = 2; i <= NF; i++) if ($i ~ /^current=/) n += substr($i, 9) } END { printf "%d", n }' \
		"$MNT/.spm/slices") + $(cat "$MNT/.spm/current")))
	files=$(find "$MNT" -type f -printf '%i %b\n' | sort -u | awk '{ n += $2 } END { printf "%d", n * 512 }')
	pool=$(spm_stat resident_bytes)
	[ "$slices $files" = "$pool $pool" ] || { echo "slices $slices, files $files, pool $pool"; return 1; }
}

sums()
{
	wait_until 10 sums_agree
	ok "$1: what slices use is what files have, and the pool has given" sums_agree
	account "$1"
}

fill()
{
	head -c "$2" /dev/zero >"$1" 2>/dev/null
	du -k "$1" | cut -f 1
}

deaths()
{
	local at total
	made old min=8M max=16M
	put "$MNT/old/f" 3M 1 || fail "content"
	total=$(df_of "$MNT")
	for at in making mounted placed shown live granted; do
		death "slice:$at" '^$' create new min=4M max=8M uid=$USER_A
		is "$at: the list" "$(names) $(slice_of new min) $(slice_of new max)" "old new $((4 * MIB)) $((8 * MIB))"
		is "$at: df" "$(df_of "$MNT/new")" "8192 0 8192"
		is "$at: it can be used" "$(fill "$MNT/new/f" 12M)" 8192
		sums "$at"
		slice remove new force || fail "$at: remove"
		is "$at: df when it is gone" "$(df_of "$MNT")" "$total"
	done
	death slice:granted '^$' set old min=12M
	is "set" "$(slice_of old min) $(slice_of old grant)" "$((12 * MIB)) $((12 * MIB))"
	death slice:granted '^$' set old min=8M
	is "set back" "$(slice_of old min) $(slice_of old grant)" "$((8 * MIB)) $((8 * MIB))"
	for at in slice:removing slice:unmounted pool:freed slice:emptied; do
		slice create new min=4M || fail "$at: create"
		put "$MNT/new/f" 7M 2 || fail "$at: content"
		death "$at" '^$' remove new force
		is "$at: the list" "$(names) $(cd "$MNT" && echo *)" "old old"
		is "$at: df when it is gone" "$(df_of "$MNT")" "$total"
		sums "$at"
	done
	death slice:done 'File exists' create old max=4M
	death slice:done 'not empty' remove old
	ok "the content of the other slice" check "$MNT/old/f" 3M 1
	is "its limits" "$(df_of "$MNT/old")" "16384 4096 12288"
	ok "remove old" slice remove old force
}

# A slice that was shown, and written to, before it was made: what it has goes with it.
shown()
{
	local pid before
	before=$(restarts)
	echo "slice:shown hang" >"$MNT/.spm/fault"
	(timeout 60 bash -c 'printf %s "create early max=8M" >"$1"' - "$MNT/.spm/slice") 2>"$SPM_TMP/early.out" &
	pid=$!
	ok "shown: it comes there" wait_until 10 grep -q "slice:shown" "$MNT.log"
	ok "shown: it is written to" wait_until 10 put "$MNT/early/f" 5M 3
	kill -KILL "$(spm_server_pid)"
	wait "$pid"
	ok "shown: the worker died" [ "$(restarts)" -gt "$before" ]
	echo clear >"$MNT/.spm/fault"
	is "shown: the list" "$(names)" early
	is "shown: it is empty" "$(df_of "$MNT/early")" "8192 0 8192"
	sums "shown"
	ok "shown: it can be used" put "$MNT/early/f" 5M 4
	ok "remove early" slice remove early force
	is "shown: nothing is in use" "$(spm_stat resident_bytes)" 0
}

# Everybody dies, at a point in the middle of a command.
all_die()
{
	local at=$1 pid
	shift
	echo "$at hang" >"$MNT/.spm/fault"
	(timeout 60 bash -c 'printf %s "$1" >"$2"' - "$*" "$MNT/.spm/slice" || true) >"$SPM_TMP/killed.out" 2>&1 &
	pid=$!
	ok "it comes to $at" wait_until 20 grep -q "$at" "$MNT.log"
	spm_kill_servers
	wait_until 10 spm_no_servers
	umount -l "$MNT" 2>/dev/null
	unset "SPM_MOUNTS[$MNT]"
	wait "$pid"
}

content()
{
	is "$1: the list" "$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")" "$SAID"
	ok "$1: the content of k" check "$MNT/k/f" 3M 3
	ok "$1: the content of l" check "$MNT/l/d/g" 5M 4
	ok "$1: the content of the root slice" check "$MNT/r" 1M 5
	sums "$1"
}

kept()
{
	local at
	pool_mount 64M keep,name=slices
	made k min=8M max=16M uid=$USER_A delegate=1 mode=0700
	made l
	as "$USER_A" sh -c "echo 12M >'$MNT/k/.spm/max'"
	put "$MNT/k/f" 3M 3 || fail "content"
	put "$MNT/l/f" 5M 4 || fail "content"
	put "$MNT/r" 1M 5 || fail "content"
	mkdir "$MNT/l/d"
	ln "$MNT/l/f" "$MNT/l/d/g"
	sums "before"
	SAID=$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")
	ok "keep: umount" spm_umount_all
	ok "keep: mount" spm_mount "$DAX" keep,name=slices
	content "keep"
	is "keep: k is limited by its owner" "$(fill "$MNT/k/g" 20M)" 8192
	rm "$MNT/k/g"
	# what was unlinked in a slice and open is free when nobody lives
	put "$MNT/l/orphan" 6M 6
	exec {fd}<"$MNT/l/orphan"
	rm "$MNT/l/orphan"
	for at in slice:mounted slice:live; do
		all_die $at create new min=4M
		[ -z "${fd:-}" ] || exec {fd}<&-
		fd=
		ok "recover after $at" spm_mount "$DAX" recover,keep,name=slices
		like "recover after $at: a slice or none" "$(names)" '^k l( new)?$'
		[ ! -d "$MNT/new" ] || slice remove new || fail "recover after $at: remove"
		content "recover after $at"
	done
	for at in slice:unmounted pool:freed slice:emptied; do
		made new min=8M
		put "$MNT/new/f" 9M 7 || fail "content"
		all_die $at remove new force
		ok "recover after $at" spm_mount "$DAX" recover,keep,name=slices
		content "recover after $at"
	done
	is "df is what it was" "$(df_of "$MNT" | cut -d ' ' -f 2)" 2048
	ok "given up" eval 'spm_umount_all && umount /run/spmfs/slices.ns && rm /run/spmfs/slices.ns'
}

# Two tenants at work while workers die.
loads()
{
	local s pid
	pool_mount 512M extent=64K
	for s in x y; do
		mkdir -p "$SPM_TMP/$s"
		mount -t tmpfs -o size=256M spm-reference "$SPM_TMP/$s" || { fail "mount tmpfs"; return; }
		slice create $s min=32M max=200M || fail "create $s"
	done
	"$KILLRUN" -S -n 3 -s 4 -k 0 "$MNT/y" "$SPM_TMP/y" >"$SPM_TMP/y.out" 2>&1 </dev/null &
	pid=$!
	"$KILLRUN" -S -n 3 -s 4 -k 15 "$MNT/x" "$SPM_TMP/x" >"$SPM_TMP/x.out" 2>&1 </dev/null
	is "loads: x: every result is the one of tmpfs" "$?" 0
	wait $pid
	is "loads: y: every result is the one of tmpfs" "$?" 0
	sums "loads"
	for s in x y; do
		diag "$(cat "$SPM_TMP/$s.out")"
		umount "$SPM_TMP/$s"
		ok "loads: $s is removed" wait_until 10 slice remove $s force
	done
	is "loads: nothing is in use" "$(spm_stat resident_bytes)" 0
	pool_leaves_nothing "loads"
}

pool_mount 64M
deaths
shown
pool_leaves_nothing "deaths"
kept
loads
spm_done
