#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# spmctl: what it says is what is there, in JSON with the keys that scripts rely on, and its exit status.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

command -v jq >/dev/null || skip_all "no jq here"

# jq on what spmctl prints; also checks that it is JSON at all.
json()
{
	local filter=$1
	shift
	"$SPMCTL" "$@" 2>"$SPM_TMP/err" | jq -r "$filter"
}

status_is()
{
	local desc=$1 want=$2 rc
	shift 2
	"$SPMCTL" "$@" >"$SPM_TMP/out" 2>"$SPM_TMP/err"
	rc=$?
	if [ $rc -ne "$want" ]; then
		fail "$desc" "spmctl $*: status $rc, wanted $want: $(cat "$SPM_TMP/err")"
	elif [ "$want" -ne 0 ] && [ "$(wc -l <"$SPM_TMP/err")" -ne 1 ]; then
		fail "$desc" "spmctl $*: one line on stderr was wanted: $(cat "$SPM_TMP/err")"
	elif [ "$want" -eq 2 ] && [ -s "$SPM_TMP/out" ]; then
		fail "$desc" "spmctl $*: wrong usage has no result, but: $(cat "$SPM_TMP/out")"
	elif [ "$want" -eq 0 ] && [ -s "$SPM_TMP/err" ]; then
		fail "$desc" "spmctl $*: it complains: $(cat "$SPM_TMP/err")"
	else
		pass "$desc"
	fi
}

status_is "status without a mount" 0 status --json
is "is a list without us" "$(json '.[].mountpoint' status --json | grep -c "^$SPM_TMP/")" 0

spm_need_mount mem:64M map=direct,name=first
keys="source name version device_bytes resident_bytes free_bytes pinned_bytes swapped_bytes swap_bytes
	swap_used_bytes swapout_bytes swapin_bytes swap_errors keeper_pid worker_pid worker_restarts
	direct_supported isolation foreign_bytes bad_bytes retired_bytes drain"
status_is "status MOUNTPOINT" 0 status "$MNT"
status_is "status --json MOUNTPOINT" 0 status --json "$MNT"
is "one object" "$(json type status --json "$MNT")" object
for key in $keys; do
	is "with $key" "$(json "has(\"$key\") and .$key != null" status --json "$MNT")" true
done
is "and no other" "$(json 'keys | join(" ")' status --json "$MNT")" \
	"$(tr -s '[:space:]' '\n' <<<"$keys" | sort | xargs)"
numbers='[.device_bytes, .free_bytes, .keeper_pid, .worker_pid, .worker_restarts | type] | unique | join(" ")'
is "sizes and pids are numbers" "$(json "$numbers" status --json "$MNT")" number
is "direct_supported is a boolean" "$(json '.direct_supported | type' status --json "$MNT")" boolean
is "source, name and size" "$(json '"\(.source) \(.name) \(.device_bytes)"' status --json "$MNT")" \
	"mem:64M first 67108864"
is "the pid is the server's" "$(json .worker_pid status --json "$MNT")" "$(spm_server_pid)"
is "it agrees with .spm/stat" "$(json .free_bytes status --json "$MNT")" "$(spm_stat free_bytes)"
like "-u: units" "$("$SPMCTL" status -u "$MNT")" '64M'

mkdir "$MNT/dir"
head -c 3M /dev/zero >"$MNT/dir/three"
truncate -s 8M "$MNT/eight"
head -c 8M /dev/zero | dd of="$MNT/eight" bs=1M conv=notrunc status=none
ln -s eight "$MNT/link"
mkfifo "$MNT/dir/fifo"
touch "$MNT/dir/"$'odd\nname "quoted"'
status_is "files PATH" 0 files "$MNT"
is "files --json: a list" "$(json type files --json "$MNT/eight")" array
is "one file, one element" "$(json length files --json "$MNT/eight")" 1
is "its keys" "$(json '.[0] | keys | join(" ")' files --json "$MNT/eight")" \
	"huge_bytes mode path resident_bytes size swapped_bytes"
is "its size" "$(json '.[0].size' files --json "$MNT/eight")" 8388608
paths='[.[].path] | sort | map(@json) | join(" ")'
is "a directory: all regular files below" "$(json "$paths" files --json "$MNT")" \
	"\"$MNT/dir/odd\\nname \\\"quoted\\\"\" \"$MNT/dir/three\" \"$MNT/eight\""
