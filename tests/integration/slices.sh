#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slices by their control files: limits, refusals, who may what, numbers of inodes, and removal.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"

# fill FILE SIZE: how many KiB of it could be written
fill()
{
	head -c "$2" /dev/zero >"$1" 2>/dev/null
	du -k "$1" | cut -f 1
}

# What one line of the actor says.
once()
{
	"$SPMT" run "$@" 2>/dev/null | tail -n 1
}

# What a command that fails says at last: the name of the error.
why()
{
	local said
	said=$("$@" 2>&1) && { echo none; return; }
	printf '%s\n' "${said##*: }"
}

creation()
{
	made a min=32M max=64M uid=$USER_A gid=$USER_A mode=0750
	is "its directory" "$(stat -c '%F %u %g %a %h' "$MNT/a")" "directory $USER_A $USER_A 750 2"
	is "what the list says of it" "$(sed 's/ grant=[0-9]*//' "$MNT/.spm/slices")" "a id=1 current=0 swap.current=0 own.max=max \
own.swap.max=max min=$((32 * MIB)) max=$((64 * MIB)) swap.max=max pin.max=max inodes=max uid=$USER_A gid=$USER_A mode=0750 nodes= \
huge= map= cold= delegate=0"
	made b
	is "links of the top" "$(stat -c %h "$MNT")" 4
	is "df of a" "$(df_of "$MNT/a")" "65536 0 65536"
	is "df of b, which has no limit" "$(df_of "$MNT/b")" "262144 0 262144"
	is "df of the mount: without what a is sure of" "$(df_of "$MNT")" "229376 0 229376"
	account "two slices"
	mkdir "$MNT/dir"
	: >"$MNT/file"
	refused "a slice of that name" "File exists" create a
	refused "a directory of that name" "File exists" create dir
	refused "a file of that name" "File exists" create file
	for name in .a -a a/b 'a$' "$(printf 'a%.0s' {1..64})" ..; do
		refused "a bad name" "Invalid argument" create "$name"
	done
	refused "no name" "Invalid argument" create
	refused "no such command" "Invalid argument" make c
	refused "no such key" "Invalid argument" create c size=1M
	refused "no number" "Invalid argument" create c max=x
	refused "no node of the device" "Invalid argument" create c nodes=63
	refused "min above max" "Numerical result out of range" create c min=2M max=1M
	refused "min above the device" "Numerical result out of range" create c min=257M
	refused "more than the device is guaranteed" "No space left on device" create c min=225M
	refused "the same by set" "No space left on device" set b min=225M
	refused "min above max by set" "Numerical result out of range" set a min=65M
	refused "set of a slice that is none" "No such file or directory" set c max=1M
	refused "set of nodes" "Operation not supported" set a nodes=0
	refused "set of huge pages" "Operation not supported" set a huge=never
	refused "swap.max without swap" "Operation not supported" set a swap.max=1M
	refused "remove of a slice that is none" "No such file or directory" remove c
	refused "remove with a word that is none" "Invalid argument" remove b now
	is "a command of more than 2 KiB" "$(why slice "create c $(printf 'max=1M %.0s' {1..400})")" "Invalid argument"
	rm -r "$MNT/dir" "$MNT/file"
}

# The kernel tells a moment later that nobody uses a removed file any more.
is_empty()
{
	! grep -v ' current=0 ' "$MNT/.spm/slices" && [ "$(spm_stat resident_bytes)" -eq 0 ]
}

empty()
{
	ok "nothing is in use" wait_until 10 is_empty
}

# What is read by an open descriptor is one text, however the numbers change meanwhile; from its beginning it is made anew.
in_pieces()
{
	is "a list read in pieces, while it changes" "$(python3 -c 'import os, sys
mnt = sys.argv[1]
before = open(mnt + "/.spm/slices").read()
fd = os.open(mnt + "/.spm/slices", os.O_RDONLY)
got = os.read(fd, 100)
def tell(words):
    with open(mnt + "/.spm/slice", "w") as f: f.write(words)
tell("create 0")
tell("set a max=1234567890")
while part := os.read(fd, 100): got += part
print("same" if got.decode() == before else got.decode())
os.lseek(fd, 0, 0)
print("as it is now" if os.read(fd, 1 << 20).decode() == open(mnt + "/.spm/slices").read() else "old")
tell("set a max=64M")
tell("remove 0")' "$MNT" | xargs)" "same as it is now"
}

