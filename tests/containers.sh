# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests with containers share.
#
#	make_slice NAME [KEY=VALUE...]	a slice of $MNT (fs/control-slices.c says which keys there are)
#	$ROOTFS				a root directory that needs /usr bind-mounted, and no image from anywhere
#	$BIN				a directory with what runs inside: it is bind-mounted at the same path
#	containers_podman		podman, all of whose state is below $SPM_TMP; ends the test where there is none
#	pod ARGS...			podman ARGS
#	box [ARGS...] -- COMMAND...	runs it in a container of the image made of $ROOTFS
#	containers_left			what a runtime has left outside of $SPM_TMP

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
	if [ ! -e "$MNT/.spm/slice" ]; then
		mkdir "$MNT/$name"
		[[ $* != *uid=* ]] || chown 100000:100000 "$MNT/$name"
		return
	fi
	printf 'create %s\n' "$name${*:+ $*}" >"$MNT/.spm/slice"
}

# ---- podman ----

# Signals can take as long as a container that does not care for them.
pod()
{
	timeout -k 5 $((60 * SPM_FACTOR)) podman --root "$SPM_TMP/podman/root" --runroot "$SPM_TMP/podman/run" \
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