is "nobody has them open" "$(json '[.[].mode] | unique | join(" ")' files --json "$MNT")" idle
actor a
tell a open f rw "$MNT/eight"
is "an open file says direct" "$(json '.[0].mode' files --json "$MNT/eight")" direct
tell a map m f rw shared 0 8M
tell a close f
is "a mapped one as well" "$(json '.[0].mode' files --json "$MNT/eight")" direct
tell a put m 0 x
like "its huge pages are counted" "$(json '.[0].huge_bytes' files --json "$MNT/eight")" '^8388608$'
actor_end a
like "an empty directory: an empty list" "$(mkdir "$MNT/empty"; json length files --json "$MNT/empty")" '^0$'
ok "a user may look, too" as "$USER_A" "$SPMCTL" files "$MNT/eight"

# Two mounts, and a list.
spm_need_mount mem:32M name=second,map=mirror
ours='[.[].name | select(. == "first" or . == "second")] | sort | join(" ")'
is "status --json without argument: a list of all" "$(json "$ours" status --json)" "first second"
is "each says where it is" "$(json '.[] | select(.name == "second") | .mountpoint' status --json)" "$MNT2"
is "two named: a list of two" "$(json length status --json "$MNT" "$MNT2")" 2
spm_umount "$MNT2"

status_is "devices" 0 devices
is "devices --json: a list" "$(json type devices --json)" array
ok "with something to mount" eval '[ "$(json "[.[] | select(.usable)] | length" devices --json)" -gt 0 ]'
source=$(json '[.[] | select(.usable) | .source][0]' devices --json)
like "whose source can be typed" "$source" '^(mem|node):'
status_is "metrics MOUNTPOINT" 0 metrics "$MNT"
is "metrics are those of the control file" "$("$SPMCTL" metrics "$MNT" | grep -c '^# TYPE')" \
	"$(grep -c '^# TYPE' "$MNT/.spm/metrics")"

status_is "--help" 0 --help
status_is "--version" 0 --version
for cmd in status files evict load compact devices metrics upgrade; do
	status_is "$cmd --help" 0 $cmd --help
done
status_is "no command: usage" 2
status_is "an unknown command: usage" 2 frobnicate
like "the line lists the known ones" "$(cat "$SPM_TMP/err")" 'status.*files.*evict.*load.*compact.*devices'
status_is "an unknown option: usage" 2 status --frobnicate
status_is "files without a path: usage" 2 files
status_is "metrics without a mount point: usage" 2 metrics
for cmd in evict load compact; do
	status_is "$cmd without anything: usage" 2 $cmd
	status_is "$cmd elsewhere: failed" 1 $cmd /etc/passwd
done
status_is "compact of two: usage" 2 compact "$MNT" "$MNT"
status_is "a mount point that is none: failed" 1 status /tmp
status_is "one that is not there: failed" 1 status "$SPM_TMP/no-such"
status_is "files elsewhere: failed" 1 files /etc/passwd
status_is "files that are not there: failed" 1 files "$MNT/no-such"
status_is "one bad, one good: failed" 1 status "$MNT" /tmp
"$SPMCTL" status "$MNT" >/dev/full 2>"$SPM_TMP/err"
is "output that cannot be written: failed" $? 1

# Restarts are counted. All at once is another matter: the mount is dead, and one line says what to do.
kill -KILL "$(spm_server_pid)"
is "a restart is counted" "$(timeout 20 "$SPMCTL" status --json "$MNT" | jq .worker_restarts)" 1
spm_umount_all
dead=$SPM_TMP/dead
mkdir "$dead"
ok "a mount" "$SPMFS" mem:16M "$dead" -o name=dead
echo here >"$dead/file"
spm_kill_servers
for cmd in status files evict load compact metrics upgrade; do
	status_is "$cmd of a mount whose servers are gone: failed" 1 $cmd "$dead"
	like "$cmd: the line says what to do" "$(cat "$SPM_TMP/err")" "^spmctl: $dead: .*umount -l .*-o recover"
done
# as it says
ok "umount -l" umount -l "$dead"
ok "mount with recover" "$SPMFS" mem:16M "$dead" -o name=dead,recover
is "the file is there" "$(cat "$dead/file")" here
umount "$dead"

spm_done
