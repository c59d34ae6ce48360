#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# spmctl upgrade: another program serves a live mount, and its clients notice nothing. A program that cannot is refused
# with one line, the old one serves on, and nothing of the attempt is left.
set -u
SPM_LIMIT=300
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

command -v jq >/dev/null || skip_all "no jq here"

# A program of its own file, so that /proc/PID/exe says which one serves.
programs=$SPM_TMP/programs
mkdir "$programs"
cp "$SPMFS" "$programs/spmfs-new"
for how in silent dies refuses other-state says-hello no-worker idle-worker failing-worker; do
	ln -s "$(readlink -f "$top_builddir/tests/progs/impostor")" "$programs/$how"
done

upgrade()
{
	timeout 100 "$SPMCTL" upgrade "$@" </dev/null >"$SPM_TMP/up.out" 2>"$SPM_TMP/up.err"
}

exe_of()
{
	readlink "/proc/$1/exe"
}

# Processes of this test that run a program whose path matches.
running()
{
	find /proc -mindepth 2 -maxdepth 2 -name exe "$@" 2>/dev/null | while IFS= read -r exe; do
		! grep -qzx "SPM_TEST_ID=$SPM_TEST_ID" "${exe%exe}environ" 2>/dev/null || echo "$exe"
	done
}

# Of one mount, whichever program they run.
servers()
{
	running \( -lname "$(readlink -f "$SPMFS")" -o -lname "$programs/spmfs-new" -o -lname '*/spmfs-keeper' \) | wc -l
}

all_serve()
{
	[ "$(servers)" -eq 4 ]
}

serves()
{
	spm_need_mount mem:128M "map=direct,$1"
	# the spare is made after the first worker
	wait_until 15 all_serve
}

# ---- done ----

serves name=upgraded
echo before >"$MNT/before"
actor a
tell a open f rw,creat "$MNT/open"
tell a trunc f 4096
tell a map m f rw shared 0 4096
says "a file that is open and mapped" a ok put m 0 over-the-upgrade
old=$(spm_server_pid) keeper=$(spm_feature keeper_pid)
ok "an upgrade to a copy of the program" upgrade --binary "$programs/spmfs-new" "$MNT"
like "says from what to what, and how long it took, in one line" "$(cat "$SPM_TMP/up.out" "$SPM_TMP/up.err")" \
	"^$MNT: [0-9.]+ -> [0-9.]+, takeover [0-9]+ ms\$"
new=$(spm_server_pid)
ok "another worker serves" [ "$new" != "$old" ]
is "it runs the new program" "$(exe_of "$new")" "$programs/spmfs-new"
is "the keeper is the same" "$(spm_feature keeper_pid)" "$keeper"
is "an upgrade is no restart" "$(spm_feature worker_restarts)" 0
is "files have what they had" "$(cat "$MNT/before")" before
says "a mapping has it, too" a "ok over-the-upgrade" get m 0 16
says "and a file that was open" a "ok over-the-upgrade" read f 0 16
is "it is still direct" "$(file_mode "$MNT/open")" direct
wait_until 15 all_serve
is "keeper, standby, worker and spare, and no old one" "$(servers)" 4

kill -KILL "$new"
ok "a worker that dies then" wait_until 10 eval '[ "$(spm_server_pid)" != "$new" ]'
is "is followed by one of the new program" "$(exe_of "$(spm_server_pid)")" "$programs/spmfs-new"
is "which counts as a restart" "$(spm_feature worker_restarts)" 1

old=$(spm_feature standby_pid)
kill -KILL "$old"
ok "a standby that dies then" wait_until 10 eval '[ "$(spm_feature standby_pid)" != "$old" ]'
is "is followed by one of the new program" "$(exe_of "$(spm_feature standby_pid)")" "$programs/spmfs-new"

ok "back, with JSON" upgrade --json --binary "$SPMFS" "$MNT"
is "its keys" "$(jq -r 'keys | join(" ")' "$SPM_TMP/up.out")" "from mountpoint program takeover_ms to"
is "its values" "$(jq -r '"\(.mountpoint) \(.program) \(.from == .to) \(.takeover_ms | type)"' "$SPM_TMP/up.out")" \
	"$MNT $SPMFS true number"
actor_end a

# ---- under load ----

client()
{
	local n=0 f=$MNT/client$1
	while [ ! -e "$SPM_TMP/stop" ]; do
		if ! { mkdir "$f" && echo "$n" >"$f/a" && ln "$f/a" "$f/b" && mv "$f/a" "$f/c" && [ "$(cat "$f/b")" = "$n" ] &&
			truncate -s 1M "$f/c" && [ "$(find "$f" -type f | wc -l)" -eq 2 ] && rm -r "$f"; }; then
			echo "client $1, round $n"
			return
		fi >>"$SPM_TMP/load"
		n=$((n + 1))
	done 2>>"$SPM_TMP/load"
	echo "$n" >>"$SPM_TMP/rounds"
}

