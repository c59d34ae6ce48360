#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# After make check in a build directory: runs the test scripts that failed a second time, each alone. A machine that
# stands still for seconds makes some test fail that is right; one that fails twice is wrong. What the first time said
# is printed, headed "unstable", so that nobody overlooks it, and its log stays beside the second one as NAME.log.first.
# Not run again: scripts whose failure speaks of data or memory, which no load excuses, and anything where more
# than MOST scripts failed.
set -u

MOST=4
NO_EXCUSE='byte|differ|content|corrupt|lost|zero|stale|sanitizer|signal|SIGBUS|SIGSEGV|leak|crash'

here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-.}" || exit 1

is_failed()
{
	grep -qE '^:test-result: (FAIL|ERROR|XPASS)' "$1" || ! grep -q '^:test-result:' "$1"
}

failed=()
while IFS= read -r trs; do
	trs=${trs#./}
	! is_failed "$trs" || failed+=("${trs%.trs}")
done < <(find . -name '*.trs' -not -path '*/_build/*' | sort)
[ "${#failed[@]}" -gt 0 ] && [ "${#failed[@]}" -le $MOST ] || exit 0

for name in "${failed[@]}"; do
	# unit tests are programs: they do not depend on time
	[ -f "$here/../$name.sh" ] || continue
	! grep -E '^not ok ' "$name.log" | grep -v '# TODO' | grep -qiE "$NO_EXCUSE" || continue
	# quoted, or who counts results in the output takes these for the last ones
	first=$(bash "$here/failures.sh" . | awk -v head="---- $PWD/./$name.log" '/^---- / { on = $0 == head } on { print "  | " $0 }')
	cp "$name.log" "$name.log.first"
	make -k check TESTS="$name.sh" TEST_LOGS="$name.log" >again.log 2>&1 </dev/null
	is_failed "$name.trs" && continue
	printf 'unstable: %s failed, and passed when it was run again alone. The first time:\n%s\n' "$name.sh" "$first"
done
exit 0
