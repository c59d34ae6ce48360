#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# spmfs@.service: a systemd of this test's own, in namespaces, runs a mount from it. What dies is restarted by whoever it
# falls to, and what the journal gets is one line for each event.
set -u
SPM_LIMIT=240
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

systemd=
for p in /lib/systemd/systemd /usr/lib/systemd/systemd; do
	[ ! -x "$p" ] || systemd=$p
done
[ -n "$systemd" ] || skip_all "no systemd here"
units=$(dirname "$systemd")/system
command -v systemctl >/dev/null || skip_all "no systemctl here"

# ---- the unit by itself ----

unit=$top_builddir/mount-helpers/systemd/spmfs@.service
root=$SPM_TMP/root
mkdir -p "$root/sbin" "$root/bin" "$root/units"
ln -s "$SPMFS" "$root/sbin/spmfs"
ln -s "$SPMCTL" "$root/bin/spmctl"
# As installed, but for the directories of the programs.
sed -E "s|=[^ ]*/(spmfs -f)|=$root/sbin/\1|; s|[^ =]*/(spmctl upgrade) --binary [^ ]*|$root/bin/\1 --binary $root/sbin/spmfs|" \
	"$unit" >"$root/units/spmfs@.service"
is "its programs are found" "$(grep -cE "^Exec(Start|Reload)=$root/" "$root/units/spmfs@.service")" 2
if command -v systemd-analyze >/dev/null; then
	# What is of other units is not ours, and neither is a man page that is not installed.
	verify=$(cd "$root/units" && SYSTEMD_UNIT_PATH=$root/units:$units systemd-analyze verify --man=no ./spmfs@.service 2>&1 |
		grep 'spmfs@')
	is "systemd-analyze has nothing to complain of" "$verify" ""
else
	skip "systemd-analyze has nothing to complain of" "no systemd-analyze here"
fi
for u in containerd docker kubelet podman slurmd; do
	ok "it comes before $u" grep -qE "^Before=.*\\<$u\.service" "$root/units/spmfs@.service"
done

# The line of the man page, as systemd understands it.
generator=${units%/system}/system-generators/systemd-fstab-generator
sed -n '/fuse\.spmfs .*x-systemd\.before/p' "$top_srcdir/man/spmfs-containers.7" >"$root/fstab"
mkdir "$root/generated"
SYSTEMD_FSTAB=$root/fstab "$generator" "$root/generated" "$root/generated" "$root/generated" 2>"$SPM_TMP/generator"
is "the line for fstab is understood" "$(cat "$SPM_TMP/generator"; cd "$root/generated" && ls -- *.mount)" spm.mount
is "and comes before container runtimes" "$(sed -n 's/^Before=//p' "$root/generated/spm.mount" | tr ' ' '\n' |
	grep -cE '^(docker|kubelet)\.service$')" 2

# ---- a systemd ----

# Only what a service needs; no units of this machine.
for u in basic sysinit sockets shutdown umount timers paths slices multi-user local-fs final; do
	cp -- "$units/$u.target" "$root/units/"
done
cp -- "$units"/systemd-journald.service "$units"/systemd-journald.socket "$units"/systemd-journald-dev-log.socket "$root/units/"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=systemd-journald.service\n' >"$root/units/test.target"
mkdir "$root/etc-systemd" "$root/etc-spmfs" "$SPM_TMP/mnt"
printf 'SOURCE=mem:64M\nMOUNTPOINT=%s\nOPTIONS=map=direct\n' "$SPM_TMP/mnt/demo" >"$root/etc-spmfs/demo.conf"
# Slices in the same file.
printf '\n[slice tenant]\nmax = 16M ; enough\nswap-max = 8M\nuid = %s\n' "$USER_A" >>"$root/etc-spmfs/demo.conf"
# OPTIONS may be left out, and a conf without SOURCE is an error that no restart helps.
printf 'SOURCE=mem:16M\nMOUNTPOINT=%s\n' "$SPM_TMP/mnt/plain" >"$root/etc-spmfs/plain.conf"
printf 'SOURCE=mem:16M\nMOUNTPOINT=%s\nOPTIONS=frobnicate\n' "$SPM_TMP/mnt/bad" >"$root/etc-spmfs/bad.conf"

# Who has containers, and must not start before the mount; and who does not know of it, with a drop-in that does.
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c "echo runtime $(test -d %s/.spm && echo after)"\n' \
	"$SPM_TMP/mnt/demo" >"$root/units/docker.service"
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c "test -d %s/tenant"\n' \
	"$SPM_TMP/mnt/demo" >"$root/units/tenant.service"
