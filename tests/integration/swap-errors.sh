#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Trouble with swap files: EIO for exactly the extent that cannot be read back, a count, a line with path and offset; all
# else goes on. What cannot be written stays on the device, or goes to another file.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
export SPMFS_FAULTS=1

fault()
{
	printf '%s\n' "$*" >"$MNT/.spm/fault"
}

swap_file()
{
	find "$SWAP" -type f | head -n 1
}

# Content in which every block can be found again: "NAME 000012|" and the same again and again.
text()
{
	awk -v name="$2" -v n="$(($3 / 4096))" 'BEGIN {
		for (i = 0; i < n; i++) {
			s = sprintf("%-15.15s %06d.........", name, i); t = ""
			for (k = 0; k < 128; k++) t = t s "\n"
			printf "%s", substr(t, 1, 4096)
		}
	}' >"$1"
}

# Where in the swap file that block is.
slot_of()
{
	LC_ALL=C grep -abo -m 1 -F -- "$(printf '%-15.15s %06d' "$1" "$2")" "$(swap_file)" | head -n 1 | cut -d : -f 1
}

# overwrite AT TEXT: beside the worker's back.
overwrite()
{
	printf '%s' "$2" | dd of="$(swap_file)" bs=1 seek="$1" conv=notrunc,fsync status=none
	sync "$(swap_file)"
	echo 1 >/proc/sys/vm/drop_caches
}

# Reads of a file past the client's page cache: page N, or all of it.
page()
{
	dd if="$1" of=/dev/null bs=4k skip="$2" count=1 iflag=direct 2>&1
}

# unreadable DESC FILE COPY PAGE: that gives EIO, what is in other extents is right; it is counted and logged.
unreadable()
{
	local what=$1 f=$2 copy=$3 page=$4 size errors
	local x=$((page / 512))
	size=$(stat -c %s "$f")
	errors=$(spm_stat swap_errors)
	echo 1 >/proc/sys/vm/drop_caches
	like "$what: EIO" "$(page "$f" "$page")" "Input/output error"
	ok "$what: it is counted" [ "$(spm_stat swap_errors)" -gt "$errors" ]
	like "$what: it is logged with path and offset" "$(cat "$MNT.log")" "${f##*/}.*offset $((x * 2 * MIB))"
	ok "$what: what is before it is right" cmp -n $((x * 2 * MIB)) "$f" "$copy"
	ok "$what: and behind it" cmp -i $(((x + 1) * 2 * MIB)) -n $((size - (x + 1) * 2 * MIB)) "$f" "$copy"
	like "$what: EIO again" "$(page "$f" "$page")" "Input/output error"
	like "$what: and for who reads all of it" "$(cat "$f" 2>&1 >/dev/null)" "Input/output error"
	ok "$what: stat works" stat "$f"
}

# ruin DESC MODE PAGE HOW: a file of 8 MiB that is out, of which the third extent (page 1024 to 1535) is spoilt by HOW.
ruin()
{
	local what=$1 mode=$2 page=$3 how=$4 f copy
	name=victim$((++VICTIMS))
	f=$MNT/$name copy=$SPM_TMP/copy
	text "$copy" "$name" $((8 * MIB))
	cp "$copy" "$f"
	"$SPMT" setxattr "$f" user.spm.map "$mode"
	cp "$copy" "$MNT/neighbour$VICTIMS"
	evict "$f" "$MNT/neighbour$VICTIMS" || fail "$what: evict"
	$how
	unreadable "$what" "$f" "$copy" "$page"
	ok "$what: another file is right" cmp "$copy" "$MNT/neighbour$VICTIMS"
	actor a
	"$SPMT" setxattr "$f" user.spm.map direct
	says "$what: it cannot be opened directly" a "err EIO" open f rw "$f"
	"$SPMT" setxattr "$f" user.spm.map auto
	says "$what: auto opens it" a ok open f rw "$f"
	is "$what: as a mirror" "$(file_mode "$f")" mirror
	says "$what: a part of the extent cannot be written" a "err EIO" write f $((5 * MIB)) x
	says "$what: what is lost can be cut out" a ok falloc f punch 4M 2M
	actor_end a
	ok "$what: and written anew" dd if="$copy" of="$f" bs=2M skip=2 seek=2 count=1 conv=notrunc status=none
	ok "$what: then all is right" cmp "$copy" "$f"
	rm "$f" "$MNT/neighbour$VICTIMS"
}

flip()
{
	overwrite $(($(slot_of "$name" 1234) + 100)) "#"
}

