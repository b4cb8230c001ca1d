#!/bin/bash
# get-smbprotocol.sh: a Python with smbprotocol in a virtual environment of the cache; prints the interpreter.
set -euo pipefail
folder=${SMBDIRECT_CACHE:-${HOME:-/root}/.cache/smbdirect}/smbprotocol
if ! "$folder/bin/python" -c 'import smbprotocol' 2>/dev/null; then
	rm -rf "$folder"
	python3 -m venv "$folder" >&2
	"$folder/bin/pip" install --quiet --disable-pip-version-check smbprotocol >&2
fi
echo "$folder/bin/python"
