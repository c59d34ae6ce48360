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

deaths()
{
	kill_mount "$2"
	# shellcheck disable=SC2086
	faults "$1" "${@:3}" ${SPM_FAULT_ARGS:-}
	kill_leaves_nothing "$1"
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
