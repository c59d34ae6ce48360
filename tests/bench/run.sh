#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Mounts tmpfs and spmfs with equal settings, measures, and takes everything away again.
#
# usage: run.sh [FIGURE...]          (spmbench --list names the figures; all without arguments)
#
# BENCH_QUICK=1    fewer rounds, smaller files
# BENCH_SMOKE=1    as little as possible: shows that it works, the numbers say nothing
# BENCH_ROUNDS=N   this many rounds
# BENCH_SIZE=4G    size of every device
# BENCH_OUT=DIR    where the table, the CSV files and the plot go (top_builddir/bench-results)
# BENCH_OPTIONS=O  further mount options for spmfs
# BENCH_SWAP_OPTIONS=O  the same, only for those that swap: extent=64K
# BENCH_DISK=DIR   where swap files go, spmfs's, the kernel's and fio's: a directory on a disk (/var/tmp)
# BENCH_AA=1       tmpfs on both sides: how far from 1.000x a ratio lies that has no reason to
set -u

top_builddir=${top_builddir:-.}
spmfs=$top_builddir/spmfs
spmbench=$top_builddir/tests/bench/spmbench
out=${BENCH_OUT:-$top_builddir/bench-results}
size=${BENCH_SIZE:-4G}
inodes=2000000
work=
disk=
memcg=
no_swap=
child=

die()
{
	echo "bench: $*" >&2
	exit 1
}

# The processes that serve a mount.
server_pids()
{
	sed -n 's/^\(keeper\|worker\)_pid \([1-9][0-9]*\)$/\2/p' "$1/.spm/features" 2>/dev/null | sort -u
}

# One that has ended but was not yet waited for by its parent, init, does not count.
running()
{
	grep -qs '^State:.[^ZX]' "/proc/$1/status"
}

# True when every process given has gone, at the latest after 10 s.
wait_gone()
{
	local pid tries=0

	for pid in "$@"; do
		while running "$pid"; do
			[ $((tries += 1)) -le 200 ] || return 1
			sleep 0.05
		done
	done
}

cleanup()
{
	local dir tries pids=()

	# A second signal must not end this half way.
	trap '' INT TERM HUP
	if [ -n "$child" ]; then
		kill "$child" 2>/dev/null
		wait "$child"
	fi
	[ -n "$work" ] || return 0
	for dir in "$work"/*/; do
		dir=${dir%/}
		mountpoint -q "$dir" || continue
		mapfile -t -O "${#pids[@]}" pids < <(server_pids "$dir")
		tries=0
		# Busy for a moment where a client was killed with us.
		until umount "$dir" 2>/dev/null; do
			[ $((tries += 1)) -le 100 ] || { echo "bench: $dir stays mounted" >&2; break; }
			sleep 0.05
		done
	done
	rmdir "$work"/* "$work" && work=
	remove_disk
	remove_memcg
	wait_gone "${pids[@]}" || {
		echo "bench: spmfs still runs: pid ${pids[*]}" >&2
		echo "bench: a mount namespace made meanwhile may hold a copy of its mount" >&2
	}
}

mount_tmpfs()
{
	mkdir "$work/$1" || die "cannot make $work/$1"
	# noswap (Linux 6.4) as spmfs has it; without swap there is no difference.
	mount -t tmpfs -o "noswap,huge=within_size,size=$2,nr_inodes=$inodes" bench "$work/$1" 2>/dev/null ||
		mount -t tmpfs -o "huge=within_size,size=$2,nr_inodes=$inodes" bench "$work/$1" ||
		die "cannot mount tmpfs"
}

# NAME OPTIONS
mount_spmfs()
{
	mkdir "$work/$1" || die "cannot make $work/$1"
	"$spmfs" "mem:$size" "$work/$1" \
		-o "huge=within_size,nr_inodes=$inodes${2:+,$2}${BENCH_OPTIONS:+,$BENCH_OPTIONS}" ||
		die "cannot mount spmfs"
}

# ---- what the figures of swap need ----

wants_swap()
{
	local name

	for name in "$@"; do
		case $name in
		swap-* | cold-* | workset*) return 0 ;;
		esac
	done
	[ $# = 0 ]
}

# The kernel swaps to its file only while spmbench measures that; this is for a spmbench that was killed.
remove_disk()
{
	[ -n "$disk" ] || return 0
	if grep -qF "$disk/kernel.swap" /proc/swaps; then
		swapoff "$disk/kernel.swap" || { echo "bench: $disk/kernel.swap stays in use" >&2; return; }
	fi
	rm -r "$disk" && disk=
}

remove_memcg()
{
	local dir tries

	[ -n "$memcg" ] || return 0
	for dir in "$memcg".*/; do
		[ -d "$dir" ] || continue
		tries=0
		# Its last process has ended, and is not yet gone.
		until rmdir "$dir" 2>/dev/null; do
			[ $((tries += 1)) -le 100 ] || { echo "bench: $dir stays" >&2; break; }
			sleep 0.05
		done
	done
}

