#!/bin/bash
# flood.sh: unauthenticated connections held while a client works, ours beside ksmbd, over TCP and over RDMA (1000)
#   SOAK_TIMES  how many; 'tcp', 'rdma' or 'answered' plays one of the three; tests/lab/flood.sh says what is claimed
#   release builds, as it measures
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

tools=$(tests/bench/get-ksmbd-tools.sh) || echo "flood: ksmbd skipped: its tools cannot be had"
[ $# -gt 0 ] || set -- tcp rdma answered
for over in "$@"; do
	tests/lab/run.sh --memory 3G --timeout 900 --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" --env KSMBD_TOOLS="${tools:-}" \
		--env FLOOD_OVER="$over" --env FLOOD_HELD="${SOAK_TIMES:-1000}" tests/lab/flood.sh || exit
done
