#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs a command in the test machine: Debian 13 with Debian's kernel and the devices of a layout, under emulation. The
# command finds this tree, built there, in top_srcdir and top_builddir, where it starts; it is root, without a network.
#
#	bash tests/vm/run.sh [OPTION...] COMMAND [ARGUMENT...]
#	bash tests/vm/run.sh --layout node bash ../src/tests/vm/node-place.sh
#
#	--kernel 6.12|new	Debian 13's (default), or the newest of its backports
#	--layout NAME		devices; the names are in tests/vm/layouts.sh (default: plain)
#	--limit SECONDS		a machine that runs for longer is killed (default: 300)
#	--out DIR		what the command leaves in /out goes there (default: nowhere)
#	--env NAME=VALUE	for the command; may be repeated
#	--console		show the kernel's messages at the end in any case
#
# Its output comes as it is written, and its exit status is that of this program; but 77: there can be no machine here
# (the reason is the last line of stderr), 124: killed after the limit, 125: the machine went down under it. Then the end
# of its console is shown. Only where the emulator itself has failed it is tried once more, and that is said.
#
# Environment: SPM_VM_CACHE (tests/vm/image.sh), SPM_VM_ACCEL (tcg,thread=multi), SPM_VM_QEMU: the emulator; without it this
# machine's qemu-system-x86_64, or that of the image if there is none, or for a layout that needs a newer one.
# One machine runs at a time for each cache: the others wait.
set -u
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=layouts.sh
. "$here/layouts.sh"
kernel=6.12 layout=plain limit=300 out='' console='' environment=()
qemu=("${SPM_VM_QEMU:-qemu-system-x86_64}")

usage()
{
	sed -n 's/^#\t//p' "$here/run.sh" >&2
	exit 1
}

die()
{
	printf 'tests/vm/run.sh: %s\n' "$*" >&2
	exit 125
}

cannot()
{
	printf '%s\n' "$*" >&2
	exit 77
}

while [ $# -gt 0 ]; do
	case $1 in
	--kernel | --layout | --limit | --out | --env) [ $# -ge 2 ] || usage ;;&
	--kernel) kernel=$2 && shift ;;
	--layout) layout=$2 && shift ;;
	--limit) limit=$2 && shift ;;
	--out) out=$2 && shift ;;
	--env) environment+=("$2") && shift ;;
	--console) console=1 ;;
	--) shift && break ;;
	-*) usage ;;
	*) break ;;
	esac
	shift
