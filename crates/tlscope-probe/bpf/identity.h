/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The sockets of a connection whose calls touch none: those that its hellos
 * passed.
 */
#ifndef TLSCOPE_IDENTITY_H
#define TLSCOPE_IDENTITY_H

#include "hello.h"
#include "secret.h"

/* Why there is no address, in case that none is found. */
static __always_inline void mark_older(struct connection *connection, const struct image *image)
{
	bool older = image->births && !(connection->flags & CONNECTION_BORN);

	connection->carriers[0].address.older = older;
	connection->carriers[1].address.older = older;
}

/*
 * A library that does its own I/O touches a socket in its first call, or in the
 * call around that. One that is still to connect (BIO_s_connect) does not, nor
 * one whose ClientHello waits for early data: hellos tell their sockets too.
 */
static __always_inline void mark_apart(struct connection *connection, const struct frame *frame)
{
	if (!frame->touched && connection->flags & CONNECTION_BORN && !frame_current())
		connection->flags |= CONNECTION_APART;
}

#ifdef TLSCOPE_CORE
/* Where the client random stands in the target; 0: not known. */
static __always_inline __u64 random_place(const struct image *image, __u64 object)
{
	/* Else the path does not begin at the connection. */
	if (!image->client_random.steps || image->random_arg != image->connection_arg)
		return 0;
	return field_address(object, &image->client_random);
}

static __always_inline bool random_read_at(struct hello_key *key, __u64 at)
{
	const __u64 *words = (const __u64 *)key->random;

	return !bpf_probe_read_user(key->random, sizeof(key->random), (void *)at) && words[0];
}

/*
 * A client has a random before its hello is sent, a server after it was
 * received: so the first sight tells which it is.
 */
static __always_inline void client_hello_identify(struct connection *connection,
						  struct hello_key *key, __u64 random)
{
	const struct carrier none = {.address = {.fd = -1}};
	const struct carrier *found;

	if (!random_read_at(key, random))
		return;
	if (connection->side == SIDE_UNKNOWN)
		connection->side = hello_find(key, DIRECTION_RECEIVED) ? SIDE_SERVER : SIDE_CLIENT;
	found =
	    hello_find(key, connection->side == SIDE_SERVER ? DIRECTION_RECEIVED : DIRECTION_SENT);
	if (!found)
		return;
	connection->flags |= CONNECTION_NAMED;
	if (connection->side == SIDE_SERVER) {
		connection->carriers[DIRECTION_RECEIVED] = *found;
		connection->carriers[DIRECTION_SENT] = none;
	} else {
		connection->carriers[DIRECTION_RECEIVED] = none;
		connection->carriers[DIRECTION_SENT] = *found;
	}
}

/*
 * The server's random stands beside the client's, on one side or the other: in OpenSSL, LibreSSL,
 * BoringSSL and GnuTLS. Where it does not, what is read there has passed no socket.
 */
static __always_inline void server_hello_identify(struct connection *connection,
						  struct hello_key *key, __u64 random)
{
	const bool server = connection->side == SIDE_SERVER;
	const enum direction direction = server ? DIRECTION_SENT : DIRECTION_RECEIVED;
	const struct carrier *found = NULL;

	if (random_read_at(key, random - RANDOM_LEN))
		found = hello_find(key, direction);
	if (!found && random_read_at(key, random + RANDOM_LEN))
		found = hello_find(key, direction);
	if (!found)
		connection->sought++;
	else if (server)
		connection->carriers[DIRECTION_SENT] = *found;
	else
		connection->carriers[DIRECTION_RECEIVED] = *found;
}

/* To be called when a call returns. */
static __always_inline void connection_identify(void *ctx, struct connection *connection,
						__u64 object)
{
	const struct image *image = image_of(ctx);
	struct hello_key key = {};
	__u64 random;

	if (!image)
		return;
	random = random_place(image, object);
	key.pid = bpf_get_current_pid_tgid() >> 32;
	if (!(connection->flags & CONNECTION_NAMED)) {
		mark_older(connection, image);
		if (random)
			client_hello_identify(connection, &key, random);
	}
	if (connection->flags & CONNECTION_NAMED)
		server_hello_identify(connection, &key, random);
}
#else
static __always_inline void connection_identify(void *ctx, struct connection *connection,
						__u64 object)
{
	const struct image *image = image_of(ctx);

	if (image)
		mark_older(connection, image);
}
#endif

#endif
