#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# -o keep: the region stays after umount, and the next mount of that name finds every file in it.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

tree()
{
	(cd "$1" && find . -printf '%p %y %m %U %G %n %s %l\n' | sort && md5sum big small)
}

make_tree()
{
	head -c 20M /dev/urandom >"$1/big"
	echo small >"$1/small"
	chmod 4711 "$1/small"
	chown "$USER_A:$USER_B" "$1/small"
	ln "$1/small" "$1/hard"
	mkdir -p "$1/dir/below"
	chmod 2750 "$1/dir"
	ln -s ../small "$1/dir/sym"
	mkfifo "$1/dir/below/fifo"
	truncate -s 1G "$1/sparse" 2>/dev/null || truncate -s 1M "$1/sparse"
	"$SPMT" setxattr "$1/big" user.colour green
	"$SPMT" setxattr "$1/dir" user.spm.map mirror
	"$SPMT" setacl "$1/small" u::rwx "u:$USER_B:r" g::x m::rx o::x
}

spm_need_mount mem:128M keep,name=kept
make_tree "$MNT"
want=$(tree "$MNT")
ok "umount of a mount with keep" spm_umount
ok "no server is left" wait_until 5 spm_no_servers

spm_need_mount mem:128M keep,name=kept
is "the next mount of that name finds every file" "$(tree "$MNT")" "$want"
is "its attributes" "$("$SPMT" getxattr "$MNT/big" user.colour)" green
is "the way of mapping" "$("$SPMT" getxattr "$MNT/dir" user.spm.map)" mirror
is "its ACL: a named user may read" "$(as "$USER_B" cat "$MNT/small")" small
ok "files can be changed" eval 'echo changed >"$MNT/small" && rm "$MNT/hard" && echo new >"$MNT/new"'
actor a
says "and mapped" a ok open f rw "$MNT/big"
says "as before" a ok map m f rw shared 0 20M
says "written" a ok put m 0 mapped
actor_end a
want=$(tree "$MNT")

# An unlinked open file must not come back as a file, nor its memory stay.
exec {fd}<>"$MNT/unlinked"
rm "$MNT/unlinked"
head -c 8M /dev/zero >&"$fd"
exec {fd}>&-

spm_need_mount mem:64M name=other
is "another name has its own region" "$(ls -A "$MNT2")" ""
spm_umount "$MNT2"

dir=$MNT
kill -TERM "$(spm_feature keeper_pid)"
ok "SIGTERM keeps the region too" wait_until 10 spm_no_servers
wait "${SPM_MOUNTS[$dir]}"
unset "SPM_MOUNTS[$dir]"

spm_need_mount mem:128M name=kept
is "and the third mount finds what the second changed" "$(tree "$MNT")" "$want"
is "what was mapped and written is there" "$(head -c 6 "$MNT/big")" mapped
used=$(spm_stat resident_bytes)
ok "the unlinked file's memory is free" test "$used" -lt $((28 * 1048576))
spm_umount
is "a mount without keep ends it: nothing in /run" "$(find /run/spmfs -name '*kept*' 2>/dev/null)" ""

spm_need_mount mem:128M keep,name=kept
is "so the next one is empty" "$(ls -A "$MNT")" ""
spm_umount
spm_need_mount mem:128M name=kept
spm_umount

# A namespace can be kept only in one with a smaller number, and the kernel takes the numbers from a stock
# that each CPU has: a later namespace, made on another CPU, may have the smaller number.
cat >"$SPM_TMP/on-cpus.sh" <<'END'
mkdir -p "$2" && "$1" mem:16M "$2" -o keep,name=cpus && echo x >"$2/f" && umount "$2" &&
	"$1" mem:16M "$2" -o name=cpus && [ -s "$2/f" ] && umount "$2"
END
read -ra cpus < <(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' |
	awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2) && n < 3; i++) printf "%d ", i; n++ }')
for a in "${cpus[@]:0:3}"; do
	for b in "${cpus[@]:0:3}"; do
		ok "mounting from CPU $b in a namespace that was made on CPU $a" taskset -c "$a" \
			unshare --mount --propagation private taskset -c "$b" \
			bash "$SPM_TMP/on-cpus.sh" "$SPMFS" "$SPM_TMP/cpus"
		ok "its servers ended" wait_until 5 spm_no_servers
	done
