#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# spmctl slice as administrators see it: what it makes, shows and changes, and what it says when it is refused.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

command -v jq >/dev/null || skip_all "no jq here"

MIB=1048576

json()
{
	local filter=$1
	shift
	"$SPMCTL" slice "$@" --json 2>"$SPM_TMP/err" | jq -r "$filter"
}

# told STATUS DESC REGEX ARGS...: spmctl slice ends with that status, and all that it says is one line like this.
told()
{
	local status=$1 desc=$2 want=$3 rc
	shift 3
	"$SPMCTL" slice "$@" >"$SPM_TMP/out" 2>"$SPM_TMP/err"
	rc=$?
	if [ $rc -ne "$status" ] || [ "$(wc -l <"$SPM_TMP/err")" -ne 1 ]; then
		fail "$desc" "spmctl slice $*: status $rc, wanted $status and one line: $(cat "$SPM_TMP/err")"
	else
		like "$desc" "$(cat "$SPM_TMP/err")" "^spmctl: $want"
	fi
}

does()
{
	ok "$1" "$SPMCTL" slice "${@:2}"
}

spm_need_mount mem:128M name=tenants,conf=none
mnt=$MNT

# ---- wrong usage: nothing is asked of the server ----

told 2 "a command is needed" "slice: give one of create, set, show, list and remove"
told 2 "one that there is" "slice: unknown command 'make'" make a "$mnt"
told 2 "a name and a mount point" "slice create: give a name and a mount point; usage: spmctl slice create NAME" create a
told 2 "not more" "slice show: give a name and a mount point" show a b "$mnt"
for name in .spm .. -- a/b "a b" $'a\nb' ä "$(printf '%064d' 0)"; do
	"$SPMCTL" slice create --min 1M -- "$name" "$mnt" 2>"$SPM_TMP/err"
	is "a slice cannot be called ${name@Q}" "$? $(grep -c "a slice's name has 1 to 63 letters" "$SPM_TMP/err")" "2 1"
done
told 2 "a size" "slice create: option --min=1X: give a size" create a --min 1X "$mnt"
told 2 "min and max together" "slice create: option --min=2M is above max=1M" create a --min 2M --max 1M "$mnt"
told 2 "a user" "slice create: option --uid=nobody-at-all: there is no such user" create a --uid nobody-at-all "$mnt"
told 2 "a group" "slice create: option --gid=nobody-at-all: there is no such group" create a --gid nobody-at-all "$mnt"
told 2 "huge" "slice create: option --huge=big: give never, always" create a --huge big "$mnt"
told 2 "cold" "slice set: option --cold=1h: give seconds" set a --cold 1h "$mnt"
told 2 "an option" "slice create: unknown option '--most'" create a --most 1M "$mnt"
told 2 "a value" "slice create: option '--min' needs a value" create a "$mnt" --min
told 2 "something to change" "slice set: nothing to change is given" set a "$mnt"
told 2 "an output that there is" "slice list: option --output yaml: give k8s-pv" list --output yaml "$mnt"
told 2 "--node is for that" "slice list: option --node is of use with" list --node x "$mnt"
is "there is no slice yet" "$("$SPMCTL" slice list "$mnt")" "$mnt: no slices"
is "nor in JSON" "$(json length list "$mnt")" 0

# ---- create, list, show ----

is "create: says where it is" "$("$SPMCTL" slice create a --min 16M --max 64M --uid "$USER_A" --gid daemon --mode 2750 --inodes 1k \
	--pin-max 8M --map mirror --cold 60 --huge never "$mnt")" "$mnt/a"
is "its directory has owner and mode" "$(stat -c '%u %G %a' "$mnt/a")" "$USER_A daemon 2750"
is "create: a name alone is enough" "$("$SPMCTL" slice create b "$mnt")" "$mnt/b"
does "create: delegated" create c --delegate --max 32M "$mnt"
is "list --json: all of them" "$(json '[.[].name] | sort | join(" ")' list "$mnt")" "a b c"
is "keys, in their order" "$(json '.[0] | keys_unsorted | join(" ")' list "$mnt")" \
	"name mountpoint path id min_bytes max_bytes own_max_bytes current_bytes grant_bytes swap_max_bytes own_swap_max_bytes \
swap_current_bytes pin_max_bytes inodes uid gid mode nodes huge map cold delegate"
is "what was said" "$(json '[.min_bytes, .max_bytes, .swap_max_bytes, .pin_max_bytes, .inodes, .uid, .gid, .mode, .huge, .map,
	.cold, .delegate, .path] | map(tostring) | join(" ")' show a "$mnt")" \
	"$((16 * MIB)) $((64 * MIB)) null $((8 * MIB)) 1024 $USER_A $(getent group daemon | cut -d: -f3) 2750 never mirror 60 \
false $mnt/a"
is "what was not said" "$(json '[.min_bytes, .max_bytes, .own_max_bytes, .inodes, .nodes, .huge, .map, .cold, .delegate] | tostring' \
	show b "$mnt")" '[0,null,null,null,null,null,null,null,false]'
