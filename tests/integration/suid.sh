#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A write or truncate by another user takes suid, sgid and file capabilities away, on every path that a write
# can go. The reference is a tmpfs beside it: whatever it leaves on a file, spmfs leaves.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# cap_net_raw=ep, revision 2.
FCAPS=0x0100000200200000000000000000000000000000
ref=$SPM_TMP/ref
mkdir "$ref"
mount -t tmpfs -o mode=1777 spm-test-ref "$ref"
AS_B=(setpriv --reuid "$USER_B" --regid "$USER_B" --clear-groups --)
actor writer "${AS_B[@]}"
actor rootwriter

# What is left on a file: its mode, and whether it has file capabilities.
left()
{
	stat -c %a "$1" | tr -d '\n'
	! "$SPMT" getxattr "$1" security.capability >/dev/null 2>&1 || printf '+caps'
}

# make FILE MODE: owned by A, and executable as a suid program would be.
make()
{
	rm -f "$1"
	head -c 16384 /dev/zero >"$1"
	chown "$USER_A:$USER_A" "$1"
	[ "$2" != caps ] || { chmod 777 "$1"; "$SPMT" setxattr "$1" security.capability "$FCAPS"; return; }
	chmod "$2" "$1"
}

# Each takes DIR and MODE and prints what is left. The writer's descriptor is always called w.
op_write()
{
	make "$1/f" "$2"
	tell writer open w rw "$1/f" && tell writer write w 0 data
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_append()
{
	make "$1/f" "$2"
	tell writer open w w,append "$1/f" && tell writer append w data
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_already_open()
{
	make "$1/f" 777
	tell writer open w rw "$1/f"
	tell writer write w 0 before
	# Without make: the inode that the writer holds is the one that gets the bits.
	[ "$2" = caps ] && "$SPMT" setxattr "$1/f" security.capability "$FCAPS"
	[ "$2" = caps ] || chmod "$2" "$1/f"
	tell writer write w 0 data
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_owner_chmod()
{
	make "$1/f" 777
	tell writer open w rw "$1/f"
	tell writer write w 0 before
	[ "$2" = caps ] && "$SPMT" setxattr "$1/f" security.capability "$FCAPS"
	[ "$2" = caps ] || as "$USER_A" chmod "$2" "$1/f"
	tell writer write w 4096 data
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_ftruncate()
{
	make "$1/f" "$2"
	tell writer open w rw "$1/f" && tell writer trunc w 100
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_truncate()
{
	make "$1/f" "$2"
	as "$USER_B" truncate -s 200 "$1/f"
	printf '%s ' $?
	left "$1/f"
}

op_open_trunc()
{
	make "$1/f" "$2"
	tell writer open w rw,trunc "$1/f"
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_fallocate()
{
	make "$1/f" "$2"
	tell writer open w rw "$1/f" && tell writer falloc w plain 0 64K
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_punch()
{
	make "$1/f" "$2"
	tell writer open w rw "$1/f" && tell writer falloc w punch 0 4K
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

op_root_write()
{
	make "$1/f" "$2"
	tell rootwriter open w rw "$1/f" && tell rootwriter write w 0 data
	printf '%s ' "${REPLY%% *}"
	tell rootwriter close w
	left "$1/f"
}

op_root_truncate()
{
	make "$1/f" "$2"
	truncate -s 100 "$1/f"
	left "$1/f"
}

op_owner_write()
{
	make "$1/f" "$2"
	as "$USER_A" sh -c 'echo x >>"$1"' sh "$1/f"
	left "$1/f"
}

op_chown()
{
	make "$1/f" "$2"
	chown "$USER_B:$USER_B" "$1/f"
	left "$1/f"
}

op_chgrp_by_owner()
{
	make "$1/f" "$2"
	as_groups "$USER_A" "$USER_A" 61050 chgrp 61050 "$1/f"
	left "$1/f"
}

op_later_chmod()
{
	make "$1/f" "$2"
	tell writer open w rw "$1/f"
	tell writer write w 0 data
	chmod 4777 "$1/f"
	tell writer write w 0 data
	printf '%s ' "${REPLY%% *}"
	tell writer close w
	left "$1/f"
}

ops="write append already_open owner_chmod ftruncate truncate open_trunc fallocate punch root_write
	root_truncate owner_write chown chgrp_by_owner later_chmod"

# sgid without group execute stays for members of the group. No request tells a FUSE server who is one, and it
# takes the bit away to be on the safe side, so 2767 is left out where a member writes.
results()
{
	local mode
	for mode in 4777 2777 6777 2767 caps; do
		[[ $mode.$1 != 2767.owner_write && $mode.$1 != 2767.chgrp_by_owner ]] || continue
		printf '%s: %s; ' "$mode" "$("op_$1" "$2" "$mode")"
	done
}

declare -A WANT
for op in $ops; do
	WANT[$op]=$(results "$op" "$ref")
done
like "the reference itself clears suid" "${WANT[write]}" '4777: ok 777;'
like "and file capabilities" "${WANT[write]}" 'caps: ok 777;'

paths=("plain map=direct" "served map=direct,size=32M" "mirror map=mirror" "nopassthrough nopassthrough")
for path in "${paths[@]}"; do
	spm_fresh mem:64M "${path#* }"
	for op in $ops; do
		is "${path%% *}: $op" "$(results "$op" "$MNT")" "${WANT[$op]}"
	done
	# A stale cached mode would let exec run with rights that are gone.
	make "$MNT/f" 4777
	stat "$MNT/f" >/dev/null
	tell writer open w rw "$MNT/f"
	tell writer write w 0 data
	is "${path%% *}: stat shows it while the writer still has it open" "$(stat -c %a "$MNT/f")" 777
	tell writer close w
done
actor_end writer rootwriter
umount "$ref"

spm_done
