/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Reading sockets without BTF. The head of struct sock_common has had one
 * layout on 64-bit kernels from 3.13 to today: a test compares it with the BTF
 * of the kernel it runs on. Before 6.3, kprobes lead to the socket.
 */
#ifndef TLSCOPE_SOCKET_NONCORE_H
#define TLSCOPE_SOCKET_NONCORE_H

#include "maps.h"

#define HELLOS_TELL false

struct in6_addr {
	__u8 bytes[16];
};

struct sock {
	__u32 daddr;
	__u32 rcv_saddr;
	__u32 hash;
	__u16 dport; /* network order */
	__u16 num;
	__u16 family;
	__u8 state_to_prot[22];
	__u64 prot;
	__u64 net;
	struct in6_addr v6_daddr;
	struct in6_addr v6_rcv_saddr;
};

/* Set by sys_enter: whatever touches a socket runs inside that call. */
static __always_inline int fd_of_thread(const struct thread *thread)
{
	return thread->fd;
}

/* No other way. */
static __always_inline int sock_fd(struct sock *sk, enum direction direction)
{
	return -1;
}

static __always_inline bool syscall_may_name(int fd)
{
	return true;
}

/* Known where it is not ahead of what sys_enter sees; 0: not known. */
static __always_inline __u64 buffer_used(struct sock *sk, enum direction direction)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);

	return thread ? thread->buffer : 0;
}

static __always_inline __u64 stack_in_use(void)
{
	return 0;
}

static __always_inline __u32 sock_ports(struct sock *sk)
{
	__u32 ports = 0;

	bpf_probe_read_kernel(&ports, sizeof(ports), &sk->dport);
	return ports;
}

/* Beyond the part whose layout is known. */
static __always_inline __u32 sock_protocol(struct sock *sk)
{
	return 0;
}

static __always_inline void sock_address(struct socket_address *to, struct sock *sk)
{
	struct sock from = {};

	bpf_probe_read_kernel(&from, sizeof(from), sk);
	to->family = from.family;
	if (!is_inet(to))
		return;
	to->local_port = from.num;
	to->remote_port = __builtin_bswap16(from.dport);
	if (to->family == AF_INET) {
		__builtin_memcpy(to->local, &from.rcv_saddr, sizeof(from.rcv_saddr));
		__builtin_memcpy(to->remote, &from.daddr, sizeof(from.daddr));
	} else {
		__builtin_memcpy(to->local, &from.v6_rcv_saddr, sizeof(to->local));
		__builtin_memcpy(to->remote, &from.v6_daddr, sizeof(to->remote));
	}
}

#endif
