#!/bin/bash
# handoff.sh: how fast a client's further connections reach the process that serves it, and what an idle client's
# process takes, beside Samba 4.22's. './x bench handoff' runs it.
#   SMBDIRECT_BIN_DIR  our programs   BENCH_COUNT  connections timed one by one (1000)
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${SMBDIRECT_BIN_DIR:?names the folder of our programs; './x bench handoff' sets it}"
. "$root/tests/bench/report.sh"
. "$root/tests/bench/servers.sh"

write_rows() {
	echo "p50_us|connect to the owner's answer, median|us"
	echo "p99_us|connect to the owner's answer, 99 of 100|us"
	echo "per_s|handoffs of 8 clients at once|1/s"
	echo "per_s_cpu|handoffs a second of the server's CPU|1/CPU-s"
	echo "pss_kb|memory (PSS) of an idle client's process|KiB"
}

# Our figures as they are, and the peer's memory.
last_line() {
	awk '$1 == "ours" && $2 ~ /^(p50_us|p99_us|per_s|pss_kb)$/ { value[$2] = $3 }
		$1 == "peer" && $2 == "pss_kb" { value["peer_pss_kb"] = $3 }
		END {
			count = split("p50_us p99_us per_s pss_kb peer_pss_kb", keys, " ")
			for (i = 1; i <= count; i++) if (keys[i] in value) line = line " " keys[i] "=" sprintf("%.0f", value[keys[i]])
			print "bench handoff:" line
		}' "$figures"
}

prepare_folder
write_rows >"$work/rows"
for which in ours peer; do
	start_server $which || continue
	client handoff --count "${BENCH_COUNT:-1000}"
	stop_server
done
conclude handoff "$work/rows" "Samba 4.22" smbdirect