limits()
{
	is "a: written up to max" "$(fill "$MNT/a/f" 80M)" 65536
	is "a: df when full" "$(df_of "$MNT/a")" "65536 65536 0"
	refused "max below what is in use" "Device or resource busy" set a max=48M
	rm "$MNT/a/f"
	empty
	like "a: truncate above max" "$(once "open f rw,creat $MNT/a/t" "trunc f 80M")" "err (ENOSPC|EDQUOT)"
	like "a: fallocate above max" "$(once "open f rw,creat $MNT/a/t" "falloc f plain 0 80M")" "err (ENOSPC|EDQUOT)"
	rm "$MNT/a/t"
	empty
	is "a: a mapping up to max has its memory" "$(once "open f rw,creat $MNT/a/m" "trunc f 60M" "map m f rw shared 0 60M" \
		"touch m 0 60M")" ok
	rm "$MNT/a/m"
	empty
	setfattr -n user.spm.map -v mirror "$MNT/a"
	is "a: written by mirror up to max" "$(fill "$MNT/a/f" 80M)" 65536
	is "a: it is a mirror" "$("$SPMT" run "open f r $MNT/a/f" "stat f" >/dev/null; file_mode "$MNT/a/f")" idle
	rm "$MNT/a/f"
	setfattr -x user.spm.map "$MNT/a"
	empty

	# nobody takes what a is sure of
	is "b: written up to all but the min of a" "$(($(fill "$MNT/b/f" 300M) / 1024))" 223
	is "root: its last pages are left" "$(fill "$MNT/f" 4M)" 16
	account "b is full"
	is "a: has its min all the same" "$(fill "$MNT/a/f" 32M)" 32768
	is "a: but no more" "$(fill "$MNT/a/g" 1M)" 0
	account "all are full"
	rm "$MNT/b/f" "$MNT/f" "$MNT/a/g"
	ok "what b gave back moves to a" wait_until 10 eval '[ "$(fill "$MNT/a/g" 32M)" = 32768 ]'
	is "and to the root slice" "$(($(fill "$MNT/f" 300M) / 1024))" 191
	account "the root slice is full"
	refused "a min that nobody can give" "No space left on device" set b min=8M
	rm "$MNT/f" "$MNT/a/f" "$MNT/a/g"
	empty
	made i min=8M inodes=8
	: >"$MNT/i/1"
	: >"$MNT/i/2"
	refused "fewer files than it has, and less memory" "Device or resource busy" set i min=0 max=1M inodes=1
	account "a set that was refused halfway"
	ok "remove i" slice remove i force
	ok "set b min=100001 max=200001" slice set b min=100001 max=200001
	is "limits are whole pages, min up and max down" "$(df_of "$MNT/b")" "192 0 192"
	is "b: the same when it is filled" "$(fill "$MNT/b/f" 1M)" 192
	account "odd limits"
	rm "$MNT/b/f"
	empty
	ok "set b min=0 max=max" slice set b min=0 max=max
	ok "set a min=64M and max=64M at once" slice set a min=64M
	ok "set a min=0 max=16M" slice set a min=0 max=16M
	is "a: the lower max counts at once" "$(fill "$MNT/a/f" 20M)" 16384
	ok "set a max=24M" slice set a max=24M
	is "a: so does the higher one, for an open file too" "$(once "open f rw $MNT/a/f" "falloc f plain 0 24M")" ok
	rm "$MNT/a/f"
	empty
	ok "set b max=128K" slice set b max=128K
	ok "b's owner fills it" eval 'head -c 128K /dev/zero >"$MNT/b/f"'
	chown $USER_B "$MNT/b"
	ok "set b max=256K" slice set b max=256K
	ok "a link whose target takes a page, when all that is granted is used" \
		as $USER_B ln -s "$(printf 'x%.0s' {1..200})" "$MNT/b/l"
	rm "$MNT/b/f" "$MNT/b/l"
	ok "set b max=max" slice set b max=max
}

inodes()
{
	local n
	made n inodes=10
	n=$(for i in {1..20}; do mkdir "$MNT/n/$i" 2>/dev/null && echo "$i"; done | wc -l)
	is "inodes=10: as many files" "$n" 10
	is "df -i" "$(df --output=itotal,iused,iavail "$MNT/n" | awk 'NR == 2 { print $1, $2, $3 }')" "10 10 0"
	refused "fewer than there are" "Device or resource busy" set n inodes=5
	ok "set n inodes=12" slice set n inodes=12
	ok "one more" mkdir "$MNT/n/x"
	ok "set n inodes=max" slice set n inodes=max
	ok "many more" eval 'mkdir "$MNT/n/"{a..w}'
	ok "and limited again" slice set n inodes=40
	ok "and back" slice set n inodes=max
	ok "remove n force" slice remove n force
}

