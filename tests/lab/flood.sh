#!/bin/bash
# flood.sh: connections of nobody beside one client at work, inside the guest. The client mounts over SMB Direct and fio
# reads and writes, with verify; first alone, then while so many unauthenticated connections are held, over TCP, over
# SMB Direct at three steps, or over SMB Direct all behind an answered NEGOTIATE, and 20 more come a second; of ours then
# while one address alone asks for more than its share.
# ksmbd works only in the initial network namespace, so the server runs here, at 10.9.0.2, and client and flood in the
# namespace.
#
#   SMBDIRECT_BIN_DIR  our programs     KSMBD_TOOLS  where ksmbd's are, if it is to be measured too
#   FLOOD_OVER  tcp, rdma or answered   FLOOD_HELD   connections (1000)    FLOOD_SECONDS  of each measurement (5)
#
# A line a server and measurement, 'flood: SERVER WHAT MiB/s=N …'. Of ours it is claimed: fio sees no error and no wrong
# byte, and nobody else than the one address is refused; no connection takes more than 512 KiB, the flood's own end over
# SMB Direct as much again, with 64 MiB in all for what else came to be meanwhile; what smbdirectd has pinned and what it
# holds stays within its budget of memory and what it may have for connections. The last line is 'flood: ok over=… held=N'.
set -uo pipefail
. "$LAB/hosts.sh"

mount_point=/mnt/a
share=/srv/share
work=/run/flood
over=${FLOOD_OVER:-tcp}
held=${FLOOD_HELD:-1000}
seconds=${FLOOD_SECONDS:-5}
# What a connection takes and an address may have (ARCHITECTURE.md, "Relay", and the supervisor's limit); over RDMA the
# flood's own end, which pins memory here too, is counted in.
case $over in
tcp) most_kib=512 most_of_one=128 ;;
rdma) most_kib=1024 most_of_one=64 && export FLOOD_STEPS=012 ;;
answered) most_kib=1024 most_of_one=64 && export FLOOD_STEPS=2 ;;
esac
# Whatever their number: the flood itself runs on this machine too.
beside_kib=65536
# The regions' budget as configured, and what smbdirectd reckons with for one connection without a user (its config.rs):
# 10 credits, 64 sends, 512 KiB of queues.
budget_kib=65536
connection_kib=640
# Reassembly of all of them (ARCHITECTURE.md, "Relay"), and the program itself.
besides_kib=$((16384 + 32768))

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
	local last hardware_address
	mkdir -p $mount_point $share $work
	useradd --no-create-home load && chown load $share && chmod 777 $share || fail "no user for the share"
	# Each known to the server as guest.sh's addresses are: the kernel takes most of a second for one it has to ask for first.
	hardware_address=$(client ip -j link show dev veth-s1 | jq -r '.[0].address')
	for last in {100..163}; do
		sources+=("10.9.0.$last")
		client ip addr add "10.9.0.$last/24" dev veth-s1
		ip neigh replace "10.9.0.$last" lladdr "$hardware_address" dev veth-c1 nud permanent
	done
	sysctl -qw net.core.somaxconn=4096 net.ipv4.tcp_max_syn_backlog=4096
	ulimit -n 65536
	ulimit -l unlimited
}

