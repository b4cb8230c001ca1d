#!/bin/bash
# logons.sh: bad bindings and bad passwords against a server whose session is in use, of each so many (100000).
#   SOAK_TIMES  how many of each
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
SOAK_TIMES=${SOAK_TIMES:-100000} exec cargo test --quiet -p tests --test logon_storm -- --nocapture --test-threads=1