between()
{
	echo x >"$MNT/a/x"
	echo r >"$MNT/r"
	mkdir "$MNT/a/d" "$MNT/rd"
	is "rename from one to another" "$("$SPMT" run "open d dir,r $MNT" >/dev/null; python3 -c 'import os, sys
try: os.rename(sys.argv[1], sys.argv[2])
except OSError as e: print(e.strerror)' "$MNT/a/x" "$MNT/b/x")" "Invalid cross-device link"
	like "link from one to another" "$(why ln "$MNT/a/x" "$MNT/b/x")" "cross-device"
	like "link from the root slice" "$(why ln "$MNT/r" "$MNT/a/r")" "cross-device"
	like "link into the root slice" "$(why ln "$MNT/a/x" "$MNT/x")" "cross-device"
	ok "mv of a file copies" mv "$MNT/a/x" "$MNT/b/x"
	is "and it is there" "$(cat "$MNT/b/x") $(ls "$MNT/a")" "x d"
	ok "mv of a directory" mv "$MNT/rd" "$MNT/a/"
	ok "mv back" mv "$MNT/a/rd" "$MNT/"
	like "a slice cannot be renamed" "$(why "$SPMT_MV" "$MNT/a" "$MNT/c")" "busy"
	like "nor replaced" "$(why "$SPMT_MV" "$MNT/rd" "$MNT/a")" "busy"
	like "nor exchanged" "$(why "$SPMT_MV" -x "$MNT/rd" "$MNT/a")" "busy"
	like "nor removed by rmdir" "$(why rmdir "$MNT/b")" "busy"
	like "nor its name be taken" "$(why mkdir "$MNT/a")" "File exists"
	like "by a file" "$(why ln -s x "$MNT/a/../b")" "File exists"
	rm -r "$MNT/b/x" "$MNT/a/d" "$MNT/rd" "$MNT/r"
}

# st_ino and d_ino of two slices with the same tree, which has the same numbers in its own filesystem.
numbers()
{
	local s out=$SPM_TMP/copy
	for s in "" /a /b; do
		mkdir "$MNT$s/tree"
		echo "one$s" >"$MNT$s/tree/1"
		ln "$MNT$s/tree/1" "$MNT$s/tree/2"
		echo "three$s" >"$MNT$s/tree/3"
	done
	is "inodes of all" "$(find "$MNT" -mindepth 1 -printf '%i %y %n\n' | sort | uniq -c | awk '$1 > 1 && !($3 == "f" && $4 == $1)')" ""
	is "as listings have them" "$(find "$MNT" -mindepth 1 -printf '%i %p\n' | sort)" "$(python3 -c 'import os, sys
for top in sys.argv[1:]:
    for d, dirs, files in os.walk(top):
        for e in os.scandir(d): print(e.inode(), e.path)' "$MNT" | sort)"
	is "find -samefile" "$(cd "$MNT" && find . -samefile a/tree/1 | sort | xargs)" "./a/tree/1 ./a/tree/2"
	mkdir "$out"
	ok "cp -a of all" cp -a "$MNT/." "$out/"
	ok "is the same" diff -r "$MNT" "$out"
	is "cp -a: links" "$(stat -c %h "$out/tree/1" "$out/a/tree/2" "$out/b/tree/1" "$out/b/tree/3" | xargs)" "2 2 2 1"
	ok "tar" tar -C "$MNT" -cf "$SPM_TMP/all.tar" .
	rm -r "$out"
	mkdir "$out"
	ok "and back" tar -C "$out" -xpf "$SPM_TMP/all.tar"
	ok "tar: is the same" diff -r "$MNT" "$out"
	is "tar: links" "$(stat -c %h "$out/tree/1" "$out/a/tree/2" "$out/b/tree/1" "$out/b/tree/3" | xargs)" "2 2 2 1"
	rm -r "$out" "$MNT"/{,a/,b/}tree
}

