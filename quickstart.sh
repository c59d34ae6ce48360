#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# From a fresh clone to a mounted device, to all tests, and back. For Debian 12 and 13.
set -u
# A user's settings must not leak into files that everybody reads.
umask 022

usage()
{
	cat <<'END'
Usage: sudo ./quickstart.sh [-s SOURCE] [-o OPTIONS] [MOUNTPOINT]
                                       install what is missing, build in ./build, install,
                                       mount SOURCE (mem:256M) at MOUNTPOINT (/spm), show the main job
       sudo ./quickstart.sh check      install what is missing, build in ./build, run all tests
       sudo ./quickstart.sh deps       only install what is missing, for both of the above
       sudo ./quickstart.sh remove     undo the mount and the installation

Environment: CONFIGURE_ARGS is added to the call of ./configure, TEST_ARGS to that of make check.
Each says first what it is about to change, and each may be run again.
END
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
build=$top/build
log=$build/quickstart.log
state=/var/lib/spmfs-quickstart	# what was mounted and installed, so that remove can undo it

# Also the tools that a test would otherwise be skipped without.
build_packages=(gcc libc6-dev make autoconf automake pkg-config
	libfuse3-dev libjson-c-dev liburing-dev libisal-dev libinih-dev libdaxctl-dev)
test_packages=(check mandoc xfsprogs e2fsprogs shellcheck acl attr jq rsync git libcap2-bin python3-jsonschema python3-yaml)

die()
{
	printf 'quickstart: %s\n' "$*" >&2
	exit 1
}

# Runs a step quietly; when it fails, the end of the log is what people need to see.
quietly()
{
	local what=$1
	shift
	printf '\n== %s: %s\n' "$what" "$*" >>"$log"
	"$@" >>"$log" 2>&1 </dev/null && return
	tail -n 15 "$log" >&2
	die "$what failed; the whole log is in $log"
}

need_root()
{
	[ "$(id -u)" -eq 0 ] || die "must be run as root: sudo $0 $*"
}

# A clone that belongs to a user stays the user's, also what root built in it.
give_back()
{
	[ "$(stat -c %u "$top")" = 0 ] && return
	chown -R --reference="$top" "$build" "$top"/{autom4te.cache,build-aux,m4,aclocal.m4,configure,config.h.in} \
		"$top/Makefile.in" 2>/dev/null
}

# ---- packages ----

missing_packages()
{
	local p
	for p in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null)" = 'ii ' ] || printf '%s\n' "$p"
	done
}

install_packages()
{
	local -a missing
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "this is made for Debian 12 and 13; install by hand: ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	printf '== apt-get update\n' >>"$log"
	# A stale list often still serves; when it does not, the installation says so.
	apt-get update >>"$log" 2>&1 </dev/null || printf 'apt-get update failed\n' >>"$log"
	quietly "installing packages" apt-get install -y --no-install-recommends "${missing[@]}"
	mkdir -p "$state" && printf '%s\n' "${missing[@]}" >>"$state/packages"
}

