#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The last byte and the last inode.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

full()
{
	spm_fresh mem:64M "size=8M,nr_inodes=300,$1"
	diag "$1"
	leaves_nothing "$MNT"
	deviations "${1:4:6}"
	conform "$MNT" -g full "${@:2}"
	leaves_nothing "$MNT"
	unset "NS_USED[$MNT]"
}

full map=direct,commit=lazy
full map=direct,commit=eager -x "*/sparse_*"
full map=mirror
spm_done