printf '[Unit]\nWants=docker.service spmfs@demo.service\n' >"$root/units/both.target"
mkdir "$root/units/tenant.service.d"
printf '[Unit]\nRequires=spmfs@demo.service\nAfter=spmfs@demo.service\n' >"$root/units/tenant.service.d/spmfs.conf"

# A mount point for the configuration is the only thing that a machine may lack.
[ -d /etc/spmfs ] || { mkdir /etc/spmfs && at_exit rmdir /etc/spmfs; }
boot='
	set -eu
	mount --make-rprivate /
	mount -t proc proc /proc
	umount -l /sys/fs/cgroup
	mount -t cgroup2 none /sys/fs/cgroup
	mount -t tmpfs none /run
	mount --bind "$1/etc-systemd" /etc/systemd
	mount --bind "$1/etc-spmfs" /etc/spmfs
	export container=other SYSTEMD_UNIT_PATH=$1/units SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_LOG_TARGET=console
	exec "$2" --system --unit=test.target'
cgroup=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$cgroup" ] || skip_all "no cgroup2 here"
cgroup=$cgroup/spmfs-test-${SPM_TMP##*.}
mkdir "$cgroup" || skip_all "cannot make a control group in $cgroup"

no_cgroup()
{
	find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
	[ ! -d "$cgroup" ]
}

end_systemd()
{
	kill -KILL "$init" "$starter" 2>/dev/null
	wait "$starter" 2>/dev/null
	wait_until 10 no_cgroup
}

# shellcheck disable=SC2016 # the inner shell's arguments
bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child \
	bash -c "$1" - "$2" "$3"' - "$cgroup" "$boot" "$root" "$systemd" >"$SPM_TMP/systemd.out" 2>&1 </dev/null &
starter=$!
init=
at_exit end_systemd

inside()
{
	timeout 60 nsenter -t "$init" -m -p -C -- "$@"
}

is_up()
{
	init=$(cat "/proc/$starter/task/$starter/children")
	init=${init% }
	[ -n "$init" ] && [ "$(cat "/proc/$init/comm")" = systemd ] && inside systemctl is-active test.target systemd-journald
}
wait_until 20 is_up || skip_all "systemd does not come up in namespaces here: $(tail -n 3 "$SPM_TMP/systemd.out" | tr '\n' ' ')"

ctl()
{
	inside systemctl --no-pager "$@"
}

property()
{
	ctl show -P "$1" "${2:-spmfs@demo}"
}

there=$SPM_TMP/mnt/demo
feature()
{
	inside sed -n "s/^$1 //p" "$there/.spm/features"
}

# Of the journal, since the last call; the time and the process are left out.
journal()
{
	inside journalctl --sync
	inside journalctl --no-pager -q -o cat -t spmfs -p info --cursor-file="$root/cursor" "$@"
}

ok "start" ctl start spmfs@demo
is "it is active" "$(property ActiveState)/$(property SubState)" active/running
keeper=$(feature keeper_pid)
is "its main process is the keeper" "$(property MainPID)" "$keeper"
is "its status" "$(property StatusText)" "$there serves"
is "its slices are there" "$(inside stat -c '%u %A' "$there/tenant")" "$USER_A drwxr-xr-x"
inside journalctl --sync
is "systemd has no complaint about them" "$(cat "$SPM_TMP/systemd.out" <(inside journalctl -q) |
	grep -i -e 'invalid environment' -e 'demo\.conf:')" ""
is "the mount is seen by all" "$(inside findmnt -no FSTYPE "$there")" fuse.spmfs
log=$(journal)
like "the journal: start" "$log" "(^|"$'\n'")$there: start: mem:64M"
like "the journal: slices" "$log" "^$there: slices: 1 made"

inside bash -c 'echo kept >"$1/file"' - "$there"

# A client that lives through it all.
inside bash -c 'exec 9<"$1/file"; while [ "$SECONDS" -lt 300 ]; do read -r line <"$1/file" || exit 1; [ ! -e "$1/stop" ] || exit 0
	sleep 0.05; done; exit 2' - "$there" 2>"$SPM_TMP/client" &
client=$!

pid()
{
	feature "$1_pid"
}

# kill is the namespace's: its numbers are not ours.
slay()
{
	inside bash -c 'kill -KILL "$@"' - "$@"
}

