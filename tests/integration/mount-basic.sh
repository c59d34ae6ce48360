#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Mounting by hand: daemon and foreground, several mounts, odd mount points, options, umount while busy.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# The daemon: its command returns when the filesystem can be used, and says nothing.
d=$SPM_TMP/daemon
mkdir "$d"
out=$("$SPMFS" mem:64M "$d" 2>&1 </dev/null)
is "spmfs SOURCE MOUNTPOINT returns success, silently" "$? $out" "0 "
ok "it is usable at once" eval 'echo hello >"$d/f" && [ "$(cat "$d/f")" = hello ]'
is "type and source are in the mount table" "$(findmnt -rno FSTYPE,SOURCE "$d")" "fuse.spmfs mem:64M"
is "df shows the size of the device" "$(stat -f -c '%b %S' "$d" | awk '{ print $1 * $2 / 1048576 }')" 64
is "the root directory is as tmpfs makes it" "$(stat -c '%a %u %g' "$d")" "1777 0 0"
pid=$(spm_server_pid "$d")
is "the daemon does not keep our directory or output" \
	"$(readlink "/proc/$pid/cwd") $(readlink "/proc/$pid/fd/1")" "/ /dev/null"
ok "umount" umount "$d"
ok "the daemon ends after umount" wait_until 5 spm_no_servers
is "the mount point is an empty directory again" "$(ls -A "$d")" ""

# Foreground, as the harness does it always.
spm_need_mount mem:64M
first=$MNT
ok "spmfs -f stays in the foreground" kill -0 "${SPM_MOUNTS[$first]}"
spm_need_mount mem:32M
echo one >"$first/f"
echo two >"$MNT2/f"
is "two mounts side by side hold files of their own" "$(cat "$first/f" "$MNT2/f" | tr '\n' ' ')" "one two "
ok "one of two is unmounted" spm_umount "$MNT2"
is "the other one goes on" "$(cat "$first/f"; echo more >"$first/g"; cat "$first/g")" $'one\nmore'

# Mount points that need quoting somewhere.
servers=$(spm_servers)
odd=("with blank" $'tab\there' 'back\slash' $'line\nbreak' 'späß-メモリ' '-dash' 'co,mma' 'has"quote')
for name in "${odd[@]}"; do
	dir=$SPM_TMP/$name
	mkdir -- "$dir"
	printf -v shown %q "$name"
	out=$("$SPMFS" mem:16M "$dir" 2>&1)
	is "mount point $shown: mounts" "$? $out" "0 "
	ok "mount point $shown: a file can be written" eval 'echo x >"$dir/f" && [ -s "$dir/f" ]'
	ok "mount point $shown: unmounts" wait_until 3 umount -- "$dir"
done
others_ended()
{
	[ "$(spm_servers)" = "$servers" ]
}
ok "all their servers ended" wait_until 5 others_ended

mkdir -p "$SPM_TMP/rel/a" "$SPM_TMP/there"
ln -s there "$SPM_TMP/link"
ok "a relative mount point" eval '(cd "$SPM_TMP/rel" && "$SPMFS" mem:16M a) && echo x >"$SPM_TMP/rel/a/f"'
ok "the relative one is listed by its full path" findmnt -M "$SPM_TMP/rel/a"
ok "umount of it" umount "$SPM_TMP/rel/a"
ok "a mount point through a symbolic link" \
	eval '"$SPMFS" mem:16M "$SPM_TMP/link" && echo x >"$SPM_TMP/there/f" && umount "$SPM_TMP/there"'
ok "the working directory as mount point" \
	eval '(cd "$SPM_TMP/there" && "$SPMFS" mem:16M .) && findmnt -M "$SPM_TMP/there"'
ok "umount of it" umount "$SPM_TMP/there"

# Every option at once.
all=size=32M,mode=1750,uid=$USER_A,gid=$USER_B,nr_inodes=1000,huge=within_size,mpol=prefer:0,map=mirror
all=$all,commit=lazy,name=all-options,nodev,nosuid,noexec,noatime,nofail,_netdev,user,x-test.option=1
d=$SPM_TMP/all
mkdir "$d"
out=$("$SPMFS" -s -n -v -t fuse.spmfs mem:64M "$d" -o "$all" 2>&1)
is "every option at once" "$?" 0
is "size= is what df shows" "$(stat -f -c '%b %S' "$d" | awk '{ print $1 * $2 / 1048576 }')" 32
is "mode=, uid= and gid= are the root directory's" "$(stat -c '%a %u %g' "$d")" "1750 $USER_A $USER_B"
is "nr_inodes= is what df -i shows" "$(stat -f -c %c "$d")" 1000
flags=$(findmnt -no VFS-OPTIONS "$d")
for flag in nodev nosuid noexec noatime; do
	like "$flag is a flag of the mount" ",$flags," ",$flag,"
done
is "name= names it" "$(spm_feature name "$d")" all-options
echo x >"$d/f"
exec {fd}<"$d/f"
is "map=mirror is in force" "$(file_mode "$d/f")" mirror
exec {fd}<&-
ok "umount of it" umount "$d"

mkdir "$SPM_TMP/order"
ok "options before and after, -o twice" "$SPMFS" -o size=16M mem:64M "$SPM_TMP/order" -o mode=0700,map=direct
is "both lists count" "$(stat -c %a "$SPM_TMP/order") $(stat -f -c '%b %S' "$SPM_TMP/order" |
	awk '{ print $1 * $2 / 1048576 }')" "700 16"
ok "umount of it" umount "$SPM_TMP/order"
ok "ro: mounts" "$SPMFS" mem:16M "$SPM_TMP/order" -o ro
fails "ro: nothing can be written" touch "$SPM_TMP/order/f"
ok "umount of it" umount "$SPM_TMP/order"
ok "node:LIST:SIZE of a node that is there" "$SPMFS" node:0:32M "$SPM_TMP/order"
is "its size" "$(stat -f -c '%b %S' "$SPM_TMP/order" | awk '{ print $1 * $2 / 1048576 }')" 32
ok "umount of it" umount "$SPM_TMP/order"

# Busy: refused, and nothing is lost by trying.
actor a
says "an open file" a ok open f "rw,creat" "$first/busy"
says "with data" a "ok 4" write f 0 data
fails "umount while a file is open" umount "$first"
says "the open file still works" a "ok data" read f 0 4
ok "so does the mount" eval 'echo new >"$first/after-busy" && [ -s "$first/after-busy" ]'
actor_end a
actor a
says "a mapped file" a ok open f rw "$first/busy"
says "closed" a ok map m f rw shared 0 4K
tell a close f
fails "umount while a file is mapped" umount "$first"
says "the mapping still works" a "ok data" get m 0 4
actor_end a

# On most systems / is shared with every namespace that systemd makes; the region must stay out of them.
mount --make-rshared /
before=$(grep ' - tmpfs ' /proc/self/mountinfo | cut -d' ' -f3 | sort)
ok "a mount below a shared /" "$SPMFS" mem:16M "$SPM_TMP/order"
is "the region is in no mount table but the server's" \
	"$(grep ' - tmpfs ' /proc/self/mountinfo | cut -d' ' -f3 | sort)" "$before"
ok "umount of it" umount "$SPM_TMP/order"
mount --make-rprivate /

spm_done
