/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Calls of Go functions in flight. A goroutine changes threads between entry
 * and return, and its stack is moved: calls are keyed by goroutine, and told
 * apart by how far below the top of its stack they are, which a move keeps.
 */
#ifndef TLSCOPE_GOROUTINE_H
#define TLSCOPE_GOROUTINE_H

#include "secret.h"

/* g.stack.hi: the second word of every release's struct g. */
#define G_STACK_HI 8

struct go_frame {
	struct frame call; /* its `stack` counts from the top down */
	__u64 caller;	   /* where the call returns to */
};

struct goroutine {
	__u32 depth;
	__u32 reserved;
	struct go_frame frames[FRAMES_MAX];
};

struct goroutine_key {
	__u64 g;
	__u32 pid;
	__u32 reserved;
};

/*
 * An entry lives as long as a call does. LRU: a panic, Goexit or the end of
 * the process leaves one behind.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct goroutine_key);
	__type(value, struct goroutine);
} goroutines SEC(".maps");

/* One entry, all zeros: too large for the stack of the programs that need it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct goroutine);
} idle_goroutine SEC(".maps");

/* How the goroutine of a thread is found, for probes outside of Go code. */
struct go_process {
	__u32 place; /* enum goroutine_place, but never GOROUTINE_BY_SLOT */
	__u32 reserved;
	__s64 offset;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct go_process);
} go_processes SEC(".maps");

/* Where a goroutine stands now. */
struct go_stack {
	struct goroutine_key key;
	__u64 hi;
	__u64 used; /* from there down */
};

#if defined(__TARGET_ARCH_x86)
#define GO_WORD1(ctx)	     REGISTER(ctx, ax)
#define GO_WORD2(ctx)	     REGISTER(ctx, bx)
#define GO_WORD3(ctx)	     REGISTER(ctx, cx)
#define GO_WORD4(ctx)	     REGISTER(ctx, di)
#define GO_WORD5(ctx)	     REGISTER(ctx, si)
#define GO_WORD6(ctx)	     REGISTER(ctx, r8)
#define GO_WORD7(ctx)	     REGISTER(ctx, r9)
#define GO_WORD8(ctx)	     REGISTER(ctx, r10)
#define GO_WORD9(ctx)	     REGISTER(ctx, r11)
#define GO_G		     r14
#define PROGRAM_COUNTER(ctx) REGISTER(ctx, ip)
#else
#define GO_WORD1(ctx)	     REGISTER(ctx, regs[0])
#define GO_WORD2(ctx)	     REGISTER(ctx, regs[1])
#define GO_WORD3(ctx)	     REGISTER(ctx, regs[2])
#define GO_WORD4(ctx)	     REGISTER(ctx, regs[3])
#define GO_WORD5(ctx)	     REGISTER(ctx, regs[4])
#define GO_WORD6(ctx)	     REGISTER(ctx, regs[5])
#define GO_WORD7(ctx)	     REGISTER(ctx, regs[6])
#define GO_WORD8(ctx)	     REGISTER(ctx, regs[7])
#define GO_WORD9(ctx)	     REGISTER(ctx, regs[8])
#define GO_G		     regs[28]
#define PROGRAM_COUNTER(ctx) REGISTER(ctx, pc)
#endif

/* The number-th word of the arguments, counted from 0. */
static __always_inline __u64 go_argument(struct pt_regs *ctx, const struct go_layout *layout,
					 __u32 number)
{
	__u64 word = 0;

	if (layout->stack_abi) {
		bpf_probe_read_user(&word, sizeof(word), (void *)(STACK(ctx) + 8 + 8 * number));
		return word;
	}
	switch (number) {
	case 0: return GO_WORD1(ctx);
	case 1: return GO_WORD2(ctx);
	case 2: return GO_WORD3(ctx);
	case 3: return GO_WORD4(ctx);
	case 4: return GO_WORD5(ctx);
	case 5: return GO_WORD6(ctx);
	case 6: return GO_WORD7(ctx);
	case 7: return GO_WORD8(ctx);
	default: return GO_WORD9(ctx);
	}
}

