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
#include "wire.h"

#ifdef TLSCOPE_CORE
#include "socket_core.h"
#include "uring.h"
#else
#include "socket_noncore.h"
#endif
#include "hello.h"

/* What goes through a socket, when a call touches it. */
enum passing {
	PASSING_NOTHING, /* it failed, or there was nothing */
	PASSING_UNSEEN,	 /* it is yet to come */
	PASSING_BYTES,
};

/* How a call touches a socket. */
struct touch {
	struct sock *sk;
	int fd; /* -1: to be found out */
	enum direction direction;
	enum passing passing;
	bool under; /* another call is under way inside this one */
};

/* Its descriptor is to be found out. */
static __always_inline struct touch touch_of(struct sock *sk, enum direction direction,
					     enum passing passing)
{
	return (struct touch){.sk = sk, .fd = -1, .direction = direction, .passing = passing};
}

/* What a touch has to do with the connection whose call it is in. */
enum touched {
	TOUCHED_NOTHING,
	TOUCHED_SETTLES, /* it is the connection's socket */
	TOUCHED_FOREIGN, /* it took what is no record of the connection */
};

/* How a call touches a socket, in one register. */
union manner {
	__u64 bits;
	struct {
		__u8 direction; /* enum direction */
		__u8 passing;	/* enum passing */
		bool under;
		bool meant;   /* a read receives, a write sends */
		bool settled; /* the call has touched its connection's socket */
	};
};

/*
 * What a callback of the library does inside a call (a session cache, a log
 * daemon, a program that goes on with another connection) is no business of
 * the connection, even where it is the first to touch a socket. So a connection
 * begins on a socket, or on another one than it has, only with the record that
 * begins a handshake, or in its middle:
 * - under another connection's call (TLS in TLS), whose records hold its own;
 * - where its other direction has a socket, and this one may have another;
 * - by what the call is for, a read that receives and a write that sends: the
 *   handshake may have been in a call without a probe (SSL_accept in 1.0.2).
 * A connection whose beginning was not seen may be in the middle of a record:
 * there what the call is for is enough, and where the bytes cannot be told, the
 * first socket that a call touches.
 */
static __always_inline bool may_carry(const struct connection *connection, struct sock *sk,
				      __u64 foreign, union manner manner)
{
	bool known = connection->carriers[manner.direction & 1].address.family;
	bool other_known = connection->carriers[!manner.direction].address.family;
	__u64 at = 0;

	/* Where no hello can tell, it may still be one whose ClientHello waited for early data. */
	if (connection->flags & CONNECTION_APART &&
	    (HELLOS_TELL || !manner.meant || foreign == (__u64)sk))
		return false;
	if (!known && !other_known && !(connection->flags & CONNECTION_BORN) && manner.meant &&
	    foreign != (__u64)sk)
		return true;
	if (manner.passing == PASSING_NOTHING)
		return false;
	if (manner.passing == PASSING_BYTES)
		at = buffer_used(sk, manner.direction);
	if (!at)
		return foreign != (__u64)sk;
	return record_begins(at, known || !(manner.under || other_known || manner.meant));
}

/* A socket may come to have another descriptor, or one for each direction. */
static __always_inline void fd_follow(struct socket_address *address, struct sock *sk,
				      enum direction direction, int fd)
{
	if (fd < 0 && !syscall_may_name(address->fd))
		fd = sock_fd(sk, direction);
	if (fd >= 0)
		address->fd = fd;
}

