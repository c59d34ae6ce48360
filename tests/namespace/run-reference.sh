#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The checks themselves, on plain tmpfs: what tmpfs does is right, so all of them pass, with any size of page.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

reference()
{
	local dir=$SPM_TMP/$1
	mkdir "$dir"
	mount -t tmpfs -o "$2" spm-reference "$dir" || { fail "mount tmpfs -o $2"; return; }
	diag "tmpfs with $2"
	leaves_nothing "$dir"
	conform "$dir" "${@:3}"
	leaves_nothing "$dir"
	umount "$dir"
}

reference small size=512M,huge=within_size -b "${SPM_NS_ENTRIES:-20000}"
reference full size=8M,nr_inodes=300 -g full
if [ -n "${SPM_LONG:-}" ]; then
	reference never size=1G -b 100000
fi
spm_done
