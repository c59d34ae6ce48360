#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An extent map of an older program is taken over: by the worker that follows after an upgrade, and by a mount of a kept or lost
# region. The old map is made of the one that is there, while nobody is at it.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"

OLDMAP=$top_builddir/tests/progs/oldmap

# The version that the map's header says.
version()
{
	timeout 10 od -An -tu4 -j8 -N4 "$map" | tr -d ' '
}

all_there()
{
	local i
	for i in 1 2 3; do
		ok "$1: file $i" check "$MNT/f$i" 24M "$i"
	done
	is "$1: a small one" "$(timeout 10 cat "$MNT/small")" small
	is "$1: no error" "$(spm_stat swap_errors)" 0
}

swap_mount mem:48M 256M name=versions,map=mirror
for i in 1 2 3; do
	put "$MNT/f$i" 24M "$i"
done
printf small >"$MNT/small"
evict "$MNT/f1" "$MNT/f3" "$MNT/small"
ok "most of it is in swap ($(spm_stat swapped_bytes))" [ "$(spm_stat swapped_bytes)" -ge $((48 * MIB)) ]
standby=$(spm_feature standby_pid) worker=$(spm_server_pid)
map=/proc/$standby/root/region.extents
is "the map is of version 2" "$(version)" 2

# No worker comes while the standby is stopped.
kill -STOP "$standby"
kill -KILL "$worker"
gone() { [ "$(awk '{ print $3 }' "/proc/$worker/stat" 2>/dev/null || echo Z)" = Z ]; }
ok "no worker is there" wait_until 10 gone
ok "the map is made old" timeout 20 "$OLDMAP" "$map"
is "the map is of version 1" "$(version)" 1
kill -CONT "$standby"
all_there "another worker"
is "the map is of version 2 again" "$(version)" 2
ok "nothing else is left of that" [ ! -e "$map.new" ]
like "the log says so" "$(cat "$MNT.log")" "the extent map of an older version was taken over"
ok "more is written" put "$MNT/more" 24M 4
kill -KILL "$(spm_server_pid)"
ok "and is there after another death" check "$MNT/more" 24M 4
all_there "after another death"

# All are killed; a mount that recovers the region has an old map before it.
ok "umount" spm_umount_all
MNT=$SPM_TMP/mnt
mkdir "$MNT"

start()
{
	"$SPMFS" mem:48M "$MNT" -o "name=versions,map=mirror,swap=$SWAP,swapsize=256M${1:+,$1}"
}

ok "a mount" start
for i in 1 2 3; do
	put "$MNT/f$i" 24M "$i"
done
printf small >"$MNT/small"
evict "$MNT/f1" "$MNT/small"
map=/proc/$(spm_feature standby_pid)/root/region.extents
exec {fd}<>"$map"
spm_kill_servers
umount -l "$MNT"
ok "the map is made old" timeout 20 "$OLDMAP" "/dev/fd/$fd"
exec {fd}>&-
ok "with recover it is mounted" start recover
map=/proc/$(spm_feature standby_pid)/root/region.extents
is "the map is of version 2 once more" "$(version)" 2
ok "nothing is left of the old one" [ ! -e "$map.new" ]
all_there "recovered"
ok "umount" umount "$MNT"
ok "every server ended" wait_until 10 spm_no_servers

spm_done
