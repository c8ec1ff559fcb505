#!/bin/bash
# dist.sh ARCH...: one static program for each architecture into dist/, with SHA256SUMS.
# With TLSCOPE_GUEST=1 the programs that `make kernels` runs in machines, into the cache.
# The C compiler is zig's: one package holds musl and the kernel's headers for both.
set -euo pipefail
cd "$(dirname "$0")/.."

ZIG=0.15.2
LIBPCAP_SUITE=bookworm
cache=${TLSCOPE_DIST_CACHE:-$PWD/.cache/dist}
cargo=${CARGO:-cargo}
mkdir -p "$cache"

# Makes DIRECTORY by `COMMAND DIRECTORY`, whole or not at all, unless it is there.
once() {
	local directory=$1
	shift
	[ ! -d "$directory" ] || return 0
	rm -rf "$directory.partial"
	mkdir -p "$directory.partial"
	echo "making $directory"
	"$@" "$directory.partial"
	mv "$directory.partial" "$directory"
}

# pip checks the digest that its index names.
fetch_zig() {
	python3 -m pip download --quiet --no-deps --disable-pip-version-check -d "$1" "ziglang==$ZIG"
	python3 -m zipfile -e "$1"/ziglang-*.whl "$1"
	rm "$1"/ziglang-*.whl
	chmod +x "$1/ziglang/zig"
}

# By an apt of its own: the system's has no entry for sources, and need not get one.
fetch_libpcap() {
	local apt=$1/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	local mirror
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $3 !~ /-/ { print $2; exit }')
	echo "deb-src [signed-by=$keyring] $mirror $LIBPCAP_SUITE main" >"$apt/sources.list"
	local options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=-
		-o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt" -o APT::Sandbox::User=root
		-o Acquire::Languages=none -o Acquire::Retries=3)
	apt-get -qq "${options[@]}" update
	(cd "$1" && apt-get -qq "${options[@]}" source --download-only libpcap)
	mkdir "$1/source"
	tar -xf "$1"/libpcap_*.orig.tar.gz -C "$1/source" --strip-components=1
	rm -rf "$apt"
}

# Compiles each FILE.c of a directory that stdin names: compile CC FROM TO FLAGS...
compile() {
	local cc=$1 from=$2 to=$3
	shift 3
	xargs -P "$(nproc)" -I{} "$cc" -O2 -fPIC -ffunction-sections -fdata-sections -w "$@" \
		-c "$from/{}.c" -o "$to/{}.o"
}

