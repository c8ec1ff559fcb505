# tlscope: what to run. `make demo` shows it at work, `make test` proves it.
#
# Both install what they need from Debian's packages, quickly when it is there.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

# What building needs; then what `make demo` and what the tests run besides.
BUILD_PACKAGES := clang-19 libelf-dev zlib1g-dev pkg-config make gcc libc6-dev linux-libc-dev libpcap-dev
DEMO_PACKAGES := $(BUILD_PACKAGES) openssl curl
TEST_PACKAGES := $(DEMO_PACKAGES) clang-format-19 libssl-dev nginx redis-server redis-tools \
	tshark tcpdump strace python3 python3-pip binutils util-linux mount iproute2 \
	nghttp2-client nghttp2-server libnginx-mod-http-brotli-filter golang-go nodejs \
	libnss3-tools libnss3-dev brotli zstd xz-utils bsdutils \
	libgnutls28-dev gnutls-bin wget lftp libcurl3-gnutls libgnutls-dane0 libgnutls-openssl27 \
	libwolfssl35 libmbedtls14 lighttpd lighttpd-mod-gnutls apache2-bin haproxy stunnel4 postgresql postgresql-client
ZOO_PACKAGES := $(TEST_PACKAGES) g++ gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross
# The C compiler of `make dist` comes from PyPI, libpcap's sources from Debian.
DIST_PACKAGES := clang-19 python3 python3-pip pkg-config make dpkg-dev flex bison binutils \
	libc6-dev linux-libc-dev
DIST_ARCHS ?= x86_64 aarch64

# Crates whose tests need neither root nor a kernel.
PURE := -p tlscope -p tlscope-core -p tlscope-image -p tlscope-probe -p tlscope-targets

.PHONY: help build dist kernels kernels-quick demo test lint unit e2e zoo zoo-quick http-load go-load churn bench install install-extcap format clean

help:
	@echo 'make demo   build, then capture a local HTTPS exchange'
	@echo 'make build  build target/release/tlscope'
	@echo 'make dist   one static program each for x86_64 and aarch64, in dist/'
	@echo 'make test   all checks and tests (as root: they trace real programs)'
	@echo 'make lint | unit | e2e   parts of make test'
	@echo 'make zoo    run it on every target of docs/libraries.md and docs/go.md, and write these pages'
	@echo 'make zoo FILE=/path/to/libssl.so   any library or program; make zoo-quick: what CI runs'
	@echo 'make kernels  run it on every kernel of docs/kernel-support.md, and write that page'
	@echo 'make kernels KERNEL="6.1 aarch64"  one kernel; make kernels-quick: three of them'
	@echo 'make http-load  pair 100,000 requests of h2load over HTTP/2, none lost'
	@echo 'make go-load  trace a Go program through 10,000 handshakes'
	@echo 'make churn  let 100,000 connections come and go: memory must stay (CHURN=500000 for more)'
	@echo 'make bench  measure what capturing costs'
	@echo 'make install  the program, man pages and shell completions, below PREFIX=/usr/local'
	@echo 'make install-extcap  show tlscope in the interface list of Wireshark'
	@echo 'make format rewrite the sources in the house style'

build:
	@scripts/packages.sh $(BUILD_PACKAGES)
	$(CARGO) build --release --locked -p tlscope

# Downloads and libraries are kept in .cache/dist.
dist:
	@scripts/packages.sh $(DIST_PACKAGES)
	@CARGO=$(CARGO) scripts/dist.sh $(DIST_ARCHS)

demo:
	@scripts/packages.sh $(DEMO_PACKAGES)
	$(CARGO) build --release --locked -p tlscope
	@scripts/demo.sh $(TARGET)/release/tlscope

test: lint unit e2e kernels-quick

