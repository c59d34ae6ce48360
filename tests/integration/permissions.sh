#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Who may open a file may map it, and nobody else gets at its bytes, by whatever path.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

GROUP=61050
USER_C=61003
AS_A=(setpriv --reuid "$USER_A" --regid "$USER_A" --clear-groups --)
AS_B=(setpriv --reuid "$USER_B" --regid "$USER_B" --clear-groups --)
AS_C=(setpriv --reuid "$USER_C" --regid "$USER_C" --clear-groups --)
AS_B_IN_GROUP=(setpriv --reuid "$USER_B" --regid "$USER_B" --groups "$GROUP" --)

actor root
actor a "${AS_A[@]}"
actor b "${AS_B[@]}"
actor c "${AS_C[@]}"
actor g "${AS_B_IN_GROUP[@]}"

reset_file()
{
	rm -f "$MNT/f"
	echo secret >"$MNT/f"
	chown "$USER_A:$GROUP" "$MNT/f"
	chmod "$1" "$MNT/f"
}

mode_bits()
{
	reset_file 600
	says "$1: 0600, the owner opens for writing" a ok open f rw "$MNT/f"
	says "$1: and maps" a ok map m f rw shared 0 4K
	says "$1: and reads" a "ok secret" get m 0 6
	says "$1: others may not read" b "err EACCES" open f r "$MNT/f"
	says "$1: nor write" b "err EACCES" open f w "$MNT/f"
	says "$1: nor a member of its group" g "err EACCES" open f r "$MNT/f"
	says "$1: root may" root ok open f rw "$MNT/f"
	tell root close f
	says "$1: an O_PATH handle" b ok open p path "$MNT/f"
	says "$1: is no way in" b "err EACCES" open f r "/proc/self/fd/$(b_fd)"
	tell b close p

	chmod 640 "$MNT/f"
	says "$1: 0640 now, for the next open of a group member" g ok open f r "$MNT/f"
	says "$1: who may not write" g "err EACCES" open w rw "$MNT/f"
	says "$1: a supplementary group counts, a foreign one does not" b "err EACCES" open f r "$MNT/f"

	says "$1: the reader may map shared and read-only" g ok map m f r shared 0 4K
	says "$1: and see the data" g "ok secret" get m 0 6
	says "$1: but not for writing" g "err EACCES" map w f rw shared 0 4K
	says "$1: nor turn it writable later" g "err EACCES" mprotect m rw
	says "$1: a private writable mapping is his own" g ok map p f rw private 0 4K
	says "$1: he writes there" g ok put p 0 forged
	says "$1: and the file does not change" a "ok secret" get m 0 6
	says "$1: the way back over /proc/self/fd is closed" g "err EACCES" open w rw "/proc/self/fd/$(g_fd)"

	chmod 600 "$MNT/f"
	says "$1: 0600 again: what is open stays so" g "ok secret" read f 0 6
	says "$1: the next open does not" g "err EACCES" open again r "$MNT/f"
	chown "$USER_B" "$MNT/f"
	says "$1: a new owner may" b ok open f rw "$MNT/f"
	says "$1: the old one may not" a "err EACCES" open again r "$MNT/f"
	tell b close f
	for m in a:m g:m g:p; do
		tell "${m%:*}" unmap "${m#*:}"
	done
	tell a close f
	tell g close f
}

# The descriptor behind the handle that an actor opened last.
b_fd()
{
	find "/proc/${ACTOR_PID[b]}/fd" -lname "$MNT/f" -printf '%f\n' | tail -n 1
}

g_fd()
{
	find "/proc/${ACTOR_PID[g]}/fd" -lname "$MNT/f" -printf '%f\n' | tail -n 1
}

