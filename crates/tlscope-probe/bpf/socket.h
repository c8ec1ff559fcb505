/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Which socket a connection runs over: the one that its own call touches. The
 * address is read from the kernel's struct sock at that moment, never matched
 * by number later. How fields are read is what the two objects differ in.
 */
#ifndef TLSCOPE_SOCKET_H
#define TLSCOPE_SOCKET_H

#include "call.h"
#include "emission.h"

#ifdef TLSCOPE_CORE
#include "socket_core.h"
#else
#include "socket_noncore.h"
#endif
#include "hello.h"

/*
 * The first socket that a call touches is its connection's. What it touches
 * after that is a callback's business: a session cache, a log daemon.
 */
static __always_inline void connection_touches(struct frame *frame, struct sock *sk, int fd)
{
	struct connection *connection = connection_get(frame->object);
	struct socket_address address = {.fd = fd};
	__u32 ports = sock_ports(sk);

	if (!connection || frame->settled)
		return;
	if (connection->sock == (__u64)sk && connection->port_pair == ports) {
		frame->settled = true;
		return;
	}
	if (fd < 0)
		address.fd = sock_fd(sk);
	sock_address(&address, sk);
	/* A log daemon may be told of the handshake before it begins. */
	if (address.family != AF_UNIX)
		frame->settled = true;
	else if (connection->socket.family > AF_UNIX)
		return;
	/* A reset takes the port away; what comes after it tells nothing. */
	if (address.family != AF_UNIX && !address.local_port)
		return;
	connection->socket = address;
	connection->port_pair = ports;
	connection->sock = (__u64)sk;
}

/* False when the thread is in no TLS call. */
static __always_inline bool socket_used(struct sock *sk)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	int i;

	if (!thread || !thread->depth)
		return false;
	/* TLS over TLS: the socket is under every connection on the stack. */
#pragma unroll
	for (i = 0; i < FRAMES_MAX; i++)
		if (i < thread->depth)
			connection_touches(&thread->frames[i], sk, -1);
	return true;
}

/*
 * A long write is emitted while the library works through it, at the pace of
 * its encryption: all at once, at the return, it would overrun any buffer.
 * What the socket took bounds what has been encrypted; the lag keeps clear of
 * records under way and of what encryption adds.
 */
#define AHEAD_MIN (512 * 1024)
#define AHEAD_LAG (128 * 1024)

static __always_inline void emit_ahead(void *ctx, struct frame *frame, long accepted)
{
	struct connection *connection;
	struct emission *e;
	__u64 safe, ahead;

	if (!frame || frame->length < AHEAD_MIN || accepted <= 0)
		return;
	connection = connection_find(frame->object);
	e = emission_get();
	if (!connection || !e)
		return;
	/* A retried write goes on where it was. */
	if (!frame->sent)
		frame->sent = connection->ahead;
	frame->sent += accepted;
	/* Encryption adds 57 bytes to a record of 16 KiB at most: CBC with SHA-1. */
	safe = frame->sent - (frame->sent >> 8);
	if (safe > frame->length)
		safe = frame->length;
	ahead = connection->ahead;
	if (safe < ahead + AHEAD_LAG)
		return;
	emission_begin(e, connection, frame, DIRECTION_SENT, frame->length, ahead);
	e->remaining = (safe - AHEAD_LAG - ahead) & ~(CHUNK_MAX - 1ULL);
	if (e->remaining > CHUNKS_AHEAD * CHUNK_MAX)
		e->remaining = CHUNKS_AHEAD * CHUNK_MAX;
	connection->ahead = ahead + e->remaining;
	emit_few(ctx, e);
}

/* Both tracepoints fire in the context of the caller (6.3). */
SEC("raw_tp")
int sock_send_length(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int length = (int)ctx->args[1];

	if (socket_used(sk))
		emit_ahead(ctx, frame_current(), length);
	else
		hello_passes(sk, length, DIRECTION_SENT);
	return 0;
}

SEC("raw_tp")
int sock_recv_length(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];

	if (!socket_used(sk))
		hello_passes(sk, (int)ctx->args[1], DIRECTION_RECEIVED);
	return 0;
}

#endif
