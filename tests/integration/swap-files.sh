#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Swap files: how they are made, which are refused and with what words, what becomes of them when the mount ends in
# order, by kill -9, or with -o keep.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

d=$SPM_TMP/mnt
sw=$SPM_TMP/sw
f=$sw/file
mkdir "$d" "$sw"
umask 022

names()
{
	find "$1" -mindepth 1 -printf '%f\n' | sort | paste -sd ' '
}

left()
{
	(cd "$SPM_TMP" && find . -path ./mnt -prune -o -not -name err -not -name out -printf '%p %y %m %s %i\n' | sort)
	find /run -mindepth 1
	spm_servers
}

as_before()
{
	[ "$(left)" = "$before" ]
}

# refused STATUS REGEX DESC OPTIONS [SOURCE]: one line that matches, and nothing is made, changed or left.
refused()
{
	local status=$1 regex=$2 desc=$3 opts=$4 source=${5:-mem:64M} rc out
	before=$(left)
	out=$("$SPMFS" "$source" "$d" -o "name=test,$opts" 2>&1 </dev/null)
	rc=$?
	if [ $rc -ne "$status" ] || [ "$(wc -l <<<"$out")" -ne 1 ] || ! [[ $out =~ ^spmfs:\ .*$regex ]]; then
		fail "$desc" "spmfs $source -o $opts
status $rc: $out
wanted: $status, and one line that matches $regex"
		[ $rc -ne 0 ] || umount "$d"
	elif ! wait_until 5 as_before; then
		fail "$desc: something changed" "$(diff <(printf '%s\n' "$before") <(left))"
	else
		pass "$desc: $out"
	fi
}

# mounts DESC OPTIONS [SOURCE]: without a word.
mounts()
{
	local out
	if out=$("$SPMFS" "${3:-mem:64M}" "$d" -o "name=test,$2" 2>&1 </dev/null) && [ -z "$out" ]; then
		pass "$1"
	else
		fail "$1" "$out"
	fi
}

ended()
{
	ok "$1: umount" umount "$d"
	ok "$1: every server ended" wait_until 10 spm_no_servers
}

allocated()
{
	[ $(($(stat -c '%b * %B' "$1"))) -ge "$2" ]
}

out=$("$SPMFS" mem:64M "$d" -o "name=test,swap=$sw,swapsize=8M" 2>&1)
if [ -z "$out" ]; then
	ok "every server ended" eval 'umount "$d" && wait_until 10 spm_no_servers'
elif [[ $out == *O_DIRECT* || $out == *io_uring* || $out == *preallocat* || $out == *tmpfs* ]]; then
	umount "$d" 2>/dev/null
	skip_all "$out"
fi

# ---- made, and removed ----

umask 0
mounts "a swap file that is not there" "swap=$f,swapsize=16M"
is "it is root's alone" "$(stat -c '%u %g %a %h %s' "$f")" "0 $(id -g) 600 1 16777216"
ok "its space is its own" allocated "$f" 16777216
is "users cannot read it" "$(chmod 755 "$SPM_TMP"; as "$USER_A" cat "$f" 2>&1 | grep -c denied; chmod 700 "$SPM_TMP")" 1
umask 022
ended "a file"
is "and is gone then" "$(ls -A "$sw")" ""

mounts "a directory" "swap=$sw/,swapsize=8M"
is "has the mount's file" "$(ls -A "$sw")" test.swap
ended "a directory"
is "which goes too" "$(ls -A "$sw")" ""

mounts "as large as the device, if nothing is said" "swap=$f" mem:20M
is "20 MiB" "$(stat -c %s "$f")" 20971520
ended "no swapsize="

ok "a path that is relative to where the command is given" eval \
	'(cd "$sw" && "$SPMFS" mem:64M "$d" -o "name=test,swap=here:../sw,swapsize=8M")'
