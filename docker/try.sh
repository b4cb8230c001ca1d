#!/bin/bash
# Builds both images, starts the server, puts a file from a client container and gets it back, and compares all three.
# The server serves TCP, and SMB Direct too where this machine has an RDMA device. What it starts it removes; the
# images stay. './x docker' runs this, and first 'try.sh --engine', which only says whether there is an engine.
#
#   SMBDIRECT_BIN_DIR     where smbd and smbdirectd are
#   SMBDIRECT_BASE_IMAGE  what the images are made from (debian:bookworm-slim)
#   SMBDIRECT_COMPOSE     'no' starts the containers without compose where there is one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

base=${SMBDIRECT_BASE_IMAGE:-debian:bookworm-slim}
run=smbdirect-try-$$
bytes=$((32 << 20))
user=alice

say() { echo "docker: $*" >&2; }

die() {
	say "$*"
	exit 1
}

# -- what this machine has ---------------------------------------------------------------------------------------

skip() {
	echo "docker: skipped, $*"
	exit "${skipped_status:-0}"
}

find_engine() {
	command -v docker >/dev/null || skip "there is no docker command; 'apt-get install docker.io' has one"
	local problem
	problem=$(docker info 2>&1 >/dev/null) || skip "no engine answers (${problem##*$'\n'}); start dockerd, or set DOCKER_HOST"
}

