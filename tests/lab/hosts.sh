# hosts.sh: what a script inside the guest sources to work on the two hosts. guest.sh sources it too.
#   . "$LAB/hosts.sh"
# The client is where the script runs (10.9.0.2, and 10.9.1.2 on a second link); the server is 10.9.0.1 (10.9.1.1).
# shellcheck shell=bash

# server COMMAND…: runs it on the server.
server() { ip netns exec server "$@"; }

# wait_until SECONDS COMMAND…: polls until the command succeeds; fails when the time is over.
wait_until() {
	local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	until "$@"; do
		[ "${EPOCHREALTIME/./}" -lt "$deadline" ] || return 1
		sleep 0.02
	done
}

# says FILTER: what comes in is JSON of which the filter is true. Nothing at all is not: 'jq -e' of Debian 12 ends with 0 then.
says() { jq -se "length > 0 and (last | $1)" >/dev/null 2>&1; }

# loop_share SIZE TYPE FOLDER: a file system of its own (ext4, xfs) on an image in memory, for what tmpfs is not:
# small enough to fill, or with the attributes of a disk.
loop_share() {
	local image
	mkdir -p /run/images "$3"
	image=/run/images/${3//\//-}
	truncate -s "$1" "$image" && "mkfs.$2" -q "$image" && mount -o loop "$image" "$3"
}

# skip REASON: ends the script as one that cannot run here.
skip() {
	echo "$*" >"$LAB_RESULTS/skip"
	exit 77
}
