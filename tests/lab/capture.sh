#!/bin/bash
# capture.sh PCAP…: has tshark decode what the lab recorded and ends with one line,
#   capture: frames=N malformed=N infiniband=N smb_direct=N smb2=N dropped=N
# Exit status 0 if SMB Direct and SMB2 were there and no frame was malformed, 1 otherwise, 77 without tshark.
# Malformed frames are listed. dropped: frames that tcpdump could not keep up with, which is no fault of the wire's.
set -uo pipefail

[ $# -gt 0 ] || {
	echo "usage: capture.sh PCAP…" >&2
	exit 126
}
command -v tshark >/dev/null || {
	echo "capture: skipped: tshark is not installed"
	exit 77
}

# One line a frame: its number, its protocols, whether tshark gave up on it.
decode() { tshark -r "$1" -T fields -e frame.number -e frame.protocols -e _ws.malformed 2>/dev/null; }

for pcap in "$@"; do
	[ -r "$pcap" ] || {
		echo "capture: cannot read $pcap" >&2
		exit 1
	}
	decode "$pcap" | sed "s|^|$(basename "$pcap")\t|"
	cat "$(dirname "$pcap")/tcpdump.log" 2>/dev/null | sed -n 's/^\([0-9]*\) packets dropped by kernel/DROPPED\t\1/p'
done | awk -F'\t' '
	$1 == "DROPPED" { dropped += $2; next }
	{ frames++ }
	$3 ~ /infiniband/ { infiniband++ }
	$3 ~ /smb_direct/ { smb_direct++ }
	$3 ~ /smb2/ { smb2++ }
	$3 ~ /malformed/ || $4 != "" { malformed++; if (malformed <= 10) print "malformed: " $1 " frame " $2 ": " $3 }
	END {
		printf "capture: frames=%d malformed=%d infiniband=%d smb_direct=%d smb2=%d dropped=%d\n",
			frames, malformed, infiniband, smb_direct, smb2, dropped
		exit !(malformed == 0 && smb_direct > 0 && smb2 > 0)
	}'
