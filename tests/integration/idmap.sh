#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An idmapped bind mount shows the same files with other owners, as containers with user namespaces need it. The reference
# is a tmpfs with the same bind mount: whatever it does, spmfs does.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# The file's user 0 is the machine's user 100000.
BASE=100000
MAP="0 $BASE 65536"
A=$((BASE + 1000)) B=$((BASE + 1001))

ref=$SPM_TMP/ref
mkdir "$ref" "$SPM_TMP/ref.mapped" "$SPM_TMP/spm.mapped"
mount -t tmpfs -o mode=755 spm-test-ref "$ref"
mkdir -m 1777 "$ref/slice"
if ! "$SPMT" idmap "$ref/slice" "$SPM_TMP/ref.mapped" "$MAP" 2>"$SPM_TMP/idmap"; then
	skip_all "no idmapped tmpfs here (Linux 6.3): $(cat "$SPM_TMP/idmap")"
fi
at_exit eval 'umount "$SPM_TMP"/{ref,spm}.mapped "$ref" 2>/dev/null'
actor a setpriv --reuid "$A" --regid "$A" --clear-groups --
actor b setpriv --reuid "$B" --regid "$B" --clear-groups --

# Each of the following works in $raw, the directory as it is, and $map, the same with other owners.

owners()
{
	local dir=$1
	shift
	(cd "$dir" && stat -c '%n %u:%g %a %F' -- "$@")
}

try()
{
	"$@" 2>&1 | sed 's/.*: //'
	printf 'status %s\n' "${PIPESTATUS[0]}"
}

# The newest descriptor of a process that leads to these files.
fd_of()
{
	find "/proc/$1/fd" -lname "$map/*" -printf '%f\n' | sort -n | tail -n 1
}

op_new_files()
{
	# shellcheck disable=SC2016 # the inner shell's argument
	try as "$A" bash -c 'cd "$1" && umask 022 && echo >file && mkdir dir && ln -s file link && mkfifo fifo && ln file hard' - "$map"
	owners "$raw" file dir link fifo hard
	owners "$map" file dir link fifo hard
}

op_tmpfile()
{
	tell a open t rw,tmpfile "$map"
	printf '%s\n' "${REPLY%% *}"
	stat -L -c '%u:%g' "/proc/${ACTOR_PID[a]}/fd/$(fd_of "${ACTOR_PID[a]}")"
	tell a close t
}

op_setgid_directory()
{
	mkdir "$raw/sgid" && chown 1000:7 "$raw/sgid" && chmod 2775 "$raw/sgid"
	try as "$A" touch "$map/sgid/file"
	try as "$A" mkdir "$map/sgid/dir"
	owners "$raw" sgid/file sgid/dir
	owners "$map" sgid/file sgid/dir
}

op_owner_without_a_number_there()
{
	try as 5 touch "$map/of-5"
	try chown 5 "$map"
	try ls -A "$map"
	mkdir -m 777 "$raw/open" && touch "$raw/open/f" && chown 70000:70000 "$raw/open/f"
	owners "$map" open/f
	try as "$A" rm -f "$map/open/f"
}

op_chown()
{
	touch "$raw/f"
	try chown $((BASE + 500)):$((BASE + 501)) "$map/f"
	owners "$raw" f
	try as $((BASE + 500)) chgrp $((BASE + 500)) "$map/f"
	try as $((BASE + 500)) chown $((BASE + 501)) "$map/f"
	try as 500 chmod 600 "$map/f"
	owners "$raw" f
}

op_access()
{
	echo secret >"$raw/f" && chown 1000:1000 "$raw/f" && chmod 640 "$raw/f"
	try as "$A" cat "$map/f"
	try as "$B" cat "$map/f"
	try as 1000 cat "$map/f"
	try as 1000 cat "$raw/f"
	try as "$A" cat "$raw/f"
	try as_groups "$B" "$B" "$A" cat "$map/f"
	mkdir -m 1777 "$raw/sticky" && touch "$raw/sticky/f" && chown 1000 "$raw/sticky/f"
	try as "$B" rm -f "$map/sticky/f"
	try as "$A" rm -f "$map/sticky/f"
}

op_acl()
{
	touch "$raw/f" && chmod 600 "$raw/f"
	try setfacl -m "u:$A:rw" "$map/f"
	(cd "$raw" && getfacl -n f 2>&1)
	(cd "$map" && getfacl -n f 2>&1)
	try as "$A" cat "$map/f"
	try as "$B" cat "$map/f"
	mkdir -m 777 "$raw/d" && setfacl -d -m u:1001:r,m::r "$raw/d"
	try as "$A" touch "$map/d/f"
	(cd "$raw" && getfacl -n d/f 2>&1)
	try as "$B" cat "$map/d/f"
}

