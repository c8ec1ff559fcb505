/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Connections whose calls touch no socket, because the program carries the
 * records between the library and the socket itself (Node, asyncio, Qt). The
 * client random names such a connection on both sides: it stands in the
 * connection object, and in the clear in the ClientHello that the program
 * sends or receives. Only where the socket tracepoints are (6.3), and CO-RE.
 */
#ifndef TLSCOPE_HELLO_H
#define TLSCOPE_HELLO_H

#include "connection.h"
#include "wire.h"

#ifdef TLSCOPE_CORE
#include "uring.h"

struct hello_key {
	__u32 pid;
	__u32 direction;
	__u8 random[RANDOM_LEN];
};

/* LRU: a hello is asked for within its handshake, or never. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct hello_key);
	__type(value, struct carrier);
} hellos SEC(".maps");

/* Bytes went through a socket outside of any TLS call. Global: it has a stack of its own. */
__noinline int hello_passes(__u64 sock, int length, __u64 direction)
{
	struct sock *sk = (struct sock *)sock;
	const struct uring_use *use = NULL;
	struct client_hello hello;
	struct carrier value = {};
	struct hello_key key = {};
	__u64 at;

	if (length < (int)sizeof(hello) || !wanted())
		return 0;
	at = syscall_buffer(syscall_registers());
	if (!at) {
		use = uring_find(sk, direction);
		if (!use)
			return 0;
		at = uring_buffer(use);
	}
	if (!at || bpf_probe_read_user(&hello, sizeof(hello), (void *)at))
		return 0;
	if (hello.content_type != CONTENT_HANDSHAKE || hello.record_version[0] != VERSION_MAJOR ||
	    hello.message_type != MESSAGE_CLIENT_HELLO || hello.version[0] != VERSION_MAJOR)
		return 0;
	/* A ring's request may run in the middle of another socket's call. */
	value.address.fd = use ? use->fd : syscall_fd(sk);
	if (value.address.fd < 0)
		return 0;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.direction = direction;
	__builtin_memcpy(key.random, hello.random, sizeof(key.random));
	/*
	 * A relay in the same process passes a hello on: the client sent it
	 * first, the server receives it last.
	 */
	sock_address(&value.address, sk);
	value.sock = (__u64)sk;
	value.port_pair = sock_ports(sk);
	bpf_map_update_elem(&hellos, &key, &value,
			    direction == DIRECTION_SENT ? BPF_NOEXIST : BPF_ANY);
	return 0;
}

static __always_inline struct carrier *hello_find(struct hello_key *key, enum direction direction)
{
	key->direction = direction;
	return bpf_map_lookup_elem(&hellos, key);
}

#else
static __always_inline int hello_passes(__u64 sock, int length, __u64 direction)
{
	return 0;
}
#endif

#endif
