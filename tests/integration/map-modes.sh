#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Direct, mirror, auto: which one an open gets, and that no mapping ever sees anything but the file, whatever
# clients do with it. A file changes its mode only when nobody can have it mapped.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

AS_NOBODY=(setpriv --reuid 65534 --regid 65534 --clear-groups --)

set_map()
{
	"$SPMT" setxattr "$2" user.spm.map "$1"
}

# A file of 4 MiB with pattern $2 that nobody has open.
new_file()
{
	rm -f "$1"
	"$SPMT" run "open f rw,creat $1" "fill f 0 4M $2" >/dev/null
	chmod 666 "$1"
	becomes_idle "$1"
}

mode_is()
{
	[ "$(file_mode "$1")" = "$2" ]
}

# RELEASE follows the close, but not at once.
becomes_idle()
{
	wait_until 5 mode_is "$1" idle
}

# Opens FILE with the actor "probe" and tells which mode that open got.
mode_of_open()
{
	tell probe open probe rw "$1"
	file_mode "$1"
	tell probe close probe
}

# direct -> mirror -> direct, with a mapping after close that holds it direct for as long as it lives.
changes_of_mode()
{
	local f=$MNT/f
	new_file "$f" 1
	is "$1: nobody has it open: idle" "$(file_mode "$f")" idle
	says "$1: A opens" a ok open f rw "$f"
	says "$1: maps" a ok map m f rw shared 0 4M
	says "$1: and closes" a ok close f
	set_map mirror "$f"
	says "$1: B opens, and asks for a mirror" b ok open f rw "$f"
	is "$1: it gets direct, for A still maps" "$(file_mode "$f")" direct
	says "$1: B writes" b "ok 4" write f 0 from
	says "$1: A sees it" a "ok from" get m 0 4
	says "$1: A writes by its mapping" a ok put m 8192 back
	says "$1: B reads it" b "ok back" read f 8192 4
	says "$1: B maps too" b ok map m f rw shared 0 4M
	says "$1: and sees the same" b "ok back" get m 8192 4
	tell b unmap m
	tell b close f
	says "$1: A lets go" a ok unmap m
	ok "$1: idle again" becomes_idle "$f"
	says "$1: B opens again" b ok open f rw "$f"
	is "$1: now it is a mirror" "$(file_mode "$f")" mirror
	says "$1: with what B wrote" b "ok from" read f 0 4
	says "$1: and A" b "ok back" read f 8192 4
	says "$1: and the rest unharmed" b ok verify f 12K 4084K 1
	says "$1: B maps the mirror" b ok map m f rw shared 0 4M
	says "$1: closes" b ok close f
	says "$1: and writes there" b ok put m 16384 mirrored
	set_map direct "$f"
	says "$1: A opens, and asks for direct" a ok open f rw "$f"
	is "$1: a mapped mirror stays one" "$(file_mode "$f")" mirror
	says "$1: A sees what B wrote there" a "ok mirrored" read f 16384 8
	says "$1: B lets go" b ok unmap m
	tell a close f
	ok "$1: idle once more" becomes_idle "$f"
	says "$1: the next open" a ok open f rw "$f"
	is "$1: is direct" "$(file_mode "$f")" direct
	says "$1: with what was written to the mirror" a "ok mirrored" read f 16384 8
	says "$1: mapped" a ok map m f rw shared 0 4M
	says "$1: it is there too" a "ok mirrored" get m 16384 8
	says "$1: and the rest is unharmed, after three modes" a ok mverify m 1M 3M 1
	says "$1: A writes once more" a ok put m 16384 directly
	tell a unmap m
	tell a close f
	ok "$1: idle for the last time" becomes_idle "$f"
	set_map mirror "$f"
	says "$1: a mirror again" b ok open f rw "$f"
	is "$1: by its status, too" "$(file_mode "$f")" mirror
	says "$1: it does not show what the first mirror had" b "ok directly" read f 16384 8
	says "$1: nor when mapped" b ok map m f r shared 0 4M
	says "$1: but what is in the file" b "ok directly" get m 16384 8
	says "$1: all of it" b ok mverify m 1M 3M 1
	tell b unmap m
	tell b close f
	ok "$1: and idle" becomes_idle "$f"
}