is "with a file and a directory" "$(names "$sw")" "here test.swap"
is "of the same size" "$(stat -c %s "$sw"/* | paste -sd " ")" "4194304 4194304"
ended "relative paths"
is "both are gone" "$(ls -A "$sw")" ""

: >"$f"
chmod 600 "$f"
ino=$(stat -c %i "$f")
mounts "an empty file that is there already" "swap=$f,swapsize=8M"
ended "a file of before"
is "is emptied and stays" "$(stat -c '%i %s %b' "$f")" "$ino 0 0"
rm "$f"

mounts "a swap file" "swap=$f,swapsize=8M"
mv "$f" "$f.moved"
echo other >"$f"
ended "another file in its place"
is "is left alone" "$(cat "$f")" other
is "the swap file has given its space back" "$(stat -c '%s %b' "$f.moved")" "0 0"
rm "$f" "$f.moved"

mounts "a swap file that is deleted meanwhile" "swap=$f,swapsize=8M"
rm "$f"
ended "deleted"

# Its last user removes a file for which the next one waits.
opened()
{
	find /proc/[0-9]*/fd -lname "$f" -printf '%h\n' 2>/dev/null | grep -qvxF "/proc/$$/fd"
}
: >"$f"
chmod 600 "$f"
exec {fd}<"$f"
flock "$fd"
"$SPMFS" mem:64M "$d" -o "name=test,swap=$f,swapsize=8M" {fd}<&- </dev/null >"$SPM_TMP/out" 2>&1 &
waits=$!
ok "a mount waits for a file that is in use" wait_until 5 opened
rm "$f"
exec {fd}<&-
wait "$waits"
is "and mounts when it has gone" "$? $(cat "$SPM_TMP/out")" "0 "
is "with another one of that name" "$(stat -c %s "$f")" 8388608
ended "after waiting"
is "which goes as well" "$(ls -A "$sw")" ""

kill_worker_and_all()
{
	kill -9 "$(spm_feature worker_pid "$d")" && wait_until 5 test -e "$d/.spm/stat" &&
		kill -9 "$(spm_feature keeper_pid "$d")" && wait_until 5 test -e "$d/.spm/stat"
}
mounts "a swap file" "swap=$f:$sw,swapsize=8M"
ok "another worker and another keeper" kill_worker_and_all
ended "after their deaths"
is "the file is removed by whoever is there" "$(ls -A "$sw")" ""

# ---- refused ----

ln -s "$f" "$sw/link"
refused 32 "link: a symbolic link" "a link to nothing" "swap=$sw/link"
ln -sfn "$sw" "$sw/link"
refused 32 "link: a symbolic link" "a link to a directory, with a slash" "swap=$sw/link/"
: >"$f"
ln -sfn "$f" "$sw/link"
refused 32 "link: a symbolic link" "a link to a file" "swap=$sw/link"
refused 32 "mode 0644.*'chmod 600 $f'" "a file that others may read" "swap=$f"
chmod 600 "$f"
chown "$USER_A" "$f"
refused 32 "user $USER_A.*'chown root $f'" "a file of somebody else" "swap=$f"
chown 0 "$f"
ln "$f" "$sw/hard"
refused 32 "file: has 2 names" "a file with another name" "swap=$f"
rm "$sw/hard" "$sw/link"
echo precious >"$f"
refused 32 "content that is not spmfs's.*truncate -s 0 $f" "a file with content" "swap=$f"
truncate -s 8M "$f"
refused 32 "content that is not spmfs's" "a large file with content" "swap=$f"
is "which stays" "$(head -n 1 "$f")" precious
rm "$f"
mkfifo "$sw/fifo"
refused 32 "fifo: not a regular file" "a fifo" "swap=$sw/fifo"
rm "$sw/fifo"
refused 32 "null: not a regular file" "a device" "swap=/dev/null"
refused 32 "'mkdir -p $sw/no/such'" "a directory that is not there" "swap=$sw/no/such/file"
refused 32 "named twice" "a file twice" "swap=$f:$f,swapsize=16M"
refused 32 "named twice" "a file and its directory" "swap=$sw:$sw/test.swap,swapsize=16M"
refused 32 "$f: (too little space for 1023G: .* are missing|cannot make it .* large)" "more than there is room for" "swap=$f,swapsize=1023G"
refused 32 "1T per file" "more than a file can have" "swap=$f,swapsize=2T"
refused 1 "swap" "sizes without files" "swapsize=1G"
refused 1 "3 files" "too little for each" "swap=$f:$sw/2:$sw/3,swapsize=8M"

