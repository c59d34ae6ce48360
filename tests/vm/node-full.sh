#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A node that is full: ENOSPC where memory is asked for, never a page elsewhere, and never the OOM killer, which an allocation
# that is bound to a full node calls. Layout node: nodes 1 and 2 have no processors.
set -u
SPM_LIMIT=60
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=nodes.sh
. "$(dirname "$0")/nodes.sh"

need_nodes 0-2

# All that is free, but for what the kernel keeps.
killed=$(oom_kills)
free=$(node_free 2)
spm_need_mount node:2 name=full
before=$(node_shmem 2)
elsewhere=$(($(node_shmem 0) + $(node_shmem 1)))
size=$(stat -f -c '%b*%S' "$MNT")
size=$((size))
diag "free $((free >> 20)) MiB, size $((size >> 20)) MiB"
ok "the size that is taken leaves the kernel its reserve" [ "$size" -lt "$free" ]
ok "and no more than a tenth" [ "$size" -gt $((free * 9 / 10)) ]
ok "all of it can be had" fallocate -l $((size - (4 << 20))) "$MNT/all"
is "the node has it" "$(near $(($(node_shmem 2) - before)) $((size - (4 << 20))))" yes
is "the other nodes have nothing of it" "$(near $(($(node_shmem 0) + $(node_shmem 1))) "$elsewhere")" yes
fails "and no more" fallocate -l 64M "$MNT/more"
like "which is said as for any full filesystem" "$(cat "$SPM_TMP/out")" "No space left on device"
is "nothing was killed" "$(oom_kills)" "$killed"
is "no page is elsewhere" "$(spm_stat foreign_bytes)" 0

# Others take the node's memory while the mount thinks that it has it.
spm_fresh node:2:400M name=full
ok "a file of before" fallocate -l 64M "$MNT/old"
fill_node 2 $((48 << 20))
diag "free $(($(node_free 2) >> 20)) MiB"
fails "what a file asks for and the node has not" timeout 60 fallocate -l 200M "$MNT/big"
like "is refused as on a full filesystem" "$(cat "$SPM_TMP/out")" "No space left on device"
is "and takes nothing" "$(stat -c %b "$MNT/big")" 0
fails "a write ends where the memory does" timeout 120 dd if=/dev/zero of="$MNT/written" bs=1M count=300
like "with ENOSPC" "$(cat "$SPM_TMP/out")" "No space left on device"
ok "what is there can be written again" timeout 60 dd if=/dev/zero of="$MNT/old" bs=1M count=64 conv=notrunc
ok "and read" cmp -n $((64 << 20)) "$MNT/old" /dev/zero
ok "and is opened and mapped" "$SPMT" run "open f rw $MNT/old" "map m f rw shared 0 $((64 << 20))" "put m 0 x"
is "nothing was killed" "$(oom_kills)" "$killed"
rm "$MNT/big" "$MNT/written"
empty_node 2
ok "when the others have let go, it can be had" fallocate -l 200M "$MNT/big"
is "still nothing was killed" "$(oom_kills)" "$killed"

# With swap, what is cold makes room.
mkdir "$SPM_TMP/swap"
spm_fresh node:2:400M "name=full,swap=$SPM_TMP/swap,swapsize=256M"
head -c 100M /dev/urandom >"$MNT/cold"
sum=$(md5sum <"$MNT/cold")
fill_node 2 $((32 << 20))
ok "a write to a full node waits for cold files to leave" timeout 120 dd if=/dev/zero of="$MNT/new" bs=1M count=80
ok "which have left" [ "$(spm_stat swapped_bytes)" -gt $((16 << 20)) ]
is "and are whole" "$(md5sum <"$MNT/cold")" "$sum"
is "nothing was killed" "$(oom_kills)" "$killed"
empty_node 2
spm_done
