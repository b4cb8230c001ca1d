#!/bin/bash
# hostile-child.sh: a child that was taken over, and so many crafted and random records for smbdirectd (1000000)
#   SOAK_TIMES  how many records; SOAK_SEED  what the random ones follow from (1)
set -euo pipefail
exec "$SMBDIRECT_BIN_DIR/resilience_soak" hostile-child "${SOAK_TIMES:-1000000}"
