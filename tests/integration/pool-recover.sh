#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A pool outlives its servers: kept, recovered after every process was killed; and is refused on a device that another one has used since.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../pooling.sh
. "$top_srcdir/tests/pooling.sh"
export SPMFS_FAULTS=1

d=$SPM_TMP/mnt
mkdir "$d"

tree()
{
	(cd "$1" && find . -printf '%p %y %m %U %G %n %s %b %T@ %l\n' | sort && find . -type f -exec md5sum {} + | sort)
}

make_tree()
{
	put "$1/big" 9M 7
	echo small >"$1/small"
	chmod 4711 "$1/small"
	ln "$1/small" "$1/hard"
	mkdir -p "$1/dir/below"
	ln -s ../small "$1/dir/sym"
	truncate -s 5M "$1/dir/hole"
	printf x | dd of="$1/dir/hole" bs=1 seek=4M conv=notrunc status=none
}

refused()
{
	local out rc
	out=$("$SPMFS" "$DAX" "$d" -o "$3" 2>&1 </dev/null)
	rc=$?
	if [ $rc -gt 0 ] && [ "$(wc -l <<<"$out")" -eq 1 ] && [[ $out =~ $1 ]]; then
		pass "$2: $out"
	else
		fail "$2" "status $rc: $out"
	fi
}

ended()
{
	ok "$1: umount" umount "$d"
	ok "$1: every server ended" wait_until 10 spm_no_servers
}

all_die()
{
	spm_kill_servers
	umount -l "$d"
}

pool_device 64M
ok "a mount" "$SPMFS" "$DAX" "$d" -o name=pool
make_tree "$d"
put "$d/unlinked" 8M 1
exec {fd}<"$d/unlinked"
rm "$d/unlinked"
want=$(tree "$d")
used=$(($(spm_stat resident_bytes "$d") - 8 * MIB))
all_die
exec {fd}<&-
refused "'pool'.*recover" "without recover the region is named and left alone" name=pool
ok "recover" "$SPMFS" "$DAX" "$d" -o name=pool,recover
is "every file, name, mode, block and byte is as it was" "$(tree "$d")" "$want"
is "what was unlinked is free" "$(spm_stat resident_bytes "$d")" "$used"
ok "it goes on" put "$d/more" 6M 3
ok "and holds" check "$d/more" 6M 3
rm "$d/more"

# Cut off when everybody died: the note is finished by whoever comes next.
echo "setattr:truncated kill 1 20" >"$d/.spm/fault"
put "$d/cut" 7M 5
(truncate -s 1M "$d/cut" 2>/dev/null &)
wait_until 10 eval '[ "$(spm_feature worker_restarts "$d")" -gt 0 ]'
all_die
ok "recover after a truncate that was not finished" "$SPMFS" "$DAX" "$d" -o name=pool,recover
size=$(stat -c %s "$d/cut")
[ "$size" -eq $((1 * MIB)) ] || [ "$size" -eq $((7 * MIB)) ] || fail "its size: $size"
ok "what is left is right" check "$d/cut" "$size" 5
# shellcheck disable=SC2017 # whole extents
is "and behind it are no extents" "$(stat -c %b "$d/cut")" $(((size + 2 * MIB - 1) / (2 * MIB) * 2 * MIB / 512))
truncate -s 8M "$d/cut"
is "and zeros" "$(tail -c $((8 * MIB - size)) "$d/cut" | tr -d '\0' | wc -c)" 0
rm "$d/cut"
is "the rest is as it was" "$(tree "$d" | grep -v '^\. ')" "$(grep -v '^\. ' <<<"$want")"
ended "recovered"

# keep
ok "keep: a mount" "$SPMFS" "$DAX" "$d" -o name=kept,keep,extent=128K
make_tree "$d"
want=$(tree "$d")
ended "keep"
refused "extent=.*128K" "keep: another extent" name=kept,keep,extent=64K
refused "holds more" "keep: less than it holds" name=kept,keep,size=1M
ok "keep: found again" "$SPMFS" "$DAX" "$d" -o name=kept,keep
is "keep: as it was" "$(tree "$d")" "$want"
is "keep: its extent" "$(spm_feature extent "$d")" 131072
ended "keep again"

# the device is used by another meanwhile
refused "holds the files of 'kept'.*umount /run/spmfs/kept.ns && rm" "keep: the device is not another's" name=thief
if [ -z "${SPM_DAX:-}" ]; then
	# by another name it is the same file
	ok "another mount of the device" "$SPMFS" dax9.9 "$d" -o name=thief
	put "$d/f" 20M 9
	ended "thief"
	refused "another mount has used the device.*umount /run/spmfs/kept.ns && rm" "keep: the device was used since" name=kept,keep
	refused "another mount has used the device" "keep: recover does not help" name=kept,keep,recover
	refused "another mount has used the device" "keep: nor does force" name=kept,keep,force
fi
ok "given up by hand" eval 'umount /run/spmfs/kept.ns && rm /run/spmfs/kept.ns'
ok "a new one" "$SPMFS" "$DAX" "$d" -o name=kept
is "is empty" "$(ls -A "$d")" ""
ended "new"

# Unplugged and plugged in again: the label says that it is the pool's, nobody says what happened to the rest meanwhile.
if [ -z "${SPM_DAX:-}" ]; then
	pool_device 64M
	ok "away: a mount" "$SPMFS" "$DAX" "$d" -o name=away
	make_tree "$d"
	want=$(tree "$d")
	all_die
	mv "$SPMFS_DAX_FILE" "$SPMFS_DAX_FILE.was"
	truncate -s 64M "$SPMFS_DAX_FILE"
	refused "it is another device" "away: another one in its place" name=away,recover,force
	cp "$SPMFS_DAX_FILE.was" "$SPMFS_DAX_FILE"
	rm "$SPMFS_DAX_FILE.was"
	refused "let go of.*-o force.*umount /run/spmfs/away.ns && rm" "away: it is back, and that is told" name=away,recover
	ok "away: taken as it is" "$SPMFS" "$DAX" "$d" -o name=away,recover,force
	is "away: all is there" "$(tree "$d")" "$want"
	all_die
	ok "away: that was said once" "$SPMFS" "$DAX" "$d" -o name=away,recover
	is "away: all is there again" "$(tree "$d")" "$want"
	ended "away"
fi
is "nothing is left in /run" "$(find /run/spmfs -mindepth 1 2>/dev/null)" ""
spm_done