# libz, libelf and libpcap of one architecture: build_libraries CC AR HOST TO
build_libraries() {
	local cc=$1 ar=$2 host=$3 to=$4
	mkdir -p "$to/include" "$to/obj/z" "$to/obj/elf" "$to/obj/pcap"
	local zlib=$vendored/zlib elf=$vendored/elfutils
	printf '%s\n' adler32 compress crc32 deflate gz{close,lib,read,write} inf{back,fast,late,trees} trees \
		uncompr zutil |
		compile "$cc" "$zlib" "$to/obj/z" -DHAVE_UNISTD_H
	"$ar" crs "$to/libz.a" "$to"/obj/z/*.o

	# What its configure would find out about musl. Of elfutils, libelf alone is needed.
	cat >"$to/include/config.h" <<-END
		#define PACKAGE_NAME "elfutils"
		#define HAVE_ERR_H 1
		#define HAVE_DECL_MEMPCPY 1
		#define HAVE_DECL_MEMRCHR 1
		#define HAVE_DECL_POWEROF2 1
		#define HAVE_DECL_RAWMEMCHR 0
		#define HAVE_DECL_REALLOCARRAY 1
		#define HAVE_VISIBILITY 1
		#include <eu-config.h>
	END
	cp "$elf"/libelf/{libelf,gelf,elf}.h "$zlib"/{zlib,zconf}.h "$to/include"
	find "$elf/libelf" -name '*.c' -printf '%f\n' | sed 's/\.c$//' |
		compile "$cc" "$elf/libelf" "$to/obj/elf" -std=gnu11 -D_GNU_SOURCE -DHAVE_CONFIG_H -DPIC \
			-I"$to/include" -I"$elf/lib" -I"$elf/libelf"
	"$ar" crs "$to/libelf.a" "$to"/obj/elf/*.o

	(
		cd "$to/obj/pcap"
		CC=$cc AR=$ar CFLAGS='-O2 -fPIC' "$cache/libpcap/source/configure" --quiet --host="$host" \
			--with-pcap=linux --disable-shared --disable-dbus --disable-usb --disable-bluetooth \
			--disable-rdma --without-libnl >configure.log 2>&1 &&
			make -j"$(nproc)" libpcap.a >make.log 2>&1 || { tail -30 ./*.log >&2 && false; }
	)
	cp "$to/obj/pcap/libpcap.a" "$to"
	rm -r "$to/obj"
}

# Compilers and an archiver that need no arguments: build scripts call them by path.
# `cc-gnu` is for the libc of Debian 11 and all later ones, and what `make kernels` runs on it.
wrap() {
	local arch=$1 to=$2
	printf '#!/bin/sh\nexec %q cc -target %s -fno-sanitize=undefined "$@"\n' \
		"$zig" "$arch-linux-musl" >"$to/cc"
	printf '#!/bin/sh\nexec %q cc -target %s "$@"\n' "$zig" "$arch-linux-gnu.2.31" >"$to/cc-gnu"
	printf '#!/bin/sh\nexec %q ar "$@"\n' "$zig" >"$to/ar"
	chmod +x "$to"/*
}

build() {
	local arch=$1 target=$1-unknown-linux-musl
	local name=${target//-/_} tools=$cache/$1/tools libraries=$cache/$1/libraries-$ZIG
	rustup target list --installed | grep -qx "$target" || rustup target add "$target"
	mkdir -p "$tools"
	wrap "$arch" "$tools"
	once "$libraries" build_libraries "$tools/cc" "$tools/ar" "$arch-linux-musl"
	# rustc brings musl's startup code and its own linker: zig's would bring a second libc.
	# The crate cc would name the target in clang's words, which zig's differ from.
	env CRATE_CC_NO_DEFAULTS=1 "CC_$name=$tools/cc" "AR_$name=$tools/ar" \
		"CFLAGS_$name=-O2 -fPIC -ffunction-sections -fdata-sections -I$libraries/include" \
		"LIBBPF_SYS_LIBRARY_PATH_$name=$libraries" \
		LIBPCAP_LIBDIR="$libraries" LIBPCAP_VER=1.10.3 \
		"CARGO_TARGET_${name^^}_LINKER=rust-lld" \
		"CARGO_TARGET_${name^^}_RUSTFLAGS=-Clinker-flavor=ld.lld -Clink-self-contained=yes" \
		"$cargo" build --release --locked --target "$target" -p tlscope --features tlscope/static "${guest[@]}"
	local built=${CARGO_TARGET_DIR:-target}/$target/release
	! readelf --dynamic --wide "$built/tlscope" | grep -q NEEDED || {
		echo "$built/tlscope is not static" >&2
		exit 1
	}
	if [ ${#guest[@]} -gt 0 ]; then
		cp "$built/tlscope" "$built/guest" "$cache/$arch/"
	else
		mkdir -p dist
		cp "$built/tlscope" "dist/tlscope-$arch"
	fi
}

guest=()
[ -z "${TLSCOPE_GUEST:-}" ] || guest=(-p tlscope-tests --bin tlscope --bin guest)
once "$cache/zig-$ZIG" fetch_zig
once "$cache/libpcap" fetch_libpcap
zig=$cache/zig-$ZIG/ziglang/zig
# libelf and zlib: the sources that libbpf-sys ships, whose digests Cargo.lock has.
vendored=$("$cargo" metadata --locked --format-version 1 |
	python3 -c 'import json, os, sys
[path] = [p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "libbpf-sys"]
print(os.path.dirname(path))')
for arch in "$@"; do
	build "$arch"
done
[ ${#guest[@]} -gt 0 ] || (cd dist && sha256sum tlscope-* | tee SHA256SUMS)
