#!/bin/bash
# abandoned.sh: connections left at each of seven steps of their making, on the fabric and over soft-RoCE (1000)
#   SOAK_TIMES  how often at each step
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

export SOAK_TIMES=${SOAK_TIMES:-1000}
"$SMBDIRECT_BIN_DIR/resilience_soak" abandoned || exit
tests/lab/run.sh --timeout 1200 --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" --env SOAK_TIMES="$SOAK_TIMES" \
	tests/lab/play.sh abandoned
