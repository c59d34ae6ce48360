#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs the tests of tests/vm/plan in the test machine: one boot for each kernel and layout. The last line is "N passed,
# N failed, N skipped", counted in test points. Where there can be no machine, everything is skipped, with the reason.
#
#	bash tests/vm/check.sh [--results DIR] [--kernel NAME] [--layout NAME] [--long] [--together] [TEST...]
#
# A test that failed is run once more, in a machine of its own, unless what it says is about data: see tests/again.sh. No machine is
# started after SPM_VM_BUDGET seconds (2400); what is left then is skipped.
# --long: also what the plan has for patient people, and with both kernels what it has for one. DIR (vm-results) gets each test's output, and table.md, which says
# what ran where. --together: a machine for each kernel at the same time, since one seldom has work for more than one processor; wants
# 5 GiB of memory for each. What they say comes when both have ended.
set -u
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
results=vm-results kernels=(6.12 new) layouts=() wanted=() long='' together='' of_several='' same=()
# How long one test may take, and one machine; what builds everything under emulation takes its hour.
test_limit=900 machine_limit=1800 pristine_limit=7200 budget=${SPM_VM_BUDGET:-2400}
no_excuse='byte|differ|content|corrupt|lost|zero|stale|sanitizer|SIGBUS|SIGSEGV|leak|crash'

passed=0 failed=0 skipped=0
again=() second=''	# "KERNEL LAYOUT TEST" that failed; this is their second time
declare -A verdict=()	# "KERNEL LAYOUT TEST" -> what the table says

while [ $# -gt 0 ]; do
	case $1 in
	--results) results=$2 && shift ;;
	--kernel) kernels=("$2") && shift ;;
	--layout) layouts=("$2") && same+=("$1" "$2") && shift ;;
	--long) long=1 && same+=("$1") ;;
	--together) together=1 ;;
	--of-several) of_several=1 ;; # this is what --together has started, for one kernel
	-*) sed -n 's/^#\t//p' "$0" >&2 && exit 1 ;;
	*) wanted+=("$1") && same+=("$1") ;;
	esac
	shift
done

# Lines of the plan, "LAYOUT TEST", for this run; $1 a kernel: for that.
plan()
{
	local layout test when w
	while read -r layout test when; do
		case $when in
		long) [ -n "$long" ] || continue ;;
		'') ;;
		*) [ -n "$long" ] || [ "${1:-$when}" = "$when" ] || continue ;;
		esac
		[ ${#wanted[@]} -gt 0 ] || { printf '%s %s\n' "$layout" "$test" && continue; }
		for w in "${wanted[@]}"; do
			[[ $test != *"$w"* ]] || printf '%s %s\n' "$layout" "$test"
		done
	done < <(sed 's/#.*//; /^[[:space:]]*$/d' "$here/plan")
}

# Every test that lies here is in the plan, or it would never run.
complete()
{
	local f rc=0
	for f in "$here"/*-*.sh; do
		grep -qE "^[a-z]+[[:space:]]+tests/vm/${f##*/}([[:space:]]|$)" "$here/plan" && continue
		printf 'FAIL: tests/vm/%s is in no line of tests/vm/plan\n' "${f##*/}"
		rc=1
	done
	return $rc
}

