#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Slurm's prolog and epilog: a job's slice comes and goes, and what a user gets wrong does no harm to the node.
set -u
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

scripts=$top_srcdir/mount-helpers/slurm
mkdir "$SPM_TMP/bin"
ln -s "$SPMCTL" "$SPM_TMP/bin/spmctl"
spm_need_mount mem:128M mode=0755

# As an administrator would write it; Slurm sets no search path, and the scripts set theirs.
settings()
{
	printf '%s\n' "PATH=$SPM_TMP/bin:\$PATH" "MOUNTPOINT=$MNT" "RUN_DIRECTORY=$SPM_TMP/slurm-run" "WAIT_SECONDS=1" "$@" \
		>"$SPM_TMP/slurm.conf"
}
settings

# slurm SCRIPT JOB UID [NAME=VALUE...]: as slurmd runs it, with what it puts into the environment and nothing else
slurm()
{
	local script=$1 job=$2 uid=$3
	shift 3
	env -i SPM_SLURM_CONF="$SPM_TMP/slurm.conf" ASAN_OPTIONS="${ASAN_OPTIONS:-}" SLURM_JOB_ID="$job" SLURM_JOB_UID="$uid" \
		SLURM_JOB_USER=somebody SLURM_CLUSTER_NAME=test SLURMD_NODENAME=node "$@" /bin/bash "$scripts/slurm-$script" 2>&1
}

limit()
{
	sed -n "s/^$1 .* $2=\([^ ]*\) .*/\1/p" "$MNT/.spm/slices"
}

# ---- a job ----

out=$(slurm prolog 41 "$USER_A" SLURM_JOB_COMMENT="a comment, spmfs=16M; and more" SLURM_JOB_GID="$USER_B")
is "a job that asks gets a slice" "$? $(stat -c '%u:%g %a' "$MNT/job-41")" "0 $USER_A:$USER_B 700"
like "which is told" "$out" "^spmfs-slurm-prolog: job 41: 16M at $MNT/job-41 for user $USER_A\$"
is "of that size" "$(limit job-41 max) $(limit job-41 min)" "16777216 0"
as "$USER_A" cp /etc/services "$MNT/job-41/input"
out=$(slurm prolog 41 "$USER_A" SLURM_JOB_COMMENT=spmfs=16M)
is "the prolog may run again" "$? $out" "0 "
ok "and nothing is lost" cmp /etc/services "$MNT/job-41/input"
is "its tasks are told where it is" "$(slurm task-prolog 41 "$USER_A")" "export SPM_PATH=$MNT/job-41"
is "others cannot look inside" "$(as "$USER_B" ls "$MNT/job-41" 2>&1 | grep -c 'Permission denied')" 1
out=$(slurm epilog 41 "$USER_A")
is "the epilog removes it, with its files" "$? $(ls "$MNT")" "0 "
like "which is told" "$out" "^spmfs-slurm-epilog: job 41: $MNT/job-41 is removed\$"
out=$(slurm epilog 41 "$USER_A")
is "the epilog may run again" "$? $out" "0 "

out=$(slurm prolog 42 "$USER_A")
is "a job that does not ask gets none" "$? $out $(ls "$MNT")" "0  "
is "and its tasks hear nothing" "$(slurm task-prolog 42 "$USER_A")" ""
settings DEFAULT_SIZE=8M
slurm prolog 42 "$USER_A" >"$SPM_TMP/out"
is "unless there is a size for all" "$? $(limit job-42 max)" "0 8388608"

# Job numbers come again.
as "$USER_A" touch "$MNT/job-42/secret"
slurm prolog 42 "$USER_B" >"$SPM_TMP/out"
is "a slice that another user's job has left is emptied" "$? $(stat -c %u "$MNT/job-42") $(ls -A "$MNT/job-42")" "0 $USER_B "
slurm epilog 42 "$USER_B" >"$SPM_TMP/out"

# ---- what users get wrong does not drain the node ----

