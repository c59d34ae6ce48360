# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: GPL-2.0-or-later
# Test harness. A test is a bash script that starts with
#
#	set -u
#	. "$(dirname "$0")/../lib.sh"
#
# and ends with spm_done. Sourcing this file runs the script again as root in a mount namespace of its own
# with an empty /run, so that no mount of one test is ever copied into the namespace of another (a copy keeps
# a FUSE connection alive after umount), and under a time limit. An EXIT trap takes everything down.
#
# Settings, before sourcing:
#	SPM_NO_SANDBOX=1  no root, no namespace: for tests of texts
#	SPM_LIMIT=SECONDS time limit of the whole script
#	SPM_EXCLUSIVE=1   changes something of the whole machine: runs while no other test does
# Environment:
#	top_srcdir, top_builddir
#	SPM_FACTOR        multiplies time limits
#	SPM_MOUNT_OPTS    added to every mount
#	SPM_KEEP_TMP=1    leave the temporary directory
#
# TAP:	spm_tap_plan N (optional), ok DESC CMD..., fails DESC CMD..., is DESC GOT WANT, like DESC TEXT REGEX,
#	pass DESC, fail DESC [DIAG], skip DESC REASON, skip_all REASON, diag TEXT, spm_done
# Mounts:
#	spm_mount [SOURCE [OPTIONS]]   sets MNT, then MNT2, MNT3 ...
#	spm_need_mount, spm_fresh      the same; the test ends without it; unmounts the others first
#	spm_umount [DIR], spm_servers, spm_kill_servers, spm_server_pid [DIR]
#	spm_named COMM, spm_another COMM PID: a process without asking the mount, which would be a request
#	spm_kinds, spm_settled         how many of each name there are; one keeper, standby, spare and worker
#	spm_idle PID                   all its threads sleep: there is nothing that it has not answered
#	spm_logged REGEX               how many lines of the log match; fails when none does
#	spm_pin PATH..., spm_unpin     keeps files open, so that the kernel forgets none of them meanwhile
#	spm_traces [PATTERN], spm_stat KEY [DIR], spm_feature KEY [DIR], spm_file KEY PATH, file_mode PATH
# Others:
#	spm_pids_group                 a control group that can limit processes: PIDS_GROUP
#	wait_until SECONDS CMD..., as UID CMD..., as_groups UID GID GROUPS CMD..., at_exit CMD...
#	spm_less N                     a third of that with SPM_FACTOR: seconds or rounds of what is random
# Actors (clients that live on and do one thing a line, tests/progs/actor.c):
#	actor NAME [PREFIX CMD...], tell NAME WORDS..., ask NAME WORDS..., says DESC NAME WANT WORDS...,
#	actor_fork NAME, actor_end NAME...

spm_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top_srcdir=${top_srcdir:-$(dirname "$spm_lib")}
if [ -z "${top_builddir:-}" ]; then
	top_builddir=$top_srcdir/build
	[ ! -x "$PWD/spmfs" ] || top_builddir=$PWD
fi
export top_srcdir top_builddir
SPMFS=$top_builddir/spmfs
SPMCTL=$top_builddir/spmctl
SPMT=$top_builddir/tests/progs/spmt
SPM_FACTOR=${SPM_FACTOR:-1}

# Two users that need no account.
USER_A=61001
USER_B=61002

SPM_COUNT=0
SPM_FAILED=0
SPM_PLAN=
SPM_HISTORY=()
SPM_AT_EXIT=()
SPM_PINS=()
declare -A SPM_MOUNTS=()	# mount point -> pid of the server that was started for it
declare -A ACTOR_PID=() ACTOR_IN=() ACTOR_OUT=()

# ---- TAP ----

diag()
{
	local line
	while IFS= read -r line; do
		printf '# %s\n' "$line"
	done <<<"$*"
}

spm_tap_plan()
{
	SPM_PLAN=$1
	printf '1..%s\n' "$1"
}

pass()
{
	SPM_COUNT=$((SPM_COUNT + 1))
	printf 'ok %d - %s\n' "$SPM_COUNT" "$1"
}

