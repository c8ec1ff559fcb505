/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The descriptor that a system call of the thread names while the thread is
 * inside a TLS call. The core object goes on from it to the socket (before
 * 6.3); the noncore object keeps it for the probe that meets the socket.
 */
#ifndef TLSCOPE_SYSCALL_H
#define TLSCOPE_SYSCALL_H

#include "socket.h"
#include "syscall_numbers.h"

#ifdef TLSCOPE_CORE
/* What is to be sent is there already, from 5.15 on: see syscall_registers. */
static __always_inline void syscall_on_fd(const struct pt_regs *regs, __u64 number, __u32 fd)
{
	enum direction direction = syscall_direction(number);
	const struct touch touch = {
	    .sk = sock_of_fd(fd),
	    .fd = fd,
	    .direction = direction,
	    .passing = direction == DIRECTION_SENT ? PASSING_BYTES : PASSING_UNSEEN,
	};
	struct frame *frame = frame_current();

	if (frame && touch.sk)
		frame_touches(frame, &touch);
}
#else
static __always_inline void syscall_on_fd(const struct pt_regs *regs, __u64 number, __u32 fd)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct thread *thread = bpf_map_lookup_elem(&threads, &id);

	if (!thread)
		return;
	thread->fd = fd;
	thread->buffer = syscall_buffer(regs);
}

/* The route to the socket before 6.3, where the kernel has kprobes. */
SEC("kprobe")
int tcp_sendmsg(struct pt_regs *ctx)
{
	socket_used((struct sock *)ARG1(ctx), DIRECTION_SENT, PASSING_BYTES);
	return 0;
}

SEC("kprobe")
int tcp_recvmsg(struct pt_regs *ctx)
{
	socket_used((struct sock *)ARG1(ctx), DIRECTION_RECEIVED, PASSING_UNSEEN);
	return 0;
}
#endif

SEC("raw_tp")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	__u64 number = ctx->args[1];
	__u64 fd = -1;

	if (number != SYS_IO_URING_ENTER && !syscall_names_fd(number))
		return 0;
	if (!frame_current())
		return 0;
	if (number != SYS_IO_URING_ENTER)
		bpf_probe_read_kernel(&fd, sizeof(fd), &SYSCALL_ARG1(regs));
	syscall_on_fd(regs, number, fd);
	return 0;
}

#endif
