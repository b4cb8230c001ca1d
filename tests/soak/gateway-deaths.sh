#!/bin/bash
# gateway-deaths.sh: smbdirectd killed at each of twelve points of its clients' lives (25)
#   SOAK_TIMES  how often at each
set -euo pipefail
exec "$SMBDIRECT_BIN_DIR/resilience_soak" gateway-deaths "${SOAK_TIMES:-25}"
