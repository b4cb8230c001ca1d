#!/bin/bash
# flood.sh: connections of nobody beside one client at work, inside the guest. The client mounts over SMB Direct and fio
# reads and writes, with verify; first alone, then while so many unauthenticated connections are held, then while 20
# more come a second. ksmbd works only in the initial network namespace, so the server runs here, at 10.9.0.2, and
# client and flood in the namespace.
#
#   SMBDIRECT_BIN_DIR  our daemons      KSMBD_TOOLS  where ksmbd's are, if it is to be measured too
#   FLOOD_HELD  connections (1000)      FLOOD_SECONDS  of each of the three measurements (5)
#
# A line a server and measurement, 'flood: SERVER WHAT MiB/s=N …'. Of ours it is claimed: fio sees no error and no wrong
# byte, and no connection takes more than 512 KiB, with 64 MiB in all for what else came to be meanwhile. The last line is 'flood: ok held=N'.
set -uo pipefail
. "$LAB/hosts.sh"

mount_point=/mnt/a
share=/srv/share
work=/run/flood
held=${FLOOD_HELD:-1000}
seconds=${FLOOD_SECONDS:-5}
most_kib=512
# Whatever their number: the flood itself runs on this machine too.
beside_kib=65536

fail() {
	echo "flood: failed: $*"
	tail -n 8 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	tail -n 5 $work/fio.log | sed 's/^/  fio: /'
	exit 1
}

client() { nsenter --net=/run/netns/server "$@"; }
listens() { [ -n "$(ss -Hltn 'sport = 445')" ]; }
is_free() { ! listens; }
for_rdma() { "$SMBDIRECT_BIN_DIR/smbd" --config $work/smb.conf status --json 2>/dev/null | says '.gateway.interfaces | length > 0'; }

prepare() {
	local last
	mkdir -p $mount_point $share $work
	useradd --no-create-home load && chown load $share && chmod 777 $share || fail "no user for the share"
	for last in {100..163}; do
		sources+=("10.9.0.$last")
		client ip addr add "10.9.0.$last/24" dev veth-s1
	done
	sysctl -qw net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096
	ulimit -n 65536
}

start_ours() {
	printf '[global]\n\tserver smb transports = tcp, rdma\n[share]\n\tpath = %s\n\tread only = no\n' $share >$work/smb.conf
	"$SMBDIRECT_BIN_DIR/smbd" --config $work/smb.conf passwd add load --stdin <<<"load-word" >/dev/null || fail "passwd add"
	"$SMBDIRECT_BIN_DIR/smbd" --config $work/smb.conf >"$LAB_RESULTS/smbd.log" 2>&1 &
	ours=$!
	wait_until 15 for_rdma || fail "it does not listen for RDMA within 15 s"
}

stop_ours() {
	kill "$ours" && wait "$ours"
	wait_until 15 is_free || fail "it does not end"
}

start_ksmbd() {
	local tools=$KSMBD_TOOLS/usr/sbin
	printf '[global]\n\tserver min protocol = SMB3_00\n\tsmb2 leases = no\n\tmax connections = 65535\n[share]\n\tpath = %s\n\tread only = no\n\toplocks = no\n' \
		$share >$work/ksmbd.conf
	"$tools/ksmbd.adduser" -C $work/ksmbd.conf -P $work/ksmbd.db -a load -p load-word >>$work/ksmbd.log 2>&1 &&
		"$tools/ksmbd.mountd" -C $work/ksmbd.conf -P $work/ksmbd.db >>$work/ksmbd.log 2>&1 && wait_until 15 listens
}

stop_ksmbd() { "$KSMBD_TOOLS/usr/sbin/ksmbd.control" -s >>$work/ksmbd.log 2>&1; }

available() { awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo; }


# load SERVER WHAT: leaves the MiB a second in $rate.
load() {
	client fio --name=load --directory=$mount_point --size=16m --bs=256k --rw=randrw --ioengine=libaio --iodepth=4 --direct=1 \
		--verify=crc32c --verify_fatal=1 --time_based --runtime="$seconds" --output-format=json --output=$work/fio.json >$work/fio.log 2>&1 ||
		fail "$1, $2: fio ended with an error"
	rate=$(jq '[.jobs[0].write.bw_bytes, .jobs[0].read.bw_bytes] | add / 1048576 | floor' $work/fio.json)
}

now_held() { tail -1 $work/flood.log | awk '{ print ($2 > 0 ? $2 : 1) }'; }

says_held() { [ "$(grep -c held $work/flood.log)" -ge "$1" ]; }

measure() {
	local which=$1 alone before took flood
	"start_$which" || { echo "flood: $which skipped: it does not start" && return; }
	client mount -t cifs //10.9.0.2/share $mount_point -o vers=3.1.1,rdma,hard,cache=none,nolease,username=load,password=load-word ||
		{ [ "$which" = ksmbd ] && echo "flood: $which skipped: it cannot be mounted" && return; } || fail "$which: mount"
	load "$which" alone
	alone=$rate
	echo "flood: $which alone MiB/s=$alone"
	before=$(available)
	client python3 "$LAB/flood.py" 10.9.0.2 "$held" 20 $((seconds + 6)) "${sources[@]}" >$work/flood.log 2>&1 &
	flood=$!
	wait_until 240 says_held 1 || fail "$which: the flood does not come: $(tail -1 $work/flood.log)"
	took=$(((before - $(available)) / $(now_held)))
	echo "flood: $which $(tail -1 $work/flood.log) KiB_each=$took"
	load "$which" flood
	echo "flood: $which with 20 more a second MiB/s=$rate of_alone=$((100 * rate / (alone > 0 ? alone : 1)))%"
	wait_until 60 says_held 2 || fail "$which: the flood does not end"
	echo "flood: $which $(tail -1 $work/flood.log) KiB_each=$(((before - $(available)) / $(now_held)))"
	kill $flood
	wait $flood 2>/dev/null
	[ "$which" != ours ] || [ "$took" -lt $((most_kib + beside_kib / held)) ] || fail "a connection takes $took KiB"
	umount $mount_point || fail "$which: umount"
	"stop_$which"
}

sources=()
prepare
measure ours
[ -z "${KSMBD_TOOLS:-}" ] || measure ksmbd
echo "flood: ok held=$held"
