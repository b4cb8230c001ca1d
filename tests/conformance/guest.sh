#!/bin/bash
# guest.sh [ARG…]: what the lab's guest runs for './x conformance smbdirect': the driver on the client's host, which
# starts the server on the other one. The second link has no RDMA device: a network interface that clients reach over TCP alone.
ulimit -l unlimited
if [ "$LAB_LINKS" -gt 1 ]; then
	rdma link delete rdma_c2
	ip netns exec server rdma link delete rdma_s2
fi
exec "$SMBDIRECT_BIN_DIR/conformance" smbdirect "$@"
