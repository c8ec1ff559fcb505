/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Connections whose calls touch no socket, because the program carries the
 * records between the library and the socket itself (Node, asyncio, Qt). The
 * randoms name such a connection on both sides: they stand in the connection
 * object, and in the clear in the hellos that the program sends and receives.
 * Each hello tells the socket of its own direction, for they may be two. Only
 * with CO-RE.
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

/* Of the hello at the beginning of these bytes, with its record's head or without. */
static __always_inline bool hello_random(__u8 *random, __u64 at, int length)
{
	struct record_head head;
	struct hello hello;
	__u64 retry;

	if (bpf_probe_read_user(&head, sizeof(head), (void *)at))
		return false;
	if (head.content_type == CONTENT_HANDSHAKE && head.version[0] == VERSION_MAJOR) {
		at += sizeof(head);
		length -= sizeof(head);
	} else if (head.content_type != MESSAGE_CLIENT_HELLO &&
		   head.content_type != MESSAGE_SERVER_HELLO) {
		return false;
	}
	if (length < (int)sizeof(hello) || bpf_probe_read_user(&hello, sizeof(hello), (void *)at) ||
	    hello.version[0] != VERSION_MAJOR)
		return false;
	if (hello.message_type != MESSAGE_CLIENT_HELLO &&
	    hello.message_type != MESSAGE_SERVER_HELLO)
		return false;
	__builtin_memcpy(&retry, hello.random, sizeof(retry));
	__builtin_memcpy(random, hello.random, sizeof(hello.random));
	return retry != RETRY_RANDOM_HEAD;
}

static __always_inline __u32 ports(__u16 remote, __u16 local)
{
	return (__u32)remote << 16 | local;
}

static __always_inline struct carrier *hello_find(struct hello_key *key, enum direction direction)
{
	key->direction = direction;
	return bpf_map_lookup_elem(&hellos, key);
}

/* A relay in the same process passes a hello on: its addressee receives it last. */
static __always_inline void hello_received(struct hello_key *key, struct carrier *value)
{
	const struct carrier *before = hello_find(key, DIRECTION_RECEIVED);

	value->first_at = before ? before->first_at
				 : ports(value->address.remote_port, value->address.local_port);
	bpf_map_update_elem(&hellos, key, value, BPF_ANY);
}

/*
 * And its author sent it first, but may be seen to have done so after a relay
 * on another CPU: then by the other end of that socket it was received first.
 */
static __always_inline void hello_sent(struct hello_key *key, const struct carrier *value)
{
	const struct carrier *received = hello_find(key, DIRECTION_RECEIVED);
	const __u32 peer = ports(value->address.local_port, value->address.remote_port);
	const bool first = received && peer && received->first_at == peer;

	key->direction = DIRECTION_SENT;
	bpf_map_update_elem(&hellos, key, value, first ? BPF_ANY : BPF_NOEXIST);
}

static __always_inline void hello_note(struct hello_key *key, struct sock *sk, int fd,
				       enum direction direction)
{
	struct carrier value = {
	    .sock = (__u64)sk,
	    .port_pair = sock_ports(sk),
	    .address = {.fd = fd},
	};

	key->pid = bpf_get_current_pid_tgid() >> 32;
	sock_address(&value.address, sk);
	if (direction == DIRECTION_SENT)
		hello_sent(key, &value);
	else
		hello_received(key, &value);
}

/*
 * Bytes went through a socket that is not known for a connection's: by the
 * socket tracepoints (6.3). Global, as is the next: a stack of its own.
 */
__noinline int hello_passes(__u64 sock, int length, __u64 direction)
{
	struct sock *sk = (struct sock *)sock;
	const struct uring_use *use = NULL;
	struct hello_key key = {};
	__u64 at;
	int fd;

	if (length < (int)sizeof(struct hello) || !wanted())
		return 0;
	at = syscall_buffer(syscall_registers());
	if (!at) {
		use = uring_find(sk, direction);
		if (!use)
			return 0;
		at = uring_buffer(use);
	}
	if (!at || !hello_random(key.random, at, length))
		return 0;
	/* A ring's request may run in the middle of another socket's call. */
	fd = use ? use->fd : syscall_fd_of(sk);
	if (fd >= 0)
		hello_note(&key, sk, fd, direction);
	return 0;
}

/* The same by a system call, before 6.3. */
__noinline int hello_passes_call(int fd, __u64 at, int length, __u64 direction)
{
	struct hello_key key = {};
	struct sock *sk;

	if (!at || !hello_random(key.random, at, length))
		return 0;
	sk = sock_of_fd(fd);
	if (sk)
		hello_note(&key, sk, fd, direction);
	return 0;
}

#endif

#endif
