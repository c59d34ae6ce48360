#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dir:PATH with size= and slices, which are quotas of projects: limits hold, they outlive mount, servers and deaths at each step,
# and projects of others are left alone.
set -u
SPM_LIMIT=400
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../dirs.sh
. "$top_srcdir/tests/dirs.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"
export SPMFS_FAULTS=1

d=$SPM_TMP/mnt
mkdir "$d"

# What FUSE answers when it may not have more.
fill()
{
	head -c "$2" /dev/zero >"$1" 2>/dev/null
	stat -c %s "$1"
}

# One line that says why.
refused_mount()
{
	local out
	out=$("$SPMFS" "dir:$DIR" "$d" -o "force,$2" 2>&1 </dev/null)
	like "$1" "$out" "$3"
	is "$1: one line" "$(wc -l <<<"$out")" 1
	! mountpoint -q "$d" || umount "$d"
}

project_of()
{
	lsattr -pd "$1" 2>/dev/null | awk '{ print $1 }'
}

without_quota()
{
	refused_mount "$1: size= without quotas" size=64M "quota.*-o prjquota"
	printf '[slice one]\nmax = 10M\n' >"$SPM_TMP/conf"
	refused_mount "$1: slices without quotas" "conf=$SPM_TMP/conf" "quota.*-o prjquota"
	spm_need_mount "dir:$DIR" force
	like "$1: features" "$(spm_feature quota)" "^off: .*prjquota"
	like "$1: slices later" "$("$SPMCTL" slice create one --max 10M "$MNT" 2>&1)" "one: .*quota.*-o prjquota"
	echo here >"$MNT/old"
	spm_umount
}

# Made before there were quotas, or in a project of somebody else.
others()
{
	refused_mount "$1: files in no project" size=64M "in none.*new directory"
	spm_need_mount "dir:$DIR" force
	is "$1: without size= it is as it was" "$(cat "$MNT/old")" here
	spm_umount
	mkdir "$DIR_BACK/admin"
	chattr -p 77 +P "$DIR_BACK/admin"
	DIR=$DIR_BACK/admin
	refused_mount "$1: a project of somebody else" size=64M "project 77 of somebody else"
	spm_need_mount "dir:$DIR" force
	touch "$MNT/f"
	is "$1: it stays so" "$(project_of "$DIR/data/f")" 77
	spm_umount
	DIR=$DIR_BACK/new
	mkdir "$DIR"
}