start_ours() {
	printf '[global]\n\tserver smb transports = tcp, rdma\n\trdma memory budget = %sk\n\trdma memory per client = %sk\n\trdma max connections = %s\n[share]\n\tpath = %s\n\tread only = no\n' \
		$budget_kib $budget_kib $((2 * held + 1000)) $share >$work/smb.conf
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

says_held() { [ "$(grep -c ^held $work/flood.log)" -ge "$1" ]; }

# flood NUMBER RATE SECONDS SOURCE…: leaves its process in $flood.
flood() {
	local program=(python3 "$LAB/flood.py")
	[ "$over" = tcp ] || program=("$SMBDIRECT_BIN_DIR/rdma_flood")
	# In one process, so that it can be killed.
	nsenter --net=/run/netns/server "${program[@]}" 10.9.0.2 "$@" >$work/flood.log 2>$work/flood.err &
	flood=$!
}

stop_flood() {
	kill $flood
	wait $flood 2>/dev/null
}

flood_fails() { fail "$1: $(tail -1 $work/flood.log) $(tail -2 $work/flood.err)"; }

mounted() {
	client timeout 20 mount -t cifs //10.9.0.2/share "$1" -o vers=3.1.1,rdma,hard,cache=none,nolease,nosharesock,username=load,password=load-word
}

gateway_status() { "$SMBDIRECT_BIN_DIR/smbd" --config $work/smb.conf status --json 2>/dev/null | jq "$1"; }

# What smbdirectd holds: pinned by its own account and the kernel's, and in memory.
within_budget() {
	local most=$((budget_kib + besides_kib + $(now_held) * connection_kib)) pid pinned kernel resident connections
	pid=$(gateway_status .gateway.pid)
	pinned=$(($(gateway_status .gateway.totals.pinned_bytes) / 1024))
	connections=$(gateway_status '.gateway.connections | length')
	kernel=$(awk '$1 == "VmPin:" { print $2 }' "/proc/$pid/status")
	resident=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status")
	echo "flood: ours smbdirectd connections=$connections pinned_KiB=$pinned VmPin_KiB=$kernel VmRSS_KiB=$resident of=$most"
	[ "$pinned" -le $most ] && [ "$kernel" -le $most ] && [ "$resident" -le $most ] || fail "smbdirectd has more than its budget"
}

measure() {
	local which=$1 alone before took
	"start_$which" || { echo "flood: $which skipped: it does not start" && return; }
	mounted $mount_point || { [ "$which" = ksmbd ] && echo "flood: $which skipped: it cannot be mounted" && return; } || fail "$which: mount"
	load "$which" alone
	alone=$rate
	echo "flood: $which alone MiB/s=$alone"
	before=$(available)
	flood "$held" 20 $((seconds + 6)) "${sources[@]}"
	wait_until 240 says_held 1 || flood_fails "$which: the flood does not come"
	took=$(((before - $(available)) / $(now_held)))
	echo "flood: $which over $over $(tail -1 $work/flood.log) KiB_each=$took"
	load "$which" flood
	echo "flood: $which with 20 more a second MiB/s=$rate of_alone=$((100 * rate / (alone > 0 ? alone : 1)))%"
	wait_until 60 says_held 2 || flood_fails "$which: the flood does not end"
	echo "flood: $which over $over $(tail -1 $work/flood.log) KiB_each=$(((before - $(available)) / $(now_held)))"
	if [ "$which" = ours ]; then
		[ "$(awk '/^held/ { print $6 }' $work/flood.log | tail -1)" = 0 ] || flood_fails "somebody was refused"
		within_budget
		[ "$took" -lt $((most_kib + beside_kib / held)) ] || fail "a connection takes $took KiB"
	fi
	newcomer "$which"
	stop_flood
	[ "$which" != ours ] || one_address "$alone"
	umount $mount_point || fail "$which: umount"
	"stop_$which"
}

# connections_of ADDRESS: as the server has them.
connections_of() {
	case $over in
	tcp) ss -Htn state established "sport = 445 and dst $1" | wc -l ;;
	*) gateway_status "[.gateway.connections[] | select(.peer | startswith(\"$1:\"))] | length" ;;
	esac
}

# Refused ones may be on their way out.
has_its_share() { [ "$(connections_of "${sources[0]}")" -le $most_of_one ]; }

# Whether somebody else is let in meanwhile, which of ours is claimed.
newcomer() {
	local began=${EPOCHREALTIME/./}
	mkdir -p /mnt/other
	if mounted /mnt/other 2>>$work/mount.err; then
		umount /mnt/other
		echo "flood: $1 another client comes and goes in ms=$(((${EPOCHREALTIME/./} - began) / 1000))"
	elif [ "$1" = ours ]; then
		fail "another client cannot mount beside the flood"
	else
		echo "flood: $1 another client cannot mount beside the flood"
	fi
}

# One address that asks for far more than it may have: the rest is refused, and nobody else notices.
one_address() {
	local refused
	flood $((most_of_one + (held < 140 ? 20 : 140))) 20 $((seconds + 3)) "${sources[0]}"
	wait_until 120 says_held 1 || flood_fails "one address: the flood does not come"
	load ours "one address"
	echo "flood: ours one address $(tail -1 $work/flood.log) MiB/s=$rate of_alone=$((100 * rate / ($1 > 0 ? $1 : 1)))%"
	wait_until 60 says_held 2 || flood_fails "one address: the flood does not end"
	wait_until 10 has_its_share || fail "one address has $(connections_of "${sources[0]}") connections"
	refused=$(tail -1 $work/flood.log | awk '{ print $6 + $8 }')
	[ "$refused" -ge $most_of_one ] || fail "one address was refused $refused times"
	newcomer ours
	stop_flood
}

sources=()
prepare
measure ours
[ -z "${KSMBD_TOOLS:-}" ] || measure ksmbd
echo "flood: ok over=$over held=$held"
