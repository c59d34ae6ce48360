#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bind mounts of slices into sandboxes that a user without rights makes, by bubblewrap.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../containers.sh
. "$(dirname "$0")/../containers.sh"

command -v bwrap >/dev/null || skip_all "no bwrap here: apt-get install bubblewrap"

in_bwrap()
{
	local slice=$1 bind=--bind link
	local -a links=()
	[ "$2" = rw ] || bind=--ro-bind
	shift 2
	for link in "$ROOTFS"/*; do
		[ ! -L "$link" ] || links+=(--symlink "$(readlink "$link")" "/${link##*/}")
	done
	as "$USER_A" bwrap --unshare-all --die-with-parent --ro-bind /usr /usr "${links[@]}" --ro-bind "$BIN" "$BIN" \
		--proc /proc --dev /dev "$bind" "$MNT/$slice" /spm "$@"
}

as "$USER_A" unshare -Urm true 2>/dev/null || skip_all "users may not make user namespaces here"
spm_need_mount mem:128M map=direct
make_slice one max=32M "uid=$USER_A" "gid=$USER_A"
make_slice two max=16M "uid=$USER_A" "gid=$USER_A"
make_slice foreign mode=0700
in_bwrap one rw true 2>"$SPM_TMP/out" || { fail "bwrap runs here" "$(cat "$SPM_TMP/out")"; exit 1; }
containers_cases in_bwrap "$USER_A"

# ---- what the sandbox's user cannot do ----

like "g: not the slice of another" "$(in_bwrap foreign rw ls /spm 2>&1)" "Permission denied"
like "g: limits that were not delegated cannot be written" "$(in_bwrap one rw bash -c 'echo 1M >/spm/.spm/max' 2>&1)" \
	"Permission denied"
# shellcheck disable=SC2016 # the inner shell's
try='for f in /spm/../.spm/features /spm/.spm/slice /run/spmfs /dev/fuse; do [ ! -e $f ] || echo "$f is there"; done
	grep -c " - fuse.spmfs " /proc/self/mountinfo; umount /spm 2>/dev/null && echo unmounted; "$0" handle /spm 1; echo end'
is "g: nor is there a way to the rest" "$(in_bwrap one rw bash -c "$try" "$SPMT" | tr '\n' ' ')" "1 err EPERM end "
# Root of a user namespace, with all capabilities in it.
is "g: nor with what can be had in a user namespace" "$(in_bwrap one rw unshare -Urm bash -c "$try" "$SPMT" | tr '\n' ' ')" \
	"1 err EPERM end "
make_slice web max=16M "uid=$USER_A"
bwrap()
{
	as "$USER_A" bwrap "$@"
}
documented bwrap
spm_done