many_opens()
{
	local f=$MNT/many h
	new_file "$f" 2
	tell a open f rw "$f"
	says "$1: A maps read-write" a ok map m f rw shared 0 4M
	says "$1: B opens read-only" b ok open r r "$f"
	says "$1: and read-write" b ok open w rw "$f"
	says "$1: and write-only" b ok open o w "$f"
	says "$1: what goes in by one" b "ok 5" write o 0 write
	says "$1: comes out by another" b "ok write" read r 0 5
	says "$1: and is in A's mapping" a "ok write" get m 0 5
	says "$1: A writes by its mapping" a ok put m 1M mapped
	says "$1: the reader has it" b "ok mapped" read r 1M 6
	says "$1: the reader maps" b ok map m r r shared 0 4M
	for h in r w o; do
		says "$1: B closes one" b ok close $h
		says "$1: A's mapping goes on" a ok put m 2M "$h"
		says "$1: B's as well" b "ok $h" get m 2M 1
	done
	says "$1: the rest is whole" b ok mverify m 3M 1M 2
	tell b unmap m
	tell a unmap m
	tell a close f
	ok "$1: and idle at the end" becomes_idle "$f"
}

other_processes()
{
	local f=$MNT/pass
	new_file "$f" 3
	set_map mirror "$f"
	set_map direct "$f"
	tell a open f rw "$f"
	tell a map m f rw shared 0 4M
	tell a close f
	ok "$1: A forks, and its parent ends" actor_fork a
	set_map mirror "$f"
	is "$1: the child's mapping holds the file direct" "$(mode_of_open "$f")" direct
	says "$1: the child reads" a ok mverify m 0 4M 3
	says "$1: and writes" a ok put m 0 child
	is "$1: into the file" "$(head -c 5 "$f")" child
	says "$1: the child lets go" a ok unmap m
	ok "$1: idle" becomes_idle "$f"
	is "$1: a mirror now" "$(mode_of_open "$f")" mirror
	ok "$1: and idle" becomes_idle "$f"

	set_map direct "$f"
	tell b sock s "spmfs-test-$SPM_TEST_ID"
	tell a open f rw "$f"
	says "$1: A sends its descriptor to B" a ok send f "spmfs-test-$SPM_TEST_ID"
	says "$1: and closes it" a ok close f
	set_map mirror "$f"
	is "$1: a descriptor on its way is an open" "$(mode_of_open "$f")" direct
	says "$1: B receives" b ok recv f s
	says "$1: maps" b ok map m f rw shared 0 4M
	says "$1: and closes" b ok close f
	is "$1: a mapping by a received descriptor counts" "$(mode_of_open "$f")" direct
	says "$1: B has the data" b ok mverify m 1M 3M 3
	tell b unmap m
	tell b close s
	ok "$1: idle again" becomes_idle "$f"
	is "$1: and a mirror" "$(mode_of_open "$f")" mirror
}

