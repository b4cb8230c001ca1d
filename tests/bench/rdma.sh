#!/bin/bash
# rdma.sh: our server beside ksmbd over SMB Direct, in one guest of the lab (rdma-guest.sh); 4 KiB at depth 1 and ECHO also
# in an emulated machine (qemu.sh); the relay between our daemons by itself, on this machine. './x bench rdma' runs it.
#   SMBDIRECT_BIN_DIR  our daemons   BENCH_ROUNDS (3)   BENCH_SECONDS  of a job (2)   BENCH_RESULTS  folder for logs
#   SMBDIRECT_QEMU_KERNEL  bzImage for the emulated machine; without it that part is skipped
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${SMBDIRECT_BIN_DIR:?names the folder of our programs; './x bench rdma' sets it}"
. "$root/tests/bench/report.sh"
. "$root/tests/bench/rdma-rows.sh"

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
"$root/tests/lab/run.sh" --results "$results/uml" --memory 3G --timeout $((60 + rounds * 2 * (45 + 12 * seconds))) \
	"${lab_options[@]}" "$root/tests/bench/rdma-guest.sh"
take lab $? "$results/uml" ''
"$root/tests/bench/qemu.sh" "$results/qemu" "$root/tests/bench/rdma-guest.sh" "${settings[@]}" BENCH_ROUNDS=1 \
	BENCH_ECHOES=1000 BENCH_JOBS="write4k_qd1 read4k_qd1 echo"
take qemu $? "$results/qemu" qemu_
if [ -x "$SMBDIRECT_BIN_DIR/bench_client" ]; then
	"$SMBDIRECT_BIN_DIR/bench_client" relay 2>"$results/relay.log" | sed 's/^/ours /' >>"$figures"
else
	figure "relay skipped there is no bench_client; 'cargo build --bins' makes it"
fi
conclude rdma "$rows" ksmbd smbdirect "devices alone"
