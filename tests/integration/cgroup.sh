#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A container with less memory than its mapping: committed memory is charged to spmfs, not to who touches it.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

LIMIT=67108864
if [ -e /sys/fs/cgroup/cgroup.controllers ] && grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
	# A process may live in a leaf only; the limit is on a group of its own beside ours.
	base=/sys/fs/cgroup limit=memory.max swap=memory.swap.max usage=memory.current
	grep -qw memory $base/cgroup.subtree_control || echo +memory >$base/cgroup.subtree_control ||
		skip_all "no memory controller for new control groups"
elif [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
	base=/sys/fs/cgroup/memory limit=memory.limit_in_bytes swap=memory.memsw.limit_in_bytes
	usage=memory.usage_in_bytes
else
	skip_all "no memory control groups here"
fi
cg=$base/spmt-$SPM_TEST_ID
mkdir "$cg" 2>/dev/null || skip_all "control groups cannot be made here"
at_exit rmdir "$cg"
echo $LIMIT >"$cg/$limit" || skip_all "no memory limits here"
[ ! -e "$cg/$swap" ] || echo $LIMIT >"$cg/$swap"

cat >"$SPM_TMP/in-cgroup" <<END
#!/bin/sh
echo \$\$ >"$cg/cgroup.procs" && exec "\$@"
END
chmod 755 "$SPM_TMP/in-cgroup"
used()
{
	cat "$cg/$usage"
}

used_at_most()
{
	[ "$(used)" -le "$1" ]
}

# The limit must bite, or the rest of this test says nothing.
mkdir "$SPM_TMP/ref"
mount -t tmpfs -o size=512M spm-test-ref "$SPM_TMP/ref"
"$SPM_TMP/in-cgroup" "$SPMT" run "open f rw,creat $SPM_TMP/ref/f" "trunc f 256M" "map m f rw shared 0 256M" \
	"touch m 0 256M" >/dev/null 2>&1
is "on tmpfs the same client is killed" $? 137
umount "$SPM_TMP/ref"

for opts in map=direct map=direct,size=400M; do
	spm_fresh mem:512M "$opts"
	actor c "$SPM_TMP/in-cgroup"
	says "$opts: a client in 64 MiB opens a file" c ok open f rw,creat "$MNT/f"
	says "$opts: gives it 256 MiB" c ok trunc f 256M
	says "$opts: maps it" c ok map m f rw shared 0 256M
	says "$opts: writes all of it, and lives" c ok mfill m 0 256M 1
	ok "$opts: little is charged to it ($(used))" used_at_most $((32 * 1048576))
	says "$opts: reads it" c ok verify f 0 256M 1
	says "$opts: overwrites it with write()" c "ok 268435456" fill f 0 256M 2
	says "$opts: and lives" c ok mverify m 0 256M 2
	ok "$opts: still little is charged to it ($(used))" used_at_most $((48 * 1048576))
	actor_end c
	rm "$MNT/f"

	actor c "$SPM_TMP/in-cgroup"
	tell c open f rw,creat "$MNT/f"
	says "$opts: fallocate" c ok falloc f plain 0 256M
	tell c map m f rw shared 0 256M
	says "$opts: touched" c ok touch m 0 256M
	actor_end c
done

# Served: a file that grows by write() is the server's to allocate, too.
actor c "$SPM_TMP/in-cgroup"
rm -f "$MNT/f"
tell c open f rw,creat "$MNT/f"
says "served: write() of 256 MiB into a new file" c "ok 268435456" fill f 0 256M 3
says "served: all is there" c ok verify f 0 256M 3
actor_end c

# Mounting from within such a group: device memory is not charged to whoever called mount(8).
spm_umount_all
mkdir "$SPM_TMP/inside"
ok "mount called in 64 MiB" "$SPM_TMP/in-cgroup" "$SPMFS" mem:512M "$SPM_TMP/inside" -o map=direct
actor o
tell o open f rw,creat "$SPM_TMP/inside/f"
says "a file of 256 MiB" o ok trunc f 256M
says "mapped" o ok map m f rw shared 0 256M
says "written" o ok mfill m 0 256M 1
like "the server lives" "$(spm_feature worker_pid "$SPM_TMP/inside")" '^[0-9]+$'
actor_end o
ok "umount" umount "$SPM_TMP/inside"
ok "the server ended" wait_until 5 spm_no_servers
ok "nobody is left in the group" wait_until 5 eval '[ -z "$(cat "$cg/cgroup.procs")" ]'

spm_done