kinds_of_mapping()
{
	local f=$MNT/kinds
	new_file "$f" 4
	tell a open f rw "$f"
	tell b open f rw "$f"
	says "$1: B maps privately" b ok map p f rw private 0 4M
	says "$1: and sees the file" b ok mverify p 0 4M 4
	says "$1: writes there" b ok put p 0 private
	says "$1: and sees that" b "ok private" get p 0 7
	says "$1: the file does not" a ok verify f 0 4M 4
	says "$1: A writes the file" a "ok 6" write f 1M shared
	says "$1: B's untouched private page shows it" b "ok shared" get p 1M 6
	tell b unmap p

	says "$1: A maps half" a ok map m f rw shared 0 2M
	says "$1: mremap to the whole" a ok mremap m 4M
	says "$1: it is there" a ok mverify m 2M 2M 4
	says "$1: the file grows" a ok trunc f 8M
	says "$1: mremap follows" a ok mremap m 8M
	says "$1: the new part is zero" a ok get m 6M 8
	says "$1: and can be written" a ok put m 6M grown
	says "$1: B reads that" b "ok grown" read f 6M 5
	says "$1: mremap back to a part" a ok mremap m 1M
	says "$1: which is right" a ok mverify m 0 1M 4
	says "$1: mlock" a ok mlock m
	says "$1: a locked page can be written" a ok put m 0 locked
	says "$1: and read by B" b "ok locked" read f 0 6
	tell a close f
	tell b close f
	set_map mirror "$f"
	is "$1: the moved and locked mapping holds the file direct" "$(mode_of_open "$f")" direct
	tell a unmap m
	ok "$1: until it goes" becomes_idle "$f"
}

# What any user may do to pages that he maps, whoever's they are.
unkind_mappers()
{
	local f=$MNT/unkind
	new_file "$f" 5
	tell a open f rw "$f"
	tell a map m f rw shared 0 4M
	tell nobody open f rw "$f"
	says "$1: uid 65534 maps" nobody ok map m f rw shared 0 4M
	says "$1: touches" nobody ok touch m 0 4K
	says "$1: and untouches" nobody ok put m 0 12345678
	tell a fill f 0 4K 5
	says "$1: mbind by uid 65534" nobody ok mbind m bind 0
	says "$1: leaves the data alone" a ok mverify m 0 4M 5
	# Setting the policy may have unmapped them; move_pages looks at what is mapped only.
	says "$1: for him as well" nobody ok mverify m 0 16K 5
	says "$1: move_pages by uid 65534" nobody "ok 0 0 0 0" movepages m 0 4
	says "$1: leaves it alone, too" a ok mverify m 0 4M 5
	says "$1: MADV_PAGEOUT" nobody ok madvise m 0 4M pageout
	says "$1: too" a ok mverify m 0 4M 5
	says "$1: MADV_DONTNEED" nobody ok madvise m 0 4M dontneed
	says "$1: too" nobody ok mverify m 0 4M 5
	is "$1: none is on a foreign node" "$(spm_stat foreign_bytes)" 0
	says "$1: MADV_REMOVE of 1 MiB" nobody ok madvise m 1M 1M remove
	says "$1: zeros there" a ok get m 1M 8
	says "$1: for read() as well" a ok read f 1M 8
	says "$1: nothing else" a ok mverify m 0 1M 5
	says "$1: on either side" a ok mverify m 2M 2M 5
	says "$1: the hole can be filled" a "ok 1048576" fill f 1M 1M 6
	says "$1: and is seen" nobody ok mverify m 1M 1M 6
	tell a unmap m
	tell nobody unmap m
	tell a close f
	tell nobody close f
	becomes_idle "$f"
}

unlinked()
{
	local f=$MNT/unlinked before
	before=$(spm_stat resident_bytes)
	new_file "$f" 7
	tell a open f rw "$f"
	tell a map m f rw shared 0 4M
	tell a close f
	rm "$f"
	says "$1: a file that is unlinked while mapped" a ok mverify m 0 4M 7
	says "$1: can be written" a ok mfill m 0 4M 8
	new_file "$MNT/another" 9
	says "$1: and shares its pages with no new file" a ok mverify m 0 4M 8
	rm "$MNT/another"
	tell a unmap m
	ok "$1: its memory comes back when the mapping goes" wait_until 5 resident_at_most $((before + 65536))
}

resident_at_most()
{
	[ "$(spm_stat resident_bytes)" -le "$1" ]
}

