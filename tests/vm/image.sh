#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes what tests/vm/run.sh boots: Debian 13 with a compiler, Debian's kernels, and a pristine Debian 13 beside it.
#
#	bash tests/vm/image.sh [--refresh]	prints the directory; --refresh: also when it is there already
#
# It is kept in SPM_VM_CACHE (${XDG_CACHE_HOME:-/var/cache}/spmfs-vm) under a name that is the hash of its recipe, and made
# again only when that changes: this script down to its last part, and the lists of packages here and in quickstart.sh. Images
# that nobody has used for a week go. In it:
#
#	root/ disk.ext4			the machine's system, as a tree (to build in) and as a disk (to boot)
#	pristine/			the same release with nothing installed
#	pristine.ext4			a disk of that, with an archive of what quickstart.sh installs: there is no network
#	kernel-NAME/{vmlinuz,initrd,release}
#
# Exit status 77, with the reason as the last line: it cannot be made here (no archive, no tools).
set -u
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
top=${here%/tests/vm}
cache=${SPM_VM_CACHE:-${XDG_CACHE_HOME:-/var/cache}/spmfs-vm}
suite=trixie
packages=(autoconf automake busybox-static cxl daxctl e2fsprogs fuse3 gdb iproute2 kmod libdaxctl-dev libndctl-dev
	libnuma-dev libtool ndctl numactl procps qemu-system-x86 strace udev xfsprogs zstd)
# Drivers that the tests load; all of a cloud kernel's modules are there, these have to be.
drivers=(virtio_blk xfs device_dax kmem nd_e820 nfit nd_pmem dax_pmem dax_hmem)

die()
{
	printf 'tests/vm/image.sh: %s\n' "$*" >&2
	exit 1
}

cannot()
{
	printf '%s\n' "$*" >&2
	exit 77
}

# The lists of what building and testing need, in the words of quickstart.sh.
needed_packages()
{
	sed -n '/^build_packages=(/,/)/p; /^test_packages=(/,/)/p' "$top/quickstart.sh"
}

recipe()
{
	{
		sed '/^# ---- the cache/,$d' "$here/image.sh"
		needed_packages
	} | sha256sum | cut -c 1-16
}

# Where this machine gets Debian from.
mirror()
{
	# shellcheck disable=SC2016 # apt's variable
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$'
}

# A command in a tree, with its own mounts and processes; nothing of it is left when it ends.
in_tree()
{
	local tree=$1
	shift
	# shellcheck disable=SC2016 # the inner shell's arguments
	unshare --mount --propagation private --pid --fork --kill-child bash -c '
		set -eu
		tree=$1
		shift
		mount -t proc proc "$tree/proc"
		mount --rbind /dev "$tree/dev"
		mount -t tmpfs none "$tree/run"
		if [ -e /etc/resolv.conf ]; then
			cat /etc/resolv.conf >"$tree/etc/resolv.conf"
		fi
		exec chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
			${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} "$@"
	' - "$tree" "$@" </dev/null
}

make_pristine()
{
	debootstrap --variant=minbase "$suite" "$work/pristine" ${site:+"$site"}
}

make_root()
{
	local -a build_packages test_packages
	eval "$(needed_packages)"
	cp -a --reflink=auto "$work/pristine" "$work/root" || return 1
	# No service is to start, and a tree that is made again after a power failure needs no fsync.
	printf '#!/bin/sh\nexit 101\n' >"$work/root/usr/sbin/policy-rc.d"
	chmod 755 "$work/root/usr/sbin/policy-rc.d"
	echo force-unsafe-io >"$work/root/etc/dpkg/dpkg.cfg.d/spmfs-vm"
	in_tree "$work/root" apt-get install -y --no-install-recommends "${build_packages[@]}" "${test_packages[@]}" &&
		make_archive &&
		in_tree "$work/root" apt-get install -y --no-install-recommends "${packages[@]}" &&
		in_tree "$work/root" apt-get clean
}