mkdir "$sw/open"
chmod 777 "$sw/open"
refused 32 "others may write to the directory $sw/open.*'chmod go-w $sw/open'" "a directory that is everybody's" \
	"swap=$sw/open/file"
chmod 1777 "$sw/open"
mounts "with the sticky bit" "swap=$sw/open,swapsize=8M"
ended "sticky"
chmod 755 "$sw/open"
chown "$USER_A" "$sw/open"
refused 32 "belongs to user $USER_A" "a directory of somebody else" "swap=$sw/open"
rmdir "$sw/open"

mounts "a mount" "swap=$f,swapsize=8M"
mkdir "$SPM_TMP/mnt2"
out=$("$SPMFS" mem:64M "$SPM_TMP/mnt2" -o "name=two,swap=$f" 2>&1)
is "a file that another mount uses: status" $? 32
like "and words" "$out" "$f: in use by the mount test; name another file"
is "the file is as it was" "$(stat -c %s "$f")" 8388608
ended "the user"

# Of several, all or none.
before=$(left)
echo x >"$f"
chmod 600 "$f"
refused 32 "$f: has content" "the third of three" "swap=$sw/1:$sw/2:$f,swapsize=64M"
rm "$f"

# mount -f
ln -s "$SPMFS" "$SPM_TMP/mount.fuse.spmfs"
ok "mount -f" "$SPM_TMP/mount.fuse.spmfs" mem:64M "$d" -f -o "swap=$f,swapsize=8M"
is "makes nothing" "$(ls -A "$sw")" ""
out=$("$SPM_TMP/mount.fuse.spmfs" mem:64M "$d" -f -o "swap=$sw/no/such,swapsize=8M" 2>&1)
is "but checks" "$?" 32
like "with the same words" "$out" "mkdir -p $sw/no"
out=$("$SPM_TMP/mount.fuse.spmfs" mem:64M "$d" -f -o "swap=$sw/1:$sw/2,swapsize=1023G" 2>&1)
is "the space as well" "$?" 32
like "what is missing" "$out" "missing"

# remount: what fstab says comes along, so only a change is refused.
remount()
{
	"$SPM_TMP/mount.fuse.spmfs" mem:64M "$d" -o "remount,$1" 2>&1 </dev/null
}
mounts "a mount" "swap=$f,swapsize=8M,low=5,cold=60"
ok "remount with the options that it has, and another size" \
	remount "swap=$f,swapsize=8M,low=5,high=10,cold=60,compact=64M,extent=2M,size=32M"
is "which is in force" "$(cat "$d/.spm/max")" 33554432
for o in low=7 high=11 cold=0 compact=off extent=1M swapsize=16M "swap=$sw/x" "swap=$f:$sw/x"; do
	out=$(remount "$o")
	is "remount,$o is refused" $? 32
	like "in one line" "$out" "^mount.fuse.spmfs: option ${o%%=*}= cannot be changed in a live mount [^"$'\n'"]*$"
done
ended "remounted"
mounts "a mount without swap" ""
out=$(remount "swap=$f")
is "is given none by remount" $? 32
like "in one line" "$out" "^mount.fuse.spmfs: option swap= cannot be .*has none[^"$'\n'"]*$"
ended "no swap"
rm "$SPM_TMP/mount.fuse.spmfs"