is "delegated" "$(json .delegate show c "$mnt")" true
head -c 8M /dev/zero >"$mnt/a/f"
is "what it uses" "$(json .current_bytes show a "$mnt")" $((8 * MIB))
ok "what it may use without asking is at least that" test "$(json .grant_bytes show a "$mnt")" -ge $((16 * MIB))
is "-u: in units" "$("$SPMCTL" slice list -u "$mnt" | awk '$1 == "a" { print $2, $3, $4 }')" "16M 64M 8M"
like "show: for people" "$("$SPMCTL" slice show -u a "$mnt")" "^a: slice [0-9]+ of $mnt
  memory     8M used, [0-9.]+M granted, min 16M, max 64M
  swap       0 used, max max
  pinned     at most 8M
  inodes     1024
  owner      uid $USER_A, gid [0-9]+, mode 2750
  placement  nodes as the mount, huge pages never
  files      map mirror, cold 60\$"
# others may have mounts here
like "list without a mount point: all mounts" "$("$SPMCTL" slice list 2>/dev/null)" "(^|
)$mnt:
"
fails "no user makes one" as "$USER_A" "$SPMCTL" slice create u "$mnt"
fails "nor sees which there are" as "$USER_A" "$SPMCTL" slice list "$mnt"

# ---- refusals ----

told 1 "a slice of that name" "a: $mnt has a slice of that name; 'spmctl slice set'" create a "$mnt"
mkdir "$mnt/dir"
told 1 "a directory of that name" "dir: $mnt has a file or directory of that name, and it is no slice" create dir "$mnt"
told 1 "min above the device" "x: min 1G is more than the device has \(128M\)" create x --min 1G "$mnt"
told 1 "min that others have" "x: min 120M: of the device's 128M other slices are guaranteed 16M, so that 112M is left; lower" \
	create x --min 120M "$mnt"
told 1 "a node that the device has not" "x: nodes 77: they are not all nodes of the device" create x --nodes 77 "$mnt"
told 1 "no slice of that name: show" "x: $mnt has no slice of that name; 'spmctl slice list $mnt'" show x "$mnt"
told 1 "set" "x: $mnt has no slice of that name" set x --max 1M "$mnt"
told 1 "remove" "x: $mnt has no slice of that name" remove x "$mnt"
told 1 "no mount" "$SPM_TMP: no spmfs is mounted there" create x "$SPM_TMP"
told 1 "in it, but not it" "$mnt/a: not a mount point, but inside one: try $mnt" create x "$mnt/a"
told 1 "swap.max without swap" "$mnt: swap is off; unmount it and mount it with -o swap=" create x --swap-max 1G "$mnt"
is "nothing of that is there" "$(json 'length' list "$mnt")" 3

# ---- set ----

does "set: at once" set a --max 32M --cold 0 --map '' "$mnt"
is "it shows" "$(json '[.max_bytes, .min_bytes, .cold, .map] | tostring' show a "$mnt")" "[$((32 * MIB)),$((16 * MIB)),0,null]"
is "so does df" "$(df --output=size -B1M "$mnt/a" | tail -n 1 | xargs)" 32
does "delegate" set a --delegate "$mnt"
is "on" "$(json .delegate show a "$mnt")" true
does "and not" set a --delegate=no "$mnt"
is "off" "$(json .delegate show a "$mnt")" false
does "owner and mode, at once" set a --uid "$USER_B" --mode 2700 "$mnt"
is "of its directory" "$(stat -c '%u %G %a' "$mnt/a")" "$USER_B daemon 2700"
chmod 0711 "$mnt/a" && chmod g-s "$mnt/a"
is "also if they are changed there" "$(json '[.uid, .mode] | tostring' show a "$mnt")" "[$USER_B,\"0711\"]"
told 1 "max below min" "a: min 16M would be above max 8M; change both" set a --max 8M "$mnt"
told 1 "max below what is in use" "a: max 4M: 8M is in use and cannot leave; remove files" set a --min 1M --max 4M "$mnt"
told 1 "nodes are chosen once" "a: nodes and huge pages are chosen when a slice is made" set a --huge always "$mnt"
is "all is as it was" "$(json '[.max_bytes, .min_bytes, .huge] | tostring' show a "$mnt")" "[$((32 * MIB)),$((16 * MIB)),\"never\"]"
does "no limit again" set a --max max "$mnt"
is "none" "$(json .max_bytes show a "$mnt")" null