/* The first result of a function with so many words of arguments, at its return. */
static __always_inline __u64 go_result(struct pt_regs *ctx, const struct go_layout *layout,
				       __u32 arguments)
{
	return go_argument(ctx, layout, layout->stack_abi ? arguments : 0);
}

/* Where the function that begins or ends here returns to. */
static __always_inline __u64 return_address(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	__u64 address = 0;

	bpf_probe_read_user(&address, sizeof(address), (void *)STACK(ctx));
	return address;
#else
	return REGISTER(ctx, regs[30]);
#endif
}

#if defined(TLSCOPE_CORE) && defined(__TARGET_ARCH_x86)
/* Nobody moves it once a thread has begun, so the saved copy is right. */
static __always_inline __u64 thread_pointer(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, thread.fsbase);
}
#else
/* User space attaches nothing that would need it. */
static __always_inline __u64 thread_pointer(void)
{
	return 0;
}
#endif

/* How far from its own addresses the image was loaded; 0 if that is not known. */
static __always_inline __u64 load_bias(struct pt_regs *ctx)
{
	__u64 address = cookie_of(ctx) >> COOKIE_ADDRESS_SHIFT;

	return address ? PROGRAM_COUNTER(ctx) - address : 0;
}

/* What the loader wrote: how far from the thread pointer the goroutine is. */
static __always_inline bool slot_read(__s64 *offset, struct pt_regs *ctx)
{
	return !bpf_probe_read_user(offset, sizeof(*offset), (void *)(load_bias(ctx) + *offset));
}

/* Which goroutine it is, how its stack lies and how far it is used. */
static __always_inline bool go_stack_of(struct go_stack *stack, __u64 in_register, __u64 sp,
					const struct go_process *process)
{
	__u64 g = in_register;

	if (process->place != GOROUTINE_IN_REGISTER &&
	    bpf_probe_read_user(&g, sizeof(g), (void *)(thread_pointer() + process->offset)))
		return false;
	stack->key.g = g;
	stack->key.pid = bpf_get_current_pid_tgid() >> 32;
	stack->key.reserved = 0;
	if (!g || bpf_probe_read_user(&stack->hi, sizeof(stack->hi), (void *)(g + G_STACK_HI)))
		return false;
	stack->used = stack->hi - sp;
	return true;
}

static __always_inline bool go_process_of(struct go_process *process, struct pt_regs *ctx,
					  const struct go_layout *layout)
{
	process->place = layout->place;
	process->reserved = 0;
	process->offset = layout->goroutine;
	if (layout->place != GOROUTINE_BY_SLOT)
		return true;
	process->place = GOROUTINE_THREAD_LOCAL;
	return slot_read(&process->offset, ctx);
}

/* Tells the probes outside of Go code. */
static __always_inline void go_process_known(const struct go_process *process)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	const struct go_process *known = bpf_map_lookup_elem(&go_processes, &pid);

	if (!known || known->place != process->place || known->offset != process->offset)
		bpf_map_update_elem(&go_processes, &pid, process, BPF_ANY);
}

/* Of the goroutine that hit a probe of Go code. */
static __always_inline bool go_stack(struct go_stack *stack, struct pt_regs *ctx,
				     const struct go_process *process)
{
	return go_stack_of(stack, REGISTER(ctx, GO_G), STACK(ctx), process);
}

static __always_inline struct goroutine *goroutine_get(const struct goroutine_key *key)
{
	struct goroutine *goroutine = bpf_map_lookup_elem(&goroutines, key);
	__u32 zero = 0;

	if (goroutine)
		return goroutine;
	goroutine = bpf_map_lookup_elem(&idle_goroutine, &zero);
	if (!goroutine)
		return NULL;
	bpf_map_update_elem(&goroutines, key, goroutine, BPF_NOEXIST);
	return bpf_map_lookup_elem(&goroutines, key);
}

