#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Memory that cannot go offline: somebody holds a page of the device's node that the kernel cannot move. Unmounting ends in bounded
# time, with a message; the device is given back when the page is free. Layout hmem: dax0.0 is node 1.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

[ -e /sys/bus/dax/devices/dax0.0 ] || skip_all "needs dax0.0"
mode()
{
	daxctl list -d dax0.0 | jq -r '.[0].mode'
}
[ "$(mode)" = devdax ] || daxctl offline-memory dax0.0 >/dev/null 2>&1
[ "$(mode)" = devdax ] || daxctl reconfigure-device --mode=devdax dax0.0 >/dev/null 2>&1
is "the device is in mode devdax" "$(mode)" devdax

# A page in a pipe is one that is under I/O for as long as nobody reads it.
spm_need_mount dax0.0 daxmode=system-ram,name=pinned
mkdir "$SPM_TMP/others"
mount -t tmpfs -o size=16M,mpol=bind:1,huge=never others "$SPM_TMP/others"
at_exit umount "$SPM_TMP/others"
actor other
tell other open f rw,creat "$SPM_TMP/others/file"
tell other trunc f 64K
tell other map m f rw shared 0 64K
says "another program has pages on the node" other ok touch m 0 64K
says "all of them" other "ok 1:16" nodes m
says "and one in a pipe" other ok splice m pipe

server=${SPM_MOUNTS[$MNT]} log=$MNT.log
begun=$SECONDS
ok "umount" umount "$MNT"
unset "SPM_MOUNTS[$MNT]"
ok "the servers end" wait_until 20 spm_gone "$server"
diag "after $((SECONDS - begun)) s"
ok "before long" [ $((SECONDS - begun)) -le 60 ]
wait "$server"
is "the device stays what it is" "$(mode)" system-ram
like "which is told, with who is in the way and what to do then" "$(grep 'taken offline' "$log")" \
	"dax0.0: its memory cannot be taken offline, since pages of node 1 are in use by .*pid ${ACTOR_PID[other]}.*spmctl devices --restore dax0.0"
like "and shown" "$("$SPMCTL" devices --json | jq -r '.[] | select(.name == "dax0.0") | .command')" '^spmctl devices --restore dax0.0$'
begun=$SECONDS
fails "nor is it given back by hand" timeout 100 "$SPMCTL" devices --restore dax0.0
diag "after $((SECONDS - begun)) s"
like "for the same reason" "$(cat "$SPM_TMP/out")" "pages of node 1 are in use by .*pid ${ACTOR_PID[other]}"
says "the pipe is read" other ok close pipe
ok "then it is" timeout 100 "$SPMCTL" devices --restore dax0.0
is "as it was" "$(mode)" devdax
says "the other program has its memory" other ok touch m 0 64K
says "elsewhere" other "ok 0:16" nodes m
actor_end other
spm_done
