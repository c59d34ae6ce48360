#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The same with memory committed when a file gets its size (the default), except what sparse files are about.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

spm_need_mount mem:512M map=direct,commit=eager
leaves_nothing "$MNT"
deviations direct
conform "$MNT" -x "*/sparse_*" -b "${SPM_NS_ENTRIES:-3000}"
leaves_nothing "$MNT"
ok "a file larger than the device is refused at once" \
	eval "! truncate -s 600M \"\$MNT/large\" 2>/dev/null && [ \"\$(stat -c %s \"\$MNT/large\")\" = 0 ]"
rm -f "$MNT/large"
leaves_nothing "$MNT"
spm_done
