# syntax=docker/dockerfile:1
# The image that docker-compose.yml runs: the program, the libraries it is linked to and certificates, without a shell.
# CI lints it and does not build it, since CI has no container engine; `scripts/release-test` runs what it holds.
#
#   docker build --tag doorbell .
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges --env-file doorbell.env doorbell

# By digest, so that the same sources give the same image: renew it with the version.
FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
# librdkafka is compiled from source, against Debian's OpenSSL and zlib. Versions are not pinned: security updates of the
# base image's release are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ libssl-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /usr/src/doorbell
COPY . .
# The caches stay on the builder, so the program is moved out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/usr/src/doorbell/target \
    cargo build --release --locked --bin doorbell \
    && strip -o /tmp/doorbell target/release/doorbell \
    && scripts/licences >/tmp/THIRD-PARTY-LICENSES \
    && deploy/image/rootfs /out /tmp/doorbell LICENSE-APACHE LICENSE-MIT NOTICE /tmp/THIRD-PARTY-LICENSES

FROM scratch
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Doorbell" \
      org.opencontainers.image.description="Carries rows of a PostgreSQL outbox table to Kafka" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out/ /
ENV PATH=/usr/bin
# By number, so that Kubernetes can verify that it is not root. It writes no file: run it with a read-only root.
USER 10001:10001
# On this signal the relay settles the rows in flight and exits with 0.
STOPSIGNAL SIGTERM
# The HTTP port. It is reachable from outside the container only with DOORBELL_LISTEN=0.0.0.0:8686.
EXPOSE 8686
# Whether the process answers. Some engines restart what is not healthy, and a restart changes nothing while Kafka or
# PostgreSQL is unreachable: `doorbell health --ready` is for those that only wait for it.
HEALTHCHECK --interval=15s --timeout=6s --start-period=10s --retries=3 CMD ["doorbell", "health", "--live"]
ENTRYPOINT ["doorbell"]
CMD ["run"]
