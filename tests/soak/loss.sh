#!/bin/bash
# loss.sh: the kernel client while packets are lost, held back and reordered, and over siw, IPv4 and IPv6 (1)
#   SOAK_TIMES  how many rounds; tests/lab/loss.sh says what is claimed
# Each case has a guest of its own. The guest's kernel is the client, and has faults of its own (docs/resilience.md): a
# case in which cifs.ko panics, hangs the guest or owns up to another is played again, three times at most, and counted.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
faults=0

# fault STATUS: what the client did that ended the last guest. It hangs where it failed to send, and no program ran then.
fault() {
	local console=$results/console silence
	silence=$(($(date +%s) - $(stat -c %Y "$results/runs" 2>/dev/null || date +%s)))
	if cat "$results/client-fault" 2>/dev/null; then
		return
	elif grep -q 'Kernel panic' "$console" && grep -q 'cifs_' "$console"; then
		echo "it panicked"
	elif [ "$1" = 124 ] && [ $silence -gt 15 ] && grep -q 'send_wait_zero_pending' "$console"; then
		echo "it hung the guest"
	else
		return 1
	fi
}

# play KIND CASE
play() {
	local try status how
	for try in 1 2 3; do
		tests/lab/run.sh --timeout 400 --results "$results" --rdma "$1" --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" \
			tests/lab/loss.sh "$2" && return
		status=$?
		how=$(fault $status) || return
		faults=$((faults + 1))
		echo "loss: $1 $2: try $try ended by cifs.ko: $how"
	done
	return 1
}

rounds=${SOAK_TIMES:-1}
for ((round = 1; round <= rounds; round++)); do
	for case in 4:altered {4,6}:{0,0.1,1,5,reorder,partition}; do play rxe "$case" || exit; done
	for case in 4:0 6:0; do play siw "$case" || exit; done
done
echo "loss: ok rounds=$rounds faults_of_the_client=$faults"
