# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests with containers share.
#
#	make_slice NAME [KEY=VALUE...]	a slice of $MNT; keys as in .spm/slices
#	$ROOTFS				a root directory that needs /usr bind-mounted, and no image from anywhere
#	$BIN				a directory with what runs inside: it is bind-mounted at the same path
#	containers_podman		podman, all of whose state is below $SPM_TMP; ends the test where there is none
#	pod ARGS...			podman ARGS
#	box [ARGS...] -- COMMAND...	runs it in a container of the image made of $ROOTFS
#	containers_own_cgroup		moves this process to a control group that goes at the end (containers_end)
#	containers_left			what podman has left outside of $SPM_TMP
#	containers_cases FN UID		bind mounts of the slices one and two, which are UID's as containers see it: FN SLICE rw|ro
#					COMMAND... runs a command in a container with that slice at /spm
#	documented COMMAND		runs the examples of spmfs-containers(7) that begin with it, on $MNT; a test point each
#	mode_outside FILE		direct, mirror or idle, by spmctl

BIN=$SPM_TMP/bin
ROOTFS=$SPM_TMP/rootfs
CGROUP=spmfs-test-$SPM_TEST_ID
MIB=1048576

mkdir "$BIN" "$ROOTFS"
# Where also a user without rights gets to it; from here on actors run it.
cp "$SPMT" "$BIN/spmt" && SPMT=$BIN/spmt
mkdir "$ROOTFS"/{usr,proc,sys,dev,etc,tmp,run,spm,var}
for d in bin sbin lib lib32 lib64 libx32; do
	[ ! -L "/$d" ] || ln -s "usr/$d" "$ROOTFS/$d"
done

make_slice()
{
	local name=$1
	shift
	printf 'create %s\n' "$name${*:+ $*}" >"$MNT/.spm/slice"
}

mode_outside()
{
	"$SPMCTL" files --json "$1" | sed -n 's/.*"mode": *"\([a-z]*\)".*/\1/p'
}

# What COMMAND is, and what IMAGE and ROOT are, the test says by a function and by variables of these names.
documented()
{
	local line lines
	lines=$(sed ':a; /\\e$/ { N; s/\\e\n */ /; ba; }' "$top_srcdir/man/spmfs-containers.7" | sed -nE "s/^[#\$] ($1 .*)/\1/p" |
		sed -E "s,/spm/(web|mine),$MNT/\1,g; /^spmctl/s| /spm\$| $MNT|; s|IMAGE|${IMAGE:-}|; s|ROOT|${ROOT:-}|")
	[ -n "$lines" ] || fail "spmfs-containers(7) has examples of $1"
	while IFS= read -r line; do
		ok "as documented: $line" eval "$line" </dev/null
	done <<<"$lines"
}

# ---- what every runtime must do ----

# One slice. The actor a stays, with its mapping.
containers_one()
{
	local run=$1 names
	actor a "$run" one rw
	says "a: a file is made in the container" a ok open f rw,creat /spm/f
	says "a: and gets its size" a ok trunc f 8M
	says "a: is mapped" a ok map m f rw shared 0 8M
	says "a: and filled" a ok mfill m 0 8M 3
	ok "a: the bytes are the file's outside" "$SPMT" run "open f r $MNT/one/f" "verify f 0 8M 3"
	is "a: the mapping is direct" "$(mode_outside "$MNT/one/f")" direct
	# shellcheck disable=SC2016 # the inner shell's
	names='cd /spm && mkdir d && echo content >d/x && ln d/x hard && ln -s d/x soft && mv d e && cat hard e/x &&
		rm -r e soft && stat -c "%h %u:%g" hard && rm hard && ls -A'
	is "a: names" "$("$run" one rw bash -c "$names" 2>&1 | tr '\n' ' ')" "content content 1 $2:$2 f "
}

# Another slice is another world; two containers in one slice share a mapping.
containers_two()
{
	local run=$1
	actor other "$run" two rw
	says "d: the other slice's container does not see the file" other "err ENOENT" open f r /spm/f
	says "d: nor out of its slice" other "err ENOENT" open f r /spm/../one/f
	says "d: it makes one of the same name" other ok open f rw,creat /spm/f
	says "d: with other content" other "ok 65536" fill f 0 64K 4
	says "d: which the first does not see" a ok mverify m 0 8M 3
	actor b "$run" one rw
	tell b open f rw /spm/f && tell b map m f rw shared 0 8M
	says "d: one slice, two containers: what one wrote the other sees" b ok mverify m 0 8M 3
	tell b mfill m 0 8M 5
	says "d: through the mapping that was there before" a ok mverify m 0 8M 5
}

containers_server_dies()
{
	local worker
	worker=$(spm_server_pid)
	kill -KILL "$worker"
	says "e: the mapping outlives the worker" a ok mfill m 0 8M 6
	ok "e: another one takes over" wait_until 20 spm_another spmfs-worker "$worker"
	says "e: open files go on" b ok verify f 0 8M 6
	says "e: and so do names" b ok open g rw,creat /spm/g
	is "e: new containers start" "$("$1" one rw ls /spm 2>&1 | tr '\n' ' ')" "f g "
	actor_end a b other
}

