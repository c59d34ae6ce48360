# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# Content that tests recognise, and clients that cannot be left waiting.
#
#	put PATH LEN SEED, check PATH LEN SEED	content that is recognised, at each of its 8 bytes

! declare -F put >/dev/null || return 0
MIB=1048576

# Clients of a server that does not come back wait beyond the reach of signals, until the connection is aborted.
abort_stuck()
{
	local dir
	for dir in "${!SPM_MOUNTS[@]}"; do
		timeout 10 stat -f "$dir" >/dev/null 2>&1 || umount -f "$dir" 2>/dev/null
	done
}
at_exit abort_stuck

# Fails, and says what it came to, when not all fitted.
put()
{
	local out
	out=$("$SPMT" run "open f w,creat $1" "fill f 0 $2 $3" "close f" | sed -n 2p)
	# on its own line it would be taken for a test point
	[ "$out" = "ok $(numfmt --from=iec "$2")" ] || { printf '%s\n' "$out"; return 1; }
}

# Past the client's page cache, which would know it still.
check()
{
	"$SPMT" run "open f r,direct $1" "verify f 0 $2 $3" "close f"
}
