# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests share that kill servers: plain tmpfs to compare with, the run of killrun, and that nothing is left.
#
#	kill_mount OPTIONS		a fresh mount of 1 GiB, and an empty tmpfs in $REF
#	ref_mount			an empty tmpfs in $REF
#	killed WHAT ARGS...		killrun ARGS on both, in its own lines of results; figure KEY is one of them
#	faults WHAT ARGS...		faults ARGS on both: a result for each of its lines; with -q one that counts them, and those that failed
#	kill_leaves_nothing WHAT	all is removed: memory and inodes are given back

# shellcheck source=content.sh
. "$top_srcdir/tests/content.sh"

KILLRUN=$top_builddir/tests/progs/killrun
FAULTS=$top_builddir/tests/progs/faults
REF=$SPM_TMP/ref
mkdir "$REF"
KILL_OUT=$SPM_TMP/killrun.out
: >"$KILL_OUT"

# An empty one, as killrun and faults want both of theirs.
ref_mount()
{
	mountpoint -q "$REF" && umount "$REF"
	mount -t tmpfs -o size=1G spm-reference "$REF" || { fail "mount tmpfs"; exit 1; }
}

kill_mount()
{
	spm_fresh mem:1G "$1"
	ref_mount
	KILL_FREE=$(spm_stat free_bytes)
}

# The lines that killrun gave for a key.
figure()
{
	sed -n "s/^# $1 \([^ ]*\).*/\1/p" "$KILL_OUT"
}

killed()
{
	local what=$1 rc
	shift
	"$KILLRUN" -S "$@" "$MNT" "$REF" >"$KILL_OUT" 2>&1 </dev/null
	rc=$?
	is "$what: every result is the one of tmpfs" "$rc" 0
	is "$what: errors and differences" "$(figure errors) $(figure differences)" "0 0"
	diag "$(sed 's/^# //' "$KILL_OUT")"
}

faults()
{
	local quiet='' what line notes='' seen=0
	[ "$1" != -q ] || { quiet=1; shift; }
	what=$1
	shift
	"$FAULTS" "$@" "$MNT" "$REF" >"$SPM_TMP/faults.out" 2>&1 </dev/null
	while IFS= read -r line; do
		if [[ $line =~ ^ok\ [0-9]+\ -\ (.*) ]]; then
			[ "$quiet" ] || pass "$what: ${BASH_REMATCH[1]}"
			notes='' seen=$((seen + 1))
		elif [[ $line =~ ^not\ ok\ [0-9]+\ -\ (.*) ]]; then
			fail "$what: ${BASH_REMATCH[1]}" "$notes"
			notes='' seen=$((seen + 1))
		else
			notes+=${line#\# }$'\n'
		fi
	done <"$SPM_TMP/faults.out"
	is "$what: faults runs to its end" "$(tail -n 1 <<<"${notes%$'\n'}")" "1..$seen"
	ok "$what: $seen deaths" [ "$seen" -ge "$((${quiet:-0} ? 10 : 1))" ]
}

kill_all_is_back()
{
	[ "$(spm_stat free_bytes)" -ge "$((KILL_FREE - 1048576))" ] && [ "$(spm_stat inodes_known)" -le 20 ]
}

# Names, orphans and what the kernel remembers: after all files are removed there is nothing that holds memory.
kill_leaves_nothing()
{
	find "$MNT" -mindepth 1 -delete || fail "$1: everything can be removed"
	wait_until 15 kill_all_is_back
	ok "$1: memory and inodes are given back (free $(spm_stat free_bytes) of $KILL_FREE, $(spm_stat inodes_known) inodes)" \
		kill_all_is_back
}
