#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The benchmark works: each figure is measured, the results are whole, nothing stays behind. No timing counts.
set -u

top_srcdir=${top_srcdir:-.}
top_builddir=${top_builddir:-.}
export top_builddir
spmbench=$top_builddir/tests/bench/spmbench
run=$top_srcdir/tests/bench/run.sh
n=0

[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP needs root, to mount"; exit 0; }
[ -c /dev/fuse ] || { echo "1..0 # SKIP no /dev/fuse"; exit 0; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/spmfs-smoke.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 143' INT TERM HUP
# What the mounts leave would be found here.
mkdir "$dir/tmp" "$dir/aa" "$dir/spmfs" "$dir/one"

# Describes the last command: ok if it succeeded.
result()
{
	local rc=$?

	n=$((n + 1))
	[ $rc = 0 ] || printf 'not '
	echo "ok $n - $1"
	[ $rc = 0 ] || sed 's/^/# /' "${2:-/dev/null}" 2>/dev/null
}

# OUT [FIGURE...], with BENCH_ variables before it
bench()
{
	local out=$1

	shift
	TMPDIR=$dir/tmp BENCH_OUT=$out BENCH_SMOKE=1 BENCH_SIZE=256M \
		timeout 300 bash "$run" "$@" >"$out/log" 2>&1
}

# Every figure of --list has a line of eight fields, and a value of spmfs unless it was skipped.
whole_csv()
{
	"$spmbench" --list | awk -v csv="$1" '
		{ want[$1] = 1; n++ }
		END {
			getline < csv
			while ((getline < csv) > 0) {
				if (split($0, f, ",") != 8 || !(f[1] in want))
					exit 1
				if (f[8] != "skip" && (f[4] == "nan" || f[4] == "-nan"))
					exit 1
				delete want[f[1]]
				lines++
			}
			exit n && lines == n ? 0 : 1
		}'
}

# ok and MISS are what the rule makes of the numbers.
right_verdicts()
{
	awk -F, 'NR > 1 && ($8 == "ok" || $8 == "MISS") {
			judged++
			good = $6 == "ratio_at_least" ? $5 >= $7 : $4 <= $7
			if (good != ($8 == "ok")) { print; exit 1 }
		}
		END { if (!judged) exit 1 }' "$1"
}

# One coloured bar for each figure that met or missed a target.
right_bars()
{
	[ "$(grep -c "<rect x=" "$1/figures.svg")" = "$(grep -cE ',(ok|MISS)$' "$1/figures.csv")" ] &&
		[ "$(tail -n 1 "$1/figures.svg")" = "</svg>" ]
}

# Nothing is skipped but what this kernel or its container cannot do.
no_strange_skip()
{
	local name known="no direct files: passthrough off|cannot drop cached names"

	# swap: without io_uring, fio, swapon(2), the memory controller
	known="$known|no swap: .*io_uring|no fio|cannot swapon|no memory cgroup|clients of tmpfs are killed"

	[ -s "$1/figures.csv" ] || return 1
	while IFS=, read -r name _; do
		grep -qE "^$name: ($known)" "$1/table.txt" || {
			echo "$name is skipped" >>"$1/log"
			return 1
		}
	done < <(grep ',skip$' "$1/figures.csv")
}

echo 1..12

[ -z "$("$spmbench" --list | cut -d' ' -f1 | sort | uniq -d)" ] && [ "$("$spmbench" --list | wc -l)" -ge 30 ]
result "--list names every figure once"

"$spmbench" --tmpfs "$dir" --spmfs "$dir" --served "$dir" --out "$dir" nosuch 2>"$dir/err"
[ $? = 2 ] && [ "$(wc -l <"$dir/err")" = 1 ] && grep -q nosuch "$dir/err"
result "a figure that does not exist is refused in one line" "$dir/err"

BENCH_AA=1 bench "$dir/aa"
result "tmpfs against tmpfs" "$dir/aa/log"
whole_csv "$dir/aa/figures.csv"
result "tmpfs against tmpfs: a line for each figure" "$dir/aa/log"

bench "$dir/spmfs"
result "spmfs against tmpfs: no figure fails" "$dir/spmfs/log"
whole_csv "$dir/spmfs/figures.csv"
result "spmfs: a line for each figure" "$dir/spmfs/log"
no_strange_skip "$dir/spmfs"
result "spmfs: every figure is measured that can be" "$dir/spmfs/log"
right_verdicts "$dir/spmfs/figures.csv"
result "spmfs: verdicts follow from the numbers" "$dir/spmfs/figures.csv"
right_bars "$dir/spmfs"
result "spmfs: the plot shows what was judged" "$dir/spmfs/figures.svg"

bench "$dir/one" stat-cached &&
	[ "$(cut -d, -f1 "$dir/one/figures.csv" | tr '\n' ' ')" = "figure stat-cached " ]
result "one figure by its name" "$dir/one/log"

[ -z "$(ls -A "$dir/tmp")" ]
result "no directory is left"
! grep -qF "$dir/" /proc/self/mountinfo
result "no mount is left"