if truncate -s 1M "$f" && chmod 600 "$f" && mkswap "$f" >/dev/null 2>&1 && dd if="$f" of="$f.2" bs=1M 2>/dev/null &&
	chmod 600 "$f.2" && swapon "$f.2" 2>/dev/null; then
	at_exit eval "swapoff '$f.2' 2>/dev/null"
	refused 32 "'swapoff $f.2'" "a file that the kernel swaps to" "swap=$f.2"
	swapoff "$f.2"
else
	skip "a file that the kernel swaps to" "swapon does not work here"
fi
refused 32 "content that is not spmfs's" "a file of mkswap" "swap=$f"
rm -f "$f" "$f.2"

# Without io_uring.
for error in EPERM ENOSYS; do
	out=$("$SPMT" noring $error "$SPMFS" mem:64M "$d" -o "name=test,swap=$f,swapsize=8M" 2>&1)
	is "io_uring_setup says $error: status" $? 32
	like "one line" "$out" '^spmfs: [^'$'\n'']*io_uring[^'$'\n'']*without swap=[^'$'\n'']*$'
	ok "all else works" "$SPMT" noring $error "$SPMFS" mem:64M "$d" -o name=test
	ended "$error"
done
is "no file is left" "$(names "$sw")" ""

# ---- what it lies on ----

mkdir "$SPM_TMP/tmpfs"
mount -t tmpfs -o size=64M,mode=755 none "$SPM_TMP/tmpfs"
out=$("$SPMFS" mem:64M "$d" -o "name=test,swap=$SPM_TMP/tmpfs,swapsize=8M" 2>&1)
is "on tmpfs it mounts" $? 0
like "with a warning" "$out" "tmpfs/test.swap lies on tmpfs, so what is swapped out stays in RAM"
is "of one line" "$(wc -l <<<"$out")" 1
ended "tmpfs"
refused 32 "too little space for 128M: 64M are free there, 64M are missing" "too little space on tmpfs" \
	"swap=$SPM_TMP/tmpfs,swapsize=128M"
refused 32 "$SPM_TMP/tmpfs/b: too little space for 40M: 24M are free there, 16M are missing" "too little for the second" \
	"swap=$SPM_TMP/tmpfs/a:$SPM_TMP/tmpfs/b,swapsize=80M"
umount "$SPM_TMP/tmpfs"

spm_mount mem:64M name=below
servers=$(spm_servers)
only_below()
{
	[ "$(spm_servers)" = "$servers" ]
}
refused 32 "lies on the spmfs mount $MNT" "a file on a spmfs mount" "swap=$MNT/file,swapsize=8M"
refused 32 "lies on the spmfs mount $MNT" "a directory of a spmfs mount" "swap=$MNT,swapsize=8M"
mkdir "$SPM_TMP/ext4" "$SPM_TMP/over" "$SPM_TMP/lower"

# loop FILE SIZE: sets LOOP, mounts it on ext4.
loop()
{
	truncate -s "$2" "$1" && mkfs.ext4 -q -m 0 "$1" 2>/dev/null && LOOP=$(losetup -f --show "$1") &&
		mount "$LOOP" "$SPM_TMP/ext4"
}
unloop()
{
	umount "$SPM_TMP/ext4" && losetup -d "$LOOP"
}
if command -v mkfs.ext4 >/dev/null && loop "$SPM_TMP/image" 32M; then
	refused 32 "ext4/test.swap: too little space for 64M: [0-9.]*M are free there, [0-9.]*M are missing; .*swapsize=" \
		"a disk that is too small" "swap=$SPM_TMP/ext4"
	is "nothing of it stays" "$(ls "$SPM_TMP/ext4")" "lost+found"
	ok "and its space is free" allocated "$SPM_TMP/image" 0
	mounts "what fits" "swap=$SPM_TMP/ext4,swapsize=16M"
	ok "umount" umount "$d"
	ok "its servers ended" wait_until 10 only_below
	unloop
	if loop "$MNT/image" 32M; then
		refused 32 "lies on the spmfs mount $MNT" "a loop device over a file on a spmfs mount" \
			"swap=$SPM_TMP/ext4,swapsize=8M"
		truncate -s 16M "$SPM_TMP/ext4/image"
		inner=$(losetup -f --show "$SPM_TMP/ext4/image")
		mkfs.ext4 -q "$inner"
		mount "$inner" "$SPM_TMP/over"
		refused 32 "lies on the spmfs mount $MNT" "a loop device over a loop device" \
			"swap=$SPM_TMP/over,swapsize=4M"
		umount "$SPM_TMP/over"
		losetup -d "$inner"
		unloop
	fi