executing()
{
	local dir want got
	mkdir -p "$SPM_TMP/ref"
	mountpoint -q "$SPM_TMP/ref" || mount -t tmpfs spm-test-ref "$SPM_TMP/ref"
	for dir in "$SPM_TMP/ref" "$MNT"; do
		cp "$SPMT" "$dir/prog"
		SPMT=$dir/prog actor run
		tell run pid
		got="it runs: ${REPLY%% *}"
		tell a open f w "$dir/prog"
		got="$got, open for writing meanwhile: $REPLY"
		[ "$REPLY" = ok ] && tell a close f
		tell run pid
		got="$got, it still runs: ${REPLY%% *}"
		actor_end run
		tell a open f w "$dir/prog"
		got="$got, afterwards: $REPLY"
		tell a close f
		want=${want:-$got}
	done
	is "$1: executing a file is as on tmpfs" "$got" "$want"
	rm "$MNT/prog"
}

actor a
actor b
actor probe
actor nobody "${AS_NOBODY[@]}"
for opts in map=direct size=128M,map=direct; do
	spm_fresh mem:256M "$opts"
	for part in changes_of_mode many_opens other_processes kinds_of_mapping unkind_mappers unlinked \
		executing; do
		$part "$opts"
	done
done

# On a mirror, too, everything but the mode is the same.
for opts in map=mirror nopassthrough; do
	spm_fresh mem:256M "$opts"
	many_opens "$opts"
	unlinked "$opts"
	executing "$opts"
done
like "nopassthrough: features says so" "$(spm_feature passthrough)" '^off: '
new_file "$MNT/f" 1
set_map direct "$MNT/f"
is "nopassthrough: direct by xattr is a mirror" "$(mode_of_open "$MNT/f")" mirror
spm_fresh mem:64M map=direct,nopassthrough
new_file "$MNT/f" 1
is "nopassthrough: direct by mount option is a mirror" "$(mode_of_open "$MNT/f")" mirror

# Who decides: the file, the nearest directory above it that says something, the mount.
spm_fresh mem:64M
mkdir -p "$MNT/m/d/deep" "$MNT/plain"
for f in top m/f m/d/f m/d/deep/f plain/f; do
	new_file "$MNT/$f" 1
done
is "auto takes direct where it fits" "$(mode_of_open "$MNT/top")" direct
set_map mirror "$MNT/m"
is "a directory decides for its files" "$(mode_of_open "$MNT/m/f")" mirror
is "and for those further down" "$(mode_of_open "$MNT/m/d/deep/f")" mirror
is "not for others" "$(mode_of_open "$MNT/plain/f")" direct
becomes_idle "$MNT/m/d/deep/f"
set_map direct "$MNT/m/d"
is "a nearer directory wins" "$(mode_of_open "$MNT/m/d/deep/f")" direct
is "for its part only" "$(becomes_idle "$MNT/m/f"; mode_of_open "$MNT/m/f")" mirror
becomes_idle "$MNT/m/d/deep/f"
set_map mirror "$MNT/m/d/deep/f"
is "the file itself wins over all" "$(mode_of_open "$MNT/m/d/deep/f")" mirror
becomes_idle "$MNT/m/d/deep/f"
set_map auto "$MNT/m/d/deep/f"
is "auto on the file is auto" "$(mode_of_open "$MNT/m/d/deep/f")" direct
new_file "$MNT/m/new" 1
is "a new file follows its directory" "$(mode_of_open "$MNT/m/new")" mirror
becomes_idle "$MNT/m/new"
mv "$MNT/m/new" "$MNT/plain/new"
is "and after a move its new one" "$(mode_of_open "$MNT/plain/new")" direct
becomes_idle "$MNT/plain/f"
mv "$MNT/plain" "$MNT/m/moved"
is "so do the files of a moved directory" "$(mode_of_open "$MNT/m/moved/f")" mirror
fails "a value that is none is refused" set_map sideways "$MNT/top"
fails "a user cannot decide for a file of another" as "$USER_A" "$SPMT" setxattr "$MNT/m" user.spm.map direct
chmod 644 "$MNT/top"
fails "nor where he may only read" as "$USER_A" "$SPMT" setxattr "$MNT/top" user.spm.map mirror

spm_done
