/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Output of the noncore object: a perf buffer (ring buffers need 5.8), filled
 * from per-CPU scratch. Everything is inlined and unrolled: kernel 4.18 has no
 * loops, refuses tail calls next to subprograms, and takes 4096 instructions.
 */
#ifndef TLSCOPE_OUTPUT_H
#define TLSCOPE_OUTPUT_H

#include "emission.h"

/* 12 chunks a program and 33 tail calls carry 6.4 MiB of one call. */
#define CHUNKS_PER_PROGRAM 12
/* Chunks of a write under way for one send on its socket. */
#define CHUNKS_AHEAD 4

/*
 * From kernel 6.0 on, uprobe programs preempt each other: a slot is taken
 * with XADD and given back, and a taken one is passed over.
 */
#define SCRATCH_SLOTS 4

struct scratch {
	__u64 taken;
	struct data_record head;
	__u8 payload[CHUNK_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCH_SLOTS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} perf SEC(".maps");

int emit_rest(struct pt_regs *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} continuations SEC(".maps") = {
    .values = {(void *)&emit_rest},
};

static __always_inline struct scratch *scratch_take(void)
{
	struct scratch *slot;
	__u32 i;

#pragma unroll
	for (i = 0; i < SCRATCH_SLOTS; i++) {
		__u32 key = i;

		slot = bpf_map_lookup_elem(&scratch, &key);
		if (!slot)
			return NULL;
		__sync_fetch_and_add(&slot->taken, 1);
		if (*(volatile __u64 *)&slot->taken == 1)
			return slot;
		__sync_fetch_and_add(&slot->taken, -1);
	}
	return NULL;
}

static __always_inline void scratch_give(struct scratch *slot)
{
	__sync_fetch_and_add(&slot->taken, -1);
}

static __always_inline enum chunk_fate chunk(void *ctx, struct scratch *slot, struct emission *e)
{
	__u64 length = e->head.length;
	long failed;

	if (!slot)
		return CHUNK_BUFFER_FULL;
	if (length > CHUNK_MAX)
		length = CHUNK_MAX;
	opaque(length);
	if (length > CHUNK_MAX)
		return CHUNK_UNREADABLE;
	slot->head = e->head;
	if (bpf_probe_read_user(slot->payload, length, (void *)e->address))
		return CHUNK_UNREADABLE;
	failed = bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &slot->head,
				       sizeof(slot->head) + length);
	return failed ? CHUNK_BUFFER_FULL : CHUNK_SENT;
}

static __always_inline void emit_chunks(void *ctx, struct emission *e, __u32 most)
{
	struct scratch *slot = scratch_take();
	__u32 i;

#pragma unroll
	for (i = 0; i < most; i++) {
		if (!emission_next(e) || !emission_advance(e, chunk(ctx, slot, e)))
			break;
	}
	if (slot)
		scratch_give(slot);
}

/* At most CHUNKS_AHEAD chunks, none of which may wait. */
static __always_inline void emit_few(void *ctx, struct emission *e)
{
	emit_chunks(ctx, e, CHUNKS_AHEAD);
}

static __always_inline void emit(void *ctx, struct emission *e)
{
	emit_chunks(ctx, e, CHUNKS_PER_PROGRAM);
	if (e->remaining)
		bpf_tail_call(ctx, &continuations, 0);
	/* Nothing remains, or the kernel's limit of tail calls was met. */
	emission_end(e);
}

SEC("uprobe")
int emit_rest(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct emission *e = bpf_map_lookup_elem(&emissions, &thread);

	if (e)
		emit(ctx, e);
	return 0;
}

static __always_inline bool emit_record(void *ctx, __u64 object, void *record, __u32 size)
{
	return !bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, record, size);
}

#endif
