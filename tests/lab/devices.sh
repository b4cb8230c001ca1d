#!/bin/bash
# devices.sh SCENARIO: RDMA devices as they are, inside the guest with two links: what comes, goes and changes on the
# server while a client has the share mounted over another device. Its connection must stay the one it was, and work.
#
#   come-and-go   a device is removed, added, renamed; one takes the name that is free again
#   iwarp         siw's removal waits until nobody has the device open: idle, in use, without an address, the last one
#                 (client and server are one host then: cifs.ko reaches a siw device in its own namespace alone)
#   address       an address goes and comes, or moves to another device at once; an IPv6 address is mounted
#   vlan          a VLAN on a device's interface is mounted
#   bridge        a device on a bridge is, and one on a port of it is not told of
#   bond          a device on a bond of two links is, whichever is active; skipped where the kernel has no bonds
#   bond-iwarp    a bond's active link changes, and the connection over it is the same one; skipped likewise
#   team          what is said of a team without a device; skipped where the kernel has no teams
#   carrier       an interface without a carrier is not told of, and is again
#   memory-lock   the limit of locked memory is too small for anybody, then for some
#   permission    the port may not be bound
#
#   SMBDIRECT_BIN_DIR   the two daemons
#
# The last line is 'devices: ok SCENARIO'.
set -uo pipefail
. "$LAB/hosts.sh"

config=/run/devices/smb.conf
case $LAB_RDMA in
siw)
	server() { "$@"; }
	near=10.9.0.2 near_device=rdma_c1 other=veth-c2
	;;
*) near=10.9.0.1 near_device=rdma_s1 other=veth-s2 ;;
esac

fail() {
	echo "devices: failed: $*"
	smbdirectd status | sed 's/^/  status: /'
	tail -n 12 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	dmesg | grep 'CIFS: ' | tail -n 4 | sed 's/^/  client: /'
	exit 1
}

smbd() { server "$SMBDIRECT_BIN_DIR/smbd" --config $config "$@"; }
smbdirectd() { server "$SMBDIRECT_BIN_DIR/smbdirectd" --config $config "$@"; }
# Whatever it thinks of the server.
doctor() { smbdirectd doctor --json || true; }
status() { smbdirectd status --json 2>/dev/null; }

# serve [PREFIX…]: the server, by way of a program that takes something from it.
serve() {
	printf '[global]\n\tserver smb transports = %s\n[share]\n\tpath = /srv/share\n\tread only = no\n' "${transports:-tcp, rdma}" >$config
	smbd passwd list | grep -qw load || smbd passwd add load --stdin <<<load-word >/dev/null || fail "passwd add"
	server "$@" "$SMBDIRECT_BIN_DIR/smbd" --config $config >"$LAB_RESULTS/smbd.log" 2>&1 &
	wait_until 10 is_up || fail "the server does not answer within 10 s"
}
is_up() { status >/dev/null; }

# listens ADDRESS DEVICE: as smbdirectd says; and as clients are told.
listens() {
	status | jq -e --arg address "$1" --arg device "$2" \
		'.gateway.interfaces | any(.[]; .address == $address and .device == $device)' >/dev/null && told "$1"
}
told() { smbd status --json | jq -e --arg address "$1" 'any(.interfaces[]; .address == $address and .rdma)' >/dev/null; }
silent() { ! status | jq -e --arg address "$1" '.gateway.interfaces | any(.[]; .address == $address)' >/dev/null && ! told "$1"; }
# on DEVICE: the numbers of the connections of the devices of this name.
on() { status | jq -c --arg device "$1" '[.gateway.connections[] | select(.device == $device) | .connection]'; }
none_on() { [ "$(on "$1")" = '[]' ]; }

expect_listens() { wait_until 5 listens "$@" || fail "it does not listen on $1, $2"; }
expect_silent() { wait_until 5 silent "$1" || fail "it still listens on $1"; }

# use FOLDER: something goes each way, and is what it was.
use() {
	head -c 300000 /dev/urandom >/run/devices/data && cp /run/devices/data "$1/data" && sync "$1/data" &&
		echo 3 >/proc/sys/vm/drop_caches && cmp /run/devices/data "$1/data" || fail "$1 can't be used"
}

