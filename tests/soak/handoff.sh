#!/bin/bash
# handoff.sh: each process killed at each step of a handoff, over TCP and over RDMA (50)
#   SOAK_TIMES  how often each of them at each step
set -euo pipefail
exec "$SMBDIRECT_BIN_DIR/handoff_soak" deaths "${SOAK_TIMES:-50}"
