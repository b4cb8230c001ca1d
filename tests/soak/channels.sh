#!/bin/bash
# channels.sh: channels of the kernel client pulled out under load, five ways a round, and put back (5)
#   SOAK_TIMES  how many rounds; each boots the lab's guest anew, and tests/lab/channels.sh says what is claimed
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

rounds=${SOAK_TIMES:-5}
passed=0
for ((round = 1; round <= rounds; round++)); do
	if tests/lab/run.sh --links 2 --timeout 300 --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" \
		tests/lab/channels.sh device drop client-device first-device first; then
		passed=$((passed + 1))
	fi
done
echo "channels: $passed rounds of $rounds passed"
[ "$passed" = "$rounds" ]