containers_read_only()
{
	actor ro "$1" one ro
	says "f: read-only: no open for writing" ro "err EROFS" open f rw /spm/f
	says "f: no new file" ro "err EROFS" open f w,creat /spm/new
	says "f: reading" ro ok open f r /spm/f
	says "f: no writable mapping" ro "err EACCES" map m f rw shared 0 8M
	says "f: a read-only one" ro ok map m f r shared 0 8M
	says "f: shows the content" ro ok mverify m 0 8M 6
	says "f: and does not become writable" ro "err EACCES" mprotect m rw
	actor_end ro
}

containers_cases()
{
	containers_one "$@"
	containers_two "$1"
	containers_server_dies "$1"
	containers_read_only "$1"
}

# ---- podman ----

# Signals can take as long as a container that does not care for them.
pod()
{
	command timeout -k 5 $((60 * SPM_FACTOR)) podman --root "$SPM_TMP/podman/root" --runroot "$SPM_TMP/podman/run" \
		--tmpdir "$SPM_TMP/podman/tmp" --storage-driver vfs "$@"
}

box()
{
	local -a args=()
	while [ "$1" != -- ]; do
		args+=("$1")
		shift
	done
	shift
	pod run --rm -i --cgroup-parent "/$CGROUP" -v /usr:/usr:ro -v "$BIN:$BIN:ro" "${args[@]}" spmfs-test "$@"
}

containers_podman_conf()
{
	# Limits of resources that a machine without CAP_SYS_RESOURCE can set, too.
	cat >"$SPM_TMP/podman/containers.conf" <<-END
		[containers]
		default_ulimits = ["nofile=1024:1024", "nproc=512:512"]
		env = ["PATH=/usr/sbin:/usr/bin", "ASAN_OPTIONS=detect_leaks=0:handle_sigbus=0"]
		netns = "none"
		log_driver = "none"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "none"
		runtime = "crun"
		image_copy_tmp_dir = "$SPM_TMP/podman"
	END
	export CONTAINERS_CONF=$SPM_TMP/podman/containers.conf
}

# crun refuses cgroup2 beside cgroup v1 when a controller is there. So this namespace sees v1 alone.
containers_cgroups()
{
	local dir=$SPM_TMP/cgroup sub
	mountpoint -q /sys/fs/cgroup/unified || return 0
	mkdir "$dir"
	mount -t tmpfs -o mode=755 spm-test-cgroup "$dir"
	for sub in /sys/fs/cgroup/*/; do
		[ "$(stat -fc %T "$sub")" = cgroupfs ] || continue
		mkdir "$dir/$(basename "$sub")"
		mount --bind "$sub" "$dir/$(basename "$sub")"
	done
	mount --rbind "$dir" /sys/fs/cgroup
	umount -R "$dir"
}

containers_podman()
{
	local c
	for c in podman crun conmon; do
		command -v "$c" >/dev/null || skip_all "no $c here: apt-get install --no-install-recommends podman crun"
	done
	containers_cgroups
	mkdir "$SPM_TMP/podman"
	containers_podman_conf
	at_exit containers_end
	if ! tar -C "$ROOTFS" -c . | pod import -q - spmfs-test >"$SPM_TMP/out" 2>&1; then
		fail "podman import" "$(cat "$SPM_TMP/out")"
		exit 1
	fi
	if ! box -- true >"$SPM_TMP/out" 2>&1; then
		fail "podman can run a container here" "$(cat "$SPM_TMP/out")"
		exit 1
	fi
}

# For what makes control groups in its own one: moves this process.
containers_own_cgroup()
{
	local base
	for base in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
		[ -e "$base/cgroup.procs" ] || continue
		mkdir -p "$base/$CGROUP/$BASHPID" && echo 0 >"$base/$CGROUP/$BASHPID/cgroup.procs"
	done
}

containers_no_cgroup()
{
	find /sys/fs/cgroup -depth -type d -path "*/$CGROUP*" -exec rmdir {} + 2>/dev/null
	[ -z "$(find /sys/fs/cgroup -type d -name "$CGROUP")" ]
}

containers_end()
{
	[ ! -d "$SPM_TMP/podman" ] || { pod rm -af -t 0 && pod rmi -af; } >/dev/null 2>&1
	wait_until 10 containers_no_cgroup
}

containers_processes()
{
	local p
	for p in /proc/[0-9]*; do
		! grep -qzF -- "$SPM_TMP/podman" "$p/cmdline" 2>/dev/null || printf '%s\n' "${p#/proc/}"
	done
}

containers_left()
{
	pod ps -aq
	spm_mounts_below "$SPM_TMP/podman"
	containers_processes
	find /sys/fs/cgroup -path "*/$CGROUP/*" -name 'libpod-*' -type d
}
