#!/bin/bash
# channels.sh WAY…: channels pulled out under load, inside the guest with two links. The kernel client mounts over SMB
# Direct with two channels, one a link; fio writes random blocks with O_DIRECT and verifies each; then, for every WAY
# in turn, one channel is pulled out, the load must go on over the other one, what was pulled is put back, and the
# channel must come back. At the end fio must have seen no error and no wrong byte.
#
#   device   the server's RDMA device of the second link is removed      client-device  the client's
#   drop     every packet of the second link is lost, both ways
#   first    as 'drop', on the first link: the session's own connection   first-device  as 'device', there
#   link     the server's end of the second link goes down. The load must go on; that the channel comes back is not
#            claimed: it does not here, where soft-RoCE had packets of it under way, and why has not been found. So it
#            can only be the last one.
#
#   SMBDIRECT_BIN_DIR   the two daemons       CHANNELS_OPTIONS   further mount options
#
# What is claimed is for mounts with 'hard' and an echo_interval: without 'hard' cifs.ko hands EAGAIN to the program where
# a send fails, whatever the server does, and without a short echo_interval it notices a silent channel after two minutes.
# The last line is 'channels: ok ways=N pulled=WAY:SECONDS… owner=PID', SECONDS from putting back to two channels.
set -uo pipefail
. "$LAB/hosts.sh"

mount_point=/mnt/a
share=/srv/share
config=/run/channels/smb.conf
stop=/run/channels/stop
# Reconnecting cifs.ko waits for what does not answer, 5 s at a time, and for its own back-off.
back_again=45

fail() {
	echo "channels: failed: $*"
	channels | sed 's/^/  channel: /'
	tail -n 8 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	dmesg | grep 'CIFS: ' | tail -n 5 | sed 's/^/  client: /'
	tail -n 5 "$LAB_RESULTS/fio.log" 2>/dev/null | sed 's/^/  fio: /'
	exit 1
}

smbd() { server "$SMBDIRECT_BIN_DIR/smbd" "$@"; }

# One line a channel: the child that serves it, the session count of that child, transport, peer, device.
channels() {
	smbd status --json 2>/dev/null | jq -r '.children[] | . as $child | .status.channels[]?
		| [$child.pid, $child.status.sessions, .transport, .peer, .device] | @tsv'
}

# both: one child has both channels, both by RDMA, on different devices, and one session.
both() {
	local found
	found=$(channels)
	[ "$(wc -l <<<"$found")" = 2 ] && [ "$(cut -f1,2,3 <<<"$found" | sort -u | wc -l)" = 1 ] &&
		[ "$(cut -f3 <<<"$found" | sort -u)" = Rdma ] && [ "$(cut -f2 <<<"$found" | sort -u)" = 1 ] &&
		[ "$(cut -f5 <<<"$found" | sort -u | wc -l)" = 2 ]
}

listens_on_both() { smbd status --json 2>/dev/null | says '.gateway.interfaces | length > 1'; }

start_server() {
	mkdir -p $mount_point $share /run/channels
	useradd --no-create-home load && chown load $share || fail "no user for the share"
	printf '[global]\n\tserver smb transports = tcp, rdma\n[share]\n\tpath = %s\n\tread only = no\n' $share >$config
	smbd --config $config passwd add load --stdin <<<"load-word" >/dev/null || fail "passwd add"
	smbd --config $config >"$LAB_RESULTS/smbd.log" 2>&1 &
	wait_until 10 listens_on_both || fail "it does not listen for RDMA on both links within 10 s"
}

mount_share() {
	local options=vers=3.1.1,rdma,multichannel,max_channels=2,hard,echo_interval=1,cache=none
	mount -t cifs //10.9.0.1/share $mount_point -o "$options,username=load,password=load-word${CHANNELS_OPTIONS:+,$CHANNELS_OPTIONS}" ||
		fail "mount"
	wait_until 10 both || fail "no two channels in one child within 10 s"
	owner=$(channels | head -1 | cut -f1)
}

# -- the load ----------------------------------------------------------------------------------------------------

