#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Declared slices: they are there when the mount is, --save writes them down, and a broken file refuses the mount.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

# An /etc of this test's own: files there belong to mounts by their names.
cp -a /etc "$SPM_TMP/etc" && rm -rf "$SPM_TMP/etc/spmfs" || exit 1
ok "an /etc of its own" mount --bind "$SPM_TMP/etc" /etc
at_exit umount /etc

# limits NAME KEY...: what is in force
limits()
{
	local name=$1 key line
	shift
	line=" $(grep "^$name " "$MNT/.spm/slices") "
	for key in "$@"; do
		[[ $line == *" $key="* ]] && line=${line/" $key="/" $key:"} && printf '%s ' "$(sed -E "s/.* $key:([^ ]*) .*/\1/" <<<"$line")"
	done
}

names()
{
	cut -d' ' -f1 "$MNT/.spm/slices" | sort | xargs
}

# refused DESC REGEX: a mount that the file refuses, with one line, and nothing is left of it
refused()
{
	local desc=$1 want=$2 rc
	mkdir -p "$SPM_TMP/no"
	"$SPMFS" -f mem:64M "$SPM_TMP/no" -o "name=refused,conf=$SPM_TMP/broken" >"$SPM_TMP/out" 2>&1
	rc=$?
	is "$desc: exit status, lines" "$rc $(wc -l <"$SPM_TMP/out")" "32 1"
	like "$desc" "$(cat "$SPM_TMP/out")" "^spmfs: $SPM_TMP/broken:$want"
	ok "$desc: nothing is left" test ! -e /run/spmfs/refused.ns
}

broken()
{
	printf '%s\n' "$@" >"$SPM_TMP/broken"
}

# ---- at mount ----

mkdir /etc/spmfs
cat >/etc/spmfs/decl.conf <<END
# tenants
[slice a]
min = 16M    ; guaranteed
max = 32M
uid = daemon
mode = 0750

[slice b]
swap-max = 1G
delegate = yes
END
spm_need_mount mem:64M name=decl
is "the file is found by the mount's name" "$(spm_feature conf)" /etc/spmfs/decl.conf
is "its slices are there" "$(names)" "a b"
is "with their limits" "$(limits a min max) $(limits b min max swap.max delegate)" "16777216 33554432  0 max 1073741824 1 "
is "owner, mode" "$(stat -c '%U %a' "$MNT/a") $(stat -c '%u %a' "$MNT/b")" "daemon 750 0 755"
ok "they work" sh -c 'echo x >"$1/a/f" && test "$(cat "$1/a/f")" = x' sh "$MNT"
like "the log says so" "$(cat "$MNT.log")" "slices: 2 made and 0 set as /etc/spmfs/decl.conf says; 0 others"

# ---- --save ----

ok "create --save" "$SPMCTL" slice create c --min 1M --cold 9 --save "$MNT"
ok "set --save" "$SPMCTL" slice set a --max 48M --uid nobody --save "$MNT"
ok "without --save" "$SPMCTL" slice create d --max 8M "$MNT"
ok "set of one that is not in the file: all of it gets there" "$SPMCTL" slice set d --cold 5 --save "$MNT"
is "what the file says, comments and all" "$(cat /etc/spmfs/decl.conf)" "# tenants
[slice a]
min = 16M    ; guaranteed
max = 48M
uid = nobody
mode = 0750

[slice b]
swap-max = 1G
delegate = yes

[slice c]
min = 1M
cold = 9

[slice d]
max = 8388608
cold = 5"
ok "remove --save" "$SPMCTL" slice remove b --save "$MNT"
ok "remove without" "$SPMCTL" slice remove d "$MNT"
is "it is gone from the file" "$(grep -c '^\[slice [bd]\]' /etc/spmfs/decl.conf)" 1
ok "of one that only the file has" "$SPMCTL" slice remove d --save "$MNT"
is "gone, too" "$(grep '^\[' /etc/spmfs/decl.conf | xargs)" "[slice a] [slice c]"
fails "nothing else has it" "$SPMCTL" slice remove d --save "$MNT"
is "nothing beside it was left" "$(ls -A /etc/spmfs)" decl.conf
echo "[slice" >>/etc/spmfs/decl.conf
"$SPMCTL" slice create e --save "$MNT" 2>"$SPM_TMP/err"
is "a broken file: refused" "$? $(cat "$SPM_TMP/err")" \
	"1 spmctl: /etc/spmfs/decl.conf:$(wc -l </etc/spmfs/decl.conf): the section's closing ']' is missing"
