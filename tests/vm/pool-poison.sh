#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A pool whose memory the kernel really poisons, so that a load is a machine check's signal: the unit tests of it.
set -u
: "${top_builddir:?}"

export SPM_TEST_POISON=1 CK_RUN_CASE=poison CK_TIMEOUT_MULTIPLIER=10
for time in 1 2 3 4; do
	said=$("$top_builddir/tests/unit/pool" 2>&1) || break
done
printf '%s\n' "$said"
grep -q '^ok .*real_poison' <<<"$said" || { echo "not ok - memory was poisoned (run $time)" && exit 1; }