rights()
{
	ok "set a" slice set a min=4M max=64M uid=$USER_A gid=$USER_A mode=0755
	is "set gives the directory its owner" "$(stat -c '%u %g %a' "$MNT/a")" "$USER_A $USER_A 755"
	as $USER_A chmod 0750 "$MNT/a"
	is "the list says what it is now" "$(slice_of a mode)" 0750
	ok "set mode of the same word as at first" slice set a mode=0755
	is "and it is that" "$(stat -c %a "$MNT/a")" 755
	is ".spm is in no listing" "$(ls -A "$MNT/a")" ""
	is "what it holds" "$(cd "$MNT/a/.spm" && echo *)" "current events max min pin.max reclaim stat swap.current swap.max"
	is "modes" "$(cd "$MNT/a/.spm" && stat -c '%n %a %u' -- * | xargs)" "current 440 $USER_A events 440 $USER_A max 644 0 \
min 440 $USER_A pin.max 440 $USER_A reclaim 200 0 stat 440 $USER_A swap.current 440 $USER_A swap.max 644 0"
	is "root's" "$(stat -c '%a %u' "$MNT/.spm/slices" "$MNT/.spm/slice" | xargs)" "400 0 200 0"
	ok "the owner reads stat" as $USER_A cat "$MNT/a/.spm/stat"
	fails "another does not" as $USER_B cat "$MNT/a/.spm/stat"
	fails "nor the list of all" as $USER_A cat "$MNT/.spm/slices"
	fails "nor makes slices" as $USER_A sh -c "echo create mine >'$MNT/.spm/slice'"
	is "stat" "$(xargs <"$MNT/a/.spm/stat")" "limit_bytes $((64 * MIB)) min_bytes $((4 * MIB)) resident_bytes 0 \
free_bytes $((64 * MIB)) swapped_bytes 0 inodes 0"
	fails "max is root's" as $USER_A sh -c "echo 32M >'$MNT/a/.spm/max'"
	fails "as long as it is not delegated, chmod helps nobody" as $USER_A chmod 666 "$MNT/a/.spm/max"
	ok "set delegate=1" slice set a delegate=1
	ok "now the owner may" wait_until 5 as $USER_A sh -c "echo 32M >'$MNT/a/.spm/max'"
	is "own.max" "$(slice_of a own.max) $(slice_of a max) $(cat "$MNT/a/.spm/max")" "$((32 * MIB)) $((64 * MIB)) $((32 * MIB))"
	is "df" "$(df_of "$MNT/a")" "32768 0 32768"
	is "it counts" "$(fill "$MNT/a/f" 40M)" 32768
	ok "raised again" as $USER_A sh -c "echo max >'$MNT/a/.spm/max'"
	is "up to root's" "$(df_of "$MNT/a")" "65536 32768 32768"
	ok "more than root's" as $USER_A sh -c "echo 128M >'$MNT/a/.spm/max'"
	is "is root's" "$(df_of "$MNT/a")" "65536 32768 32768"
	fails "not below what is in use" as $USER_A sh -c "echo 16M >'$MNT/a/.spm/max'"
	fails "not below min" as $USER_A sh -c "echo 2M >'$MNT/a/.spm/max'"
	fails "min is root's" as $USER_A sh -c "echo 16M >'$MNT/a/.spm/min'"
	fails "another may not" as $USER_B sh -c "echo 32M >'$MNT/a/.spm/max'"
	rm "$MNT/a/f"
	ok "the owner lowers it" as $USER_A sh -c "echo 8M >'$MNT/a/.spm/max'"
	ok "root's min of more than that" slice set a min=16M
	is "counts for more" "$(df_of "$MNT/a")" "16384 0 16384"
	account "min above the owner's max"
	ok "set delegate=0" slice set a delegate=0
	ok "and it is root's again" wait_until 5 eval '! as $USER_A sh -c "echo max >$MNT/a/.spm/max" 2>/dev/null'
	ok "which root may write there, too" eval 'echo max >"$MNT/a/.spm/max"'
	like "no file named .spm" "$(why touch "$MNT/a/.spm/new")$(why mkdir "$MNT/a/.spm")" "Operation not permitted|File exists"
	is "in a directory below it is a name as any" "$(mkdir "$MNT/a/d" && mkdir "$MNT/a/d/.spm" && ls -A "$MNT/a/d")" .spm
	rm -r "$MNT/a/d"
}

