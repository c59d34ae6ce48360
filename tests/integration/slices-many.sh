#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 1,000 slices on one mount: no thread for each, little memory, and a mount that finds them all is there soon.
# Environment: SPM_SLICES (1000).
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

n=${SPM_SLICES:-1000}

# each VERB WORDS...: of all slices
each()
{
	local verb=$1 i
	shift
	for ((i = 0; i < n; i++)); do
		slice "$verb" "s$i" "$@" || return 1
	done
}

threads()
{
	find "/proc/$(spm_server_pid)/task" -mindepth 1 -maxdepth 1 | wc -l
}

memory()
{
	awk '/^VmRSS/ { print $2 }' "/proc/$(spm_server_pid)/status"
}

lines()
{
	grep -cE '^s[0-9]+ id=[0-9]+ .* delegate=0$' "$MNT/.spm/slices"
}

all_there()
{
	is "$1: the list has all of them, and each line is whole" "$(lines) $(wc -l <"$MNT/.spm/slices")" "$n $n"
	is "$1: all have a number of their own" "$(sed 's/.* id=\([0-9]*\) .*/\1/' "$MNT/.spm/slices" | sort -u | wc -l)" "$n"
	is "$1: so have their directories" "$(find "$MNT" -mindepth 1 -maxdepth 1 -printf '%i\n' | sort -u | wc -l)" "$n"
	is "$1: a file in one of them" "$(cat "$MNT/s$((n - 1))/f")" content
	account "$1"
}

spm_need_mount mem:512M keep,name=many
echo x >"$MNT/f" && rm "$MNT/f"
had=$(memory)
threads_had=$(threads)
ok "$n are made" each create max=64M
now=$(memory)
# (a sanitizer keeps more of each; serving threads come and go with what there is to do)
ok "memory of each: $(((now - had) * 1024 / n)) bytes" [ $(((now - had) / n)) -le $((16 * SPM_FACTOR)) ]
ok "threads: $threads_had, $(threads)" [ "$(threads)" -le $((threads_had + 20)) ]
echo content >"$MNT/s$((n - 1))/f"
all_there "made"
pid=$(spm_server_pid)
kill -KILL "$pid"
all_there "after a death"
ok "umount" spm_umount
start=$(spm_now_ms)
ok "mount" spm_mount mem:512M keep,name=many
ok "it took $(($(spm_now_ms) - start)) ms" [ $(($(spm_now_ms) - start)) -le $((10000 * SPM_FACTOR)) ]
all_there "kept"
ok "all are removed" each remove force
is "nothing is left" "$(cat "$MNT/.spm/slices"; ls "$MNT")" ""
spm_umount
# without keep: its memory goes
spm_mount mem:512M name=many
spm_done
