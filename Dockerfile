# xinim-vmm with the system inside, QEMU as the second engine, and what boot tests need.
#
#   docker build -t xinim .
#   docker run --rm -it --device /dev/kvm xinim                        a shell in XINIM
#   docker run --rm --device /dev/kvm xinim run --exec 'uname -a'
#   docker run --rm --device /dev/kvm -v "$PWD:/work" xinim test tests/boot
#
# Without --device /dev/kvm machines run on QEMU's emulator.
FROM rust:1.95-slim-trixie AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --release --locked && strip --strip-debug target/release/xinim-vmm

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends qemu-system-x86 passt \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /source/target/release/xinim-vmm /usr/local/bin/xinim-vmm
WORKDIR /work
ENTRYPOINT ["xinim-vmm"]