maps()
{
	made m map=mirror
	made d map=direct
	local want
	for want in m:mirror d:direct; do
		echo x >"$MNT/${want%:*}/f"
		actor u
		tell u open f r "$MNT/${want%:*}/f"
		is "map=${want#*:}" "$(file_mode "$MNT/${want%:*}/f")" "${want#*:}"
		actor_end u
	done
	setfattr -n user.spm.map -v direct "$MNT/m"
	actor u
	tell u open f r "$MNT/m/f"
	is "user.spm.map of a slice's directory counts for more" "$(file_mode "$MNT/m/f")" direct
	actor_end u
	ok "set map" slice set d map=mirror
	actor u
	tell u open f r "$MNT/d/f"
	is "set of map counts at once" "$(file_mode "$MNT/d/f")" mirror
	actor_end u
	ok "remove m" slice remove m force
	ok "remove d" slice remove d force
}

# mode_of FILE: in which it is open
mode_of()
{
	actor u
	tell u open f rw "$1" || { echo "$REPLY"; actor_end u; return; }
	file_mode "$1"
	actor_end u
}

pins()
{
	made p max=32M pin.max=4M
	made q min=16M
	put "$MNT/p/small" 2M 1
	put "$MNT/p/large" 8M 2
	put "$MNT/q/large" 8M 3
	is "pin.max: a file below is direct" "$(mode_of "$MNT/p/small")" direct
	is "pin.max: one above is a mirror" "$(mode_of "$MNT/p/large")" mirror
	is "pin.max: another slice's is direct" "$(mode_of "$MNT/q/large")" direct
	setfattr -n user.spm.map -v direct "$MNT/p/large"
	is "pin.max: where it must be direct" "$(mode_of "$MNT/p/large")" "err ENOSPC"
	ok "set pin.max" slice set p pin.max=max
	is "pin.max: it can be direct now" "$(mode_of "$MNT/p/large")" direct
	ok "swap.max" slice set p swap.max=4M
	ok "what swap.max says is in the list" [ "$(slice_of p swap.max)" -eq $((4 * MIB)) ]
	ok "remove p" wait_until 10 slice remove p force
	ok "remove q" wait_until 10 slice remove q force
	made p map=direct
	made q map=direct
	put "$MNT/p/f" 40M 4
	put "$MNT/q/f" 40M 5
	for i in p q p; do
		actor u
		says "pins: $i opens most of the device, which another one had mapped before" u ok open f rw "$MNT/$i/f"
		says "pins: $i maps it" u ok map m f rw shared 0 40M
		says "pins: $i closes it and maps it still" u ok close f
		actor_end u
	done
	ok "remove p" wait_until 10 slice remove p force
	ok "remove q" wait_until 10 slice remove q force
	is "nothing is in swap" "$(spm_stat swapped_bytes)" 0
}

# busy DESC: by actor u
busy()
{
	refused "$1" "Device or resource busy" remove r force
	is "$1: and it is there as before" "$(ask u read f 0 2)" xy
	actor_end u
}

removal()
{
	made r max=32M
	echo x >"$MNT/r/f"
	refused "not empty" "Directory not empty" remove r
	for map in direct mirror; do
		printf xy >"$MNT/r/f"
		setfattr -n user.spm.map -v $map "$MNT/r/f"
		actor u
		tell u open f rw "$MNT/r/f"
		busy "$map, open"
		actor u
		tell u open f rw "$MNT/r/f"
		rm "$MNT/r/f"
		busy "$map, unlinked and open"
		printf xy >"$MNT/r/f"
		setfattr -n user.spm.map -v $map "$MNT/r/f"
		actor u
		tell u open f rw "$MNT/r/f"
		tell u map m f rw shared 0 4096
		tell u close f
		refused "$map, mapped" "Device or resource busy" remove r force
		is "$map, mapped: it is there as before" "$(ask u get m 0 2)" xy
		actor_end u
		rm "$MNT/r/f"
	done
	actor u
	tell u chdir "$MNT/r"
	ok "a working directory holds nobody up, as with rmdir" wait_until 5 slice remove r
	is "what is left there" "$(ask u open f w,creat new)" "err ESTALE"
	fails "the name is free" test -e "$MNT/r"
	ok "for a directory" mkdir "$MNT/r"
	ok "which is one of the root slice's" mv "$MNT/r" "$MNT/q"
	made r max=16M
	is "and for another slice" "$(df_of "$MNT/r")" "16384 0 16384"
	is "the old one is not it" "$(ask u open f w,creat new)" "err ESTALE"
	actor_end u
	rmdir "$MNT/q"
	mkdir -p "$MNT/r/x/y"
	echo x >"$MNT/r/x/y/z"
	ok "remove force with a tree" slice remove r force
	fails "it is gone" test -e "$MNT/r"
	ok "two at once" slice create r
	local one two
	slice remove r 2>/dev/null & one=$!
	slice remove r 2>/dev/null & two=$!
	wait $one
	one=$?
	wait $two
	is "two removals at once: one does it" $((one + $?)) 1
	ok "the server is none the worse" slice create r
	ok "remove r" slice remove r
}

