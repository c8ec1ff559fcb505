#!/bin/bash
# Shows tlscope at work: an HTTPS server and curl talk over loopback, and what
# they say is printed. Leaves nothing behind.
set -euo pipefail

tlscope=$(realpath "${1:-target/release/tlscope}")
if [ "$(id -u)" != 0 ]; then
	echo 'tlscope traces other programs, which takes root. Running the demo with sudo.'
	exec sudo "$0" "$tlscope"
fi

work=$(mktemp -d)
running=()
finish() {
	for pid in "${running[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap finish EXIT
cd "$work"

# Waits, with a bound, until the command given succeeds.
await() {
	for _ in $(seq 200); do
		"$@" 2>/dev/null && return
		sleep 0.05
	done
	echo "gave up waiting for: $*" >&2
	cat "$work"/*.log >&2 || true
	exit 1
}

answers() { curl --silent --insecure --noproxy '*' --output /dev/null "https://127.0.0.1:$1/secret.txt"; }

start_server() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
		-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
		-keyout key.pem -out cert.pem 2>/dev/null
	printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n%s\n' \
		'This text crossed the network encrypted.' >secret.txt
	for port in 8443 18443 28443 38443; do
		openssl s_server -HTTP -accept "127.0.0.1:$port" -cert cert.pem -key key.pem \
			>server.log 2>&1 &
		server=$!
		running+=("$server")
		for _ in $(seq 100); do
			answers "$port" && return
			kill -0 "$server" 2>/dev/null || break
			sleep 0.05
		done
	done
	echo 'no port for the demo server' >&2
	cat server.log >&2
	exit 1
}

start_server
echo "A real HTTPS server: openssl s_server on 127.0.0.1:$port. tlscope starts now, after it."

"$tlscope" tls --ready-file ready >capture.txt 2>tlscope.log &
capture=$!
running+=("$capture")
await test -e ready

curl --silent --noproxy '*' --cacert cert.pem --header 'Cookie: session=8f3a' \
	"https://localhost:$port/secret.txt" >/dev/null
await grep -q 'crossed the network' capture.txt
kill -INT "$capture"
wait "$capture"

echo "$ curl --cacert cert.pem --header 'Cookie: session=8f3a' https://localhost:$port/secret.txt"
echo 'What tlscope saw, of both programs, with no certificate of its own and no restart:'
echo
cat capture.txt
cat tlscope.log
cat <<END

Each exchange is there twice: as curl sent and received it, and as the server did.
Direction 1 is sent, 0 is received. On the live system:

  sudo $tlscope tls                     every program that uses OpenSSL
  sudo $tlscope tls --pid 1234          one process
  sudo $tlscope tls -m keylog -k keys.log   TLS secrets for Wireshark
  $tlscope inspect $(ldconfig -p 2>/dev/null | awk '/libssl\.so\.3 /{print $NF; exit}')
  sudo $tlscope doctor                  what works on this machine, and why not
END
