#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion: the files load in a plain bash, and offer what the programs take.
set -u
SPM_NO_SANDBOX=1
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"

dir=$top_srcdir/mount-helpers/completions/bash
for program in spmctl spmfs; do
	ok "$program: loads without a word" eval \
		'out=$(bash -u -c ". \"\$1\"" bash "$dir/$program" 2>&1) && [ -z "$out" ]'
	ok "$program: is bound" bash -c '. "$1" && complete -p "$2"' bash "$dir/$program" "$program"
done

# complete_line PROGRAM LINE: what Tab at the end of the line would offer, one a line. Words are split as
# readline does it, at COMP_WORDBREAKS too.
complete_line()
{
	bash -c '
		. "$1"
		COMP_LINE=$3 COMP_POINT=${#3} COMP_WORDS=() COMP_KEY=9 COMP_TYPE=9
		rest=$3 word=
		while [ -n "$rest" ]; do
			c=${rest:0:1} rest=${rest:1}
			case $c in
			" ") [ -z "$word" ] || COMP_WORDS+=("$word"); word= ;;
			[:=]) [ -z "$word" ] || COMP_WORDS+=("$word"); COMP_WORDS+=("$c"); word= ;;
			*) word=$word$c ;;
			esac
		done
		case ${3: -1} in
		[:=]) ;;
		*) COMP_WORDS+=("$word") ;;
		esac
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		spec=$(complete -p "$2")
		spec=${spec##*-F }
		"${spec%% *}" "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
		printf "%s\n" "${COMPREPLY[@]}"
	' bash "$dir/$1" "$1" "$2" 2>&1 | sort
}

offers()
{
	local desc=$1 line=$3 want=$4
	like "$desc" " $(complete_line "$2" "$line" | tr '\n' ' ')" " ($want)[ /]"
}

commands=$("$SPMCTL" --help | sed -nE 's/^  ([a-z]+) .*/\1/p')
for command in $commands; do
	offers "spmctl: offers $command" spmctl "spmctl " "$command"
done
is "spmctl: one that is begun" "$(complete_line spmctl "spmctl sta")" status
offers "spmctl status: --json" spmctl "spmctl status --" --json
for command in create set show list remove; do
	offers "spmctl slice: offers $command" spmctl "spmctl slice " "$command"
	for option in $("$SPMCTL" slice "$command" --help | grep -oE '^  (-u, )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
		offers "spmctl slice $command: offers $option" spmctl "spmctl slice $command --" "$option"
	done
done
offers "spmctl slice create --map: its values" spmctl "spmctl slice create a --map m" mirror
offers "spmctl slice list --output: its value" spmctl "spmctl slice list --output " k8s-pv
offers "spmctl drain: --timeout" spmctl "spmctl drain --t" --timeout
offers "spmctl drain: --cancel" spmctl "spmctl drain --c" --cancel
offers "spmctl cdi: --output" spmctl "spmctl cdi --" --output --refresh
offers "spmctl files: files" spmctl "spmctl files $top_srcdir/conf" "$top_srcdir/configure.ac"

if [ -x "$SPMFS" ]; then
	for option in $("$SPMFS" --help | sed -nE 's/^  ([a-z_]+=?)  +[a-z0-9].*/\1/p'); do
		offers "spmfs -o: offers $option" spmfs "spmfs mem:1G /mnt -o " "$option"
	done
else
	skip "spmfs -o: offers every option" "built without spmfs"
fi
offers "spmfs: sources" spmfs "spmfs m" "mem:"
offers "spmfs: a directory" spmfs "spmfs dir:$top_srcdir/fs" "(dir:)?$top_srcdir/fs/"
offers "spmfs -o map=: its values" spmfs "spmfs mem:1G /mnt -o map=m" "(map=)?mirror"
offers "spmfs -o isolate=: its values" spmfs "spmfs mem:1G /mnt -o isolate=c" "(isolate=)?claim"
offers "spmfs -o: after a comma" spmfs "spmfs mem:1G /mnt -o keep,si" "keep,size="

spm_done