# The fuzz targets are a workspace of their own; what runs them, libFuzzer in C++, is not built here.
lint:
	@scripts/packages.sh $(TEST_PACKAGES)
	$(CARGO) fmt --all --check
	clang-format-19 --dry-run --Werror crates/tlscope-probe/bpf/*.[ch]
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	CUSTOM_LIBFUZZER_PATH=/unbuilt/libfuzzer.a CARGO_TARGET_DIR="$(abspath $(TARGET))" \
		$(CARGO) clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked

unit:
	@scripts/packages.sh $(TEST_PACKAGES)
	$(CARGO) test --locked $(PURE)

# The tests of one process take turns by themselves; cargo runs one process after the other.
e2e:
	@scripts/packages.sh $(TEST_PACKAGES)
	@test "$$(id -u)" = 0 || { echo 'the end-to-end tests trace real programs: run them as root'; exit 1; }
	$(CARGO) build --profile checked --locked -p tlscope
	TLSCOPE_BIN="$(abspath $(TARGET))/checked/tlscope" \
		$(CARGO) test --profile checked --locked -p tlscope-tests --no-fail-fast

# Downloads and builds into .cache/zoo; npm too, for Node and Bun.
zoo:
	@scripts/packages.sh $(ZOO_PACKAGES)
	$(CARGO) build --profile checked --locked -p tlscope -p tlscope-tests
	TLSCOPE_BIN="$(abspath $(TARGET))/checked/tlscope" $(TARGET)/checked/zoo $(if $(FILE),-- $(FILE))

zoo-quick:
	@scripts/packages.sh $(TEST_PACKAGES)
	$(CARGO) build --profile checked --locked -p tlscope
	TLSCOPE_BIN="$(abspath $(TARGET))/checked/tlscope" \
		$(CARGO) test --profile checked --locked -p tlscope-tests --test zoo

# Kernels, qemu and user space come from Debian's packages into .cache/kernels; nothing is installed.
kernels: KERNEL_ARGUMENTS := $(if $(KERNEL),"$(KERNEL)")
kernels-quick: KERNEL_ARGUMENTS := --quick
kernels kernels-quick:
	@scripts/packages.sh $(TEST_PACKAGES) $(DIST_PACKAGES)
	@TLSCOPE_GUEST=1 CARGO=$(CARGO) scripts/dist.sh x86_64 aarch64
	$(CARGO) build --profile checked --locked -p tlscope-tests --bin kernels
	$(TARGET)/checked/kernels $(KERNEL_ARGUMENTS)

http-load:
	@scripts/packages.sh $(TEST_PACKAGES)
	$(CARGO) build --profile checked --locked -p tlscope
	TLSCOPE_BIN="$(abspath $(TARGET))/checked/tlscope" TLSCOPE_HTTP_REQUESTS=100000 \
		$(CARGO) test --profile checked --locked -p tlscope-tests --test http h2load

go-load:
	@scripts/packages.sh $(TEST_PACKAGES)
	$(CARGO) build --profile checked --locked -p tlscope
	TLSCOPE_BIN="$(abspath $(TARGET))/checked/tlscope" TLSCOPE_GO_HANDSHAKES=10000 \
		$(CARGO) test --profile checked --locked -p tlscope-tests --test gotls handshakes

# CHURN=500000, a million ends, takes half an hour; CI lets 3000 come and go.
churn: CHURN ?= 100000
churn:
	@scripts/packages.sh $(TEST_PACKAGES)
	$(CARGO) build --profile checked --locked -p tlscope
	TLSCOPE_BIN="$(abspath $(TARGET))/checked/tlscope" TLSCOPE_CHURN=$(CHURN) \
		$(CARGO) test --profile checked --locked -p tlscope-tests --test lifecycle memory -- --nocapture

bench:
	@scripts/packages.sh $(TEST_PACKAGES) wrk
	$(CARGO) build --release --locked -p tlscope -p tlscope-tests
	$(CARGO) build --release --locked -p tlscope-probe --example empty_pair
	TLSCOPE_BIN="$(abspath $(TARGET))/release/tlscope" $(TARGET)/release/bench
	TLSCOPE_BIN="$(abspath $(TARGET))/release/tlscope" $(TARGET)/release/bench_pcap
	TLSCOPE_BIN="$(abspath $(TARGET))/release/tlscope" $(TARGET)/release/bench_scale

PREFIX ?= /usr/local

install: build
	install -D $(TARGET)/release/tlscope $(DESTDIR)$(PREFIX)/bin/tlscope
	$(TARGET)/release/tlscope generate $(DESTDIR)$(PREFIX)

# EXTCAP=DIR puts it elsewhere than where the installed Wireshark looks.
EXTCAP ?= $(shell tshark -G folders 2>/dev/null | sed -n 's/.*Extcap path:[[:space:]]*//p' | tail -1)

install-extcap: build
	@test -n "$(EXTCAP)" || { echo 'neither tshark nor EXTCAP=DIR says where to put it'; exit 1; }
	mkdir -p "$(EXTCAP)"
	ln -sf "$(abspath $(TARGET))/release/tlscope" "$(EXTCAP)/tlscope"
	@echo 'Capturing takes root: start Wireshark as root, or give the program its capabilities:'
	@echo '  setcap cap_bpf,cap_perfmon,cap_net_raw,cap_sys_ptrace,cap_dac_read_search=ep $(abspath $(TARGET))/release/tlscope'

format:
	$(CARGO) fmt --all
	clang-format-19 -i crates/tlscope-probe/bpf/*.[ch]

clean:
	$(CARGO) clean