acls()
{
	reset_file 600
	ok "$1: an ACL can be set" "$SPMT" setacl "$MNT/f" u::rw "u:$USER_B:r" g::- m::r o::-
	says "$1: the named user reads" b ok open f r "$MNT/f"
	says "$1: maps" b ok map m f r shared 0 4K
	says "$1: and gets the data" b "ok secret" get m 0 6
	says "$1: he may not write" b "err EACCES" open w rw "$MNT/f"
	says "$1: another user may nothing" c "err EACCES" open f r "$MNT/f"
	"$SPMT" setacl "$MNT/f" u::rw "u:$USER_B:rw" g::- m::r o::-
	says "$1: the mask limits him" b "err EACCES" open w rw "$MNT/f"
	"$SPMT" setacl "$MNT/f" u::rw "u:$USER_B:rw" g::- m::rw o::-
	says "$1: a wider mask opens it, at once" b ok open w rw "$MNT/f"
	says "$1: for writing" b "ok 6" write w 0 public
	"$SPMT" setacl "$MNT/f" u::rw g::- "g:$GROUP:r" m::r o::-
	says "$1: a named group" g ok open f r "$MNT/f"
	says "$1: and who is not in it" b "err EACCES" open n r "$MNT/f"
	tell b unmap m
	tell b close f
	tell b close w
	tell g close f
	"$SPMT" setacl "$MNT/f" u::r "u:$USER_A:rw" g::- m::rw o::-
	says "$1: an owner's own entry wins over a named one" a "err EACCES" open f rw "$MNT/f"
}

directories()
{
	mkdir -m 700 "$MNT/private"
	chown "$USER_A" "$MNT/private"
	as "$USER_A" sh -c 'echo x >"$1/f"; chmod 666 "$1/f"' sh "$MNT/private"
	says "$1: a closed directory keeps others from an open file" b "err EACCES" open f r "$MNT/private/f"
	says "$1: its owner gets there" a ok open f r "$MNT/private/f"
	tell a close f
	chmod 711 "$MNT/private"
	says "$1: search permission suffices" b ok open f r "$MNT/private/f"
	tell b close f
	fails "$1: but does not list" as "$USER_B" ls "$MNT/private"
	fails "$1: nor create" as "$USER_B" touch "$MNT/private/g"
	rm -r "$MNT/private"
	as "$USER_A" touch "$MNT/mine"
	fails "$1: the sticky top directory: others may not remove" as "$USER_B" rm -f "$MNT/mine"
	fails "$1: a group that one is not in cannot be given" as "$USER_A" chgrp "$GROUP" "$MNT/mine"
	ok "$1: one that one is in can" as_groups "$USER_A" "$USER_A" "$GROUP" chgrp "$GROUP" "$MNT/mine"
	rm "$MNT/mine"
}

for opts in map=direct size=32M,map=direct map=mirror; do
	spm_fresh mem:64M "$opts"
	mode_bits "$opts"
	acls "$opts"
	directories "$opts"
done

# The region itself.
spm_fresh mem:64M map=direct,keep,name=guarded
reset_file 644
pid=$(spm_server_pid)
devices=$(awk '/ - tmpfs / { print $3 }' "/proc/$pid/mountinfo")
ok "the region is a tmpfs in the server's namespace" test -n "$devices"
is "a user's mount table does not show it" \
	"$(as "$USER_B" cut -d' ' -f3 /proc/self/mountinfo | grep -cxF "$devices")" 0
is "nor does root's" "$(cut -d' ' -f3 /proc/self/mountinfo | grep -cxF "$devices")" 0
for p in $(spm_servers); do
	for what in fd root cwd map_files ns/mnt environ mem; do
		fails "a user cannot reach /proc/SERVER/$what" \
			as "$USER_B" sh -c 'ls "$1/." || cat "$1" || readlink "$1"' sh "/proc/$p/$what"
	done
	fails "a user cannot enter the server's mount namespace" as "$USER_B" nsenter -t "$p" -m true
	fails "nor from a user namespace of his own" as "$USER_B" unshare -Ur nsenter -t "$p" -m true
	fails "nor trace it" as "$USER_B" unshare -Ur "$SPMT" run "open f r /proc/$p/mem"
