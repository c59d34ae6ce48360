#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dir:PATH, a directory of an ext4 or xfs: its files outlive the mount, the servers and the machine. The loop devices here are not
# DAX, so that what is refused without -o force is seen as well.
set -u
SPM_LIMIT=300
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../dirs.sh
. "$top_srcdir/tests/dirs.sh"

d=$SPM_TMP/mnt
mkdir "$d"

# refused STATUS REGEX DESC SOURCE [OPTIONS]: one line that says why.
refused()
{
	local out rc
	out=$("$SPMFS" "$4" "$d" ${5:+-o "$5"} 2>&1 </dev/null)
	rc=$?
	if [ $rc -eq "$1" ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $2 ]]; then
		pass "$3: $out"
	else
		fail "$3" "status $rc: $out
wanted: $1, and one line that matches $2"
		umount "$d" 2>/dev/null
	fi
}

tree()
{
	(cd "$1" && find . ! -type d -printf '%p %i %y %m %U %G %n %s %T@ %l\n' -o -printf '%p %i %y %m %U %G\n' | sort && md5sum big small)
}

make_tree()
{
	head -c 5M /dev/urandom >"$1/big"
	echo small >"$1/small"
	chmod 4711 "$1/small"
	chown "$USER_A:$USER_B" "$1/small"
	ln "$1/small" "$1/hard"
	mkdir -p "$1/dir/below"
	ln -s ../small "$1/dir/sym"
	mkfifo "$1/dir/fifo"
	"$SPMT" setxattr "$1/big" user.colour green
	"$SPMT" setacl "$1/hard" u::rwx "u:$USER_B:r" g::x m::rx o::x
}

refusals()
{
	refused 32 "DAX.*-o dax.*-o force" "$1: not DAX" "dir:$DIR"
	is "$1: nothing was made there" "$(ls -A "$DIR")" ""
	refused 32 "absolute" "$1: a relative path" dir:here force
	refused 32 "No such file.*mkdir" "$1: no directory" "dir:$DIR/none" force
	touch "$DIR/other"
	refused 32 "'other'.*empty directory" "$1: somebody's files" "dir:$DIR" force
	is "$1: and they are left alone" "$(ls -A "$DIR")" other
	rm "$DIR/other"
	echo "spmfs directory, format 99" >"$DIR/format"
	refused 32 "another version" "$1: laid out in another way" "dir:$DIR" force
	rm "$DIR/format"
	chown "$USER_A" "$DIR"
	refused 32 "user $USER_A.*chown root" "$1: somebody's directory" "dir:$DIR" force
	chown 0 "$DIR"
	for opt in nr_inodes=10 huge=never mpol=local swap=/tmp; do
		refused 1 "option ${opt%=*}=: not with dir:" "$1: $opt" "dir:$DIR" "force,$opt"
	done
	mount -o remount,ro "$DIR_BACK"
	refused 32 "read-only" "$1: a filesystem that is read-only" "dir:$DIR" force
	mount -o remount,rw "$DIR_BACK"
	ln -s "$DIR" "$SPM_TMP/a link"
	refused 32 "blanks" "$1: a path that no source can be" "dir:$SPM_TMP/a link" force
	rm "$SPM_TMP/a link"
	printf '[slice one]\nmax = 10M\n' >"$SPM_TMP/conf"
	refused 32 "size=.*quota.*prjquota" "$1: size=" "dir:$DIR" force,size=1M
	refused 32 "slices need a quota.*prjquota" "$1: slices" "dir:$DIR" "force,conf=$SPM_TMP/conf"
}

# A second mount, by whatever name.
in_use()
{
	refused 32 "in use by another mount" "$1: a directory that is in use" "dir:$DIR" force,name=other
	ln -s "$DIR" "$SPM_TMP/link"
	refused 32 "in use by another mount" "$1: also by another path" "dir:$SPM_TMP/link" force,name=third
	rm "$SPM_TMP/link"
	mkdir "$SPM_TMP/bind"
	mount --bind "$DIR" "$SPM_TMP/bind"
	refused 32 "in use by another mount" "$1: also by another mount of its filesystem" "dir:$SPM_TMP/bind" force,name=third
	umount "$SPM_TMP/bind"
	rmdir "$SPM_TMP/bind"
	refused 32 "directory of another spmfs mount" "$1: a directory in it" "dir:$DIR/orphans" force,name=third
	is "$1: nothing was made there" "$(ls -A "$DIR/orphans")" ""
}

