#!/bin/bash
# Builds a TLS library that no registry has compiled: zoo-build.sh RECIPE PACKAGE VERSION DIRECTORY
# puts libssl.so, with its symbols and DWARF, and libcrypto.so into DIRECTORY.
set -euo pipefail

recipe=$1 package=$2 version=$3 to=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sources of a crate and all of its dependencies, by cargo, which checks their digests.
vendor() {
	mkdir -p "$work/use/src"
	touch "$work/use/src/lib.rs"
	printf '[package]\nname = "use"\nversion = "0.1.0"\n[dependencies]\n%s = "=%s"\n' \
		"$package" "$version" >"$work/use/Cargo.toml"
	(cd "$work/use" && cargo vendor --quiet "$work/vendor" >/dev/null)
}

# The source archive of a Python package; pip asks it for its metadata, no more.
sdist() {
	/usr/bin/python3 -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation \
		--disable-pip-version-check -d "$work" "$package==$version"
	tar -xzf "$work/$package-$version.tar.gz" -C "$work"
}

# BoringSSL from a tree with crypto/, ssl/ and include/: boringssl TREE ERR_DATA
boringssl() {
	local tree=$1 errors=$2
	find "$tree/crypto" -name '*.cc' -o -name '*.c' |
		grep -vE '_test\.cc?$|/test/|/fipsmodule/|/err_data\.|_support_test|/perlasm/' >"$work/crypto.list"
	find "$tree/crypto/fipsmodule" -maxdepth 1 \( -name 'bcm.c*' -o -name 'fips_shared_support.c*' \) \
		>>"$work/crypto.list"
	echo "$errors" >>"$work/crypto.list"
	compile crypto "$tree"
	g++ -shared -Wl,-soname,libcrypto.so -o "$to/libcrypto.so" "$work"/crypto/*.o -lpthread
	boringssl_ssl "$tree" "$to/libcrypto.so" -Wl,-rpath,'$ORIGIN'
}

# The half that knows TLS: boringssl_ssl TREE LINK-ARGUMENTS...
boringssl_ssl() {
	find "$1/ssl" -maxdepth 1 -name '*.cc' | grep -v _test >"$work/ssl.list"
	compile ssl "$1" -g -fno-exceptions -fno-rtti $inlining
	"${cross}g++" -shared -o "$to/libssl.so" "$work"/ssl/*.o $inlining "${@:2}"
}

# Compiles each line of LIST.list into LIST/: compile LIST TREE FLAGS...
compile() {
	local list=$1 tree=$2
	shift 2
	mkdir -p "$work/$list"
	export options="-O2 -fPIC -fvisibility=hidden -w -DBORINGSSL_SHARED_LIBRARY -DBORINGSSL_IMPLEMENTATION
		-DOPENSSL_NO_ASM -DNDEBUG -I$tree/include -I$tree $protect $*"
	export objects="$work/$list" cross
	# shellcheck disable=SC2016 # the inner shell expands
	xargs -P "$(nproc)" -I{} bash -c '
		case {} in *.cc) cc="${cross}g++ -std=c++17" ;; *) cc="${cross}gcc -std=gnu11" ;; esac
		name=$(echo {} | tr / _)
		$cc $options -c {} -o "$objects/${name%.*}.o"' <"$work/$list.list"
}

# Of 2014: the compilers of today refuse some of it.
libressl() {
	libressl_configure "$work/vendor/$package/libressl" '-O2 -g -w -std=gnu89 -fcommon'
	make -s -j"$(nproc)" -C crypto >/dev/null
	make -s -j"$(nproc)" -C ssl >/dev/null
	cp crypto/.libs/libcrypto.so "$to/libcrypto.so"
	# Its own libssl does not say that it needs libcrypto.
	gcc -shared -o libssl.so ssl/.libs/*.o "$to/libcrypto.so" -Wl,-rpath,'$ORIGIN'
	put libssl.so "$to"
}

# Goes to the sources and configures them: libressl_configure TREE CFLAGS ARGUMENTS...
libressl_configure() {
	cd "$1"
	chmod +x configure install-sh
	find . -exec touch -r configure {} +
	CFLAGS=$2 ./configure --quiet --disable-static "${@:3}" >/dev/null
}

# Bindings bring the sources along packed.
libressl_unpack() {
	tar -xzf "$work/vendor/$package"/libressl-*.tar.gz -C "$work"
	tree=$(echo "$work"/libressl-*/)
}

