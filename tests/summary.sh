#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Adds up the results of make check, as automake's drivers left them below a build directory. The last line is
# "N passed, N failed, N skipped", counted in test points; before it, every point that failed and every reason to
# skip. Exit status 1 when something failed or when nothing passed: a run of skips alone is no success.
set -u

dir=${1:-.}
passed=0 failed=0 skipped=0

while IFS= read -r trs; do
	while read -r _ result text; do
		case $result in
		PASS | XFAIL)
			passed=$((passed + 1))
			;;
		SKIP)
			skipped=$((skipped + 1))
			printf 'skipped: %s: %s\n' "${trs#"$dir"/}" "$text"
			;;
		*)
			failed=$((failed + 1))
			printf 'failed: %s: %s\n' "${trs#"$dir"/}" "$text"
			;;
		esac
	done < <(grep '^:test-result:' "$trs")
	# A driver that was cut off leaves no result at all.
	if ! grep -q '^:test-result:' "$trs"; then
		failed=$((failed + 1))
		printf 'failed: %s: no result\n' "${trs#"$dir"/}"
	fi
done < <(find "$dir" -name '*.trs' -not -path '*/_build/*' | sort)

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
