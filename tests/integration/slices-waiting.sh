#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A thousand who wait for room in one slice have no thread each: another slice is served as ever. Those who wait lose nothing when
# the server dies, and can be killed themselves.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../swapping.sh
. "$top_srcdir/tests/swapping.sh"
# shellcheck source=../slicing.sh
. "$top_srcdir/tests/slicing.sh"
export SPMFS_FAULTS=1

WRITERS=1000 CHUNK=65536

# So many threads write a piece each, all different: "N went wrong"
cat >"$SPM_TMP/writers.py" <<'P'
import os, sys, threading
path, count, size, verify = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "verify"
threading.stack_size(65536)
wrong = []
def piece(i):
    return (b"%08d" % i) * (size // 8)
def work(i):
    try:
        fd = os.open("%s/%d" % (path, i), os.O_RDWR | os.O_CREAT)
        if verify:
            good = os.pread(fd, size, 0) == piece(i)
        else:
            good = os.pwrite(fd, piece(i), 0) == size
        os.close(fd)
        if not good: wrong.append("piece %d" % i)
    except OSError as e:
        wrong.append("piece %d: %s" % (i, e))
all = [threading.Thread(target=work, args=(i,)) for i in range(count)]
for t in all: t.start()
for t in all: t.join()
print("%d of %d went wrong %s" % (len(wrong), count, wrong[:3]))
P

# The median of what creating, looking at and removing a file takes, in microseconds.
median()
{
	python3 -c 'import os, sys, time
took = []
for i in range(200):
    path = "%s/%d" % (sys.argv[1], i)
    start = time.monotonic()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT))
    os.stat(path)
    os.unlink(path)
    took.append(time.monotonic() - start)
print(int(sorted(took)[100] * 1e6))' "$1"
}

threads()
{
	local -a all=(/proc/"$1"/task/*)
	echo "${#all[@]}"
}

# How many of them have not come to an end.
at_work()
{
	threads $PID
}

start()
{
	python3 "$SPM_TMP/writers.py" "$MNT/a" $WRITERS $CHUNK write >"$SPM_TMP/writers.out" 2>&1 &
	PID=$!
}

# Most of them have come nowhere yet, and as many as may wait in a thread do.
all_wait()
{
	[ "$(at_work)" -ge $((WRITERS * 8 / 10)) ] && [ "$(threads "$(spm_server_pid)")" -ge 60 ]
}

begin()
{
	echo "swapio:write slow:1000 1 1000000" >"$MNT/.spm/fault"
	start
	ok "$1: they wait" wait_until 60 all_wait
}

finish()
{
	echo clear >"$MNT/.spm/fault"
	wait $PID
	is "$1: all came to an end" "$(cat "$SPM_TMP/writers.out")" "0 of $WRITERS went wrong []"
	is "$1: and is there" "$(python3 "$SPM_TMP/writers.py" "$MNT/a" $WRITERS $CHUNK verify)" "0 of $WRITERS went wrong []"
	rm -f "$MNT"/a/*
	ok "$1: everything is given back" wait_until 20 no_slots
}

others()
{
	local us
	begin "another slice"
	us=$(median "$MNT/b")
	diag "idle: $IDLE us; with $WRITERS waiting elsewhere: $us us; $(threads "$(spm_server_pid)") threads"
	ok "another slice: is served" test "$us" -lt $((50000 * SPM_FACTOR))
	ok "another slice: there is no thread for each who waits" test "$(threads "$(spm_server_pid)")" -lt 250
	ok "another slice: they wait still" test "$(at_work)" -gt 300
	finish "another slice"
}

dying()
{
	local pid i
	begin "dying"
	for i in 1 2 3; do
		pid=$(spm_server_pid)
		kill -KILL "$pid"
		ok "dying: another worker serves" wait_until 30 eval '[ "$(spm_server_pid)" != '"$pid"' ]'
	done
	finish dying
}

few_left()
{
	[ "$(at_work)" -lt 200 ]
}

# Who is killed need not wait for those in front.
killed()
{
	begin killed
	kill -KILL $PID
	ok "killed: who stands in line goes at once" wait_until 10 few_left
	echo clear >"$MNT/.spm/fault"
	wait $PID 2>/dev/null
	ok "killed: they are gone" wait_until 30 spm_gone $PID
	rm -f "$MNT"/a/*
	ok "killed: everything is given back" wait_until 20 no_slots
	ok "killed: the slice can be used" eval 'put "$MNT/a/f" 12M 3 && check "$MNT/a/f" 12M 3'
}

swap_mount mem:64M 256M map=mirror
made a max=8M
made b min=8M
IDLE=$(median "$MNT/b")
others
dying
killed
spm_done
