#!/bin/bash
# connections.sh: that many connections of 100 clients, 50 at a time, over TCP and RDMA in turn (10,000)
#   SOAK_TIMES  how many connections
set -euo pipefail
exec "$SMBDIRECT_BIN_DIR/handoff_soak" connections "${SOAK_TIMES:-10000}"
