#!/bin/bash
# protected.sh: what protects a mount over SMB Direct, inside the guest: each dialect with nothing, 'sign', 'seal' and what
# the server demands, with each algorithm that the kernel's client can be told to want (CMAC and GMAC; AES-128-CCM before
# 3.1.1, AES-128-GCM and AES-256-GCM there). A file goes both ways, and is compared on the server and read back. What is
# not protected moves by RDMA, the rest in messages. Ends with 'protected: ok combinations=N inline=N by_rdma=N'.
#
#   SMBDIRECT_BIN_DIR   the two daemons     PROTECTED_MIB   size of the file (4)
set -uo pipefail
. "$LAB/hosts.sh"

mount_point=/mnt/a
share=/srv/share
config=/run/protected/smb.conf
mib=${PROTECTED_MIB:-4}
combinations=0 inline=0 by_rdma=0

fail() {
	echo "protected: failed at $current: $*"
	tail -n 8 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	dmesg | grep 'CIFS: ' | tail -n 5 | sed 's/^/  client: /'
	exit 1
}

smbd() { server "$SMBDIRECT_BIN_DIR/smbd" "$@"; }
listens() { smbd status --json 2>/dev/null | says '.gateway.interfaces | length > 0'; }
moved() { smbd status --json | jq '.gateway.totals.rdma_read_bytes + .gateway.totals.rdma_write_bytes'; }

# start_server LINE…: with these lines in [global].
start_server() {
	local line
	{
		printf '[global]\n\tserver smb transports = tcp, rdma\n'
		for line in "$@"; do printf '\t%s\n' "$line"; done
		printf '[share]\n\tpath = %s\n\tread only = no\n' $share
	} >$config
	smbd --config $config >>"$LAB_RESULTS/smbd.log" 2>&1 &
	server_job=$!
	wait_until 10 listens || fail "it does not listen for RDMA within 10 s"
}

stop_server() {
	kill "$(smbd status --json | jq .supervisor)" && wait $server_job
}

# try OPTIONS: a mount with these options, a file both ways.
try() {
	current="-o $1"
	local before after options=rdma,cache=none,username=load,password=load-word,$1
	before=$(moved)
	timeout 20 mount -t cifs //10.9.0.1/share $mount_point -o "$options" || fail "mount"
	timeout 60 dd if=/run/protected/file of=$mount_point/file bs=1M conv=fsync 2>>"$LAB_RESULTS/dd.log" || fail "write"
	cmp /run/protected/file $share/file || fail "other bytes on the server"
	timeout 60 cmp /run/protected/file $mount_point/file || fail "other bytes read back"
	rm $mount_point/file || fail "remove"
	umount $mount_point || fail "umount"
	after=$(moved)
	if [ $((after - before)) -ge $((mib << 20)) ]; then by_rdma=$((by_rdma + 1)); else inline=$((inline + 1)); fi
	combinations=$((combinations + 1))
	printf '  %-44s %10d bytes by RDMA\n' "$1" $((after - before))
}

# with_parameter NAME OPTIONS: as try, with this setting of the kernel's client on.
with_parameter() {
	local file=/sys/module/cifs/parameters/$1 was
	current="cifs.$1"
	was=$(cat "$file") && echo Y >"$file" || fail "this kernel has no such setting"
	try "$2"
	echo "$was" >"$file"
}

current='the start'
mkdir -p $mount_point $share /run/protected
useradd --no-create-home load && chown load $share || fail "no user for the share"
dd if=/dev/urandom of=/run/protected/file bs=1M count="$mib" 2>/dev/null
printf '[global]\n\tserver smb transports = tcp, rdma\n' >$config
smbd --config $config passwd add load --stdin <<<"load-word" >/dev/null || fail "passwd add"

start_server
for dialect in 3.0 3.0.2 3.1.1; do
	for security in ntlmssp ntlmsspi; do try "vers=$dialect,sec=$security"; done
	try "vers=$dialect,sign"
done
with_parameter enable_negotiate_signing vers=3.1.1,sign
# The client alone chooses to encrypt. It would size its WRITEs for RDMA, and refuse to send them itself ("payload size
# 2097316 > max size 1048576"): told what fits a message, it does.
try vers=3.1.1,seal,rsize=160000,wsize=1000000
stop_server || fail "the server's end"
# A server that requires it says what fits a message itself.
start_server "server smb encrypt = required"
for dialect in 3.0 3.0.2 3.1.1; do
	try "vers=$dialect,seal"
	try "vers=$dialect,seal,sign"
done
with_parameter require_gcm_256 vers=3.1.1,seal
stop_server || fail "the server's end"
start_server "server signing = mandatory"
for dialect in 3.0 3.0.2 3.1.1; do try "vers=$dialect"; done
stop_server || fail "the server's end"
echo "protected: ok combinations=$combinations inline=$inline by_rdma=$by_rdma"