# libcrypto as it compiles fastest, and libssl in several ways. 3.1 has a server of TLS 1.3, and
# does not use it unless it is told to.
libressl_ways() {
	local with_server=-DLIBRESSL_HAS_TLS1_3_SERVER
	libressl_unpack
	libressl_configure "$tree" '-O1 -w'
	make -s -j"$(nproc)" -C crypto >/dev/null
	cp crypto/.libs/libcrypto.so "$to/libcrypto.so"
	libressl_ssl server -O2 $with_server
	libressl_ssl inlined -O3 $with_server -flto=auto -finline-limit=1000
	libressl_ssl . -O2
	# As in a program: both in one, and without names but those of the interface.
	mkdir "$to/static"
	find ssl crypto -path '*/.libs/*.o' >"$work/objects"
	gcc -shared -s -o "$to/static/libssl.so" @"$work/objects" \
		-Wl,--version-script="$(libressl_map ERR_print_errors_fp)"
}

# As `libssl`, with the library's own makefile: libressl_ssl DIRECTORY FLAGS...
libressl_ssl() {
	make -s -C ssl clean >/dev/null
	make -s -j"$(nproc)" -C ssl CFLAGS="-g -w -fno-strict-aliasing ${*:2}" >/dev/null
	mkdir -p "$to/$1"
	[[ $1 == . ]] || cp "$to/libcrypto.so" "$to/$1/libcrypto.so"
	put ssl/.libs/libssl.so "$to/$1"
}

