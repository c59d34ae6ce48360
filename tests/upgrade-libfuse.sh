#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An upgrade from a server with one libfuse to one with another, and back: both must tell the kernel the same. Run by
# .ci/run, which has the other system:
#
#	bash tests/upgrade-libfuse.sh ROOT BUILD	BUILD, below /tmp, was built in the system at ROOT
set -u
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

root=$1 other=$2
[[ $SPM_TMP/ == /tmp/* && $other/ == /tmp/* ]] || { echo "Bail out! $SPM_TMP and $other have to be below /tmp"; exit 1; }

# spmctl of the other system, run in it: its root, our /run and /tmp.
other_upgrade()
{
	# shellcheck disable=SC2016 # the inner shell's arguments
	unshare --mount --propagation private bash -c '
		set -eu
		mount --bind "$1" "$1"
		for d in proc sys dev run tmp; do
			mount --rbind "/$d" "$1/$d"
		done
		cd "$1"
		pivot_root . mnt
		umount -l /mnt
		exec "$2/spmctl" upgrade --binary "$2/spmfs" "$3"' - "$root" "$other" "$MNT"
}

# What depends on the agreement with the kernel.
works()
{
	local what=$1 mode=mirror
	[ "$(spm_feature direct_supported)" = 0 ] || mode=direct
	says "$what: a mapping of before" a "ok before" get m 0 6
	says "$what: a file that was open before" a "ok before" read f 0 6
	tell b open new rw,creat "$MNT/new-$what"
	tell b trunc new 4096
	is "$what: a new file" "$(file_mode "$MNT/new-$what")" "$mode"
	tell b map "n-$what" new rw shared 0 4096
	says "$what: its mapping" b ok put "n-$what" 0 "$what"
	says "$what: what is read" b "ok $what" read new 0 ${#what}
	tell b close new
	says "$what: a file without a name" b ok open none rw,tmpfile "$MNT"
	tell b close none
	is "$what: a long listing" "$(find "$MNT" -maxdepth 1 -name 'many*' | wc -l)" 300
	is "$what: times in nanoseconds, set by the client" \
		"$(touch -d '2001-02-03 04:05:06.789012345' "$MNT/open" && stat -c %y "$MNT/open" | cut -c 1-29)" \
		"2001-02-03 04:05:06.789012345"
	is "$what: no restart" "$(spm_feature worker_restarts)" 0
}

spm_need_mount mem:128M name=across,map=direct
ours=$(spm_feature libfuse)
diag "ours: libfuse $ours"
actor a
actor b
tell a open f rw,creat "$MNT/open"
tell a trunc f 4096
tell a map m f rw shared 0 4096
says "a file that is open and mapped" a ok put m 0 before
for i in $(seq 300); do
	: >"$MNT/many$i"
done
works ours
ok "an upgrade to the other one" other_upgrade
diag "$(cat "$SPM_TMP/out")"
theirs=$(spm_feature libfuse)
diag "theirs: libfuse $theirs"
ok "which has another libfuse" [ "$theirs" != "$ours" ]
works theirs
kill -KILL "$(spm_server_pid)"
ok "its worker is followed by another" wait_until 10 eval '[ "$(spm_feature worker_restarts)" = 1 ]'
is "of the same program" "$(spm_feature libfuse)" "$theirs"
ok "and back" "$SPMCTL" upgrade --binary "$SPMFS" "$MNT"
is "it is ours again" "$(spm_feature libfuse)" "$ours"
says "a mapping of before" a "ok before" get m 0 6
spm_done
