#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What is removed is free at once, to users: a full device, slice or pool can be filled again right after rm, and when all inodes are
# taken another can be made, though the server learns a moment later that nobody uses what was removed.
set -u
SPM_LIMIT=200
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
export SPMFS_FAULTS=1

ROUNDS=$((20 / (SPM_FACTOR > 2 ? 2 : 1)))

# again DESC ROUNDS COMMAND...: each round makes what fills all, and removes it. Nothing in between, not a process more than needed.
again()
{
	local desc=$1 n=$2 i bad=
	shift 2
	for ((i = 0; i < n; i++)); do
		"$@" 2>"$SPM_TMP/said" || bad+=" $i: $(tail -n 1 "$SPM_TMP/said");"
		rm -rf "${DIR:?}"/*
	done
	is "$desc" "${bad:-always}" always
}

written()
{
	head -c "$SIZE" /dev/zero >"$DIR/f"
}

allocated()
{
	fallocate -l "$SIZE" "$DIR/f"
}

sized()
{
	truncate -s "$SIZE" "$DIR/f" && true <>"$DIR/f"
}

made_many()
{
	local i
	for ((i = 0; i < MANY; i++)); do
		: >"$DIR/$i" || return 1
	done
}

made_kinds()
{
	mkdir "$DIR/d" && mkfifo "$DIR/p" && : >"$DIR/f" && ln -s target "$DIR/l" && ln "$DIR/f" "$DIR/g"
}

# all DESC [sized]: by each way that memory is asked for.
all()
{
	again "$1: written" "$ROUNDS" written
	again "$1: by fallocate" "$ROUNDS" allocated
	[ $# = 1 ] || again "$1: by its size" "$ROUNDS" sized
}

# What is large takes its time, and what does not fit is refused all the same.
slowly()
{
	printf 'forget:removing slow:600\n' >"$MNT/.spm/fault"
	printf 'batchforget:removing slow:600\n' >"$MNT/.spm/fault"
	again "$1: written, while removals take 600 ms" 3 written
	printf 'clear\n' >"$MNT/.spm/fault"
	written
	wait_until 5 eval '[ "$(spm_stat free_bytes)" -lt $((8 << 20)) ]'
	fails "$1: what does not fit is refused all the same" eval 'head -c 8M /dev/zero >"$DIR/g"'
	rm "$DIR"/*
}

spm_need_mount mem:64M
DIR=$MNT SIZE=60M
all "mem, auto" sized
spm_fresh mem:64M map=mirror
all "mem, mirror"
slowly "mem, mirror"
spm_fresh mem:64M map=direct
all "mem, direct" sized
slice create a max=32M
slice create b min=20M
DIR=$MNT/a SIZE=31M
all "slices, direct" sized
DIR=$MNT SIZE=42M
all "the root slice, direct" sized
spm_fresh mem:64M nr_inodes=40
DIR=$MNT MANY=36
again "mem: inodes" "$ROUNDS" made_many
spm_fresh mem:64M nr_inodes=6
again "mem: inodes of each kind" "$ROUNDS" made_kinds
swap_mount mem:32M 64M map=mirror
DIR=$MNT SIZE=80M
again "swap: written" 10 written
again "swap: by fallocate" 10 allocated
spm_umount
pool_mount 64M
SIZE=62M
all "pool"
slice create a max=32M
DIR=$MNT/a SIZE=32M
all "a slice of a pool"
spm_done
