/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The socket of a connection whose calls touch none: the one that its
 * ClientHello passed.
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

#ifdef TLSCOPE_CORE
static __always_inline bool random_of(struct hello_key *key, const struct image *image,
				      __u64 object)
{
	const __u64 *words = (const __u64 *)key->random;
	__u64 at;

	/* Else the path does not begin at the connection. */
	if (!image->client_random.steps || image->random_arg != image->connection_arg)
		return false;
	at = field_address(object, &image->client_random);
	return at && !bpf_probe_read_user(key->random, sizeof(key->random), (void *)at) && words[0];
}

/*
 * To be called when a call returns. A client has a random before its hello is
 * sent, a server after it was received: so the first sight tells which it is.
 */
static __always_inline void connection_identify(void *ctx, struct connection *connection,
						__u64 object)
{
	const struct image *image = image_of(ctx);
	const struct carrier *found;
	struct hello_key key = {};

	if (!image)
		return;
	mark_older(connection, image);
	if (!random_of(&key, image, object))
		return;
	key.pid = bpf_get_current_pid_tgid() >> 32;
	if (connection->side == SIDE_UNKNOWN)
		connection->side = hello_find(&key, DIRECTION_RECEIVED) ? SIDE_SERVER : SIDE_CLIENT;
	found =
	    hello_find(&key, connection->side == SIDE_SERVER ? DIRECTION_RECEIVED : DIRECTION_SENT);
	if (found) {
		connection_carry(connection, found);
		connection->flags |= CONNECTION_NAMED;
	}
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