# try ADDRESS DEVICE: a mount by RDMA at this address comes in on this device, and works.
try() {
	mkdir -p /mnt/b
	mount -t cifs "//$1/share" /mnt/b -o vers=3.1.1,rdma,nosharesock,cache=none,username=load,password=load-word || fail "mount at $1"
	[ "$(on "$2")" != '[]' ] || fail "no connection on $2"
	use /mnt/b
	umount /mnt/b || fail "umount"
}

# keep: the share is mounted over the first link; kept checks that its connection is the same one, and works.
keep() {
	mkdir -p /mnt/a
	expect_listens $near $near_device
	mount -t cifs //$near/share /mnt/a -o vers=3.1.1,rdma,cache=none,username=load,password=load-word || fail "mount"
	use /mnt/a
	kept=$(on $near_device)
	[ "$kept" != '[]' ] || fail "no connection on $near_device"
}
kept() {
	use /mnt/a
	[ "$(on $near_device)" = "$kept" ] || fail "the connection on $near_device is another: $(on $near_device), it was $kept"
}

# remove DEVICE WHEN: its removal ends soon. One that does not can't be killed either, so it is only watched.
remove() {
	server rdma link delete "$1" &
	local removal=$!
	wait_until 10 ended $removal || fail "the removal of $1 $2 does not end"
	wait $removal || fail "can't remove $1 $2"
}
ended() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# join: the server's and the client's ends of something new know each other's hardware address.
join() {
	local client=$1 interface=$2 network=$3
	server ip neigh replace "${network}2" lladdr "$(cat "/sys/class/net/$client/address")" dev "$interface" nud permanent
	ip neigh replace "${network}1" lladdr "$(server cat "/sys/class/net/$interface/address")" dev "$client" nud permanent
}

# -- scenarios ---------------------------------------------------------------------------------------------------

come_and_go() {
	expect_listens 10.9.1.1 rdma_s2
	try 10.9.1.1 rdma_s2
	remove rdma_s2 "that nobody uses"
	expect_silent 10.9.1.1
	kept
	server rdma link add rdma_s2 type rxe netdev veth-s2
	expect_listens 10.9.1.1 rdma_s2
	try 10.9.1.1 rdma_s2
	kept
	# Removed under a connection.
	mkdir -p /mnt/b
	mount -t cifs //10.9.1.1/share /mnt/b -o vers=3.1.1,rdma,nosharesock,soft,username=load,password=load-word || fail "mount"
	[ "$(on rdma_s2)" != '[]' ] || fail "no connection on rdma_s2"
	remove rdma_s2 "in use"
	wait_until 10 none_on rdma_s2 || fail "its connections do not end"
	status | jq -e '.gateway.ended | any(.[]; .device == "rdma_s2" and (.message | test("removed|failed|device|disconnected")))' >/dev/null ||
		fail "nothing says why"
	kept
	server rdma link add rdma_s2 type rxe netdev veth-s2
	expect_listens 10.9.1.1 rdma_s2
	umount -l /mnt/b
	# Another name, under a connection; then somebody else takes the one that is free.
	server rdma dev set rdma_s2 name renamed || fail "can't rename the device"
	expect_listens 10.9.1.1 renamed
	try 10.9.1.1 renamed
	server ip link add more type dummy
	server ip link set more up
	server ip address add 10.9.7.1/24 dev more
	server rdma link add rdma_s2 type rxe netdev more
	expect_listens 10.9.7.1 rdma_s2
	expect_listens 10.9.1.1 renamed
	try 10.9.1.1 renamed
	kept
	server rdma dev set rdma_s1 name first
	expect_listens 10.9.0.1 first
	use /mnt/a
	[ "$(on first)" = "$kept" ] || fail "the renamed device lost its connection"
}

iwarp() {
	expect_listens 10.9.1.2 rdma_c2
	remove rdma_c2 "that nobody uses"
	expect_silent 10.9.1.2
	kept
	rdma link add rdma_c2 type siw netdev $other
	expect_listens 10.9.1.2 rdma_c2
	try 10.9.1.2 rdma_c2
	mkdir -p /mnt/b
	mount -t cifs //10.9.1.2/share /mnt/b -o vers=3.1.1,rdma,nosharesock,soft,username=load,password=load-word || fail "mount"
	[ "$(on rdma_c2)" != '[]' ] || fail "no connection on rdma_c2"
	remove rdma_c2 "in use"
	wait_until 10 none_on rdma_c2 || fail "its connections do not end"
	umount -l /mnt/b
	kept
	# Known to the server, but not listened on.
	rdma link add rdma_c2 type siw netdev $other
	expect_listens 10.9.1.2 rdma_c2
	ip address del 10.9.1.2/24 dev $other
	expect_silent 10.9.1.2
	remove rdma_c2 "without an address"
	kept
	umount -l /mnt/a
	remove $near_device "that is the last"
	expect_silent $near
	rdma link add $near_device type siw netdev veth-c1
	expect_listens $near $near_device
	try $near $near_device
	wait_until 10 none_on $near_device || fail "connections are left"
}

