/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The maps that both objects have. Every map is bounded; user space may
 * resize `connections`, `threads` and `images` before loading.
 */
#ifndef TLSCOPE_MAPS_H
#define TLSCOPE_MAPS_H

#include "base.h"

/* TLS over TLS nests calls; more than this is counted and not followed. */
#define FRAMES_MAX 4

/* A call in flight. Frames on one stack are told apart by stack pointer. */
struct frame {
	__u64 stack;
	__u64 object;
	__u64 buffer;
	__u64 length_at; /* address of the out-parameter of an _ex form */
	__u64 length;	 /* of a write: what the caller asked for; else 0 */
	__u64 sent;	 /* bytes that reached the socket during a write */
	bool settled;	 /* the call has touched its connection's socket */
	bool touched;	 /* the call has touched a socket */
	bool own;	 /* and the last one was its connection's */
	__u8 reserved[5];
	__u64 foreign; /* a socket that took from this call what is no record */
};

struct thread {
	__u32 depth;
	__s32 fd;     /* noncore: what the running system call names */
	__u64 buffer; /* noncore: and the bytes that it moves */
	struct frame frames[FRAMES_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct image);
} images SEC(".maps");

/*
 * Keyed by pid_tgid. LRU: a thread that dies inside a call leaves its entry
 * behind, and nothing else would remove it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

/* The processes asked for, and their children when those are followed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u8);
} pids SEC(".maps");

/* Ends of connections that found no room in the buffer: read at the end. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct connection_id);
	__type(value, struct close_record);
} unsent_closes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* XADD: without it two programs that preempt each other on a CPU lose counts. */
static __always_inline void count(__u32 counter, __u64 amount)
{
	__u64 *slot = bpf_map_lookup_elem(&counters, &counter);

	if (slot)
		__sync_fetch_and_add(slot, amount);
}

static __always_inline struct config *configuration(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config_map, &zero);
}

/*
 * From 6.13 on the kernel gives programs of this type a stack of the CPU's, for it does not let
 * kprobes preempt each other. It lets uprobes, and where it is preemptible one call then writes
 * over the variables of another (seen on 7.3: a thread pushed its frame for another one). A
 * program that may tail-call stays on its thread's stack; this one never does, and the verifier
 * takes the call out again.
 */
static __always_inline void stay_on_own_stack(void)
{
	asm volatile("r0 = 0\n"
		     "if r0 == 0 goto +1\n"
		     "call 12" ::
			 : "r0", "r1", "r2", "r3", "r4", "r5");
}

static __always_inline bool wanted_by(const struct config *cfg)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	stay_on_own_stack();
	if (!cfg || cfg->ended)
		return false;
	if (cfg->pid_set && !bpf_map_lookup_elem(&pids, &pid))
		return false;
	if (cfg->uid_set && cfg->uid != (__u32)bpf_get_current_uid_gid())
		return false;
	return true;
}

/* The filters that the user asked for, before anything is paid. */
static __always_inline bool wanted(void)
{
	return wanted_by(configuration());
}

#endif