features()
{
	is "$1: files are kept" "$(spm_feature keep)" on
	like "$1: they are not DAX" "$(spm_feature dax)" "^off: option force"
	is "$1: so the isolation is" "$(spm_feature isolation)" soft
	like "$1: no watchdog unless it is asked for" "$(spm_feature watchdog)" "^off: .*frozen"
	is "$1: for root alone" "$(stat -c '%a %u %g' "$DIR" "$DIR/orphans" | sort -u)" "700 0 0"
	is "$1: what users see has the mode that was asked for" "$(stat -c '%a %u %g' "$MNT")" "1770 $USER_A $USER_B"
	is "$1: df tells of the filesystem" "$(stat -f -c '%b %S' "$MNT")" "$(stat -f -c '%b %S' "$DIR_BACK")"
	like "$1: no slices" "$("$SPMCTL" slice create one --max 10M "$MNT" 2>&1)" one: .*quota.*prjquota
	like "$1: no other size" "$("$SPMFS" "dir:$DIR" "$MNT" -o remount,size=10M 2>&1)" "no quota of its own"
}

mapped()
{
	actor a
	tell a open f rw "$MNT/big"
	tell a map m f rw shared 0 1M
	says "$1: a client maps a file" a ok put m 0 mapped
	is "$1: it is direct" "$(file_mode "$MNT/big")" direct
	is "$1: what is mapped is the file on the disk" "$(head -c 6 "$DIR/data/big")" mapped
	tell a close f
	is "$1: the mapping alone keeps it so" "$(file_mode "$MNT/big")" direct
	actor_end a
	is "$1: and without it is not in use" "$(file_mode "$MNT/big")" idle
}

# What was synced must be there when the machine goes down now: the device as it is at this moment is another machine's.
goes_down()
{
	local copy=$SPM_TMP/copy kind=$1
	mkdir "$MNT/synced" "$MNT/mirror" "$copy"
	"$SPMT" setxattr "$MNT/mirror" user.spm.map mirror
	dd if="$MNT/big" of="$MNT/synced/plain" conv=fsync status=none
	dd if="$MNT/big" of="$MNT/mirror/file" conv=fsync status=none
	dd if="$MNT/big" of="$MNT/synced/data" conv=fdatasync status=none
	touch "$MNT/synced/name"
	sync "$MNT/synced"
	cp --sparse=always "$DIR_IMAGE" "$SPM_TMP/down"
	# (xfs would not mount it beside the one that has the same number)
	ok "$kind: the device as it is when the power fails" mount -o "loop$([ "$kind" = xfs ] && echo ,nouuid)" "$SPM_TMP/down" "$copy"
	for f in synced/plain mirror/file synced/data; do
		ok "$kind: $f is whole" cmp "$MNT/big" "$copy/s/data/$f"
	done
	ok "$kind: a name is there" test -e "$copy/s/data/synced/name"
	if [ -e "$copy/s/meta" ]; then
		fails "$kind: it does not say that it was left in order" grep -q clean "$copy/s/meta"
	else
		fail "$kind: no meta file"
	fi
	spm_need_mount "dir:$copy/s" force,name=down
	ok "$kind: it can be mounted" cmp "$MNT/big" "$MNT2/synced/plain"
	like "$kind: and the log says that it was not in order" "$(cat "$MNT2.log")" "recover: dir:.*taken over"
	ok "$kind: it ends" spm_umount "$MNT2"
	ok "$kind: nothing holds its filesystem" wait_until 15 umount "$copy"
	rm "$SPM_TMP/down"
	rmdir "$copy"
	rm -r "$MNT/synced" "$MNT/mirror"
}

