#!/bin/bash
# flood.sh: unauthenticated connections held while a client works, ours beside ksmbd (1000)
#   SOAK_TIMES  how many; tests/lab/flood.sh says what is claimed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

tools=$(tests/bench/get-ksmbd-tools.sh) || echo "flood: ksmbd skipped: its tools cannot be had"
tests/lab/run.sh --memory 3G --timeout 900 --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" --env KSMBD_TOOLS="${tools:-}" \
	--env FLOOD_HELD="${SOAK_TIMES:-1000}" tests/lab/flood.sh