settings MAX_SIZE=64M
wrong()
{
	local out
	out=$(slurm prolog 43 "$USER_A" SLURM_JOB_COMMENT="$1")
	is "wrong: $1: is no failure of the node" "$? $(ls "$MNT")" "0 "
	like "wrong: $1: is in the log" "$out" "$2"
	like "wrong: $1: the job's output tells it" "$(slurm task-prolog 43 "$USER_A")" "^print spmfs: .*$2"
}
wrong "spmfs=lots" "'lots' is not a size; ask with --comment=spmfs=8G"
# shellcheck disable=SC2016 # not to be expanded
wrong 'spmfs=$(touch${IFS}/tmp/x)' "is not a size"
wrong "spmfs=-1" "is not a size"
wrong "spmfs=65M" "spmfs=65M is more than the 64M that a job may have here"
wrong "spmfs=99999999999999T" "is not a size"
wrong "spmfs=999999T" "is more than the 64M"
wrong "spmfs=1K" "is not a size"
settings
slurm prolog 44 "$USER_A" SLURM_JOB_COMMENT=spmfs=999999T >"$SPM_TMP/out"
is "more than the device is a limit that does not limit" "$? $(ls "$MNT")" "0 job-44"
slurm epilog 44 "$USER_A" >"$SPM_TMP/out"
slurm epilog 43 "$USER_A" >"$SPM_TMP/out"
is "the epilog forgets it" "$? $(slurm task-prolog 43 "$USER_A")" "0 "

# ---- what drains it ----

settings GUARANTEE=yes
slurm prolog 51 "$USER_A" SLURM_JOB_COMMENT=spmfs=100M >"$SPM_TMP/out"
is "a guaranteed size" "$? $(limit job-51 min)" "0 104857600"
out=$(slurm prolog 52 "$USER_B" SLURM_JOB_COMMENT=spmfs=100M)
is "that is not there" "$? $(ls "$MNT")" "1 job-51"
like "is in the log, with numbers" "$out" "^spmfs-slurm-prolog: job 52: .*(100\.?0? ?M|104857600)"

actor left setpriv --reuid "$USER_A" --regid "$USER_A" --clear-groups --
tell left open f rw,creat "$MNT/job-51/f"
out=$(slurm epilog 51 "$USER_A")
is "memory that a process still holds" "$? $(ls "$MNT")" "1 job-51"
like "is in the log, with the process" "$out" "^spmfs-slurm-epilog: job 51: after 1 s: .*${ACTOR_PID[left]}"
actor_end left
slurm epilog 51 "$USER_A" >"$SPM_TMP/out"
is "later it goes" "$? $(ls "$MNT")" "0 "

settings "MOUNTPOINT=$SPM_TMP/bin"
out=$(slurm prolog 61 "$USER_A" SLURM_JOB_COMMENT=spmfs=1M)
like "no mount: the prolog fails" "$? $out" "^1 spmfs-slurm-prolog: job 61: nothing is mounted at $SPM_TMP/bin"
out=$(slurm prolog 62 "$USER_A")
is "but not for a job that does not ask" "$? $out" "0 "
out=$(slurm epilog 61 "$USER_A")
like "the epilog has nothing to do" "$? $out" "^0 spmfs-slurm-epilog: job 61: nothing is mounted"
out=$(slurm prolog "" "$USER_A")
like "no job" "$? $out" "^1 .*SLURM_JOB_ID is ''"
out=$(slurm prolog 63 "")
like "no user" "$? $out" "^1 .*SLURM_JOB_UID is ''"

# ---- a comment that only the controller knows ----

settings ASK_SCONTROL=yes
# shellcheck disable=SC2016 # the script's
printf '#!/bin/sh\n[ "$*" = "show job -o 71" ] && echo "JobId=71 JobName=x UserId=a(1) Comment=test,spmfs=4M"\n' \
	>"$SPM_TMP/bin/scontrol"
chmod 755 "$SPM_TMP/bin/scontrol"
slurm prolog 71 "$USER_A" >"$SPM_TMP/out"
is "scontrol is asked" "$? $(limit job-71 max)" "0 4194304"
slurm epilog 71 "$USER_A" >"$SPM_TMP/out"
is "the example has the settings that there are" \
	"$(grep -oE '^[A-Z_]+=.*' "$scripts/slurm.conf.example" | sort)" \
	"$(grep -oE '^[A-Z_]+=.*' "$scripts/slurm-common" | grep -v -e ^PATH -e ^RUN_ | sort)"
spm_done
