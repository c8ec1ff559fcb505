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
#include "syscall_numbers.h"

#ifdef TLSCOPE_CORE

/* RFC 8446, sections 4.1.2 and 5.1: a record, a message, its version, the random. */
struct client_hello {
	__u8 content_type;
	__u8 record_version[2];
	__u8 record_length[2];
	__u8 message_type;
	__u8 message_length[3];
	__u8 version[2];
	__u8 random[RANDOM_LEN];
} __attribute__((packed));

#define CONTENT_HANDSHAKE    22
#define MESSAGE_CLIENT_HELLO 1
#define VERSION_MAJOR	     3

struct hello_key {
	__u32 pid;
	__u32 direction;
	__u8 random[RANDOM_LEN];
};

struct hello_socket {
	struct socket_address address;
	__u64 sock;
	__u32 port_pair;
	__u32 reserved;
};

/* LRU: a hello is asked for within its handshake, or never. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct hello_key);
	__type(value, struct hello_socket);
} hellos SEC(".maps");

/* The first buffer of the system call under way, in the target; 0: none. */
static __always_inline __u64 syscall_buffer(void)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	__u64 number = 0, at = 0;

	bpf_probe_read_kernel(&number, sizeof(SYSCALL_NR(regs)), &SYSCALL_NR(regs));
	bpf_probe_read_kernel(&at, sizeof(at), &SYSCALL_ARG2(regs));
	switch (number) {
	case SYS_SENDMSG:
	case SYS_RECVMSG:
		/* struct msghdr: a pointer, an int in 8 bytes, then the vector. */
		if (bpf_probe_read_user(&at, sizeof(at), (void *)at + 16))
			return 0;
		/* fallthrough */
	case SYS_WRITEV:
	case SYS_READV: return bpf_probe_read_user(&at, sizeof(at), (void *)at) ? 0 : at;
	case SYS_WRITE:
	case SYS_READ:
	case SYS_SENDTO:
	case SYS_RECVFROM: return at;
	default: return 0;
	}
}

/* Bytes went through a socket outside of any TLS call. */
static __always_inline void hello_passes(struct sock *sk, int length, enum direction direction)
{
	struct client_hello hello;
	struct hello_socket value = {};
	struct hello_key key = {};
	__u64 at;

	if (length < (int)sizeof(hello) ||
	    !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs) || !wanted())
		return;
	at = syscall_buffer();
	if (!at || bpf_probe_read_user(&hello, sizeof(hello), (void *)at))
		return;
	if (hello.content_type != CONTENT_HANDSHAKE || hello.record_version[0] != VERSION_MAJOR ||
	    hello.message_type != MESSAGE_CLIENT_HELLO || hello.version[0] != VERSION_MAJOR)
		return;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	key.direction = direction;
	__builtin_memcpy(key.random, hello.random, sizeof(key.random));
	/*
	 * A relay in the same process passes a hello on: the client sent it
	 * first, the server receives it last.
	 */
	value.address.fd = sock_fd(sk);
	sock_address(&value.address, sk);
	value.sock = (__u64)sk;
	value.port_pair = sock_ports(sk);
	bpf_map_update_elem(&hellos, &key, &value,
			    direction == DIRECTION_SENT ? BPF_NOEXIST : BPF_ANY);
}

static __always_inline struct hello_socket *hello_find(struct hello_key *key,
						       enum direction direction)
{
	key->direction = direction;
	return bpf_map_lookup_elem(&hellos, key);
}

#else
static __always_inline void hello_passes(struct sock *sk, int length, enum direction direction)
{
}
#endif

#endif