address() {
	expect_listens 10.9.1.1 rdma_s2
	server ip address del 10.9.1.1/24 dev $other
	expect_silent 10.9.1.1
	kept
	server ip address add 10.9.1.1/24 dev $other
	expect_listens 10.9.1.1 rdma_s2
	try 10.9.1.1 rdma_s2
	# To another device, before anybody can see that it was gone.
	server ip link add more type dummy
	server ip link set more up
	server rdma link add rdma_more type rxe netdev more
	printf 'address del 10.9.1.1/24 dev %s\naddress add 10.9.1.1/24 dev %s\n' $other more | server ip -batch - || fail "can't move the address"
	expect_listens 10.9.1.1 rdma_more
	printf 'address del 10.9.1.1/24 dev %s\naddress add 10.9.1.1/24 dev %s\n' more $other | server ip -batch - || fail "can't move it back"
	expect_listens 10.9.1.1 rdma_s2
	try 10.9.1.1 rdma_s2
	server ip address add fd09::1/64 dev $other nodad
	ip address add fd09::2/64 dev veth-c2 nodad
	join veth-c2 $other fd09::
	expect_listens fd09::1 rdma_s2
	try fd09::1 rdma_s2
	kept
}

vlan() {
	server ip link add link $other name tagged type vlan id 7 2>/dev/null || skip "the guest's kernel has no VLANs"
	ip link add link veth-c2 name tagged type vlan id 7
	server ip address add 10.9.7.1/24 dev tagged
	ip address add 10.9.7.2/24 dev tagged
	server ip link set tagged up
	ip link set tagged up
	join tagged tagged 10.9.7.
	expect_listens 10.9.7.1 rdma_s2
	try 10.9.7.1 rdma_s2
	server ip link del tagged
	expect_silent 10.9.7.1
	kept
}

# take_ports INTERFACE PORT…: the server's address is on an interface that has these ports. Soft-RoCE takes no packets for
# a port's own device there, which the kernel lets be bound all the same.
take_ports() {
	local interface=$1 port
	shift
	for port in "$@"; do
		server ip link set "$port" down
		server ip address flush dev "$port"
		server ip link set "$port" master "$interface" || fail "$interface takes no port"
		server ip link set "$port" up
	done
	server ip link set "$interface" up mtu 9000
	server ip address add 10.9.1.1/24 dev "$interface"
	wait_until 5 is_on_port || fail "it is not said that the device is on a port"
	expect_silent 10.9.1.1
	grep -q "WARN no SMB Direct on 10.9.1.1: rdma_s[23] is soft-RoCE on veth-s.* rdma link add rdma_s[23] type rxe netdev $interface" \
		"$LAB_RESULTS/smbd.log" || fail "the log does not say what to do"
	finds "$interface" device_on_port || fail "the doctor: $(smbdirectd doctor)"
	for port in "$@"; do server rdma link delete "rdma_${port#veth-}"; done
	[ "$interface" = bridged ] || wait_until 5 finds "$interface" teamed || fail "the doctor: $(smbdirectd doctor)"
	for port in "$@"; do finds "$port" port_of_another || fail "the doctor of $port: $(smbdirectd doctor)"; done
}

