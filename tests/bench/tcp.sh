#!/bin/bash
# tcp.sh [--sign|--encrypt]: our server beside Samba 4.22 over TCP on loopback, shares on memory, twice in turn.
# './x bench tcp' runs it. With an option only a large file so protected is moved, and clients log on; the page stays.
#   SMBDIRECT_BIN_DIR  our programs   BENCH_ROUNDS (2)   BENCH_MIB  size of the large file (1024)   BENCH_FILES (2000)
#   BENCH_LOGONS (300)
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${SMBDIRECT_BIN_DIR:?names the folder of our programs; './x bench tcp' sets it}"
. "$root/tests/bench/report.sh"
. "$root/tests/bench/servers.sh"

case ${1:-} in
'') protection='' protections=('' signed_ encrypted_) ;;
--sign) protection=sign protections=(signed_) ;;
--encrypt) protection=encrypt protections=(encrypted_) ;;
*)
	echo "bench: tcp takes --sign, --encrypt or nothing, not '$1'" >&2
	exit 2
	;;
esac

write_rows() {
	local prefix key
	for prefix in "${protections[@]}"; do
		for key in put get; do
			echo "$prefix$key|$key of one large file${prefix:+, ${prefix%_}}|MiB/s"
		done
	done
	echo "setup|connect, negotiate, log on|clients/s"
	[ -n "$protection" ] || write_file_rows
	for prefix in "${protections[@]}"; do
		for key in put get; do echo "$prefix${key}_cpu|${prefix/_/ }$key, a second of the server's CPU|MiB/CPU-s"; done
	done
	echo "setup_cpu|clients logged on, a second of the server's CPU|1/CPU-s"
	[ -n "$protection" ] || for key in create stat open list rename delete mkdir; do
		echo "${key}_cpu|$key, a second of the server's CPU|1/CPU-s"
	done
}

write_file_rows() {
	echo "create|create, write 4 KiB, close|files/s"
	echo "stat|stat (create, query, close in one message)|files/s"
	echo "open|open, read 4 KiB, close|files/s"
	echo "list|list|entries/s"
	echo "rename|rename|files/s"
	echo "delete|delete|files/s"
	echo "mkdir|mkdir|folders/s"
}

last_line() { print_ratios tcp "$work/rows"; }

prepare_folder
write_rows >"$work/rows"
head -c $((${BENCH_MIB:-1024} << 20)) /dev/urandom >"$work/large"
for ((round = 0; round < ${BENCH_ROUNDS:-2}; round++)); do
	for which in ours peer; do
		start_server $which || continue
		client transfer --smbclient "$(command -v smbclient)" --file "$work/large" ${protection:+--protection $protection}
		client setup --count "${BENCH_LOGONS:-300}"
		[ -n "$protection" ] || client files --count "${BENCH_FILES:-2000}"
		stop_server
	done
done
[ -z "$protection" ] || put_into_page() { cat >/dev/null; }
conclude tcp "$work/rows" "Samba 4.22" smbdirect