# Until told to stop: passes of random writes, each read back and verified. A pass that fails ends the load.
load() {
	local pass=0
	while ! [ -e $stop ]; do
		fio --name=load --directory=$mount_point --size=16m --bs=64k --rw=randwrite --randseed=$((++pass)) --ioengine=libaio \
			--iodepth=8 --direct=1 --verify=crc32c --verify_fatal=1 --verify_backlog=64 >"$LAB_RESULTS/fio.log" 2>&1 || return
		echo $pass >/run/channels/passes
	done
}

passes() { cat /run/channels/passes 2>/dev/null || echo 0; }
more_passes() { [ "$(passes)" -gt "$1" ] || ! kill -0 $load_job 2>/dev/null; }
load_goes_on() { wait_until "$1" more_passes "$(passes)" && kill -0 $load_job 2>/dev/null; }

# -- ways --------------------------------------------------------------------------------------------------------

pull() {
	case $1 in
	device) server rdma link delete rdma_s2 ;;
	first-device) server rdma link delete rdma_s1 ;;
	client-device) rdma link delete rdma_c2 ;;
	drop) lose 2 ;;
	first) lose 1 ;;
	link) server ip link set veth-s2 down ;;
	*) fail "there is no way '$1'" ;;
	esac
}

put_back() {
	case $1 in
	device) server rdma link add rdma_s2 type rxe netdev veth-s2 ;;
	first-device) server rdma link add rdma_s1 type rxe netdev veth-s1 ;;
	client-device) rdma link add rdma_c2 type rxe netdev veth-c2 ;;
	drop) deliver 2 ;;
	first) deliver 1 ;;
	link) server ip link set veth-s2 up && neighbours ;;
	esac
}

lose() { server tc qdisc add dev "veth-s$1" root netem loss 100% && tc qdisc add dev "veth-c$1" root netem loss 100%; }
deliver() { server tc qdisc del dev "veth-s$1" root && tc qdisc del dev "veth-c$1" root; }

# A link that goes down forgets them, and rdma_cm waits 2 s for an address that has yet to be asked for.
neighbours() {
	server ip neigh replace 10.9.1.2 lladdr 02:00:0a:09:01:02 dev veth-s2 nud permanent
	ip neigh replace 10.9.1.1 lladdr 02:00:0a:09:01:01 dev veth-c2 nud permanent
}

# play WAY: leaves the seconds from putting back to a new channel on that link in $seconds.
play() {
	local device=rdma_s2 lost
	[[ $1 != first* ]] || device=rdma_s1
	load_goes_on 30 || fail "$1: the load did not go on before"
	lost=$(peer_on $device)
	[ -n "$lost" ] || fail "$1: no channel on $device before"
	pull "$1" || fail "$1: cannot pull"
	# Twice, since a pass may just have ended; what was on its way over the lost channel goes over the other one.
	load_goes_on 40 && load_goes_on 40 || fail "$1: the load did not go on over the other channel"
	put_back "$1" || fail "$1: cannot put back"
	if [ "$1" = link ]; then
		seconds=never
		return
	fi
	local began=${EPOCHREALTIME/./}
	wait_until $back_again is_new $device "$lost" || fail "$1: the channel did not come back within $back_again s"
	seconds=$(((${EPOCHREALTIME/./} - began) / 1000000))
	[ "$(channels | cut -f1,2 | sort -u)" = "$owner	1" ] || fail "$1: another child or session serves the client"
	load_goes_on 30 || fail "$1: the load did not go on after"
}

# peer_on DEVICE: the client's address and port of the youngest channel there.
peer_on() { channels | awk -F'\t' -v device="$1" '$5 == device { peer = $4 } END { print peer }'; }

# is_new DEVICE PEER: there is a channel with another peer. One that is lost without a word stays with the server until
# its keepalive says so, two minutes.
is_new() { channels | awk -F'\t' -v device="$1" -v lost="$2" '$5 == device && $4 != lost { found = 1 } END { exit !found }'; }

start_server
mount_share
load &
load_job=$!
pulled=''
for way in "$@"; do
	play "$way"
	echo "channels: $way: back after $seconds s, passes $(passes)"
	pulled+="${pulled:+,}$way:$seconds"
done
touch $stop
wait $load_job || fail "the load ended with an error"
umount $mount_point || fail "umount"
! dmesg | grep -E 'BUG:|WARNING:|Oops' || fail "the kernel complained"
echo "channels: ok ways=$# pulled=$pulled passes=$(passes) owner=$owner"
