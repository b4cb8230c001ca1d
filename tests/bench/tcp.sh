#!/bin/bash
# tcp.sh: our server beside Samba 4.22 over TCP on loopback, shares on memory, twice in turn. './x bench tcp' runs it.
#   SMBDIRECT_BIN_DIR  our programs   BENCH_ROUNDS (2)   BENCH_MIB  size of the large file (1024)   BENCH_FILES (2000)
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${SMBDIRECT_BIN_DIR:?names the folder of our programs; './x bench tcp' sets it}"
. "$root/tests/bench/report.sh"
. "$root/tests/bench/servers.sh"

write_rows() {
	local protection key
	for protection in '' signed_ encrypted_; do
		for key in put get; do
			echo "$protection$key|$key of one large file${protection:+, ${protection%_}}|MiB/s"
		done
	done
	echo "create|create, write 4 KiB, close|files/s"
	echo "stat|stat (create, query, close in one message)|files/s"
	echo "open|open, read 4 KiB, close|files/s"
	echo "list|list|entries/s"
	echo "rename|rename|files/s"
	echo "delete|delete|files/s"
	echo "mkdir|mkdir|folders/s"
	for key in put get signed_put signed_get encrypted_put encrypted_get; do echo "${key}_cpu|${key//_/ }, a second of the server's CPU|MiB/CPU-s"; done
	for key in create stat open list rename delete mkdir; do echo "${key}_cpu|$key, a second of the server's CPU|1/CPU-s"; done
}

last_line() { print_ratios tcp "$work/rows"; }

prepare_folder
write_rows >"$work/rows"
head -c $((${BENCH_MIB:-1024} << 20)) /dev/urandom >"$work/large"
for ((round = 0; round < ${BENCH_ROUNDS:-2}; round++)); do
	for which in ours peer; do
		start_server $which || continue
		client transfer --smbclient "$(command -v smbclient)" --file "$work/large"
		client files --count "${BENCH_FILES:-2000}"
		stop_server
	done
done
conclude tcp "$work/rows" "Samba 4.22" smbdirect