# Counts the points of one test; $1 a file with its output, $2 what it is, $3 its exit status
count()
{
	local file=$1 what=$2 rc=$3 ok bad skip planned
	bad=$(grep -cE '^not ok ' "$file")
	skip=$(grep -cE '^ok .* # SKIP|^1\.\.0 # SKIP' "$file")
	ok=$(($(grep -cE '^ok ' "$file") - $(grep -cE '^ok .* # SKIP' "$file")))
	planned=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$file" | tail -n 1)
	if [ "$rc" != 0 ] && [ "$bad" -eq 0 ] || [ -z "$planned" ]; then
		printf 'not ok - ended with status %s, %s points of %s\n' "$rc" "$((ok + bad))" "${planned:-?}" | tee -a "$file"
		bad=$((bad + 1))
	fi
	if [ "$bad" -gt 0 ] && [ -z "$second" ] && [ "$SECONDS" -lt "$budget" ] &&
		! grep -E '^not ok ' "$file" | grep -qiE "$no_excuse"; then
		again+=("$what")
		verdict[$what]="failed"
		printf '%s: %s failed, will be run again (%s s)\n' "$what" "$bad" "$4"
		sed -n '/^not ok/,$p' "$file" | grep -v '^ok ' | tail -n 60
		return
	fi
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	[ -z "$second" ] || [ "$bad" -gt 0 ] || printf 'unstable: %s failed first, see above, and passed in a machine of its own\n' "$what"
	verdict[$what]="$ok passed${bad:+$([ "$bad" -eq 0 ] || echo ", **$bad failed**")}$([ "$skip" -eq 0 ] || echo ", $skip skipped")"
	printf '%s: %s (%s s)\n' "$what" "${verdict[$what]}" "$4"
	grep -E '^(ok|1\.\.0) .*# SKIP' "$file" | sed 's/^/  /'
	[ "$bad" -eq 0 ] || sed -n '/^not ok/,$p' "$file" | grep -v '^ok ' | tail -n 60
}

# Runs tests in one machine. Those that it did not come to are left in the array todo.
one_machine()
{
	local kernel=$1 layout=$2 dir=$results/$1/$2 test_limit=$test_limit machine_limit=$machine_limit line name='' out=/dev/null rc
	[ "$layout" != pristine ] || test_limit=$pristine_limit machine_limit=$((pristine_limit + 300))
	mkdir -p "$dir"
	bash "$here/run.sh" --kernel "$kernel" --layout "$layout" --limit "$machine_limit" --out "$dir" \
		bash /spm/src/tests/vm/inside.sh "$test_limit" "${todo[@]}" >"$dir/all" 2>"$dir/machine"
	rc=$?
	while IFS= read -r line; do
		case $line in
		'== begin '*)
			name=${line#== begin }
			out=$dir/$(basename "$name" .sh).tap
			: >"$out"
			;;
		"== end $name "*)
			# shellcheck disable=SC2086 # words
			set -- ${line#== end }
			count "$out" "$kernel $layout $name" "$2" "$3"
			todo=("${todo[@]:1}")
			name='' out=/dev/null
			;;
		'== kernel '*) printf '%s\n' "$line" ;;
		*) printf '%s\n' "$line" >>"$out" ;;
		esac
	done <"$dir/all"
	if [ -n "$name" ]; then
		printf '# the machine went down (%s)\n' "$rc" >>"$out"
		count "$out" "$kernel $layout $name" "$rc" "?"
		cat "$dir/machine"
		todo=("${todo[@]:1}")
	fi
	return $rc
}

none_here()
{
	printf 'SKIP: no test machine: %s\n' "$*"
	printf '0 passed, 0 failed, 1 skipped\n'
	exit 0
}