# libssl without libcrypto, to be looked at.
libressl_ssl_alone() {
	libressl_unpack
	libressl_configure "$tree" "-O2 -g -w $protect" --host="${cross%-}"
	sed -n 's/^libssl_la_SOURCES +\?= \(.*\)\.c/\1.lo/p' ssl/Makefile.am |
		xargs make -s -j"$(nproc)" -C ssl >/dev/null
	"${cross}gcc" -shared -o "$to/libssl.so" ssl/.libs/*.o -Wl,--version-script="$(libressl_map)"
}

# What libssl exports, and NAMES, for the linker: libressl_map NAMES...
libressl_map() {
	printf '{ global: %s local: *; };' "$(printf '%s; ' $(cat ssl/ssl.sym) "$@")" >"$work/libssl.map"
	echo "$work/libssl.map"
}

# Configures the sources; those in a crate lack what is for tests: configure ARGUMENTS...
configure() {
	local lacking=()
	cd "$work/vendor/$package/openssl"
	# 1.1.0 has no such option, and needs none.
	! grep -q '^ *"tests",' Configure || lacking+=(no-tests)
	[[ ! -d providers ]] || lacking+=(no-module)
	# 1.1.0 imports what Perl no longer exports; where nothing does, grep fails.
	{ grep -rlZ "'File::Glob' => qw/glob/" . || true; } |
		xargs -0r sed -i "s,'File::Glob' => qw/glob/,'File::Glob' => qw/:glob/,"
	perl ./Configure shared "${lacking[@]}" "$@" >/dev/null
}

openssl() {
	configure --debug linux-x86_64 -O2
	make -s -j"$(nproc)" build_libs >&2
	cp -L libcrypto.so "$to/libcrypto.so"
	put libssl.so "$to"
}

# libcrypto as it compiles fastest, and libssl in several ways.
openssl_ways() {
	configure linux-x86_64 -O0
	make -s -j"$(nproc)" build_generated >&2
	make -s -j"$(nproc)" libcrypto.so >&2
	cp -L libcrypto.so "$to/libcrypto.so"
	libssl . -O2
	libssl lto -O3 -flto=auto
	# So that callers of the key-log sink themselves test whether a key log is wanted.
	libssl inlined -O3 -flto=auto -finline-limit=1000
}

# Compiles libssl with FLAGS and puts it beside a libcrypto: libssl DIRECTORY FLAGS...
libssl() {
	find . -name 'libssl-*.o' -delete
	find ssl -name '*.o' -delete
	rm -f libssl.so*
	make -s -j"$(nproc)" "$(basename libcrypto.so.* | sed s/crypto/ssl/)" \
		CFLAGS="-g -fPIC -pthread ${*:2}" LDFLAGS="-g ${*:2}" >&2
	if [[ $1 != . ]]; then
		mkdir "$to/$1"
		cp "$to/libcrypto.so" "$to/$1/libcrypto.so"
	fi
	put libssl.so.* "$to/$1"
}

# Puts a libssl into a directory with libcrypto, which is loaded by another name.
put() {
	cp -L "$1" "$2/libssl.so"
	ln -s libcrypto.so "$2/$(objdump -p "$2/libcrypto.so" | awk '/SONAME/ { print $2 }')"
}

# libssl without libcrypto, quickly, to be looked at: openssl_ssl CONFIGURATION FLAGS...
openssl_ssl() {
	configure "$1" --cross-compile-prefix="$cross" -g "${@:2}"
	make -s -j"$(nproc)" build_generated >&2
	make -s -j"$(nproc)" libssl.a >&2
	# What the library exports, as its own linker script says it.
	awk '$4 ~ /^EXIST/ { print $1 ";" }' util/libssl.num >"$work/names"
	printf '{ global: %s local: *; };' "$(cat "$work/names")" >"$work/libssl.map"
	"${cross}gcc" -shared -o "$to/libssl.so" -Wl,--whole-archive libssl.a -Wl,--no-whole-archive \
		-Wl,--version-script="$work/libssl.map" $protect
}

# For aarch64, with the prologues that distributions build with today: return addresses are signed,
# and branches land on marks.
for_aarch64() {
	cross=aarch64-linux-gnu-
	protect=-mbranch-protection=standard
}

cross='' protect='' inlining=''
case $recipe in
openssl)
	vendor
	openssl
	;;
openssl-ways)
	vendor
	openssl_ways
	;;
openssl-ssl)
	vendor
	openssl_ssl linux-x86_64
	;;
openssl-ssl-aarch64 | openssl-ways-aarch64)
	vendor
	for_aarch64
	openssl_ssl linux-aarch64 "$protect"
	;;
boringssl-crate)
	vendor
	boringssl "$work/vendor/$package/deps/boringssl/src" "$work/vendor/$package/deps/boringssl/err_data.c"
	;;
boringssl-crate-inlined)
	vendor
	tree=$work/vendor/$package/deps/boringssl/src
	# GCC leaves the sink whole unless all may grow, and then what derives would be gone as well.
	inlining='-O3 -flto=auto -finline-limit=20000 --param inline-unit-growth=400'
	sed -i 's/^static bool \(hkdf_expand_label\|derive_secret\)(/__attribute__((noinline)) &/' "$tree/ssl/tls13_enc.cc"
	boringssl "$tree" "$tree/../err_data.c"
	;;
boringssl-crate-aarch64)
	vendor
	for_aarch64
	boringssl_ssl "$work/vendor/$package/deps/boringssl/src"
	;;
boringssl-grpcio)
	sdist
	tree=$work/$package-$version/third_party/boringssl-with-bazel/src
	boringssl "$tree" "$(find "$tree/gen/crypto" -name 'err_data.c*')"
	;;
boringssl-grpcio-aarch64)
	sdist
	for_aarch64
	boringssl_ssl "$work/$package-$version/third_party/boringssl-with-bazel/src"
	;;
libressl-crate)
	vendor
	libressl
	;;
libressl-ways)
	vendor
	libressl_ways
	;;
libressl-ways-aarch64)
	vendor
	for_aarch64
	libressl_ssl_alone
	;;
*)
	echo "no recipe $recipe" >&2
	exit 2
	;;
esac
