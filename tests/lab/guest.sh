#!/bin/bash
# guest.sh: the first process of the lab's guest. run.sh boots the kernel into it; nothing else calls it.
#
# Outside: the root is the host's own file tree, read-only. It goes under an overlay whose upper layer is in memory,
# and the guest lives in that, so whatever a script writes is gone with the guest. The one folder of the host that
# can be written is the run's results folder.
#
# Inside: two hosts. The client is the initial network namespace, because the kernel client opens further channels
# from there; the server is the namespace `server`. Each link between them is a veth pair with an RDMA device at each
# end. Then the script runs, and its status goes to the results folder; the runner takes no status for a failure.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb

power_off() {
	echo o >/proc/sysrq-trigger
	sleep 5
}

# stop STATUS [REASON]: hands the status over and ends the guest.
stop() {
	[ $# -lt 2 ] || echo "lab: $2"
	sync /dev/tty1 2>/dev/null
	dmesg >"$LAB_RESULTS/dmesg"
	echo "$1" >"$LAB_RESULTS/status"
	sync -f "$LAB_RESULTS/status"
	power_off
}

# -- outside -----------------------------------------------------------------------------------------------------

build_root() {
	local root=/mnt/root
	mount -t tmpfs -o mode=755,size=80% lab /mnt && mkdir /mnt/upper /mnt/work $root || return
	mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay $root || return
	mount -t proc proc $root/proc
	mount -t sysfs sys $root/sys
	mount -t devtmpfs dev $root/dev
	mkdir -p $root/dev/pts $root/dev/shm $root/sys/kernel/config $root/sys/kernel/debug
	mount -t devpts -o ptmxmode=666 devpts $root/dev/pts
	mount -t configfs config $root/sys/kernel/config
	mount -t debugfs debug $root/sys/kernel/debug
	local memory
	for memory in dev/shm mnt srv; do mount -t tmpfs -o mode=755 lab "$root/$memory"; done
	chmod 1777 $root/dev/shm
	mount -t hostfs -o "$1" results "$root$1"
}

outside() {
	mount -t proc proc /proc
	local results
	results=$(sed -n 's/.*lab\.results=\([^ ]*\).*/\1/p' /proc/cmdline)
	build_root "$results" || {
		echo "lab: cannot build the guest's root"
		power_off
	}
	# Not chroot: what the kernel itself runs (request-key, for a ticket) has the root of its own threads, which follow this.
	cd /mnt/root && pivot_root . run && umount -l run && mount -t tmpfs -o mode=755 lab run || {
		echo "lab: cannot make the guest's root the kernel's"
		power_off
	}
	exec chroot . /bin/bash "$results/guest.sh" inside "$results"
}

# -- inside ------------------------------------------------------------------------------------------------------

# A link N: veth-cN 10.9.(N-1).2 on the client, veth-sN 10.9.(N-1).1 on the server, 9000 bytes for RDMA's largest MTU.
# Each end knows the other's hardware address: rdma_cm waits its full 2 s for an address that has yet to be asked for.
# No two are the same: a device's GUID is made of it, and a second device with that GUID is taken for a stale connection
# of the first.
add_links() {
	local n net
	{
		echo "link set lo up"
		echo "netns add server"
		for ((n = 1; n <= LAB_LINKS; n++)); do
			net=10.9.$((n - 1))
			echo "link add veth-c$n mtu 9000 address $(hardware_address "$n" 2) type veth peer name veth-s$n mtu 9000 address $(hardware_address "$n" 1) netns server"
			echo "addr add $net.2/24 dev veth-c$n"
			echo "link set veth-c$n up"
			echo "neigh add $net.1 lladdr $(hardware_address "$n" 1) dev veth-c$n nud permanent"
		done
	} | ip -batch - || return
	{
		echo "link set lo up"
		for ((n = 1; n <= LAB_LINKS; n++)); do
			net=10.9.$((n - 1))
			echo "addr add $net.1/24 dev veth-s$n"
			echo "link set veth-s$n up"
			echo "neigh add $net.2 lladdr $(hardware_address "$n" 2) dev veth-s$n nud permanent"
		done
	} | ip -n server -batch -
}

# hardware_address LINK HOST: that of an end of a link.
hardware_address() { printf '02:00:0a:09:%02x:%02x' $(($1 - 1)) "$2"; }

add_rdma_devices() {
	local n
	for ((n = 1; n <= LAB_LINKS; n++)); do
		rdma link add "rdma_c$n" type "$LAB_RDMA" netdev "veth-c$n" || return
		ip netns exec server rdma link add "rdma_s$n" type "$LAB_RDMA" netdev "veth-s$n" || return
	done
}

# A device can be used once its port is active and its IPv4 address is in the port's table.
rdma_ready() {
	local n device gid state port
	for ((n = 1; n <= LAB_LINKS; n++)); do
		for device in "rdma_c$n" "rdma_s$n"; do
			port=/sys/class/infiniband/$device/ports/1
			read -r state <"$port/state" && [[ $state == *ACTIVE ]] || return
			[ "$LAB_RDMA" = siw ] && continue
			for gid in "$port"/gids/[0-9]; do
				read -r gid <"$gid" && [[ $gid == 0000:0000:0000:0000:0000:ffff:0a09:* ]] && continue 2
			done
			return 1
		done
	done
}

# The buffer holds what rxe sends while tcpdump waits for the one processor: an eighth of the memory.
start_capture() {
	local n total_kib
	read -r _ total_kib _ </proc/meminfo
	for ((n = 1; n <= LAB_LINKS; n++)); do
		ip netns exec server tcpdump -i "veth-s$n" -s 0 -B $((total_kib / 8 / LAB_LINKS)) -U -Z root -w "$LAB_RESULTS/wire-$n.pcap" \
			2>"/run/tcpdump-$n.log" &
		captures+=($!)
	done
	for ((n = 1; n <= LAB_LINKS; n++)); do
		wait_until 30 grep -q 'listening on' "/run/tcpdump-$n.log" || return
	done
}

# tcpdump gets frames in blocks, the last one when it is a second old, and at a signal drops what it has not read:
# it has read everything when its files have stopped growing for longer than that.
stop_capture() {
	local size=-1 now tries
	[ ${#captures[@]} -gt 0 ] || return
	for ((tries = 0; tries < 8; tries++)); do
		sleep 1.2
		now=$(stat -c %s "$LAB_RESULTS"/wire-*.pcap)
		[ "$now" != "$size" ] || break
		size=$now
	done
	kill "${captures[@]}"
	wait "${captures[@]}"
	cat /run/tcpdump-*.log >"$LAB_RESULTS/tcpdump.log"
}

# Writes a file each second, and starts no process for it: where it has not, the guest's kernel runs no programs.
show_that_it_runs() {
	local never
	mkfifo /run/never && exec {never}<>/run/never || return
	while true; do
		: >"$LAB_RESULTS/runs"
		read -rt 1 -u "$never"
	done
}

inside() {
	export LAB_RESULTS=$1
	cd / || stop 125
	exec </dev/null
	stty -F /dev/tty1 raw -echo
	exec >/dev/tty1 2>&1
	ulimit -l unlimited
	# shellcheck source=/dev/null
	. "$LAB_RESULTS/settings"
	. "$LAB/hosts.sh"
	captures=()
	add_links || stop 125 "cannot set up the links between the two hosts"
	if [ "$LAB_RDMA" != none ]; then
		add_rdma_devices || stop 125 "cannot add the $LAB_RDMA devices"
		wait_until 30 rdma_ready || stop 125 "the $LAB_RDMA devices did not become active"
	fi
	[ "$LAB_CAPTURE" = no ] || start_capture || stop 125 "the capture did not start"
	cut -d' ' -f1 /proc/uptime >"$LAB_RESULTS/ready"
	local status
	show_that_it_runs &
	bash "$LAB_SCRIPT" "${LAB_ARGS[@]}"
	status=$?
	stop_capture
	stop $status
}

case ${1:-} in
inside) inside "$2" ;;
*) outside ;;
esac
