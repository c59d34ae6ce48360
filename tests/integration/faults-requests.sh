#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Law 3, request by request: the worker dies at each step of each request, the client sees what tmpfs does, and nothing
# is left over. Environment: SPM_FAULT_ARGS (as -o rename).
set -u
SPM_LIMIT=600
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"

FAULTS=$top_builddir/tests/progs/faults
export SPMFS_FAULTS=1

# Requests that the server implements, in the words of fault points.
implemented()
{
	sed -n 's/^\t{ \(FUSE\|OP\)_\([A-Z0-9_]*\), .*/\2/p' "$top_srcdir/fs/repeat.c" | tr -d _ | tr '[:upper:]' '[:lower:]' |
		sed 's/^rename2$/rename/' | sort -u
}

steps_in_source()
{
	sed -n 's/.*spm_fault("\([a-z]*\)").*/\1/p' "$top_srcdir"/fs/*.c | sort -u
}

# What needs swap, slices, a pool or a directory; the tests of those name it as "request:step what". $1: 1 the requests, 2 the steps
of_others()
{
	grep -ohE '"[a-z]+:[a-z]+ (kill|slow:[0-9]+)"' "$top_srcdir"/tests/integration/{dir,pool,slices,swap}*.sh |
		sed "s/^\"\([a-z]*\):\([a-z]*\) .*/\\$1/"
}

# A result of faults for each line of it that is one.
deaths()
{
	local what=$1 opts=$2 line notes='' seen=0
	kill_mount "$opts"
	shift 2
	# shellcheck disable=SC2086
	"$FAULTS" "$@" ${SPM_FAULT_ARGS:-} "$MNT" "$REF" >"$SPM_TMP/faults.out" 2>&1 </dev/null
	while IFS= read -r line; do
		if [[ $line =~ ^ok\ [0-9]+\ -\ (.*) ]]; then
			pass "$what: ${BASH_REMATCH[1]}"
			notes='' seen=$((seen + 1))
		elif [[ $line =~ ^not\ ok\ [0-9]+\ -\ (.*) ]]; then
			fail "$what: ${BASH_REMATCH[1]}" "$notes"
			notes='' seen=$((seen + 1))
		else
			notes+=${line#\# }$'\n'
		fi
	done <"$SPM_TMP/faults.out"
	[[ $notes =~ (^|$'\n')1\.\.$seen$'\n' && $seen -gt 0 ]] || fail "$what: faults runs to its end" "$notes"
	kill_leaves_nothing "$what"
}

is "every request that the server implements is tried" \
	"$(implemented | comm -23 - <({ "$FAULTS" ops; of_others 1; } | sort -u))" ""
ok "the server's table was found" [ "$(implemented | wc -l)" -ge 30 ]
is "every step in the source is tried" "$(steps_in_source | comm -23 - <({ "$FAULTS" steps; of_others 2; } | sort -u))" ""
deaths "direct" map=direct -k plain
deaths "served" size=500M -k served
deaths "mirror" map=mirror -k mirror
deaths "few inodes" map=direct,nr_inodes=200 -k full
deaths "SIGSEGV" map=direct -k plain -a segv -p effect
spm_done
