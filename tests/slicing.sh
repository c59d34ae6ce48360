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
