#!/bin/bash
# build-kernel.sh: builds the lab's guest kernel (User Mode Linux with soft-RoCE, siw, verbs and the kernel's SMB
# client and server) from Debian's kernel source, once, and prints its path. Nothing of the machine's own package
# configuration is changed: the newer suite is read through an apt configuration of its own.
#
# build-kernel.sh          print the cached kernel, building it first if there is none
# build-kernel.sh --path   print where it is or would be, build nothing; exit 1 if it is not there
#
# SMBDIRECT_CACHE          where built kernels are kept (default: ~/.cache/smbdirect)
set -euo pipefail

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SMBDIRECT_CACHE:-${HOME:-/root}/.cache/smbdirect}
oldest=7.0 # rxe answers across network namespaces from here on
build_needs=(gcc libc6-dev make flex bison bc libelf-dev libssl-dev xz-utils)

say() { echo "kernel: $*" >&2; }

die() {
	say "$*"
	exit 1
}

# The kernel is a function of these files, so their hash names it.
recipe_hash() { cat "$lab/lab.config" "$lab/crc32.h" "$lab/build-kernel.sh" | sha256sum | cut -c1-16; }

# The mirror this machine already installs Debian from.
debian_mirror() {
	local mirrors
	mirrors=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
		awk '/^URIs:/ { print $2 } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) print $i }' |
		grep '/debian/*$') || true
	[ -n "$mirrors" ] || die "no Debian mirror is configured in /etc/apt: add one, or name a ready kernel by SMBDIRECT_LAB_KERNEL"
	head -1 <<<"$mirrors"
}

install_build_needs() {
	local missing=() package
	for package in "${build_needs[@]}"; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -eq 0 ] && return
	[ "$(id -u)" = 0 ] || die "needs ${missing[*]}: run 'apt-get install ${missing[*]}' as root, then try again"
	say "installing ${missing[*]}"
	apt-get -qq update >&2
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" >&2
}

# download_source DIR: unpacks the newest 7.x kernel source of trixie-backports as DIR/src.
download_source() {
	local work=$1 apt package mirror
	mirror=$(debian_mirror) || exit 1
	mkdir -p "$work"/apt/{lists/partial,archives/partial,sources}
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie-backports main" \
		>"$work/apt/sources/kernel.list"
	apt=(-qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/apt/sources"
		-o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=root)
	apt-get "${apt[@]}" update >&2
	package=$(apt-cache "${apt[@]}" search --names-only '^linux-source-[0-9.]+$' | awk '{ print $1 }' | sort -V | tail -1)
	printf '%s\n' "linux-source-$oldest" "${package:-none}" | sort -V -C ||
		die "trixie-backports has no kernel source from $oldest on (found: ${package:-none}); name a ready kernel in SMBDIRECT_LAB_KERNEL"
	say "unpacking $package"
	(cd "$work" && apt-get "${apt[@]}" download "$package" >&2)
	dpkg-deb -x "$work/$package"_*.deb "$work/deb"
	mkdir "$work/src"
	tar -xf "$work/deb/usr/src/$package.tar.xz" -C "$work/src" --strip-components=1
	rm -rf "$work/deb" "$work/$package"_*.deb
}

# rxe checksums every packet with crc32, which UML computes a byte at a time. The kernel lets an architecture bring
# its own routines; this gives UML one. Where the source is laid out differently the lab is slower, otherwise the same.
speed_up_crc32() {
	local crc=$1/lib/crc
	if ! grep -q '^config CRC32_ARCH' "$crc/Kconfig" 2>/dev/null; then
		say "this source has its checksums elsewhere: building without the faster one"
		return
	fi
	mkdir -p "$crc/um"
	cp "$lab/crc32.h" "$crc/um/crc32.h"
	sed -i 's/^\tdepends on CRC32 && CRC_OPTIMIZATIONS$/\tdepends on CRC32 \&\& (CRC_OPTIMIZATIONS || UML)\n\tdefault y if UML/' "$crc/Kconfig"
	sed -i '/^crc32-$(CONFIG_X86_64) +=/d' "$crc/Makefile" # a routine of the x86 set, which UML does not build
}

# compile DIR: DIR/src to DIR/obj/linux. Joined by &&, since its caller looks at the status and so turns -e off.
compile() {
	local work=$1 make
	make=(make -s -C "$work/src" ARCH=um O="$work/obj")
	mkdir -p "$work/obj" &&
		"${make[@]}" x86_64_defconfig &&
		(cd "$work/src" && ARCH=um KCONFIG_CONFIG="$work/obj/.config" \
			./scripts/kconfig/merge_config.sh -m -O "$work/obj" "$work/obj/.config" "$lab/lab.config") &&
		"${make[@]}" olddefconfig &&
		check_config "$work/obj/.config" &&
		"${make[@]}" -j"$(nproc)" linux
}

# A misspelt or renamed option is dropped silently by olddefconfig: say so before ten minutes are spent.
check_config() {
	local line lost=()
	while read -r line; do
		case $line in
		CONFIG_*=n) if grep -q "^${line%=n}=" "$1"; then lost+=("$line"); fi ;;
		CONFIG_*) grep -qxF "$line" "$1" || lost+=("$line") ;;
		esac
	done <"$lab/lab.config"
	[ ${#lost[@]} -eq 0 ] && return
	say "this kernel source does not take these lines of lab.config: ${lost[*]}"
	return 1
}

build() {
	local kernel=$1 work log started=$SECONDS
	mkdir -p "$(dirname "$kernel")"
	exec 9>"$(dirname "$kernel")/lock"
	flock 9 # two builders of the same kernel: the second finds it made
	[ -x "$kernel" ] && return
	[ "$(uname -m)" = x86_64 ] || die "User Mode Linux needs an x86_64 machine, this is $(uname -m)"
	install_build_needs
	work=$(dirname "$kernel")/work log=$(dirname "$kernel")/build.log
	rm -rf "$work" && mkdir -p "$work"
	download_source "$work"
	speed_up_crc32 "$work/src"
	say "compiling, 5 to 13 minutes on two cores (log: $log)"
	compile "$work" >"$log" 2>&1 || {
		tail -20 "$log" >&2
		die "the build failed; its log is $log"
	}
	cp "$work/obj/linux" "$kernel.new"
	strip --strip-debug "$kernel.new"
	mv "$kernel.new" "$kernel"
	rm -rf "$work"
	say "built in $((SECONDS - started)) s"
}

kernel=$cache/kernel-$(recipe_hash)/linux
case ${1:-} in
--path)
	echo "$kernel"
	[ -x "$kernel" ]
	;;
"")
	[ -x "$kernel" ] || build "$kernel"
	echo "$kernel"
	;;
*) die "unknown argument '$1'; usage: build-kernel.sh [--path]" ;;
esac
