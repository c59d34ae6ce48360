#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Eight writers and readers of four times the device, and every byte is known. Environment: SPM_SWAP_SECONDS (40) of the
# long one, SPM_SWAP_ARGS (as -r SEED).
set -u
SPM_LIMIT=$((2 * ${SPM_SWAP_SECONDS:-40} + 240))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

run()
{
	local what=$1 opts=$2 seconds=$3
	shift 3
	swap_mount mem:128M 1G "$opts"
	# shellcheck disable=SC2086
	swaprun "$what" -s "$seconds" -b 512M "$@" ${SPM_SWAP_ARGS:-}
	ok "$what: there was swapping ($(spm_stat swapout_bytes) out, $(spm_stat swapin_bytes) in)" \
		eval '[ "$(spm_stat swapout_bytes)" -ge $((384 * MIB)) ] && [ "$(spm_stat swapin_bytes)" -gt 0 ]'
	is "$what: no extent was unreadable" "$(spm_stat swap_errors)" 0
	is "$what: no worker died" "$(spm_feature worker_restarts)" 0
	swap_leaves_nothing "$what"
}

# What it would say if a byte were wrong: without this, a run without differences means little.
finds()
{
	local what=$1
	shift
	swap_mount mem:64M 256M
	swaprun "$what: before" -s 0 -b 48M -m "$SPM_TMP/model"
	"$@" || fail "$what: the content could not be changed"
	"$SWAPRUN" --verify -m "$SPM_TMP/model" "$MNT" >"$SWAP_OUT" 2>&1
	is "$what is found" "$? $(result differences)" "1 1"
}

finds "a bit" eval 'printf "\\1" | dd of="$(ls "$MNT"/direct/f1.*)" bs=1 seek=100008 conv=notrunc status=none'
finds "a block of another place" eval 'f=$(ls "$MNT"/direct/f1.*); dd if="$f" of="$f" bs=4k count=1 seek=9 conv=notrunc status=none'
finds "a block that is gone" eval 'fallocate -p -o 40960 -l 4096 "$(ls "$MNT"/direct/f1.*)"'

run "four times the device" "" "${SPM_SWAP_SECONDS:-$(spm_less 40)}"
run "small extents" extent=64K "$(spm_less 6)"
run "what is cold goes at once" cold=1,low=20,high=40 "$(spm_less 6)"
run "no direct mappings" nopassthrough "$(spm_less 6)"
run "no compaction" compact=0 "$(spm_less 6)" -f 3M
spm_done
