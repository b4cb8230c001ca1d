#!/bin/bash
# rdma-guest.sh: the RDMA benchmark, inside the lab's guest. ksmbd works only in the initial network namespace, so the
# two hosts change places: whichever server is measured runs here, at 10.9.0.2, and the kernel client in the namespace.
# Both servers get the same share, mount options and jobs, in turn, three times; the best of each counts.
#
#   SMBDIRECT_BIN_DIR   our daemons   KSMBD_TOOLS  where ksmbd's are   BENCH_SECONDS  of a job (2)   BENCH_ROUNDS (3)
#   BENCH_JOBS  keys of the jobs to run, and then without the devices' own figures (all)
#   BENCH_ECHOES  to be timed a round (2000)
#
# Then the project's own client takes the place of the kernel's, which can't sign payload: 'echo' and 'payload'.
#
# Writes $LAB_RESULTS/figures, which rdma.sh reads: lines 'SERVER KEY VALUE', or 'SERVER skipped|failed REASON'.
set -uo pipefail
. "$LAB/hosts.sh"

address=10.9.0.2
mount_point=/mnt/a
share=/srv/share
seconds=${BENCH_SECONDS:-2}
file_mib=256
work=/run/bench
figures=$LAB_RESULTS/figures

# Unlike 'ip netns exec', this leaves the mounts where the rest of the script sees them.
client() { nsenter --net=/run/netns/server "$@"; }

figure() { echo "$*" >>"$figures"; }

log() { "$@" >>"$LAB_RESULTS/bench.log" 2>&1; }

# failed SERVER REASON, skipped SERVER REASON: the rest of the run goes on without it.
failed() {
	figure "$1 failed $2"
	return 1
}

skipped() {
	figure "$1 skipped $2"
	return 1
}

prepare() {
	mkdir -p $mount_point $work $share /etc/fio
	chmod 777 $share
	# perftest looks for the processor's clock, which this guest's own cpuinfo does not tell.
	printf 'processor\t: 0\nvendor_id\t: GenuineIntel\ncpu MHz\t\t: 2000.000\n' >$work/cpuinfo
	mount --bind $work/cpuinfo /proc/cpuinfo
	log useradd --no-create-home bench
	chown bench $share
	: >"$figures"
	# No lease and no oplock is asked for, so every read and write goes to the server.
	echo N >/sys/module/cifs/parameters/enable_oplocks
}

# -- the servers -------------------------------------------------------------------------------------------------

start_peer() {
	local tools=$KSMBD_TOOLS/usr/sbin
	[ -x "$tools/ksmbd.mountd" ] || skipped peer "ksmbd-tools of Debian's backports cannot be had" || return
	cat >$work/ksmbd.conf <<-END
		[global]
			workgroup = WORKGROUP
			server min protocol = SMB3_00
			server max protocol = SMB3_11
			smb2 max read = 4M
			smb2 max write = 4M
			smb2 max trans = 1M
			smb2 leases = no
			max connections = 128
		[share]
			path = $share
			read only = no
			oplocks = no
			force user = bench
	END
	[ -e $work/ksmbd.db ] || log "$tools/ksmbd.adduser" -C $work/ksmbd.conf -P $work/ksmbd.db -a bench -p bench-word ||
		failed peer "ksmbd.adduser failed" || return
	log "$tools/ksmbd.mountd" -C $work/ksmbd.conf -P $work/ksmbd.db || failed peer "ksmbd.mountd does not start" || return
	wait_until 10 listens || failed peer "it does not listen within 10 s"
}

stop_peer() {
	log "$KSMBD_TOOLS/usr/sbin/ksmbd.control" -s
	wait_until 10 is_free
}

start_ours() {
	local smbd=$SMBDIRECT_BIN_DIR/smbd
	cat >$work/smb.conf <<-END
		[global]
			server smb transports = tcp, rdma
			smb2 max read = 4M
			smb2 max write = 4M
		[share]
			path = $share
			read only = no
			force user = bench
	END
	[ -x "$smbd" ] && [ -x "$SMBDIRECT_BIN_DIR/smbdirectd" ] ||
		skipped ours "there is no smbd and smbdirectd; 'cargo build --bins' makes them" || return
	[ -e $work/user-added ] || log "$smbd" --config $work/smb.conf passwd add bench --stdin <<<"bench-word" ||
		failed ours "smbd passwd add failed" || return
	touch $work/user-added
	"$smbd" --config $work/smb.conf >>"$LAB_RESULTS/smbd.log" 2>&1 &
	ours=$!
	wait_until 10 listens || failed ours "smbd does not listen within 10 s" || return
	wait_until 5 listens_for_rdma "$smbd" || failed ours "smbd does not listen for RDMA within 5 s"
}

stop_ours() {
	[ -n "$ours" ] || return
	kill "$ours"
	wait_until 5 is_gone "$ours" || kill -KILL "$ours"
	wait "$ours" 2>/dev/null
	wait_until 10 is_free
}

listens() { [ -n "$(ss -Hltn 'sport = 445')" ]; }
is_free() { ! listens; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }
listens_for_rdma() { "$1" --config $work/smb.conf status --json 2>/dev/null | says '.gateway.interfaces | length > 0'; }

