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
	compile ssl "$1" -g -fno-exceptions -fno-rtti
	"${cross}g++" -shared -o "$to/libssl.so" "$work"/ssl/*.o "${@:2}"
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

libressl() {
	local tree=$work/vendor/$package/libressl
	(
		cd "$tree"
		# Of 2014: the compilers of today refuse some of it.
		chmod +x configure install-sh
		find . -exec touch -r configure {} +
		CFLAGS='-O2 -g -w -std=gnu89 -fcommon' ./configure --quiet >/dev/null
		make -s -j"$(nproc)" -C crypto >/dev/null
		make -s -j"$(nproc)" -C ssl >/dev/null
	) >&2
	cp "$(readlink -f "$tree/crypto/.libs/libcrypto.so")" "$to/libcrypto.so"
	ln -s libcrypto.so "$to/$(objdump -p "$to/libcrypto.so" | awk '/SONAME/ { print $2 }')"
	# Its own libssl does not say that it needs libcrypto.
	gcc -shared -o "$to/libssl.so" "$tree"/ssl/.libs/*.o "$to/libcrypto.so" -Wl,-rpath,'$ORIGIN'
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

cross='' protect=''
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
libressl-crate)
	vendor
	libressl
	;;
*)
	echo "no recipe $recipe" >&2
	exit 2
	;;
esac
