#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The first process of the test machine (tests/vm/run.sh): makes it fit to run tests, runs the job that it finds
# on the third disk, hands back what it
# left in /out and its exit status, and turns the machine off. /spm is the disk with the tree, built.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb

say()
{
	printf 'guest: %s\n' "$*" >/dev/console
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755 out /out
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -o remount,rw / 2>/dev/null
ip link set lo up 2>/dev/null
hostname vm
ulimit -c 0
stty -F /dev/ttyS1 raw -echo

# A pristine system has neither these nor devices for them.
if [ -x /usr/lib/systemd/systemd-udevd ]; then
	/usr/lib/systemd/systemd-udevd --daemon
	modprobe -a -q fuse xfs nd_e820 nfit nd_pmem dax_pmem device_dax kmem dax_hmem cxl_acpi cxl_pci cxl_mem dax_cxl
	udevadm trigger
	udevadm settle -t 60
fi

# where quickstart.sh has it
mount --bind /spm/build /spm/src/build
mkdir /run/job
tar -xf /dev/vdc -C /run/job || say "no job"
say "up after $(cut -d ' ' -f 1 /proc/uptime) s"
# The job has a session of its own, and no terminal. What it starts may go on after its end; that does not count.
setsid bash -c 'cd /spm/build && . /run/job/environment && exec bash /run/job/job' </dev/null >/dev/ttyS1 2>&1
rc=$?
say "the job ended with status $rc after $(cut -d ' ' -f 1 /proc/uptime) s"
dmesg >/out/.dmesg
echo "$rc" >/out/.status
# One file without a filesystem: nobody has to mount what the machine wrote. It begins at the disk's first byte.
tar -cf /dev/vdc -C /out . || say "the files left in /out do not fit"
sync /dev/vdc
echo o >/proc/sysrq-trigger
sleep 60