SHARED int connection_touches(__u64 object, __u64 sock, __u64 foreign, int fd, __u64 bits)
{
	struct connection *connection = connection_get(object);
	struct sock *sk = (struct sock *)sock;
	struct carrier *carrier, *opposite;
	union manner manner = {.bits = bits};
	struct carrier fresh = {
	    .sock = sock,
	    .port_pair = sock_ports(sk),
	    .address = {.fd = fd},
	};

	if (!connection || connection->flags & CONNECTION_NAMED)
		return TOUCHED_NOTHING;
	/* No index: the verifier of 4.18 wants constant offsets. */
	if (manner.direction == DIRECTION_SENT) {
		carrier = &connection->carriers[DIRECTION_SENT];
		opposite = &connection->carriers[DIRECTION_RECEIVED];
	} else {
		carrier = &connection->carriers[DIRECTION_RECEIVED];
		opposite = &connection->carriers[DIRECTION_SENT];
	}
	if (carrier_is(carrier, fresh.sock, fresh.port_pair)) {
		fd_follow(&carrier->address, sk, manner.direction, fd);
		return TOUCHED_SETTLES;
	}
	if (carrier_is(opposite, fresh.sock, fresh.port_pair)) {
		*carrier = *opposite;
		fd_follow(&carrier->address, sk, manner.direction, fd);
		return TOUCHED_SETTLES;
	}
	/* What comes after the connection's own socket is a callback's business, too. */
	if (manner.settled)
		return TOUCHED_NOTHING;
	if (!may_carry(connection, sk, foreign, manner))
		return manner.direction == DIRECTION_SENT ? TOUCHED_FOREIGN : TOUCHED_NOTHING;
	if (fd < 0)
		fresh.address.fd = sock_fd(sk, manner.direction);
	sock_address(&fresh.address, sk);
	/* A log daemon may be told of the handshake before it begins. */
	if (fresh.address.family == AF_UNIX && carrier->address.family > AF_UNIX)
		return TOUCHED_NOTHING;
	/* A reset takes the port away; what comes after it tells nothing. */
	if (!is_inet(&fresh.address) || fresh.address.local_port) {
		*carrier = fresh;
		connection->flags &= ~CONNECTION_APART;
		if (manner.under)
			connection->flags |= CONNECTION_UNDER;
		else
			connection->flags &= ~CONNECTION_UNDER;
	}
	return fresh.address.family == AF_UNIX ? TOUCHED_NOTHING : TOUCHED_SETTLES;
}

static __always_inline void frame_touches(struct frame *frame, const struct touch *touch)
{
	enum direction meant = frame->length ? DIRECTION_SENT : DIRECTION_RECEIVED;
	union manner manner = {
	    .direction = touch->direction,
	    .passing = touch->passing,
	    .under = touch->under,
	    .meant = touch->direction == meant,
	    .settled = frame->settled,
	};

	frame->touched = true;
	frame->own = false;
	switch (connection_touches(frame->object, (__u64)touch->sk, frame->foreign, touch->fd,
				   manner.bits)) {
	case TOUCHED_SETTLES: frame->settled = frame->own = true; break;
	case TOUCHED_FOREIGN: frame->foreign = (__u64)touch->sk; break;
	default: break;
	}
}

/* False when the thread is in no TLS call. */
static __always_inline bool socket_used(struct sock *sk, enum direction direction,
					enum passing passing)
{
	struct touch touch = touch_of(sk, direction, passing);
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	__u64 stack;
	int i;

	if (!thread || !thread->depth)
		return false;
	stack = stack_in_use();
	touch.fd = fd_of_thread(thread);
	/* TLS over TLS: the socket is under every connection on the stack. */
#pragma unroll
	for (i = 0; i < FRAMES_MAX; i++) {
		touch.under = i + 1 < thread->depth;
		if (i < thread->depth && stack < thread->frames[i].stack)
			frame_touches(&thread->frames[i], &touch);
	}
	return true;
}

/* In the middle of one connection's call a program may carry the records of another. */
static __always_inline void hello_of_another(struct sock *sk, int length, enum direction direction)
{
#ifdef TLSCOPE_CORE
	const struct frame *frame = frame_current();

	if (!frame || !frame->own)
		hello_passes((__u64)sk, length, direction);
#endif
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
	e = emission_get_apart();
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

static __always_inline enum passing passing_of(int length)
{
	return length > 0 ? PASSING_BYTES : PASSING_NOTHING;
}

/* Both tracepoints fire in the context of the caller (6.3). */
SEC("raw_tp")
int sock_send_length(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int length = (int)ctx->args[1];

	if (socket_used(sk, DIRECTION_SENT, passing_of(length)))
		emit_ahead(ctx, frame_current(), length);
	hello_of_another(sk, length, DIRECTION_SENT);
	return 0;
}

SEC("raw_tp")
int sock_recv_length(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int length = (int)ctx->args[1];

	socket_used(sk, DIRECTION_RECEIVED, passing_of(length));
	hello_of_another(sk, length, DIRECTION_RECEIVED);
	return 0;
}

#endif
