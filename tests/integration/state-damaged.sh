#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What one worker leaves to the next is checked: damage is told, costs what is damaged, and is never followed.
set -u
SPM_LIMIT=480
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"

DAMAGE=$top_builddir/tests/progs/damage
FILES=12

restarts()
{
	spm_feature worker_restarts
}

new_worker()
{
	[ "$(spm_server_pid)" != "$1" ]
}

kill_worker()
{
	local pid
	pid=$(spm_server_pid)
	kill -KILL "$pid"
	wait_until 10 new_worker "$pid"
}

content()
{
	printf 'content of file %s\n' "$1"
}

make_files()
{
	local i
	for i in $(seq $FILES); do
		content "$i" >"$MNT/file$i"
	done
}

# Each file says what is its own, or is refused; how many are refused.
refused()
{
	local i out n=0
	for i in "$@"; do
		if out=$(timeout 20 cat "$MNT/file$i" 2>&1); then
			[ "$out" = "$(content "$i")" ] || { echo "file$i reads $out"; return; }
		elif [[ $out == *'Stale file handle'* || $out == *'Input/output error'* ]]; then
			n=$((n + 1))
		else
			echo "file$i: $out"
			return
		fi
	done
	echo $n
}

# A descriptor to the damaged file, and files that have nothing to do with it.
one_record()
{
	local field=$1 fatal=$2 before held ino
	kill_mount size=500M
	make_files
	before=$(restarts)
	# the slice in the upper bits is 0
	ino=$(stat -c %i "$MNT/file3")
	[ "$field" != ino ] || ino='[0-9]+'
	actor held
	tell held open a rw "$MNT/file3" || diag "$REPLY"
	ok "$field: the record can be damaged" "$DAMAGE" "$MNT" record "$MNT/file3" "$field"
	kill_worker
	tell held read a 0 7
	held=$REPLY
	if [ "$fatal" = fatal ]; then
		like "$field: the open descriptor is refused" "$held" '^err (ESTALE|EIO)'
	else
		like "$field: the open descriptor is refused or right" "$held" '^(err (ESTALE|EIO)|ok content)'
	fi
	is "$field: all other files" "$(refused 1 2 4 5 6 7 8 9 10 11 12)" 0
	like "$field: the file by its name" "$(refused 3)" '^[01]$'
	ok "$field: the log names the inode" grep -qE "inode record [0-9]+ \(inode $ino\)" "$MNT.log"
	is "$field: no further deaths" "$(restarts)" $((before + 1))
	is "$field: new files" "$(echo new >"$MNT/new" && cat "$MNT/new")" new
	actor_end held
}

# Any bit of any record: no wrong content, no worker that dies of it.
random_bits()
{
	local seed bad='' out before
	for seed in $(seq "$(spm_less 20)"); do
		kill_mount size=500M
		make_files
		before=$(restarts)
		exec 7<"$MNT/file1" 8<>"$MNT/file2"
		"$DAMAGE" "$MNT" "$1" $((seed * 7919)) 3 || bad+="seed $seed: not damaged; "
		kill_worker
		# shellcheck disable=SC2046
		out=$(refused $(seq $FILES))
		[[ $out =~ ^[0-9]+$ ]] || bad+="seed $seed: $out; "
		exec 7<&- 8>&-
		[ "$(restarts)" = $((before + 1)) ] || bad+="seed $seed: $(restarts) restarts; "
		echo new 2>/dev/null >"$MNT/new" || bad+="seed $seed: no new file; "
	done
	is "random bits of $1: right content or a refusal, and one death" "$bad" ""
}

# Nothing can be gone on with: told at once, and the files are not lost.
head_of()
{
	local part=$1 dir pid
	kill_mount "size=500M,name=damaged-$1"
	make_files
	dir=$MNT pid=${SPM_MOUNTS[$MNT]}
	ok "head, $part: it can be damaged" "$DAMAGE" "$MNT" head "$part"
	kill -KILL "$(spm_server_pid)"
	ok "head, $part: the keeper gives up" wait_until 20 spm_gone "$pid"
	ok "head, $part: at once" grep -q "no worker can serve (1 tried): the state in shared memory" "$dir.log"
	ok "head, $part: the log says why" grep -qiE 'state|version|table' "$dir.log"
	like "head, $part: clients are told" "$(timeout 10 cat "$dir/file1" 2>&1)" 'not connected'
	umount -l "$dir"
	unset "SPM_MOUNTS[$dir]"
	if spm_mount mem:1G "size=500M,name=damaged-$1,recover"; then
		# shellcheck disable=SC2046
		is "head, $part: every file is there after recover" "$(refused $(seq $FILES))" 0
		spm_umount "$MNT" || fail "head, $part: umount"
	else
		fail "head, $part: recover"
	fi
}

kill_mount map=direct
for memory in spmfs-state spmfs-inodes spmfs-requests; do
	ok "$memory cannot change its size" "$DAMAGE" "$MNT" truncate "$memory"
done
for field in ino slice handle check; do
	one_record "$field" fatal
done
for field in seq flags nlookup opens backing; do
	one_record "$field" perhaps
done
random_bits random
random_bits desks
for part in state version inodes; do
	head_of "$part"
done
spm_done
