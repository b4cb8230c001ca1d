#!/bin/bash
# loss.sh CASE…: a network that loses, holds back and reorders packets, inside the guest. For every CASE the kernel
# client mounts over SMB Direct, fio writes random blocks with O_DIRECT while the network is bad, and verifies each;
# then the network is good again, fio must end with no error and no wrong byte, and the mount must come off. A case is
# an address family and what both ends of the link do to packets (netem):
#
#   4:0  6:0      nothing                       4:PERCENT    lose so many, for $LOSS_SECONDS
#   4:partition   lose all, for 30 s            4:reorder    hold three of four back for 1 ms
#   4:altered     nothing; but on the server a byte of each block is altered again and again, and fio must notice that:
#                 what the other cases claim rests on it
#
# With siw client and server are one host, since cifs.ko reaches a siw device in its own namespace alone, and nothing
# crosses a wire: 4:0 and 6:0 are what there is.
#
#   SMBDIRECT_BIN_DIR   the two daemons      LOSS_SECONDS  how long packets are lost (10)     LOSS_MIB  fio's file (4)
#
# The mount is 'hard', and cifs.ko hands EAGAIN to the program now and then nevertheless, where a connection is lost with
# asynchronous writes under way. Such errors are clean: counted, and then fio must do its work again without any.
# Of each case one line; the last line is 'loss: ok cases=N'.
set -uo pipefail
. "$LAB/hosts.sh"

mount_point=/mnt/a
share=/srv/share
config=/run/loss/smb.conf
lossy_seconds=${LOSS_SECONDS:-10}
mib=${LOSS_MIB:-4}
# Once the network is good again: cifs.ko waits for what does not answer, for its echoes and for its own back-off.
recovery=90

fail() {
	echo "loss: failed: $*"
	tail -n 8 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	dmesg | tail -n 12 | sed 's/^/  kernel: /'
	tail -n 5 "$LAB_RESULTS/fio.log" 2>/dev/null | sed 's/^/  fio: /'
	# What the client waits for: its connections, requests in flight, and reads and writes it has not issued whole.
	{ grep -E 'TCP status:|In Send:|com:' /proc/fs/cifs/DebugData; cat /proc/fs/netfs/requests; } 2>/dev/null | sed 's/^/  client: /'
	exit 1
}

# The server's host: its own, or with siw the client's.
host() { if [ "$LAB_RDMA" = siw ]; then "$@"; else server "$@"; fi; }

smbd() { host "$SMBDIRECT_BIN_DIR/smbd" --config $config "$@"; }

ways() { smbd status --json 2>/dev/null | jq -r '.children[].status.channels[]?.transport' | sort -u | tr '\n' ' '; }

listens_twice() { smbd status --json 2>/dev/null | says '[.gateway.interfaces[].address] | any(contains(".")) and any(contains("fd00"))'; }

add_address_6() {
	ip addr add fd00:9::2/64 dev veth-c1 nodad
	server ip addr add fd00:9::1/64 dev veth-s1 nodad
	ip neigh replace fd00:9::1 lladdr 02:00:0a:09:00:01 dev veth-c1 nud permanent
	server ip neigh replace fd00:9::2 lladdr 02:00:0a:09:00:02 dev veth-s1 nud permanent
}

start_server() {
	mkdir -p $mount_point $share /run/loss
	useradd --no-create-home load && chown load $share || fail "no user for the share"
	printf '[global]\n\tserver smb transports = tcp, rdma\n[share]\n\tpath = %s\n\tread only = no\n' $share >$config
	smbd passwd add load --stdin <<<"load-word" >/dev/null || fail "passwd add"
	smbd >"$LAB_RESULTS/smbd.log" 2>&1 &
	wait_until 15 listens_twice || fail "it does not listen for RDMA on both addresses within 15 s"
}

# address FAMILY: where the server is.
address() {
	case $1$LAB_RDMA in
	4siw) echo 10.9.0.2 ;;
	6siw) echo fd00:9::2 ;;
	4*) echo 10.9.0.1 ;;
	6*) echo fd00:9::1 ;;
	esac
}

mount_share() {
	local options=vers=3.1.1,rdma,hard,echo_interval=1,cache=none
	mount -t cifs //host/share $mount_point -o "$options,ip=$(address "$1"),username=load,password=load-word" || fail "$2: mount"
	[ "$(ways)" = "Rdma " ] || fail "$2: it is mounted over '$(ways)'"
}