killed_all()
{
	local used dead=$MNT
	actor a
	tell a open f rw "$MNT/big"
	tell a map m f rw shared 0 1M
	exec {fd}<>"$MNT/unlinked"
	rm "$MNT/unlinked"
	head -c 8M /dev/zero >&"$fd"
	want=$(tree "$MNT")
	used=$(stat -f -c %f "$DIR_BACK")
	spm_kill_servers
	wait "${SPM_MOUNTS[$dead]}" 2>/dev/null
	exec {fd}>&-
	says "$1: a mapping outlives the servers" a ok put m 0 during
	umount -l "$dead"
	unset "SPM_MOUNTS[$dead]"
	spm_need_mount "dir:$DIR" force,name=files
	ok "$1: all servers killed: mounted without a word, the log tells" spm_logged "recover: dir:.*taken over"
	is "$1: what was written meanwhile is there" "$(head -c 6 "$MNT/big")" during
	is "$1: that file is direct as long as it is mapped" "$(file_mode "$MNT/big")" direct
	actor_end a
	is "$1: and no longer" "$(file_mode "$MNT/big")" idle
	is "$1: what was unlinked is gone" "$(ls -A "$DIR/orphans")" ""
	ok "$1: and so is its room" wait_until 10 eval "[ \"\$(stat -f -c %f '$DIR_BACK')\" -gt $used ]"
	is "$1: the rest is as it was" "$(tree "$MNT" | grep -v 'big')" "$(grep -v big <<<"$want")"
}

with_kind()
{
	ok "$1: a filesystem" dir_make "$1" || return
	refusals "$1"
	spm_need_mount "dir:$DIR" "force,mode=1770,uid=$USER_A,gid=$USER_B"
	features "$1"
	in_use "$1"
	make_tree "$MNT"
	mapped "$1"
	fails "$1: nobody leaves the project that limits his blocks" "$SPMT" setproject "$MNT/big" 77
	ok "$1: the project that it has may be set" "$SPMT" setproject "$MNT/big" 0
	want=$(tree "$MNT")
	ok "$1: umount" spm_umount
	is "$1: it is left in order" "$(tail -n 1 "$DIR/meta")" clean
	is "$1: nothing is left in /run" "$(find /run/spmfs 2>/dev/null)" ""
	spm_need_mount "dir:$DIR" force,name=files
	fails "$1: in use it does not say so" grep -q clean "$DIR/meta"
	is "$1: the next mount, of another name, finds every file" "$(tree "$MNT")" "$want"
	is "$1: and its attributes" "$("$SPMT" getxattr "$MNT/big" user.colour)" green
	goes_down "$1"
	worker=$(spm_server_pid)
	ok "$1: another program serves it" "$SPMCTL" upgrade "$MNT"
	fails "$1: in another process" test "$(spm_server_pid)" = "$worker"
	ok "$1: with the same files" cmp "$MNT/big" "$DIR/data/big"
	killed_all "$1"
	want=$(tree "$MNT")
	ok "$1: umount, and the filesystem as well" eval 'spm_umount && dir_again'
	spm_need_mount "dir:$DIR" force
	is "$1: everything is there after a reboot" "$(tree "$MNT")" "$want"
	fails "$1: nothing was to be taken over" spm_logged recover:
	ok "$1: the end" eval 'spm_umount && dir_end'
}

kinds=$(dir_kinds)
[ -n "$kinds" ] || skip_all "neither mkfs.ext4 nor mkfs.xfs, or no such filesystem in this kernel"
refused 1 "force.*means nothing" "force without a directory" mem:64M force
refused 32 "not on xfs or ext4" "a tmpfs" dir:/run force

# A name stands for one region, whatever that was made from.
spm_need_mount mem:64M keep,name=clash
spm_umount
dir_make "$(head -n 1 <<<"$kinds")"
refused 32 "'clash' was made from mem:64M" "the name of another region" "dir:$DIR" force,name=clash
is "and nothing is made in the directory" "$(ls -A "$DIR")" ""
spm_need_mount mem:64M name=clash
spm_umount
dir_end

for kind in ext4 xfs; do
	if grep -qx "$kind" <<<"$kinds"; then
		with_kind "$kind"
	else
		skip "$kind" "no mkfs.$kind, or not in this kernel"
	fi
done
spm_done
