# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the drivers of this directory share: nsconform's results among the driver's own, deviations with their
# reasons, what is in use on a mount.
#
#	conform DIR [ARGS...]	runs nsconform ARGS in DIR, one result each
#	deviations KIND		for the next conform: where spmfs cannot be tmpfs; KIND is direct or mirror
#	leaves_nothing DIR	blocks and inodes in use are what they were at the first call for DIR

NSCONFORM=$top_builddir/tests/namespace/nsconform
TREESTRESS=$top_builddir/tests/namespace/treestress
declare -A NS_DEVIATES=() NS_USED=()

# Each is the kernel's doing: no request reaches the server, or it does not say enough. A check that passes
# nevertheless is told, so that nobody keeps a deviation that is none any more.
deviations()
{
	NS_DEVIATES=(
		[node/fifo_stamps]="a fifo's writes never reach a FUSE server"
		[owner/no_change_by_others_of_a_setgid_file]="chown(-1, -1) is the request that ends sgid"
		[suid/setgid_without_group_execution]="a write does not say of which groups its writer is"
		[flags/append_only_descriptors_stay_so]="F_SETFL asks no FUSE server"
	)
	if [ "$1" = direct ]; then
		NS_DEVIATES+=(
			[suid/root_with_open_file_keeps_suid]="plain writes have the server's rights"
			[data/append_switched_later]="a plain file keeps the O_APPEND that it was opened with"
		)
	else
		NS_DEVIATES+=(
			[time/what_file_reads_stamp]="reads of cached pages do not reach the server"
			[time/mapped_reads_stamp]="reads of cached pages do not reach the server"
			[time/mapped_writes_stamp]="mapped writes reach the server when they are written back"
			[full/sparse_mapping_at_full]="mapped writes meet the full device at writeback"
		)
	fi
}

# A result of nsconform. Failed checks with a known reason are TODO: no failure to automake.
ns_result()
{
	local ok=$1 name=$2 reason=$3 notes=$4 known=${NS_DEVIATES[$2]:-}
	if [ "$ok" = ok ] && [ -n "$reason" ]; then
		skip "$name" "$reason"
	elif [ "$ok" = ok ]; then
		pass "$name"
		[ -z "$known" ] || diag "passes here, although: $known"
	elif [ -n "$known" ]; then
		SPM_COUNT=$((SPM_COUNT + 1))
		printf 'not ok %d - %s # TODO %s\n' "$SPM_COUNT" "$name" "$known"
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