# Groups .tmpfs and .spmfs limit their processes to $1 bytes; without the controller there are none.
make_memcg()
{
	local dir file

	if [ -w /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
		dir=/sys/fs/cgroup/memory file=memory.limit_in_bytes
	elif grep -qsw memory /sys/fs/cgroup/cgroup.subtree_control; then
		dir=/sys/fs/cgroup file=memory.max
	else
		return 0
	fi
	memcg=$dir/spmfs-bench.$$
	if ! mkdir "$memcg.tmpfs" "$memcg.spmfs" || ! echo "$1" >"$memcg.tmpfs/$file" ||
		! echo "$1" >"$memcg.spmfs/$file"; then
		remove_memcg
		memcg=
		return
	fi
	# Where that can be had, clients wait for the disk that is being swapped to instead of being killed.
	[ ! -w "$memcg.tmpfs/memory.oom_control" ] || echo 1 >"$memcg.tmpfs/memory.oom_control"
}

# NAME DEVICE SWAPSIZE OPTIONS: 1, with $no_swap set, where the kernel has nothing to swap by.
mount_swapping()
{
	local err

	mkdir "$work/$1" "$disk/$1" || die "cannot make $work/$1 and $disk/$1"
	err=$("$spmfs" "mem:$2" "$work/$1" \
		-o "huge=within_size,swap=$disk/$1,swapsize=$3,$4${BENCH_OPTIONS:+,$BENCH_OPTIONS}${BENCH_SWAP_OPTIONS:+,$BENCH_SWAP_OPTIONS}" 2>&1) &&
		return 0
	case $err in
	*io_uring*) no_swap=${err##*$'\n'} ;;
	*) die "cannot mount spmfs with swap: $err" ;;
	esac
	return 1
}

# A file of $1 bytes on a device that holds it; a device of a quarter for working sets of twice its size.
prepare_swap()
{
	local most=$(($1 * 5 / 4)) quarter=$(($1 / 4)) dir=${BENCH_DISK:-/var/tmp}

	# two swap files of spmfs, one of the kernel, one of fio, and something to spare
	[ "$(df --output=avail -B1 "$dir" | tail -n 1)" -gt $((most * 5)) ] || {
		no_swap="no room for $((most * 5)) bytes in $dir"
		return
	}
	disk=$(mktemp -d "$dir/spmfs-bench.XXXXXX") || die "cannot make a directory for swap files"
	mount_swapping swap "$most" $(($1 * 3 / 2)) compact=off,map=auto || return
	mount_swapping workset "$quarter" $((quarter * 5 / 2)) map=mirror || return
	mkdir "$work/paged" || die "cannot make $work/paged"
	mount -t tmpfs -o "huge=within_size,size=$most" bench "$work/paged" || die "cannot mount tmpfs"
	(umask 077 && fallocate -l "$most" "$disk/kernel.swap" && mkswap "$disk/kernel.swap" >/dev/null) ||
		echo "bench: no swap file for the kernel" >&2
	make_memcg "$quarter"
}

[ "$(id -u)" = 0 ] || die "needs root, to mount"
[ -x "$spmbench" ] || die "no $spmbench: run make bench"
bytes=$(numfmt --from=iec "$size") || die "BENCH_SIZE=$size is no size: 4G, 512M"
half=$((bytes / 2))

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$out" || die "cannot make $out"
work=$(mktemp -d "${TMPDIR:-/tmp}/spmfs-bench.XXXXXX") || die "cannot make a directory for the mounts"

mount_tmpfs tmpfs "$size"
if [ "${BENCH_AA:-0}" = 1 ]; then
	mount_tmpfs plain "$size"
	mount_tmpfs served "$half"
else
	[ -x "$spmfs" ] || die "no $spmfs: run make"
	mount_spmfs plain ""
	# Smaller than its device: opens for writing are served.
	mount_spmfs served "size=$half"
fi

swap_bytes=$bytes
[ "${BENCH_QUICK:-0}" = 0 ] || [ "$bytes" -le $((1 << 30)) ] || swap_bytes=$((1 << 30))
[ "${BENCH_SMOKE:-0}" = 0 ] || swap_bytes=$((256 << 20))
if [ "${BENCH_AA:-0}" = 1 ]; then
	no_swap="tmpfs on both sides"
elif wants_swap "$@"; then
	prepare_swap "$swap_bytes"
fi

set -- --tmpfs "$work/tmpfs" --spmfs "$work/plain" --served "$work/served" --out "$out" \
	--swap "$work" --disk "$disk" --memcg "$memcg" --swap-size "$swap_bytes" ${no_swap:+--no-swap "$no_swap"} \
	${BENCH_ROUNDS:+--rounds "$BENCH_ROUNDS"} -- "$@"
[ "${BENCH_QUICK:-0}" = 0 ] || set -- --quick "$@"
[ "${BENCH_SMOKE:-0}" = 0 ] || set -- --smoke "$@"
# Not in the foreground: a signal is answered at once.
"$spmbench" "$@" &
child=$!
wait "$child"
rc=$?
child=
exit $rc