done
readable=$(as "$USER_B" find /run/spmfs -type f -readable 2>/dev/null)
is "nothing below /run/spmfs can be read by a user" "$readable" ""
ok "root finds the kept region's namespace" test -e /run/spmfs/guarded.ns
fails "a user cannot enter it" as "$USER_B" nsenter --mount=/run/spmfs/guarded.ns true
fails "nor from a user namespace of his own" \
	as "$USER_B" unshare -Ur nsenter --mount=/run/spmfs/guarded.ns true
says "a user maps a file of another, read-only" b ok open f r "$MNT/f"
says "as it must be" b ok map m f r shared 0 4K
area=$(find "/proc/${ACTOR_PID[b]}/map_files/" -lname '*/f' -printf '%f\n' | head -n 1)
like "root sees the mapping by /proc/PID/map_files" "$area" '^[0-9a-f]+-[0-9a-f]+$'
fails "its user cannot open it there for writing" \
	as "$USER_B" sh -c 'echo forged >"$1"' sh "/proc/${ACTOR_PID[b]}/map_files/$area"
is "the file is what it was" "$(cat "$MNT/f")" secret
"$SPMT" setxattr "$MNT/f" trusted.test root-only
fails "trusted. attributes are root's" as "$USER_A" "$SPMT" getxattr "$MNT/f" trusted.test

# What needs CAP_FSETID for a moment, on every thread: the bit must be gone again afterwards.
fsetid_work()
{
	local i
	for i in {1..50}; do
		mkdir -m 2775 "$MNT/sgid.$1"
		echo x >"$MNT/sgid.$1/f"
		chmod 6755 "$MNT/sgid.$1/f"
		chown "$USER_A:$GROUP" "$MNT/sgid.$1/f"
		chmod 6755 "$MNT/sgid.$1/f"
		echo more >>"$MNT/sgid.$1/f"
		truncate -s 2 "$MNT/sgid.$1/f"
		rm -r "$MNT/sgid.$1"
	done
}
workers=()
for i in {1..8}; do
	fsetid_work "$i" &
	workers+=($!)
done
ok "suid and sgid files come and go" wait "${workers[@]}"

# Capabilities of every thread. More than the expected ones are those that HACKING.md explains.
declare -A BIT=([chown]=0 [dac_override]=1 [dac_read_search]=2 [fowner]=3 [fsetid]=4 [kill]=5 [setpcap]=8 [setgid]=6
	[setuid]=7 [sys_admin]=21 [sys_resource]=24 [sys_nice]=23 [linux_immutable]=9 [sys_chroot]=18
	[sys_ptrace]=19 [mknod]=27 [lease]=28 [setfcap]=31)
allowed=0
for name in sys_admin dac_override dac_read_search chown fowner mknod setuid setgid setfcap lease; do
	allowed=$((allowed | 1 << BIT[$name]))
done
for name in "${!BIT[@]}"; do
	[ "$name" = fsetid ] && continue
	grep -qwE "(CAP_)?${name^^}" "$top_srcdir/HACKING.md" && allowed=$((allowed | 1 << BIT[$name]))
done
threads=0 extra=0 fsetid=0
for p in $(spm_servers); do
	for status in /proc/"$p"/task/*/status; do
		threads=$((threads + 1))
		for set in CapEff CapPrm CapInh CapAmb; do
			caps=$((16#$(awk -v s="$set:" '$1 == s { print $2 }' "$status")))
			extra=$((extra | caps & ~allowed & ~(1 << BIT[fsetid])))
			[ "$set" != CapEff ] || fsetid=$((fsetid | caps & (1 << BIT[fsetid])))
		done
	done
done
ok "the server's threads were found ($threads)" test "$threads" -gt 0
is "none has a capability beyond the list (bits: $(printf %x $extra))" "$extra" 0
is "none has CAP_FSETID in force" "$fsetid" 0
is "the server is still the one that answers" "$(spm_server_pid)" "$pid"

spm_done
