#!/bin/bash
# loss.sh: the kernel client while packets are lost, held back and reordered, and over siw, IPv4 and IPv6 (1)
#   SOAK_TIMES  how many rounds; tests/lab/loss.sh says what is claimed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

play() { tests/lab/run.sh --timeout 900 --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" "$@"; }

rounds=${SOAK_TIMES:-1}
for ((round = 1; round <= rounds; round++)); do
	for family in 4 6; do
		play tests/lab/loss.sh $family:{0,0.1,1,5,reorder,partition} || exit
	done
	play --rdma siw tests/lab/loss.sh 4:0 6:0 || exit
done
echo "loss: $rounds rounds passed"
