/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The descriptor that a system call of the thread names. The core object goes
 * on from it to the socket (before 6.3), which is that of the TLS call that the
 * thread is inside, or that of a hello; the noncore object keeps it for the
 * probe that meets the socket.
 */
#ifndef TLSCOPE_SYSCALL_H
#define TLSCOPE_SYSCALL_H

#include "socket.h"
#include "syscall_numbers.h"

#ifdef TLSCOPE_CORE
/* What is to be sent is there already, from 5.15 on: see syscall_registers. */
static __always_inline void call_touches(struct frame *frame, int fd, enum direction direction)
{
	const struct touch touch = {
	    .sk = sock_of_fd(fd),
	    .fd = fd,
	    .direction = direction,
	    .passing = direction == DIRECTION_SENT ? PASSING_BYTES : PASSING_UNSEEN,
	};

	if (touch.sk)
		frame_touches(frame, &touch);
	else
		frame->own = false;
}

/* See hello_of_another. */
static __always_inline void hello_of_call(const struct frame *frame, const struct pt_regs *regs,
					  int length, enum direction direction)
{
	if (length >= (int)sizeof(struct hello) && (!frame || !frame->own) && wanted())
		hello_passes_call(syscall_fd(regs), syscall_buffer(regs), length, direction);
}

/* What is to be sent lies in the buffer already: how much it is need not be asked. */
#define UNMEASURED 128

SEC("raw_tp")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	__u64 number = ctx->args[1];
	struct frame *frame;

	if (!syscall_names_fd(number))
		return 0;
	frame = frame_current();
	if (frame)
		call_touches(frame, syscall_fd(regs), syscall_direction(number));
	if (syscall_direction(number) == DIRECTION_SENT)
		hello_of_call(frame, regs, UNMEASURED, DIRECTION_SENT);
	return 0;
}

/* Whether the system call that ends has moved bytes. */
static __always_inline bool call_moved(const struct bpf_raw_tracepoint_args *ctx,
				       enum direction *direction)
{
	const struct pt_regs *regs = (void *)ctx->args[0];
	__u64 number;

	if ((long)ctx->args[1] <= 0)
		return false;
	number = syscall_number(regs);
	*direction = syscall_direction(number);
	return syscall_names_fd(number);
}

/* How much was sent, and what was received, is known only now. */
SEC("raw_tp")
int sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	const struct pt_regs *regs = (void *)ctx->args[0];
	enum direction direction;
	struct frame *frame;

	if (!call_moved(ctx, &direction))
		return 0;
	frame = frame_current();
	if (direction == DIRECTION_RECEIVED)
		hello_of_call(frame, regs, ctx->args[1], direction);
	else if (frame && frame->own)
		emit_ahead(ctx, frame, ctx->args[1]);
	return 0;
}
#else
SEC("raw_tp")
int sys_enter(struct bpf_raw_tracepoint_args *ctx)
{
	const struct pt_regs *regs = (void *)ctx->args[0];
	__u64 id = bpf_get_current_pid_tgid();
	__u64 number = ctx->args[1];
	struct thread *thread;

	if (number != SYS_IO_URING_ENTER && !syscall_names_fd(number))
		return 0;
	thread = bpf_map_lookup_elem(&threads, &id);
	if (!thread || !thread->depth)
		return 0;
	thread->fd = number == SYS_IO_URING_ENTER ? -1 : syscall_fd(regs);
	thread->buffer = syscall_buffer(regs);
	return 0;
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

#endif
