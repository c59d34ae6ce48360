#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every process of a server is killed at once: the files are there, for who asks for them with -o recover.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

d=$SPM_TMP/mnt
mkdir "$d"

tree()
{
	(cd "$1" && find . -printf '%p %y %m %U %G %n %s %l\n' | sort && md5sum big small)
}

make_tree()
{
	head -c 8M /dev/urandom >"$1/big"
	echo small >"$1/small"
	chmod 4711 "$1/small"
	chown "$USER_A:$USER_B" "$1/small"
	ln "$1/small" "$1/hard"
	mkdir -p "$1/dir/below"
	ln -s ../small "$1/dir/sym"
	mkfifo "$1/dir/fifo"
}

# refused REGEX DESC OPTIONS: status 32 and one line.
refused()
{
	local out rc
	out=$("$SPMFS" mem:64M "$d" -o "$3" 2>&1 </dev/null)
	rc=$?
	if [ $rc -eq 32 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out
wanted: 32, and one line that matches $1"
	fi
}

ended()
{
	ok "$1: umount" umount "$d"
	ok "$1: every server ended" wait_until 10 spm_no_servers
}

ok "recover without anything to recover is a mount like any other" \
	eval 'out=$("$SPMFS" mem:64M "$d" -o name=lost,recover 2>&1) && [ -z "$out" ]'
is "and says that it could be recovered" "$(spm_feature recover "$d")" on
make_tree "$d"
want=$(tree "$d")
actor a
tell a open f rw "$d/big"
tell a map m f rw shared 0 1M
says "a client maps a file" a ok put m 0 before
[ "$(file_mode "$d/big")" = direct ] && direct=yes || direct=no
exec {fd}<>"$d/unlinked"
rm "$d/unlinked"
head -c 8M /dev/zero >&"$fd"
want=$(tree "$d")
refused "in use" "a region that is in use" name=lost
refused "in use" "recover does not take it away" name=lost,recover

spm_kill_servers
is "all are killed: clients are told" "$(timeout 10 cat "$d/small" 2>&1 | grep -cE 'not connected|abort')" 1
exec {fd}>&-
if [ "$direct" = yes ]; then
	says "a direct mapping lives on" a "ok before" get m 0 6
	says "and can be written" a ok put m 0 during
fi
refused "umount -l $d" "the dead mount is in the way" name=lost,recover
umount -l "$d"
refused "'lost' .*[0-9]M in [0-9]+ files and directories.*recover.*umount /run/spmfs/lost.ns && rm /run/spmfs/lost.ns" \
	"without recover the region is named and left alone" name=lost
refused "lost" "with keep as well" name=lost,keep
ok "with recover it is mounted" "$SPMFS" mem:64M "$d" -o name=lost,recover
if [ "$direct" = yes ]; then
	is "what was written through the old mapping is there" "$(head -c 6 "$d/big")" during
	is "the file is direct as long as that lives" "$(file_mode "$d/big")" direct
	says "the old mapping and the new mount are one" a ok put m 0 before
else
	skip "what was written through the old mapping is there" "no direct mappings here"
	skip "the file is direct as long as that lives" "no direct mappings here"
	skip "the old mapping and the new mount are one" "no direct mappings here"
fi
actor_end a
is "every file, name and mode is as it was" "$(tree "$d")" "$want"
ok "the memory of what was unlinked is free" test "$(spm_stat resident_bytes "$d")" -lt $((12 * 1048576))
ended "without keep"
is "then it is over: nothing in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""
ok "and the next mount" "$SPMFS" mem:64M "$d" -o name=lost
is "is empty" "$(ls -A "$d")" ""

# The other remedy.
echo x >"$d/f"
spm_kill_servers
umount -l "$d"
ok "the memory is given back by hand" eval 'umount /run/spmfs/lost.ns && rm /run/spmfs/lost.ns'
ok "the next mount works" "$SPMFS" mem:64M "$d" -o name=lost
is "and is empty" "$(ls -A "$d")" ""
ended "given back"

# keep: an orderly end needs no recover, any other does.
ok "a mount with keep" "$SPMFS" mem:64M "$d" -o name=kept,keep
echo kept >"$d/f"
ended "with keep"
ok "is found again" "$SPMFS" mem:64M "$d" -o name=kept,keep
is "with its files" "$(cat "$d/f")" kept
spm_kill_servers
umount -l "$d"
refused "'kept'" "after a kill it takes recover" name=kept,keep
fails "another source is refused" "$SPMFS" mem:32M "$d" -o name=kept,keep,recover
ok "recover with keep" "$SPMFS" mem:64M "$d" -o name=kept,keep,recover
is "finds the files" "$(cat "$d/f")" kept
ended "recovered with keep"
ok "and keeps them" "$SPMFS" mem:64M "$d" -o name=kept
is "in order" "$(cat "$d/f")" kept
ended "without keep"

# A recovery that fails changes nothing.
ok "a mount" "$SPMFS" mem:64M "$d" -o name=fails
echo precious >"$d/f"
spm_kill_servers
umount -l "$d"
mount --bind /dev/null /dev/fuse
refused "/dev/fuse" "recover without FUSE" name=fails,recover
umount /dev/fuse
refused "'fails'" "the region is still a left-over" name=fails
ok "and can be recovered" "$SPMFS" mem:64M "$d" -o name=fails,recover
is "whole" "$(cat "$d/f")" precious
ended "recovered"

# Aborted by root, the mount still there: that is no orderly end either.
if mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null || [ -e /sys/fs/fuse/connections/. ]; then
	spm_need_mount mem:64M name=aborted
	echo content >"$MNT/f"
	minor=$(awk -v dir="$MNT" '$5 == dir { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)
	echo 1 >"/sys/fs/fuse/connections/$minor/abort"
	ok "an aborted connection ends the server" wait_until 10 spm_no_servers
	like "with a line that says what to do" "$(cat "$MNT.log")" "aborted.*'aborted' stays: umount -l $MNT, .*-o recover"
	ok "the region is there" test -e /run/spmfs/aborted.ns
	umount "$MNT"
	unset "SPM_MOUNTS[$MNT]"
	refused "'aborted'" "it takes recover" name=aborted
	ok "which works" "$SPMFS" mem:64M "$d" -o name=aborted,recover
	is "with the file" "$(cat "$d/f")" content
	ended "aborted"
else
	skip "an aborted connection" "no fusectl here"
fi
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""

spm_done
