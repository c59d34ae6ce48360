#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Without root: in a user namespace it mounts too, mirror only, and says so once.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# As distributions have it; only this test's namespace sees the change.
mknod -m 666 "$SPM_TMP/fuse" c 10 229
mount --bind "$SPM_TMP/fuse" /dev/fuse
at_exit umount /dev/fuse
as "$USER_A" sh -c ': <>/dev/fuse' || skip_all "users may not open /dev/fuse here"
as "$USER_A" unshare -Urm true 2>/dev/null || skip_all "users may not make user namespaces here"

# The build may lie where only root gets to.
mkdir "$SPM_TMP/bin" "$SPM_TMP/user"
cp "$SPMFS" "$SPMFS-keeper" "$SPM_TMP/bin"
cp "$SPMT" "$SPM_TMP/bin/spmt"
chown "$USER_A" "$SPM_TMP/user"
SPM_SERVER_EXE=$SPM_TMP/bin/spmfs

# Runs inside; prints one "name value" line for each thing that the tests below want to know.
cat >"$SPM_TMP/inside.sh" <<'END'
set -u
PATH=$1:$PATH
cd "$2" || exit 1
mkdir -p mnt
spmfs mem:64M mnt >out 2>err </dev/null
echo "status $?"
echo "err_lines $(wc -l <err)"
echo "err $(tail -n 1 err)"
echo "type $(findmnt -no FSTYPE "$PWD/mnt")"
echo "passthrough $(sed -n 's/^passthrough //p' mnt/.spm/features)"
echo "direct_supported $(sed -n 's/^direct_supported //p' mnt/.spm/features)"
echo hello >mnt/f
mkdir mnt/dir && mv mnt/f mnt/dir/g && ln mnt/dir/g mnt/h && ln -s h mnt/s
echo "content $(cat mnt/s)"
echo "owner $(stat -c %u mnt/h)"
chmod 600 mnt/h
echo "mode $(stat -c %a mnt/dir/g)"
exec 7<mnt/h
echo "file_mode $(spmt getxattr mnt/h system.spm.file | sed -n 's/^mode //p')"
exec 7<&-
spmt run "open f rw,creat mnt/m" "trunc f 8M" "map m f rw shared 0 8M" "mfill m 0 8M 3" "msync m" \
	"verify f 0 8M 3" >map
echo "map $?"
rm mnt/m
mkfifo mnt/fifo
echo "fifo $(stat -c %F mnt/fifo)"
echo "size $(stat -f -c '%b %S' mnt | awk '{ print $1 * $2 / 1048576 }')"
umount mnt
echo "umount $?"
for i in $(seq 100); do
	ps_left=$(find /proc -maxdepth 2 -name exe -lname "$1/spmfs" 2>/dev/null | wc -l)
	[ "$ps_left" -eq 0 ] && break
	sleep 0.05
done
echo "left $ps_left"
spmfs mem:16M mnt -o swap="$PWD/swap" 2>err3
echo "swap $? $(wc -l <err3) $(ls swap 2>&1 | grep -c 'No such') $(cat err3)"
mkdir -p direct
spmfs mem:16M direct -o map=direct >>out 2>err2
echo "direct_status $?"
echo x >direct/f && exec 7<direct/f
echo "direct_mode $(spmt getxattr direct/f system.spm.file | sed -n 's/^mode //p')"
exec 7<&-
umount direct
END

as "$USER_A" unshare -Urm bash "$SPM_TMP/inside.sh" "$SPM_TMP/bin" "$SPM_TMP/user" \
	>"$SPM_TMP/told" 2>"$SPM_TMP/told.err"
told()
{
	sed -n "s/^$1 //p" "$SPM_TMP/told"
}

is "the script inside ran without complaints" "$(cat "$SPM_TMP/told.err")" ""
is "spmfs mounts" "$(told status)" 0
is "as FUSE" "$(told type)" fuse.spmfs
is "it says one line" "$(told err_lines)" 1
like "that direct mappings are not to be had" "$(told err)" '(mirror|direct|passthrough)'
like "features says why" "$(told passthrough)" '^off: .+'
is "files, links and directories work" "$(told content)" hello
is "the user is root there" "$(told owner)" 0
is "chmod through a hard link" "$(told mode)" 600
is "files are mirrors" "$(told file_mode)" mirror
is "shared mappings are whole" "$(told map)" 0
is "fifos" "$(told fifo)" fifo
is "the size is right" "$(told size)" 64
is "umount" "$(told umount)" 0
is "the server ends" "$(told left)" 0
like "swap= is refused" "$(told swap)" '^32 1 1 spmfs: option swap=: not in a user namespace'
is "map=direct falls back as well" "$(told direct_status) $(told direct_mode)" "0 mirror"
ok "nothing runs any more" wait_until 5 spm_no_servers

spm_done
