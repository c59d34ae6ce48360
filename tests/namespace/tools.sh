#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Trees through the tools that people use: cp -a, tar, rsync, find, du, df, git. Each tree goes from a plain
# tmpfs to spmfs and back, and is the same afterwards: names, kinds, owners, modes, times, links, holes,
# extended attributes, ACLs.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

ref=$SPM_TMP/ref
mkdir "$ref"
mount -t tmpfs -o size=512M spm-reference "$ref"

has()
{
	command -v "$1" >/dev/null
}

# A tree with one of everything, at $1.
plant()
{
	local d=$1 i
	mkdir -p "$d"/{a/b/c,docs,empty,odd,links,special,"with blank"}
	for ((i = 0; i < 120; i++)); do
		head -c $((i * 997)) /dev/urandom >"$d/docs/f$i"
	done
	head -c 5000000 /dev/urandom >"$d/a/b/large"
	truncate -s 20M "$d/a/sparse"
	printf data | dd of="$d/a/sparse" bs=1 seek=8M conv=notrunc status=none
	: >"$d/empty/zero"
	printf x >"$d/odd/"$'new\nline'
	printf y >"$d/odd/"$'\xff\xfe not utf8'
	printf z >"$d/odd/-dash"
	printf w >"$d/odd/$(printf '%0255d' 0)"
	ln "$d/docs/f7" "$d/links/seven"
	ln "$d/docs/f7" "$d/a/b/c/seven"
	ln "$d/docs/f8" "$d/links/eight"
	ln -s ../docs/f7 "$d/links/soft"
	ln -s nowhere "$d/links/dangling"
	ln -s "$(printf '%0400d' 0)" "$d/links/long"
	ln "$d/links/soft" "$d/links/soft2"
	mkfifo "$d/special/fifo"
	mknod "$d/special/null" c 1 3
	mknod "$d/special/loop" b 7 99
	chown 1234:2345 "$d/docs/f1" "$d/a/b"
	chown -h 1234:2345 "$d/links/soft"
	chmod 4711 "$d/docs/f2"
	chmod 2775 "$d/a"
	chmod 1777 "$d/empty"
	chmod 0 "$d/docs/f3"
	# long ago: rsync takes a time within the same second for right
	find "$d" -exec touch -h -d '2015-05-05 05:05:05.555555555' {} +
	touch -h -d '1999-12-31 23:59:59.123456789' "$d/links/dangling"
	touch -d '2001-02-03 04:05:06.000000007' "$d/docs/f4" "$d/a/b/c"
	touch -d '1955-11-05 06:15:00' "$d/docs/f5"
	plant_attributes "$d"
}

plant_attributes()
{
	local d=$1
	if has setfattr; then
		setfattr -n user.colour -v blue "$d/docs/f9"
		setfattr -n user.binary -v 0x0001ff00 "$d/docs/f9"
		setfattr -n user.dir -v yes "$d/a"
		setfattr -n trusted.note -v kept "$d/docs/f10"
	fi
	if has setfacl; then
		setfacl -m u:1234:rw,g:2345:r,m::rw "$d/docs/f11"
		setfacl -d -m u:1234:rwx,g:2345:rx "$d/a/b"
	fi
	! has setcap || setcap cap_net_raw+ep "$d/docs/f12"
}

# One line for each name: all that stat tells but inode numbers, sizes of directories and change times.
manifest()
{
	(
		cd "$1" || exit 1
		find . -type d -printf '%P\t%y %m %U %G %n - %T@\n' -o \
			-printf '%P\t%y %m %U %G %n %s %T@ %l\n' | LC_ALL=C sort
		find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | LC_ALL=C sort
		# names of one inode, as groups
		find . ! -type d -links +1 -printf '%i %P\n' | LC_ALL=C sort -k2 |
			awk '{ i = $1; sub(/^[0-9]+ /, ""); g[i] = g[i] " " $0 }
				END { for (i in g) print "same:" g[i] }' |
			LC_ALL=C sort
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
		! has getfattr || find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -hd -m - 2>/dev/null
		! has getfacl || find . ! -type l -print0 | LC_ALL=C sort -z |
			xargs -0 getfacl -pn 2>/dev/null
	)
}

