/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Output of the core object: BPF ring buffers in shards, by connection, so
 * that a connection's order holds without sorting. Records are reserved and
 * filled in place: uprobe programs can preempt each other since kernel 6.0,
 * so a per-CPU scratch buffer would mix two connections' bytes.
 */
#ifndef TLSCOPE_OUTPUT_H
#define TLSCOPE_OUTPUT_H

#include "emission.h"

#define SHARDS_MAX 64

/*
 * The reader is woken near a fill level and otherwise polls: a wake-up a
 * record would cost the target more than the copy. The window is so wide that
 * writers that pass the level at the same time cannot both miss it.
 */
#define WAKEUP_WINDOW (4 * (CHUNK_MAX + sizeof(struct data_record)))

/* Chunks of the longest call there can be, INT_MAX bytes: this many batches of as many. */
#define CHUNKS_PER_BATCH 512
#define BATCHES_MAX	 (0x80000000U / CHUNK_MAX / CHUNKS_PER_BATCH)

/* Chunks of a write under way for one send on its socket. */
#define CHUNKS_AHEAD 16

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SHARDS_MAX);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

static __always_inline void *ring_of(__u64 object)
{
	const struct config *cfg = configuration();
	__u32 shard;

	if (!cfg)
		return NULL;
	/* Fibonacci hashing: objects differ in their middle bits. */
	shard = ((object >> 4) * 0x9e3779b97f4a7c15ULL >> 32) & (cfg->shards - 1);
	return bpf_map_lookup_elem(&rings, &shard);
}

static __always_inline __u64 wakeup(void *ring)
{
	__u64 waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
	const struct config *cfg = configuration();

	if (cfg && waiting >= cfg->wakeup_bytes && waiting < cfg->wakeup_bytes + WAKEUP_WINDOW)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Reservations need a constant size, so chunks come in size classes. */
#define DEFINE_CHUNK_CLASS(capacity)                                                               \
	static __noinline int chunk_##capacity(void *ring, struct emission *e)                     \
	{                                                                                          \
		struct {                                                                           \
			struct data_record head;                                                   \
			__u8 payload[capacity];                                                    \
		} *record;                                                                         \
		__u64 length = e->head.length;                                                     \
                                                                                                   \
		record = bpf_ringbuf_reserve(ring, sizeof(*record), 0);                            \
		if (!record)                                                                       \
			return CHUNK_BUFFER_FULL;                                                  \
		record->head = e->head;                                                            \
		if (length > capacity)                                                             \
			length = capacity;                                                         \
		opaque(length);                                                                    \
		if (length > capacity ||                                                           \
		    bpf_probe_read_user(record->payload, length, (void *)e->address)) {            \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                             \
			return CHUNK_UNREADABLE;                                                   \
		}                                                                                  \
		bpf_ringbuf_submit(record, wakeup(ring));                                          \
		return CHUNK_SENT;                                                                 \
	}

DEFINE_CHUNK_CLASS(256)
DEFINE_CHUNK_CLASS(1024)
DEFINE_CHUNK_CLASS(2048)
DEFINE_CHUNK_CLASS(4096)
DEFINE_CHUNK_CLASS(8192)
DEFINE_CHUNK_CLASS(16384)

/*
 * False when the emission is over. Global functions are verified once (5.6),
 * so the loops below cost the verifier little. Not bpf_loop: before 5.13 the
 * address of a callback alone keeps a program from loading, used or not.
 */
__noinline int emit_chunk(__u64 thread)
{
	struct emission *e = bpf_map_lookup_elem(&emissions, &thread);
	enum chunk_fate fate = CHUNK_BUFFER_FULL;
	void *ring;

	if (!e || !emission_next(e))
		return false;
	ring = ring_of(e->head.connection.object);
	if (!ring)
		;
	else if (e->head.length <= 256)
		fate = chunk_256(ring, e);
	else if (e->head.length <= 1024)
		fate = chunk_1024(ring, e);
	else if (e->head.length <= 2048)
		fate = chunk_2048(ring, e);
	else if (e->head.length <= 4096)
		fate = chunk_4096(ring, e);
	else if (e->head.length <= 8192)
		fate = chunk_8192(ring, e);
	else
		fate = chunk_16384(ring, e);
	return emission_advance(e, fate);
}

__noinline int emit_batch(__u64 thread)
{
	__u32 i;

	for (i = 0; i < CHUNKS_PER_BATCH; i++)
		if (!emit_chunk(thread))
			return false;
	return true;
}

/* At most CHUNKS_AHEAD chunks, none of which may wait. */
static __always_inline void emit_few(void *ctx, struct emission *e)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 i;

	for (i = 0; i < CHUNKS_AHEAD; i++)
		if (!emit_chunk(thread))
			break;
}

static __always_inline void emit(void *ctx, struct emission *e)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 i;

	if (e->remaining <= CHUNK_MAX) {
		emit_chunk(thread);
	} else {
		for (i = 0; i < BATCHES_MAX; i++)
			if (!emit_batch(thread))
				break;
	}
	emission_end(e);
}

/*
 * Secrets and owners come in bursts, some ten for a handshake: like data they
 * wait for the reader's next look. A wake-up for each cost more than the rest.
 */
static __always_inline bool emit_record(void *ctx, __u64 object, void *record, __u32 size)
{
	void *ring = ring_of(object);

	return ring && !bpf_ringbuf_output(ring, record, size, wakeup(ring));
}

#endif
