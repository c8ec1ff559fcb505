/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A call's plaintext on its way out, in chunks. What both outputs share: the
 * state of an emission, how it advances, and how a lost chunk is accounted.
 */
#ifndef TLSCOPE_EMISSION_H
#define TLSCOPE_EMISSION_H

#include "connection.h"

/* A buffer that cannot be read is given up after this many failed chunks. */
#define UNREADABLE_MAX 16

/* One per thread: it must survive a tail call in the noncore object. */
struct emission {
	struct data_record head; /* of the next chunk */
	__u64 address;		 /* of the next chunk, in the target */
	__u64 remaining;
	__u64 unreadable; /* chunks */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct emission);
} emissions SEC(".maps");

enum chunk_fate {
	CHUNK_SENT,
	CHUNK_BUFFER_FULL,
	CHUNK_UNREADABLE,
};

static __always_inline struct emission *emission_find(__u64 thread)
{
	return bpf_map_lookup_elem(&emissions, &thread);
}

static __always_inline long emission_put(__u64 thread)
{
	struct emission fresh = {};

	return bpf_map_update_elem(&emissions, &thread, &fresh, BPF_NOEXIST);
}

static __always_inline struct emission *emission_get(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct emission *e = emission_find(thread);

	if (e)
		return e;
	emission_put(thread);
	return emission_find(thread);
}

/* A program and what it calls have 512 bytes of stack together, and programs of sockets need much.
 */
SHARED int emission_put_apart(__u64 thread)
{
	return emission_put(thread);
}

static __always_inline struct emission *emission_get_apart(void)
{
	__u64 thread = bpf_get_current_pid_tgid();

	if (!emission_find(thread))
		emission_put_apart(thread);
	return emission_find(thread);
}

/* Begins `skip` bytes into the call's buffer: they have been sent before. */
static __always_inline void emission_begin(struct emission *e, const struct connection *connection,
					   const struct frame *frame, enum direction direction,
					   __u64 call_length, __u64 skip)
{
	header_fill(&e->head.header, RECORD_DATA, 0);
	e->head.connection.object = frame->object;
	e->head.connection.generation = connection->generation;
	e->head.socket = *connection_address(connection, direction);
	e->head.call_offset = connection->total[direction];
	e->head.call_length = call_length;
	e->head.offset = e->head.call_offset + skip;
	e->head.direction = direction;
	e->address = frame->buffer + skip;
	e->unreadable = 0;
}

/* Sizes the next chunk; false when nothing is left. */
static __always_inline bool emission_next(struct emission *e)
{
	__u64 length = e->remaining;

	if (!length)
		return false;
	if (length > CHUNK_MAX)
		length = CHUNK_MAX;
	e->head.length = length;
	e->head.header.size = sizeof(e->head) + length;
	return true;
}

/* Accounts for the chunk and moves past it; false when the call is given up. */
static __always_inline bool emission_advance(struct emission *e, enum chunk_fate fate)
{
	__u64 length = e->head.length;

	if (fate == CHUNK_BUFFER_FULL) {
		count(COUNTER_BUFFER_FULL_RECORDS, 1);
		count(COUNTER_BUFFER_FULL_BYTES, length);
	} else if (fate == CHUNK_UNREADABLE) {
		count(COUNTER_UNREADABLE_BYTES, length);
		e->unreadable++;
	}
	e->address += length;
	e->head.offset += length;
	e->remaining -= length;
	if (e->unreadable < UNREADABLE_MAX)
		return true;
	count(COUNTER_UNREADABLE_BYTES, e->remaining);
	e->remaining = 0;
	return false;
}

/* What no further chunk will carry. */
static __always_inline void emission_end(struct emission *e)
{
	if (e->remaining)
		count(COUNTER_OVERSIZE_BYTES, e->remaining);
	e->remaining = 0;
}

#endif
