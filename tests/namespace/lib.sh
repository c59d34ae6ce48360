# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the drivers of this directory share: nsconform's results among the driver's own, deviations with their
# reasons, trees and what describes them.
#
#	conform DIR [ARGS...]	runs nsconform ARGS in DIR, one result each
#	deviates NAME REASON	this check may fail: spmfs cannot be tmpfs there, the man page says so
#	leaves_nothing DIR	blocks and inodes in use are what they were at the first call for DIR

NSCONFORM=$top_builddir/tests/namespace/nsconform
TREESTRESS=$top_builddir/tests/namespace/treestress
declare -A NS_DEVIATES=() NS_USED=()

deviates()
{
	NS_DEVIATES[$1]=$2
}

# A result of nsconform: failed checks with a known reason are TODO, with it they are no failure to automake.
ns_result()
{
	local ok=$1 name=$2 reason=$3 notes=$4
	if [ "$ok" = ok ]; then
		if [ -n "$reason" ]; then
			skip "$name" "$reason"
		else
			pass "$name"
			[ -z "${NS_DEVIATES[$name]:-}" ] || diag "passes here, although: ${NS_DEVIATES[$name]}"
		fi
	elif [ -n "${NS_DEVIATES[$name]:-}" ]; then
		SPM_COUNT=$((SPM_COUNT + 1))
		printf 'not ok %d - %s # TODO %s\n' "$SPM_COUNT" "$name" "${NS_DEVIATES[$name]}"
	else
		fail "$name" "$notes"
	fi
}

conform()
{
	local dir=$1 out=$SPM_TMP/nsconform.out line notes='' plan=0 seen=0 rc
	shift
	"$NSCONFORM" "$@" "$dir" >"$out" 2>&1 </dev/null
	rc=$?
	while IFS= read -r line; do
		if [[ $line =~ ^1\.\.([0-9]+)$ ]]; then
			plan=${BASH_REMATCH[1]}
		elif [[ $line =~ ^(ok|not\ ok)\ [0-9]+\ -\ ([^ ]+)(\ #\ SKIP\ (.*))?$ ]]; then
			ns_result "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[4]:-}" "$notes"
			seen=$((seen + 1))
			notes=
		elif [[ $line == '# '[0-9]*' checks, '* ]]; then
			diag "${line#\# }"
		else
			notes+=${notes:+$'\n'}${line#\# }
		fi
	done <"$out"
	if [ $rc -gt 1 ] || [ "$seen" -ne "$plan" ] || [ "$seen" -eq 0 ]; then
		fail "nsconform runs to its end" "status $rc, $seen of $plan results: $notes"
	fi
}

# Blocks and inodes that the mount says are in use.
ns_used()
{
	stat -f -c '%b %f %c %d' "$1" | awk '{ print $1 - $2, $3 - $4 }'
}

ns_used_as_before()
{
	[ "$(ns_used "$1")" = "${NS_USED[$1]}" ]
}

leaves_nothing()
{
	if [ -z "${NS_USED[$1]:-}" ]; then
		NS_USED[$1]=$(ns_used "$1")
		return
	fi
	# the kernel tells the server of the last use of an inode a moment later
	wait_until 10 ns_used_as_before "$1"
	is "blocks and inodes in use are what they were" "$(ns_used "$1")" "${NS_USED[$1]}"
}