fail()
{
	SPM_COUNT=$((SPM_COUNT + 1))
	SPM_FAILED=$((SPM_FAILED + 1))
	printf 'not ok %d - %s\n' "$SPM_COUNT" "$1"
	[ -z "${2:-}" ] || diag "$2"
	return 0
}

skip()
{
	SPM_COUNT=$((SPM_COUNT + 1))
	printf 'ok %d - %s # SKIP %s\n' "$SPM_COUNT" "$1" "$2"
}

skip_all()
{
	printf '1..0 # SKIP %s\n' "$1"
	SPM_PLAN=0
	exit 0
}

# The command runs in this shell, so that it may set variables.
ok()
{
	local desc=$1 rc
	shift
	"$@" >"$SPM_TMP/out" 2>&1
	rc=$?
	if [ $rc -eq 0 ]; then
		pass "$desc"
	else
		fail "$desc" "command: $*
exit status: $rc
$(head -c 2000 "$SPM_TMP/out")"
	fi
}

fails()
{
	local desc=$1 rc
	shift
	"$@" >"$SPM_TMP/out" 2>&1
	rc=$?
	# 126 and above: not run at all, or killed. That is no refusal.
	if [ $rc -gt 0 ] && [ $rc -lt 126 ]; then
		pass "$desc"
	else
		fail "$desc" "command: $*
exit status: $rc, a refusal was expected
$(head -c 2000 "$SPM_TMP/out")"
	fi
}

is()
{
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1" "got:    $2
wanted: $3"
	fi
}

like()
{
	if [[ $2 =~ $3 ]]; then
		pass "$1"
	else
		fail "$1" "got:    $2
wanted: a match of $3"
	fi
}

# ---- waiting, users ----

