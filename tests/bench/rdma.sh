#!/bin/bash
# rdma.sh: our server beside ksmbd over SMB Direct, in one guest of the lab (rdma-guest.sh). './x bench rdma' runs it.
#   SMBDIRECT_BIN_DIR  our daemons   BENCH_ROUNDS (3)   BENCH_SECONDS  of a job (2)   BENCH_RESULTS  folder for logs
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tests/bench/report.sh"

write_rows() {
	echo "seq_write|sequential write, 4 MiB blocks|MiB/s|wire_read"
	echo "seq_read|sequential read, 4 MiB blocks|MiB/s|wire_write"
	echo "write1m_qd4|write, 1 MiB blocks, depth 4|MiB/s|wire_read"
	echo "read1m_qd4|read, 1 MiB blocks, depth 4|MiB/s|wire_write"
	echo "write4k_qd1|random write, 4 KiB, depth 1|1/s"
	echo "read4k_qd1|random read, 4 KiB, depth 1|1/s"
	echo "write4k_qd32|random write, 4 KiB, depth 32|1/s"
	echo "read4k_qd32|random read, 4 KiB, depth 32|1/s"
}

last_line() { print_ratios rdma "$rows"; }

results=${BENCH_RESULTS:-}
[ -n "$results" ] || {
	results=$(mktemp -d "${TMPDIR:-/tmp}/smbdirect-bench.XXXXXX")
	trap 'rm -rf "$results"' EXIT
}
mkdir -p "$results"
rows=$results/rows
write_rows >"$rows"
figures=$results/figures
rm -f "$figures"
tools=$("$root/tests/bench/get-ksmbd-tools.sh" 2>"$results/get-ksmbd-tools.log") ||
	tools=none # the guest then says so of ksmbd alone
rounds=${BENCH_ROUNDS:-3} seconds=${BENCH_SECONDS:-2}
"$root/tests/lab/run.sh" --results "$results" --memory 3G --timeout $((60 + rounds * 2 * (30 + 12 * seconds))) \
	--env SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" --env KSMBD_TOOLS="$tools" --env BENCH_ROUNDS="$rounds" \
	--env BENCH_SECONDS="$seconds" --env BENCH_SERVERS="${BENCH_SERVERS:-ours peer}" "$root/tests/bench/rdma-guest.sh"
status=$?
touch "$figures"
case $status in
0) ;;
77) figure "all skipped $(cat "$results/skip")" ;;
*)
	figure "all failed the guest ended with status $status"
	sed 's/^/  smbd: /' "$results/smbd.log" 2>/dev/null | tail -5
	;;
esac
conclude rdma "$rows" ksmbd smbdirect "devices alone"