# The writing of the slot stopped half way: behind that is what was there before.
tear()
{
	dd if=/dev/zero of="$(swap_file)" bs=4096 seek=$(($(slot_of "$name" 1280) / 4096)) count=256 conv=notrunc,fsync status=none
	echo 1 >/proc/sys/vm/drop_caches
}

# The slot has another extent's content, whole.
mix_up()
{
	dd if="$(swap_file)" of="$(swap_file)" bs=4096 skip=$(($(slot_of "$name" 512) / 4096)) \
		seek=$(($(slot_of "$name" 1024) / 4096)) count=513 conv=notrunc,fsync status=none
	echo 1 >/proc/sys/vm/drop_caches
}

trailer()
{
	overwrite $(($(slot_of "$name" 1024) + 2 * MIB + 40)) "#"
}

VICTIMS=0
for mode in mirror auto; do
	swap_mount mem:64M 256M
	ruin "a flipped bit, $mode" "$mode" 1234 flip
	ruin "a torn slot, $mode" "$mode" 1300 tear
	ruin "a slot of another, $mode" "$mode" 1024 mix_up
	ruin "a trailer, $mode" "$mode" 1500 trailer
	swap_leaves_nothing "$mode"
	is "$mode: no worker died" "$(spm_feature worker_restarts)" 0
done

# What is lost can be given up in each of the usual ways, and then the file is as good as any.
spoil()
{
	text "$copy" "$name" $((8 * MIB))
	cp "$copy" "$f"
	evict "$f" || fail "$1: evict"
	flip
	like "$1: one page cannot be read" "$(page "$f" 1234)" "Input/output error"
}
swap_mount mem:64M 256M map=mirror
copy=$SPM_TMP/copy name=spoilt f=$MNT/spoilt
spoil "cp"
ok "cp over it" cp "$copy" "$f"
ok "cp: all is right" cmp "$copy" "$f"
spoil "truncate"
ok "truncate to nothing" truncate -s 0 "$f"
ok "truncate: written anew" dd if="$copy" of="$f" bs=1M status=none
ok "truncate: all is right" cmp "$copy" "$f"
spoil "cut off"
ok "cut off before it" truncate -s 3M "$f"
ok "cut off: the rest is right" cmp -n $((3 * MIB)) "$copy" "$f"
spoil "a hole"
like "the log says what to do" "$(cat "$MNT.log")" "spoilt cannot be read at offset 4194304: .*; .*fallocate -p"
ok "a hole in place of one page" fallocate -p -o $((1234 * 4096)) -l 4096 "$f"
ok "a hole: zeros" cmp -i $((1234 * 4096)):0 -n 4096 "$f" /dev/zero
ok "a hole: right before it" cmp -n $((1234 * 4096)) "$copy" "$f"
ok "a hole: right behind it" cmp -i $((1235 * 4096)) "$copy" "$f"
ok "a hole: written anew" dd if="$copy" of="$f" bs=4k skip=1234 seek=1234 count=1 conv=notrunc status=none
ok "a hole: all is right" cmp "$copy" "$f"
ok "a hole: it can be opened directly" eval '"$SPMT" setxattr "$f" user.spm.map direct; cmp "$copy" "$f"'
"$SPMT" setxattr "$f" user.spm.map mirror
spoil "rm"
ok "rm" rm "$f"
swap_leaves_nothing "given up"

# Small slots have no trailer.
swap_mount mem:64M 256M
text "$SPM_TMP/small" smallfile 8192
cp "$SPM_TMP/small" "$MNT/small"
evict "$MNT/small"
name=smallfile
overwrite $(($(slot_of smallfile 1) + 5)) "#"
like "a small slot: EIO" "$(cat "$MNT/small" 2>&1 >/dev/null)" "Input/output error"
ok "unlink works" rm "$MNT/small"

# EIO of the disk.
"$SPMT" setxattr "$MNT" user.spm.map mirror
put "$MNT/f" 8M 1
evict "$MNT/f"
errors=$(spm_stat swap_errors)
fault "swapio:read eio 1 100000"
like "a read error" "$(page "$MNT/f" 5)" "Input/output error"
ok "is counted" [ "$(spm_stat swap_errors)" -gt "$errors" ]
like "and is one for who writes a part" "$(dd if=/dev/zero of="$MNT/f" bs=100 count=1 conv=notrunc 2>&1)" "Input/output error"
fault clear
ok "it has passed: the content is there" check "$MNT/f" 8M 1
"$SPMT" setxattr "$MNT" user.spm.map direct
evict "$MNT/f"
fault "swapio:read eio"
actor a
says "a read error at a direct open" a "err EIO" open f r "$MNT/f"
"$SPMT" setxattr "$MNT" user.spm.map auto
evict "$MNT/f"
fault "swapio:read eio"
says "with auto it is no error" a ok open f r "$MNT/f"
is "but makes a mirror" "$(file_mode "$MNT/f")" mirror
says "which is right" a ok verify f 0 8M 1
tell a close f
"$SPMT" setxattr "$MNT" user.spm.map direct
says "the next direct open" a ok open f r "$MNT/f"
is "is direct" "$(file_mode "$MNT/f")" direct
actor_end a
fault clear

