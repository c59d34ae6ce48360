#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Mounts that follow each other closely. The kernel gives the device number of a mount that has ended to the
# next one of any kind: a server that still cleans up must not take that one for its own.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

d=$SPM_TMP/again
mkdir "$d" "$SPM_TMP/tmpfs"
lost=0 failed=0 other=0
for ((i = 0; i < 40; i++)); do
	"$SPMFS" mem:16M "$d" >>"$SPM_TMP/said" 2>&1 || failed=$((failed + 1))
	echo x >"$d/f" 2>/dev/null && [ -e "$d/.spm/stat" ] || lost=$((lost + 1))
	umount "$d" 2>/dev/null
	rm -f "$d/f"
done
is "40 mounts, each right after the umount of the last: none fails" "$failed $(cat "$SPM_TMP/said")" "0 "
is "none disappears" "$lost" 0
ok "all servers ended" wait_until 10 spm_no_servers

for ((i = 0; i < 20; i++)); do
	"$SPMFS" mem:16M "$d" || failed=$((failed + 1))
	umount "$d"
	for j in 1 2 3 4; do
		mkdir -p "$SPM_TMP/tmpfs/$j"
		mount -t tmpfs spm-test-again "$SPM_TMP/tmpfs/$j"
	done
	wait_until 5 spm_no_servers
	for j in 1 2 3 4; do
		umount "$SPM_TMP/tmpfs/$j" 2>/dev/null || other=$((other + 1))
	done
done
is "a tmpfs that somebody mounts right after an umount stays" "$failed $other" "0 0"

# Five at once, up and down.
for ((i = 0; i < 5; i++)); do
	mkdir "$SPM_TMP/par$i"
	"$SPMFS" mem:16M "$SPM_TMP/par$i" &
	pids[i]=$!
done
failed=0
for ((i = 0; i < 5; i++)); do
	wait "${pids[i]}" || failed=$((failed + 1))
	echo "$i" >"$SPM_TMP/par$i/f"
done
is "five mounts at the same time" "$failed $(cat "$SPM_TMP"/par?/f | tr '\n' ' ')" "0 0 1 2 3 4 "
for ((i = 0; i < 5; i++)); do
	umount "$SPM_TMP/par$i" &
	pids[i]=$!
done
for ((i = 0; i < 5; i++)); do
	wait "${pids[i]}" || failed=$((failed + 1))
done
is "five umounts at the same time" "$failed" 0
ok "all servers ended" wait_until 10 spm_no_servers

spm_done
