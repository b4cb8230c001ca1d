#!/bin/bash
# doctor.sh: what 'smbdirectd doctor' and 'smbdirectd status' say of a real server, inside the guest with one link. One
# thing after another is taken from a server on which RDMA is offered, and put back; the doctor must name it within five
# seconds, with exit status 1, and be content again, with 0.
#
#   SMBDIRECT_BIN_DIR   the two daemons
#
# The last line is 'doctor: ok reasons=N'.
set -uo pipefail
. "$LAB/hosts.sh"

config=/run/doctor/smb.conf
reasons=0
iwarp() { [ "$LAB_RDMA" = siw ]; }

fail() {
	echo "doctor: failed: $*"
	smbdirectd doctor | sed 's/^/  doctor: /'
	tail -n 8 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	exit 1
}

smbd() { server "$SMBDIRECT_BIN_DIR/smbd" --config $config "$@"; }
smbdirectd() { server "$SMBDIRECT_BIN_DIR/smbdirectd" --config $config "$@"; }

# serve [LINE…]: a server with these further lines in [global].
serve() {
	printf '[global]\n\tserver smb transports = %s\n' "${transports:-tcp, rdma}" >$config
	[ $# = 0 ] || printf '\t%s\n' "$@" >>$config
	printf '[share]\n\tpath = /srv/share\n\tread only = no\n' >>$config
	smbd >>"$LAB_RESULTS/smbd.log" 2>&1 &
	server_job=$!
	wait_until 10 is_up || fail "the server does not answer within 10 s"
}

is_listening() { rdma -j resource show cm_id 2>/dev/null | jq -e 'any(.. | objects | select(.state == "LISTEN"))' >/dev/null; }
is_up() { smbd status >/dev/null 2>&1; }

stop() {
	kill "$(smbd status --json | jq .supervisor)" && wait $server_job
	server_job=
}

# content: the doctor finds that clients are offered RDMA, and says so by its status.
content() { smbdirectd doctor >/dev/null; }
# says REASON: it finds this to prevent it.
says() {
	local found
	found=$(smbdirectd doctor --json) && return 1
	jq -e --arg reason "$1" 'any(.findings[], (.interfaces[] | select(.interface.name == "veth-s1") | .findings[]); .prevents and .reason == $reason and (.remedy | length > 0))' \
		<<<"$found" >/dev/null
}

# expect REASON: at the latest in a few seconds.
expect() {
	wait_until 8 says "$1" || fail "it does not say $1"
	reasons=$((reasons + 1))
}
recover() { wait_until 15 content || fail "it is not content again after $1"; }

mkdir -p /mnt/a /srv/share /run/doctor
useradd --no-create-home load && chown load /srv/share || fail "no user for the share"
printf '[global]\n[share]\n\tpath = /srv/share\n' >$config
smbd passwd add load --stdin <<<load-word >/dev/null || fail "passwd add"

# -- without a server, and with one ------------------------------------------------------------------------------

expect not_running
export SMBDIRECT_LOG=debug
serve 'log level = debug'
unset SMBDIRECT_LOG
recover "the start"
found=$(smbdirectd doctor --json)
jq -e '.rdma_would_be_used and (.interfaces[] | select(.interface.name == "veth-s1")
		| .offered and .device == "rdma_s1" and any(.told[]; .address == "10.9.0.1" and .rdma))
	and any(.devices[]; .name == "rdma_s1" and .state == "ACTIVE" and .software)
	and .in_use[0].max_work_requests > 0 and .in_use[0].mtu > 0' <<<"$found" >/dev/null || fail "a healthy server: $found"
if ! iwarp; then
	jq -e 'any(.devices[].gids[]; .interface == "veth-s1" and .kind == "RoCE v2")' <<<"$found" >/dev/null || fail "no GID: $found"
fi
smbdirectd doctor | grep -q '^veth-s1: RDMA is offered (rdma_s1' || fail "the text"

# -- status ------------------------------------------------------------------------------------------------------

