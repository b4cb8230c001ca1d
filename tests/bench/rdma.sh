#!/bin/bash
# rdma.sh: our server beside ksmbd over SMB Direct, in one guest of the lab (rdma-guest.sh); 4 KiB at depth 1 also in an
# emulated machine (qemu.sh); the relay between our daemons by itself, on this machine. './x bench rdma' runs it.
#   SMBDIRECT_BIN_DIR  our daemons   BENCH_ROUNDS (3)   BENCH_SECONDS  of a job (2)   BENCH_RESULTS  folder for logs
#   SMBDIRECT_QEMU_KERNEL  bzImage for the emulated machine; without it that part is skipped
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${SMBDIRECT_BIN_DIR:?names the folder of our programs; './x bench rdma' sets it}"
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
	echo "qemu_write4k_qd1|random write, 4 KiB, depth 1, qemu|1/s"
	echo "qemu_read4k_qd1|random read, 4 KiB, depth 1, qemu|1/s"
	echo "relay_qd1|relay alone on this machine, depth 1|1/s"
	echo "relay_qd1_p50_us|relay alone, depth 1, median|us"
	echo "relay_qd32|relay alone on this machine, depth 32|1/s"
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
settings=(SMBDIRECT_BIN_DIR="$SMBDIRECT_BIN_DIR" KSMBD_TOOLS="$tools" BENCH_SECONDS="$seconds"
	BENCH_SERVERS="${BENCH_SERVERS:-ours peer}")

# take PART STATUS FOLDER PREFIX: the figures that a guest left in a folder, or the reason why there are none.
take() {
	local part=$1 status=$2 folder=$3 prefix=$4
	case $status in
	0) awk -v prefix="$prefix" '{ if ($2 != "skipped" && $2 != "failed") $2 = prefix $2; print }' "$folder/figures" >>"$figures" ;;
	77) figure "$part skipped $(cat "$folder/skip")" ;;
	*)
		figure "$part failed the guest ended with status $status"
		sed 's/^/  smbd: /' "$folder/smbd.log" 2>/dev/null | tail -5
		;;
	esac
}

lab_options=()
for setting in "${settings[@]}" BENCH_ROUNDS="$rounds"; do lab_options+=(--env "$setting"); done
"$root/tests/lab/run.sh" --results "$results/uml" --memory 3G --timeout $((60 + rounds * 2 * (30 + 12 * seconds))) \
	"${lab_options[@]}" "$root/tests/bench/rdma-guest.sh"
take lab $? "$results/uml" ''
"$root/tests/bench/qemu.sh" "$results/qemu" "$root/tests/bench/rdma-guest.sh" "${settings[@]}" BENCH_ROUNDS=1 \
	BENCH_JOBS="write4k_qd1 read4k_qd1"
take qemu $? "$results/qemu" qemu_
if [ -x "$SMBDIRECT_BIN_DIR/bench_client" ]; then
	"$SMBDIRECT_BIN_DIR/bench_client" relay 2>"$results/relay.log" | sed 's/^/ours /' >>"$figures"
else
	figure "relay skipped there is no bench_client; 'cargo build --bins' makes it"
fi
conclude rdma "$rows" ksmbd smbdirect "devices alone"
