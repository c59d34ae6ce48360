# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of slices share.
#
#	slice create|set|remove NAME WORDS...	a command to the server of $MNT
#	made NAME WORDS...			the same create, as a result
#	slice_of NAME KEY			what the list says of a slice
#	refused DESC ERROR WORDS...		a command that ends with ERROR ("File exists") and changes nothing
#	df_of DIR				size, used, available in KiB
#	account WHAT				the laws of grants hold for all slices
#	slice_run WHAT ARGS...			slicerun ARGS: slices at random against a model of their accounts; then all are removed.
#						Environment: SPM_SLICE_SECONDS (4), SPM_SLICE_ARGS (as -r SEED)
#	killer_start				worker after worker is killed, until the next slice_run has ended

slice()
{
	printf '%s' "$*" >"$MNT/.spm/slice"
}

made()
{
	ok "slice create $*" slice create "$@"
}

slice_of()
{
	sed -n "s/^$1\( .*\)\? $2=\([^ ]*\).*/\2/p" "$MNT/.spm/slices"
}

# What administrators have said, without what changes by itself.
slices_said()
{
	sed 's/ current=[0-9]* grant=[0-9]* swap.current=[0-9]*//' "$MNT/.spm/slices"
	ls -l --time-style=+ "$MNT"
}

refused()
{
	local desc=$1 want=$2 before said
	shift 2
	before=$(slices_said)
	said=$({ slice "$@"; } 2>&1)
	is "$desc: slice $*" "${said##*: }" "$want"
	[ "$before" = "$(slices_said)" ] || fail "$desc: nothing has changed" "$(diff <(echo "$before") <(slices_said))"
}

SLICERUN=$top_builddir/tests/progs/slicerun
KILLER=
KILLED=0

# Until it is told to stop; KILLED is how many.
killer()
{
	local pid n=0
	while [ ! -e "$SPM_TMP/killer.stop" ]; do
		sleep 0.3
		pid=$(spm_server_pid) && kill -KILL "$pid" 2>/dev/null && n=$((n + 1))
		echo $n >"$SPM_TMP/killed"
	done
}

killer_start()
{
	rm -f "$SPM_TMP/killer.stop"
	killer &
	KILLER=$!
}

killer_stop()
{
	[ -n "$KILLER" ] || return 0
	touch "$SPM_TMP/killer.stop"
	wait "$KILLER"
	KILLER=
	KILLED=$(cat "$SPM_TMP/killed")
}
at_exit touch "$SPM_TMP/killer.stop"

slice_run()
{
	local what=$1 rc name
	shift
	# shellcheck disable=SC2086
	"$SLICERUN" -s "${SPM_SLICE_SECONDS:-4}" -j 4 ${SPM_SLICE_ARGS:-} "$@" "$MNT" >"$SPM_TMP/slicerun.out" 2>&1 </dev/null
	rc=$?
	is "$what: the accounts are those of the model" "$rc" 0
	killer_stop
	diag "$(sed 's/^# //' "$SPM_TMP/slicerun.out")"
	ok "$what: there was something to see" [ "$(sed -n 's/^# steps //p' "$SPM_TMP/slicerun.out")" -ge 10 ]
	is "$what: deaths" "$(spm_feature worker_restarts)" "$KILLED"
	account "$what"
	while read -r name _; do
		slice remove "$name" force || fail "$what: remove $name"
	done < <(cat "$MNT/.spm/slices")
	is "$what: nothing is in use" "$(spm_stat resident_bytes) $(spm_stat swapped_bytes)" "0 0"
}

df_of()
{
	df -k --output=size,used,avail "$1" | awk 'NR == 2 { print $1, $2, $3 }'
}

# min <= grant <= max and current <= grant for each, and the sum of all with the root slice's use never above the device.
account()
{
	local device
	device=$(spm_stat device_bytes)
	is "$1: the accounts" "$(awk -v device="$device" '{
		for (i = 2; i <= NF; i++) { split($i, kv, "="); v[kv[1]] = kv[2] }
		max = v["max"] == "max" || v["max"] > device ? device : v["max"]
		if (v["grant"] < v["min"]) print $1 ": grant below min"
		if (v["grant"] > max + 4095) print $1 ": grant above max"
		if (v["current"] > v["grant"]) print $1 ": more in use than granted"
		sum += v["grant"]
	} END { if (sum > device) print "more granted than there is: " sum }' "$MNT/.spm/slices")" ""
}