find_compose() {
	compose=()
	if [ "${SMBDIRECT_COMPOSE:-}" = no ]; then return; fi
	if docker compose version >/dev/null 2>&1; then
		compose=(docker compose)
	elif docker-compose version >/dev/null 2>&1; then
		compose=(docker-compose)
	fi
	[ ${#compose[@]} = 0 ] || compose+=(--project-name "$run" --file compose.yaml)
}

has_rdma_device() { [ -e /dev/infiniband/rdma_cm ] && [ -n "$(ls /sys/class/infiniband 2>/dev/null)" ]; }

# -- images ------------------------------------------------------------------------------------------------------

# The host's network while building: packages are fetched then, and an engine may have no other way out.
build_images() {
	local image log=$work/build.log
	mkdir -p bin
	install -m 755 "$SMBDIRECT_BIN_DIR/smbd" "$SMBDIRECT_BIN_DIR/smbdirectd" bin/
	for image in server client; do
		say "building smbdirect-$image from $base"
		docker build --network host --build-arg BASE_IMAGE="$base" --file "$image.Dockerfile" \
			--tag "smbdirect-$image" . >"$log" 2>&1 || {
			tail -20 "$log" >&2
			die "building smbdirect-$image failed"
		}
	done
}

# -- containers: by compose, or with the same settings without it ------------------------------------------------

# start_server: sets server, its container.
start_server() {
	if [ ${#compose[@]} -gt 0 ]; then
		"${compose[@]}" up --detach "$service" >"$work/up.log" 2>&1 || {
			cat "$work/up.log" >&2
			die "compose could not start $service"
		}
		server=$("${compose[@]}" ps --quiet "$service")
		return
	fi
	local place=(--network "$run" --network-alias server)
	if [ $service = server-rdma ]; then
		place=(--network host --device /dev/infiniband --ulimit memlock=-1)
	else
		docker network create "$run" >/dev/null
	fi
	server=$(docker run --detach --name "$run" "${place[@]}" --volume "$run:/srv/share" \
		--env SMB_USER=$user --volume "$SMB_PASSWORD_FILE:/run/secrets/smb_password:ro" \
		--cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add SETUID --cap-add SETGID --cap-add DAC_OVERRIDE \
		--cap-add CHOWN --cap-add KILL \
		--security-opt no-new-privileges:true smbdirect-server)
}

# By number: an engine without iptables starts containers, but cannot answer their names.
find_address() {
	address=127.0.0.1
	[ $service = server-rdma ] ||
		address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$server")
}

# client COMMAND…: in a container of its own, beside the server.
client() {
	local place=$run
	if [ $service = server-rdma ]; then
		place=host
	elif [ ${#compose[@]} -gt 0 ]; then
		"${compose[@]}" run --rm -T client "$@"
		return
	fi
	docker run --rm --network "$place" --env SMB_USER=$user \
		--volume "$SMB_PASSWORD_FILE:/run/secrets/smb_password:ro" smbdirect-client "$@"
}

wait_until_healthy() {
	local health=starting end=$((SECONDS + 30))
	while [ $SECONDS -lt $end ]; do
		health=$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$server")
		case $health in
		"running healthy") return ;;
		running*) sleep 0.2 ;;
		*) break ;;
		esac
	done
	docker logs "$server" >&2
	die "the server is not up ($health); its log is above"
}

clean_up() {
	local status=$?
	{
		if [ ${#compose[@]} -gt 0 ]; then
			"${compose[@]}" down --volumes --timeout 5
		else
			docker rm --force --volumes "$run"
			docker network rm "$run"
			docker volume rm "$run"
		fi
	} >/dev/null 2>&1 </dev/null || true
	rm -rf "$work"
	exit $status
}

# -- the try -----------------------------------------------------------------------------------------------------

# Puts and gets in one client container, and prints what was put and what came back.
put_and_get() {
	client sh -euc '
		head -c "$1" /dev/urandom >/tmp/sent
		smbclient -A /run/smb-credentials "//$0/share" -c "put /tmp/sent sent; get sent /tmp/received" >&2
		sha256sum /tmp/sent /tmp/received' "$address" "$bytes"
}

# The client says so in the server's own words: NT_STATUS_LOGON_FAILURE.
refuses_wrong_password() {
	local answer
	! answer=$(client smbclient -U "$user%wrong" "//$address/share" -c ls 2>&1) &&
		grep -q NT_STATUS_LOGON_FAILURE <<<"$answer"
}

rdma_state() {
	[ $service = server-rdma ] || { echo no-device && return; }
	docker logs "$server" 2>&1 | grep -q 'listening for SMB Direct' && echo listening || echo not-listening
}

try() {
	start_server
	wait_until_healthy
	find_address
	local sums sent received stored rdma starter=run
	[ ${#compose[@]} = 0 ] || starter=compose
	sums=$(put_and_get) || die "the client failed; the server's log: $(docker logs "$server" 2>&1 | tail -20)"
	sent=$(awk '$2 == "/tmp/sent" { print $1 }' <<<"$sums")
	received=$(awk '$2 == "/tmp/received" { print $1 }' <<<"$sums")
	stored=$(docker exec "$server" sha256sum /srv/share/sent | cut -d' ' -f1)
	[ -n "$sent" ] && [ "$sent" = "$received" ] && [ "$sent" = "$stored" ] ||
		die "the file changed on its way: sent $sent, stored $stored, received $received"
	refuses_wrong_password || die "a wrong password was not refused with NT_STATUS_LOGON_FAILURE"
	rdma=$(rdma_state)
	[ "$rdma" != not-listening ] ||
		die "this machine has an RDMA device, the server does not listen on it: $(docker logs "$server" 2>&1 | tail -20)"
	echo "docker: ok transport=tcp rdma=$rdma started_by=$starter bytes=$bytes"
}

if [ "${1:-}" = --engine ]; then
	skipped_status=1 find_engine
	exit 0
fi
find_engine
: "${SMBDIRECT_BIN_DIR:?names the folder of smbd and smbdirectd}"
find_compose
work=$(mktemp -d)
trap clean_up EXIT
service=server
if has_rdma_device; then service=server-rdma; fi
export SMB_USER=$user SMB_PASSWORD_FILE=$work/password SMB_LISTEN=127.0.0.1:
head -c 18 /dev/urandom | base64 >"$SMB_PASSWORD_FILE"
build_images
try
