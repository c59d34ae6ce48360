#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A mount that cannot be: the right exit status, one clear line, and nothing left behind.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

d=$SPM_TMP/mnt
mkdir "$d"
echo "not a directory" >"$SPM_TMP/file"

traces()
{
	spm_traces "$NAMES"
	ls -ldi "$d"
	ls -A "$d"
	spm_servers
}

# Names that mounts of this test are given, which nobody else uses.
NAMES="taken-${SPM_TMP##*.}"
before=$(traces)
same_traces()
{
	[ "$(traces)" = "$before" ]
}

# refused STATUS[|STATUS] REGEX DESC ARGUMENTS...: the regex says what the line has to name.
refused()
{
	local want=$1 regex=$2 desc=$3 rc out err
	shift 3
	out=$("${RUN[@]}" "$SPMFS" "$@" 2>"$SPM_TMP/err" </dev/null)
	rc=$?
	err=$(cat "$SPM_TMP/err")
	if [[ ! $rc =~ ^($want)$ ]] || [ -n "$out" ] || [ "$(wc -l <"$SPM_TMP/err")" -ne 1 ] ||
		! [[ $err =~ ^[a-z.]*spmfs:\ .*$regex ]]; then
		fail "$desc" "spmfs $*
exit status $rc, wanted $want
stderr: $err
wanted: one line that matches $regex
stdout: $out"
	elif ! wait_until 5 same_traces; then
		fail "$desc: something is left behind" "$(diff <(printf '%s\n' "$before") <(traces))"
		# One mistake is told once.
		umount "$d" 2>/dev/null
		before=$(traces)
	else
		pass "$desc: status $rc, '$err'"
	fi
}

RUN=()

# Usage.
refused 1 "" "no arguments"
refused 1 "" "no mount point" mem:64M
refused 1 "" "too many arguments" mem:64M "$d" "$d.more"
refused 1 "Z" "an unknown flag" -Z mem:64M "$d"
refused 1 "bogus" "an unknown option" mem:64M "$d" -o bogus
refused 1 "bogus" "an unknown option with a value" mem:64M "$d" -o size=1M,bogus=1
ok "mount -s passes over an unknown option" "$SPMFS" mem:64M "$d" -o bogus -s
ok "which mounts" umount "$d"
refused 1 "" "-o without its list" mem:64M "$d" -o

# Sources.
for s in mem mem: mem:0 mem:-1 mem:1e9 mem:64Q mem:64MM 'mem: 64M' mem:0x100 mem:99999999999999999999 \
	mem:9999999999T 64M ram:64M '' node: node:x node:0- node:1-0 node:0,,1 node:0:x node:0:0; do
	refused 1 "" "source '$s'" "$s" "$d"
done

# Options with values that are none.
for o in size= size=x size=-1 size=0 size=1.5G size=128M mode=9 mode=rwx mode=77777 uid=-1 uid=no-such-user \
	gid=4294967296 gid=no-such-group nr_inodes=x nr_inodes=-5 huge=sometimes mpol=bogus mpol=bind: \
	map=sideways map= commit=never name= name=../up name=a/b size keep=1 recover=1 watchdog= watchdog=-1 \
	watchdog=1s watchdog=86401; do
	refused 1 "${o%%=*}" "option $o" mem:64M "$d" -o "$o"
done

# Options about swap files without any.
for o in swapsize=1G extent=2M low=10 high=20 cold=5 compact=off; do
	refused 1 "${o%%=*}" "option $o" mem:64M "$d" -o "$o"
done

refused 1 "force" "option force" mem:64M "$d" -o force
refused 1 "mpol=.*leave mpol= out, or use mem:SIZE" "a policy for what is bound to its nodes" node:0:64M "$d" -o mpol=interleave:0

# The machine says no.
refused 32 "no-such" "a mount point that is not there" mem:64M "$d/no-such"
refused 32 "file" "a mount point that is a file" mem:64M "$SPM_TMP/file"
refused 32 "" "more memory than is free" mem:1000T "$d"
refused 32 "1000" "a node that is not there" node:1000:64M "$d"
refused 32 "mpol" "a policy for a node that is not there" mem:64M "$d" -o mpol=bind:1000
refused 32 "1000" "a node that is not there, among others" node:0,1000 "$d"

spm_need_mount mem:16M "keep,name=$NAMES"
before=$(traces)
refused 32 "in use by another mount; .*name=" "a kept region that is in use" mem:16M "$d" -o "keep,name=$NAMES"
refused 32 "in use" "the same without keep" mem:16M "$d" -o "name=$NAMES"
spm_fresh mem:16M
before=$(traces)
refused 32 "in use by another mount; .*name=" "a second mount at the same place with the default name" mem:16M "$MNT"
spm_umount
before=$(traces)
refused 32 "mem:16M" "a kept region of another source" mem:32M "$d" -o "keep,name=$NAMES"
"$SPMFS" mem:16M "$d" -o "name=$NAMES" && umount "$d"
ok "the kept region is given up" wait_until 5 spm_no_servers
ok "and nothing of it is left" test ! -e /run/spmfs
before=$(traces)

# Nobody but root, and no user namespace around it.
RUN=(setpriv --reuid "$USER_A" --regid "$USER_A" --clear-groups --)
refused 32 "" "not root" mem:64M "$d"

# A /dev without fuse, for the commands that follow only.
mkdir "$SPM_TMP/dev"
mount --bind /dev "$SPM_TMP/dev"
cat >"$SPM_TMP/bare-dev.sh" <<'END'
mount -t tmpfs none /dev && touch /dev/null && mount --bind "$1" /dev/null && shift && exec "$@"
END
RUN=(unshare --mount bash "$SPM_TMP/bare-dev.sh" "$SPM_TMP/dev/null")
before=$(traces)
refused 32 "/dev/fuse" "no /dev/fuse" mem:64M "$d"
RUN=(unshare --mount bash -c 'mount --bind /dev/null /dev/fuse && exec "$@"' bash)
refused 32 "/dev/fuse" "a /dev/fuse that is something else" mem:64M "$d"

spm_done
