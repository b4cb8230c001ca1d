#!/bin/sh
# Makes the one user that the container was started with, then becomes smbd; arguments are those of 'smbd serve'.
#
#   SMB_USER           who may log on; without it, nobody new is made: for a user file of your own
#   SMB_PASSWORD_FILE  file whose first line is the password (/run/secrets/smb_password)
#   SMB_UID            the number files are accessed as (1000)
set -eu

secret=${SMB_PASSWORD_FILE:-/run/secrets/smb_password}
uid=${SMB_UID:-1000}

die() {
	echo "server: $*" >&2
	exit 1
}

if [ -n "${SMB_USER:-}" ]; then
	[ -r "$secret" ] || die "no password for $SMB_USER at $secret; mount it there, or name it in SMB_PASSWORD_FILE"
	id "$SMB_USER" >/dev/null 2>&1 ||
		useradd --uid "$uid" --user-group --no-create-home --shell /usr/sbin/nologin -- "$SMB_USER" ||
		die "no account for $SMB_USER with SMB_UID=$uid, for the reason above"
	# The secret is what counts: it may have changed since a container that is started again made its user.
	smbd passwd remove "$SMB_USER" >/dev/null 2>&1 || true
	smbd passwd add "$SMB_USER" --stdin <"$secret"
	# A volume that is new belongs to root; one that somebody has put files into stays as it is.
	[ -n "$(ls -A /srv/share)" ] || chown "$SMB_USER:" /srv/share
fi

exec smbd serve "$@"
