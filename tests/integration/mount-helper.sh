#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mount(8), fstab lines and remount, with the helpers where mount(8) looks for them. Nothing is installed:
# this test's own namespace shows a /sbin in which the helpers stand beside links to the real programs.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../sbin.sh
. "$(dirname "$0")/../sbin.sh"

ok "helpers where mount(8) finds them" spm_fake_sbin
d=$SPM_TMP/mnt
mkdir "$d" "$SPM_TMP/two words"

mib()
{
	stat -f -c '%b %S' "$1" | awk '{ print $1 * $2 / 1048576 }'
}

out=$(mount -t fuse.spmfs mem:64M "$d" 2>&1)
is "mount -t fuse.spmfs" "$? $out" "0 "
is "what findmnt tells" "$(findmnt -rno FSTYPE,SOURCE "$d")" "fuse.spmfs mem:64M"
ok "it can be written" eval 'echo x >"$d/f"'

# Resizing.
servers=$(spm_servers)
head -c 8M /dev/zero >"$d/eight"
ok "mount -o remount,size=32M" mount -o remount,size=32M "$d"
is "the new size is in force" "$(mib "$d")" 32
ok "mount -o remount,size=48M again" mount -o remount,size=48M "$d"
is "it grows too" "$(mib "$d")" 48
out=$(mount -o remount,size=4M "$d" 2>&1)
is "a size below use is refused with status 32" $? 32
like "with a line that says so" "$out" 'spmfs: .*(size|use)'
is "and the old size stays" "$(mib "$d")" 48
is "the file too" "$(stat -c %s "$d/eight")" 8388608
mount -o remount,size=nonsense "$d" 2>/dev/null
is "a size that is none is refused with status 1" $? 1
ok "mount -o remount,ro" mount -o remount,ro "$d"
fails "it is read-only now" touch "$d/g"
ok "mount -o remount,rw" mount -o remount,rw "$d"
ok "and writable again" touch "$d/g"
is "the same server all the time" "$(spm_servers)" "$servers"
ok "umount" umount "$d"
ok "the server ended" wait_until 5 spm_no_servers

ok "mount -t spmfs" mount -t spmfs mem:16M "$d"
is "its type in the table" "$(findmnt -no FSTYPE "$d")" fuse.spmfs
ok "umount" umount "$d"

cat >"$SPM_TMP/fstab" <<END
mem:32M $d fuse.spmfs mode=0755,nosuid,nodev,nofail,user,_netdev,x-systemd.requires=x,size=16M 0 0
mem:16M $SPM_TMP/two\\040words fuse.spmfs defaults 0 0
END
ok "an fstab line, by mount point" mount -T "$SPM_TMP/fstab" "$d"
is "its size and mode" "$(mib "$d") $(stat -c %a "$d")" "16 755"
like "its flags" "$(findmnt -no VFS-OPTIONS "$d")" nosuid,nodev
ok "mount -a mounts what is missing" mount -a -T "$SPM_TMP/fstab"
ok "the mount point with a blank" findmnt -M "$SPM_TMP/two words"
is "and nothing twice" "$(spm_mounts_below "$SPM_TMP" fuse | wc -l)" 2
ok "umount -a -t fuse.spmfs" umount -a -t fuse.spmfs
is "all are gone" "$(spm_mounts_below "$SPM_TMP" fuse)" ""

ok "mount -n -s -v" mount -n -s -v -t fuse.spmfs mem:16M "$d" -o nofail
ok "umount" umount "$d"
ok "mount -f only pretends" mount -f -t fuse.spmfs mem:16M "$d"
is "so nothing is mounted" "$(spm_mounts_below "$SPM_TMP" fuse)" ""
ok "mount -r" mount -r -t fuse.spmfs mem:16M "$d"
fails "is read-only" touch "$d/f"
ok "umount" umount "$d"
ok "a relative mount point" eval '(cd "$SPM_TMP" && mount -t fuse.spmfs mem:16M mnt) && touch "$d/f"'
ok "umount" umount "$d"

actor other unshare --mount
ok "mount -N: in another mount namespace" mount -N "$(ask other pid)" -t fuse.spmfs mem:16M "$d"
is "and only there" "$(spm_mounts_below "$SPM_TMP" fuse)" ""
says "a process there uses it" other ok open f rw,creat "$d/f"
tell other close f
ok "umount -N" umount -N "$(ask other pid)" "$d"
ok "its server ended" wait_until 5 spm_no_servers
actor_end other

# What the helper says is what mount(8) passes on.
mount -t fuse.spmfs mem:many "$d" 2>"$SPM_TMP/err"
is "a bad source: status 1" $? 1
is "one line" "$(wc -l <"$SPM_TMP/err")" 1
mount -t fuse.spmfs node:1000 "$d" 2>"$SPM_TMP/err"
is "a node that is not there: status 32" $? 32
is "one line" "$(wc -l <"$SPM_TMP/err")" 1
ok "no server is left" wait_until 5 spm_no_servers

spm_done