is "before the server is asked" "$(names)" "a c"
sed -i '$d' /etc/spmfs/decl.conf
spm_fresh mem:64M name=decl
is "the next mount has what was saved" "$(names) $(limits a min max) $(limits c min cold)" "a c 16777216 50331648  1048576 9 "
spm_fresh mem:64M name=other
is "another one has a file of its own" "$(spm_feature conf)" /etc/spmfs/other.conf
is "which is not there, so no slices" "$(names)" ""
ok "--save makes it" "$SPMCTL" slice create x --save "$MNT"
is "it says what it is" "$(xargs -d '\n' </etc/spmfs/other.conf)" "# Slices of the mount of this name, see spmfs.conf(5).  [slice x]"
spm_fresh mem:64M name=decl,conf=none
is "conf=none" "$(spm_feature conf) $(names)" "off: option conf=none "
fails "--save has nowhere to go" "$SPMCTL" slice create x --save "$MNT"
like "and says so" "$(cat "$SPM_TMP/out")" "the mount has no configuration file \(off: option conf=none\)"

# ---- a region that is kept ----

printf '%s\n' "[slice a]" "max = 16M" "[slice b]" >"$SPM_TMP/kept.conf"
spm_fresh mem:64M "name=kept,keep,conf=$SPM_TMP/kept.conf"
ok "data, and a slice that is in no file" sh -c 'head -c 8M /dev/zero >"$1/a/f" && "$2" slice create mine --max 1M "$1"' sh "$MNT" "$SPMCTL"
printf '%s\n' "[slice a]" "max = 24M" "[slice c]" >"$SPM_TMP/kept.conf"
spm_fresh mem:64M "name=kept,keep,conf=$SPM_TMP/kept.conf"
is "new ones are made, others stay" "$(names)" "a b c mine"
is "those that are there are set" "$(limits a max) $(limits mine max) $(stat -c %s "$MNT/a/f")" "25165824  1048576  8388608"
like "the log says so" "$(cat "$MNT.log")" "slices: 1 made and 1 set as .* says; 2 others are as they were"
ok "umount" spm_umount "$MNT"
# what cannot be is refused as a whole
printf '%s\n' "[slice b]" "max = 2M" "[slice new]" "[slice a]" "max = 4M" >"$SPM_TMP/kept.conf"
mkdir -p "$SPM_TMP/no"
"$SPMFS" -f mem:64M "$SPM_TMP/no" -o "name=kept,keep,conf=$SPM_TMP/kept.conf" >"$SPM_TMP/out" 2>&1
is "max below what is in use" "$? $(tail -n 1 "$SPM_TMP/out")" \
	"32 spmfs: $SPM_TMP/kept.conf:4: slice 'a': more than its max is in use; raise max, or remove files"
spm_fresh mem:64M name=kept,keep,conf=none
is "all is as it was" "$(names) $(limits a max) $(limits b max)" "a b c mine 25165824  max "
spm_fresh mem:64M name=kept,conf=none

# ---- refusals ----

broken "[slice a]" "min = 1G" "[slice b"
refused "a broken file" "3: the section's closing '\]' is missing"
broken "[slice a]" "" "mni = 1G"
refused "an unknown key" "3: unknown key 'mni'; there are min, max, swap-max"
broken "[slice a]" "min = 1X"
refused "a value" "2: min=1X: give a size"
broken "[slice a]" "[slice a]"
refused "twice" "2: slice 'a' is in line 1 already"
broken "[slice a]" "min = 65M"
refused "more than the device" "1: slice 'a': min is 65M, and the device has 64M"
broken "[slice a]" "min = 33M" "[slice b]" "min = 33M"
refused "together more than the device" "3: up to slice 'b' the slices are guaranteed 66M together, and the device has 64M"
broken "[slice a]" "[slice b]" "nodes = 77"
refused "nodes that are none" "2: slice 'b': its nodes are not all nodes of the device"
broken "[slice a]" "min = 65M"
# as mount -f does
ln -s "$SPMFS" "$SPM_TMP/mount.fuse.spmfs"
"$SPM_TMP/mount.fuse.spmfs" mem:64M "$SPM_TMP/no" -f -o "name=refused,conf=$SPM_TMP/broken" 2>"$SPM_TMP/err"
is "mount -f tells it, too" "$? $(grep -c "slice 'a': min is 65M" "$SPM_TMP/err")" "32 1"
"$SPMFS" mem:64M "$SPM_TMP/no" -o "name=refused,conf=$SPM_TMP/nothing" 2>"$SPM_TMP/err"
is "a file that is not there" "$? $(cat "$SPM_TMP/err")" \
	"32 spmfs: option conf=$SPM_TMP/nothing: there is no such file; make it, or leave the option out"
"$SPMFS" mem:64M "$SPM_TMP/no" -o "name=refused,conf=$SPM_TMP" 2>"$SPM_TMP/err"
is "a directory" "$? $(cat "$SPM_TMP/err")" "32 spmfs: cannot read $SPM_TMP: Is a directory"
# a path as it was typed
cd "$SPM_TMP" && printf '[slice here]\n' >"rel,a.conf" || exit 1
spm_fresh mem:64M 'name=rel,conf=rel\,a.conf'
is "a relative path" "$(spm_feature conf) $(names)" "$SPM_TMP/rel,a.conf here"

spm_done
