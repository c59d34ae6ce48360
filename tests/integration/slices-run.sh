#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices made, changed, filled, evicted and removed at random, by several processes: list, df and stat agree with a model
# after each step. Environment: SPM_SLICE_SECONDS (4), SPM_SLICE_ARGS (as -r SEED).
set -u
SPM_LIMIT=$((4 * ${SPM_SLICE_SECONDS:-4} + 120))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

spm_need_mount mem:64M
slice_run "without swap"
killer_start
slice_run "without swap, and deaths"
KILLED=0
swap_mount mem:64M 256M map=auto
slice_run swap --swap
swap_mount mem:64M 256M map=auto
killer_start
slice_run "swap, and deaths" --swap
is "no extent was unreadable" "$(spm_stat swap_errors)" 0
spm_done
