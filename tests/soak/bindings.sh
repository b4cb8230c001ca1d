#!/bin/bash
# bindings.sh: sessions of several channels, and thirty connections at once, as smbtorture tests them (200).
#   SOAK_TIMES  how often
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec python3 "$root/tests/interop/torture" --times "${SOAK_TIMES:-200}" smb2.multichannel.generic smb2.session.bind1 \
	smb2.session.bind2 smb2.session.bind_invalid_auth smb2.session.bind_different_user smb2.session-id \
	smb2.multichannel.bugs.bug_15346
