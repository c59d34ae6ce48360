#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs tests inside the test machine, one after the other, for tests/vm/check.sh, which reads what is written here:
#
#	== begin TEST
#	(the test's TAP)
#	== end TEST STATUS SECONDS
#
#	bash inside.sh SECONDS TEST...		SECONDS: how long one may take
set -u
: "${top_srcdir:?}"

limit=$1
shift
for test in "$@"; do
	printf '== begin %s\n' "$test"
	begun=$SECONDS
	timeout -k 10 "$limit" bash "$top_srcdir/$test" 2>&1 </dev/null
	rc=$?
	[ $rc -ne 124 ] || printf '# stopped after %s s\n' "$limit"
	printf '\n== end %s %s %s\n' "$test" "$rc" "$((SECONDS - begun))"
	# One that went wrong in the kernel is to be seen beside its test.
	dmesg --level=emerg,alert,crit,err -T --since "$((SECONDS - begun + 1)) seconds ago" 2>/dev/null |
		grep -E 'BUG|WARNING|Oops|hung' | sed 's/^/== kernel /'
done