# The kernel's client of soft-iWARP reaches no server in another namespace.
show_status() {
	local id
	mount -t cifs //10.9.0.1/share /mnt/a -o vers=3.1.1,rdma,username=load,password=load-word || fail "mount"
	head -c 4000000 /dev/urandom >/mnt/a/file && sync /mnt/a/file || fail "write"
	smbdirectd status --json | jq -e --argjson status "$(smbd status --json)" '.gateway.connections[0]
		| .state == "established" and .counts.rdma_reads > 0 and .counts.rdma_read_bytes >= 4000000 and .credits.held > 0
		and .region_bytes > 0 and .limits.max_read_write_size > 0 and .child_pid == $status.children[0].pid' >/dev/null ||
		fail "status: $(smbdirectd status --json)"
	smbdirectd status --prometheus --output /run/doctor/metrics.prom || fail "metrics"
	grep -q '^smbdirect_up 1$' /run/doctor/metrics.prom && grep -q '^smbdirect_rdma_read_bytes_total [1-9]' /run/doctor/metrics.prom ||
		fail "metrics: $(cat /run/doctor/metrics.prom)"
	umount /mnt/a || fail "umount"
	# One WRITE by RDMA, through both processes' logs under one id.
	id=$(sed -n 's/.* child .*request command=Ok(Write) .*id=\([0-9.]*\)$/\1/p' "$LAB_RESULTS/smbd.log" | head -1)
	[ -n "$id" ] || fail "no request of a message is logged"
	for step in 'the message is complete' request 'RDMA READ is asked for' 'RDMA READ is done' answer 'the reply is here' 'the reply is sent'; do
		grep -q "message: $step.* id=$id\$" "$LAB_RESULTS/smbd.log" || fail "message $id: no line says '$step'"
	done
	ended() { smbdirectd status | grep -q 'PeerDisconnected: 10.9.0.2:.* on rdma_s1: the client disconnected'; }
	wait_until 10 ended || fail "the end of a connection is not told: $(smbdirectd status)"
}

iwarp || show_status

# -- one thing after another -------------------------------------------------------------------------------------

server ip link set veth-s1 down
expect link_down
server ip link set veth-s1 up
recover "the link"

server ip address flush dev veth-s1
expect no_address
server ip address add fe80::9/64 dev veth-s1 nodad
expect link_local_only
server ip address add 10.9.0.1/24 dev veth-s1
recover "the address"

pull_device() {
	server rdma link delete rdma_s1
	expect no_device
	server rdma link add rdma_s1 type "$LAB_RDMA" netdev veth-s1
	recover "the device"
}
# The kernel waits with soft-iWARP's removal until nobody has the device open, and tells nobody.
iwarp || pull_device

protocol='udp dport 4791'
! iwarp || protocol='tcp dport 5445'
server nft -f - <<-END
	table inet wall { chain input { type filter hook input priority 0; $protocol drop; }; }
END
expect blocked
server nft delete table inet wall
recover "the packet filter"
stop

# -- the configuration -------------------------------------------------------------------------------------------

transports=tcp serve
expect disabled
stop
serve 'server multi channel support = no'
expect multichannel_off
stop
serve 'rdma devices = another'
expect device_not_wanted
stop
serve 'server signing = mandatory' 'rdma transform = no'
expect transform_off
stop
serve 'interfaces = 10.77.0.0/16'
expect not_told
stop

# -- the port ----------------------------------------------------------------------------------------------------

port=445
! iwarp || port=5445
# Not by 'server': what is to be killed is rping.
ip netns exec server rping -s -a 10.9.0.1 -p $port >/dev/null 2>&1 &
rping=$!
wait_until 5 is_listening || fail "rping does not listen"
serve
expect port_taken
grep -q 'no SMB Direct on 10.9.0.1: .* another server has the port' "$LAB_RESULTS/smbd.log" || fail "the log does not say it"
kill $rping
recover "the port"
stop
echo "doctor: ok reasons=$reasons"
