#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Law 3 under load: eight processes work while the worker is killed 500 times in 60 s, and nobody notices but by the
# clock. Environment: SPM_KILL_SECONDS, SPM_KILLS (make soak sets them), SPM_KILL_ARGS (as -r SEED).
set -u
SPM_LIMIT=$((3 * ${SPM_KILL_SECONDS:-60} + 240))
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../killing.sh
. "$top_srcdir/tests/killing.sh"

seconds=${SPM_KILL_SECONDS:-$(spm_less 60)}
# a server that is slowed down by a sanitizer takes longer to start
kills=${SPM_KILLS:-$((seconds * 25 / 3 / (SPM_FACTOR > 1 ? 4 * SPM_FACTOR : 1)))}

kill_mount map=direct
# shellcheck disable=SC2086
killed "worker killed $kills times in $seconds s" -s "$seconds" -k "$kills" ${SPM_KILL_ARGS:-}
ok "at least nine of ten kills were done" [ "$(figure events)" -ge $((kills * 9 / 10)) ]
is "restarts that the keeper counted" "$(spm_feature worker_restarts)" "$(figure deaths)"
ok "no call took longer than 10 s" awk "BEGIN { exit !($(figure stall_longest_ms) < 10000 * $SPM_FACTOR) }"
kill_leaves_nothing "after the run"
spm_done
