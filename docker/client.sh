#!/bin/sh
# Writes who logs on to /run/smb-credentials, which smbclient (-A) and mount.cifs (credentials=) both read, so that no
# password stands in a command line; then runs the command. SMB_USER and SMB_PASSWORD_FILE are as in server.sh.
set -eu

secret=${SMB_PASSWORD_FILE:-/run/secrets/smb_password}

if [ -n "${SMB_USER:-}" ] && [ -r "$secret" ]; then
	umask 077
	{
		echo "username=$SMB_USER"
		echo "password=$(head -n 1 "$secret")"
	} >/run/smb-credentials
	umask 022
fi

exec "$@"