# serve_on INTERFACE CLIENT: a device on top is served, to the client's interface.
serve_on() {
	local interface=$1 client=$2
	server rdma link add rdma_up type rxe netdev "$interface" || fail "no device on $interface"
	join "$client" "$interface" 10.9.1.
	expect_listens 10.9.1.1 rdma_up
	try 10.9.1.1 rdma_up
	doctor | jq -e --arg name "$interface" 'any(.interfaces[]; .interface.name == $name and .offered and .device == "rdma_up"
			and (.interface.kind as $kind | $name | startswith($kind)) and .findings == [] and any(.told[]; .address == "10.9.1.1" and .rdma))' >/dev/null ||
		fail "the doctor: $(smbdirectd doctor)"
	kept
}
is_on_port() { status | jq -e '.gateway.unheard | any(.[]; .address == "10.9.1.1" and .why == "DeviceOnPort")' >/dev/null; }
# finds INTERFACE REASON: the doctor says that this keeps clients from RDMA there, and what to do.
finds() {
	doctor | jq -e --arg name "$1" --arg reason "$2" 'any(.interfaces[]; .interface.name == $name and (.offered | not)
		and any(.findings[]; .reason == $reason and .prevents and (.remedy | length > 0)))' >/dev/null
}

bridge() {
	server ip link add bridged type bridge 2>/dev/null || skip "the guest's kernel has no bridges"
	take_ports bridged veth-s2
	serve_on bridged veth-c2
}

team() {
	server ip link add teamed type team 2>/dev/null || skip "the guest's kernel has no teams (CONFIG_NET_TEAM); the one that './x kernel' builds has"
	take_ports teamed veth-s2
	kept
}

# bond: of the second and third link, and the client's ends of the two are on one switch.
bond() {
	local port
	server ip link add bonded type bond mode active-backup miimon 50 2>/dev/null || skip "the guest's kernel has no bonds (CONFIG_BONDING); the one that './x kernel' builds has"
	ip link add switch type bridge
	for port in veth-c2 veth-c3; do
		rdma link delete "rdma_${port#veth-}"
		ip address flush dev $port
		ip link set $port master switch
	done
	ip link set switch up mtu 9000
	ip address add 10.9.1.2/24 dev switch
	rdma link add rdma_switch type rxe netdev switch
	take_ports bonded veth-s2 veth-s3
	serve_on bonded switch
	# While nobody is connected: the kernel gives the address another GID then, and soft-RoCE sends nothing more for the old one.
	wait_until 20 is_idle rdma_up || fail "connections are left"
	server ip link set bonded type bond active_slave veth-s3 || fail "can't choose the link"
	changed veth-s3
	ip link set veth-c3 down
	changed veth-s2
}
is_idle() { ! rdma resource show cm_id link "$1" | grep -qv 'state LISTEN\|state ADDR_BOUND'; }
is_active() { [ "$(server cat /sys/class/net/bonded/bonding/active_slave)" = "$1" ]; }
# changed LINK: it is the active one now, and clients come in over it.
changed() {
	wait_until 5 is_active "$1" || fail "$1 is not active"
	expect_listens 10.9.1.1 rdma_up
	try 10.9.1.1 rdma_up
	wait_until 20 is_idle rdma_up || fail "connections are left"
	doctor | jq -e 'any(.interfaces[]; .interface.name == "bonded" and .offered)' >/dev/null || fail "the doctor: $(smbdirectd doctor)"
	kept
}

bond_iwarp() {
	local port connection
	ip link add bonded type bond mode active-backup miimon 50 2>/dev/null || skip "the guest's kernel has no bonds (CONFIG_BONDING); the one that './x kernel' builds has"
	for port in veth-c2 veth-c3; do
		ip link set $port down
		ip address flush dev $port
		ip link set $port master bonded || fail "the bond takes no port"
		ip link set $port up
	done
	ip link set bonded up mtu 9000
	ip address add 10.9.1.2/24 dev bonded
	expect_silent 10.9.1.2
	for port in veth-c2 veth-c3; do remove "rdma_${port#veth-}" "on a port of a bond"; done
	wait_until 5 finds bonded teamed || fail "the doctor: $(smbdirectd doctor)"
	rdma link add rdma_up type siw netdev bonded || fail "no device on the bond"
	expect_listens 10.9.1.2 rdma_up
	mkdir -p /mnt/b
	mount -t cifs //10.9.1.2/share /mnt/b -o vers=3.1.1,rdma,nosharesock,cache=none,username=load,password=load-word || fail "mount"
	use /mnt/b
	connection=$(on rdma_up)
	is_active veth-c2 || fail "another link is active"
	head -c 50000000 /dev/urandom >/run/devices/much
	copy
	ip link set bonded type bond active_slave veth-c3 || fail "can't choose the link"
	copied veth-c3
	copy
	ip netns exec server ip link set veth-s3 down
	copied veth-c2
	[ "$(on rdma_up)" = "$connection" ] || fail "the connection on the bond is another: $(on rdma_up), it was $connection"
	expect_listens 10.9.1.2 rdma_up
	try 10.9.1.2 rdma_up
	umount /mnt/b || fail "umount"
	kept
}
copy() { cp /run/devices/much /mnt/b/much & copying=$!; }
copied() {
	wait_until 5 is_active "$1" || fail "$1 is not active"
	wait $copying && sync /mnt/b/much && cmp /run/devices/much /mnt/b/much || fail "the copy, as $1 became active"
}

