#!/bin/bash
# get-ksmbd-tools.sh: unpacks ksmbd-tools 3.5 from Debian's backports (Debian 12's own are too old for the lab's kernel)
# and prints the folder; nothing is installed. Kept in the cache; made in some seconds.
set -euo pipefail
folder=${SMBDIRECT_CACHE:-${HOME:-/root}/.cache/smbdirect}/ksmbd-tools
if [ -x "$folder/usr/sbin/ksmbd.mountd" ]; then
	echo "$folder"
	exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,root}
chmod 755 "$work" "$work/root"
# The mirror this machine uses already; only the suite differs.
mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' \
	/etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
[ -n "$mirror" ] || { echo "no Debian mirror is configured here" >&2 && exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" >"$work/sources.list"
options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
	-o "Dir::Cache=$work/cache" -qq)
apt-get "${options[@]}" update >&2
(cd "$work" && apt-get "${options[@]}" download ksmbd-tools >&2)
dpkg-deb -x "$work"/ksmbd-tools_*.deb "$work/root"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/root" "$folder"
echo "$folder"
