#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Adds up the results of make check, as automake's drivers left them below a build directory. The last line is
# "N passed, N failed, N skipped", counted in test points; before it, every point that failed and every reason
# to skip. Exit status 1 when something failed or when nothing passed: a run of skips alone is no success.
set -u

dir=${1:-.}
passed=0 failed=0 skipped=0

while IFS= read -r trs; do
	results=0
	while read -r _ result _; do
		results=$((results + 1))
		case $result in
		PASS | XFAIL) passed=$((passed + 1)) ;;
		SKIP) skipped=$((skipped + 1)) ;;
		*) failed=$((failed + 1)) ;;
		esac
	done < <(grep '^:test-result:' "$trs")
	if [ "$results" -eq 0 ]; then
		# A driver that was cut off leaves no result at all.
		failed=$((failed + 1))
		printf 'FAIL: %s: no result\n' "${trs#"$dir"/}"
	fi
	grep -E '^(SKIP|FAIL|ERROR|XPASS): ' "${trs%.trs}.log"
done < <(find "$dir" -name '*.trs' -not -path '*/_build/*' | sort)

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
