#!/bin/bash
# run.sh [OPTIONS] SCRIPT [ARG…]: boots the lab's guest, runs SCRIPT in it as root between two hosts (guest.sh has the
# picture) and exits with its status. The script's output is this command's output.
#
#   --results DIR    folder for log, console, dmesg, captures and what the script writes to $LAB_RESULTS
#                    (default: a new one, named at the end if the script fails, removed if it succeeds)
#   --memory SIZE    the guest's memory (2G)          --timeout SECONDS  then the guest is killed (120)
#   --links N        veth pairs between the hosts (1) --rdma TYPE        rxe, siw or none (rxe)
#   --env NAME=VALUE set in the script's environment  --capture          record the server's wire to wire-N.pcap
#
# Exit status: the script's own; 124 the guest was killed at its time limit; 125 it ended without reporting a status;
# 126 wrong usage; 77 the lab cannot run on this machine, or the script said so (the reason is in DIR/skip).
# SMBDIRECT_LAB_KERNEL names a ready kernel; without it the one that build-kernel.sh has cached is used.
set -uo pipefail

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results='' memory=2G timeout=120 links=1 rdma=rxe capture=no environment=() keep=no

usage() {
	echo "lab: $1; run.sh's first lines say how to call it" >&2
	exit 126
}

# skip REASON: this machine cannot run the lab, which is not a failure of what was to be tested.
skip() {
	echo "$1" >"$results/skip"
	echo "lab: skipped: $1"
	exit 77
}

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--results) results=$2 keep=yes && shift 2 ;;
		--memory) memory=$2 && shift 2 ;;
		--timeout) timeout=$2 && shift 2 ;;
		--links) links=$2 && shift 2 ;;
		--rdma) rdma=$2 && shift 2 ;;
		--env) environment+=("$2") && shift 2 ;;
		--capture) capture=yes && shift ;;
		-*) usage "unknown option $1" ;;
		*) break ;;
		esac
	done
	[ $# -gt 0 ] || usage "no script given"
	script=$(realpath "$1") && [ -r "$script" ] || usage "cannot read $1"
	shift
	arguments=("$@")
}

prepare_results() {
	if [ "$keep" = yes ]; then
		mkdir -p "$results"
		results=$(realpath "$results")
		rm -f "$results"/{status,skip,ready,runs,client-fault,dmesg,log,console,settings,wire-*.pcap}
	else
		results=$(mktemp -d "${TMPDIR:-/tmp}/smbdirect-lab.XXXXXX")
	fi
	[[ $results != *[[:space:]]* ]] || usage "the results folder's path must not contain blanks: $results"
	cp "$lab/guest.sh" "$results/guest.sh" # under a path the kernel's command line can carry
	write_settings >"$results/settings"
}

# What the guest's script finds in its environment, quoted by bash for bash.
write_settings() {
	local LAB=$lab LAB_SCRIPT=$script LAB_LINKS=$links LAB_RDMA=$rdma LAB_CAPTURE=$capture LAB_ARGS=("${arguments[@]}") pair
	declare -p LAB LAB_SCRIPT LAB_LINKS LAB_RDMA LAB_CAPTURE LAB_ARGS
	echo "export LAB LAB_LINKS LAB_RDMA"
	for pair in "${environment[@]}"; do printf 'export %s=%q\n' "${pair%%=*}" "${pair#*=}"; done
}

find_kernel() {
	[ "$(uname -m)" = x86_64 ] || skip "the lab's guest kernel runs on x86_64 only, this machine is $(uname -m)"
	if [ -n "${SMBDIRECT_LAB_KERNEL:-}" ]; then
		kernel=$SMBDIRECT_LAB_KERNEL
		[ -x "$kernel" ] || usage "SMBDIRECT_LAB_KERNEL names no kernel that can be run: $kernel"
	else
		kernel=$("$lab/build-kernel.sh" --path) ||
			skip "no guest kernel: './x kernel' builds one, or name a ready one in SMBDIRECT_LAB_KERNEL"
	fi
	"$kernel" --version >/dev/null 2>&1 || skip "this machine cannot start the guest kernel $kernel"
}

# The guest's memory is a file that must allow executable maps: /dev/shm where it is large enough, as it is fastest.
memory_folder() {
	local folder need free
	need=$(numfmt --from=iec "$memory") || usage "--memory takes a size such as 2G, not $memory"
	for folder in /dev/shm /tmp /var/tmp; do
		free=$(df -B1 --output=avail "$folder" 2>/dev/null | tail -1)
		[ "${free:-0}" -ge "$need" ] && ! findmnt -no OPTIONS -T "$folder" | grep -qw noexec && echo "$folder" && return
	done
	skip "no folder has $memory for the guest's memory (tried /dev/shm, /tmp, /var/tmp)"
}

# A guest pinned to one core runs two to four times faster and steadily. Each takes a core of its own; when all are
# taken the next guest waits its turn, and its time limit starts only then.
claim_core() {
	local core cores locks
	cores=$(taskset -cp $$ | sed 's/.*: //' | tr , '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
	locks=${SMBDIRECT_CACHE:-${HOME:-/root}/.cache/smbdirect}/cores
	mkdir -p "$locks"
	while true; do
		for core in $(tac <<<"$cores"); do
			exec {core_lock}>"$locks/core-$core"
			if flock -n "$core_lock"; then
				claimed=$core
				return
			fi
			exec {core_lock}>&-
		done
		sleep 0.1
	done
}

boot() {
	local folder
	folder=$(memory_folder) || exit
	: >"$results/log"
	tail -n +1 -s 0.05 --pid=$$ -f "$results/log" &
	local follower=$!
	# The kernel makes itself a session of its own, so no signal to a group reaches it: it is tied to this script by
	# the death signal, through timeout, and ends with it however it ends.
	TMPDIR=$folder setpriv --pdeathsig KILL timeout --foreground -s KILL "$timeout" \
		taskset -c "$claimed" setpriv --pdeathsig KILL "$kernel" \
		mem="$memory" seccomp=on root=/dev/root rootfstype=hostfs rootflags=/ ro \
		init="$results/guest.sh" lab.results="$results" \
		bonding.max_bonds=0 con=null con0=fd:0,fd:1 con1=null,fd:3 quiet panic=-1 \
		</dev/null >"$results/console" 2>&1 3>>"$results/log" {core_lock}>&- &
	guest=$!
	wait "$guest"
	ended=$?
	sleep 0.1 # the follower's last look
	kill "$follower" 2>/dev/null
	wait "$follower" 2>/dev/null
}

# The status the guest reported, or what its silence means.
conclude() {
	local status
	if read -r status 2>/dev/null <"$results/status"; then
		[ "$status" != 77 ] || [ -e "$results/skip" ] || status=1 # only skip() of hosts.sh means a skip
	elif [ "$ended" = 137 ]; then
		echo "lab: the guest was killed after its time limit of $timeout s"
		status=124
	else
		echo "lab: the guest ended without reporting a status; the end of its console:"
		tail -5 "$results/console"
		status=125
	fi
	if [ "$keep" = no ] && [ "$status" = 0 ]; then
		rm -rf "$results"
	elif [ "$status" != 0 ]; then
		echo "lab: status $status, logs are in $results"
	fi
	exit "$status"
}

parse "$@"
prepare_results
find_kernel
claim_core
trap 'exit 143' TERM INT HUP # the guest goes with this script
boot
conclude