spm_now_ms()
{
	local us=${EPOCHREALTIME//[.,]/}
	printf '%s\n' $((us / 1000))
}

# Ends as soon as the command succeeds; fails when it has not within the time.
wait_until()
{
	local end
	end=$(($(spm_now_ms) + $1 * 1000 * SPM_FACTOR))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(spm_now_ms)" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# What a sanitizer can find it finds soon, and there are more builds than one: a third with SPM_FACTOR.
spm_less()
{
	local n=$1
	[ "$SPM_FACTOR" -le 1 ] || n=$((n / 3 > 2 ? n / 3 : 2))
	printf '%s\n' "$n"
}

as()
{
	local uid=$1
	shift
	setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}

as_groups()
{
	local uid=$1 gid=$2 groups=$3
	shift 3
	setpriv --reuid "$uid" --regid "$gid" --groups "$groups" -- "$@"
}

at_exit()
{
	SPM_AT_EXIT+=("$(printf '%q ' "$@")")
}

# ---- mounts ----

# Mount points at or below a directory, of types that start with $2; mountinfo writes blanks in octal.
spm_mounts_below()
{
	local dir rest
	while read -r _ _ _ _ dir rest; do
		printf -v dir %b "$dir"
		[[ $rest == *" - ${2:-}"* ]] && [[ $dir/ == "$1"/* ]] && printf '%s\n' "$dir"
	done </proc/self/mountinfo
	return 0
}

spm_is_mounted()
{
	spm_mounts_below "$1" fuse | grep -qxF -- "$1"
}

# Runs a command without the descriptors of this harness: a server must not hold an actor's pipe open.
spm_clean_fds()
{
	(
		for fd in "${ACTOR_IN[@]}" "${ACTOR_OUT[@]}" "${SPM_PINS[@]}" ${SPM_LOCK_FD:+"$SPM_LOCK_FD"} "$SPM_OUT_FD"; do
			exec {fd}>&-
		done
		exec "$@"
	)
}

spm_usable_or_dead()
{
	! kill -0 "$2" || { spm_is_mounted "$1" && [ -e "$1/.spm/features" ]; }
}

spm_mount()
{
	local source=${1:-mem:256M} opts=${2:-} n=${#SPM_MOUNTS[@]} dir pid var
	local -a cmd
	[ -z "${SPM_MOUNT_OPTS:-}" ] || opts=${opts:+$opts,}$SPM_MOUNT_OPTS
	dir=$SPM_TMP/mnt$n
	while [ -n "${SPM_MOUNTS[$dir]:-}" ]; do
		n=$((n + 1))
		dir=$SPM_TMP/mnt$n
	done
	mkdir -p "$dir"
	cmd=("$SPMFS" -f "$source" "$dir")
	[ -z "$opts" ] || cmd+=(-o "$opts")
	SPM_HISTORY+=("${cmd[*]}")
	ASAN_OPTIONS=$SPM_ASAN UBSAN_OPTIONS=$SPM_UBSAN TSAN_OPTIONS=$SPM_TSAN \
		spm_clean_fds "${cmd[@]}" >"$dir.log" 2>&1 </dev/null &
	pid=$!
	wait_until 20 spm_usable_or_dead "$dir" "$pid"
	if ! spm_is_mounted "$dir"; then
		diag "mount failed: ${cmd[*]}
$(head -c 2000 "$dir.log")"
		# The caller can go on without, but never in the directory under the mount point.
		MNT=/nonexistent/unmounted
		return 1
	fi
	SPM_MOUNTS[$dir]=$pid
	var=MNT
	[ "${#SPM_MOUNTS[@]}" -eq 1 ] || var=MNT${#SPM_MOUNTS[@]}
	printf -v "$var" %s "$dir"
}

# The test as a whole makes no sense without its mount.
spm_need_mount()
{
	spm_mount "$@" && return
	fail "mount ${*:-mem:256M}"
	exit 1
}

spm_gone()
{
	! kill -0 "$1"
}

# Unmounts and waits for the server; fails when it is busy, does not end, or ends with an error.
spm_umount()
{
	local dir=${1:-$MNT} pid rc
	pid=${SPM_MOUNTS[$dir]:-}
	SPM_HISTORY+=("umount $dir")
	# the server of a mount that has just ended, with the same device number, may be looking whether this is its own
	wait_until 3 umount -- "$dir" || { umount -- "$dir" || return 1; }
	unset "SPM_MOUNTS[$dir]"
	[ -n "$pid" ] || return 0
	if ! wait_until 15 spm_gone "$pid"; then
		diag "server $pid still runs after umount $dir"
		return 1
	fi
	wait "$pid"
	rc=$?
	[ $rc -eq 0 ] || diag "server $pid ended with status $rc: $(tail -n 5 "$dir.log" 2>/dev/null)"
	return $rc
}

spm_umount_all()
{
	local dir rc=0
	for dir in "${!SPM_MOUNTS[@]}"; do
		spm_umount "$dir" || rc=1
	done
	return $rc
}

# A new, empty mount in place of all that this test had.
spm_fresh()
{
	spm_umount_all || fail "umount before the next mount"
	spm_need_mount "$@"
}

# Whether a process has the tag in its environment. In the middle of execve(2), which on a busy machine lasts for a
# tenth of a second, it has none at all.
spm_is_ours()
{
	local i
	for ((i = 0; i < 100 * SPM_FACTOR; i++)); do
		! grep -qzx "SPM_TEST_ID=$SPM_TEST_ID" "$1/environ" || return 0
		! grep -qz . "$1/environ" && [ -e "$1/exe" ] || return 1
		sleep 0.01
	done 2>/dev/null
	return 1
}

# Every server process that this test started, in whatever way.
spm_servers()
{
	local exe
	while IFS= read -r exe; do
		spm_is_ours "${exe%/exe}" || continue
		exe=${exe#/proc/}
		printf '%s\n' "${exe%/exe}"
	done < <(find /proc -mindepth 2 -maxdepth 2 -name exe \( -lname "$SPM_SERVER_EXE" -o \
		-lname "${SPM_SERVER_EXE%/*}/spmfs-keeper" \) 2>/dev/null)
}

# Kills them all, also those that take the place of the first ones: one that was forked while we looked may have got a
# number that we had passed, so they are gone when none was seen twice.
spm_kill_servers()
{
	local pids none=0
	while [ "$none" -lt 2 ]; do
		pids=$(spm_servers)
		none=$((none + 1))
		[ -z "$pids" ] || none=0
		# shellcheck disable=SC2086 # a list
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
	done
}

spm_no_servers()
{
	[ -z "$(spm_servers)" ]
}

# Those that have a name, spmfs-worker for example.
spm_named()
{
	local p
	for p in $(spm_servers); do
		[ "$(cat "/proc/$p/comm" 2>/dev/null)" != "$1" ] || printf '%s\n' "$p"
	done
}

# There is one of that name, and the process that it was is gone.
spm_another()
{
	local now
	now=$(spm_named "$1") && [ -n "$now" ] && ! grep -qxF -- "$2" <<<"$now"
}

spm_kinds()
{
	local p
	for p in $(spm_servers); do
		cat "/proc/$p/comm"
	done 2>/dev/null | sort | uniq -c | awk '{ printf "%s %s ", $2, $1 }'
}

spm_settled()
{
	[ "$(spm_kinds)" = "spmfs-keeper 1 spmfs-spare 1 spmfs-standby 1 spmfs-worker 1 " ]
}

# Also what clients do not wait for, like the RELEASE of a file.
spm_idle()
{
	local states
	states=$(sed 's/.*) \(.\) .*/\1/' "/proc/$1/task/"*/stat 2>/dev/null) && ! grep -qv S <<<"$states"
}

spm_logged()
{
	grep -cE -- "$1" "$MNT.log"
}

# Memory that runs short, or another test that drops caches, makes the kernel forget what nobody uses, and tell the
# server so: a request, at whatever moment.
spm_pin()
{
	local path fd
	for path in "$@"; do
		exec {fd}<"$path"
		SPM_PINS+=("$fd")
	done
}

spm_unpin()
{
	local fd
	for fd in "${SPM_PINS[@]}"; do
		exec {fd}<&-
	done
	SPM_PINS=()
}

spm_feature()
{
	sed -n "s/^$1 //p" "${2:-$MNT}/.spm/features"
}

spm_stat()
{
	sed -n "s/^$1 //p" "${2:-$MNT}/.spm/stat"
}

spm_server_pid()
{
	spm_feature worker_pid "${1:-$MNT}"
}

# One key of a file's status, without opening the file.
spm_file()
{
	"$SPMT" getxattr "$2" system.spm.file | sed -n "s/^$1 //p"
}

file_mode()
{
	spm_file mode "$1"
}

# What mounts of this test leave outside of themselves: mounts, files in /run, empty control groups that are
# named after our directory or match a further pattern. Other tests run beside this one; theirs do not count.
spm_traces()
{
	local id=${SPM_TMP##*.} c
	spm_mounts_below "$SPM_TMP"
	spm_mounts_below /run
	find /run -mindepth 1
	find /sys/fs/cgroup -type d -name '*spmfs*' 2>/dev/null | grep -e "$id" ${1:+-e "$1"} |
		while IFS= read -r c; do
			[ -s "$c/cgroup.procs" ] || printf '%s\n' "$c"
		done
}

# Fails when there is none to be had here. It goes when all servers have gone.
spm_pids_group()
{
	local dir
	for dir in /sys/fs/cgroup/pids /sys/fs/cgroup; do
		PIDS_GROUP=$dir/spmfs-pids-$SPM_TEST_ID
		mkdir "$PIDS_GROUP" 2>/dev/null || continue
		if [ -e "$PIDS_GROUP/pids.max" ]; then
			at_exit eval "wait_until 5 spm_no_servers; rmdir '$PIDS_GROUP'"
			return 0
		fi
		rmdir "$PIDS_GROUP"
	done
	return 1
}

# ---- actors ----

actor()
{
	local name=$1 in out
	shift
	mkfifo "$SPM_TMP/actor.$name.in" "$SPM_TMP/actor.$name.out"
	# Opened for both directions first, or each open would wait for the other side.
	exec {in}<>"$SPM_TMP/actor.$name.in" {out}<>"$SPM_TMP/actor.$name.out"
	rm -f "$SPM_TMP/actor.$name.in" "$SPM_TMP/actor.$name.out"
	"$@" "$SPMT" actor <&"$in" >&"$out" 2>"$SPM_TMP/actor.$name.err" &
	ACTOR_PID[$name]=$!
	ACTOR_IN[$name]=$in
	ACTOR_OUT[$name]=$out
	# What goes before it has done its work: it is in its namespace, its directory, its group.
	[ $# -eq 0 ] || tell "$name" pid || diag "actor $name: $REPLY"
}

# Sends one line, takes one line: "ok [TEXT]" or "err NAME". REPLY holds it.
tell()
{
	local name=$1
	shift
	printf '%s\n' "$*" >&"${ACTOR_IN[$name]}"
	if ! IFS= read -r -t $((30 * SPM_FACTOR)) REPLY <&"${ACTOR_OUT[$name]}"; then
		REPLY="no answer ($(head -c 300 "$SPM_TMP/actor.$name.err"))"
		return 1
	fi
	[[ $REPLY == ok* ]]
}

ask()
{
	tell "$@"
	printf '%s\n' "${REPLY#ok }"
}

says()
{
	local desc=$1 name=$2 want=$3
	shift 3
	tell "$name" "$@"
	if [ "$REPLY" = "$want" ]; then
		pass "$desc"
	else
		fail "$desc" "actor $name: $*
got:    $REPLY
wanted: $want"
	fi
}

# The actor forks and goes on as the child: only the child holds what it held.
actor_fork()
{
	local parent=${ACTOR_PID[$1]}
	tell "$1" fork || return 1
	ACTOR_PID[$1]=${REPLY#ok }
	wait "$parent" 2>/dev/null || wait_until 5 spm_gone "$parent"
}

actor_end()
{
	local name in out
	for name in "$@"; do
		in=${ACTOR_IN[$name]} out=${ACTOR_OUT[$name]}
		printf 'quit\n' >&"$in"
		IFS= read -r -t $((10 * SPM_FACTOR)) REPLY <&"$out"
		# A forked one is nobody's child here.
		wait "${ACTOR_PID[$name]}" 2>/dev/null || wait_until 5 spm_gone "${ACTOR_PID[$name]}"
		exec {in}>&- {out}>&-
		unset "ACTOR_PID[$name]" "ACTOR_IN[$name]" "ACTOR_OUT[$name]"
	done
}

# ---- the end ----

spm_reports()
{
	cat "$SPM_TMP"/sanitizer.* 2>/dev/null
	grep -hE 'runtime error:|(Address|Leak|Thread|Memory)Sanitizer|[Aa]ssertion .*failed|stack smashing' \
		"$SPM_TMP"/*.log 2>/dev/null
}

# Counts what a test cannot know itself: servers that ended badly, sanitizer reports.
spm_done()
{
	local report
	actor_end "${!ACTOR_PID[@]}"
	if [ -z "${SPM_NO_SANDBOX:-}" ]; then
		ok "everything unmounts and every server ends" spm_umount_all
		report=$(spm_reports)
		is "the servers left no sanitizer report" "${report:0:4000}" ""
	fi
	[ -n "$SPM_PLAN" ] || spm_tap_plan "$SPM_COUNT"
	exit $((SPM_FAILED > 0))
}

spm_take_down()
{
	local name dir pid i
	for name in "${!ACTOR_PID[@]}"; do
		kill -KILL "${ACTOR_PID[$name]}"
		wait "${ACTOR_PID[$name]}"
	done 2>/dev/null
	for ((i = ${#SPM_AT_EXIT[@]} - 1; i >= 0; i--)); do
		eval "${SPM_AT_EXIT[i]}"
	done
	while IFS= read -r dir; do
		wait_until 2 umount -- "$dir" || umount -l -- "$dir"
	done < <(spm_mounts_below "$SPM_TMP" | tac)
	if ! wait_until 5 spm_no_servers; then
		for pid in $(spm_servers); do
			diag "server $pid had to be ended by force"
			kill -TERM "$pid"
			wait_until 3 spm_gone "$pid" || kill -KILL "$pid"
		done
	fi
}

spm_at_end()
{
	local rc=$?
	trap - EXIT
	trap '' INT TERM HUP
	# The signal may have come while ok() had redirected the output.
	exec >&"$SPM_OUT_FD" 2>&1
	[ "$rc" -ne 143 ] || diag "stopped by a signal; the limit is ${SPM_LIMIT:-120} s times $SPM_FACTOR"
	[ -n "${SPM_NO_SANDBOX:-}" ] || spm_take_down
	if [ "$SPM_FAILED" -gt 0 ] || [ "$rc" -ne 0 ]; then
		diag "to reproduce: cd $PWD && top_builddir=$top_builddir SPM_KEEP_TMP=1 bash $0"
		[ "${#SPM_HISTORY[@]}" -eq 0 ] || diag "$(printf 'mounted: %s\n' "${SPM_HISTORY[@]}")"
		for log in "$SPM_TMP"/*.log; do
			[ ! -s "$log" ] || diag "$(printf '%s:\n' "${log##*/}"; tail -n 20 "$log")"
		done
	fi
	[ -n "${SPM_KEEP_TMP:-}" ] || rm -rf --one-file-system -- "$SPM_TMP"
	exit "$rc"
}

spm_enter_sandbox()
{
	local limit=$((${SPM_LIMIT:-120} * SPM_FACTOR))
	[ "$(id -u)" -eq 0 ] || skip_all "needs root"
	[ -c /dev/fuse ] || skip_all "no /dev/fuse here"
	exec {SPM_LOCK_FD}>>/run/spmfs-tests.lock
	if ! flock -w 900 "$([ -n "${SPM_EXCLUSIVE:-}" ] && echo -x || echo -s)" "$SPM_LOCK_FD"; then
		echo "Bail out! another test run holds /run/spmfs-tests.lock"
		exit 1
	fi
	export SPM_LOCK_FD SPM_INSIDE=1
	exec unshare --mount --propagation private timeout -k 30 "$limit" bash "$0" "$@"
}

spm_begin()
{
	if [ -z "${SPM_NO_SANDBOX:-}" ]; then
		[ -n "${SPM_INSIDE:-}" ] || spm_enter_sandbox "$@"
		unset SPM_INSIDE
		# A copy of what a mount outside of tests has there would go away when that one ends.
		umount -R -l /run/spmfs 2>/dev/null
		mount -t tmpfs -o mode=755 spm-test-run /run || exit 1
		# mount(8) and umount(8) make this one.
		mkdir /run/mount
		umask 022
		SPM_SERVER_EXE=$(readlink -f "$SPMFS")
		[ -x "$SPMFS" ] || { echo "Bail out! $SPMFS is not built"; exit 1; }
		[ -x "$SPMT" ] || { echo "Bail out! $SPMT is not built"; exit 1; }
	fi
	SPM_TMP=$(mktemp -d "${TMPDIR:-/tmp}/spmfs-test.XXXXXX") || exit 1
	chmod 755 "$SPM_TMP"
	SPM_TEST_ID=${SPM_TMP##*.}-$$
	export SPM_TEST_ID
	exec {SPM_OUT_FD}>&1
	trap spm_at_end EXIT
	trap 'exit 143' INT TERM HUP
	SPM_ASAN=${ASAN_OPTIONS:-}
	SPM_UBSAN=${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}print_stacktrace=1
	SPM_TSAN=${TSAN_OPTIONS:-}
	# A daemon has no stderr. A server in the foreground has, and in its region it sees no other file.
	export ASAN_OPTIONS="${SPM_ASAN:+$SPM_ASAN:}log_path=$SPM_TMP/sanitizer"
	export UBSAN_OPTIONS="$SPM_UBSAN:log_path=$SPM_TMP/sanitizer"
	export LSAN_OPTIONS="${LSAN_OPTIONS:+$LSAN_OPTIONS:}print_suppressions=0"
	export TSAN_OPTIONS="${SPM_TSAN:+$SPM_TSAN:}log_path=$SPM_TMP/sanitizer"
}

spm_begin "$@"
