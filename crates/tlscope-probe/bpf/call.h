/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Calls in flight. A frame is pushed at entry and popped at return, matched by
 * stack pointer: nested calls (TLS over TLS) and frames that a longjmp left
 * behind are told apart without any help from the library.
 */
#ifndef TLSCOPE_CALL_H
#define TLSCOPE_CALL_H

#include "maps.h"

static __always_inline struct thread *thread_get(void)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	struct thread fresh = {.fd = -1};

	if (thread)
		return thread;
	bpf_map_update_elem(&threads, &id, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&threads, &id);
}

/* The current call of this thread, or NULL. */
static __always_inline struct frame *frame_current(void)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);

	if (!thread || !thread->depth)
		return NULL;
	/* The mask is for the verifier: depth never exceeds FRAMES_MAX. */
	return &thread->frames[(thread->depth - 1) & (FRAMES_MAX - 1)];
}

static __always_inline void frame_push_of(struct pt_regs *ctx, __u64 buffer, __u64 length_at,
					  __u64 length)
{
	struct thread *thread = thread_get();
	__u64 stack = STACK(ctx);
	struct frame *frame;
	__u64 depth;
	int i;

	if (!thread)
		return;
	depth = thread->depth;
	/* A live caller's frame lies above ours: others were left by a longjmp. */
#pragma unroll
	for (i = FRAMES_MAX - 1; i >= 0; i--)
		if (i < depth && thread->frames[i].stack <= stack)
			depth = i;
	opaque(depth);
	if (depth >= FRAMES_MAX) {
		count(COUNTER_DEEP_CALLS, 1);
		return;
	}
	/* Before 5.13 the verifier forgets what the comparison said: the mask stays. */
	opaque(depth);
	frame = &thread->frames[depth & (FRAMES_MAX - 1)];
	frame->stack = stack;
	frame->object = ARG1(ctx);
	frame->buffer = buffer;
	frame->length_at = length_at;
	frame->length = length;
	frame->sent = 0;
	frame->settled = false;
	frame->touched = false;
	frame->own = false;
	frame->foreign = 0;
	thread->depth = depth + 1;
}

/* The usual form: the buffer is the second argument. */
static __always_inline void frame_push(struct pt_regs *ctx, __u64 length_at, __u64 length)
{
	frame_push_of(ctx, ARG2(ctx), length_at, length);
}

static __always_inline struct frame *frame_pop(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);
	__u64 stack = STACK(ctx) - RETURN_POPS;
	int i;

	if (thread) {
#pragma unroll
		for (i = FRAMES_MAX - 1; i >= 0; i--) {
			if (i < thread->depth && thread->frames[i].stack == stack) {
				thread->depth = i;
				return &thread->frames[i];
			}
		}
	}
	count(COUNTER_UNMATCHED_RETURNS, 1);
	return NULL;
}

#endif