else
	skip "a disk that is too small" "no loop devices here"
	skip "a loop device over a file on a spmfs mount" "no loop devices here"
fi
mkdir -p "$MNT/upper" "$MNT/work"
if mount -t overlay -o "lowerdir=$SPM_TMP/lower,upperdir=$MNT/upper,workdir=$MNT/work" none "$SPM_TMP/over" 2>/dev/null; then
	refused 32 "lies on the spmfs mount $MNT" "an overlay over a spmfs mount" "swap=$SPM_TMP/over,swapsize=8M"
	umount "$SPM_TMP/over"
else
	skip "an overlay over a spmfs mount" "overlayfs does not take it"
fi
spm_umount
ok "every server ended" wait_until 10 spm_no_servers

# ---- all processes killed ----

lost()
{
	spm_kill_servers
	like "nobody serves it any more" "$(timeout 10 stat -f "$d" 2>&1)" "not connected"
	umount -l "$d"
	ok "its region stays" test -e "/run/spmfs/${1:-test}.ns"
}
mounts "a mount" "swap=$f:$sw,swapsize=16M"
is "it can be recovered" "$(spm_feature recover "$d")" on
echo content >"$d/file"
lost
is "the files are there" "$(names "$sw")" "file test.swap"
refused 32 "umount /run/spmfs/test.ns && rm /run/spmfs/test.ns $f $sw/test.swap'" \
	"a plain mount names them with the region" "swap=$f"
refused 32 "region 'test' has data in swap files; mount it with swap=$f:$sw/test.swap" "recover without swap=" recover
refused 32 "mount it with swap=$f:$sw/test.swap: .*all are needed" "recover with one of two" "recover,swap=$f"
: >"$sw/other"
chmod 600 "$sw/other"
refused 32 "mount it with swap=$f:$sw/test.swap: .*other" "recover with an empty one" "recover,swap=$f:$sw/other"
rm "$sw/other"
refused 32 "mount it with swap=$f:$sw/test.swap: .*other: does not exist" "recover with one that is not there" \
	"recover,swap=$f:$sw/other"
cp "$f" "$sw/copy"
refused 32 "mount it with swap=$f:$sw/test.swap: .*$sw/copy: is a copy of $f" "recover with a copy" "recover,swap=$f:$sw/copy"
rm "$sw/copy"
refused 32 "swapsize=8M: .*has swap files of 16M" "another size" "recover,swap=$f:$sw,swapsize=8M"
refused 32 "extent=64K: .*has extents of 2M" "another extent" "recover,swap=$f:$sw,extent=64K"
mv "$f" "$sw/moved"
mounts "recover with all of them, in another order, one of them moved" "recover,swap=$sw:$sw/moved,swapsize=16M"
is "finds the region" "$(cat "$d/file")" content
like "features says what it has" "$(spm_feature swap "$d")" "^on: 2 files, 14680064 bytes"
lost
refused 32 "rm /run/spmfs/test.ns $sw/moved $sw/test.swap'" "which knows the new path" ""
mounts "and once more, with keep" "recover,keep,swap=$sw/moved:$sw"
ended "kept"
is "the files stay with it" "$(names "$sw")" "moved test.swap"