rm -f "$SPM_TMP/stop"
: >"$SPM_TMP/load"
clients=()
for i in 1 2 3 4; do
	client $i &
	clients+=($!)
done
done=0
for i in 1 2 3 4 5 6; do
	if [ $((i % 2)) -eq 1 ]; then
		upgrade --binary "$programs/spmfs-new" "$MNT"
	else
		upgrade "$MNT"
	fi && done=$((done + 1))
done
touch "$SPM_TMP/stop"
wait "${clients[@]}"
is "six upgrades under load" $done 6
is "no client sees an error" "$(cat "$SPM_TMP/load")" ""
is "each of them got something done" "$(awk '$1 > 0' "$SPM_TMP/rounds" | wc -l)" 4
is "no restart among them" "$(spm_feature worker_restarts)" 1

# ---- refused ----

# Fails with one line that says why; the worker that served goes on (or, if it was asked to end already, one of its
# program); clients, their files and the mount are as they were.
refused()
{
	local desc=$1 why=$2 program=$3 pid exe restarts line
	pid=$(spm_server_pid) exe=$(exe_of "$pid") restarts=$(spm_feature worker_restarts)
	upgrade --binary "$program" "$MNT"
	is "$desc: refused" $? 1
	line=$(cat "$SPM_TMP/up.out" "$SPM_TMP/up.err")
	is "$desc: in one line" "$(wc -l <<<"$line")" 1
	like "$desc: that says why" "$line" "^spmctl: $MNT: not upgraded: .*$why"
	is "$desc: the program that serves" "$(exe_of "$(spm_server_pid)")" "$exe"
	[ -n "${4:-}" ] || is "$desc: the process that serves" "$(spm_server_pid)" "$pid"
	is "$desc: restarts" "$(spm_feature worker_restarts)" "$restarts"
	is "$desc: files" "$(cat "$MNT/before")" before
	ok "$desc: nothing is left of it" wait_until 15 eval 'all_serve && ! attempts'
}

