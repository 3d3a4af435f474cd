# syntax=docker/dockerfile:1
# The image that docker-compose.yml runs. It is linted in CI; not built there: CI has no container engine.

FROM rust:1.95-slim-bookworm AS build
# librdkafka is compiled from source, against Debian's OpenSSL and zlib. Versions are not pinned: security updates of the
# base image's release are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libssl-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# The caches stay on the builder, so the program is moved out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin doorbell \
    && install -D --strip target/release/doorbell /out/bin/doorbell \
    # NOTICE says which licences of bundled C code have to come along.
    && install -D -m 644 /usr/local/cargo/registry/src/*/rdkafka-sys-*/librdkafka/LICENSES.txt /out/doc/librdkafka.LICENSES \
    && install -D -m 644 /usr/local/cargo/registry/src/*/zstd-sys-*/zstd/LICENSE /out/doc/zstd.LICENSE \
    && install -D -m 644 -t /out/doc/ring /usr/local/cargo/registry/src/*/ring-*/LICENSE*

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin doorbell
COPY LICENSE-APACHE LICENSE-MIT NOTICE /usr/share/doc/doorbell/
COPY --from=build /out/doc /usr/share/doc/doorbell/
COPY --from=build /out/bin/doorbell /usr/local/bin/doorbell
# By number, so that Kubernetes can see that it is not root.
USER 10001
# The relay drains what is in flight on this signal, then exits 0.
STOPSIGNAL SIGTERM
# /metrics and health: inside a container only with DOORBELL_LISTEN=0.0.0.0:8686 they can be reached from outside.
EXPOSE 8686
ENTRYPOINT ["doorbell"]
CMD ["run"]