# What was deleted while it was open has no slots in the next life.
mounts "a mount" "name=orphans,swap=$sw/orphans,swapsize=64M"
head -c 8M /dev/urandom >"$d/deleted"
head -c 8M /dev/urandom >"$d/stays"
sum=$(md5sum <"$d/stays")
ok "files are evicted" "$SPMCTL" evict "$d/deleted" "$d/stays"
is "both" "$(($(spm_stat swapped_bytes "$d") >= 16777216))" 1
exec {fd}<"$d/deleted"
rm "$d/deleted"
lost orphans
exec {fd}<&-
mounts "recover" "recover,name=orphans,swap=$sw/orphans"
ok "their slots are free" test "$(spm_stat swap_used_bytes "$d")" -lt 12582912
is "what was not deleted is whole" "$(md5sum <"$d/stays")" "$sum"
ended "orphans"

# ---- keep ----

refused 32 "mount it with swap=$sw/moved:$sw/test.swap" "a kept region without its swap" keep
out=$("$SPMFS" mem:16M "$SPM_TMP/mnt2" -o "name=two,swap=$sw/moved" 2>&1)
is "another mount that wants one of them: status" $? 32
like "and words" "$out" "moved: has data of the region 'test', which is kept; .*umount /run/spmfs/test.ns && rm /run/spmfs/test.ns $sw/moved"
mounts "with them" "swap=$sw:$sw/moved"
is "it is found" "$(cat "$d/file")" content
ended "without keep"
is "that is the end of it" "$(ls -A "$sw"; find /run -name '*test*')" ""

mounts "a kept region without swap" "keep"
echo content >"$d/file"
ended "no swap"
refused 32 "extent=: the region 'test' has huge pages" "small extents for its huge pages" "swap=$f,swapsize=8M,extent=64K"
mounts "is given some" "keep,swap=$f,swapsize=8M"
is "the files are there" "$(cat "$d/file")" content
ended "swap was added"
ok "the file stays" test -s "$f"
mount --bind /dev/null /dev/fuse
refused 32 "/dev/fuse" "a mount of it that fails changes nothing" "swap=$f"
umount /dev/fuse
mounts "then it works" "swap=$f"
ended "without keep"
mounts "a kept region without swap" "keep"
ended "no swap"
mount --bind /dev/null /dev/fuse
refused 32 "/dev/fuse" "a mount that fails gives it none" "swap=$f,swapsize=8M"
umount /dev/fuse
mounts "so it is found without" ""
ended "for good"

mounts "small extents" "keep,swap=$f,swapsize=8M,extent=64K"
ended "small extents"
refused 32 "extent=: less than 2M cannot leave a huge page" "are found again, so huge= is refused" \
	"swap=$f,huge=within_size"
mounts "without it" "swap=$f"
is "features has them" "$(spm_feature extent "$d")" 65536
kill -9 "$(spm_feature standby_pid "$d")" "$(spm_feature worker_pid "$d")"
ok "and the next standby, too" wait_until 10 test -e "$d/.spm/stat"
is "reads them" "$(spm_feature extent "$d")" 65536
ended "small extents"

# A region that is given up leaves files that belong to nobody.
mounts "a mount" "swap=$f,swapsize=16M"
lost
ok "its memory is given back, but not its file" eval 'umount /run/spmfs/test.ns && rm /run/spmfs/test.ns'
is "which is still there" "$(stat -c %s "$f")" 16777216
mounts "the next mount takes it" "swap=$f,swapsize=8M"
is "anew" "$(stat -c %s "$f")" 8388608
ended "taken"
is "and removes it" "$(ls -A "$sw")" ""

# A mount that fails late.
mount --bind /dev/null /dev/fuse
refused 32 "/dev/fuse" "a mount that cannot be leaves no file" "swap=$f,swapsize=8M"
umount /dev/fuse

spm_done