# run_layout KERNEL LAYOUT TEST...: going on in a new machine when a test takes one down.
run_layout()
{
	local kernel=$1 layout=$2 todo=() before rc test
	shift 2
	todo=("$@")
	while [ ${#todo[@]} -gt 0 ]; do
		if [ "$SECONDS" -ge "$budget" ]; then
			printf 'SKIP: %s with kernel %s: no time left, SPM_VM_BUDGET is %s s\n' "${todo[*]}" "$kernel" "$budget"
			skipped=$((skipped + ${#todo[@]}))
			return
		fi
		before=${#todo[@]}
		one_machine "$kernel" "$layout"
		rc=$?
		if [ $rc = 77 ]; then
			printf 'SKIP: layout %s with kernel %s: %s\n' "$layout" "$kernel" "$(tail -n 1 "$results/$kernel/$layout/machine")"
			skipped=$((skipped + 1))
			for test in "${todo[@]}"; do
				verdict["$kernel $layout $test"]="skipped"
			done
			return
		fi
		if [ ${#todo[@]} -eq "$before" ]; then
			printf 'FAIL: layout %s with kernel %s does not run:\n' "$layout" "$kernel"
			tail -n 40 "$results/$kernel/$layout/machine"
			failed=$((failed + 1))
			return
		fi
	done
}

table()
{
	local k layout test row
	printf '| device | test |'
	printf ' %s |' "${kernels[@]/#/Linux }"
	printf '\n|---|---|'
	printf -- '---|%.0s' "${kernels[@]}"
	printf '\n'
	while read -r layout test; do
		row="| $layout | $test |"
		for k in "${kernels[@]}"; do
			row+=" ${verdict["$k $layout $test"]:-not run} |"
		done
		printf '%s\n' "$row"
	done < <(plan)
}

# One run of this script for each kernel; what they count is added up.
run_together()
{
	local -A pid=()
	local k line what
	# run.sh lets only one machine run for those who do not have this
	exec {SPM_VM_LOCKED}>>"${image%/*}/vm.lock" && flock "$SPM_VM_LOCKED" && export SPM_VM_LOCKED
	for k in "${kernels[@]}"; do
		bash "$here/check.sh" --results "$results" --kernel "$k" --of-several "${same[@]}" >"$results/$k.log" 2>&1 </dev/null &
		pid[$k]=$!
	done
	for k in "${kernels[@]}"; do
		wait "${pid[$k]}"
		sed '$d' "$results/$k.log"
		line=$(tail -n 1 "$results/$k.log")
		if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
			passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2])) skipped=$((skipped + BASH_REMATCH[3]))
		else
			printf 'FAIL: the run with kernel %s ended without a result: %s\n' "$k" "$line"
			failed=$((failed + 1))
		fi
		while IFS=$'\t' read -r what line; do
			verdict[$what]=$line
		done <"$results/$k.verdicts"
	done
}

# What run_together() wants to know: "KERNEL LAYOUT TEST", and what the table is to say.
tell_verdicts()
{
	local what
	for what in "${!verdict[@]}"; do
		printf '%s\t%s\n' "$what" "${verdict[$what]}"
	done >"$results/${kernels[0]}.verdicts"
}

conclude()
{
	if [ -n "$of_several" ]; then
		tell_verdicts
	else
		table >"$results/table.md"
	fi
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

[ "$(id -u)" -eq 0 ] || { echo "tests/vm/check.sh: run it as root" >&2 && exit 1; }
mkdir -p "$results" || exit 1
[ -n "$of_several" ] || complete || failed=$((failed + 1))
image=$(bash "$here/image.sh" 2>"$results/image.log") || {
	rc=$?
	[ $rc != 77 ] || none_here "$(tail -n 1 "$results/image.log")"
	cat "$results/image.log"
	printf 'FAIL: the image of the test machine\n0 passed, 1 failed, 0 skipped\n'
	exit 1
}
[ ${#layouts[@]} -gt 0 ] || mapfile -t layouts < <(plan | cut -d ' ' -f 1 | awk '!seen[$0]++')
if [ -n "$together" ] && [ ${#kernels[@]} -gt 1 ]; then
	run_together
	conclude
	exit
fi
for kernel in "${kernels[@]}"; do
	printf -- '---- kernel %s\n' "$(cat "$image/kernel-$kernel/release")"
	for layout in "${layouts[@]}"; do
		mapfile -t tests < <(plan "$kernel" | sed -n "s/^$layout //p")
		[ ${#tests[@]} -eq 0 ] || run_layout "$kernel" "$layout" "${tests[@]}"
	done
done
second=1
for what in ${again[@]+"${again[@]}"}; do
	read -r kernel layout test <<<"$what"
	run_layout "$kernel" "$layout" "$test"
done
conclude
