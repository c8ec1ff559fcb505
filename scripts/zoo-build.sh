#!/bin/bash
# Builds a TLS library that no registry has compiled: zoo-build.sh RECIPE PACKAGE VERSION DIRECTORY
# puts libssl.so and libcrypto.so, with their symbols, into DIRECTORY.
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
	local tree=$1 errors=$2 flags
	flags=(-O2 -fPIC -fvisibility=hidden -w -DBORINGSSL_SHARED_LIBRARY -DBORINGSSL_IMPLEMENTATION
		-DOPENSSL_NO_ASM -DNDEBUG -I"$tree/include" -I"$tree")
	mkdir -p "$work/crypto" "$work/ssl"
	find "$tree/crypto" -name '*.cc' -o -name '*.c' |
		grep -vE '_test\.cc?$|/test/|/fipsmodule/|/err_data\.|_support_test|/perlasm/' >"$work/crypto.list"
	find "$tree/crypto/fipsmodule" -maxdepth 1 \( -name 'bcm.c*' -o -name 'fips_shared_support.c*' \) \
		>>"$work/crypto.list"
	echo "$errors" >>"$work/crypto.list"
	find "$tree/ssl" -maxdepth 1 -name '*.cc' | grep -v _test >"$work/ssl.list"
	compile crypto "${flags[@]}"
	compile ssl "${flags[@]}" -fno-exceptions -fno-rtti
	g++ -shared -o "$to/libcrypto.so" "$work"/crypto/*.o -lpthread
	g++ -shared -o "$to/libssl.so" "$work"/ssl/*.o "$to/libcrypto.so" -Wl,-rpath,'$ORIGIN'
}

# Compiles each line of LIST.list into LIST/.
compile() {
	local list=$1
	shift
	export options="$*" objects="$work/$list"
	# shellcheck disable=SC2016 # the inner shell expands
	xargs -P "$(nproc)" -I{} bash -c '
		case {} in *.cc) cc="g++ -std=c++17" ;; *) cc="gcc -std=gnu11" ;; esac
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
		CFLAGS='-O2 -w -std=gnu89 -fcommon' ./configure --quiet >/dev/null
		make -s -j"$(nproc)" -C crypto >/dev/null
		make -s -j"$(nproc)" -C ssl >/dev/null
	) >&2
	cp "$(readlink -f "$tree/crypto/.libs/libcrypto.so")" "$to/libcrypto.so"
	ln -s libcrypto.so "$to/$(objdump -p "$to/libcrypto.so" | awk '/SONAME/ { print $2 }')"
	# Its own libssl does not say that it needs libcrypto.
	gcc -shared -o "$to/libssl.so" "$tree"/ssl/.libs/*.o "$to/libcrypto.so" -Wl,-rpath,'$ORIGIN'
}

# libssl is compiled once more with FLAGS, if there are any: openssl FLAGS...
openssl() {
	(
		cd "$work/vendor/$package/openssl"
		perl ./Configure --debug linux-x86_64 shared -O2 >/dev/null
		make -s -j"$(nproc)" build_libs >/dev/null
		if [[ $# -gt 0 ]]; then
			find . -name 'libssl-*.o' -delete
			find ssl -name '*.o' -delete
			rm -f libssl.so*
			make -s -j"$(nproc)" "$(basename libcrypto.so.* | sed s/crypto/ssl/)" \
				CFLAGS="-g -fPIC -pthread $*" LDFLAGS="-g $*" >/dev/null
			ln -sf libssl.so.* libssl.so
		fi
	) >&2
	cp -L "$work/vendor/$package/openssl/libssl.so" "$to/libssl.so"
	cp -L "$work/vendor/$package/openssl/libcrypto.so" "$to/libcrypto.so"
	ln -s libcrypto.so "$to/$(objdump -p "$to/libcrypto.so" | awk '/SONAME/ { print $2 }')"
}

case $recipe in
openssl-crate)
	vendor
	openssl
	;;
openssl-lto)
	vendor
	openssl -O3 -flto=auto
	;;
# So that callers of the key-log sink themselves test whether a key log is wanted.
openssl-inlined)
	vendor
	openssl -O3 -flto=auto -finline-limit=1000
	;;
boringssl-crate)
	vendor
	boringssl "$work/vendor/$package/deps/boringssl/src" "$work/vendor/$package/deps/boringssl/err_data.c"
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