sizes()
{
	spm_need_mount "dir:$DIR" force,size=32M
	like "$1: features with size=" "$(spm_feature quota)" "^project 193[67]"
	like "$1: df" "$(df -k --output=size "$MNT" | tail -n 1)" "32768"
	ok "$1: less than size= bytes are written" [ "$(fill "$MNT/much" 64M)" -le $((32 << 20)) ]
	ok "$1: and nearly as many as size= says" [ "$(stat -c %s "$MNT/much")" -ge $((30 << 20)) ]
	ok "$1: more by remount" "$SPMFS" "dir:$DIR" "$MNT" -o remount,size=48M
	ok "$1: which can be used" [ "$(fill "$MNT/more" 64M)" -ge $((14 << 20)) ]
	like "$1: not less than is used" "$("$SPMFS" "dir:$DIR" "$MNT" -o remount,size=16M 2>&1)" "more than that is in use"
	fails "$1: nobody leaves the project" "$SPMT" setproject "$MNT/much" 0
	spm_umount
	refused_mount "$1: nor at the next mount" size=16M "holds more"
	spm_need_mount "dir:$DIR" force
	ok "$1: without size= there is none" [ "$(fill "$MNT/more" 64M)" -eq $((64 << 20)) ]
	rm "$MNT"/*
	spm_umount
}

make_slices()
{
	spm_need_mount "dir:$DIR" force
	echo root >"$MNT/file"
	made a min=32M max=48M "uid=$USER_A" "gid=$USER_A" mode=0750
	made b max=64M
	is "$1: their directories" "$(cd "$MNT" && stat -c '%n %u %a' a b)" "a $USER_A 750
b 0 755"
	like "$1: nodes" "$("$SPMCTL" slice create c --nodes 0 "$MNT" 2>&1)" "c: .*nodes"
	ok "$1: what it may have" [ "$(fill "$MNT/a/much" 64M)" -le $((48 << 20)) ]
	ok "$1: is had" [ "$(stat -c %s "$MNT/a/much")" -ge $((46 << 20)) ]
	account "$1: a is full"
	ok "$1: another one has room" [ "$(fill "$MNT/b/much" 40M)" -eq $((40 << 20)) ]
	account "$1: both"
	echo three >"$MNT/b/name"
	mkdir "$MNT/b/dir"
	fails "$1: links across" ln "$MNT/b/name" "$MNT/linked"
	like "$1: df of a slice" "$(df -k --output=size "$MNT/a" | tail -n 1)" "49152"
	like "$1: more is not guaranteed than there is" "$("$SPMCTL" slice set b --min 300M "$MNT" 2>&1)" "b: "
	ok "$1: set" slice set a max=56M
	ok "$1: takes effect" [ "$(fill "$MNT/a/more" 64M)" -ge $((6 << 20)) ]
	fails "$1: not less than is used" slice set a max=16M
	rm "$MNT/a/more"
	actor u setpriv "--reuid=$USER_A" "--regid=$USER_A" --clear-groups
	says "$1: its owner makes a file" u ok open f creat,rw "$MNT/a/mine"
	actor_end u
	fails "$1: nobody leaves his slice's project" "$SPMT" setproject "$MNT/b/name" 0
}

inodes()
{
	made n inodes=10
	is "$1: inodes=10: as many files" "$(for i in {1..20}; do mkdir "$MNT/n/$i" 2>/dev/null && echo "$i"; done | wc -l)" 10
	refused "$1: fewer than there are" "Device or resource busy" set n inodes=5
	ok "$1: set n inodes=12" slice set n inodes=12
	ok "$1: one more" mkdir "$MNT/n/x"
	ok "$1: set n inodes=max" slice set n inodes=max
	ok "$1: many more" eval 'mkdir "$MNT/n/"{a..w}'
	ok "$1: remove n" slice remove n force
}

# The same inode numbers before and after.
persist()
{
	local said ino
	said=$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")
	ino=$(stat -c %i "$MNT/b/name")
	spm_umount
	is "$1: nothing of them is left in the host's mounts" "$(grep -c "$DIR/slices" /proc/self/mountinfo)" 0
	dir_end
	ok "$1: without its quotas" mount -o loop "$DIR_IMAGE" "$DIR_BACK"
	refused_mount "$1: it is not mounted with slices and no limits" size=100% "prjquota"
	refused_mount "$1: nor without size=" nosuid "prjquota"
	dir_end
	ok "$1: again" mount -o loop,prjquota "$DIR_IMAGE" "$DIR_BACK"
	spm_need_mount "dir:$DIR" force
	is "$1: slices are there after a reboot, and their limits" "$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")" "$said"
	is "$1: with their files" "$(cat "$MNT/b/name") $(stat -c %i "$MNT/b/name")" "three $ino"
	is "$1: and the root slice's" "$(cat "$MNT/file")" root
	account "$1: after a reboot"
}

death()
{
	local at=$1 before said
	shift
	before=$(spm_feature worker_restarts)
	echo "$at kill" >"$MNT/.spm/fault"
	said=$({ timeout $((60 * SPM_FACTOR)) bash -c 'printf %s "$1" >"$2"' - "$*" "$MNT/.spm/slice" || echo "status $?"; } 2>&1)
	is "$at: $*: its client" "$said" ""
	is "$at: $*: one death" "$(spm_feature worker_restarts)" $((before + 1))
	echo clear >"$MNT/.spm/fault"
}

deaths()
{
	local at p size
	size=$(df -k --output=size "$MNT" | tail -n 1)
	for at in making mounted placed shown live granted; do
		death "slice:$at" create new min=4M max=8M
		echo content >"$MNT/new/f"
		is "$1, $at: it is there" "$(cat "$MNT/new/f") $(slice_of new max)" "content $((8 << 20))"
		ok "$1, $at: and ends" slice remove new force
	done
	for at in removing unmounted emptied erased; do
		slice create new max=32M
		mkdir -p "$MNT/new/x/y/z/1/2/3"
		is "$1, $at: filled" "$(fill "$MNT/new/x/y/z/most" 20M)" $((20 << 20))
		echo content | tee "$MNT/new/x/y/f" >"$MNT/new/x/y/z/1/2/3/f"
		p=$DIR/slices/$(slice_of new id)/data
		chattr +i "$p/x/y/f" "$p/x/y"
		p=$(project_of "$p")
		death "slice:$at" remove new force
		fails "$1, $at: it is gone" test -e "$MNT/new"
		is "$1, $at: and its files, and nobody else's" "$(cd "$DIR/slices" && find . -maxdepth 1 -name '[0-9]*' | wc -l)" 2
		ok "$1, $at: the project was one of ours" [ "$p" -ge $((0x73700000)) ]
		# (what the filesystem needs for itself varies)
		ok "$1, $at: what it had can be had again" \
			[ "$(df -k --output=size "$MNT" | tail -n 1)" -ge $((size - 4096)) ]
	done
	account "$1: after all deaths"
}

# What a removed slice's files have is nobody's before they are gone.
going()
{
	local before while_going
	slice create new max=48M
	is "$1: a slice to be removed" "$(fill "$MNT/new/f" 40M)" $((40 << 20))
	before=$(df -k --output=size "$MNT" | tail -n 1)
	echo "slice:emptied slow:$((4000 * SPM_FACTOR))" >"$MNT/.spm/fault"
	slice remove new force &
	wait_until $((10 * SPM_FACTOR)) grep -q "fault: slice:emptied slow" "$MNT.log"
	while_going=$(df -k --output=size "$MNT" | tail -n 1)
	ok "$1: its memory is not given away before its files are gone ($while_going of $before KiB)" \
		[ "$while_going" -le $((before + 4096)) ]
	wait $!
	ok "$1: and then it is" [ "$(df -k --output=size "$MNT" | tail -n 1)" -ge $((before + 36 * 1024)) ]
	account "$1: after that"
}

# One slice after the other is made, changed, filled and removed, while worker after worker is killed at random.
storm()
{
	local i said bad='' before killed
	echo 0 >"$SPM_TMP/killed"
	said=$(slices_said)
	before=$(spm_feature worker_restarts)
	killer_start
	for ((i = 0; i < 300; i++)); do
		# (it may be empty for an instant)
		read -r killed 2>/dev/null <"$SPM_TMP/killed" || killed=0
		[ $i -lt 15 ] || [ "$killed" -lt 8 ] || break
		slice create "s$i" max=8M || bad+=" create"
		slice set "s$i" min=2M max=6M || bad+=" set"
		mkdir -p "$MNT/s$i/x/y/z" && head -c 1M /dev/urandom | tee "$MNT/s$i/x/y/z/f" "$SPM_TMP/copy" >"$MNT/s$i/x/f" || bad+=" write"
		cmp "$MNT/s$i/x/y/z/f" "$SPM_TMP/copy" && cmp "$MNT/s$i/x/f" "$SPM_TMP/copy" || bad+=" content"
		[ "$(slice_of "s$i" min) $(slice_of "s$i" max)" = "$((2 << 20)) $((6 << 20))" ] || bad+=" limits"
		wait_until $((10 * SPM_FACTOR)) slice remove "s$i" force || bad+=" remove"
	done
	killer_stop
	is "$1: all commands did what they say, whoever died" "$bad" ""
	ok "$1: and there were deaths" [ "$KILLED" -ge 8 ]
	is "$1: no others" "$(spm_feature worker_restarts)" $((before + KILLED))
	is "$1: nothing is left of what was removed" "$(cd "$DIR/slices" && find . -maxdepth 1 -name '[0-9]*' | wc -l)" 2
	is "$1: and nothing of the others has changed" "$(slices_said)" "$said"
	is "$1: nor in their files" "$(cat "$MNT/b/name")" three
	fails "$1: nothing to be told in the log" grep -q "slice.*cannot" "$MNT.log"
	account "$1: after the storm"
}

removal()
{
	actor u
	tell u open f rw "$MNT/b/name"
	tell u map m f rw shared 0 4096
	like "$1: one that is mapped stays" "$({ slice remove b force; } 2>&1)" "busy"
	is "$1: whole" "$(cat "$MNT/b/name")" three
	spm_kill_servers
	wait "${SPM_MOUNTS[$MNT]}" 2>/dev/null
	umount -l "$MNT"
	unset "SPM_MOUNTS[$MNT]"
	spm_need_mount "dir:$DIR" force
	is "$1: all servers killed, its file is there" "$(cat "$MNT/b/name")" three
	is "$1: and direct as long as it is mapped" "$(file_mode "$MNT/b/name")" direct
	actor_end u
	ok "$1: and then goes" slice remove b force
	ok "$1: room is free again" [ "$(df -k --output=used "$DIR_BACK" | tail -n 1)" -lt $((80 << 10)) ]
	ok "$1: the other one too" slice remove a force
	is "$1: nothing is left of them" "$(ls "$DIR/slices")" table
	spm_umount
}

# A size that is said once does not stay where there have been slices.
resized()
{
	spm_need_mount "dir:$DIR" force,size=32M
	ok "$1: size= with a table of slices" [ "$(fill "$MNT/much" 64M)" -le $((32 << 20)) ]
	spm_umount
	spm_need_mount "dir:$DIR" force
	ok "$1: and without it again all that there is" [ "$(fill "$MNT/more" 64M)" -eq $((64 << 20)) ]
	ok "$1: as df says" [ "$(df -k --output=size "$MNT" | tail -n 1)" -gt $((128 << 10)) ]
	rm "$MNT"/*
	spm_umount
}

declared()
{
	printf '[slice one]\nmin = 4M\nmax = 10M\n[slice two]\n' >"$SPM_TMP/conf"
	spm_need_mount "dir:$DIR" "force,conf=$SPM_TMP/conf"
	is "$1: declared slices" "$(cut -d ' ' -f 1 "$MNT/.spm/slices" | xargs)" "one two"
	echo kept >"$MNT/one/f"
	spm_umount
	spm_need_mount "dir:$DIR" "force,conf=none"
	is "$1: stay, also undeclared" "$(cat "$MNT/one/f")" kept
	spm_umount
}

with_kind()
{
	DIR=$DIR_BACK/s
	ok "$1: a filesystem" dir_make "$1" || return
	without_quota "$1"
	dir_end
	if [ "$1" = ext4 ]; then
		ok "$1: quotas are switched on" eval 'tune2fs -O quota,project -Q prjquota "$DIR_IMAGE" >/dev/null 2>&1'
	fi
	if ! mount -o loop,prjquota "$DIR_IMAGE" "$DIR_BACK"; then
		skip "$1" "this kernel has no quotas of projects"
		return
	fi
	others "$1"
	sizes "$1"
	make_slices "$1"
	inodes "$1"
	persist "$1"
	deaths "$1"
	going "$1"
	storm "$1"
	removal "$1"
	resized "$1"
	declared "$1"
	ok "$1: the end" dir_end
}

kinds=$(dir_kinds)
[ -n "$kinds" ] || skip_all "neither mkfs.ext4 nor mkfs.xfs, or no such filesystem in this kernel"
for kind in ${KINDS:-ext4 xfs}; do
	if grep -qx "$kind" <<<"$kinds"; then
		with_kind "$kind"
	else
		skip "$kind" "no mkfs.$kind, or not in this kernel"
	fi
done
spm_done
