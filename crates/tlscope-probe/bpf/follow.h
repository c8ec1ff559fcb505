/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Children of wanted processes, from their first instruction on. Both hooks
 * run in process context: at fork(2) in the parent, at exit in the process.
 */
#ifndef TLSCOPE_FOLLOW_H
#define TLSCOPE_FOLLOW_H

#include "kernel.h"
#include "maps.h"

SEC("raw_tp")
int sched_process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	__u32 parent_pid = bpf_get_current_pid_tgid() >> 32;
	__u32 child_pid = BPF_CORE_READ(child, tgid);
	const __u8 wanted = 1;

	if (child_pid != parent_pid && bpf_map_lookup_elem(&pids, &parent_pid))
		bpf_map_update_elem(&pids, &child_pid, &wanted, BPF_ANY);
	return 0;
}

/* A pid may be given to another process: it must not stay wanted. */
SEC("raw_tp")
int sched_process_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 pid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		bpf_map_delete_elem(&pids, &pid);
	return 0;
}

#endif
