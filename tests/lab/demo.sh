#!/bin/bash
# demo.sh: the main job, inside the guest. The server runs smbd, which starts smbdirectd; the client mounts its share
# over SMB Direct with the kernel's own client and copies a 256 MiB file and a source tree both ways. Whatever is read
# back was written before the last mount, so it comes from the server and not from the client's cache. At the end
# nothing of the mounts may be left, the client may have complained of nothing, and both daemons end in order.
#
#   SMBDIRECT_BIN_DIR   the two daemons    DEMO_TREE   the tree to copy    DEMO_MIB   size of the file (256)
#
# The last line is 'demo: ok rdma_write_bytes=N rdma_read_bytes=N channels=N owner=PID'. A step that fails is named,
# with the folder of its logs, and the exit status is 1. './x demo' runs this.
set -uo pipefail
. "$LAB/hosts.sh"

address=10.9.0.1
mount_point=/mnt/a
client=/mnt/client # what the client has
share=/srv/share   # what the server serves
config=/run/demo/smb.conf
mib=${DEMO_MIB:-256}
table=/run/demo/table

step() { current=$*; }

fail() {
	echo "demo: failed at: $current${1:+: $1}"
	tail -n 3 "$LAB_RESULTS/step.log" | sed 's/^/  said: /'
	tail -n 5 "$LAB_RESULTS/smbd.log" | sed 's/^/  smbd: /'
	dmesg | grep 'CIFS: ' | tail -n 3 | sed 's/^/  client: /'
	echo "demo: logs are in $LAB_RESULTS (smbd.log, step.log, dmesg)"
	exit 1
}

# Runs one command of a step, its output kept for the reader of a failure.
run() { "$@" >>"$LAB_RESULTS/step.log" 2>&1 || fail "'$*' (status $?)"; }

smbd() { server "$SMBDIRECT_BIN_DIR/smbd" "$@"; }

status() { smbd status --json; }

# -- the two hosts -----------------------------------------------------------------------------------------------

prepare() {
	step "prepare the files"
	mkdir -p $mount_point $client/tree $share /run/demo
	run dd if=/dev/urandom of=$client/file bs=1M count="$mib"
	tar -C "$DEMO_TREE" --exclude=./target --exclude=./.git -cf - . | tar -C $client/tree -xf - || fail "cannot copy $DEMO_TREE"
	step "create the user"
	run useradd --no-create-home demo
	run chown demo $share
}

start_server() {
	step "find the daemons"
	[ -x "$SMBDIRECT_BIN_DIR/smbd" ] && [ -x "$SMBDIRECT_BIN_DIR/smbdirectd" ] ||
		fail "there is no smbd and smbdirectd in $SMBDIRECT_BIN_DIR; 'cargo build --bins' makes them"
	step "start smbd"
	cat >$config <<-END
		[global]
			server smb transports = tcp, rdma
		[share]
			path = $share
			read only = no
	END
	smbd --config $config passwd add demo --stdin <<<"demo-word" >>"$LAB_RESULTS/step.log" 2>&1 || fail "passwd add (status $?)"
	smbd --config $config >"$LAB_RESULTS/smbd.log" 2>&1 &
	server_job=$!
	wait_until 5 listens_for_rdma || fail "it does not listen for RDMA within 5 s"
}

listens_for_rdma() { status 2>>"$LAB_RESULTS/step.log" | says '.gateway.interfaces | length > 0'; }

mount_share() {
	step "mount the share over SMB Direct ($1)"
	run mount -t cifs //$address/share $mount_point -o "vers=3.1.1,rdma,username=demo,password=demo-word"
	dmesg | grep -q 'RDMA transport established' || fail "the client did not use RDMA"
}

# Writes back, remembers who served this mount, and unmounts.
unmount_share() {
	status >"$LAB_RESULTS/status-$1.json" 2>>"$LAB_RESULTS/step.log" || fail "'smbd status --json' (status $?)"
	run umount $mount_point
}

# -- measuring and comparing -------------------------------------------------------------------------------------

# timed LABEL BYTES COMMAND…: a step with a line in the table.
timed() {
	local label=$1 bytes=$2 began=${EPOCHREALTIME/./} micros
	shift 2
	step "$label"
	run "$@"
	micros=$((${EPOCHREALTIME/./} - began))
	printf '  %-36s %11d bytes %7d ms %7d MB/s\n' "$label" "$bytes" $((micros / 1000)) $((bytes / (micros + 1))) >>$table
}

upload_tree() { cp -r $client/tree $mount_point/ && sync -f $mount_point/tree; }

download_tree() { cp -r $mount_point/tree $client/tree-back; }