say_packages()
{
	local -a missing
	mapfile -t missing < <(missing_packages "$@")
	if [ ${#missing[@]} -gt 0 ]; then
		printf '  packages  install %s\n' "${missing[*]}"
	else
		printf '  packages  none (all are there)\n'
	fi
}

# ---- build and installation ----

build_it()
{
	local args="--prefix=/usr/local ${CONFIGURE_ARGS:-}"
	[ -x "$top/configure" ] || quietly "autogen" "$top/autogen.sh"
	if [ ! -f "$build/Makefile" ] || [ "$(cat "$build/quickstart.args" 2>/dev/null)" != "$args" ]; then
		# shellcheck disable=SC2086 # a list of words
		(cd "$build" && quietly "configure" "$top/configure" $args) || exit 1
		printf '%s\n' "$args" >"$build/quickstart.args"
	fi
	quietly "make" make -C "$build" -j"$(nproc)"
}

install_it()
{
	local stage
	stage=$(mktemp -d) || die "cannot make a temporary directory"
	quietly "make install (list)" make -C "$build" install DESTDIR="$stage"
	quietly "make install" make -C "$build" install
	mkdir -p "$state"
	# The list outlives the clone, and grows when an update installs more.
	{
		cat "$state/files" 2>/dev/null
		(cd "$stage" && find . ! -type d -printf '/%P\n')
	} | sort -u -o "$state/files.new" && mv "$state/files.new" "$state/files"
	rm -rf "$stage"
}

# ---- mount ----

is_mounted()
{
	[ "$(findmnt -rno FSTYPE -M "$1" 2>/dev/null | tail -n 1)" = fuse.spmfs ]
}

mount_it()
{
	local dir=$1 source=$2 opts=$3 made=no
	if is_mounted "$dir"; then
		printf 'mounted     %s was mounted already and stays as it is\n' "$dir"
		return
	fi
	if [ ! -d "$dir" ]; then
		mkdir -p "$dir" || die "cannot make the directory $dir"
		made=yes
	fi
	mkdir -p "$state"
	# Written before the mount, so that an interrupted run can be undone too.
	printf '%s %s\n' "$made" "$dir" >>"$state/mounts"
	mount -t fuse.spmfs ${opts:+-o "$opts"} "$source" "$dir" </dev/null || die "the mount failed"
	feature "$dir" name >>"$state/names"
	printf 'mounted     %s at %s\n' "$source" "$dir"
}

feature()
{
	sed -n "s/^$2 //p" "$1/.spm/features"
}

# ---- the main job ----

as()
{
	local uid=$1
	shift
	setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}

# A kernel that lacks passthrough is named together with the package that has it.
why_mirror()
{
	local dir=$1 release why package
	release=$(uname -r)
	why=$(feature "$dir" passthrough)
	if [ "$(printf '%s\n6.9\n' "${release%%-*}" | sort -V | head -n 1)" != 6.9 ]; then
		package="linux-image-$(dpkg --print-architecture)"
		grep -q '^VERSION_ID="12"' /etc/os-release && package="$package of bookworm-backports"
		why="Linux $release has no FUSE passthrough, 6.9 and later do: package $package"
	fi
	printf 'no direct mappings here (%s); files are mirrored in the page cache:\n' "${why#off: }"
}

demo()
{
	local dir=$1 file=$1/quickstart.demo a=61001 b=61002 rc
	rm -f "$file"
	# shellcheck disable=SC2016 # the inner shell's argument
	as $a bash -c 'umask 077 && yes "in device memory" | head -c 4M >"$1"' - "$file" ||
		die "user $a cannot write $file (the directories above must let others in)"
	printf '\nUser %s wrote a file:\n  ' $a
	ls -ln --time-style=+ "$file"
	[ "$(feature "$dir" direct_supported)" = 1 ] || why_mirror "$dir"
	printf 'User %s maps it:\n  ' $a
	"$build/spm-whichpage" -u $a "$file" "/proc/$(feature "$dir" worker_pid)/root/region/data/${file##*/}"
	rc=$?
	[ $rc -eq 0 ] || [ $rc -eq 3 ] || die "user $a cannot map $file"
	[ $rc -eq 0 ] || [ "$(feature "$dir" direct_supported)" = 0 ] || die "the mapping is not the device's"
	printf 'User %s, to whom the mode gives nothing:\n  ' $b
	"$build/spm-whichpage" -u $b "$file" 2>&1 && die "user $b mapped a file of mode 0600"
	printf '\n$ spmctl status -u %s\n' "$dir"
	/usr/local/bin/spmctl status -u "$dir" || die "spmctl failed"
	rm -f "$file"
}

# ---- the three commands ----

run_all()
{
	local dir source=mem:256M opts=
	while getopts 's:o:h' opt; do
		case $opt in
		s) source=$OPTARG ;;
		o) opts=$OPTARG ;;
		h) usage && exit 0 ;;
		*) usage >&2 && exit 1 ;;
		esac
	done
	shift $((OPTIND - 1))
	[ $# -le 1 ] || { usage >&2 && exit 1; }
	dir=$(realpath -m -- "${1:-/spm}")
	[ -c /dev/fuse ] || die "there is no /dev/fuse; modprobe fuse, or run it where FUSE is allowed"
	echo "This is about to change (remove undoes it):"
	say_packages "${build_packages[@]}"
	printf '  files     build in %s, install to /usr/local and /sbin\n' "$build"
	printf '  mount     %s at %s%s\n\n' "$source" "$dir" "$(is_mounted "$dir" && echo ' (there already, stays)')"
	install_packages "${build_packages[@]}"
	build_it
	install_it
	printf 'installed   %s files, listed in %s\n' "$(wc -l <"$state/files")" "$state/files"
	mount_it "$dir" "$source" "$opts"
	demo "$dir"
	printf '\nGo on with: man spmfs; man spmctl; sudo %s check; sudo %s remove\n' "$0" "$0"
}

