# servers.sh: what the benchmarks on this machine's loopback source: our server and Debian's Samba 4.22, each with a
# share on memory, its own folders and a port nobody else has. One of them runs at a time.
# shellcheck shell=bash

bench_user=games # an account each Debian has
bench_password=Bench-word-1

# prepare_folder: everything the servers keep is under $work, and gone with it.
prepare_folder() {
	local memory=/dev/shm
	[ -w $memory ] || memory=${TMPDIR:-/tmp}
	work=$(mktemp -d "$memory/smbdirect-bench.XXXXXX")
	chmod 755 "$work"
	trap 'stop_server; rm -rf "$work"' EXIT
	trap 'exit 143' INT TERM HUP
	figures=$work/figures
	: >"$figures"
	server_pid=''
}

# start_server ours|peer: sets $server_pid and $address, or keeps the reason why not and fails.
start_server() {
	server=$1
	port=$(free_port)
	address=127.0.0.1:$port
	folder=$work/$server
	rm -rf "$folder"
	mkdir -p "$folder"/{share,private,state,lock,cache,run}
	chmod 755 "$folder"
	chown $bench_user "$folder/share"
	case $server in
	ours) start_ours ;;
	peer) start_samba ;;
	esac || return
	wait_for_port || {
		figure "$server failed it does not listen within 10 s: $(tail -1 "$folder/log" 2>/dev/null)"
		stop_server
		return 1
	}
}

start_ours() {
	local smbd=$SMBDIRECT_BIN_DIR/smbd
	[ -x "$smbd" ] || {
		figure "ours skipped there is no smbd in $(basename "$SMBDIRECT_BIN_DIR"); 'cargo build --bins' makes it"
		return 1
	}
	cat >"$folder/smb.conf" <<-END
		[global]
			server smb transports = tcp:$port
			private dir = $folder/private
			state directory = $folder/state
			lock directory = $folder/run
			passdb file = $folder/users
			log level = error
		[share]
			path = $folder/share
			read only = no
	END
	"$smbd" --config "$folder/smb.conf" passwd add $bench_user --stdin <<<"$bench_password" >"$folder/log" 2>&1 || {
		figure "ours failed smbd passwd add: $(tail -1 "$folder/log")"
		return 1
	}
	"$smbd" --config "$folder/smb.conf" >>"$folder/log" 2>&1 &
	server_pid=$!
}

start_samba() {
	local samba
	samba=$("$root/tests/interop/get-samba.sh" 2>"$work/get-samba.log") || {
		figure "peer skipped Samba 4.22 cannot be had: $(tail -1 "$work/get-samba.log")"
		return 1
	}
	cat >"$folder/smb.conf" <<-END
		[global]
			server role = standalone server
			interfaces = lo
			bind interfaces only = yes
			smb ports = $port
			disable netbios = yes
			load printers = no
			private dir = $folder/private
			state directory = $folder/state
			lock directory = $folder/lock
			cache directory = $folder/cache
			pid directory = $folder/run
			ncalrpc dir = $folder/run/ncalrpc
			log file = $folder/log
			log level = 0
		[share]
			path = $folder/share
			read only = no
	END
	printf '%s\n%s\n' "$bench_password" "$bench_password" |
		"$samba/run" smbpasswd -c "$folder/smb.conf" -s -a $bench_user >"$folder/log" 2>&1 || {
		figure "peer failed smbpasswd: $(tail -1 "$folder/log")"
		return 1
	}
	"$samba/run" smbd --foreground --debug-stdout --configfile="$folder/smb.conf" </dev/null >>"$folder/log" 2>&1 &
	server_pid=$!
}

stop_server() {
	[ -n "${server_pid:-}" ] || return 0
	kill "$server_pid" 2>/dev/null
	local tries
	for ((tries = 0; tries < 50; tries++)); do
		kill -0 "$server_pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$server_pid" 2>/dev/null
	wait "$server_pid" 2>/dev/null
	server_pid=''
}

free_port() {
	local port
	while true; do
		port=$((20000 + RANDOM % 12000)) # below the ports the system gives to clients
		[ -n "$(ss -Hltn "sport = $port")" ] || break
	done
	echo $port
}

wait_for_port() {
	local tries
	for ((tries = 0; tries < 200; tries++)); do
		[ -n "$(ss -Hltn "sport = $port")" ] && return
		kill -0 "$server_pid" 2>/dev/null || return
		sleep 0.05
	done
	return 1
}

# client ARG…: the benchmarks' client against the running server; its figures are kept under the server's name.
client() {
	local output
	output=$("$SMBDIRECT_BIN_DIR/bench_client" "$@" --address "$address" --user $bench_user --password $bench_password \
		--share share --server-pid "$server_pid" 2>"$work/client.log")
	local status=$?
	sed "s/^/$server /" <<<"$output" | grep -E '^[a-z]+ [a-z]' >>"$figures"
	[ $status = 0 ] || figure "$server failed $1: $(tail -1 "$work/client.log")"
}