# same DESC DIR DIR
same()
{
	local diff
	diff=$(diff <(manifest "$2") <(manifest "$3") 2>&1 | head -n 20)
	is "$1" "$diff" ""
}

# Both ways, by a function that copies a tree: copier SOURCE TARGET
there_and_back()
{
	local what=$1 copier=$2
	mkdir "$MNT/to" "$ref/back"
	ok "$what to spmfs" "$copier" "$ref/tree" "$MNT/to"
	same "$what to spmfs keeps everything" "$ref/tree" "$MNT/to"
	ok "$what from spmfs" "$copier" "$MNT/to" "$ref/back"
	same "$what from spmfs keeps everything" "$ref/tree" "$ref/back"
	holes "$what keeps holes" "$MNT/to/a/sparse" "$ref/back/a/sparse"
	rm -rf "${MNT:?}/to" "$ref/back"
}

# 20 MiB with one page of data (2 MiB where the device gives huge pages); committed files have no holes.
holes()
{
	local f
	for f in "${@:2}"; do
		if [ "$commit" = eager ] && [[ $f == "$MNT"/* ]]; then
			continue
		fi
		is "$1 (${f#"$SPM_TMP"/})" "$(($(stat -c %b "$f") <= 4096))" 1
	done
}

by_cp()
{
	cp -a --sparse=auto "$1/." "$2/"
}

by_tar()
{
	tar -C "$1" --acls --xattrs --xattrs-include='*' -Scf - . |
		tar -C "$2" --acls --xattrs --xattrs-include='*' -xpf -
}

by_rsync()
{
	rsync -aHAXS --numeric-ids "$1/" "$2/"
}

rsync_again()
{
	mkdir "$MNT/r"
	by_rsync "$ref/tree" "$MNT/r"
	is "rsync finds nothing to do the second time" \
		"$(rsync -aHAXSni --numeric-ids --delete "$ref/tree/" "$MNT/r/")" ""
	printf more >>"$MNT/r/docs/f20"
	rm "$MNT/r/links/seven"
	ok "rsync repairs" rsync -aHAXS --numeric-ids --delete "$ref/tree/" "$MNT/r/"
	same "and all is as it was" "$ref/tree" "$MNT/r"
	rm -rf "${MNT:?}/r"
}

queries()
{
	local q
	by_cp "$ref/tree" "$MNT"
	for q in '-type f -links +1' '-perm -4000' '-perm /2000' '-newermt 2000-01-01 -type f' \
		'! -newermt 2000-01-01' '-empty' '-size +100k' '-uid 1234' '-type l -lname *f7' \
		'-samefile docs/f7' '-name *[0-9]9'; do
		# shellcheck disable=SC2086
		is "find $q" "$(set -f; cd "$MNT" && find . $q | LC_ALL=C sort | sha256sum)" \
			"$(set -f; cd "$ref/tree" && find . $q | LC_ALL=C sort | sha256sum)"
	done
	# shellcheck disable=SC2012
	is "ls -lR" "$(cd "$MNT" && LC_ALL=C ls -lRn --time-style=full-iso | sed '/^total/d')" \
		"$(cd "$ref/tree" && LC_ALL=C ls -lRn --time-style=full-iso | sed '/^total/d')"
	is "du --apparent-size" "$(cd "$MNT" && du -b --apparent-size | LC_ALL=C sort -k2)" \
		"$(cd "$ref/tree" && du -b --apparent-size | LC_ALL=C sort -k2)"
}

# du, df and the bytes that were written agree; hard links count once.
space()
{
	local before used after
	rm -rf "${MNT:?}"/*
	wait_until 10 ns_empty
	before=$(df -k --output=used "$MNT" | tail -n 1)
	mkdir "$MNT/s"
	head -c 10M /dev/zero >"$MNT/s/ten"
	head -c 1000 /dev/zero >"$MNT/s/small"
	ln "$MNT/s/ten" "$MNT/s/again"
	used=$(du -sk "$MNT/s" | cut -f 1)
	after=$(df -k --output=used "$MNT" | tail -n 1)
	is "du counts what was written once ($used KiB)" "$((used >= 10244 && used <= 10244 + 2048))" 1
	is "df counts what du counts" "$((after - before))" "$used"
	rm "$MNT/s/ten"
	is "one of two names takes nothing away" \
		"$(df -k --output=used "$MNT" | tail -n 1 | tr -d ' ')" "${after// /}"
	rm -rf "$MNT/s"
	ok "the last one gives all back" wait_until 10 ns_empty
}

ns_empty()
{
	[ "$(ns_used "$MNT")" = "0 1" ]
}

git_work()
{
	local d=$MNT/repo i
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME=$SPM_TMP
	export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
	ok "git init" git init -q "$d"
	cp -r "$ref/tree/docs" "$ref/tree/a" "$d/"
	ok "git add and commit" eval 'git -C "$d" add . && git -C "$d" commit -qm first'
	is "git status is clean" "$(git -C "$d" status --porcelain)" ""
	for i in 1 2 3; do
		printf '%s\n' "$i" >>"$d/docs/f1"
		git -C "$d" mv "docs/f3$i" "docs/g$i"
		git -C "$d" commit -qam "change $i"
	done
	ok "git gc, git fsck" eval 'git -C "$d" gc -q && git -C "$d" fsck --strict'
	ok "git clone with hard links" git clone -ql "$d" "$MNT/clone"
	ok "git checkout of an old state" git -C "$MNT/clone" checkout -q HEAD~3
	is "its content is the first one" "$(sha256sum <"$MNT/clone/docs/f31")" \
		"$(sha256sum <"$ref/tree/docs/f31")"
	is "log through the clone" "$(git -C "$MNT/clone" log --oneline --all | wc -l)" 4
	rm -rf "$d" "$MNT/clone"
}

# A script with the mount as its directory, not this shell's: that would keep the mount busy.
in_mnt()
{
	(cd "$MNT" && eval "$1")
}

others()
{
	local big=$MNT/big
	head -c 3000000 /dev/urandom >"$big"
	ok "fallocate --punch-hole, then cmp" eval 'cp "$big" "$ref/big" &&
		fallocate -p -o 4096 -l 1M "$big" && fallocate -p -o 4096 -l 1M "$ref/big" &&
		cmp "$big" "$ref/big"'
	ok "dd by O_DIRECT" eval 'dd if="$big" of="$big.2" bs=64k iflag=direct oflag=direct status=none &&
		cmp "$big" "$big.2"'
	ok "split, cat, sort -T" in_mnt 'split -b 100k big part. && cat part.* | cmp - big &&
		od -An -v -tx1 -w8 big | sort -T . -S 1M -u | sort -c'
	ok "mv between directories and filesystems" in_mnt 'mkdir m n && mv part.* m && mv m n/ &&
		mv n "$ref/" && mv "$ref/n" . && cat n/m/part.* | cmp - big'
	ok "flock(1) and unlink of an open log" in_mnt 'flock lockfile sh -c "exec 5>log; rm log; echo x >&5"'
	ok "rm -r of a deep tree" in_mnt 'mkdir -p "$(printf "d/%.0s" {1..400})" && rm -r d'
	ok "find -delete" eval 'find "$MNT" -mindepth 1 -delete && [ -z "$(ls -A "$MNT")" ]'
}

round()
{
	commit=$2
	spm_fresh mem:512M "map=$1,commit=$2"
	diag "map=$1,commit=$2"
	there_and_back "cp -a" by_cp
	there_and_back tar by_tar
	if has rsync; then
		there_and_back "rsync -aHAXS" by_rsync
		rsync_again
	else
		skip "rsync" "not installed"
	fi
	queries
	space
	if has git; then
		git_work
	else
		skip "git" "not installed"
	fi
	others
	ok "everything is given back" wait_until 10 ns_empty
}

plant "$ref/tree"
round direct lazy
round direct eager
round mirror lazy
spm_done