run_deps()
{
	echo "This is about to change:"
	say_packages "${build_packages[@]}" "${test_packages[@]}"
	install_packages "${build_packages[@]}" "${test_packages[@]}"
}

run_check()
{
	echo "This is about to change:"
	say_packages "${build_packages[@]}" "${test_packages[@]}"
	printf '  files     build in %s; tests use temporary directories and mounts of their own\n\n' "$build"
	install_packages "${build_packages[@]}" "${test_packages[@]}"
	build_it
	echo "built, testing; the log is $log"
	find "$build" -name '*.trs' -delete
	printf '\n== make check\n' >>"$log"
	# Not quietly: a failing test is a result, and summary.sh tells it.
	# shellcheck disable=SC2086 # a list of words
	make -C "$build" -k -j"$(nproc)" check ${TEST_ARGS:-} >>"$log" 2>&1 </dev/null
	if [ -z "$(find "$build" -name '*.trs' -print -quit)" ]; then
		tail -n 15 "$log"
		die "the tests could not be built"
	fi
	bash "$top/tests/again.sh" "$build"
	bash "$top/tests/failures.sh" "$build"
	bash "$top/tests/summary.sh" "$build"
}

is_gone()
{
	[ ! -d "/proc/$1" ]
}

# umount returns before the servers have cleaned up.
unmount_it()
{
	local dir=$1 keeper i=0
	keeper=$(feature "$dir" keeper_pid 2>/dev/null)
	umount -- "$dir" || die "$dir is in use; 'fuser -vm $dir' (package psmisc) shows by whom"
	while [ -n "$keeper" ] && ! is_gone "$keeper"; do
		[ $((i += 1)) -le 300 ] || die "$dir is unmounted, but its keeper, process $keeper, does not end; see the system log"
		sleep 0.1
	done
}

# What a server that was killed left of its memory, or one that was told to keep it.
give_back_memory()
{
	local name pin
	while read -r name; do
		pin=/run/spmfs/$name.ns
		[ -e "$pin" ] || continue
		{ umount -- "$pin" && rm -f -- "$pin" "${pin%.ns}.sock"; } || die "cannot remove $pin"
	done < <(sort -u "$state/names" 2>/dev/null)
	# the last server that ends would have done this
	if [ -d /run/spmfs ] && [ -z "$(ls -A /run/spmfs)" ]; then
		umount /run/spmfs && rmdir /run/spmfs
	fi
}

run_remove()
{
	local made dir file
	[ -d "$state" ] || { echo "There is nothing to undo." && return; }
	echo "This is about to change:"
	[ -f "$state/mounts" ] && sed 's/^[^ ]* /  unmount   /' "$state/mounts" | sort -u
	[ -f "$state/names" ] && sort -u "$state/names" | sed 's/^/  free      all memory of the mount named /'
	[ -f "$state/files" ] &&
		printf '  delete    the %s files listed in %s\n' "$(wc -l <"$state/files")" "$state/files"
	while read -r made dir; do
		if is_mounted "$dir"; then
			unmount_it "$dir"
		fi
		[ "$made" = no ] || rmdir -- "$dir" 2>/dev/null
	done < <(cat "$state/mounts" 2>/dev/null)
	give_back_memory
	while read -r file; do
		rm -f -- "$file"
		# a directory of our own; the others were there before, or may be of use to others
		case $file in
		*/spmfs/*) rmdir -- "${file%/*}" 2>/dev/null ;;
		esac
	done < <(cat "$state/files" 2>/dev/null)
	if [ -s "$state/packages" ]; then
		printf 'These packages stay; if nothing else needs them: apt-get remove %s\n' \
			"$(sort -u "$state/packages" | tr '\n' ' ')"
	fi
	rm -f "$state"/{mounts,names,files,packages} && rmdir "$state"
	printf 'Done. The build stays in %s.\n' "$build"
}

case ${1:-} in
-h | --help)
	usage
	exit 0
	;;
esac
need_root "$*"
mkdir -p "$build" || exit 1
trap give_back EXIT
printf '\n==== quickstart.sh %s\n' "$*" >>"$log"
case ${1:-} in
check | remove | deps)
	[ $# -eq 1 ] || { usage >&2 && exit 1; }
	;;&
check) run_check ;;
remove) run_remove ;;
deps) run_deps ;;
*) run_all "$@" ;;
esac
