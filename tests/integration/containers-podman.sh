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

in_podman()
{
	local slice=$1 how=$2
	shift 2
	box -v "$MNT/$slice:/spm:$how" -- "$@"
}
containers_cases in_podman 0

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
make_slice mine uid=100000 gid=100000 max=64M delegate=1
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
	is "b: its root may lower limits, and not go above those of the machine's root" "$(box "${USERNS[@]}" \
		-v "$MNT/one:/spm:idmap" -- bash -c 'cd /spm/.spm && echo 16M >max; cat max; echo 1G >max; cat max' 2>&1 |
		tr '\n' ' ')" "$((16 * MIB)) $((256 * MIB)) "
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
	[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 9 ] || echo "sees other processes"
	mount -t tmpfs none /tmp && echo mounted
	mount --bind /spm /tmp && echo mounted
	umount /spm && echo unmounted
	nsenter -t 1 -m true && echo "is in the machine"
	"$0" handle /spm 1
	echo "end"'
is "g: root without privileges finds nothing but its slice" "$(box -v "$MNT/one:/spm" -- bash -c "$try" "$SPMT" |
	grep -v -e ': .*failed' -e 'mount: ' -e 'dmesg(1)' | tr '\n' ' ')" "1 err EPERM end "
is "g: a limit can be asked for, but not above that of the machine's root" "$(box -v "$MNT/one:/spm" -- \
	bash -c 'echo 16M >/spm/.spm/max; echo max >/spm/.spm/max; cat /spm/.spm/max' 2>&1)" $((256 * MIB))
is "g: and the size of the slice is what df shows" "$(box -v "$MNT/one:/spm" -- df -B1 --output=size /spm | tail -n 1 | tr -d ' ')" \
	$((256 * MIB))
like "g: more than that does not fit" "$(box -v "$MNT/one:/spm" -- truncate -s 300M /spm/more 2>&1)" "No space left"
rm -f "$MNT/one/more"
like "g: in a user namespace limits that were not delegated cannot be written" \
	"$(box "${USERNS[@]}" -v "$MNT/one:/spm" -- bash -c 'echo 16M >/spm/.spm/max' 2>&1)" "Permission denied"
is "g: delegated ones can, and no further than the machine's root allows" "$(box "${USERNS[@]}" -v "$MNT/mine:/spm" -- \
	bash -c 'cd /spm/.spm && echo 16M >max && cat max && echo 1G >max && cat max' 2>&1 | tr '\n' ' ')" "$((16 * MIB)) $((64 * MIB)) "
is "g: what is in use elsewhere is not told" "$(box -v "$MNT/two:/spm" -- cat /spm/.spm/current 2>&1)" 65536
ok "g: all are gone" test -z "$(pod ps -aq)"

# ---- CDI: a slice by its name ----

# /run is this test's own, /etc is not.
cdi=/var/run/cdi/spmfs-$(spm_feature name).json
mkdir /run/cdi
ok "cdi: spmctl describes the slices" "$SPMCTL" cdi --output "$cdi" "$MNT"
# shellcheck disable=SC2016 # the inner shell's
by_name='echo "$SPM_PATH" && cat "$SPM_PATH/told" && grep -c " - fuse.spmfs " /proc/self/mountinfo'
echo content >"$MNT/one/told"
is "cdi: a container asks for one by name" "$(box --device spmfs.io/slice=one -- bash -c "$by_name" 2>&1 | tr '\n' ' ')" \
	"/spm/one content 1 "
is "cdi: or for two" "$(box --device spmfs.io/slice=one --device spmfs.io/slice=two -- bash -c 'echo /spm/*' 2>&1)" \
	"/spm/one /spm/two"
ok "cdi: a new slice" "$SPMCTL" slice create new --max 16M "$MNT"
is "cdi: can be asked for at once" "$(box --device spmfs.io/slice=new -- bash -c 'touch /spm/new/f && ls /spm/new' 2>&1)" f
ok "cdi: one that goes" wait_until 10 "$SPMCTL" slice remove --force new "$MNT"
box --device spmfs.io/slice=new -- true >"$SPM_TMP/out" 2>&1
like "cdi: cannot be" "$? $(cat "$SPM_TMP/out")" "^12[0-9] .*spmfs.io/slice=new"

# ---- the man page ----

IMAGE=spmfs-test
spmctl()
{
	# /etc is not this test's
	[ "$1" != cdi ] || set -- cdi --output "$cdi" "$2"
	"$SPMCTL" "$@"
}
podman()
{
	shift
	pod run --cgroup-parent "/$CGROUP" -v /usr:/usr:ro "$@"
}
"$SPMCTL" slice remove --force mine "$MNT"
documented "spmctl slice create"
documented "spmctl cdi"
if [ "$(spm_feature idmap)" = on ]; then
	documented "podman run"
else
	skip "as documented: podman run" "a part needs idmapped mounts, Linux 6.12"
fi
unset -f podman spmctl

spm_umount || fail "umount"
spm_need_mount mem:64M noidmap
make_slice old
box "${USERNS[@]}" -v "$MNT/old:/spm:idmap" -- true >"$SPM_TMP/out" 2>&1
like "b: on a kernel that cannot map owners the container does not start" "$? $(cat "$SPM_TMP/out")" \
	"^126 .*mount_setattr .*/old.*Invalid argument"
is "b: and features says why" "$(spm_feature idmap)" "off: option noidmap"
is "nothing of podman is left" "$(containers_left)" ""
spm_done