# What is taken from a file that somebody else writes to, truncates or chowns.
op_suid()
{
	local mode
	for mode in 4777 2777 6777 2767; do
		rm -f "$raw/f" && echo content >"$raw/f" && chown 1000:1000 "$raw/f"
		chmod "$mode" "$raw/f"
		tell b open w rw "$map/f" && tell b write w 0 data
		tell b close w
		stat -c 'written %a' "$raw/f"
		chmod "$mode" "$raw/f"
		try as "$B" truncate -s 3 "$map/f"
		stat -c 'truncated %a' "$raw/f"
		# a member of its group loses sgid without group execute, as always with FUSE (suid.sh)
		if [ "$mode" != 2767 ]; then
			chmod "$mode" "$raw/f"
			tell a open w rw "$map/f" && tell a write w 0 data
			tell a close w
			stat -c 'written by its owner %a' "$raw/f"
		fi
		chmod "$mode" "$raw/f"
		try chown "$B:$B" "$map/f"
		stat -c 'given away %a %u' "$raw/f"
	done
	echo >"$raw/g" && chown 1000:7 "$raw/g"
	try as "$A" chmod 2755 "$map/g"
	stat -c 'sgid of a foreign group %a' "$raw/g"
}

op_replaced_and_moved()
{
	mkdir "$raw/from" "$raw/to" && chown 1000 "$raw/from" "$raw/to"
	# shellcheck disable=SC2016
	try as "$A" bash -c 'cd "$1" && echo 1 >from/f && echo 2 >to/f && mv from/f to/f && rmdir from && cat to/f' - "$map"
	try as 1000 mv "$map/to/f" "$map/to/g"
	owners "$raw" to/f
}

# All of the above on both, and the difference.
both()
{
	local op
	for op in $(compgen -A function op_); do
		raw=$ref/slice map=$SPM_TMP/ref.mapped
		(find "$raw" -mindepth 1 -delete)
		"$op" >"$SPM_TMP/want" 2>&1
		raw=$MNT/slice map=$SPM_TMP/spm.mapped
		(find "$raw" -mindepth 1 -delete)
		"$op" >"$SPM_TMP/got" 2>&1
		is "$1: ${op#op_}" "$(sed "s|$MNT|$ref|; s|spm.mapped|ref.mapped|" "$SPM_TMP/got")" "$(cat "$SPM_TMP/want")"
	done
}

variant()
{
	umount "$SPM_TMP/spm.mapped" 2>/dev/null
	spm_fresh mem:64M "$1"
	mkdir -m 1777 "$MNT/slice"
	ok "$1: an idmapped bind mount" "$SPMT" idmap "$MNT/slice" "$SPM_TMP/spm.mapped" "$MAP"
}

spm_need_mount mem:64M
if [ "$(spm_feature idmap)" != on ]; then
	like "features says why" "$(spm_feature idmap)" '^off: the kernel'
	fails "an idmapped bind mount is refused" "$SPMT" idmap "$MNT" "$SPM_TMP/spm.mapped" "$MAP"
	spm_done
fi

variant map=direct
both direct
as "$A" "$SPMT" run "open f rw,creat $SPM_TMP/spm.mapped/big" "trunc f 4M" "map m f rw shared 0 4M" "mfill m 0 4M 3" "close f" >"$SPM_TMP/out"
is "a mapping through it" "$?" 0
exec 7<"$SPM_TMP/spm.mapped/big"
is "is direct" "$(file_mode "$SPM_TMP/spm.mapped/big")" direct
exec 7<&-
ok "the bytes are the file's" "$SPMT" run "open f r $MNT/slice/big" "verify f 0 4M 3"

# The next worker has agreed on the same, and makes files for the same users.
worker=$(spm_server_pid)
kill -KILL "$worker"
wait_until 20 spm_another spmfs-worker "$worker"
as "$A" touch "$SPM_TMP/spm.mapped/after"
is "a new worker: the owner of new files" "$(stat -c %u:%g "$MNT/slice/after") $(stat -c %u:%g "$SPM_TMP/spm.mapped/after")" \
	"1000:1000 $A:$A"
is "a new worker: idmap" "$(spm_feature idmap)" on

variant map=mirror
both mirror
variant map=direct,size=32M
both served

umount "$SPM_TMP/spm.mapped"
spm_fresh mem:64M noidmap
is "as on an older kernel: features says it" "$(spm_feature idmap)" "off: option noidmap"
fails "an idmapped bind mount is refused" "$SPMT" idmap "$MNT" "$SPM_TMP/spm.mapped" "$MAP"
like "by the kernel" "$(cat "$SPM_TMP/out")" "mount_setattr: Invalid argument"

# A program that knows it takes over from one that did not: the mount can do what it could.
printf '#!/bin/bash\nexec %q "${@//noidmap/commit=eager}"\n' "$SPMFS" >"$SPM_TMP/newer"
chmod 755 "$SPM_TMP/newer"
ok "an upgrade to a program that asks for more" "$SPMCTL" upgrade --binary "$SPM_TMP/newer" "$MNT"
is "does not ask for it" "$(spm_feature idmap)" "off: the program that made this mount did not know it; unmount and mount again"
mkdir -m 777 "$MNT/d"
as "$A" touch "$MNT/d/f"
is "and new files have their owner" "$(stat -c %u:%g "$MNT/d/f")" "$A:$A"
spm_done
