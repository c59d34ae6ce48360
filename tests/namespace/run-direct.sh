#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The namespace with direct mappings and tmpfs's own way of allocation: what tmpfs does, spmfs does.
set -u
SPM_LIMIT=${SPM_LIMIT:-300}
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

spm_need_mount mem:512M map=direct,commit=lazy
leaves_nothing "$MNT"
deviations direct
conform "$MNT" -b "${SPM_NS_ENTRIES:-20000}"
leaves_nothing "$MNT"
spm_done
