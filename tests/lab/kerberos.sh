#!/bin/bash
# kerberos.sh: inside the guest. The server has a KDC beside smbd; the kernel's client gets a ticket and mounts with
# sec=krb5 over TCP and over SMB Direct, plain, signed and sealed. What is written comes back after another mount, and the
# server's log says that each session was established by Kerberos.
#
#   SMBDIRECT_BIN_DIR   the two daemons
#
# The last line is 'kerberos: ok mounts=N'.
set -uo pipefail
. "$LAB/hosts.sh"

realm=TEST.EXAMPLE
host=files.test.example
folder=/run/realm
mount_point=/mnt/a
log=$LAB_RESULTS/step.log

fail() {
	echo "kerberos: failed: $1"
	tail -n 5 "$log" | sed 's/^/  said: /'
	tail -n 5 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	dmesg | grep CIFS | tail -n 5 | sed 's/^/  client: /'
	exit 1
}

run() { "$@" >>"$log" 2>&1 || fail "'$*' (status $?)"; }

start_kdc() {
	mkdir -p $folder /mnt/share $mount_point
	echo "10.9.0.1 $host" >>/etc/hosts
	cat >/etc/krb5.conf <<-END
		[libdefaults]
			default_realm = $realm
			dns_lookup_kdc = false
			dns_canonicalize_hostname = false
			rdns = false
			default_ccache_name = FILE:/tmp/krb5cc_%{uid}
		[realms]
			$realm = {
				kdc = 10.9.0.1
			}
		[domain_realm]
			.test.example = $realm
	END
	cat >$folder/kdc.conf <<-END
		[kdcdefaults]
			kdc_listen = 10.9.0.1:88
			kdc_tcp_listen = 10.9.0.1:88
		[realms]
			$realm = {
				database_name = $folder/principal
				key_stash_file = $folder/stash
				supported_enctypes = aes256-cts-hmac-sha1-96:normal
			}
	END
	export KRB5_KDC_PROFILE=$folder/kdc.conf
	run kdb5_util -r $realm create -s -P master
	run kadmin.local -r $realm -q "addprinc -pw demo-word demo"
	run kadmin.local -r $realm -q "addprinc -randkey cifs/$host"
	run kadmin.local -r $realm -q "ktadd -k $folder/keytab cifs/$host"
	server krb5kdc -n -r $realm >>"$log" 2>&1 &
	run wait_until 10 server bash -c 'exec 3<>/dev/tcp/10.9.0.1/88'
}

start_server() {
	run useradd --no-create-home demo
	run chown demo /mnt/share
	cat >$folder/smb.conf <<-END
		[global]
			server smb transports = tcp, rdma
			kerberos method = dedicated keytab
			dedicated keytab file = $folder/keytab
			realm = $realm
			ntlm auth = disabled
		[share]
			path = /mnt/share
			read only = no
	END
	server "$SMBDIRECT_BIN_DIR/smbd" --config $folder/smb.conf >"$LAB_RESULTS/smbd.log" 2>&1 &
	smbd_job=$!
	run wait_until 10 listens_for_rdma
}

listens_for_rdma() {
	server "$SMBDIRECT_BIN_DIR/smbd" --config $folder/smb.conf status --json 2>>"$log" |
		says '.gateway.interfaces | length > 0'
}

# A guest's kernel without upcalls asks nobody for tickets.
can_ask_for_tickets() { ! dmesg | grep -q 'upcall support disabled'; }

mount_with() {
	mount_as "$1" >>"$log" 2>&1 && return
	can_ask_for_tickets || skip "the guest's kernel has no CONFIG_CIFS_UPCALL"
	fail "mounting with $1"
}

mount_as() { mount -t cifs //$host/share $mount_point -o "ip=10.9.0.1,vers=3.1.1,cruid=0,username=demo,$1"; }

: >"$LAB_RESULTS/smbd.log"
start_kdc
start_server
run kinit demo <<<"demo-word"
mounts=0
# Sealed, this client sizes its READs and WRITEs for RDMA and sends them in messages (README).
inline=rsize=160000,wsize=1000000
for options in sec=krb5 sec=krb5i sec=krb5,seal sec=krb5,rdma sec=krb5i,rdma sec=krb5,seal,rdma,$inline; do
	head -c 3000000 /dev/urandom >/tmp/sent
	mount_with $options
	run cp /tmp/sent "$mount_point/$options"
	run umount $mount_point
	mount_with $options
	run cmp /tmp/sent "$mount_point/$options"
	run umount $mount_point
	[ "$(stat -c %U "/mnt/share/$options")" = demo ] || fail "$options: not the user's file"
	mounts=$((mounts + 2))
done
established=$(grep -c 'logged on.*mechanism="Kerberos"' "$LAB_RESULTS/smbd.log")
[ "$established" -ge $mounts ] || fail "$established sessions by Kerberos of $mounts"
kdestroy -q
mount -t cifs //$host/share $mount_point -o ip=10.9.0.1,vers=3.1.1,username=demo,password=demo-word,sec=ntlmssp >>"$log" 2>&1 &&
	fail "a password was enough"
kill $smbd_job
wait $smbd_job
echo "kerberos: ok mounts=$mounts"
