#!/bin/bash
# loss.sh: the kernel client while packets are lost, held back and reordered, and over siw, IPv4 and IPv6 (1)
#   SOAK_TIMES  how many rounds; tests/lab/loss.sh says what is claimed
# Each case has a guest of its own. The guest's kernel is the client, and ends now and then when a connection is lost
# under asynchronous writes: a case in which cifs.ko panics is played again, three times at most, and counted.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
panics=0

# play KIND CASE
play() {
	local try
	for try in 1 2 3; do
		tests/lab/run.sh --timeout 400 --results "$results" --rdma "$1" --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" \
			tests/lab/loss.sh "$2" && return
		grep -q 'Kernel panic' "$results/console" && grep -q 'cifs_' "$results/console" || return
		panics=$((panics + 1))
		echo "loss: $1 $2: cifs.ko panicked in try $try"
	done
	return 1
}

rounds=${SOAK_TIMES:-1}
for ((round = 1; round <= rounds; round++)); do
	for case in {4,6}:{0,0.1,1,5,reorder,partition}; do play rxe "$case" || exit; done
	for case in 4:0 6:0; do play siw "$case" || exit; done
done
echo "loss: ok rounds=$rounds panics_of_the_client=$panics"
