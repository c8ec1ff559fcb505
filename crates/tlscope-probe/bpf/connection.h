/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Connections: the state that outlives a call. An entry is made at the first
 * sight of an object; a new generation starts when the library hands the same
 * address out again or clears the object.
 */
#ifndef TLSCOPE_CONNECTION_H
#define TLSCOPE_CONNECTION_H

#include "maps.h"

static __always_inline void connection_key(struct connection_key *key, __u64 object)
{
	key->object = object;
	key->pid = bpf_get_current_pid_tgid() >> 32;
	key->reserved = 0;
}

static __always_inline struct connection *connection_find(__u64 object)
{
	struct connection_key key;

	connection_key(&key, object);
	return bpf_map_lookup_elem(&connections, &key);
}

static __always_inline struct connection *connection_get(__u64 object)
{
	struct connection fresh = {};
	struct connection *known;
	struct connection_key key;

	connection_key(&key, object);
	known = bpf_map_lookup_elem(&connections, &key);
	if (known)
		return known;

	fresh.generation = bpf_ktime_get_ns();
	fresh.carriers[0].address.fd = -1;
	fresh.carriers[1].address.fd = -1;
	bpf_map_update_elem(&connections, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&connections, &key);
}

/*
 * A library reads and writes through one socket, save where it is seen to use two: so either
 * direction tells it. What the program does with its own hands is known as far as it is seen.
 */
static __always_inline const struct socket_address *
connection_address(const struct connection *connection, enum direction direction)
{
	const struct socket_address *own = &connection->carriers[direction].address;

	if (own->family || connection->flags & CONNECTION_NAMED)
		return own;
	return &connection->carriers[!direction].address;
}

static __always_inline bool carrier_is(const struct carrier *carrier, __u64 sock, __u32 port_pair)
{
	return carrier->sock == sock && carrier->port_pair == port_pair;
}

/* In both directions. */
static __always_inline void connection_carry(struct connection *connection,
					     const struct carrier *carrier)
{
	connection->carriers[0] = *carrier;
	connection->carriers[1] = *carrier;
}

static __always_inline void header_fill(struct record_header *header, __u32 kind, __u32 size)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	header->kind = kind;
	header->size = size;
	header->time_ns = bpf_ktime_get_ns();
	header->pid = pid_tgid >> 32;
	header->tid = (__u32)pid_tgid;
	header->uid = (__u32)bpf_get_current_uid_gid();
	header->reserved = 0;
	bpf_get_current_comm(header->comm, sizeof(header->comm));
}

#endif
