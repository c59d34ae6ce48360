#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Real containers, by podman and crun, with bind mounts of slices: what they can do, and what they cannot.
set -u
SPM_LIMIT=180
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../containers.sh
. "$(dirname "$0")/../containers.sh"

containers_podman
# Less than the device: the server allocates, also what is written.
spm_need_mount mem:512M size=384M,map=direct
make_slice one max=256M
make_slice two max=64M

mode_outside()
{
	"$SPMCTL" files --json "$1" | sed -n 's/.*"mode": *"\([a-z]*\)".*/\1/p'
}

# ---- (a) one slice ----

actor a box -v "$MNT/one:/spm" --
says "a: a file is made in the container" a ok open f rw,creat /spm/f
says "a: and gets its size" a ok trunc f 8M
says "a: is mapped" a ok map m f rw shared 0 8M
says "a: and filled" a ok mfill m 0 8M 3
ok "a: the bytes are the file's outside" "$SPMT" run "open f r $MNT/one/f" "verify f 0 8M 3"
is "a: the mapping is direct" "$(mode_outside "$MNT/one/f")" direct
# shellcheck disable=SC2016 # the inner shell's
names='cd /spm && mkdir d && echo content >d/x && ln d/x hard && ln -s d/x soft && mv d e && cat hard e/x && rm -r e soft &&
	stat -c "%h %u:%g" hard && rm hard && ls -A'
is "a: names" "$(box -v "$MNT/one:/spm" -- bash -c "$names" 2>&1 | tr '\n' ' ')" "content content 1 0:0 f "

# ---- (d) two slices, and one by two containers ----

actor other box -v "$MNT/two:/spm" --
says "d: the other slice's container does not see the file" other "err ENOENT" open f r /spm/f
says "d: nor out of its slice" other "err ENOENT" open f r /spm/../one/f
says "d: it makes one of the same name" other ok open f rw,creat /spm/f
says "d: with other content" other "ok 65536" fill f 0 64K 4
says "d: which the first does not see" a ok mverify m 0 8M 3
actor b box -v "$MNT/one:/spm" --
tell b open f rw /spm/f && tell b map m f rw shared 0 8M
says "d: one slice, two containers: what one wrote the other sees" b ok mverify m 0 8M 3
tell b mfill m 0 8M 5
says "d: through the mapping that was there before" a ok mverify m 0 8M 5

# ---- (e) the server dies ----

worker=$(spm_server_pid)
kill -KILL "$worker"
says "e: the mapping outlives the worker" a ok mfill m 0 8M 6
ok "e: another one takes over" wait_until 20 spm_another spmfs-worker "$worker"
says "e: open files go on" b ok verify f 0 8M 6
says "e: and so do names" b ok open g rw,creat /spm/g
is "e: new containers start" "$(box -v "$MNT/one:/spm" -- ls /spm 2>&1 | tr '\n' ' ')" "f g "
actor_end a b other

# ---- (f) a read-only bind mount ----

actor ro box -v "$MNT/one:/spm:ro" --
says "f: no open for writing" ro "err EROFS" open f rw /spm/f
says "f: no new file" ro "err EROFS" open f w,creat /spm/new
says "f: reading" ro ok open f r /spm/f
says "f: no writable mapping" ro "err EACCES" map m f rw shared 0 8M
says "f: a read-only one" ro ok map m f r shared 0 8M
says "f: shows the content" ro ok mverify m 0 8M 6
says "f: and does not become writable" ro "err EACCES" mprotect m rw
actor_end ro

# ---- (c) less memory than the mapping ----

# The same amount in a filesystem that is charged to who writes: so the limit works here.
LIMIT=(--memory 64m --memory-swap 64m)
fill=(open "f rw,creat" trunc "f 160M" map "m f rw shared 0 160M")
box "${LIMIT[@]}" --tmpfs /own:size=300m -- "$SPMT" run "${fill[0]} ${fill[1]} /own/f" "${fill[2]} ${fill[3]}" \
	"${fill[4]} ${fill[5]}" "mfill m 0 160M 7" >"$SPM_TMP/out" 2>&1
is "c: 160 MiB of the container's own, at a limit of 64 MiB, kill it" $? 137
box "${LIMIT[@]}" -v "$MNT/one:/spm" -- "$SPMT" run "${fill[0]} ${fill[1]} /spm/big" "${fill[2]} ${fill[3]}" \
	"${fill[4]} ${fill[5]}" "mfill m 0 160M 7" >"$SPM_TMP/out" 2>&1
