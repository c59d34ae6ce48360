#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The namespace inside a slice, while another one holds what is not guaranteed: what tmpfs does, spmfs does.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

all()
{
	spm_fresh mem:640M "map=$1,commit=lazy"
	made s min=512M max=512M
	made other
	head -c 640M /dev/zero >"$MNT/other/f" 2>/dev/null
	leaves_nothing "$MNT/s"
	deviations "$1"
	conform "$MNT/s" -b "${SPM_NS_ENTRIES:-2000}"
	leaves_nothing "$MNT/s"
	unset "NS_USED[$MNT/s]"
	is "map=$1: no worker died" "$(spm_feature worker_restarts)" 0
	account "map=$1"
	ok "map=$1: remove" wait_until 10 slice remove s force
}

all direct
all mirror
spm_done
