#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The namespace on a mount whose content is in a pool of extents on a device: what tmpfs does, spmfs does.
# Environment: as run-stress.sh.
set -u
SPM_LIMIT=${SPM_LIMIT:-$((300 + 3 * ${SPM_STRESS_SECONDS:-6}))}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"

seconds=${SPM_STRESS_SECONDS:-$(spm_less 6)}
ref=$SPM_TMP/ref
mkdir "$ref"

# What is there by extents, and what the region's files cannot be while they never have a page.
pool_deviations()
{
	local extents="memory is given out in extents"
	deviations mirror
	NS_DEVIATES+=(
		[data/punch]="$extents"
		[space/blocks_of_a_file]="$extents"
		[space/small_files_are_small]="$extents"
		[flags/append_only]="chattr +a is refused: the region's file could not grow"
	)
	[[ $1 == *extent=* ]] || NS_DEVIATES+=([full/writes_until_full]="$extents")
}

all()
{
	pool_mount 3G "$1"
	diag "$1"
	leaves_nothing "$MNT"
	pool_deviations "$1"
	conform "$MNT" -b "${SPM_NS_ENTRIES:-2000}" "${@:2}"
	leaves_nothing "$MNT"
	unset "NS_USED[$MNT]"
	is "$1: no worker died" "$(spm_feature worker_restarts)" 0
}

full()
{
	pool_mount 64M "size=8M,nr_inodes=300,$1"
	diag "full: $1"
	leaves_nothing "$MNT"
	pool_deviations "$1"
	conform "$MNT" -g full "${@:2}"
	leaves_nothing "$MNT"
	unset "NS_USED[$MNT]"
}

stress()
{
	local out=$SPM_TMP/treestress.out
	pool_mount 4G "$1"
	mount -t tmpfs -o size=1G spm-reference "$ref" || { fail "mount tmpfs"; return; }
	# shellcheck disable=SC2086
	"$TREESTRESS" -S -n "${SPM_STRESS_PROCESSES:-8}" -s "$seconds" ${SPM_STRESS_ARGS:-} "$MNT" "$ref" >"$out" 2>&1 </dev/null
	is "$1: the same results, attributes and trees" "$?" 0
	sed "s/^# //; s/^/# /" "$out"
	umount "$ref"
	is "$1: no worker died" "$(spm_feature worker_restarts)" 0
	pool_leaves_nothing "$1"
}

all commit=lazy
all commit=eager,extent=64K -x "*/sparse_*"
full commit=lazy
full commit=eager,extent=64K
stress commit=lazy
stress commit=eager,extent=128K
spm_done