is "c: as much of a slice does not" "$?, $(tail -n 1 "$SPM_TMP/out")" "0, ok"
ok "c: it is all there" "$SPMT" run "open f r $MNT/one/big" "verify f 0 160M 7"
rm "$MNT/one/big"
box "${LIMIT[@]}" -v "$MNT/one:/spm" -- "$SPMT" run "open f rw,creat /spm/big" "fill f 0 160M 8" >"$SPM_TMP/out" 2>&1
is "c: nor does writing it" "$?, $(tail -n 1 "$SPM_TMP/out")" "0, ok 167772160"
# shellcheck disable=SC2016
charged='for f in /sys/fs/cgroup/memory/memory.usage_in_bytes /sys/fs/cgroup/memory.current; do
	[ ! -e $f ] || usage=$f; done
	exec 7<>/spm/big && "$0" run "open f rw /spm/big" "map m f rw shared 0 160M" "touch m 0 160M" >/dev/null && cat $usage'
charged=$(box "${LIMIT[@]}" -v "$MNT/one:/spm" -- bash -c "$charged" "$SPMT" 2>&1)
ok "c: and none of it is charged to who touches it ($charged bytes are)" test "$charged" -lt $((32 * MIB))
rm "$MNT/one/big"

# ---- (b) user namespaces ----

USERNS=(--uidmap 0:100000:65536 --gidmap 0:100000:65536)
make_slice mine uid=100000 gid=100000
is "b: a slice of the container's root: it is its owner" \
	"$(box "${USERNS[@]}" -v "$MNT/mine:/spm" -- bash -c 'cd /spm && touch f && stat -c %u . f' 2>&1 | tr '\n' ' ')" "0 0 "
is "b: and outside the mapped user is" "$(stat -c %u:%g "$MNT/mine/f")" 100000:100000
is "b: files of others are nobody's there" "$(box "${USERNS[@]}" -v "$MNT/one:/spm" -- stat -c %u /spm/f 2>&1)" 65534
if [ "$(spm_feature idmap)" = on ]; then
	is "b: idmapped, owners are the same on both sides" "$(box "${USERNS[@]}" -v "$MNT/one:/spm:idmap" -- \
		bash -c 'cd /spm && touch new && mkdir dir && chown 1000:1001 dir && stat -c "%n %u:%g" f new dir' 2>&1 | tr '\n' ' ')" \
		"f 0:0 new 0:0 dir 1000:1001 "
	is "b: also seen from outside" "$(cd "$MNT/one" && stat -c '%n %u:%g' f new dir | tr '\n' ' ')" "f 0:0 new 0:0 dir 1000:1001 "
	is "b: a user of the container makes files of its own" "$(box "${USERNS[@]}" --user 1000:1001 -v "$MNT/one:/spm:idmap" -- \
		bash -c 'cd /spm && touch dir/x && stat -c %u:%g dir/x; rm -f f; ls' 2>&1 | tr '\n' ' ')" \
		"1000:1001 rm: cannot remove 'f': Permission denied dir f g new "
	is "b: outside, too" "$(stat -c %u:%g "$MNT/one/dir/x")" 1000:1001
	actor mapped box "${USERNS[@]}" -v "$MNT/one:/spm:idmap" --
	tell mapped open f rw /spm/f && tell mapped map m f rw shared 0 8M
	says "b: its mapping shows the content" mapped ok mverify m 0 8M 6
	is "b: and is direct" "$(mode_outside "$MNT/one/f")" direct
	actor_end mapped
else
	fails "b: idmapped: refused by this kernel" box "${USERNS[@]}" -v "$MNT/one:/spm:idmap" -- true
fi

# ---- (g) what the container's root cannot do ----

# shellcheck disable=SC2016
try='exec 2>&1
	cd /spm
	for f in /spm/../.spm/features /.spm/slice /run/spmfs /dev/fuse /proc/1/root/region; do
		[ ! -e $f ] || echo "$f is there"
	done
	grep -c " - fuse.spmfs " /proc/self/mountinfo
	ls -d /proc/[0-9]* | wc -l
	mount -t tmpfs none /tmp && echo mounted
	mount --bind /spm /tmp && echo mounted
	umount /spm && echo unmounted
	nsenter -t 1 -m true && echo "is in the machine"
	"$0" handle /spm 1
	echo "end"'
is "g: root without privileges finds nothing but its slice" "$(box -v "$MNT/one:/spm" -- bash -c "$try" "$SPMT" |
	grep -v -e ': .*failed' -e 'mount: ' -e 'dmesg(1)' | tr '\n' ' ')" "1 3 err EPERM end "
ok "g: all are gone" test -z "$(pod ps -aq)"

spm_umount || fail "umount"
spm_need_mount mem:64M noidmap
make_slice old
box "${USERNS[@]}" -v "$MNT/old:/spm:idmap" -- true >"$SPM_TMP/out" 2>&1
like "b: on a kernel that cannot map owners the container does not start" "$? $(cat "$SPM_TMP/out")" \
	"^126 .*mount_setattr .*/old.*Invalid argument"
is "b: and features says why" "$(spm_feature idmap)" "off: option noidmap"
is "nothing of podman is left" "$(containers_left)" ""
spm_done
