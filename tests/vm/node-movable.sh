#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A node that comes and goes (a device's, movable): refused while its memory is offline; buffers that a client registers with
# io_uring leave it, which is shown, and come home. Layout hmem: dax0.0 is node 1.
set -u
SPM_LIMIT=60
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=nodes.sh
. "$(dirname "$0")/nodes.sh"

[ -e /sys/bus/dax/devices/dax0.0 ] || skip_all "needs dax0.0"
[ "$(cat /sys/devices/system/node/has_memory)" = 0 ] || skip_all "dax0.0 is online already"
fails "a node whose memory is offline is refused" "$SPMFS" node:1:64M "$SPM_TMP"
like "with the reason" "$(cat "$SPM_TMP/out")" "node 1 does not exist or has no memory; nodes with memory: 0"
ok "dax0.0 as system memory" eval 'daxctl online-memory dax0.0 || daxctl reconfigure-device --mode=system-ram dax0.0'
is "node 1 has memory" "$(cat /sys/devices/system/node/has_memory)" 0-1

spm_need_mount node:1:256M name=movable,map=direct,mode=1777
actor nobody setpriv --reuid 65534 --regid 65534 --clear-groups
tell nobody open f rw,creat "$MNT/buffer"
tell nobody trunc f 256K
tell nobody map m f rw shared 0 256K
says "an ordinary user's buffer" nobody ok mfill m 0 256K 9
says "is on the node" nobody "ok 1:64" nodes m
says "it is registered with io_uring" nobody ok pin m ring
tell nobody nodes m
moved=$REPLY
diag "then it is on: $moved"
says "its content is what it was" nobody ok mverify m 0 256K 9
if [ "$moved" = "ok 0:64" ]; then
	ok "status shows it" wait_until 50 foreign_is -eq $((256 << 10))
else
	is "or it stays" "$moved" "ok 1:64"
fi
tell nobody close ring
tell nobody unmap m
tell nobody close f
ok "without the registration and the mapping it comes home" wait_until 50 foreign_is -eq 0
tell nobody open f rw "$MNT/buffer"
tell nobody map m f rw shared 0 256K
says "with what it had" nobody ok mverify m 0 256K 9
says "on the node" nobody "ok 1:64" nodes m
tell nobody unmap m
tell nobody close f
ok "it unmounts" spm_umount
ok "and the node's memory goes offline" wait_until 10 daxctl offline-memory dax0.0
spm_done