carrier() {
	expect_listens 10.9.1.1 rdma_s2
	ip link set veth-c2 down
	expect_silent 10.9.1.1
	status | jq -e '.gateway.unheard | any(.[]; .address == "10.9.1.1" and .why == "PortDown")' >/dev/null || fail "not said why"
	kept
	ip link set veth-c2 up
	expect_listens 10.9.1.1 rdma_s2
}

# scanty KIB: the server may lock so much and can't change it.
scanty() {
	ulimit -l "$1"
	serve setpriv --bounding-set -sys_resource,-ipc_lock --inh-caps -sys_resource,-ipc_lock
	expect_listens $near $near_device
}
said() { grep -q "$1.*start smbd as root, give its service LimitMEMLOCK=infinity" "$LAB_RESULTS/smbd.log"; }
payload() { status | jq '.gateway.totals | .rdma_read_bytes + .rdma_write_bytes'; }
mount_again() {
	mkdir -p "/mnt/$1"
	timeout -s KILL 20 mount -t cifs //$near/share "/mnt/$1" \
		-o vers=3.1.1,rdma,nosharesock,soft,cache=none,username=load,password=load-word
}

memory_lock() {
	scanty 4096
	said 'no RDMA connection is accepted, as 4096 KiB may be locked' || fail "the log does not say it"
	[ "$(grep -c 'may be locked' "$LAB_RESULTS/smbd.log")" = 1 ] || fail "it is said more than once"
	doctor | says 'any(.findings[]; .reason == "memory_lock" and .prevents)' || fail "the doctor"
	! mount_again a || fail "a client is served that can move no payload"
	said 'connection refused: 0 RDMA connections are open of the 0 that are allowed' || fail "the log does not say why one is refused"
	mount -t cifs //$near/share /mnt/a -o vers=3.1.1,username=load,password=load-word || fail "mount over TCP"
	use /mnt/a
	umount /mnt/a || fail "umount"
	supervisor=$(pgrep -of "^$SMBDIRECT_BIN_DIR/smbd --config")
	kill -TERM "$supervisor" && wait_until 10 ended "$supervisor" || fail "the server does not end"
	scanty 65536
	said 'RDMA connections are accepted at most, with 32 MiB for RDMA payload, as 65536 KiB may be locked' || fail "the log does not say it"
	doctor | says 'any(.findings[]; .reason == "memory_lock" and (.prevents | not))' || fail "the doctor"
	mount_again a && mount_again b || fail "mount"
	use /mnt/a
	use /mnt/b
	[ "$(payload)" -gt 0 ] || fail "no payload went by RDMA"
}

permission() {
	transports='tcp:4450, rdma' serve setpriv --bounding-set -net_bind_service --inh-caps -net_bind_service
	said() { grep -q 'no SMB Direct on 10.9.0.1: .*CAP_NET_BIND_SERVICE: start smbd as root' "$LAB_RESULTS/smbd.log"; }
	wait_until 5 said || fail "no line says it"
	[ "$(grep -c 'WARN no SMB Direct on 10.9.0.1' "$LAB_RESULTS/smbd.log")" = 1 ] || fail "it is said again and again"
	doctor | jq -e 'any(.interfaces[].findings[]; .reason == "not_permitted")' >/dev/null || fail "the doctor"
}

ulimit -l unlimited
mkdir -p /srv/share /run/devices
useradd --no-create-home load && chown load /srv/share || fail "no user for the share"
scenario=${1//-/_}
case $1 in
memory-lock | permission) ;;
*)
	serve
	keep
	;;
esac
$scenario
! dmesg | grep -E 'BUG:|WARNING:|Oops' || fail "the kernel complained"
echo "devices: ok $1"
