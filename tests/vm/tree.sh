#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds this source tree with the compiler and libraries of the test machine's system, and makes a disk of it.
#
#	bash tests/vm/tree.sh IMAGE	IMAGE: what image.sh printed; prints the disk's file
#
# On the disk: src/, build/, and files: the names of all that is the project's own, each with a NUL behind it.
# What is built is kept beside the images, for each place of a source tree; only what has changed is built again.
set -u
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
top=${here%/tests/vm}
image=$1
tree=${image%/*}/trees/$(printf '%s %s' "$top" "$image" | sha256sum | cut -c 1-16)

die()
{
	printf 'tests/vm/tree.sh: %s\n' "$*" >&2
	exit 1
}

# All files that belong to it, each behind a NUL: git's, those that git would take, or, in a tarball, all but builds.
sources()
{
	if git -C "$top" rev-parse --git-dir >/dev/null 2>&1; then
		git -C "$top" ls-files -z --cached --others --exclude-standard | (cd "$top" && xargs -0 -r ls -d --zero 2>/dev/null)
	else
		(cd "$top" && find . -type d \( -name 'build*' ! -name build-aux -o -name autom4te.cache \) -prune -o -type f -printf '%P\0')
	fi
}

# Files keep their times, so that make sees what is new.
copy_sources()
{
	mkdir -p "$tree/spm/src" "$tree/spm/build" && sources | sort -z >"$tree/list" && [ -s "$tree/list" ] || return 1
	if [ -f "$tree/list.before" ]; then
		comm -z -13 "$tree/list" "$tree/list.before" | (cd "$tree/spm/src" && xargs -0 -r rm -f --)
	fi
	tar -C "$top" --null -T "$tree/list" -cf - | tar -C "$tree/spm/src" -xf - && cp "$tree/list" "$tree/list.before" &&
		cp "$tree/list" "$tree/spm/files"
}

# $1: what is to be hashed. The time of each file is part of it.
stamp()
{
	(cd "$top" && xargs -0 stat -c '%n %s %Y %a' <"$tree/list") | sha256sum
}

in_image()
{
	# shellcheck disable=SC2016 # the inner shell's arguments
	unshare --mount --propagation private --pid --fork --kill-child bash -c '
		set -eu
		root=$1 spm=$2
		shift 2
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs none "$root/run"
		mount -t tmpfs none "$root/tmp"
		mount --bind "$spm" "$root/spm"
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
	' - "$image/root" "$tree/spm" "$@" </dev/null
}

# As quickstart.sh would with CONFIGURE_ARGS=--enable-werror, so that there it finds that nothing is left to be built.
build()
{
	# shellcheck disable=SC2016 # the inner shell's
	in_image sh -euc 'cd /spm/src
		[ -x configure ] || ./autogen.sh
		mkdir -p build
		cd ../build
		args="--prefix=/usr/local --enable-werror"
		if [ "$args" != "$(cat quickstart.args 2>/dev/null)" ]; then
			/spm/src/configure $args
			echo "$args" >quickstart.args
		fi
		make -j"$(nproc)"
		make -j"$(nproc)" check TESTS='
}

make_disk()
{
	local dir=$tree/disk
	rm -rf "$dir" && cp -al "$tree/spm" "$dir" &&
		find "$dir" \( -name '*.trs' -o -name 'autom4te.cache' \) -prune -exec rm -rf {} + &&
		rm -f "$tree/disk.ext4" &&
		mke2fs -q -t ext4 -O ^has_journal -d "$dir" "$tree/disk.ext4" 1G >/dev/null && rm -rf "$dir"
}

mkdir -p "$tree" || exit 1
printf '%s\n' "$top" >"$tree/of"
exec {lock}>"$tree/lock"
flock -w 900 "$lock" || die "another run has been building this tree for a quarter of an hour"
copy_sources || die "cannot copy the sources to $tree"
now=$(stamp)
if [ ! -f "$tree/disk.ext4" ] || [ "$now" != "$(cat "$tree/stamp" 2>/dev/null)" ]; then
	rm -f "$tree/stamp"
	if ! build >"$tree/log" 2>&1; then
		tail -n 30 "$tree/log" >&2
		die "the tree does not build in the test machine's system; all of it: $tree/log"
	fi
	make_disk || die "cannot make a disk of $tree"
	printf '%s\n' "$now" >"$tree/stamp"
fi
printf '%s\n' "$tree/disk.ext4"
