#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every command in README.md works. The blocks marked sh run in their order, each line as it stands, in a
# namespace with an empty directory at /spm and with this build's programs in place of installed ones. Calls of
# quickstart.sh, which install packages, are CI's part: here it is checked that CI makes every one of them.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../sbin.sh
. "$(dirname "$0")/../sbin.sh"

readme=$top_srcdir/README.md

# Only what stands between ```sh and ```, one command a line.
commands()
{
	awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside && NF' "$readme"
}

ok "programs where mount(8) and a shell find them" spm_fake_sbin
mkdir "$SPM_TMP/bin"
ln -s "$SPMCTL" "$SPM_TMP/bin/spmctl"
PATH=$SPM_TMP/bin:$PATH
# The README's /spm, also where somebody has one: what is there is covered, in this namespace only.
[ -d /spm ] || { mkdir /spm && at_exit rmdir /spm; }
mkdir "$SPM_TMP/spm"
ok "a place for /spm" mount --bind "$SPM_TMP/spm" /spm
at_exit umount /spm
# Its swap files, in a directory that stays if it was there.
[ -d /var/lib/spmfs ] || at_exit rmdir /var/lib/spmfs

n=0
mapfile -t lines < <(commands)
for line in "${lines[@]}"; do
	case $line in
	*quickstart.sh*)
		read -r call <<<"${line##*quickstart.sh}"
		ok "CI runs: ${line#sudo }" \
			grep -qxE "[^#]*\./quickstart\.sh${call:+ $call}( .*)?" "$top_srcdir/.ci/run"
		;;
	./autogen.sh | *"../configure"* | make | "mkdir -p build && cd build")
		# The build that this test is a part of; distcheck in CI does the same from a release.
		ok "the build has what this makes: $line" test -x "$SPMFS" -a -f "$top_builddir/config.status"
		;;
	*)
		ok "$line" bash -c "$line"
		n=$((n + 1))
		;;
	esac
done
is "commands were found and run" "$((n >= 12))" 1
ok "the last one left no server" wait_until 10 spm_no_servers
spm_done
