#!/bin/bash
# qemu.sh RESULTS SCRIPT [NAME=VALUE…]: runs a script of the lab in an emulated machine of two processors instead of User
# Mode Linux, where a system call costs what it does elsewhere in proportion. The inside is the lab's own (guest.sh).
# The kernel has everything built in, 9p and virtio included, and is named by SMBDIRECT_QEMU_KERNEL (a bzImage).
# Exit status as of tests/lab/run.sh. QEMU_TIMEOUT: seconds until the guest is killed (300).
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
results=$(realpath -m "$1") script=$(realpath "$2")
shift 2
mkdir -p "$results"
rm -f "$results"/{status,skip,ready,dmesg,log,serial,settings}

skip() {
	echo "$1" >"$results/skip"
	exit 77
}

kernel=${SMBDIRECT_QEMU_KERNEL:-}
[ -r "$kernel" ] || skip "SMBDIRECT_QEMU_KERNEL names no bzImage of a kernel for qemu"
for program in qemu-system-x86_64 busybox cpio; do
	command -v $program >/dev/null || skip "there is no $program (Debian: qemu-system-x86, busybox-static, cpio)"
done

write_settings() {
	local LAB=$root/tests/lab LAB_SCRIPT=$script LAB_LINKS=1 LAB_RDMA=rxe LAB_CAPTURE=no LAB_ARGS=() pair
	declare -p LAB LAB_SCRIPT LAB_LINKS LAB_RDMA LAB_CAPTURE LAB_ARGS
	echo "export LAB LAB_LINKS LAB_RDMA"
	for pair in "$@"; do printf 'export %s=%q\n' "${pair%%=*}" "${pair#*=}"; done
}

# The first process: the host's tree read-only under an overlay in memory, the results folder writable, and then the
# lab's guest, whose console here is virtio's.
write_init() {
	cat <<-END
		#!/bin/busybox sh
		b=/bin/busybox
		\$b mkdir -p /proc /sys /dev /host /memory /new
		\$b mount -t devtmpfs dev /dev
		\$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose host /host
		\$b mount -t tmpfs -o mode=755 memory /memory
		\$b mkdir /memory/upper /memory/work
		\$b mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new
		\$b mount -t proc proc /new/proc
		\$b mount -t sysfs sys /new/sys
		\$b mount -t devtmpfs dev /new/dev
		\$b mkdir -p /new/dev/pts /new/dev/shm
		\$b mount -t devpts -o ptmxmode=666 devpts /new/dev/pts
		\$b mount -t configfs config /new/sys/kernel/config
		\$b mount -t debugfs debug /new/sys/kernel/debug
		for memory in dev/shm run mnt srv tmp; do \$b mount -t tmpfs -o mode=755 memory /new/\$memory; done
		\$b chmod 1777 /new/dev/shm /new/tmp
		\$b mkdir -p "/new$results"
		\$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 results "/new$results"
		\$b rm -f /new/dev/tty1
		\$b ln -s hvc0 /new/dev/tty1
		export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
		exec \$b switch_root /new /bin/bash "$results/guest.sh" inside "$results"
	END
}

write_initrd() {
	local tree
	tree=$(mktemp -d)
	mkdir -p "$tree/bin"
	cp "$(command -v busybox)" "$tree/bin/busybox"
	write_init >"$tree/init"
	chmod 755 "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1)
	rm -rf "$tree"
}

share() { echo "-fsdev local,id=$1,path=$2,security_model=none,multidevs=remap${3:-} -device virtio-9p-pci,fsdev=$1,mount_tag=$1"; }

boot() {
	# Without the host's frequency the emulated clock is calibrated against a busy machine, and once ran 20 times fast.
	local khz
	khz=$(awk '/^cpu MHz/ { printf "%d", $4 * 1000; exit }' /proc/cpuinfo)
	: >"$results/log"
	# shellcheck disable=SC2046
	qemu-system-x86_64 -M q35 -nodefaults -vga none -display none -no-reboot -accel tcg,thread=multi,tb-size=512 \
		-cpu max,la57=off -smp 2 -m 3G -kernel "$kernel" -initrd "$results/initrd" \
		-append "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off ${khz:+tsc_early_khz=$khz}" \
		-chardev file,id=serial,path="$results/serial" -serial chardev:serial \
		-device virtio-serial-pci -chardev file,id=console,path="$results/log" -device virtconsole,chardev=console \
		-device virtio-rng-pci $(share host / ,readonly=on) $(share results "$results") \
		</dev/null >"$results/qemu.log" 2>&1 &
	guest=$!
	trap 'kill -KILL "$guest" 2>/dev/null; exit 143' TERM INT HUP
	local deadline=$((SECONDS + ${QEMU_TIMEOUT:-300}))
	while kill -0 "$guest" 2>/dev/null && [ ! -s "$results/status" ] && [ $SECONDS -lt $deadline ]; do sleep 0.2; done
	[ -s "$results/status" ] && sleep 0.5
	kill -KILL "$guest" 2>/dev/null
	wait "$guest" 2>/dev/null
	cat "$results/log"
	rm -f "$results/initrd"
	local status
	read -r status 2>/dev/null <"$results/status" && exit "$status"
	[ $SECONDS -lt $deadline ] || exit 124
	exit 125
}

cp "$root/tests/lab/guest.sh" "$results/guest.sh"
write_settings "$@" >"$results/settings"
write_initrd >"$results/initrd"
boot