# One hash for a file, or for every path and content of a tree. Leaves it in $hash, and keeps what the client's own have:
# they are compared twice.
declare -A known
sum() {
	hash=${known[$1]:-}
	[ -z "$hash" ] || return 0
	hash=$(
		if [ -d "$1" ]; then
			(cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 openssl dgst -sha256 -r) | openssl dgst -sha256 -r
		else
			openssl dgst -sha256 -r "$1"
		fi
	) && hash=${hash%% *} && [ ${#hash} = 64 ] || fail "cannot hash $1"
	known[$1]=$hash
}

# compare WHAT A B: both exist and have the same hash.
compare() {
	local here
	step "compare $1"
	sum "$2" && here=$hash && sum "$3"
	[ "$here" = "$hash" ] || fail "SHA-256 differs: $here, $hash"
	printf '  %-36s sha256 %s…\n' "$1" "${here:0:16}" >>$table
}

# -- the end -----------------------------------------------------------------------------------------------------

see_that_nothing_is_left() {
	step "see that nothing of the mounts is left"
	wait_until 5 nothing_is_left || fail "after 5 s: $(jq -c '[.children, .gateway.totals]' "$LAB_RESULTS/status-end.json")"
}

nothing_is_left() {
	status >"$LAB_RESULTS/status-end.json" 2>>"$LAB_RESULTS/step.log" &&
		says '.children == [] and (.gateway.totals | [.connections, .queue_pairs, .memory_regions, .pinned_bytes] == [0, 0, 0, 0])' \
			<"$LAB_RESULTS/status-end.json"
}

# The kernel client tries iWARP's port 5445 first, where nobody listens.
see_that_the_client_is_content() {
	local complaints
	step "see that the client complained of nothing"
	complaints=$(dmesg | grep -E 'CIFS|smbdirect.*(error|fail)' | grep -vE ':5445 failed|RDMA transport established|Attempting to mount')
	[ -z "$complaints" ] || fail "$(head -3 <<<"$complaints")"
}

# smbd ends all it started before it ends itself.
stop_server() {
	local supervisor smbdirectd
	step "end smbd"
	supervisor=$(jq -e .supervisor "$LAB_RESULTS/status-end.json") && smbdirectd=$(jq -e .gateway.pid "$LAB_RESULTS/status-end.json") ||
		fail "status-end.json names no processes"
	run kill "$supervisor"
	wait_until 5 ended "$supervisor" || fail "it still runs after 5 s"
	ended "$smbdirectd" || fail "it left its smbdirectd running"
	wait "$server_job" || fail "it ended with status $?"
}

ended() { ! [ -e "/proc/$1" ]; }

# -- what a person reads -----------------------------------------------------------------------------------------

# One line for each channel of each mount: who served it, from where, on which device, how many bytes by RDMA, and how
# many bytes of RDMA memory the child that served it has copied.
print_channels() {
	local when
	for when in write read; do
		jq -r --arg when "$when" '
			.gateway as $gateway
			| .children[] | . as $child | .status.channels[]?
			| . as $channel
			| ([$gateway.connections[] | select(.connection == $channel.connection)] | first) as $rdma
			| [$when, (.transport | ascii_downcase), .peer, .device, $child.pid, $gateway.pid,
				($rdma.counts.rdma_read_bytes // 0), ($rdma.counts.rdma_write_bytes // 0), $child.status.region_bytes_copied]
			| @tsv' "$LAB_RESULTS/status-$when.json"
	done | awk -F'\t' '
		BEGIN { printf "  %-6s %-5s %-16s %-8s %-11s %-11s %12s %12s %14s\n", "mount", "via", "client", "device", "smbd child", "smbdirectd", "RDMA READ", "RDMA WRITE", "copied by smbd" }
		{ printf "  %-6s %-5s %-16s %-8s pid %-7s pid %-7s %12s %12s %14s\n", $1, $2, $3, $4, $5, $6, $7, $8, $9 }'
}

report() {
	local read_bytes write_bytes channels owner copied
	step "read the server's counters"
	read_bytes=$(jq -e '.gateway.totals.rdma_read_bytes' "$LAB_RESULTS/status-read.json") &&
		write_bytes=$(jq -e '.gateway.totals.rdma_write_bytes' "$LAB_RESULTS/status-read.json") &&
		channels=$(jq -e '[.children[].status.channels[]? | select(.transport | ascii_downcase == "rdma")] | length' "$LAB_RESULTS/status-read.json") &&
		owner=$(jq -e '[.children[] | select(any(.status.channels[]?; .transport | ascii_downcase == "rdma")) | .pid] | last' "$LAB_RESULTS/status-read.json") &&
		copied=$(jq -es '(.[1].gateway.totals.region_bytes_copied) + ([.[].children[].status.region_bytes_copied] | add)' \
			"$LAB_RESULTS/status-write.json" "$LAB_RESULTS/status-read.json") ||
		fail "status-write.json and status-read.json lack them"
	printf '  %-36s %11d bytes by RDMA, %d copied by smbd and smbdirectd\n' "payload" $((read_bytes + write_bytes)) "$copied" >>$table
	echo
	print_channels
	echo
	cat $table
	echo
	step "see that the file went by RDMA"
	[ "$read_bytes" -ge $((mib << 20)) ] || fail "only $read_bytes bytes were fetched by RDMA READ"
	[ "$write_bytes" -ge $((mib << 20)) ] || fail "only $write_bytes bytes were delivered by RDMA WRITE"
	# A copied payload would count its every byte; what counts are the messages of more than 4 KiB, such as listings.
	step "see that no payload was copied"
	[ "$copied" -lt $(((read_bytes + write_bytes) / 16)) ] || fail "$copied bytes were"
	echo "demo: ok rdma_write_bytes=$write_bytes rdma_read_bytes=$read_bytes channels=$channels owner=$owner"
}

: >"$LAB_RESULTS/step.log"; : >"$LAB_RESULTS/smbd.log"
prepare
start_server
tree_bytes=$(du -sb --apparent-size $client/tree | cut -f1)
tree_files=$(find $client/tree -type f | wc -l)
mount_share "to write"
timed "$mib MiB file, client to server" $((mib << 20)) dd if=$client/file of=$mount_point/file bs=4M conv=fsync
timed "tree of $tree_files files, client to server" "$tree_bytes" upload_tree
unmount_share write
compare "the file on the server" $client/file $share/file
compare "the tree on the server" $client/tree $share/tree
mount_share "to read"
timed "$mib MiB file, server to client" $((mib << 20)) dd if=$mount_point/file of=$client/file-back bs=4M
timed "tree of $tree_files files, server to client" "$tree_bytes" download_tree
unmount_share read
see_that_nothing_is_left
compare "the file read back" $client/file $client/file-back
compare "the tree read back" $client/tree $client/tree-back
see_that_the_client_is_content
stop_server
report