done

# A mount that fails leaves a kept region as it was.
spm_need_mount mem:64M keep,name=fails
echo precious >"$MNT/f"
spm_umount
mkdir "$SPM_TMP/fails"
mount --bind /dev/null /dev/fuse
fails "a mount of it that fails" "$SPMFS" mem:64M "$SPM_TMP/fails" -o name=fails
umount /dev/fuse
spm_need_mount mem:64M name=fails
is "leaves its files alone" "$(cat "$MNT/f")" precious
spm_umount

# SIGTERM takes the mount from under its users: what they wrote through mirror mappings is kept.
d=$SPM_TMP/flush
mkdir "$d"
ok "a kept mirror" "$SPMFS" mem:64M "$d" -o keep,name=flush,map=mirror
truncate -s 4096 "$d/f"
actor a
tell a open f rw "$d/f"
tell a map m f rw shared 0 4096
says "is written through a mapping" a ok mfill m 0 4096 7
kill -TERM "$(sed -n 's/^keeper_pid //p' "$d/.spm/features")"
gone()
{
	! mountpoint -q "$d"
}
ok "SIGTERM ends the mount" wait_until 10 gone
actor_end a
ok "mounted again" "$SPMFS" mem:64M "$d" -o name=flush
actor b
tell b open f rw "$d/f"
says "what was written is there" b ok verify f 0 4096 7
actor_end b
ok "and unmounted" umount "$d"
ok "the servers ended" wait_until 10 spm_no_servers

# A direct mapping outlives its mount, so the next mount must not give the file a second, cached view.
ok "a kept mount" "$SPMFS" mem:64M "$d" -o keep,name=outlives
truncate -s 4096 "$d/f"
actor c
tell c open f rw "$d/f"
tell c map m f rw shared 0 4096
says "a file of it is mapped directly" c ok mfill m 0 4096 1
tell c close f
kill -TERM "$(sed -n 's/^keeper_pid //p' "$d/.spm/features")"
ok "the mount ends, the mapping stays" wait_until 10 gone
# the mapping refers to the mount, so the server is told to end only after a moment
ok "its server ends" wait_until 10 spm_no_servers
ok "mounted again while it is mapped" "$SPMFS" mem:64M "$d" -o name=outlives
"$SPMT" setxattr "$d/f" user.spm.map mirror
is "the file is still direct" "$(file_mode "$d/f")" direct
actor e
tell e open f rw "$d/f"
is "though mirror is asked for" "$(file_mode "$d/f")" direct
says "a store through the old mapping" c ok mfill m 0 4096 5
says "is seen by who opens it now" e ok verify f 0 4096 5
tell e close f
actor_end c e
is "when nobody maps it, it is idle" "$(file_mode "$d/f")" idle
ok "unmounted for good" umount "$d"
ok "and the servers ended" wait_until 10 spm_no_servers

# Another mount namespace may have a mount of the same name, which takes away what is its own when it ends.
ok "a kept mount" "$SPMFS" mem:16M "$d" -o keep,name=same
echo mine >"$d/f"
mkdir "$SPM_TMP/other"
# shellcheck disable=SC2016 # the inner shell's arguments
ok "one of the same name in another namespace comes and goes" unshare --mount --propagation private bash -c '
	mount -t tmpfs none /run && "$1" mem:16M "$2" -o name=same && umount "$2" &&
	for i in $(seq 100); do [ -e /run/spmfs ] || exit 0; sleep 0.1; done; exit 1' - "$SPMFS" "$SPM_TMP/other"
is "pin and socket are still there" "$(cd /run/spmfs && echo *)" "same.ns same.sock"
ok "unmounted" umount "$d"
ok "and the servers ended" wait_until 10 spm_no_servers
ok "mounted again" "$SPMFS" mem:16M "$d" -o name=same
is "with its files" "$(cat "$d/f")" mine
ok "unmounted for good" umount "$d"
ok "and the servers ended" wait_until 10 spm_no_servers

spm_done
