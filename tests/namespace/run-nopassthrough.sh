#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The namespace on a kernel without passthrough (simulated): everything is a mirror.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

spm_need_mount mem:512M nopassthrough
leaves_nothing "$MNT"
deviations mirror
conform "$MNT" -b "${SPM_NS_ENTRIES:-3000}"
leaves_nothing "$MNT"
spm_done
