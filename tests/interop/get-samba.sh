#!/bin/bash
# get-samba.sh: unpacks Samba 4.22's smbtorture and smbclient from Debian's backports beside the host's Samba, which
# it leaves alone, and prints the folder. 'FOLDER/run smbtorture …' runs it. Kept in the cache; made in some seconds.
set -euo pipefail
folder=${SMBDIRECT_CACHE:-${HOME:-/root}/.cache/smbdirect}/samba-4.22
if [ -x "$folder/run" ]; then
	echo "$folder"
	exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,root}
chmod 755 "$work"
# The mirror this machine uses already; only the suites differ.
mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' \
	/etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
[ -n "$mirror" ] || { echo "no Debian mirror is configured here" >&2 && exit 1; }
signed=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in bookworm bookworm-backports; do echo "deb [$signed] $mirror $suite main"; done >"$work/sources.list"
options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
	-o "Dir::Cache=$work/cache" -qq)
apt-get "${options[@]}" update >&2
# dpkg's own state is the host's, so what the host has already is not fetched again and is used from there.
apt-get "${options[@]}" -y -d --no-install-recommends -t bookworm-backports install samba-testsuite smbclient samba >&2
for package in "$work"/cache/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
cat >"$work/root/run" <<'END'
#!/bin/bash
root=$(cd "$(dirname "$0")" && pwd)
libraries=$root/usr/lib/$(uname -m)-linux-gnu
program=$1
shift
for folder in bin sbin; do
	[ -x "$root/usr/$folder/$program" ] &&
		LD_LIBRARY_PATH=$libraries:$libraries/samba exec "$root/usr/$folder/$program" "$@"
done
echo "no $program in $root" >&2
exit 127
END
chmod 755 "$work/root" "$work/root/run"
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/root" "$folder"
echo "$folder"
