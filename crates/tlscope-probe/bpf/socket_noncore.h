/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Without BTF no kernel struct can be read: the descriptor alone is kept, and
 * user space finds its address.
 */
#ifndef TLSCOPE_SOCKET_H
#define TLSCOPE_SOCKET_H

#include "call.h"
#include "connection.h"

static __always_inline void fd_used(__u64 object, __u32 fd)
{
	struct connection *connection = connection_get(object);

	if (connection)
		connection->socket.fd = fd;
}

#endif