# What was downloaded by now, all that somebody needs who has nothing but the release, with an index for apt.
make_archive()
{
	local dir=$work/archive deb
	mkdir "$dir" && mv "$work/root/var/cache/apt/archives"/*.deb "$dir/" || return 1
	for deb in "$dir"/*.deb; do
		dpkg-deb -f "$deb" || return 1
		printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -c %s "$deb")" \
			"$(sha256sum <"$deb" | cut -d ' ' -f 1)"
	done >"$dir/Packages"
}

# Downloads the packages that Debian's metapackage for cloud kernels stands for. Which ones carry kernel and modules
# differs between releases, so all of linux-* that would be installed are taken.
fetch_kernel()
{
	local name=$1 from=$2 dir=$work/root/spm-kernel
	local -a apt=(apt-get -o Dir::State::Lists=/spm-kernel/lists -o Dir::Etc::SourceList=/spm-kernel/list
		-o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root)
	mkdir -p "$dir/lists/partial" "$dir/$name"
	printf 'deb %s %s main\n' "${site:-http://deb.debian.org/debian}" "$from" >"$dir/list"
	[ "$from" = "$suite" ] || printf 'deb %s %s main\n' "${site:-http://deb.debian.org/debian}" "$suite" >>"$dir/list"
	in_tree "$work/root" "${apt[@]}" update || return 1
	in_tree "$work/root" "${apt[@]}" install --print-uris -y -q --no-install-recommends -t "$from" \
		linux-image-cloud-amd64 >"$dir/uris" || return 1
	# 'URI' FILE_VERSION_ARCH.deb SIZE HASH
	sed -nE "s/^'[^']*' (linux-[a-z]+-[0-9][^_]*)_([^_]*)_.*/\1=\2/p" "$dir/uris" | sed 's/%3a/:/' >"$dir/names"
	[ -s "$dir/names" ] || { echo "no kernel in $from"; return 1; }
	# shellcheck disable=SC2046 # a list of names
	in_tree "$work/root" sh -c 'cd "$1" && shift && exec "$@"' - "/spm-kernel/$name" \
		"${apt[@]}" download $(cat "$dir/names")
}

# $1 a driver, $2 a kernel's release: its file, or the word builtin
module_file()
{
	in_tree "$work/root" modprobe -S "$2" --show-depends "$1" | sed -nE 's/^insmod ([^ ]*).*/\1/p; s/^builtin.*/builtin/p' |
		tail -n 1
}