/*
 * Whether a call is still under way: then it is above the stack pointer, and
 * where it returns to is still there, also after a move. What is not was left
 * by a panic, or by a dead goroutine whose g serves another now.
 */
static __always_inline bool go_frame_is_live(const struct go_frame *frame,
					     const struct go_stack *stack)
{
#if defined(__TARGET_ARCH_x86)
	__u64 caller = 0;

	if (bpf_probe_read_user(&caller, sizeof(caller), (void *)(stack->hi - frame->call.stack)) ||
	    caller != frame->caller)
		return false;
#endif
	return frame->call.stack < stack->used;
}

static __always_inline void go_frame_push(struct pt_regs *ctx, const struct go_layout *layout,
					  const struct frame *call)
{
	struct go_process process;
	struct go_stack stack;
	struct goroutine *goroutine;
	struct go_frame *frame;
	__u64 depth;
	int i;

	if (!go_process_of(&process, ctx, layout) || !go_stack(&stack, ctx, &process))
		return;
	go_process_known(&process);
	goroutine = goroutine_get(&stack.key);
	if (!goroutine)
		return;
	depth = goroutine->depth;
#pragma unroll
	for (i = FRAMES_MAX - 1; i >= 0; i--)
		if (i + 1 == depth && !go_frame_is_live(&goroutine->frames[i], &stack))
			depth = i;
	opaque(depth);
	if (depth >= FRAMES_MAX) {
		count(COUNTER_DEEP_CALLS, 1);
		return;
	}
	/* Before 5.3 the verifier goes both ways where a depth that it knows is compared. */
	opaque(depth);
	frame = &goroutine->frames[depth & (FRAMES_MAX - 1)];
	frame->call = *call;
	frame->call.stack = stack.used;
	frame->caller = return_address(ctx);
	goroutine->depth = depth + 1;
}

/* Takes the call that returns; false for one whose entry was not seen. */
static __always_inline bool go_frame_pop(struct frame *call, struct pt_regs *ctx,
					 const struct go_layout *layout)
{
	struct go_process process;
	struct go_stack stack;
	struct goroutine *goroutine;
	__u64 caller = return_address(ctx);
	int i;

	if (!go_process_of(&process, ctx, layout) || !go_stack(&stack, ctx, &process))
		return false;
	goroutine = bpf_map_lookup_elem(&goroutines, &stack.key);
	if (!goroutine)
		return false;
#pragma unroll
	for (i = FRAMES_MAX - 1; i >= 0; i--) {
		const struct go_frame *frame = &goroutine->frames[i];

		if (i >= goroutine->depth || frame->call.stack != stack.used ||
		    frame->caller != caller)
			continue;
		*call = frame->call;
		goroutine->depth = i;
		if (!i)
			bpf_map_delete_elem(&goroutines, &stack.key);
		return true;
	}
	return false;
}

/* Whether a call on the connection is under way that has touched its socket. */
static __always_inline bool go_call_is_settled(struct pt_regs *ctx, const struct go_layout *layout,
					       __u64 object)
{
	struct go_process process;
	struct go_stack stack;
	const struct goroutine *goroutine;
	int i;

	if (!go_process_of(&process, ctx, layout) || !go_stack(&stack, ctx, &process))
		return false;
	goroutine = bpf_map_lookup_elem(&goroutines, &stack.key);
	if (!goroutine)
		return false;
#pragma unroll
	for (i = 0; i < FRAMES_MAX; i++) {
		const struct go_frame *frame = &goroutine->frames[i];

		if (i < goroutine->depth && frame->call.object == object && frame->call.settled &&
		    go_frame_is_live(frame, &stack))
			return true;
	}
	return false;
}

#endif