# Write errors.
spm_umount_all
mkdir -p "$SPM_TMP/one" "$SPM_TMP/two"
spm_need_mount mem:64M "swap=$SPM_TMP/one:$SPM_TMP/two,swapsize=512M"
SWAP_FREE=$(spm_stat free_bytes)
for i in 1 2 3 4; do
	put "$MNT/f$i" 8M "$i" >/dev/null
done
evict "$MNT"/f?
fault "swapio:write eio"
for i in $(seq 5 24); do
	put "$MNT/f$i" 8M "$i" >/dev/null || fail "a write error of one file: f$i cannot be written"
done
ok "a write error is counted" [ "$(spm_stat swap_write_errors)" -ge 1 ]
like "and logged with the swap file's path" "$(cat "$MNT.log")" "$SPM_TMP/(one|two)/"
ok "everything is right, also what was out before" eval 'for i in $(seq 1 24); do check "$MNT/f$i" 8M $i || exit 1; done'
rm "$MNT"/f*
for i in $(seq 1 20); do
	put "$MNT/g$i" 8M "$i" >/dev/null || fail "after a file is retired: g$i cannot be written"
done
ok "everything that came later is right" eval 'for i in $(seq 1 20); do check "$MNT/g$i" 8M $i || exit 1; done'
kill -KILL "$(spm_server_pid)"
ok "also for the next worker" eval 'for i in $(seq 1 20); do check "$MNT/g$i" 8M $i || exit 1; done'
fault clear
fault "swapio:write eio 1 1000000"
out=$(for i in $(seq 21 60); do put "$MNT/g$i" 8M "$i" || break; done | tail -n 1)
like "no file can be written: ENOSPC" "$out" "ENOSPC$"
fault clear
ok "and all that was said to be written is right" eval 'for i in $(seq 1 20); do check "$MNT/g$i" 8M $i || exit 1; done'
is "and no worker died of it" "$(spm_feature worker_restarts)" 1
swap_leaves_nothing "write errors"

# The file is taken away, or cut off.
swap_mount mem:64M 256M
for i in $(seq 1 20); do
	put "$MNT/f$i" 8M "$i" >/dev/null || fail "f$i cannot be written"
done
rm "$(swap_file)"
ok "swap file deleted: everything is right" eval 'for i in $(seq 1 20); do check "$MNT/f$i" 8M $i || exit 1; done'
ok "and can be written" eval 'for i in $(seq 1 20); do put "$MNT/f$i" 8M $((i + 100)) >/dev/null || exit 1; done'
ok "and read" eval 'for i in $(seq 1 20); do check "$MNT/f$i" 8M $((i + 100)) || exit 1; done'
kill -KILL "$(spm_server_pid)"
ok "by the next worker" eval 'for i in $(seq 1 20); do check "$MNT/f$i" 8M $((i + 100)) || exit 1; done'
swap_leaves_nothing "swap file deleted"
ok "umount" spm_umount
swap_mount mem:64M 256M
for i in $(seq 1 20); do
	put "$MNT/f$i" 8M "$i" >/dev/null || fail "f$i cannot be written"
done
truncate -s 64M "$(swap_file)"
good=0 bad=0
for i in $(seq 1 20); do
	out=$(check "$MNT/f$i" 8M "$i" 2>&1)
	if grep -q EIO <<<"$out"; then
		bad=$((bad + 1))
	elif ! grep -qE 'err' <<<"$out"; then
		good=$((good + 1))
	else
		fail "cut off: f$i is wrong: $out"
	fi
done
ok "swap file cut off: some are unreadable ($bad), the others are right ($good)" [ "$bad" -gt 0 -a "$good" -gt 4 ]
ok "all can be removed" rm "$MNT"/f*
is "the worker lives" "$(spm_feature worker_restarts)" 0
ok "and something new can be written" put "$MNT/new" 8M 1
ok "and read" check "$MNT/new" 8M 1
spm_done
