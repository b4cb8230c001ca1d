# rdma-rows.sh: the rows of rdma.sh's table and its last line, which reads $figures and $rows. Sourced behind report.sh.
# shellcheck shell=bash

write_rows() {
	echo "seq_write|sequential write, 4 MiB blocks|MiB/s|wire_read"
	echo "seq_read|sequential read, 4 MiB blocks|MiB/s|wire_write"
	echo "write1m_qd4|write, 1 MiB blocks, depth 4|MiB/s|wire_read"
	echo "read1m_qd4|read, 1 MiB blocks, depth 4|MiB/s|wire_write"
	echo "write4k_qd1|random write, 4 KiB, depth 1|1/s"
	echo "read4k_qd1|random read, 4 KiB, depth 1|1/s"
	echo "write4k_qd32|random write, 4 KiB, depth 32|1/s"
	echo "read4k_qd32|random read, 4 KiB, depth 32|1/s"
	local way label job rest
	for way in "unsigned|unsigned" "signed_transform|signed, RDMA transform" "signed_inline|signed, in messages"; do
		for job in "write|write 1 MiB, depth 4" "read|read 1 MiB, depth 4" "seq_write|write 1 MiB" "seq_read|read 1 MiB"; do
			label="${job#*|}, ${way#*|}" rest="MiB/s||unsigned_${job%|*}"
			echo "${way%|*}_${job%|*}|$label|$rest"
		done
	done
	echo "echo_p50|ECHO, median|us"
	echo "echo_p99|ECHO, 99 of 100|us"
	echo "qemu_write4k_qd1|random write, 4 KiB, depth 1, qemu|1/s"
	echo "qemu_read4k_qd1|random read, 4 KiB, depth 1, qemu|1/s"
	echo "qemu_echo_p50|ECHO, median, qemu|us"
	echo "qemu_echo_p99|ECHO, 99 of 100, qemu|us"
	echo "relay_qd1|relay alone on this machine, depth 1|1/s"
	echo "relay_qd1_p50_us|relay alone, depth 1, median|us"
	echo "relay_qd32|relay alone on this machine, depth 32|1/s"
}

# The ratios, and of our own server alone what RDMA gains a session that signs.
last_line() {
	best_figures "$rows" | awk -v line="$(print_ratios rdma "$rows")" '
		$1 == "ours" { best[$2] = $3 }
		END {
			count = split("write read seq_write seq_read", jobs, " ")
			for (i = 1; i <= count; i++) {
				transform = best["signed_transform_" jobs[i]]
				inline = best["signed_inline_" jobs[i]]
				if (transform > 0 && inline > 0) line = line sprintf(" transform_over_inline_%s=%.2f", jobs[i], transform / inline)
			}
			print line
		}'
}
