#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# swap= on a pool of a real dax device: the kernel writes slots from the device's own pages and reads them into these, which a
# stand-in on tmpfs cannot show.
set -u
SPM_LIMIT=800
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

DAX=${SPM_DAX:-dax0.0}
[ -e "/sys/bus/dax/devices/$DAX" ] || skip_all "no $DAX here"
export SPM_DAX=$DAX SPMFS_FAULTS=1
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
d=$SPM_TMP/mnt
mkdir "$d"

died()
{
	[ "$(spm_feature worker_restarts)" -gt "$before" ]
}

swap_mount_of "$DAX" 192M daxmode=devdax,size=48M,low=0
is "isolation" "$(spm_feature isolation)" hard
like "swap is on" "$(spm_feature swap)" "^on: 1 file"
ok "twice the pool is written" put "$MNT/f" 96M 1
ok "half of it is in swap ($(spm_stat swapped_bytes))" [ "$(spm_stat swapped_bytes)" -ge $((44 * MIB)) ]
ok "and all of it right" check "$MNT/f" 96M 1
is "nothing was unreadable" "$(spm_stat swap_errors) $(spm_stat swap_write_errors)" "0 0"
truncate -s 30M "$MNT/f"
ok "evict" evict "$MNT/f"
is "all of it is in swap" "$(swapped "$MNT/f") $(resident "$MNT/f")" "$((30 * MIB)) 0"
ok "load" load "$MNT/f"
is "all of it is in the device" "$(swapped "$MNT/f") $(resident "$MNT/f")" "0 $((30 * MIB))"
ok "and right" check "$MNT/f" 30M 1
for point in swapout:recorded swapin:allocated swapin:cleared; do
	before=$(spm_feature worker_restarts)
	evict "$MNT/f"
	[ "$point" != swapout:recorded ] || load "$MNT/f"
	echo "$point kill" >"$MNT/.spm/fault"
	case $point in
	swapout:*) ok "$point: evict" evict "$MNT/f" ;;
	*) ok "$point: load" load "$MNT/f" ;;
	esac
	ok "$point: the worker died" wait_until 30 died
	ok "$point: every byte is right" check "$MNT/f" 30M 1
done
swap_leaves_nothing "the device"
spm_umount_all || fail "umount"

# ---- everybody dies ----

MNT=$d
ok "a mount" "$SPMFS" "$DAX" "$d" -o "daxmode=devdax,size=48M,swap=$SWAP,swapsize=128M,name=lost"
put "$d/f" 80M 7
spm_kill_servers
umount -l "$d"
ok "recover" "$SPMFS" "$DAX" "$d" -o "daxmode=devdax,size=48M,swap=$SWAP,swapsize=128M,name=lost,recover"
ok "a part of it is in swap" [ "$(spm_stat swapped_bytes)" -ge $((30 * MIB)) ]
ok "every byte is right" check "$d/f" 80M 7
ok "umount" umount "$d"
ok "every server ended" wait_until 20 spm_no_servers
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""
spm_done
