#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Device and swap are full, or the disk below the swap file is: ENOSPC to who asks for more, and nothing is lost.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

# Files of 4 MiB each, until there is no room; the last one is what there was room for.
fill_up()
{
	FILES=0 LAST=0
	while [ "$FILES" -lt 200 ]; do
		FILES=$((FILES + 1))
		LAST=$(put "$MNT/f$FILES" 4M "$FILES") && continue
		FULL=$LAST
		LAST=${LAST#ok } LAST=${LAST%% *}
		return
	done
}

# As mirrors: to be opened directly, a file needs room on the device.
whole()
{
	local i rc=0
	"$SPMT" setxattr "$MNT" user.spm.map mirror
	for i in $(seq 1 $((FILES - 1))); do
		check "$MNT/f$i" 4M "$i" || rc=1
	done
	[ "$LAST" -eq 0 ] || check "$MNT/f$FILES" "$LAST" "$FILES" || rc=1
	"$SPMT" setxattr "$MNT" user.spm.map "$MAP"
	return "$rc"
}

full()
{
	local what=$1 least=$2
	fill_up
	like "$what: writing ends in ENOSPC" "$FULL" "^ok [0-9]+ ENOSPC$"
	is "$what: the last file has what was said to be written" "$(stat -c %s "$MNT/f$FILES")" "$LAST"
	ok "$what: after $((FILES * 4)) MiB" [ $((FILES * 4)) -ge "$least" ]
	ok "$what: nothing is lost" whole
	rm "$MNT/f1" "$MNT/f2" "$MNT/f3"
	ok "$what: after an unlink there is room" put "$MNT/f1" 4M 1
	ok "$what: and more" put "$MNT/f2" 4M 2
	put "$MNT/f3" 4M 3 >/dev/null || truncate -s 0 "$MNT/f3"
	rm "$MNT/f3"
	ok "$what: everything else is right" eval 'for i in 1 2 $(seq 4 $((FILES - 1))); do check "$MNT/f$i" 4M $i || exit 1; done'
	ok "$what: truncate to nothing works" truncate -s 0 "$MNT/f4"
	ok "$what: a name can be made" mkdir "$MNT/d"
	rmdir "$MNT/d"
}

for opts in map=mirror map=direct map=auto,extent=64K; do
	MAP=${opts#map=} MAP=${MAP%,*}
	swap_mount mem:32M 48M "$opts"
	full "$opts" 64
	swap_leaves_nothing "$opts"
	ok "$opts: as much fits as before" eval 'n=$FILES; fill_up; [ $FILES -ge $((n - 2)) ]'
	rm -f "$MNT"/f*
	swaprun "$opts: more than there is room for" -s 6 -b 160M --no-space
	ok "$opts: it was full at times" [ "$(result no_space)" -gt 0 ]
	swap_leaves_nothing "$opts: after the run"
done

# Pinned memory does not make room.
swap_mount mem:32M 256M map=direct
actor a
tell a open f rw,creat "$MNT/pinned"
tell a fill f 0 24M 1
like "a file that is open directly takes its memory" "$REPLY" "^ok $((24 * MIB))$"
ok "what is left goes round" put "$MNT/other" 64M 2
says "what is pinned is right" a ok verify f 0 24M 1
tell a fill f 24M 40M 1
like "more than the device cannot be pinned" "$REPLY" "^ok [0-9]+ ENOSPC$"
ok "though there is swap" [ "$(($(spm_stat swap_bytes) - $(spm_stat swap_used_bytes)))" -ge $((64 * MIB)) ]
tell a close f
actor_end a

# The disk below is full when the swap file is to grow again.
if truncate -s 300M "$SPM_TMP/disk" && mkfs.ext4 -q -F "$SPM_TMP/disk" && mkdir "$SPM_TMP/small" &&
	mount -o loop "$SPM_TMP/disk" "$SPM_TMP/small"; then
	spm_umount_all
	spm_need_mount mem:32M "swap=$SPM_TMP/small,swapsize=128M,compact=1G"
	MAP=auto
	SWAP_FREE=$(spm_stat free_bytes)
	for i in $(seq 1 24); do
		put "$MNT/f$i" 4M "$i" >/dev/null
	done
	rm "$MNT"/f*
	wait_until 10 swap_is_back
	echo 1 >"$MNT/.spm/compact"
	wait_until 5 eval '[ "$(du -sm "$SPM_TMP/small" | cut -f 1)" -le 64 ]'
	ok "an empty swap file gives its space back ($(du -sm "$SPM_TMP/small" | cut -f 1) MiB)" \
		[ "$(du -sm "$SPM_TMP/small" | cut -f 1)" -le 64 ]
	head -c 400M /dev/zero >"$SPM_TMP/small/filler" 2>/dev/null
	fill_up
	like "a full disk: writing ends in ENOSPC" "$FULL" "^ok [0-9]+ ENOSPC$"
	ok "a full disk: nothing is lost" whole
	rm "$SPM_TMP/small/filler"
	ok "room on the disk is found again" wait_until 30 put "$MNT/more" 24M 99
	ok "with what was there" whole
	ok "and what is new" check "$MNT/more" 24M 99
	rm "$MNT"/*
	spm_umount
	umount "$SPM_TMP/small"
else
	skip "a full disk below the swap file" "no loop device here"
fi
spm_done
