#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# README's two commands, as a new user types them, and the third that undoes them. Layout pristine: on Debian 13 with nothing
# installed, from the sources, which takes an hour under emulation; elsewhere quickstart.sh finds its packages, and what the
# machine's tree was built to. Of all tests the second command runs one, named by TEST_ARGS.
set -u
SPM_NO_SANDBOX=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

export CONFIGURE_ARGS=--enable-werror TEST_ARGS=TESTS=tests/integration/mount-basic.sh
proof='([0-9]+) of ([0-9]+) mapped pages are the device.s own, ([0-9]+) of them the page frames'
pristine=$([ "${SPM_VM_LAYOUT:-}" != pristine ] || echo 1)
clone=$top_srcdir dir=$SPM_TMP/spm where=("$SPM_TMP/spm")
state=/var/lib/spmfs-quickstart

installed()
{
	find /usr/local /usr/sbin -name '*spm*' | sort
}

# $1 what, $2 file: runs it, and its output is for all to see when it fails
runs()
{
	local rc
	"${@:3}" >"$2" 2>&1 </dev/null
	rc=$?
	[ $rc -eq 0 ] || diag "$(tail -n 30 "$2")"
	is "$1" "$rc" 0
}

[ ! -e $state ] || skip_all "quickstart.sh was run here already"
installed >"$SPM_TMP/before"
is "nothing of it is installed" "$(cat "$SPM_TMP/before")" ""
if [ -n "$pristine" ]; then
	is "nor a compiler" "$(type -P gcc cc make)" ""
	clone=/root/spmfs dir=/spm where=()
	unset CONFIGURE_ARGS
	mkdir $clone
	ok "a clone" eval 'tar -C "$top_srcdir" --null -T "$top_srcdir/../files" -cf - | tar -C $clone -xf -'
	# the tree's disk is where README mounts
	mkdir /mnt/tree
	cd $clone || exit 1
	ok "its place is free" mount --move /spm /mnt/tree
fi
cd "$clone" || exit 1

first=$SPM_TMP/first
runs "sudo ./quickstart.sh" "$first" ./quickstart.sh "${where[@]}"
diag "after $SECONDS s: $(cat "$first")"
like "a user maps the device's own pages" "$(cat "$first")" "$proof"
[[ $(cat "$first") =~ $proof ]]
is "all of them, by their frames" "${BASH_REMATCH[1]:-none} ${BASH_REMATCH[3]:-none}" "${BASH_REMATCH[2]:-} ${BASH_REMATCH[2]:-}"
like "and another may not" "$(cat "$first")" "Permission denied"
is "it is mounted" "$(findmnt -rno FSTYPE -M "$dir")" fuse.spmfs
is "on 30 lines" "$([ "$(wc -l <"$first")" -le 30 ] && echo yes)" yes
ok "the manual is there" test -s /usr/local/share/man/man8/spmfs.8
runs "again" "$SPM_TMP/again" ./quickstart.sh "${where[@]}"
like "changes nothing" "$(cat "$SPM_TMP/again")" "was mounted already and stays"
diag "after $SECONDS s"

runs "sudo ./quickstart.sh check" "$SPM_TMP/check" ./quickstart.sh check
diag "after $SECONDS s: $(tail -n 5 "$SPM_TMP/check")"
like "all of its tests pass" "$(tail -n 1 "$SPM_TMP/check")" '^[1-9][0-9]+ passed, 0 failed, 0 skipped$'

runs "sudo ./quickstart.sh remove" "$SPM_TMP/remove" ./quickstart.sh remove
is "nothing of it is left" "$(installed)" ""
is "nor mounted" "$(findmnt -rno TARGET -t fuse.spmfs)" ""
is "nor noted" "$(ls -d $state 2>/dev/null)" ""
is "nor running" "$(find /proc -maxdepth 2 -name exe -lname '*spmfs*' 2>/dev/null)" ""
runs "once more" "$SPM_TMP/nothing" ./quickstart.sh remove
is "finds nothing to do" "$(cat "$SPM_TMP/nothing")" "There is nothing to undo."
diag "after $SECONDS s"
spm_done