# -- the jobs ----------------------------------------------------------------------------------------------------

# job KEY UNIT RW BLOCK DEPTH: one fio job; UNIT says which of its numbers is the figure.
job() {
	local key=$1 unit=$2 rw=$3 block=$4 depth=$5 output=$work/fio.json value
	client fio --name="$key" --filename=$mount_point/file --size=${file_mib}m --rw="$rw" --bs="$block" --iodepth="$depth" \
		--ioengine=libaio --direct=1 --time_based --runtime="$seconds" --thread --output-format=json --output=$output \
		>>"$LAB_RESULTS/bench.log" 2>&1 || {
		cat $output >>"$LAB_RESULTS/bench.log" 2>/dev/null
		return 1
	}
	value=$(jq -e --arg unit "$unit" '.jobs[0] | if .write.total_ios > 0 then .write else .read end
		| if $unit == "iops" then .iops else .bw_bytes / 1048576 end' $output) || return
	figure "$server $key $value"
}

# The jobs that $BENCH_JOBS names, in this order.
jobs() {
	local key unit rw block depth
	while read -r key unit rw block depth <&3; do
		! wants "$key" || job "$key" "$unit" "$rw" "$block" "$depth" || return
	done 3<<-END
		seq_write mib write 4m 1
		seq_read mib read 4m 1
		write1m_qd4 mib write 1m 4
		read1m_qd4 mib read 1m 4
		write4k_qd1 iops randwrite 4k 1
		read4k_qd1 iops randread 4k 1
		write4k_qd32 iops randwrite 4k 32
		read4k_qd32 iops randread 4k 32
	END
}

mount_share() {
	log client mount -t cifs //$address/share $mount_point \
		-o "vers=3.1.1,rdma,cache=none,nolease,username=bench,password=bench-word" &&
		dmesg | grep -q 'RDMA transport established'
}

measure() {
	server=$1
	rm -f $share/*
	dmesg -C
	ours=''
	"start_$server" || {
		"stop_$server"
		return
	}
	if ! mount_share; then
		dmesg >>"$LAB_RESULTS/bench.log"
		failed "$server" "the client cannot mount it over SMB Direct"
	else
		log dd if=/dev/zero of=$mount_point/file bs=4M count=$((file_mib / 4)) oflag=direct
		jobs || failed "$server" "a job failed; bench.log says how"
		dmesg >>"$LAB_RESULTS/dmesg-$server"
		log umount $mount_point
	fi
	"stop_$server"
}

# wire KEY PROGRAM OPTION…: what the devices do with no server, MiB a second; some runs print 0 and are tried again.
wire() {
	local key=$1 program=$2 value try
	shift 2
	for try in 1 2 3; do
		"$program" -d rdma_c1 -x 1 -F -s 1048576 -n 1000 "$@" >>"$LAB_RESULTS/bench.log" 2>&1 &
		wait_until 5 waits_for_peer
		value=$(client "$program" -d rdma_s1 -x 1 -F -s 1048576 -n 1000 "$@" $address 2>&1 |
			tee -a "$LAB_RESULTS/bench.log" | awk '$1 == 1048576 { average = $4 } END { print average }')
		wait $!
		[ "${value%.*}" -gt 0 ] 2>/dev/null && figure "wire $key $value" && return
	done
	figure "wire skipped $program printed no figure in $try tries"
}

# -- the project's own client --------------------------------------------------------------------------------------

wants() { [[ " ${BENCH_JOBS:-$1} " == *" $1 "* ]]; }

# bench_client WHAT OPTION…: its lines are figures of this server.
bench_client() {
	local output=$work/bench-client
	client "$SMBDIRECT_BIN_DIR/bench_client" "$@" --address $address:445 --user bench --password bench-word --share share \
		>$output 2>>"$LAB_RESULTS/bench.log" || return
	sed "s/^/$server /" $output >>"$figures"
}

# ksmbd knows no RDMA transform, and serves the ways it has.
measure_by_own_client() {
	local ways=unsigned
	server=$1
	rm -f $share/*
	ours=''
	"start_$server" || {
		"stop_$server"
		return
	}
	[ "$server" = peer ] || ways=unsigned,signed-transform,signed-inline
	if wants echo; then
		bench_client echo --count "${BENCH_ECHOES:-2000}" || failed "$server" "no ECHO over SMB Direct; bench.log says why"
	fi
	if wants payload; then
		bench_client payload --ways $ways || failed "$server" "no payload over SMB Direct; bench.log says why"
	fi
	"stop_$server"
}

waits_for_peer() { [ -n "$(ss -Hltn 'sport = 18515')" ]; }

prepare
[ -n "${BENCH_JOBS:-}" ] || {
	wire wire_write ib_write_bw
	wire wire_read ib_read_bw -e
}
for ((round = 0; round < ${BENCH_ROUNDS:-3}; round++)); do
	for which in ${BENCH_SERVERS:-ours peer}; do measure "$which"; done
done
for ((round = 0; round < ${BENCH_ROUNDS:-3}; round++)); do
	for which in ${BENCH_SERVERS:-ours peer}; do measure_by_own_client "$which"; done
done
exit 0
