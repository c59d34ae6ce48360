#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bind mounts of slices into containers of systemd-nspawn.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../containers.sh
. "$(dirname "$0")/../containers.sh"

command -v systemd-nspawn >/dev/null || skip_all "no systemd-nspawn here: apt-get install systemd-container"

# nspawn ARGS... -- COMMAND...: a container in which /sbin/init is not run
nspawn()
{
	local -a args=()
	local root
	while [ "$1" != -- ]; do
		args+=("$1")
		shift
	done
	shift
	# a directory can be the root of one container at a time
	mkdir -p "$SPM_TMP/roots"
	root=$(mktemp -d "$SPM_TMP/roots/XXXXXX") && cp -a "$ROOTFS/." "$root/"
	containers_own_cgroup || exit 1
	exec systemd-nspawn -q -D "$root" --bind-ro=/usr --bind-ro="$BIN" --register=no --keep-unit --as-pid2 --pipe \
		--setenv=ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0 "${args[@]}" "$@"
}

in_nspawn()
{
	local slice=$1 bind=--bind
	[ "$2" = rw ] || bind=--bind-ro
	shift 2
	(nspawn "$bind=$MNT/$slice:/spm" -- "$@")
}

at_exit containers_end
spm_need_mount mem:128M map=direct
make_slice one max=32M
make_slice two max=16M
make_slice mine max=16M uid=100000 gid=100000
if ! in_nspawn one rw true 2>"$SPM_TMP/out"; then
	fail "systemd-nspawn runs a container here" "$(cat "$SPM_TMP/out")"
	exit 1
fi
containers_cases in_nspawn 0

in_userns()
{
	(nspawn --private-users=100000:65536 "$@")
}
is "b: the slice of a container's root" "$(in_userns "--bind=$MNT/mine:/spm" -- bash -c 'cd /spm && touch f && stat -c %u . f' 2>&1 |
	tr '\n' ' ')" "0 0 "
is "b: is the mapped user's outside" "$(stat -c %u "$MNT/mine/f")" 100000
if [ "$(spm_feature idmap)" = on ]; then
	is "b: idmapped, owners are the same on both sides" "$(in_userns "--bind=$MNT/one:/spm:idmap" -- \
		bash -c 'cd /spm && touch new && chown 1000 new && stat -c %u f new' 2>&1 | tr '\n' ' ') $(stat -c %u "$MNT/one/new")" \
		"0 1000  1000"
else
	fails "b: idmapped: refused by this kernel" in_userns "--bind=$MNT/one:/spm:idmap" -- true
fi
# ---- the man page ----

make_slice web max=32M
ROOT=$ROOTFS
systemd-nspawn()
{
	(
		containers_own_cgroup || exit 1
		command systemd-nspawn -q --bind-ro=/usr --register=no --keep-unit --as-pid2 --pipe "$@"
	)
}
if [ "$(spm_feature idmap)" = on ]; then
	documented systemd-nspawn
else
	skip "as documented: systemd-nspawn" "a part needs idmapped mounts, Linux 6.12"
fi
ok "no control group is left" wait_until 10 containers_no_cgroup
spm_done
