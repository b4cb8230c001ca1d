#!/bin/bash
# capture.sh: what tshark shows of a client as Windows is, each field beside what was meant; copies of a file (4)
#   SOAK_TIMES  how many; '--list' names each message and field with how often it was compared
# tests/src/bin/server_scenario/windows.rs is the client; tests/src/wire has the table of tshark's fields and ours.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
tests/lab/run.sh --capture --timeout 300 --results "$results" --env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" \
	--env FLOW_ROUNDS="${SOAK_TIMES:-4}" tests/lab/play.sh windows-flow || exit
tests/lab/capture.sh "$results/wire-1.pcap" || exit
"$SMBDIRECT_BIN_DIR/wire_compare" "$@" "$results/wire-1.pcap"
