#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Clients in each other's way: modes that change under writers, writes that wait for the server (tests/progs/races.c).
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

races=$top_builddir/tests/progs/races

for options in commit=eager commit=lazy size=64M; do
	spm_need_mount mem:128M "$options"
	ok "$options: no acknowledged write is lost while modes change" timeout 60 "$races" modes "$MNT" "${SPM_RACE_SECONDS:-$(spm_less 5)}"
	rm -f "$MNT"/*
	ok "$options: writes that fault on a mirror hold nobody up" timeout 60 "$races" fault "$MNT" "${SPM_RACE_SECONDS:-$(spm_less 5)}"
	rm -f "$MNT"/*
	spm_umount
done
spm_done
