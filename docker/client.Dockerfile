# A client: smbclient, and mount.cifs for containers that may mount. The context is this folder.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends smbclient cifs-utils \
    && rm -rf /var/lib/apt/lists/*

COPY client.sh /usr/local/bin/client.sh

ENTRYPOINT ["client.sh"]
CMD ["bash"]