# A container has a bind mount of its slice.
bound()
{
	local bind=$SPM_TMP/bind
	made r
	printf xy >"$MNT/r/f"
	mkdir "$bind" "$bind.2"
	mount --bind "$MNT/r" "$bind"
	is "bind mount: .. is not the mount's top" "$(ls "$bind/..")" "$(ls "$SPM_TMP")"
	is "bind mount: its .spm is the slice's" "$(cat "$bind/.spm/min")" 0
	fails "bind mount: and no other" test -e "$bind/.spm/slices"
	is "bind mount: df" "$(df_of "$bind")" "$(df_of "$MNT/r")"
	actor u
	tell u open f r "$bind/f"
	refused "open by its bind mount" "Device or resource busy" remove r force
	is "bind mount: it goes on" "$(cat "$bind/f")" xy
	ok "bind mount: and can be bound again" mount --bind "$bind" "$bind.2"
	actor_end u
	umount "$bind.2"
	ok "unused, it is removed under the bind mount" wait_until 5 slice remove r force
	like "bind mount: of nothing" "$(why cat "$bind/f")" "Stale file handle|No such file"
	made r
	like "bind mount: nor of the next one of that name" "$(why touch "$bind/new")" "Stale file handle|No such file"
	umount "$bind"
	ok "remove r" slice remove r
}

# A file that is made while its slice is removed is either in a slice that stays, or was refused.
racing()
{
	local i maker lost=0
	for i in {1..15}; do
		slice create race || break
		(for j in {1..40}; do : >"$MNT/race/$j" || exit 1; done) 2>/dev/null &
		maker=$!
		slice remove race 2>/dev/null && wait $maker && lost=$((lost + 1))
		wait $maker
		[ ! -d "$MNT/race" ] || slice remove race force 2>/dev/null || { wait_until 5 slice remove race force; }
	done
	is "files made during a removal are not lost in silence" "$lost" 0
}

fds()
{
	find "/proc/$1/fd" -type l | wc -l
}

come_and_go()
{
	slice create x max=1M && echo x >"$MNT/x/f" && slice remove x force
}

many()
{
	local pid before i mem
	pid=$(spm_server_pid)
	for i in {1..100}; do
		come_and_go || break
	done
	is "100 creates and removes" "$i" 100
	before=$(fds "$pid")
	mem=$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")
	for i in {1..200}; do
		come_and_go || break
	done
	is "200 more" "$i" 200
	is "it is the same worker" "$(spm_server_pid)" "$pid"
	ok "descriptors do not grow: $before, $(fds "$pid")" [ "$(fds "$pid")" -le $((before + 3)) ]
	mem=$(($(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status") - mem))
	ok "memory does not grow: $mem KiB" [ "$mem" -le $((1024 * SPM_FACTOR)) ]
}

# gone is all that they had
leaves_nothing()
{
	ok "remove a" slice remove a
	ok "remove b" slice remove b
	is "the list is empty" "$(cat "$MNT/.spm/slices")" ""
	is "df of the mount is the device" "$(df_of "$MNT")" "262144 0 262144"
	is "and can be used" "$(fill "$MNT/f" 256M)" 262144
	rm "$MNT/f"
}

spm_need_mount mem:256M
SPMT_MV=$SPM_TMP/mv
cat >"$SPMT_MV" <<'END'
#!/usr/bin/python3
import ctypes, os, sys
flags = 0
args = sys.argv[1:]
if args[0] == "-x":
    flags, args = 2, args[1:]
libc = ctypes.CDLL(None, use_errno=True)
if libc.renameat2(-100, args[0].encode(), -100, args[1].encode(), flags):
    sys.exit("rename: " + os.strerror(ctypes.get_errno()))
END
chmod 755 "$SPMT_MV"
creation
in_pieces
limits
inodes
between
numbers
rights
maps
removal
bound
racing
many
leaves_nothing
swap_mount mem:64M 128M
pins
spm_done
