# The server: smbd, which starts smbdirectd where the container was given an RDMA device.
# './x docker' puts the two programs into bin/ and builds this; the context is this folder.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}

# The providers turn a device file into verbs; rdma-core has their device list and 'rdma link'. Kerberos is looked for
# when a keytab is configured.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        rdma-core ibverbs-providers libibverbs1 librdmacm1 libgssapi-krb5-2 \
    && rm -rf /var/lib/apt/lists/*

COPY bin/smbd bin/smbdirectd /usr/local/sbin/
COPY server.sh /usr/local/sbin/server.sh
COPY smb.conf /etc/smbdirect/smb.conf
# Programs built against a newer C library than the image's end the build here, not the first start.
RUN smbd --version && smbdirectd --version

VOLUME /srv/share
EXPOSE 445
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["smbd", "status"]
ENTRYPOINT ["server.sh"]
