#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the failed tests of a build directory said: each test point that failed with what was noted about it, and
# what the servers wrote. For logs of CI, where nobody can look into the build directory later.
set -u

cd "${1:-.}" || exit 1
# Not those of make distcheck, unless it is its directory that was named.
find . -name '*.trs' -not -path '*/_build/*' | sort | while IFS= read -r trs; do
	grep -qE '^:test-result: (FAIL|ERROR|XPASS)' "$trs" || ! grep -q '^:test-result:' "$trs" || continue
	printf -- '---- %s\n' "$PWD/${trs%.trs}.log"
	# The driver repeats every point in its own words; a failure that is marked TODO is expected.
	awk '/^ok |^[A-Z]+: |^1\.\.[0-9]/ { quiet = 0; next }
		/^not ok / { quiet = / # TODO/ }
		!quiet' "${trs%.trs}.log" | tail -n 80
done
