/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Which socket a connection runs over: the one that its own call touches. The
 * address is read from the kernel's struct sock at that moment, never matched
 * by number later. How fields are read is what the two objects differ in.
 */
#ifndef TLSCOPE_SOCKET_H
#define TLSCOPE_SOCKET_H

#include "call.h"
#include "connection.h"

#ifdef TLSCOPE_CORE
#include "socket_core.h"
#else
#include "socket_noncore.h"
#endif

static __always_inline void connection_touches(__u64 object, struct sock *sk, int fd)
{
	struct connection *connection = connection_get(object);
	struct socket_address address = {.fd = fd};
	__u32 ports = sock_ports(sk);

	if (!connection)
		return;
	if (connection->sock == (__u64)sk && connection->port_pair == ports)
		return;
	if (fd < 0)
		address.fd = sock_fd(sk);
	sock_address(&address, sk);
	connection->socket = address;
	connection->port_pair = ports;
	connection->sock = (__u64)sk;
}

static __always_inline int socket_used(struct sock *sk)
{
	struct frame *frame = frame_current();

	if (frame)
		connection_touches(frame->object, sk, -1);
	return 0;
}

/* Both tracepoints fire in the context of the caller (6.3). */
SEC("raw_tp")
int sock_send_length(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_used((struct sock *)ctx->args[0]);
}

SEC("raw_tp")
int sock_recv_length(struct bpf_raw_tracepoint_args *ctx)
{
	return socket_used((struct sock *)ctx->args[0]);
}

#endif
