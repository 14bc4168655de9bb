# The one binary, in a small image: docker build -t patchloom .
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin patchloom

FROM debian:12-slim
# curl asks a process how it is, certificates let it trust others.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/patchloom /usr/local/bin/patchloom
ENV PATCHLOOM_DATA_DIR=/var/lib/patchloom
VOLUME /var/lib/patchloom
# SIGTERM lets an engine stop at once and a worker finish what it has begun.
STOPSIGNAL SIGTERM
ENTRYPOINT ["patchloom"]
CMD ["serve"]