# Whether any program that was tried still runs.
attempts()
{
	[ -n "$(running \( -lname "$programs/*" -o -lname '*/tests/progs/impostor' \) ! -lname '*/spmfs-new')" ]
}

refused "not an spmfs" "it ended with status 0 before it could take over; is it spmfs" /bin/true
refused "one that dies" "it ended with status 7 before it could take over" "$programs/dies"
printf 'not a program\n' >"$programs/text"
chmod +x "$programs/text"
refused "one that the kernel cannot run" "cannot be run" "$programs/text"
refused "one that refuses" "the impostor does not want to" "$programs/refuses"
refused "another version of the state" "another version of the mount's state" "$programs/other-state"
refused "one that says nothing" "did not come up in time" "$programs/silent"
printf '#!/bin/sh\ntail -f /dev/null\n' >"$programs/waits"
chmod +x "$programs/waits"
refused "one that waits for a child" "did not come up in time" "$programs/waits"
is "one that waits for a child: that is gone, too" "$(running -lname '*/tail')" ""
refused "one that ends after its hello" "ended with status 0 before|the old program serves on" "$programs/says-hello" other
refused "one without a worker" "the old program serves on" "$programs/no-worker" other
refused "one whose worker fails" "the impostor cannot serve; the old program serves on" "$programs/failing-worker" other
refused "one whose worker never serves" "did not serve in time; the old program serves on" "$programs/idle-worker" other

if [ "$(spm_feature direct_supported)" = 1 ]; then
	# The same program, but it would negotiate something else with the kernel.
	printf '#!/bin/sh\nexec "%s" "$1" "$2" "$3" "$4" "$5,nopassthrough"\n' "$SPMFS" >"$programs/other-init"
	chmod +x "$programs/other-init"
	refused "another reply to INIT" "INIT" "$programs/other-init"
else
	skip "another reply to INIT: refused" "no passthrough that could be left out"
fi
# The same, where passthrough makes no difference: the mark of it is in the state.
ok "the state has another answer to INIT" "$top_builddir/tests/progs/damage" "$MNT" head init
refused "one that would answer INIT otherwise" "INIT" "$SPMFS"
ok "the state has its answer to INIT again" "$top_builddir/tests/progs/damage" "$MNT" head init

# One whose worker has no room for the shared memory, when the old one has ended already.
if grep -qE '__(asan|tsan)_init' "$SPMFS"; then
	skip "one whose worker cannot start: refused" "a sanitizer needs all of the address space"
else
	printf '#!/bin/sh\nulimit -v 1000000\nexec %q "$@"\n' "$programs/spmfs-new" >"$programs/small"
	chmod 755 "$programs/small"
	refused "one whose worker cannot start" "(Cannot allocate memory; the old program|before it could)" \
		"$programs/small" other
fi

# What the worker in the meantime does is as if there were no upgrade.
upgrade --binary "$programs/silent" "$MNT" &
attempt=$!
wait_until 5 attempts
pid=$(spm_server_pid) restarts=$(spm_feature worker_restarts)
kill -KILL "$pid"
is "a crash while the new program loads: the mount serves" "$(timeout 20 cat "$MNT/before")" before
ok "by another worker" [ "$(spm_server_pid)" != "$pid" ]
is "which is a restart" "$(spm_feature worker_restarts)" $((restarts + 1))
wait $attempt
is "the upgrade is refused as if nothing had been" $? 1

ok "after all of that an upgrade works" upgrade --binary "$programs/spmfs-new" "$MNT"

# The other way round: a program that finds a state of another version says so by itself.
ok "a state of another version" "$top_builddir/tests/progs/damage" "$MNT" head version
refused "a program of another version" "version" "$SPMFS"

# ---- not even asked for ----

says_no()
{
	local desc=$1 status=$2 why=$3
	shift 3
	"$@" >"$SPM_TMP/up.out" 2>"$SPM_TMP/up.err" </dev/null
	is "$desc: status" $? "$status"
	is "$desc: one line" "$(cat "$SPM_TMP/up.out" "$SPM_TMP/up.err" | wc -l)" 1
	like "$desc: why" "$(cat "$SPM_TMP/up.err")" "$why"
}

touch "$programs/plain"
says_no "no mount point" 2 "usage: spmctl upgrade" "$SPMCTL" upgrade
says_no "two mount points" 2 "usage: spmctl upgrade" "$SPMCTL" upgrade "$MNT" "$MNT"
says_no "--binary without a path" 2 "--binary.*needs a value" "$SPMCTL" upgrade --binary
says_no "an ordinary user" 1 "run it as root" as "$USER_A" "$SPMCTL" upgrade --binary "$SPMFS" "$MNT"
says_no "not a mount" 1 "no spmfs is mounted there" "$SPMCTL" upgrade --binary "$SPMFS" /tmp
says_no "no such program" 1 "No such file.*path of an spmfs program" "$SPMCTL" upgrade --binary "$programs/none" "$MNT"
says_no "a directory" 1 "not a program file" "$SPMCTL" upgrade --binary "$programs" "$MNT"
says_no "a file without x" 1 "cannot be executed" "$SPMCTL" upgrade --binary "$programs/plain" "$MNT"

# A mount that lies about its name must not send root's descriptors anywhere.
sed 's/^name .*/name ..\/..\/tmp\/evil/' "$MNT/.spm/features" >"$SPM_TMP/features"
mount --bind "$SPM_TMP/features" "$MNT/.spm/features"
says_no "a name with a path in it" 1 "not one that spmfs gives" "$SPMCTL" upgrade --binary "$SPMFS" "$MNT"
umount "$MNT/.spm/features"

mv /run/spmfs/upgraded.sock /run/spmfs/away
says_no "no socket" 1 "there is no /run/spmfs/upgraded.sock" "$SPMCTL" upgrade --binary "$SPMFS" "$MNT"
chmod 777 /run/spmfs
setpriv --reuid "$USER_A" --regid "$USER_A" --clear-groups \
	"$top_builddir/tests/progs/impostor" listen /run/spmfs/upgraded.sock >"$SPM_TMP/listen" 2>&1 &
pid=$!
at_exit eval "kill $pid 2>/dev/null"
wait_until 5 test -S /run/spmfs/upgraded.sock
says_no "a listener that is not root" 1 "is not root" "$SPMCTL" upgrade --binary "$SPMFS" "$MNT"
kill $pid
wait $pid 2>/dev/null
rm -f /run/spmfs/upgraded.sock
chmod 700 /run/spmfs
mv /run/spmfs/away /run/spmfs/upgraded.sock

# ---- nobody answers ----

spm_need_mount mem:16M name=stopped
keeper=$(spm_feature keeper_pid "$MNT2")
kill -STOP "$keeper"
says_no "a keeper that does not answer" 1 "no answer within 60 s" timeout 90 "$SPMCTL" upgrade --binary "$SPMFS" "$MNT2"
kill -CONT "$keeper"
spm_done
