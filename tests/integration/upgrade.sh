#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# spmctl upgrade: another program serves a live mount, or the old one goes on if that cannot.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

mkdir "$SPM_TMP/new"
cp "$SPMFS" "$SPM_TMP/new/spmfs"

exe()
{
	readlink "/proc/$(spm_feature "$1")/exe"
}

spm_need_mount mem:64M
echo content >"$MNT/f"
worker=$(spm_feature worker_pid)
keeper=$(spm_feature keeper_pid)
actor a
tell a open f rw "$MNT/f"
tell a map m f rw shared 0 7
ok "upgrade to the program at hand" "$SPMCTL" upgrade "$MNT"
like "says from what to what" "$(cat "$SPM_TMP/out")" "^$MNT: [0-9.]+ -> [0-9.]+, takeover [0-9]+ ms$"
ok "another worker serves" test "$(spm_feature worker_pid)" != "$worker"
is "under the same keeper" "$(spm_feature keeper_pid)" "$keeper"
is "that is no crash" "$(spm_feature worker_restarts)" 0
ok "upgrade to another program" "$SPMCTL" upgrade "$MNT" "$SPM_TMP/new/spmfs"
is "which serves now" "$(exe worker_pid)" "$SPM_TMP/new/spmfs"
is "and stands by" "$(exe standby_pid)" "$SPM_TMP/new/spmfs"
says "mappings live through it" a "ok content" get m 0 7
says "and open files" a "ok 7" write f 0 changed
actor_end a
kill -KILL "$(spm_feature worker_pid)"
is "the next worker is of the new program" "$(cat "$MNT/f") $(exe worker_pid)" "changed $SPM_TMP/new/spmfs"
old=$(spm_feature standby_pid)
kill -KILL "$old"
wait_until 10 eval '[ "$(spm_feature standby_pid)" != "$old" ]'
is "so is the next standby" "$(exe standby_pid)" "$SPM_TMP/new/spmfs"

# Under load: nobody sees an error.
(cd "$MNT" && while [ ! -e "$SPM_TMP/stop" ]; do
	mkdir d && echo x >d/f && mv d/f d/g && rm d/g && rmdir d || exit 1
done) 2>"$SPM_TMP/load.err" &
load=$!
failed=0
for i in 1 2 3 4 5 6 7 8; do
	program=$SPM_TMP/new/spmfs
	[ $((i % 2)) = 0 ] || program=$SPMFS
	"$SPMCTL" upgrade "$MNT" "$program" >>"$SPM_TMP/said" 2>&1 || failed=$((failed + 1))
done
touch "$SPM_TMP/stop"
ok "eight upgrades under load: the clients see nothing" wait "$load"
is "and each one worked" "$failed $(cat "$SPM_TMP/load.err")" "0 "

# What cannot take over is refused, and the old program serves on.
worker=$(spm_feature worker_pid)
refused()
{
	local err
	err=$("$SPMCTL" upgrade "$MNT" "$2" 2>&1 >/dev/null)
	if [ $? -eq 1 ] && [[ $err =~ $3 ]] && [ "$(wc -l <<<"$err")" -eq 1 ] &&
		[ "$(spm_feature worker_pid)" = "$worker" ] && [ "$(timeout 10 cat "$MNT/f")" = changed ]; then
		pass "$1: $err"
	else
		fail "$1" "said: $err
worker: $(spm_feature worker_pid), was $worker"
	fi
}
refused "a program that ends" /bin/true "not upgraded: "
refused "a program that is none" "$SPM_TMP/load.err" "not upgraded: "
refused "one that is not there" "$SPM_TMP/no-such" "No such file"
printf '#!/bin/sh\nexec sleep 60\n' >"$SPM_TMP/mute"
chmod 755 "$SPM_TMP/mute"
refused "one that says nothing" "$SPM_TMP/mute" "not upgraded: .*in time"
# A program that keeps its state in another way, or would agree on something else with the kernel: the marks of
# that are in the state, so changing those makes the program at hand one of another kind.
state=$(find "/proc/$keeper/fd" -lname '/memfd:spmfs-state*')
set_version()
{
	# a 32-bit number behind the magic one
	printf '%b' "\\x$1" | dd of="$state" bs=1 seek=8 conv=notrunc status=none
}
ok "the state has another version" set_version 63
refused "one that keeps its state in another format" "$SPMFS" "not upgraded: .*version 99"
ok "the state has its version" set_version 01
ok "the state has another answer to INIT" "$top_builddir/tests/progs/damage" "$MNT" head init
refused "one that would answer INIT otherwise" "$SPMFS" "not upgraded: .*INIT"
ok "the state has its answer to INIT" "$top_builddir/tests/progs/damage" "$MNT" head init

# One that says hello, and whose worker then has no room for the shared memory: the old worker has ended by then.
if grep -qE '__(asan|tsan)_init' "$SPMFS"; then
	skip "one whose worker cannot start" "a sanitizer needs all of the address space"
else
	printf '#!/bin/sh\nulimit -v 1000000\nexec %q "$@"\n' "$SPM_TMP/new/spmfs" >"$SPM_TMP/small"
	chmod 755 "$SPM_TMP/small"
	before=$(exe standby_pid)
	fails "one whose worker cannot start" "$SPMCTL" upgrade "$MNT" "$SPM_TMP/small"
	like "is refused with the reason" "$(cat "$SPM_TMP/out")" "not upgraded: .*(Cannot allocate memory; the old program|ended before)"
	is "the old program serves on" "$(timeout 10 cat "$MNT/f") $(exe standby_pid) $(exe worker_pid)" "changed $before $before"
fi
ok "without that it can take over" "$SPMCTL" upgrade "$MNT" "$SPMFS"
worker=$(spm_feature worker_pid)
is "and no process of those is left" "$(find /proc -maxdepth 2 -name cwd -lname "$SPM_TMP*" 2>/dev/null)" ""
fails "a mount point that is none" "$SPMCTL" upgrade "$SPM_TMP"
fails "usage" "$SPMCTL" upgrade
fails "a user may not" as "$USER_A" "$SPMCTL" upgrade "$MNT"

# A worker that dies while the new program is coming up.
"$SPMCTL" upgrade "$MNT" "$SPM_TMP/mute" >/dev/null 2>&1 &
pid=$!
wait_until 10 pgrep -f "$SPM_TMP/mute"
kill -KILL "$worker"
is "a crash during an upgrade: the old program's next worker serves" "$(timeout 5 cat "$MNT/f")" changed
wait "$pid"

spm_done