done
[ $# -gt 0 ] || usage
[[ $kernel == 6.12 || $kernel == new ]] || { echo "tests/vm/run.sh: no kernel $kernel; 6.12 or new" >&2 && exit 1; }
type "layout_$layout" >/dev/null 2>&1 || { echo "tests/vm/run.sh: no layout $layout; one of: $LAYOUTS" >&2 && exit 1; }

# The reason why there can be no machine is the last line of either.
image=$(bash "$here/image.sh")
rc=$?
[ $rc != 77 ] || exit 77
[ $rc = 0 ] || die "no image"
[ -n "${SPM_VM_QEMU:-}" ] || command -v "${qemu[0]}" >/dev/null || qemu_of_image
command -v "${qemu[0]}" >/dev/null || cannot "no ${qemu[0]} here (SPM_VM_QEMU)"
disk=$(bash "$here/tree.sh" "$image") || die "no tree to run"
work=$(mktemp -d "${TMPDIR:-/tmp}/spmfs-vm.XXXXXX") || exit 125
pid=
# The machine ends with the shell, however that ends.
trap '[ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP

# That of Debian 13, with the libraries that lie beside it.
qemu_of_image()
{
	local root=$image/root
	qemu=("$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu"
		"$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios")
	export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu
}

# For a layout that needs this version.
need_qemu()
{
	local major
	major=$("${qemu[@]}" --version | sed -nE '1s/.*version ([0-9]+)\..*/\1/p')
	[ "${major:-0}" -lt "$1" ] || return 0
	[ -z "${SPM_VM_QEMU:-}" ] || cannot "layout $layout needs qemu $1 or later, SPM_VM_QEMU is $("${qemu[0]}" --version | head -n 1)"
	qemu_of_image
}

# What the machine gets as one disk, a tar, and overwrites with its results.
make_exchange()
{
	mkdir "$work/job" &&
		printf '%q ' "$@" >"$work/job/job" &&
		{
			printf 'export top_srcdir=/spm/src top_builddir=/spm/build SPM_FACTOR=%q SPM_VM_KERNEL=%q SPM_VM_LAYOUT=%q OUT=/out\n' \
				"${SPM_VM_FACTOR:-8}" "$kernel" "$layout"
			[ ${#environment[@]} -eq 0 ] || printf 'export %q\n' "${environment[@]}"
		} >"$work/job/environment" &&
		tar -C "$work/job" -cf "$work/exchange" . && truncate -s 512M "$work/exchange"
}

# Sets rc to the command's status, or to 124, 125. The machine's console is in $work/console.
boot()
{
	local -a machine=() append=()
	local system=disk
	"layout_$layout" || exit
	timeout -k 5 "$limit" "${qemu[@]}" -nodefaults -no-user-config -display none -no-reboot -accel "${SPM_VM_ACCEL:-tcg,thread=multi}" \
		-smp 2 "${machine[@]}" \
		-kernel "$image/kernel-$kernel/vmlinuz" -initrd "$image/kernel-$kernel/initrd" \
		-append "console=ttyS0 loglevel=6 panic=-1 memhp_default_state=offline mitigations=off tsc=reliable no_timer_check ${append[*]}" \
		-drive "file=$image/$system.ext4,format=raw,if=none,id=root,snapshot=on" -device "virtio-blk-pci,drive=root,bus=pcie.0,addr=0x10" \
		-drive "file=$disk,format=raw,if=none,id=tree,snapshot=on" -device "virtio-blk-pci,drive=tree,bus=pcie.0,addr=0x11" \
		-drive "file=$work/exchange,format=raw,if=none,id=exchange,cache=unsafe" \
		-device "virtio-blk-pci,drive=exchange,bus=pcie.0,addr=0x12" \
		-serial "file:$work/console" -chardev stdio,id=job,signal=off -serial chardev:job \
		2>"$work/qemu" </dev/null &
	pid=$!
	wait "$pid"
	ended=$?
	pid=
	mkdir -p "$work/results"
	rm -f "$work/results/.status"
	tar -C "$work/results" -xf "$work/exchange" 2>/dev/null
	rc=$(cat "$work/results/.status" 2>/dev/null) && return
	rc=125
	[ "$ended" -ne 124 ] && [ "$ended" -ne 137 ] || rc=124
}

emulator_died()
{
	[ "$rc" = 125 ] && { [ "$ended" -gt 128 ] || grep -qE 'double fault|qemu: fatal' "$work/console" "$work/qemu"; }
}

mkdir -p "${image%/*}"
exec {lock}>>"${image%/*}/vm.lock"
# check.sh --together has it, for all of its machines
[ -n "${SPM_VM_LOCKED:-}" ] || flock -n "$lock" || { echo "tests/vm/run.sh: waiting for another machine to end" >&2 && flock "$lock"; }
for try in 1 2; do
	make_exchange "$@" || die "cannot write to $work"
	boot
	emulator_died || break
	[ "$try" = 2 ] || echo "tests/vm/run.sh: the emulator died ($(tail -n 1 "$work/qemu")); once more" >&2
done
if [ "$rc" = 124 ] || [ "$rc" = 125 ] || [ -n "$console" ]; then
	{
		[ "$rc" != 124 ] || echo "tests/vm/run.sh: killed after $limit s (kernel $kernel, layout $layout); its console:"
		[ "$rc" != 125 ] || echo "tests/vm/run.sh: the machine went down (kernel $kernel, layout $layout); its console:"
		cat "$work/qemu"
		tail -n "$([ -n "$console" ] && echo 2000 || echo 60)" "$work/console" | tr -d '\r'
	} >&2
fi
if [ -n "$out" ]; then
	mkdir -p "$out" && cp -a "$work/results/." "$out/" && tr -d '\r' <"$work/console" >"$out/.console"
fi
exit "$rc"