netem() {
	[ $# -gt 0 ] || return 0
	tc qdisc replace dev veth-c1 root netem "$@" && server tc qdisc replace dev veth-s1 root netem "$@"
}

deliver() {
	[ "$LAB_RDMA" != siw ] || return 0
	tc qdisc del dev veth-c1 root 2>/dev/null
	server tc qdisc del dev veth-s1 root 2>/dev/null
}

load() {
	fio --name=load --directory=$mount_point --size="$mib"m --bs=64k --rw=randwrite --randseed=7 --ioengine=libaio --iodepth=8 \
		--direct=1 --verify=crc32c --verify_fatal=1 --verify_backlog=16 --loops=1000 --time_based --runtime="$1" \
		--output-format=json --output="$LAB_RESULTS/fio.json" >"$LAB_RESULTS/fio.log" 2>&1
}

# How many calls of fio's failed for a lost connection and nothing else, or 'wrong'.
clean_errors() {
	local lost
	lost=$(grep -c 'Resource temporarily unavailable\|Host is down' "$LAB_RESULTS/fio.log")
	if [ "$lost" -gt 0 ] && ! grep -qi 'verify' "$LAB_RESULTS/fio.log"; then echo "$lost"; else echo wrong; fi
}

# alter JOB: one byte in each of the file's blocks, while fio runs.
alter() {
	local block
	while ! is_gone "$1"; do
		for ((block = 0; block < mib * 16; block++)); do
			printf '\xa5' | dd of="$share/load.0.0" bs=1 seek=$((block * 65536 + 4711)) conv=notrunc status=none
		done
	done
}

# notices CASE: fio ends because it reads what it has not written, and says so.
notices() {
	local job altering
	mount_share "${1%%:*}" "$1"
	load $((lossy_seconds + 2)) &
	job=$!
	wait_until 10 test -s "$share/load.0.0" || fail "$1: fio wrote nothing"
	alter $job &
	altering=$!
	! wait $job || fail "$1: fio did not notice that bytes were altered"
	grep -q 'verify' "$LAB_RESULTS/fio.log" || fail "$1: fio ended for another reason"
	wait $altering
	rm -f $mount_point/load*
	umount $mount_point || fail "$1: umount"
	echo "loss: $LAB_RDMA $1: noticed"
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

# SMB Direct connections so far.
connections() { grep -c 'smbdirectd.*accepted' "$LAB_RESULTS/smbd.log"; }

# Packets the two qdiscs dropped.
dropped() { { tc -s qdisc show dev veth-c1 && server tc -s qdisc show dev veth-s1; } | sed -n 's/.*dropped \([0-9]*\).*/\1/p' | paste -sd+ | bc; }

play() {
	local family=${1%%:*} what=${1#*:} seconds=$lossy_seconds job moved reconnects before lost
	mount_share "$family" "$1"
	before=$(connections)
	[ "$what" != partition ] || seconds=30
	load $((seconds + 2)) &
	job=$!
	sleep 1
	case $what in
	0) ;;
	partition) netem loss 100% ;;
	reorder) netem delay 1ms reorder 25% 50% ;;
	*) netem loss "$what%" ;;
	esac || fail "$1: netem"
	sleep "$seconds"
	lost=$(dropped)
	deliver
	local began=${EPOCHREALTIME/./}
	wait_until $recovery is_gone $job || fail "$1: fio hangs $recovery s after the network was good again"
	reconnects=$(($(connections) - before))
	local errors=0
	wait $job || errors=$(clean_errors)
	[ "$errors" = 0 ] || { [ "$errors" != wrong ] && [ "$reconnects" -gt 0 ] && load 2; } || fail "$1: fio ended with an error"
	local recovered=$(((${EPOCHREALTIME/./} - began) / 1000000))
	moved=$(jq '[.jobs[0].write.io_kbytes, .jobs[0].read.io_kbytes] | add / 1024 | floor' "$LAB_RESULTS/fio.json")
	[ "${moved:-0}" -gt 0 ] || fail "$1: nothing was moved"
	timeout 60 ls $mount_point >/dev/null || fail "$1: the mount hangs"
	rm -f $mount_point/load*
	umount $mount_point || fail "$1: umount"
	echo "loss: $LAB_RDMA $1: MiB=$moved packets_lost=${lost:-0} ended_after_s=$recovered reconnects=$reconnects clean_errors=$errors"
}

add_address_6 || fail "no IPv6 addresses"
start_server
for case in "$@"; do
	case $case in
	*:altered) notices "$case" ;;
	*) play "$case" ;;
	esac
done
# Reordered packets make soft-RoCE warn of itself now and then (rxe_completer) and give the connection up.
if dmesg | grep -E 'BUG:|WARNING:|Oops' | grep -v 'sw/rxe/rxe_comp'; then
	# Where cifs.ko fails to send, it frees a request twice, and warns of it if it doesn't panic.
	! dmesg | grep -q '\] delete_mid+' || echo "it freed a request twice, in delete_mid" >"$LAB_RESULTS/client-fault"
	fail "the kernel complained"
fi
echo "loss: ok cases=$#"