# The first program: it finds the disk, and goes on there.
initrd_init()
{
	cat <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in /modules/*.ko; do /bin/busybox insmod "$m"; done
i=0
until [ -b /dev/vdb ] || [ $i -ge 300 ]; do i=$((i + 1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root && /bin/busybox mount -t ext4 /dev/vdb /root/spm || exec /bin/busybox poweroff -f
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /bin/bash /spm/src/tests/vm/guest.sh
END
}

make_initrd()
{
	local out=$1 release=$2 tree=$work/initrd file
	rm -rf "$tree"
	mkdir -p "$tree"/{bin,dev,root,modules} && cp "$work/root/usr/bin/busybox" "$tree/bin/" || return 1
	initrd_init >"$tree/init" && chmod 755 "$tree/init"
	file=$(module_file virtio_blk "$release")
	case $file in
	builtin) ;;
	*.xz) xz -dc "$work/root$file" >"$tree/modules/virtio_blk.ko" ;;
	*.zst) zstd -qdc "$work/root$file" >"$tree/modules/virtio_blk.ko" ;;
	*) cp "$work/root$file" "$tree/modules/" ;;
	esac || return 1
	(cd "$tree" && find . | "$tree/bin/busybox" cpio -o -H newc) | gzip -1 >"$out"
}

make_kernel()
{
	local name=$1 from=$2 dir=$work/kernel-$1 tree=$work/unpacked deb modules release d
	fetch_kernel "$name" "$from" || return 1
	rm -rf "$tree"
	mkdir -p "$dir" "$tree"
	for deb in "$work/root/spm-kernel/$name"/*.deb; do
		dpkg -x "$deb" "$tree" || return 1
	done
	# The kernel lies in /boot or beside its modules, these in /lib or /usr/lib.
	modules=$(find "$tree" -path '*/lib/modules/*' -name kernel -type d -printf '%h\n' | head -n 1)
	release=${modules##*/}
	find "$tree" -type f -name 'vmlinuz*' -exec mv {} "$dir/vmlinuz" \;
	find "$tree" -type f \( -name "config-$release" -o -path "*/$release/config" \) -exec mv {} "$dir/config" \;
	if [ -z "$release" ] || [ ! -f "$dir/vmlinuz" ]; then
		echo "no kernel among" "$work/root/spm-kernel/$name"/*
		return 1
	fi
	printf '%s\n' "$release" >"$dir/release"
	mkdir -p "$work/root/usr/lib/modules" && cp -a "$modules" "$work/root/usr/lib/modules/" &&
		in_tree "$work/root" depmod "$release" || return 1
	for d in "${drivers[@]}"; do
		[ -n "$(module_file "$d" "$release")" ] || { echo "kernel $release has no driver $d"; return 1; }
	done
	make_initrd "$dir/initrd" "$release" || return 1
	rm -rf "$tree"
}

make_disk()
{
	rm -rf "$work/root/spm-kernel" "$work/root/usr/sbin/policy-rc.d" "$work/initrd"
	mkdir -p "$work/root/spm" "$work/root/out"
	mke2fs -q -t ext4 -O ^has_journal -d "$work/root" "$work/disk.ext4" 4G
}

# All that a new user does not have to bring along is what the machine is run by: a directory for results, one for the sources.
make_pristine_disk()
{
	local tree=$work/pristine-disk
	cp -al "$work/pristine" "$tree" && mv "$work/archive" "$tree/srv/archive" && rm -f "$tree/etc/apt/sources.list" &&
		mkdir -p "$tree/spm" "$tree/out" &&
		echo 'deb [trusted=yes] file:/srv/archive ./' >"$tree/etc/apt/sources.list" &&
		mke2fs -q -t ext4 -O ^has_journal -d "$tree" "$work/pristine.ext4" 4G && rm -rf "$tree"
}

# One step; when the archive is what fails, that is no fault of the project.
step()
{
	local what=$1
	shift
	printf '[%4ds] %s\n' "$SECONDS" "$what" >&2
	"$@" >"$work/log" 2>&1 && return
	tail -n 20 "$work/log" >&2
	! grep -qE 'Failed getting release|Unable to (resolve|connect|fetch)|Could not (resolve|connect)|Failed to fetch' "$work/log" ||
		cannot "the Debian archive cannot be reached: $what"
	die "$what failed"
}

# ---- the cache ----

make_all()
{
	local site
	site=$(mirror)
	work=$cache/making.$key
	rm -rf --one-file-system "$work"
	mkdir -p "$work" || exit 1
	step "debootstrap $suite" make_pristine
	step "packages" make_root
	step "kernel of $suite" make_kernel 6.12 "$suite"
	step "kernel of $suite-backports" make_kernel new "$suite-backports"
	step "disk" make_disk
	step "disk without anything installed" make_pristine_disk
	rm -rf --one-file-system "${cache:?}/$key"
	mv "$work" "$cache/$key"
	find "$cache" -maxdepth 1 -type d \( -name 'making.*' -o -name 'image-*' \) ! -name "$key" -mtime +7 \
		-exec rm -rf --one-file-system {} +
}

[ "$(id -u)" -eq 0 ] || die "run it as root"
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || cannot "the test machine is made for amd64 Debian"
for tool in debootstrap mke2fs zstd xz dpkg; do
	command -v "$tool" >/dev/null || cannot "no $tool here; apt-get install debootstrap e2fsprogs zstd xz-utils"
done
key=image-$(recipe)
mkdir -p "$cache" || exit 1
# Two runs make one image, not two.
exec {lock}>"$cache/lock"
flock -w 1800 "$lock" || die "another run has been making the image for half an hour"
if [ ! -d "$cache/$key" ] || [ "${1:-}" = --refresh ]; then
	make_all
fi
touch "$cache/$key"
printf '%s\n' "$cache/$key"
