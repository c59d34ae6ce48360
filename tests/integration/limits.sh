#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The limits that a service has: 20,000 descriptors and 8 MiB of lockable memory do for any number of clients.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

prlimit --pid $$ --nofile=20000:20000 --memlock=8388608:8388608
limits()
{
	awk '/^Max open files/ { f = $5 }
		/^Max locked memory/ { m = $5 }
		END { print f, m }' "/proc/$1/limits"
}

for map in direct mirror; do
	spm_fresh mem:512M "map=$map"
	pid=$(spm_server_pid)
	is "$map: the server has the limits it was given" "$(limits "$pid")" "20000 8388608"
	mkdir "$MNT/one" "$MNT/two"
	actor one
	actor two
	says "$map: 15,000 files open in one client" one "ok 15000" openmany "$MNT/one" 15000 rw,creat
	says "$map: 15,000 files more in another" two "ok 15000" openmany "$MNT/two" 15000 rw,creat
	fds=$(find "/proc/$pid/fd" -mindepth 1 | wc -l)
	ok "$map: the server holds few descriptors for them ($fds)" test "$fds" -lt 1000
	says "$map: a file more can be written" one ok open f rw,creat "$MNT/more"
	says "$map: and is whole" one "ok 1048576" fill f 0 1M 9
	says "$map: when read by another" two ok open f r "$MNT/more"
	says "$map: byte for byte" two ok verify f 0 1M 9
	actor_end one two
	locked=$(awk '/^VmLck:/ { print $2 }' "/proc/$pid/status")
	ok "$map: it locks less than 8 MiB ($locked kB)" test "$locked" -le 8192
	ok "$map: all files can be removed" rm -r "$MNT/one" "$MNT/two"
done

# As a client, too: mlock up to the limit works, beyond it is refused as for any file.
spm_fresh mem:64M map=direct
actor a
tell a limit memlock 8M
tell a open f rw,creat "$MNT/f"
tell a trunc f 32M
tell a map small f rw shared 0 4M
tell a map large f rw shared 0 32M
says "root may lock whatever it likes" a ok mlock large
actor_end a
chmod 666 "$MNT/f"
actor a setpriv --reuid "$USER_A" --regid "$USER_A" --clear-groups --
tell a limit memlock 8M
tell a open f rw "$MNT/f"
tell a map small f rw shared 0 4M
tell a map large f rw shared 0 32M
says "a user may lock up to the limit" a ok mlock small
says "and not more" a "err ENOMEM" mlock large
actor_end a

spm_done
