#!/bin/bash
# torture.sh: sessions, channels and credits as Samba's smbtorture tests them, again and again (20).
#   SOAK_TIMES  how often; arguments: suites or tests instead of those that the sessions stand on
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ $# -gt 0 ] || set -- smb2.session smb2.session-id smb2.session-require-signing smb2.multichannel smb2.credits \
	smb2.connect smb2.tcon
exec python3 "$root/tests/interop/torture" --times "${SOAK_TIMES:-20}" "$@"