changed()
{
	[ -n "$(pid "$1")" ] && [ "$(pid "$1")" != "$2" ]
}

old=$(pid worker)
slay "$old"
ok "a worker that dies" wait_until 10 changed worker "$old"
is "is the keeper's to restart" "$(property NRestarts)/$(property MainPID)" "0/$keeper"
wait_until 5 eval '[[ $(property StatusText) == *"1 restart"* ]]'
like "its status tells" "$(property StatusText)" "^$there serves, 1 restart"
log=$(journal)
is "the journal: a crash is an error" "$(inside journalctl -q -o cat -t spmfs -p err | grep -c "crash: worker $old ")" 1
like "the journal: one line says how it died" "$log" "crash: worker $old was killed by SIGKILL; in hand: "
like "one line says who took over, and when" "$log" "takeover: worker $(pid worker) serves, [0-9]+ ms after"
is "and that is all" "$(wc -l <<<"$log")" 2

ok "reload is an upgrade" ctl reload spmfs@demo
like "the journal: one line" "$(journal)" "^$there: upgrade: [0-9.]+ -> [0-9.]+, takeover [0-9]+ ms\$"

slay "$keeper"
ok "a keeper that dies" wait_until 10 changed keeper "$keeper"
wait_until 5 eval '[ "$(property MainPID)" = "$(pid keeper)" ]'
is "is succeeded by another, which systemd knows" "$(property MainPID)" "$(pid keeper)"
is "nothing was restarted for that" "$(property NRestarts) $(property ActiveState)" "0 active"
ok "reload works afterwards, too" ctl reload spmfs@demo
is "and ends nothing" "$(property NRestarts) $(property ActiveState)" "0 active"

inside touch "$there/stop"
wait "$client"
is "a client saw nothing of it all" "$? $(cat "$SPM_TMP/client")" "0 "
inside rm "$there/stop"
journal >/dev/null

# Everything at once, also whoever is started in between.
# shellcheck disable=SC2016
inside bash -c 'for i in $(seq 200); do
		pids=
		for p in /proc/[0-9]*; do
			case $(readlink "$p/exe") in
			*/spmfs | */spmfs-keeper) pids="$pids ${p#/proc/}" ;;
			esac
		done
		[ -n "$pids" ] || break
		kill -KILL $pids
	done' 2>/dev/null
ok "after the loss of all of them systemd makes it anew" wait_until 20 eval '[ "$(property NRestarts)/$(property SubState)" = 1/running ]'
is "with its files" "$(inside cat "$there/file")" kept
is "mounted once" "$(inside findmnt -rnM "$there" | wc -l)" 1
log=$(journal)
is "the journal: one line for that" "$(grep -c "^$there: recover: " <<<"$log")" 1

ok "stop, while a file is open" inside bash -c 'exec 9<"$1/file"; systemctl stop spmfs@demo' - "$there"
is "is the end" "$(property ActiveState) $(property Result)" "inactive success"
ok "nothing is mounted" eval '! inside findmnt -n "$there"'
ok "nothing is left in /run" eval '! inside test -e /run/spmfs'
like "the journal: one line for the end" "$(journal)" "^$there: end"

ok "a service with a drop-in that asks for the mount" ctl start tenant
is "has it" "$(property ActiveState tenant) $(property ActiveState)" "active active"
ctl stop tenant spmfs@demo
ok "a container runtime in one go with the mount" ctl start both.target
wait_until 10 eval '[ "$(property ActiveState docker) $(property ActiveState)" = "active active" ]'
inside journalctl --sync
like "starts after it" "$(inside journalctl -q -o cat -u docker)" "(^|"$'\n'")runtime after"
ctl stop docker spmfs@demo

ok "start again" ctl start spmfs@demo
ok "umount" inside umount "$there"
wait_until 10 eval '[ "$(property ActiveState)" = inactive ]'
is "ends the service, which is not restarted" "$(property ActiveState) $(property NRestarts)" "inactive 0"

ok "without OPTIONS" ctl start spmfs@plain
is "it is a mount" "$(inside findmnt -no FSTYPE "$SPM_TMP/mnt/plain")" fuse.spmfs
ok "and stops" ctl stop spmfs@plain
fails "an option that is not known" ctl start spmfs@bad
is "is not tried again" "$(property ActiveState spmfs@bad) $(property NRestarts spmfs@bad)" "failed 0"
fails "no configuration" ctl start spmfs@none
spm_done