# ---- remove: who holds it ----

told 1 "it is not empty" "a: it is not empty \(8M of memory used\); --force" remove a "$mnt"
ok "the file is still there" test -s "$mnt/a/f"
actor one
tell one open f rw "$mnt/a/f"
told 1 "open" "a: in use by [^,]*\(pid ${ACTOR_PID[one]}, open\); end or unmount" remove --force a "$mnt"
tell one map m f rw shared 0 1M
tell one close f
told 1 "mapped" "a: in use by [^,]*\(pid ${ACTOR_PID[one]}, mapped\)" remove --force a "$mnt"
tell one unmap m
actor_end one
actor one env --chdir="$mnt/a"
told 1 "somebody's working directory" "a: in use by [^,]*\(pid ${ACTOR_PID[one]}, its working directory\)" remove --force a "$mnt"
actor_end one
perl -e 'chroot shift; open my $f, ">", "/proc/self/comm"; print "in\n"; close STDOUT; sleep 1000' "$mnt/a" >"$SPM_TMP/chroot" &
inside=$!
# shellcheck disable=SC2016 # for later
at_exit eval 'kill "$inside" 2>/dev/null'
ok "a process goes in" wait_until 10 grep -q in "$SPM_TMP/chroot"
told 1 "somebody's root directory" "a: in use by perl \(pid $inside, its root directory\)" remove --force a "$mnt"
kill "$inside"
wait "$inside" 2>/dev/null
mkdir "$SPM_TMP/bind" "$mnt/a/sub"
mount --bind "$mnt/a/sub" "$SPM_TMP/bind"
told 1 "mounted elsewhere" "a: in use by [^,]*\(pid [0-9]+, mounted at $SPM_TMP/bind\)" remove --force a "$mnt"
# as in a container: nobody else's namespace shows it
actor two unshare --mount --propagation private
umount "$SPM_TMP/bind"
told 1 "mounted in another namespace" "a: in use by [^,]*\(pid ${ACTOR_PID[two]}, mounted at $SPM_TMP/bind\)" remove --force a "$mnt"
actor_end two
does "an empty one goes" remove b "$mnt"
ok "with its directory" test ! -e "$mnt/b"
does "--force: also with files" remove --force a "$mnt"
is "c is left" "$(json '.[].name' list "$mnt")" c
does "the name is free again" create a "$mnt"
is "it is another one, and empty" "$(json .current_bytes show a "$mnt")$(ls -A "$mnt/a")" 0

# ---- with swap ----

mkdir "$SPM_TMP/swap"
spm_fresh mem:64M "name=tenants,conf=none,swap=$SPM_TMP/swap,swapsize=64M"
mnt=$MNT
does "create with swap-max" create a --swap-max 16M --max 48M "$mnt"
is "it shows" "$(json .swap_max_bytes show a "$mnt")" $((16 * MIB))
head -c 24M /dev/urandom >"$mnt/a/f"
does "a smaller max has the rest leave" set a --max 16M "$mnt"
ok "it left" test "$(json .swap_current_bytes show a "$mnt")" -ge $((8 * MIB)) -a "$(json .current_bytes show a "$mnt")" -le $((16 * MIB))
head -c 32M /dev/urandom >"$mnt/a/g" 2>/dev/null
told 1 "more than leaves" "a: max 1M: [0-9.]+M is in use and cannot leave" set a --max 1M "$mnt"
is "all is as it was" "$(json .max_bytes show a "$mnt")" $((16 * MIB))

spm_done
